"""Runs in another tool's definitions -> str, in every format of a report.

The fitness of our client stands above these numbers too: in whatever words, they are of the same records.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import msgspec

from reports import markdown, text
from reports.bench_tables import UNKNOWN, Section, headline
from reports.cells import csv_cell, duration, number, several
from reports.layout import Table
from reports.others import STATS, Other
from reports.summary import Summary

Pair = tuple[Other, Summary]


def _section(other: Other, summary: Summary) -> Section:
    stats = STATS[other.tool]
    rows = [
        [
            f"{found.name}, {found.unit}",
            *(_cell(found.stats, stat) for stat in stats),
        ]
        for found in other.numbers
    ]
    fit = []
    if summary.bench is not None and summary.bench.validity.level != "OK":
        line, reasons = headline(summary)
        fit = [("client", " ".join([line, *reasons]))]
    span = f" · {duration(other.seconds)}" if other.seconds else ""
    of = f"{several(other.requests, 'answered request')}{span}"
    return Section(
        f"{other.run}, as {other.tool} defines it",
        [*fit, ("of", of), ("note", other.note)],
        [(Table([other.tool, *stats], rows), 1)],
        [f"{found.name}: {found.differs}." for found in other.numbers],
    )


def _cell(stats: dict[str, float | None], stat: str) -> str:
    if stat not in stats:
        return ""
    value = stats[stat]
    return UNKNOWN if value is None else number(value)


def to_text(pairs: list[Pair]) -> str:
    """For a terminal."""
    return "\n".join(text.section_lines([_section(*pair) for pair in pairs])).rstrip() + "\n"


def to_markdown(pairs: list[Pair]) -> str:
    """GitHub-flavoured Markdown."""
    return "\n".join(markdown.section_lines([_section(*pair) for pair in pairs])).rstrip() + "\n"


def _level(summary: Summary) -> str | None:
    return summary.bench.validity.level if summary.bench else None


def to_json(pairs: list[Pair]) -> str:
    """An object a run; a list of them for any other number than one."""
    found = [{"validity": _level(summary), **msgspec.structs.asdict(other)} for other, summary in pairs]
    what: Any = found[0] if len(found) == 1 else found
    return msgspec.json.format(msgspec.json.encode(what), indent=2).decode() + "\n"


def to_csv(pairs: list[Pair]) -> str:
    """A row a run, number and statistic."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "validity", "tool", "metric", "unit", "stat", "value"])
    for other, summary in pairs:
        for found in other.numbers:
            for stat, value in found.stats.items():
                row = [other.run, _level(summary), other.tool, found.name, found.unit, stat, value]
                writer.writerow(["" if cell is None else csv_cell(cell) for cell in row])
    return out.getvalue()


RENDERERS: dict[str, Callable[[list[Pair]], str]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
}
