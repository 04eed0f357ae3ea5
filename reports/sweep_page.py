"""A sweep as one HTML file."""

from __future__ import annotations

from reports.cells import several
from reports.layout import Table as Plain
from reports.layout import cut
from reports.page import Bullets, Cell, Column, Mark, Page, Part, Section, Table, Tone, Verdict, render
from reports.sweep import Curve
from reports.sweep_figures import charts
from reports.sweep_tables import facts, money, reasons, sentences, table, title

_TONES: dict[str, Tone] = {
    "meets": "good",
    "fails": "bad",
    "UNSTABLE": "bad",
    "INVALID": "warn",
    "unknown": "warn",
}
_WORDS: dict[str, tuple[str, Tone]] = {
    "found": ("FOUND", "good"),
    "never_fails": ("NO LIMIT FOUND", "warn"),
    "fails_at_lowest": ("FAIL", "bad"),
    "unknown": ("NOBODY CAN TELL", "warn"),
    "unfinished": ("NOT OVER", "warn"),
}
_TEXT = 24  # characters of a key's value


def to_html(curve: Curve) -> str:
    """The page."""
    return render(page_of(curve))


def page_of(curve: Curve) -> Page:
    """The page's parts, in the order it is read."""
    return Page(
        title=title(curve),
        verdict=_verdict(curve),
        facts=[*facts(curve), ("runs", curve.path)],
        sections=[
            Section("Curves", "curves", list(charts(curve))),
            Section("Points", "points", _points(curve)),
        ],
    )


def _verdict(curve: Curve) -> Verdict:
    told = sentences(curve)
    word, tone = _word(curve)
    return Verdict(word, told[0] if told else title(curve), tone, told[1:] + curve.notes)


def _word(curve: Curve) -> tuple[str, Tone]:
    if curve.answer is not None:
        return _WORDS.get(curve.answer.outcome, ("", "neutral"))
    found = sum(knee.run is not None for knee in curve.knees)
    if not found:
        return "NO KNEE", "bad"
    return ("KNEE", "good") if len(curve.knees) == 1 else (several(found, "knee").upper(), "good")


def _points(curve: Curve) -> list[Part]:
    plain, _ = table(curve)
    out: list[Part] = [_table("What was measured at each point", plain)]
    if (by_gpu := money(curve)).rows:
        out.append(_table("Throughput by GPU, and what output tokens cost", by_gpu))
    why = [cut(line, 600) for line in reasons(curve)]
    return [*out, *([Bullets(why)] if why else [])]


def _table(caption: str, plain: Plain) -> Table:
    columns = [Column(name) for name in plain.header]
    columns[0].align = columns[-1].align = "left"
    rows: list[list[Cell]] = [[*row[:-1], _judged(row[-1])] for row in plain.rows]
    return Table(caption, columns, rows)


def _judged(text: str) -> Mark:
    return Mark(text, _TONES.get(text.partition(" ")[0], "neutral"))
