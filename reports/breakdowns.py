"""Where the time went, and what went wrong: by prompt length, by part of a request, by kind of error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from reports.axes import ms_axis
from reports.cells import count, number, several
from reports.columns import OK, Columns
from reports.frame import Floats
from reports.page import Absent, Chart, plotly_text
from reports.palette import BLUE, GREEN, GREY, ORANGE, RED
from reports.rows import STOP_RULE
from reports.summary import Summary
from reports.thinning import extremes

_SPANS = 400
_BANDS = 15  # of prompt length, with as many requests each
_SLOWEST = 15
_BAR_PX = 26
_MOST_KINDS = 20


def ttft_by_prompt(summary: Summary, columns: Columns) -> Chart | Absent:
    """TTFT of each request against the tokens of its prompt."""
    title = "TTFT against prompt length"
    del summary
    length, ttft = columns.prompt_tokens[columns.timed], columns.ms["ttft"][columns.timed]
    good = np.isfinite(length) & np.isfinite(ttft)
    if not good.any():
        return Absent(title, "No streamed answer told how many tokens its prompt had.")
    if np.unique(length[good]).size == 1:
        tokens = several(int(length[good][0]), "token")
        return Absent(title, f"Every prompt had {tokens}: there is no length to compare by.")
    places = extremes(length, ttft, _SPANS)
    figure = go.Figure()
    figure.add_scatter(
        x=length[places],
        y=ttft[places],
        customdata=columns.input[columns.timed][places],
        name="request",
        mode="markers",
        marker={"size": 5, "color": BLUE, "opacity": 0.55},
        hovertemplate="request %{customdata}<br>%{x:,d} prompt tokens, TTFT %{y:,.1f} ms<extra></extra>",
    )
    middles = _bands(length[good], ttft[good])
    if len(middles) > 1:
        figure.add_scatter(
            x=[x for x, _ in middles],
            y=[y for _, y in middles],
            name="median of requests of like length",
            mode="lines+markers",
            line={"color": ORANGE, "width": 2.5},
            hovertemplate="about %{x:,.0f} prompt tokens: median TTFT %{y:,.1f} ms<extra></extra>",
        )
    figure.update_layout(
        xaxis={"title": {"text": "prompt (tokens)"}, "tickformat": ",d", "rangemode": "tozero"},
        yaxis=ms_axis(ttft, title="TTFT"),
    )
    drawn = int(good.sum())
    note = (
        "" if len(places) >= drawn else f"{len(places):,} of {drawn:,} points are drawn, the extremes kept."
    )
    return Chart("prompt-length", title, figure, _length_words(length[good], middles), note)


def _bands(length: Floats, ttft: Floats) -> list[tuple[float, float]]:
    """(median length, median TTFT) of bands with about as many requests each."""
    n = min(_BANDS, len(length) // 10)
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, n) if n > 1 else []
    return [(float(np.median(length[part])), float(np.median(ttft[part]))) for part in parts]


def _length_words(length: Floats, middles: list[tuple[float, float]]) -> str:
    words = f"Prompts had {count(int(length.min()))} to {count(int(length.max()))} tokens"
    if len(middles) < 2:
        return f"{words}."
    (short, fast), (long, slow) = middles[0], middles[-1]
    return (
        f"{words}; median TTFT is {number(fast)} ms around {short:,.0f} tokens and {number(slow)} ms "
        f"around {long:,.0f}."
    )


def slowest(columns: Columns, n: int) -> npt.NDArray[np.int64]:
    """Places of the measured answers that took longest from when they were due, the longest first."""
    took = np.where(columns.measured & (columns.status == OK), columns.ms["e2e_sched"], np.nan)
    known = np.flatnonzero(np.isfinite(took))
    return known[np.argsort(-took[known], kind="stable")][:n]


def waterfall(summary: Summary, columns: Columns) -> Chart | Absent:
    """The slowest requests, each from when it was due: waiting to be sent, for a token, for the last one."""
    title = "The slowest requests, part by part"
    del summary
    places = slowest(columns, _SLOWEST)
    if not len(places):
        return Absent(title, "No request was answered.")
    due = columns.at_s["scheduled"][places]
    sent, first, last, ended = (
        1e3 * (columns.at_s[name][places] - due) for name in ("sent", "first_token", "last_token", "ended")
    )
    first = np.where(np.isfinite(first), first, ended)  # an answer that came whole
    last = np.where(np.isfinite(last), last, ended)
    labels = _labels(columns, places)
    figure = go.Figure()
    for name, begin, end, colour in (
        ("due to sent", np.zeros(len(places)), sent, GREY),
        ("sent to first token", sent, first, BLUE),
        ("first to last token", first, last, GREEN),
        ("last token to end", last, ended, ORANGE),
    ):
        figure.add_bar(
            y=labels,
            x=np.maximum(end - begin, 0),
            base=begin,
            orientation="h",
            name=name,
            marker={"color": colour},
            customdata=np.column_stack([end - begin, end]),
            hovertemplate=f"%{{y}}<br>{name}: %{{customdata[0]:,.1f}} ms, until %{{customdata[1]:,.1f}} ms"
            "<extra></extra>",
        )
    figure.update_layout(
        barmode="overlay",
        bargap=0.3,
        xaxis={"title": {"text": "time since it was due (ms)"}, "rangemode": "tozero", "tickformat": ",~r"},
        yaxis={"type": "category", "autorange": "reversed", "title": {"text": "request"}},
    )
    wait = float(np.nansum(sent)) / float(np.nansum(ended)) if np.nansum(ended) else 0.0
    token = float(np.nansum(first - sent)) / float(np.nansum(ended)) if np.nansum(ended) else 0.0
    alt = (
        f"The slowest request took {number(float(ended[0]))} ms from when it was due. Of the time of "
        f"{'the ' + str(len(places)) + ' here' if len(places) > 1 else 'it'}, {wait:.0%} passed before the "
        f"send and {token:.0%} between it and the first token."
    )
    return Chart("slowest", title, figure, alt, height_px=140 + _BAR_PX * len(places))


def _labels(columns: Columns, places: npt.NDArray[np.int64]) -> list[str]:
    """Names that tell the requests apart: their place in the input; several samples of one are numbered."""
    seen: dict[int, int] = {}
    out = []
    for place in columns.input[places].tolist():
        seen[place] = seen.get(place, 0) + 1
        out.append(f"{place:,}" + (f" ({seen[place]})" if seen[place] > 1 else "") + " ")
    return out


def error_kinds(summary: Summary, columns: Columns) -> Chart | Absent:
    """How many requests ended without an answer, by why."""
    title = "Requests without an answer, by kind"
    kinds = dict(summary.requests.error_kinds)
    for name, n in summary.requests.cancelled_by.items():
        if name != STOP_RULE:  # cut on purpose: its text is the answer
            kinds[f"cancelled: {name}"] = n
    never = summary.bench.missed if summary.bench else 0
    if never:
        kinds["never sent"] = never
    if not kinds:
        words = "No request failed." if len(columns) else "No request was sent."
        return Absent(title, words)
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:_MOST_KINDS]
    figure = go.Figure()
    figure.add_bar(
        y=[plotly_text(name, 40) + " " for name, _ in ordered],
        x=[n for _, n in ordered],
        text=[f"{n:,}" for _, n in ordered],
        textposition="outside",
        cliponaxis=False,
        orientation="h",
        marker={"color": RED},
        hovertemplate="%{y}: %{x:,d}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": {"text": "requests"}, "rangemode": "tozero", "tickformat": ",d"},
        yaxis={"type": "category", "autorange": "reversed"},
    )
    total = summary.requests.total + never
    most, n = ordered[0]
    alt = (
        f"{sum(kinds.values()):,} of {several(total, 'request')} ended without an answer; most often "
        f"{most} ({n:,})."
    )
    left_out = len(kinds) - len(ordered)
    note = f"{several(left_out, 'rarer kind')} left out." if left_out else ""
    return Chart("errors", title, figure, alt, note, height_px=130 + 34 * len(ordered))
