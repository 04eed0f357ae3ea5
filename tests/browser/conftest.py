"""The browser and the pages it opens, each made once. `make test-browser` runs this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import pages as made
from tests.browser.chromium import Opened, launch

sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs it")

_MOST_TABS = 4  # each holds plotly and its charts


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests."""
    with sync_api.sync_playwright() as playwright:
        found = launch(playwright)
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


@pytest.fixture(scope="session")
def open_page(browser: Any, page_file: Callable[[str], Path]) -> Iterator[Callable[..., Opened]]:
    """Open a page by its name, from disk, with the network off. One that is open already is used again."""
    tabs: dict[tuple[Any, ...], Opened] = {}

    def use(name: str, *, phone: bool = False, scripts: bool = True) -> Opened:
        key = (name, phone, scripts)
        if key not in tabs:
            while len(tabs) >= _MOST_TABS:
                tabs.pop(next(iter(tabs))).tab.context.close()
            tabs[key] = Opened.new(browser, phone=phone, scripts=scripts)
            tabs[key].goto(page_file(name), scripts=scripts)
        return tabs[key]

    yield use
    for opened in tabs.values():
        opened.tab.context.close()
