"""What was judged, whoever judged it: the rows that text, Markdown, JUnit XML and annotations are made of.

`bench` and `check` fill them from thresholds; `compare` and `ab` from metrics. A sheet is one run, or one
comparison. `reports/junit.py` and `reports/annotations.py` write sheets for CI systems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from reports.bench import Verdict
from reports.bench_tables import headline as fitness
from reports.cells import several
from reports.layout import Table, one_line
from reports.markdown import escape, grid
from reports.notes import shard_notes
from reports.summary import Expected, Summary
from reports.tables import expect_line
from reports.text import aligned, bullets

Word = Literal["INVALID", "FAIL", "INCONCLUSIVE", "PASS"]
ORDER: tuple[Word, ...] = ("INVALID", "FAIL", "INCONCLUSIVE", "PASS")
"""The first that occurs is that of a sheet, and of all of them."""
VALIDITY = "validity"
"""The name of the row that says that the client was not fit to measure."""
_CODES = {"INVALID": 97, "FAIL": 99, "INCONCLUSIVE": 98, "PASS": 0}


class Row(Struct, kw_only=True):
    """One thing that was judged."""

    name: str  # of the threshold or the metric: `ttft: p(95)<800ms`
    verdict: Word
    words: str  # what was measured, or why that cannot be said
    value: float | None = None
    limit: float | None = None  # in the unit of the value
    notes: list[str] = []  # what to know beside the verdict


class Sheet(Struct, kw_only=True):
    """Everything judged of one run, or of one comparison."""

    title: str  # the run's path, `base -> new`
    rows: list[Row] = []
    expect: Expected | None = None
    notes: list[str] = []  # on all of it

    @property
    def verdict(self) -> Word:
        """Of all rows."""
        return worst(row.verdict for row in self.rows)


def worst(words: Iterable[Word]) -> Word:
    """The one that counts; PASS where nothing was judged."""
    found = set(words)
    return next((word for word in ORDER if word in found), "PASS")


def exit_code(sheets: Sequence[Sheet], on_inconclusive: Literal["pass", "fail"] | None = None) -> int:
    """97 INVALID, 99 FAIL, 98 INCONCLUSIVE unless it counts as something else, 0."""
    code = _CODES[worst(sheet.verdict for sheet in sheets)]
    return {"pass": 0, "fail": 99}.get(on_inconclusive or "", code) if code == 98 else code


def sheet_of(summary: Summary, verdicts: Sequence[Verdict]) -> Sheet:
    """Thresholds of a run as rows; above them, that the client was not fit."""
    rows = []
    validity = summary.bench.validity if summary.bench is not None else None
    if validity is not None and validity.level == "INVALID":
        reasons = [f"{r.words} {r.next_step}" for r in validity.reasons if r.level == "INVALID"]
        words = fitness(summary)[0].removeprefix("INVALID: ")
        rows.append(Row(name=VALIDITY, verdict="INVALID", words=words, notes=reasons))
    rows += [
        Row(
            name=found.threshold + (" (default)" if found.default else ""),
            verdict=found.verdict,
            words=found.words,
            value=found.value,
            limit=found.limit,
            notes=list(found.warnings),
        )
        for found in verdicts
    ]
    return Sheet(title=summary.path, rows=rows, expect=summary.expect, notes=shard_notes(summary.shards))


def headline(sheet: Sheet) -> str:
    """`FAIL: 1 of 3 thresholds failed` in a line, without the title."""
    if not sheet.rows:
        return "PASS: nothing was judged"
    count = {word: sum(row.verdict == word for row in sheet.rows) for word in ORDER}
    told = [f"{count[word]} {word}" for word in ORDER if count[word]]
    return f"{sheet.verdict}: {several(len(sheet.rows), 'verdict')}, {', '.join(told)}"


def _table(sheet: Sheet) -> Table:
    ordered = sorted(sheet.rows, key=lambda row: ORDER.index(row.verdict))
    rows = [[row.verdict, *(" ".join(cell.split()) for cell in (row.name, row.words))] for row in ordered]
    return Table(["verdict", "what", "measured"], rows)


def _notes(sheet: Sheet) -> list[str]:
    return sheet.notes + [f"{row.name}: {note}" for row in sheet.rows for note in row.notes]


def to_text(sheets: Sequence[Sheet]) -> str:
    """The verdict first."""
    out: list[str] = []
    for sheet in sheets:
        out += [f"{headline(sheet)} · {one_line(sheet.title)}", ""]
        if sheet.rows:
            out += [*aligned(_table(sheet), 3), ""]
        line = expect_line(sheet.expect)
        out += bullets("Expectations", [line] if line else []) + bullets("Notes", _notes(sheet))
    return "\n".join(out).rstrip() + "\n"


_MARKS = {"INVALID": "⛔", "FAIL": "❌", "INCONCLUSIVE": "❔", "PASS": "✅"}


def to_markdown(sheets: Sequence[Sheet]) -> str:
    """For a step summary or a comment: the verdict first."""
    out: list[str] = []
    for sheet in sheets:
        out += [f"## {_MARKS[sheet.verdict]} {escape(headline(sheet))}", "", escape(sheet.title), ""]
        if sheet.rows:
            out += grid(_table(sheet), text_columns=3)
        line = expect_line(sheet.expect)
        if line:
            out += [f"Expectations: {escape(line)}", ""]
        out += [*(f"- {escape(' '.join(note.split()))}" for note in _notes(sheet)), ""]
    return "\n".join(out).rstrip() + "\n"
