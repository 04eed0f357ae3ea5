"""Axes of charts: what their ticks say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from reports.frame import Floats
from reports.palette import GREY

_WIDE = 20  # times the median, from which on a linear axis would press all but the tail flat


class TimeUnit(Struct, frozen=True):
    """The unit of a time axis."""

    seconds: float
    name: str


def time_unit(length_s: float) -> TimeUnit:
    """Seconds, minutes or hours, whichever gives short numbers."""
    if length_s > 5 * 3600:
        return TimeUnit(3600, "h")
    return TimeUnit(60, "min") if length_s > 600 else TimeUnit(1, "s")


def time_axis(unit: TimeUnit, begin_s: float, end_s: float) -> dict[str, Any]:
    """Time since the run began."""
    margin = 0.02 * (end_s - begin_s) or 0.5
    span = [(begin_s - margin) / unit.seconds, (end_s + margin) / unit.seconds]
    return {"title": {"text": f"time since the run began ({unit.name})"}, "range": span}


def hdr_axis(most: float) -> dict[str, Any]:
    """1 / (1 - p) on a log scale, so that each further nine takes the same room; up to `most`."""
    ticks = [(1.0, "0 %"), (2.0, "50 %"), (4.0, "75 %"), (10.0, "90 %")]
    ticks += [(10.0**n, f"{100 - 100 / 10**n:.{n - 2}f} %") for n in range(2, 9)]
    shown = [(at, text) for at, text in ticks if at <= max(most * 1.2, 4)]
    return {
        "type": "log",
        "title": {"text": "share of requests (the tail is stretched)"},
        "tickvals": [at for at, _ in shown],
        "ticktext": [text for _, text in shown],
        "range": [0, math.log10(max(most, 4)) + 0.05],
    }


def ms_axis(*values: Floats, title: str, log: bool | None = None) -> dict[str, Any]:
    """Milliseconds from 0 on; on a log scale where the values ask for one, or `log` does."""
    known = np.concatenate([one[np.isfinite(one) & (one > 0)] for one in values]) if values else np.empty(0)
    if log is None:
        log = bool(len(known)) and float(known.max()) > _WIDE * float(np.median(known))
    axis: dict[str, Any] = {"title": {"text": f"{title} (ms)"}}
    if not log or not len(known):
        return axis | {"rangemode": "tozero", "tickformat": ",~r"}
    low, high = float(known.min()), float(known.max())
    return axis | {
        "type": "log",
        **log_ticks(low, high),
        "range": [math.log10(low / 1.15), math.log10(high * 1.15)],
    }


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 times the powers of ten, or at those alone where there are many."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    steps = (1, 2, 5) if last - first <= 6 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return {"tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def add_limit(figure: Any, at: float, text: str, *, vertical: bool = False, log: bool = False) -> None:
    """Draw a dashed line across the first chart of a figure, with its name at its end.

    Args:
        figure: to draw on.
        at: where, as the axis counts.
        text: what it is.
        vertical: from the time axis upwards.
        log: the axis is logarithmic.
    """
    # Plotly places lines by value, and words on a logarithmic axis by its logarithm.
    word_at = math.log10(at) if log else at
    line = {"color": GREY, "width": 1.5, "dash": "dash"}
    if vertical:
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, yref="y domain", line=line)
        place = {"x": word_at, "y": 1, "yref": "y domain", "xanchor": "left", "yanchor": "top"}
    else:
        figure.add_shape(type="line", x0=0, x1=1, xref="x domain", y0=at, y1=at, line=line)
        place = {"x": 1, "xref": "x domain", "y": word_at, "xanchor": "right", "yanchor": "bottom"}
    figure.add_annotation(text=text, showarrow=False, font={"color": GREY}, **place)


def shade(figure: Any, begin: float, end: float) -> None:
    """Shade a span of the time axis, behind everything."""
    figure.add_shape(
        type="rect",
        x0=begin,
        x1=end,
        y0=0,
        y1=1,
        yref="paper",
        fillcolor=GREY,
        opacity=0.08,
        line={"width": 0},
        layer="below",
    )
