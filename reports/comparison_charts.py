"""The charts of a comparison: effects against what is allowed, run by run, and whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from msgspec import Struct

from reports.axes import ms_axis
from reports.cells import number, several, share
from reports.compare import Compared
from reports.comparison import MetricVerdict, Shift
from reports.frame import Floats
from reports.gates import Gate, read
from reports.gauge import session_of
from reports.metric_verdicts import amount_of
from reports.page import Absent, Chart, plotly_text
from reports.palette import BLUE, GREEN, GREY, ORANGE, RED
from reports.sides import Run

BASE, NEW = "BASE", "NEW"
_COLOURS = {BASE: BLUE, NEW: ORANGE}
_SYMBOLS = {BASE: "circle", NEW: "diamond"}
_DASHES = {BASE: "solid", NEW: "dash"}
_VERDICTS = {"PASS": (GREEN, "circle"), "FAIL": (RED, "x"), "INCONCLUSIVE": (ORANGE, "diamond")}
_SHARES = np.concatenate([np.linspace(0, 0.98, 197), np.linspace(0.981, 1, 39)])  # a curve's points
_WIDE = 3.0  # times the median: what lies further out makes the axis logarithmic
_MOST_PARTS = 600.0  # an interval that is drawn further than this, in % of the limit, hides the others
_MOST_CURVES = 24  # of single runs

Drawn = Chart | Absent


# -- effects


def effects(verdicts: Sequence[MetricVerdict]) -> Drawn:
    """Each effect with its interval, as a share of what is allowed."""
    title = "How much worse, against what is allowed"
    known = [one for one in verdicts if one.effect is not None]
    if not known:
        return Absent(title, "There is no effect to draw: the table says why, metric by metric.")
    figure = go.Figure()
    for word, (colour, symbol) in _VERDICTS.items():
        some = [one for one in known if one.verdict == word]
        if some:
            figure.add_trace(_effect_trace(some, word, colour, symbol))
    for at, what, dash in ((0.0, "no change", "dot"), (100.0, "the limit", "dash")):
        figure.add_vline(x=at, line={"color": GREY, "dash": dash, "width": 1.5})
        figure.add_annotation(
            x=at, y=1, yref="paper", yanchor="bottom", text=what, showarrow=False, font={"color": GREY}
        )
    names = [plotly_text(one.metric) for one in known]
    figure.update_layout(
        xaxis={
            "title": {"text": "worse by (% of what is allowed)"},
            "range": _effect_range(known),
            "ticksuffix": " %",
        },
        yaxis={
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "range": [-0.6, len(names) - 0.3],
            "showgrid": False,
        },
        showlegend=True,
        legend={"y": 1, "yref": "container", "yanchor": "top"},
        margin={"t": 56},
    )
    note = (
        "Each line runs from the one-sided 97.5 % lower bound to the one-sided 95 % upper bound. Left of 0 "
        "is better; a line that ends left of the limit is a PASS. Where nothing of NEW failed, "
        "errors pass as well."
    )
    height = 170 + 56 * len(known)
    return Chart("effects", title, figure, f"Worse by: {_effects_said(known)}.", note, height)


def _effects_said(known: Sequence[MetricVerdict]) -> str:
    return "; ".join(
        f"{one.metric} {amount_of(one.scale, one.effect or 0.0)}, "
        f"{amount_of(one.scale, one.limit, sign=False)} allowed, {one.verdict}"
        for one in known
    )


def _parts(one: MetricVerdict) -> tuple[float, float, float]:
    """Lower bound, effect and upper bound in % of the limit, no further out than can be drawn."""
    effect = max(-1e6, min((one.effect or 0.0) / one.limit * 100, 1e6))
    ends = (end / one.limit * 100 if end is not None else effect for end in (one.low, one.high))
    low, high = (max(effect - _MOST_PARTS, min(end, effect + _MOST_PARTS)) for end in ends)
    return low, effect, high


def _effect_range(known: Sequence[MetricVerdict]) -> list[float]:
    ends = [0.0, 100.0, *(end for one in known for end in _parts(one))]
    room = 0.1 * (max(ends) - min(ends))
    return [min(ends) - room, max(ends) + room]


def _effect_trace(some: Sequence[MetricVerdict], word: str, colour: str, symbol: str) -> go.Scatter:
    low, middle, high = np.array([_parts(one) for one in some]).T
    return go.Scatter(
        x=middle,
        y=[plotly_text(one.metric) for one in some],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": high - middle,
            "arrayminus": middle - low,
            "color": colour,
            "thickness": 2.5,
            "width": 6,
        },
        mode="markers+text",
        name=word,
        text=[amount_of(one.scale, one.effect or 0.0) for one in some],
        textposition="top center",
        marker={"color": colour, "symbol": symbol, "size": 11},
        customdata=[
            [
                f"{amount_of(one.scale, one.low or 0.0)} to {amount_of(one.scale, one.high or 0.0)}",
                amount_of(one.scale, one.limit, sign=False),
            ]
            for one in some
        ],
        hovertemplate=(
            "%{y}: worse by %{text}<br>%{customdata[0]}<br>%{customdata[1]} allowed<extra>"
            f"{word}</extra>"
        ),
    )


# -- run by run


class _Point(Struct):
    """A run's value of a metric."""

    place: int  # among all runs in the order they were made, from 1
    name: str
    started: str
    value: float


def run_by_run(compared: Compared) -> list[Drawn]:
    """A chart a judged metric: each run a dot, in the order they were made; pairs are joined."""
    order, sides = _in_time(compared), compared.sides
    verdicts = {one.metric for one in compared.comparison.verdicts}
    out = []
    for gate in (gate for gate in compared.gates if gate.name in verdicts):
        points = {BASE: _points(gate, sides.base, order), NEW: _points(gate, sides.new, order)}
        if any(found for side in points.values() for found in side):
            out.append(_dots(gate, points, sides.paired))
    return out


def _in_time(compared: Compared) -> dict[str, int]:
    """The place of each run (by name) among all, by when it was started."""
    runs = [*compared.sides.base, *compared.sides.new]
    return {run.name: place for place, run in enumerate(sorted(runs, key=_started_ns), 1)}


def _started_ns(run: Run) -> int:
    session = session_of(run.manifest)
    return session.wall_ns if session is not None else 0


def _points(gate: Gate, runs: Sequence[Run], order: dict[str, int]) -> list[_Point | None]:
    out: list[_Point | None] = []
    for run in runs:
        session, value = session_of(run.manifest), read(run.summary, gate).value
        started = session.started if session is not None else run.manifest.created
        point = None if value is None else _Point(order[run.name], run.name, started, _as_shown(gate, value))
        out.append(point)
    return out


def _as_shown(gate: Gate, value: float) -> float:
    """As the axis has it: shares in per cent, and goodput by its hits."""
    if gate.scale != "share":
        return value
    return 100 * (1 - value if gate.higher_is_better else value)


def _dots(gate: Gate, points: dict[str, list[_Point | None]], paired: bool) -> Drawn:
    title = f"{gate.label}, run by run"
    known = {side: [one for one in found if one is not None] for side, found in points.items()}
    values = [one.value for found in known.values() for one in found]
    if gate.scale == "share" and len(set(values)) == 1:
        every = f"{share(values[0] / 100)} in every one of {several(len(values), 'run')}"
        return Absent(title, f"{gate.metric} is {every}: nothing to draw.")
    unit = "%" if gate.scale == "share" else gate.unit
    figure = go.Figure()
    if paired:
        figure.add_trace(_joined(points))
    for side, found in known.items():
        figure.add_trace(_dots_trace(side, found, unit))
    figure.update_layout(
        xaxis={
            "title": {"text": "run, in the order they were made"},
            "dtick": _step(len(values)),
            "tick0": 1,
        },
        yaxis={"title": {"text": f"{gate.label} ({unit})" if unit else gate.label}},
    )
    return Chart(
        f"runs-{_key(gate.name)}", title, figure, _dots_said(gate, points, known, unit, paired), height_px=300
    )


def _amount(value: float, unit: str) -> str:
    return share(value / 100) if unit == "%" else f"{number(value)} {unit}".rstrip()


def _key(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name)


def _step(runs: int) -> int:
    return max(1, -(-runs // 20))


def _joined(points: dict[str, list[_Point | None]]) -> go.Scatter:
    """One trace for the lines of all pairs."""
    x: list[float | None] = []
    y: list[float | None] = []
    for one, other in zip(points[BASE], points[NEW], strict=True):
        if one is not None and other is not None:
            x += [one.place, other.place, None]
            y += [one.value, other.value, None]
    line = {"color": GREY, "width": 1.5}
    return go.Scatter(x=x, y=y, mode="lines", name="pair", line=line, hoverinfo="skip")


def _dots_trace(side: str, found: Sequence[_Point], unit: str) -> go.Scatter:
    return go.Scatter(
        x=[one.place for one in found],
        y=[one.value for one in found],
        mode="markers",
        name=side,
        marker={"color": _COLOURS[side], "symbol": _SYMBOLS[side], "size": 11},
        customdata=[
            [plotly_text(one.name), plotly_text(one.started), _amount(one.value, unit)] for one in found
        ],
        hovertemplate="%{customdata[2]}<br>%{customdata[0]}<br>%{customdata[1]}<extra>" + side + "</extra>",
    )


def _dots_said(
    gate: Gate,
    points: dict[str, list[_Point | None]],
    known: dict[str, list[_Point]],
    unit: str,
    paired: bool,
) -> str:
    told = []
    for side, found in known.items():
        if found:
            low, high = (_amount(end([one.value for one in found]), unit) for end in (min, max))
            span = low if low == high else f"{low} to {high}"
            told.append(f"{side} {span} in {several(len(found), 'run')}")
        else:
            told.append(f"no run of {side} has it")
    text = "; ".join(told)
    if paired:
        both = [
            (one.value, other.value)
            for one, other in zip(points[BASE], points[NEW], strict=True)
            if one is not None and other is not None
        ]
        worse = sum((n < b) if gate.higher_is_better else (n > b) for b, n in both)
        text += f"; NEW is worse in {worse} of {several(len(both), 'pair')}"
    return text[0].upper() + text[1:] + "."


# -- whole distributions


def distribution(compared: Compared, shift: Shift) -> Drawn:
    """The empirical distribution of a time on both sides; failures count, as answers that never came."""
    metric = shift.metric
    title = f"{metric}, all requests"
    sides = {BASE: compared.sides.base, NEW: compared.sides.new}
    figure = go.Figure()
    curves = {side: [_curve(run, metric) for run in runs] for side, runs in sides.items()}
    several_runs = any(len(runs) > 1 for runs in sides.values())
    if several_runs:
        for side, found in curves.items():
            figure.add_trace(_thin(side, found[:_MOST_CURVES]))
    for side, found in curves.items():
        figure.add_trace(_whole(side, found))
    figure.update_layout(
        xaxis=_time_axis(curves, shift),
        yaxis={"title": {"text": "requests answered by then (%)"}, "range": [0, 101]},
    )
    lost = {side: _unserved(runs, metric) for side, runs in sides.items()}
    note = "Bold: a side, each of its runs counting the same. Thin: its runs." if several_runs else ""
    if any(lost.values()):
        told = " and ".join(f"{n:,} of {side}" for side, n in lost.items())
        note += f" Failed requests never arrive, so a curve with failures ends below 100 %: {told}."
    return Chart(f"distribution-{_key(metric)}", title, figure, _ecdf_said(shift), note.strip())


def _time_axis(curves: dict[str, list[tuple[Floats, Floats] | None]], shift: Shift) -> dict[str, Any]:
    """Logarithmic where the tail would press all else to the left: there, a ratio is one step everywhere."""
    values = np.concatenate([one[0] for found in curves.values() for one in found if one is not None])
    positive = values[values > 0]
    if len(positive) and float(positive.max()) > _WIDE * float(np.median(positive)):
        return ms_axis(positive, title=shift.metric, log=True)
    return {"title": {"text": f"{shift.metric} ({shift.unit})"}, "tickformat": ",~r"}


def _curve(run: Run, metric: str) -> tuple[Floats, Floats] | None:
    """The values of a run at even shares, and the share of all its requests that had it by then."""
    values = run.values[metric]
    if not values.n:
        return None
    at = np.array([values.percentile(100 * p) for p in _SHARES], dtype=np.float64)
    return at, _SHARES * values.n / (values.n + _failures(run, metric))


def _failures(run: Run, metric: str) -> int:
    second = run.summary.metrics[metric].with_failures
    return second.failures if second is not None else 0


def _unserved(runs: Sequence[Run], metric: str) -> int:
    return sum(_failures(run, metric) for run in runs)


def _thin(side: str, curves: Sequence[tuple[Floats, Floats] | None]) -> go.Scatter:
    """One trace for the curves of all runs of a side."""
    gap = np.array([np.nan])
    x, y = ([part for one in curves if one is not None for part in (one[axis][::4], gap)] for axis in (0, 1))
    return go.Scatter(
        x=np.concatenate(x).round(4) if x else [],
        y=(100 * np.concatenate(y)).round(3) if y else [],
        mode="lines",
        line={"color": _COLOURS[side], "width": 1},
        opacity=0.3,
        showlegend=False,
        hoverinfo="skip",
    )


def _whole(side: str, curves: Sequence[tuple[Floats, Floats] | None]) -> go.Scatter:
    """The mixture of a side's runs, each counting the same."""
    known = [one for one in curves if one is not None]
    x = np.unique(np.concatenate([at for at, _ in known])) if known else np.empty(0)
    if len(x) > 4 * len(_SHARES):
        x = x[np.unique(np.linspace(0, len(x) - 1, 4 * len(_SHARES)).round().astype(int))]
    # A run without any answer counts as well: its curve stays at 0.
    y = sum((np.interp(x, at, shares, left=0.0) for at, shares in known), np.zeros(len(x))) / max(
        1, len(curves)
    )
    return go.Scatter(
        x=x.round(4),
        y=(100 * y).round(3),
        mode="lines",
        name=side,
        line={"color": _COLOURS[side], "dash": _DASHES[side], "width": 3},
        hovertemplate="%{y:.1f} % within %{x:,.4~g} ms<extra>" + side + "</extra>",
    )


def _ecdf_said(shift: Shift) -> str:
    told = []
    for p in (50, 90):
        at = shift.percentiles.index(p)
        base, new = shift.base[at], shift.new[at]
        what = "Half" if p == 50 else f"{p} %"
        if base and new is not None:
            change = amount_of("ratio", new / base - 1)
            told.append(
                f"{what} of the answers took up to {number(base)} {shift.unit} for BASE, {number(new)} for "
                f"NEW ({change})"
            )
    return ". ".join(told) + "."
