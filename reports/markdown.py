"""Summaries as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from reports.bench_tables import Section, above, below, compared, headline, intervals
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

_MARKUP = re.compile(r"[\\`\[\]*_#!|~]")


def escape(text: str) -> str:
    """So that no text becomes markup."""
    # What a server or a file says must not become markup: a link, an image, HTML, a heading, another cell.
    escaped = _MARKUP.sub(r"\\\g<0>", one_line(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def grid(table: Table, *, text_columns: int = 1) -> list[str]:
    """A table; the first columns are text, the others numbers."""
    marks = ["---" if i < text_columns else "---:" for i in range(len(table.header))]
    return [_row(table.header), "| " + " | ".join(marks) + " |", *map(_row, table.rows), ""]


def _facts(facts: list[Fact]) -> list[str]:
    return [*(f"- **{escape(label)}**: {escape(' '.join(value.split()))}" for label, value in facts), ""]


def _bullets(title: str, sentences: list[str]) -> list[str]:
    return [f"### {escape(title)}", "", *(f"- {escape(s)}" for s in sentences), ""] if sentences else []


def section_lines(sections: list[Section]) -> list[str]:
    """Titled parts, one after the other."""
    out = []
    for section in sections:
        out += [f"### {escape(section.title)}", ""]
        if section.facts:
            out += _facts(section.facts)
        for table, text_columns in section.tables:
            out += grid(table, text_columns=text_columns)
        if section.bullets:
            out += [*(f"- {escape(sentence)}" for sentence in section.bullets), ""]
    return out


def _headline(summary: Summary) -> list[str]:
    line, reasons = headline(summary)
    return [
        f"**{escape(line)}**",
        "",
        *(f"- {escape(reason)}" for reason in reasons),
        *([""] if reasons else []),
    ]


def _one(summary: Summary) -> list[str]:
    out = [f"## {escape(summary.path)}", "", *([] if summary.bench is None else _headline(summary))]
    out += [f"**{escape(verdict(summary))}**", "", *_facts(origin(summary)), *section_lines(above(summary))]
    if summary.journal.ids:
        out += ["### Requests", "", *_facts(outcome(summary))]
        measured = [t for t in (times(summary), rates(summary), with_failures(summary)) if t.rows]
        measured += [t for t in (intervals(summary),) if t.rows]
        if measured:
            out += ["### Times of answered, streamed requests", ""]
            for table in measured:
                out += grid(table)
            if missing := absent(summary):
                out += [f"No values: {escape(', '.join(missing))}.", ""]
        out += section_lines(below(summary))
        if (by_endpoint := endpoints(summary)).rows:
            out += ["### Endpoints", "", *grid(by_endpoint)]
        if summary.sessions and (summary.bench is None or len(summary.sessions) > 1):
            out += ["### Sessions", "", *grid(sessions(summary), text_columns=2)]
    return [*out, *_bullets("Notes", notes(summary)), *_bullets("Next", next_steps(summary))]


def _fit(summary: Summary) -> str:
    level = summary.bench.validity.level if summary.bench else "OK"
    return "" if level == "OK" else f"{level} · "


def _several(summaries: list[Summary]) -> list[str]:
    out = ["## Runs", ""]
    out += [
        *(
            f"- {escape(summary.path)}: **{escape(_fit(summary) + verdict(summary))}**"
            for summary in summaries
        ),
        "",
    ]
    if (table := compared(summaries)).rows:
        out += grid(table)
    out += grid(side_by_side(summaries))
    for summary in summaries:
        out += _bullets(f"Notes on {summary.path}", notes(summary))
    return out


def render(summaries: list[Summary]) -> str:
    """One run in full, several side by side."""
    if not summaries:
        return "No runs.\n"
    lines = _one(summaries[0]) if len(summaries) == 1 else _several(summaries)
    return "\n".join(lines).rstrip() + "\n"
