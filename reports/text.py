"""Summaries as plain text for a terminal a hundred columns wide."""

from __future__ import annotations

import textwrap
from itertools import zip_longest

from reports.bench_tables import Section, above, below, compared, headline, intervals
from reports.cells import TIE, several
from reports.layout import Fact, Table, one_line
from reports.notes import next_steps, notes, verdict
from reports.summary import Summary
from reports.tables import (
    absent,
    endpoints,
    origin,
    outcome,
    rates,
    sessions,
    side_by_side,
    times,
    with_failures,
)

WIDTH = 100
_LABEL = 13
_NAME = 44  # of a column of text before others


def _facts(facts: list[Fact]) -> list[str]:
    out: list[str] = []
    for label, value in facts:
        out += textwrap.wrap(
            one_line(value),
            WIDTH,
            initial_indent=f"  {label:<{_LABEL}}",
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
            break_long_words=False,
        ) or [f"  {label}"]
    return [line.replace(TIE, " ") for line in out]


def aligned(table: Table, text_columns: int = 1, *, first: int = 0) -> list[str]:
    """Aligned columns: text to the left, numbers to the right; `first` is the first column's least width."""
    lines = [[one_line(cell) for cell in line] for line in (table.header, *table.rows)]
    if text_columns == len(table.header):
        lines = _wrapped(lines)
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    widths[0] = max(widths[0], first)
    out = []
    for line in lines:
        cells = [
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append(("  " + "  ".join(cells)).rstrip())
    return out


def _wrapped(lines: list[list[str]]) -> list[list[str]]:
    """Rows of text whose first and last columns are broken into as many as make them fit into the width."""
    last = len(lines[0]) - 1
    first = min(max(len(line[0]) for line in lines), _NAME)
    used = 4 + first + sum(2 + max(len(line[i]) for line in lines) for i in range(1, last))
    out: list[list[str]] = []
    for line in lines:
        names = textwrap.wrap(line[0], first, subsequent_indent="  ") or [""]
        parts = textwrap.wrap(line[-1], max(WIDTH - used, 24), break_on_hyphens=False) or [""]
        for n, (name, part) in enumerate(zip_longest(names, parts, fillvalue="")):
            out.append([name, *(line[1:last] if n == 0 else [""] * (last - 1)), part])
    return out


def bullets(label: str, sentences: list[str]) -> list[str]:
    """A heading and its sentences; nothing without any."""
    if not sentences:
        return []
    out = [one_line(label)]
    for sentence in sentences:
        out += textwrap.wrap(
            one_line(sentence), WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
        )
    return [*out, ""]


def _where(summary: Summary) -> list[str]:
    files = summary.journal.files
    journal = ", ".join(f"{summary.path}/{name}" for name in files[:2]) or "none yet"
    if len(files) > 2:
        journal += f" and {len(files) - 2} more"
    facts = [
        (
            "journal",
            f"{journal} · {several(summary.journal.lines, 'line')} · {several(summary.journal.ids, 'id')}",
        ),
        ("dataset", f"streamgauge export {summary.path} --to jsonl|csv|parquet|openai-batch"),
    ]
    facts += [("next", step) for step in next_steps(summary)]
    return ["Where", *_facts(facts)]


def paragraph(sentence: str) -> list[str]:
    """A sentence broken into lines."""
    return textwrap.wrap(one_line(sentence), WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def section_lines(sections: list[Section]) -> list[str]:
    """Titled parts, one after the other."""
    out = []
    for section in sections:
        out += [one_line(section.title), *_facts(section.facts)]
        for table, text_columns in section.tables:
            out += aligned(table, text_columns=text_columns)
        out += [*bullets("", section.bullets)[1:-1], ""]
    return out


def _headline(summary: Summary) -> list[str]:
    """Whether the client was fit: above everything else."""
    line, reasons = headline(summary)
    return [*(bullets(line, reasons) or [line]), *([] if reasons else [""])]


def _one(summary: Summary) -> list[str]:
    out = [] if summary.bench is None else _headline(summary)
    line = textwrap.wrap(one_line(verdict(summary)), WIDTH, subsequent_indent="  ")
    out += [*line, "", *_facts(origin(summary)), "", *section_lines(above(summary))]
    if not summary.journal.ids:
        return [*out, *bullets("Notes", notes(summary)), *_where(summary)]
    out += ["Requests", *_facts(outcome(summary)), ""]
    measured = [t for t in (times(summary), rates(summary), with_failures(summary)) if t.rows]
    measured += [t for t in (intervals(summary),) if t.rows]
    if measured:
        out.append("Times of answered, streamed requests")
        # One width for the names, so that the tables stand under each other.
        for table in measured:
            out += [*aligned(table, first=len("ttft_sched")), ""]
        if missing := absent(summary):
            told = f"no values: {', '.join(missing)}"
            out[-1:] = [*textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    "), ""]
    out += section_lines(below(summary))
    if (by_endpoint := endpoints(summary)).rows:
        out += ["Endpoints", *aligned(by_endpoint), ""]
    if summary.sessions and (summary.bench is None or len(summary.sessions) > 1):
        out += ["Sessions", *aligned(sessions(summary), text_columns=2), ""]
    return [*out, *bullets("Notes", notes(summary)), *_where(summary)]


def _fit(summary: Summary) -> str:
    level = summary.bench.validity.level if summary.bench else "OK"
    return "" if level == "OK" else f"{level} · "


def _several(summaries: list[Summary]) -> list[str]:
    out: list[str] = []
    for summary in summaries:
        line = one_line(f"{summary.path}: {_fit(summary)}{verdict(summary)}")
        out += textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False)
    out.append("")
    out += _columns(compared(summaries)) + _columns(side_by_side(summaries))
    for summary in summaries:
        out += bullets(f"Notes on {summary.path}", notes(summary))
    return out


def _columns(table: Table) -> list[str]:
    """A table broken into as many as it takes to fit into the width."""
    out: list[str] = []
    label = max((len(row[0]) for row in table.rows), default=0)
    start = 1
    while start < len(table.header):
        # As many runs a table as fit into the width; at least one.
        used, stop = 2 + label, start
        while stop < len(table.header):
            used += 2 + max(len(one_line(line[stop])) for line in (table.header, *table.rows))
            if used > WIDTH and stop > start:
                break
            stop += 1
        part = [[line[0], *line[start:stop]] for line in (table.header, *table.rows)]
        out += [*aligned(Table(part[0], part[1:]), first=label), ""]
        start = stop
    return out


def render(summaries: list[Summary]) -> str:
    """One run in full, several side by side."""
    if not summaries:
        return "no runs\n"
    lines = _one(summaries[0]) if len(summaries) == 1 else _several(summaries)
    return "\n".join(lines).rstrip() + "\n"
