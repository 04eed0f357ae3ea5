"""The shapes a report is laid out in, and what fits into them."""

from __future__ import annotations

from msgspec import Struct

from reports.summary import Summary

Fact = tuple[str, str]


class Table(Struct):
    """A heading row and rows; the first column is text, the others are numbers."""

    header: list[str]
    rows: list[list[str]]


def cut(text: str, width: int = 60) -> str:
    """On one line, and not longer than that."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def names(summaries: list[Summary]) -> list[str]:
    """The runs' folder names, numbered where two share one."""
    found = [cut(s.path.rstrip("/").rsplit("/", 1)[-1], 22) for s in summaries]
    if len(set(found)) == len(found):
        return found
    return [f"{n}: {name}" for n, name in enumerate(found, 1)]
