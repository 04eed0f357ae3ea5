"""A sweep as text, Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import msgspec

from reports import text
from reports.bench_tables import Section
from reports.cells import csv_cell
from reports.layout import Table, one_line
from reports.markdown import escape, grid
from reports.sweep import Curve, Point
from reports.sweep_tables import curves, facts, money, reasons, sentences, table, title


def to_text(curve: Curve) -> str:
    """For a terminal: the answer first."""
    out = [line for sentence in sentences(curve) for line in text.paragraph(sentence)]
    out += ["", *text.paragraph(title(curve)), *text.section_lines([_origin(curve)])[1:]]
    points, text_columns = table(curve)
    out += [*_aligned(points, text_columns), ""]
    for caption, lines in curves(curve):
        out += [one_line(caption), *text.aligned(lines, text_columns=2), ""]
    if (by_gpu := money(curve)).rows:
        out += ["Per GPU", *text.aligned(by_gpu), ""]
    out += text.bullets("Why not", reasons(curve)) + text.bullets("Notes", curve.notes)
    return "\n".join([*out, f"runs: {curve.path}"]).rstrip() + "\n"


def _aligned(points: Table, text_columns: int) -> list[str]:
    """Numbers to the right, and the last column, which is words, to the left."""
    width = max(len(row[-1]) for row in (points.header, *points.rows))
    rows = [[*row[:-1], row[-1].ljust(width)] for row in (points.header, *points.rows)]
    return [line.rstrip() for line in text.aligned(Table(rows[0], rows[1:]), text_columns=text_columns)]


def _origin(curve: Curve) -> Section:
    return Section("", facts(curve))


def to_markdown(curve: Curve) -> str:
    """For a comment or a page."""
    out = [f"## {escape(title(curve))}", ""]
    out += [line for sentence in sentences(curve) for line in (f"**{escape(sentence)}**", "")]
    out += [*(f"- **{escape(label)}**: {escape(value)}" for label, value in facts(curve)), ""]
    points, text_columns = table(curve)
    out += grid(points, text_columns=text_columns)
    for caption, lines in curves(curve):
        out += [f"### {escape(caption)}", "", *grid(lines, text_columns=2)]
    if (by_gpu := money(curve)).rows:
        out += ["### Per GPU", "", *grid(by_gpu)]
    for heading, bullets in (("Why not", reasons(curve)), ("Notes", curve.notes)):
        if bullets:
            out += [f"### {heading}", "", *(f"- {escape(' '.join(one.split()))}" for one in bullets), ""]
    return "\n".join(out).rstrip() + "\n"


def to_json(curve: Curve) -> str:
    """Everything, numbers of points that are not to be quoted too: `stable`, `fit` and `quotable` say so."""
    found = msgspec.to_builtins(curve)
    for plain, point in zip(found["points"], curve.points, strict=True):
        plain["quotable"] = point.quotable
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


_LEFT_OUT = {"values", "labels", "gpu"}


def to_csv(curve: Curve) -> str:
    """A row a point."""
    names = [one.name for one in msgspec.structs.fields(Point) if one.name not in _LEFT_OUT]
    gpu = ("gpus", "output_tokens_per_s_per_gpu", "usd_per_million_output_tokens")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*curve.keys, *names, "quotable", "labels", *gpu])
    for point in curve.points:
        cells = [point.values.get(key) for key in curve.keys]
        cells += [getattr(point, name) for name in names]
        cells += [point.quotable, " ".join(point.labels)]
        told = point.gpu
        cells += (
            [None] * len(gpu)
            if told is None
            else [told.gpus, told.output_tokens_per_s, told.usd_per_million_output_tokens]
        )
        writer.writerow([csv_cell("" if cell is None else cell) for cell in cells])
    return file.getvalue()


def _html(curve: Curve) -> str:
    from reports.sweep_page import to_html  # plotly is not for those who read text

    return to_html(curve)


RENDERERS: dict[str, Callable[[Curve], str]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "html": _html,
}
