"""A real Chromium without a network, and a page in it with everything that went wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from time import monotonic
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 390, "height": 844}
LIMIT_S = 120  # on a busy machine a dozen charts take their time


def launch(playwright: Any) -> Any:
    """Start the browser that `STREAMGAUGE_CHROME` names, else the one that is installed.

    Raises:
        FileNotFoundError: there is none.
    """
    found = os.environ.get("STREAMGAUGE_CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise FileNotFoundError("no Chromium: install one, or name it in STREAMGAUGE_CHROME")
    # Chromium's own sandbox needs a user that is not root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=found, args=options)


class Opened:
    """A page in a tab, and everything that went wrong in it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.wrong: list[str] = []
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        tab.on("request", self._asked)

    @classmethod
    def new(cls, browser: Any, *, dark: bool = False, phone: bool = False, scripts: bool = True) -> Opened:
        """An empty tab, its network off."""
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            offline=True,
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=1,
        )
        return cls(context.new_page())

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")

    def goto(self, path: Path, *, scripts: bool = True) -> None:
        """Open a file, and wait until its charts are there."""
        self.tab.goto(path.as_uri())
        if scripts and self.tab.locator(".chart").count():
            self.until("() => document.documentElement.dataset.drawn === 'yes'")

    def js(self, script: str, argument: Any = None) -> Any:
        """Evaluate a script."""
        return self.tab.evaluate(script, argument)

    def until(self, script: str, argument: Any = None) -> None:
        """Wait until a script is true. Asked from outside: the page's own policy lets it evaluate nothing."""
        end = monotonic() + LIMIT_S
        while not self.js(script, argument):
            assert monotonic() < end, f"waited for {LIMIT_S} s: {script}"
            self.tab.wait_for_timeout(50)
