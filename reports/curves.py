"""Distributions as charts: percentiles with a stretched tail, and shares below a time.

A failure is a time without an end: shares are of all requests, so a curve ends where the failures begin.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from msgspec import Struct

from reports.axes import hdr_axis, ms_axis
from reports.cells import number, several, share
from reports.columns import Columns
from reports.frame import Floats
from reports.page import Absent, Chart, plotly_text
from reports.palette import RED, series
from reports.summary import Summary
from reports.thinning import even_ranks, ranks

NAMES = {"ttft": "TTFT", "ttft_sched": "TTFT from schedule", "itl": "ITL", "e2e": "E2E"}
_POINTS = 400
_NOTHING = "No answer was streamed to its end, so there is no time to draw."


class Curve(Struct):
    """Sorted times of one metric, and among how many they stand."""

    name: str
    values: Floats  # ms
    shares: Floats  # of all, at or below each value: 0 to 1
    n: int
    failures: int

    @property
    def of(self) -> int:
        """Values and failures."""
        return self.n + self.failures


def curves(summary: Summary, columns: Columns, *, tail: bool) -> list[Curve]:
    """The metrics that have values, thinned for a chart of the tail or of the whole."""
    out = []
    for name in NAMES:
        d = summary.metrics[name]
        if name == "itl":
            if columns.itl.n and not d.withheld:
                out.append(_pooled(columns, tail=tail))
            continue
        values = columns.ms[name][columns.timed]
        values = np.sort(values[np.isfinite(values)])
        failures = d.with_failures.failures if d.with_failures else 0
        if len(values):
            out.append(_curve(name, values, failures, tail=tail))
    return out


def _curve(name: str, values: Floats, failures: int, *, tail: bool) -> Curve:
    n, of = len(values), len(values) + failures
    places = ranks(n, of, _POINTS) if tail else even_ranks(n, _POINTS)
    return Curve(name, values[places - 1], (places - 0.5) / of if tail else places / of, n, failures)


def _pooled(columns: Columns, *, tail: bool) -> Curve:
    n = columns.itl.n
    places = ranks(n, n, _POINTS) if tail else even_ranks(n, _POINTS)
    shares = (places - 1) / max(1, n - 1)
    found = columns.itl.quantiles(shares)
    return Curve("itl", found, (places - 0.5) / n if tail else places / n, n, 0)


def percentile_chart(summary: Summary, columns: Columns) -> Chart | Absent:
    """Time by percentile, each nine as wide as the one before."""
    title = "Latency by percentile"
    found = curves(summary, columns, tail=True)
    if not found:
        return Absent(title, _NOTHING)
    figure, most = go.Figure(), 2.0
    for curve in found:
        name = NAMES[curve.name]
        hover = f"{name}: %{{y:,.1f}} ms at %{{customdata:.4~f}} %<extra></extra>"
        most = max(most, _add_tail(figure, curve, name, list(NAMES).index(curve.name), hover))
    _mark_ends(figure, [(c.of / c.failures, float(c.values[-1])) for c in found if c.failures], found)
    figure.update_layout(
        xaxis=hdr_axis(most),
        yaxis=ms_axis(*(curve.values for curve in found), title="time", log=True),
    )
    return Chart("percentiles", title, figure, _percentile_words(summary, found), _reading(found), 420)


def ecdf_chart(summary: Summary, columns: Columns) -> Chart | Absent:
    """The share of requests at or below each time."""
    title = "Share of requests by latency (ECDF)"
    found = curves(summary, columns, tail=False)
    if not found:
        return Absent(title, _NOTHING)
    figure = go.Figure()
    for curve in found:
        colour, dash = series(list(NAMES).index(curve.name))
        figure.add_scatter(
            x=curve.values,
            y=100 * curve.shares,
            name=f"{NAMES[curve.name]} (n = {curve.n:,})",
            mode="lines" if curve.n > 1 else "markers",
            line={"color": colour, "dash": dash, "width": 2.5, "shape": "hv"},
            hovertemplate=f"{NAMES[curve.name]}: %{{y:.2f}} % within %{{x:,.1f}} ms<extra></extra>",
        )
    ends = [(float(c.values[-1]), 100 * float(c.shares[-1])) for c in found if c.failures]
    _mark_ends(figure, ends, found)
    figure.update_layout(
        xaxis=ms_axis(*(curve.values for curve in found), title="time", log=True),
        yaxis={"title": {"text": "share of requests (%)"}, "range": [0, 102], "ticksuffix": " %"},
    )
    return Chart("ecdf", title, figure, _ecdf_words(summary, found), _reading(found))


def overlay(name: str, runs: list[tuple[str, Summary, Columns]]) -> Chart | Absent:
    """One metric by percentile, a curve a run; nothing is pooled."""
    title = f"{NAMES[name]} by percentile, run by run"
    found = [
        (label, curve)
        for label, summary, columns in runs
        for curve in curves(summary, columns, tail=True)
        if curve.name == name
    ]
    if not found:
        return Absent(title, _NOTHING)
    figure, most = go.Figure(), 2.0
    for place, (label, curve) in enumerate(found):
        hover = "%{y:,.1f} ms at %{customdata:.4~f} %"
        most = max(most, _add_tail(figure, curve, plotly_text(label, 30), place, hover))
    curves_ = [curve for _, curve in found]
    _mark_ends(figure, [(c.of / c.failures, float(c.values[-1])) for c in curves_ if c.failures], curves_)
    values = [curve.values for curve in curves_]
    figure.update_layout(xaxis=hdr_axis(most), yaxis=ms_axis(*values, title=NAMES[name], log=True))
    told = [
        f"{label} p50 {number(summary.metrics[name].percentiles['p50'])} ms" for label, summary, _ in runs
    ]
    return Chart(f"overlay-{name}", title, figure, f"{'; '.join(told)}.", height_px=420)


def _add_tail(figure: go.Figure, curve: Curve, name: str, place: int, hover: str) -> float:
    """Add a curve by 1 / (1 - share), in the colours of that place. Returns how far the axis has to go."""
    colour, dash = series(place)
    x = 1 / (1 - curve.shares)
    figure.add_scatter(
        x=x,
        y=curve.values,
        customdata=100 * curve.shares,
        name=f"{name} (n = {curve.n:,})",
        mode="lines" if len(x) > 1 else "markers",
        line={"color": colour, "dash": dash, "width": 2.5, "shape": "vh"},
        hovertemplate=hover,
    )
    return max(float(x[-1]), curve.of / curve.failures if curve.failures else 0)


def _mark_ends(figure: go.Figure, ends: list[tuple[float, float]], found: list[Curve]) -> None:
    if ends:
        most = max(curve.failures for curve in found)
        figure.add_scatter(
            x=[x for x, _ in ends],
            y=[y for _, y in ends],
            name=f"beyond: no answer ({most:,})",
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": RED},
            hovertemplate="from here on: requests without an answer<extra></extra>",
        )


def _reading(found: list[Curve]) -> str:
    pooled = any(curve.name == "itl" for curve in found)
    return "ITL is of the gaps between chunks, pooled over the answers; all else is of requests." * pooled


def _percentile_words(summary: Summary, found: list[Curve]) -> str:
    parts = []
    for name in ("ttft", "ttft_sched", "e2e"):
        d = summary.metrics[name]
        told = [(p, d.percentiles[f"p{p}"]) for p in (50, 99)]
        known = [f"p{p} {number(value)} ms" for p, value in told if value is not None]
        if known:
            parts.append(f"{NAMES[name]} {', '.join(known)}")
    return f"{'; '.join(parts) or 'Too few answers for percentiles'}.{_failed_words(found)}"


def _ecdf_words(summary: Summary, found: list[Curve]) -> str:
    d = summary.metrics[found[0].name]
    words = f"{NAMES[found[0].name]} lies between {number(d.min)} and {number(d.max)} ms"
    return f"{words}, over {several(d.n, 'value')}.{_failed_words(found)}"


def _failed_words(found: list[Curve]) -> str:
    most = max(found, key=lambda curve: curve.failures)
    if not most.failures:
        return " Nothing failed: every curve reaches its longest time."
    return (
        f" {most.failures:,} of {most.of:,} requests got no answer and count as endless: curves of requests "
        f"end at {share(most.n / most.of)}."
    )
