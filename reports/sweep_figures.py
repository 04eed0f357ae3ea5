"""The charts of a sweep. A saturated point has a place on the load's axis, and no latency: it is a cross."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from reports.axes import add_limit, log_ticks
from reports.cells import number, several
from reports.page import Absent, Chart, plotly_text
from reports.palette import GREY, RED, series
from reports.sweep import Curve, Point, at, groups, shown

_NAMES = {"load.rate": "rate asked (requests/s)", "load.concurrency": "requests at once"}
_TOO_FEW = "No point was measured that has this number."
_TEXT = 40  # characters of a point's name on an axis
_WIDE = 8  # times the lowest load, from which on the axis of loads is a log one
Value = Callable[[Point], float | None]


def charts(curve: Curve) -> list[Chart | Absent]:
    """Every chart, or why there is none."""
    return [throughput_latency(curve), goodput(curve), latency(curve), throughput(curve)]


def throughput_latency(curve: Curve) -> Chart | Absent:
    """What more throughput costs in latency."""
    title = "Latency against throughput"
    figure, drawn = go.Figure(), list[Point]()
    for place, (where, points) in enumerate(groups(curve)):
        good = _with(points, _p95, _tokens)
        drawn += good
        _line(figure, place, where, good, [_tokens(one) for one in good], [_p95(one) for one in good], " ms")
    if not drawn:
        return Absent(title, _TOO_FEW)
    top = max(_known(_p95, drawn))
    crossed = [one for one in curve.points if _is_unstable(one) and _tokens(one) is not None]
    _crosses(figure, crossed, [_tokens(one) for one in crossed], 1.08 * top)
    figure.update_layout(
        xaxis={"title": {"text": "output tokens/s, steady window"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "ttft_sched p95 (ms)"}, "rangemode": "tozero", "tickformat": ",~r"},
    )
    rates = _known(_tokens, drawn)
    words = (
        f"ttft_sched p95 between {number(min(_known(_p95, drawn)))} and {number(top)} ms over "
        f"{number(min(rates))} to {number(max(rates))} output tokens/s."
    )
    return Chart("throughput_latency", title, figure, words + _crossed_words(crossed), _reading(crossed), 420)


def goodput(curve: Curve) -> Chart | Absent:
    """How many requests a second met every SLO, against what was asked."""
    title = "Goodput against load"
    if not any(point.goodput_share is not None for point in curve.points):
        return Absent(title, "The scenario has no [slo], so no answer is good or bad.")
    made = _by_load(curve, title, "goodput", _good, "requests/s that met every SLO", "")
    if isinstance(made, Chart) and curve.load_key == "load.rate":
        asked = sorted({float(point.values["load.rate"]) for point in curve.points})
        made.figure.add_scatter(
            x=asked,
            y=asked,
            mode="lines",
            name="all that was asked",
            line={"color": GREY, "dash": "dot", "width": 1.5},
            hoverinfo="skip",
        )
    return made


def latency(curve: Curve) -> Chart | Absent:
    """What a user waits for the first token."""
    return _by_load(curve, "Latency against load", "latency", _p95, "ttft_sched p95 (ms)", " ms")


def throughput(curve: Curve) -> Chart | Absent:
    """What the server makes: a saturated one too."""
    return _by_load(
        curve, "Throughput against load", "throughput", _tokens, "output tokens/s", " tokens/s", stable=False
    )


def _by_load(
    curve: Curve, title: str, key: str, value: Value, name: str, unit: str, *, stable: bool = True
) -> Chart | Absent:
    figure, drawn = go.Figure(), list[Point]()
    for place, (where, points) in enumerate(groups(curve)):
        good = _with(points, value, stable=stable)
        drawn += good
        _line(
            figure,
            place,
            where,
            good,
            [_load(curve, one) for one in good],
            [value(one) for one in good],
            unit,
        )
    if not drawn:
        return Absent(title, _TOO_FEW)
    crossed = [one for one in curve.points if stable and _is_unstable(one)]
    known = _known(value, drawn)
    _crosses(figure, crossed, [_load(curve, one) for one in crossed], 1.08 * max(known))
    figure.update_layout(
        xaxis=_load_axis(curve),
        yaxis={"title": {"text": name}, "rangemode": "tozero", "tickformat": ",~r"},
    )
    _mark_knee(figure, curve)
    words = f"{name}: {number(min(known))} to {number(max(known))}, {several(len(drawn), 'point')}."
    return Chart(key, title, figure, words + _crossed_words(crossed), _reading(crossed))


# -- parts of charts


def _line(
    figure: go.Figure, place: int, where: dict[str, Any], points: list[Point], x: Any, y: Any, unit: str
) -> None:
    if not points:
        return
    colour, dash = series(place)
    name = plotly_text(at(where)) if where else "measured"
    figure.add_scatter(
        x=x,
        y=y,
        text=[plotly_text(at(one.values)) for one in points],
        name=name,
        showlegend=bool(where),
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2.5},
        marker={"size": 9, "symbol": ["circle" if one.meets else "circle-open" for one in points]},
        hovertemplate=f"%{{text}}: %{{y:,.4~r}}{unit}<extra></extra>",
    )


def _crosses(figure: go.Figure, points: list[Point], x: list[Any], y: float) -> None:
    """Points that have no number, along the upper edge."""
    if points:
        figure.add_scatter(
            x=x,
            y=[y] * len(points),
            text=[plotly_text(at(one.values)) for one in points],
            name="unstable: not quoted",
            mode="markers",
            marker={"symbol": "x", "size": 10, "color": RED},
            hovertemplate="%{text}: unstable, grows with the duration<extra></extra>",
        )


def _mark_knee(figure: go.Figure, curve: Curve) -> None:
    """Where a load is swept alone, its knee."""
    key = curve.load_key
    if key is None or len(curve.keys) > 1:
        return
    value = curve.answer.best if curve.answer is not None else None
    for knee in curve.knees:
        value = next((point.values[key] for point in curve.points if point.run == knee.run), value)
    if value is not None:
        log = _load_axis(curve).get("type") == "log"
        add_limit(figure, float(value), f"knee: {shown(value)}", vertical=True, log=log)


def _load_axis(curve: Curve) -> dict[str, Any]:
    key = curve.load_key
    if key is None:
        return {"title": {"text": plotly_text(", ".join(curve.keys))}, "type": "category"}
    axis: dict[str, Any] = {"title": {"text": _NAMES[key]}}
    values = [float(point.values[key]) for point in curve.points]
    if max(values) < _WIDE * min(values):
        return axis | {"rangemode": "tozero"}
    return axis | {"type": "log", **log_ticks(min(values), max(values))}


def _load(curve: Curve, point: Point) -> Any:
    key = curve.load_key
    if key is not None:
        return point.values[key]
    # Two points that are cut to the same text would stand at one place.
    names = [plotly_text(", ".join(map(shown, one.values.values())), _TEXT) for one in curve.points]
    name = names[curve.points.index(point)]
    return name if names.count(name) == 1 else f"{name} ({point.run.partition('-')[0]})"


def _with(points: list[Point], *values: Value, stable: bool = True) -> list[Point]:
    """Those that were measured, and can be quoted."""
    return [
        one
        for one in points
        if one.state == "done"
        and one.fit
        and (one.stable or not stable)
        and all(value(one) is not None for value in values)
    ]


def _known(value: Value, points: list[Point]) -> list[float]:
    return [found for one in points if (found := value(one)) is not None]


def _is_unstable(point: Point) -> bool:
    return point.state == "done" and point.fit and not point.stable


def _tokens(point: Point) -> float | None:
    return point.output_tokens_per_s


def _p95(point: Point) -> float | None:
    return point.ttft_sched_p95_ms


def _good(point: Point) -> float | None:
    return point.goodput_per_s


def _crossed_words(crossed: list[Point]) -> str:
    if not crossed:
        return ""
    which = dict.fromkeys(at(one.values) for one in crossed)
    return f" Unstable, and not quoted: {'; '.join(which)}."


def _reading(crossed: list[Point]) -> str:
    hollow = "A filled circle meets all thresholds, a hollow one does not."
    return f"{hollow} A cross is an unstable point, without a number." if crossed else hollow
