"""The pages of the documentation, and the parts of them that follow from the code."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

UPDATE = "STREAMGAUGE_UPDATE_DOCS"
HOW = f"If the code is right, refresh the pages: {UPDATE}=1 python -m pytest tests/docs"


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def part(page: Path, name: str) -> str:
    """What stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", read(page), re.S)
    assert found is not None, f"{page.name} has no part {name!r}"
    return found[1]


def check_part(page: Path, name: str, wanted: str) -> None:
    """Compare a part with what the code says (white space apart); under `UPDATE`, write it."""
    wanted = wanted.rstrip("\n") + "\n"
    if os.environ.get(UPDATE) == "1":
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        page.write_text(read(page).replace(begin + part(page, name) + end, begin + wanted + end), "utf-8")
    assert part(page, name).split() == wanted.split(), f"{page.name}, part {name!r} is out of date. {HOW}"


def table(text: str) -> list[list[str]]:
    """The cells of the one Markdown table in a text, its heading left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # `\|` is a bar inside a cell.
    split = [re.split(r"(?<!\\)\|", row.strip().strip("|")) for row in rows[2:]]
    return [[cell.strip() for cell in cells] for cells in split]


def code(cell: str) -> str:
    """The text of a cell that is one piece of code."""
    assert re.fullmatch(r"`[^`]+`", cell), cell
    return cell.strip("`")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
