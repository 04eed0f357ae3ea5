"""A real Chromium without a network, and the pages it opens.

`make test-browser` runs this folder; `make test` leaves it alone. `STREAMGAUGE_CHROME` names the browser,
where it is not called chromium, google-chrome or chrome.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.browser import pages as made

sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs it")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 390, "height": 844}
LIMIT_S = 120  # on a busy machine a dozen charts take their time


def chrome() -> str:
    """The browser's path."""
    found = os.environ.get("STREAMGAUGE_CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.fail("no Chromium: install one, or name it in STREAMGAUGE_CHROME (see CONTRIBUTING.md)")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests."""
    # Chromium's own sandbox needs a user that is not root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chrome(), args=options)
        yield found
        found.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a page lies, by its name; made when it is first asked for."""
    folder = tmp_path_factory.mktemp("pages")
    known: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in known:
            known[name] = made.PAGES[name](folder / name)
        return known[name]

    return find


class Opened:
    """A page in a tab, and everything that went wrong in it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.wrong: list[str] = []
        self.timed_out: type[Exception] = sync_api.TimeoutError
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        tab.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")

    def goto(self, path: Path, *, scripts: bool = True) -> None:
        """Open it, and wait until its charts are there."""
        self.tab.goto(path.as_uri())
        if scripts and self.tab.locator(".chart").count():
            self.drawn()

    def drawn(self) -> None:
        """Wait until all charts are drawn."""
        self.until("() => document.documentElement.dataset.drawn === 'yes'")

    def until(self, script: str, argument: Any = None) -> None:
        """Wait until a script is true. Asked from outside: the page's own policy lets it evaluate nothing."""
        end = monotonic() + LIMIT_S
        while not self.tab.evaluate(script, argument):
            assert monotonic() < end, f"waited for {LIMIT_S} s: {script}"
            self.tab.wait_for_timeout(50)

    def js(self, script: str, argument: Any = None) -> Any:
        """Evaluate a script."""
        return self.tab.evaluate(script, argument)


@pytest.fixture(scope="session")
def open_page(browser: Any, page_file: Callable[[str], Path]) -> Iterator[Callable[..., Opened]]:
    """Open a page by its name, from disk, with the network off. One that is open already is used again."""
    tabs: dict[tuple[Any, ...], Opened] = {}
    contexts: list[Any] = []

    def use(
        name: str, *, dark: bool = False, phone: bool = False, scripts: bool = True, fresh: bool = False
    ) -> Opened:
        key = (name, dark, phone, scripts)
        if fresh or key not in tabs:
            while len(contexts) > 3:  # each holds plotly and its charts
                contexts.pop(0).close()
                tabs.pop(next(iter(tabs)))
            context = browser.new_context(
                viewport=PHONE if phone else DESKTOP,
                color_scheme="dark" if dark else "light",
                java_script_enabled=scripts,
                offline=True,
                has_touch=phone,
                is_mobile=phone,
                device_scale_factor=1,
            )
            contexts.append(context)
            tabs[key] = Opened(context.new_page())
            tabs[key].goto(page_file(name), scripts=scripts)
        return tabs[key]

    yield use
    for context in contexts:
        context.close()
