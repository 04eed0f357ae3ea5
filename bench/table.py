"""What was measured, as rows, and the rows as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

HEADINGS = ("measure", "ours", "openai script", "ratio", "reference", "goal", "met")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measure. Less is better in all of them."""

    measure: str
    unit: str
    ours: float
    script: float | None = None  # the same of the openai script
    reference: float | None = None  # what it can be compared with besides, named by `reference_is`
    reference_is: str = ""
    ratio_goal: float | None = None  # at most so much of the script's
    goal: float | None = None  # at most so much

    @property
    def ratio(self) -> float | None:
        """Ours as a share of the script's."""
        return None if not self.script else self.ours / self.script

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; `None` where there is none."""
        if self.ratio_goal is not None and self.ratio is not None:
            return self.ratio <= self.ratio_goal
        return None if self.goal is None else self.ours <= self.goal


def text_table(rows: list[Row]) -> str:
    """For the terminal."""
    cells = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
    lines = []
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *rest]).rstrip())
    return "\n".join(lines)


def markdown_table(rows: list[Row]) -> str:
    """For the README."""
    return markdown(HEADINGS, map(_cells, rows), numbers=range(1, 6))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Rows of cells; the columns at the places `numbers` stand to the right."""
    right = set(numbers)
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def quantity(value: float, unit: str) -> str:
    """A number with three digits that count, and its unit."""
    if value != value:  # noqa: PLR0124 - not a number: it could not be told
        return "n/a"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _share(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"1/{1 / value:.1f}"


def _cells(row: Row) -> tuple[str, ...]:
    script = "" if row.script is None else quantity(row.script, row.unit)
    ratio = "" if row.ratio is None or row.ratio <= 0 else _share(row.ratio)
    reference = "" if row.reference is None else f"{quantity(row.reference, row.unit)} ({row.reference_is})"
    goal = ""
    if row.ratio_goal is not None:
        goal = f"ratio <= 1/{1 / row.ratio_goal:g}"
    elif row.goal is not None:
        goal = f"<= {row.goal:.3g} {row.unit}"
    met: Literal["", "yes", "missed"] = "" if row.met is None else "yes" if row.met else "missed"
    return (row.measure, quantity(row.ours, row.unit), script, ratio, reference, goal, met)
