"""The pictures of docs/images: `python -m tests.browser.pictures`. The runs in them are drawn from a seed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.chromium import Opened, launch
from tests.browser.pages import PAGES

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST_BYTES = 250_000

# Picture: page, first and last thing to be seen, dark, phone.
PICTURES: dict[str, tuple[str, str, str, bool, bool]] = {
    "report": ("everything", "h1", ".tiles", False, False),
    "report-latency": ("everything", "#latency-charts", "#latency", False, False),
    "report-dark": ("everything", "#load", "#throughput", True, False),
    "report-phone": ("everything", "h1", "nav", False, True),
    "sweep": ("sweep", "h1", "#goodput", False, False),
    "compare": ("ab", "h1", "#effects", False, False),
    "compare-runs": ("ab", "#runs", "#runs-tpot", False, False),
    "compare-distributions": ("ab", "#distributions", "#distribution-ttft", False, False),
}


def main() -> None:
    """Make them all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        made = {page: PAGES[page](Path(folder) / page) for page in {one[0] for one in PICTURES.values()}}
        for name, (page, first, last, dark, phone) in PICTURES.items():
            path = IMAGES / f"{name}.png"
            path.write_bytes(_picture(browser, made[page], first, last, dark=dark, phone=phone))
            size = path.stat().st_size
            print(f"{path.relative_to(IMAGES.parents[1])}: {size:,} bytes")
            if size > LARGEST_BYTES:
                sys.exit(f"{path} is larger than {LARGEST_BYTES:,} bytes: show less of the page")
        browser.close()


def _picture(browser: Any, page: Path, first: str, last: str, *, dark: bool, phone: bool) -> bytes:
    """From the top of one element to the foot of another."""
    opened = Opened.new(browser, dark=dark, phone=phone)
    if not phone:
        opened.tab.set_viewport_size({"width": 1040, "height": 900})
    opened.goto(page)
    top, foot, width = opened.js(
        """([first, last]) => {
          const box = (name) => {
            const found = document.querySelector(name);
            const whole = found.closest('figure, .table') || found;
            return whole.getBoundingClientRect();
          };
          return [box(first).top + scrollY, box(last).bottom + scrollY, innerWidth];
        }""",
        [first, last],
    )
    clip = {"x": 0, "y": max(0, top - 16), "width": width, "height": foot - max(0, top - 16) + 16}
    picture: bytes = opened.tab.screenshot(full_page=True, clip=clip, animations="disabled")
    opened.tab.context.close()
    return picture


if __name__ == "__main__":
    main()
