"""Verdicts as GitHub's workflow commands: `::error title=...::...` lines that become annotations.

A runner shows ten errors and ten warnings a step: what does not fit is said in the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from reports.verdicts import Row, Sheet

MOST = 10


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether this runs in a GitHub workflow."""
    return environment.get("GITHUB_ACTIONS") == "true"


def to_annotations(
    sheets: Sequence[Sheet], on_inconclusive: Literal["pass", "fail"] | None = None
) -> list[str]:
    """A line for each verdict that is no PASS."""
    found: dict[str, list[tuple[str, str]]] = {"error": [], "warning": []}
    for sheet in sheets:
        for row in sheet.rows:
            if row.verdict != "PASS":
                level = _level(row, on_inconclusive)
                found[level].append((f"{row.verdict}: {row.name}", _message(sheet, row)))
    return [_line(level, *one) for level, lines in found.items() for one in _fitting(lines)]


def _level(row: Row, on_inconclusive: Literal["pass", "fail"] | None) -> str:
    return "warning" if row.verdict == "INCONCLUSIVE" and on_inconclusive != "fail" else "error"


def _message(sheet: Sheet, row: Row) -> str:
    return "\n".join([f"{row.words} ({sheet.title})", *row.notes])


def _fitting(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(lines) <= MOST:
        return lines
    rest = lines[MOST - 1 :]
    return [*lines[: MOST - 1], (f"{len(rest)} more", "\n".join(title for title, _ in rest))]


def _line(level: str, title: str, message: str) -> str:
    return f"::{level} title={escape_property(title)}::{escape_data(message)}"


def escape_data(text: str) -> str:
    """What stands behind the second `::`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """The value of a property."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")
