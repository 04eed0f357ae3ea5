"""What happened when: latencies, requests in flight, and throughput over the time of the run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports.axes import TimeUnit, add_limit, ms_axis, shade, time_axis, time_unit
from reports.cells import number, several
from reports.columns import ERROR, OK, Columns
from reports.frame import Floats
from reports.gauge import window
from reports.page import Absent, Chart, plotly_text
from reports.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, faint
from reports.summary import Summary
from reports.thinning import Places, extremes

_SPANS = 600  # of the time, of which a drawn line keeps the extremes
_MEDIANS = 60
_BINS = 100
_LEAST_IN_MEDIAN = 3


def span_s(columns: Columns) -> tuple[float, float]:
    """The first and the last instant of any record."""
    known = np.concatenate([columns.at_s[name] for name in ("scheduled", "sent", "ended")])
    known = known[np.isfinite(known)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def time_of(summary: Summary, columns: Columns, figure: go.Figure) -> TimeUnit:
    """Give a figure its time axis, its steady window and where sessions begin; return the axis's unit."""
    begin, end = span_s(columns)
    unit = time_unit(end)
    figure.update_xaxes(**time_axis(unit, begin, end))
    load = summary.bench.load if summary.bench else None
    if load is not None and (steady := window(load)) is not None:
        shade(figure, steady[0] / 1e9 / unit.seconds, steady[1] / 1e9 / unit.seconds)
    for session in columns.sessions[1:]:
        add_limit(figure, session.begin_s / unit.seconds, f"session {session.number}", vertical=True)
    return unit


def beside(summary: Summary, columns: Columns, drawn: str = "") -> str:
    """What has to be said of every chart over time."""
    parts = []
    if summary.bench is not None and window(summary.bench.load) is not None:
        parts.append("Shaded: the steady window.")
    if len(columns.sessions) > 1:
        parts.append("Sessions stand one after the other, without the time between them.")
    return " ".join([*parts, drawn]).strip()


def thinned(of: int, drawn: int) -> str:
    """How many points there are, where not all are drawn."""
    if drawn >= of:
        return ""
    return f"{drawn:,} of {of:,} points are drawn: the lowest and the highest of each short span of time."


def latency_over_time(summary: Summary, columns: Columns) -> Chart | Absent:
    """TTFT and E2E of each request by when it was sent; failures at how long they took to fail."""
    title = "Latency over time"
    failed = columns.unserved & np.isfinite(columns.at_s["scheduled"])
    if not columns.timed.any() and not failed.any():
        return Absent(title, "No request was sent and ended.")
    figure = go.Figure()
    unit = time_of(summary, columns, figure)
    of = drawn = 0
    for name, label, colour, symbol in (
        ("e2e", "E2E", PURPLE, "diamond"),
        ("ttft", "TTFT", BLUE, "circle"),
    ):
        x, y = columns.at_s["sent"][columns.timed], columns.ms[name][columns.timed]
        if not np.isfinite(y).any():
            continue
        places = extremes(x, y, _SPANS)
        of, drawn = max(of, int(np.isfinite(y).sum())), max(drawn, len(places))
        figure.add_scatter(
            x=x[places] / unit.seconds,
            y=y[places],
            customdata=columns.input[columns.timed][places],
            name=label,
            mode="markers",
            marker={"size": 5, "color": colour, "symbol": symbol, "opacity": 0.55},
            hovertemplate=f"request %{{customdata}}, sent at %{{x:,.2f}} {unit.name}<br>"
            f"{label} %{{y:,.1f}} ms<extra></extra>",
        )
        _add_median(figure, x, y, unit, f"{label}, median", colour)
    if failed.any():
        _add_failures(figure, columns, np.flatnonzero(failed), unit)
    answered = [columns.ms[name][columns.timed] for name in ("ttft", "e2e")]
    figure.update_yaxes(ms_axis(*answered, _took_ms(columns)[failed], title="latency"))
    figure.update_layout(showlegend=True)
    words = _latency_words(summary, columns)
    return Chart("latency", title, figure, words, beside(summary, columns, thinned(of, drawn)), 420)


def _add_median(figure: go.Figure, x: Floats, y: Floats, unit: TimeUnit, name: str, colour: str) -> None:
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) < 10 * _LEAST_IN_MEDIAN or x.min() == x.max():
        return
    edges = np.linspace(x.min(), x.max(), min(_MEDIANS, len(x) // 10) + 1)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    medians = np.full(len(edges) - 1, np.nan)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(medians) + 1))
    for n, (start, stop) in enumerate(pairwise(starts.tolist())):
        if stop - start >= _LEAST_IN_MEDIAN:
            medians[n] = np.median(y[order[start:stop]])
    figure.add_scatter(
        x=(edges[:-1] + edges[1:]) / 2 / unit.seconds,
        y=medians,
        name=name,
        mode="lines",
        line={"color": colour, "width": 2.5},
        hovertemplate=f"{name} %{{y:,.1f}} ms<extra></extra>",
    )


def _add_failures(figure: go.Figure, columns: Columns, failed: Places, unit: TimeUnit) -> None:
    at, y = columns.at_s["scheduled"][failed], _took_ms(columns)[failed]
    places = extremes(at, y, _SPANS)
    names = [*columns.reasons, "unknown"]
    figure.add_scatter(
        x=at[places] / unit.seconds,
        y=y[places],
        text=[plotly_text(names[reason]) for reason in columns.reason[failed][places].tolist()],
        customdata=columns.input[failed][places],
        name=f"no answer ({len(failed):,})",
        mode="markers",
        marker={"size": 8, "color": RED, "symbol": "x"},
        cliponaxis=False,
        hovertemplate=f"request %{{customdata}}, due at %{{x:,.2f}} {unit.name}<br>"
        "%{text} after %{y:,.1f} ms<extra></extra>",
    )


def _took_ms(columns: Columns) -> Floats:
    """How long each request took to fail; never ended is the foot of the axis (a log one has no 0)."""
    return np.maximum(np.nan_to_num(columns.ms["e2e_sched"], nan=0.0), 0.1)


def _answered_words(summary: Summary, columns: Columns) -> str:
    """How many got no answer: failures, which are marked, and the rest, which is not."""
    failed, unanswered = int(columns.unserved.sum()), int(columns.unanswered.sum())
    never = summary.bench.missed if summary.bench else 0
    parts = [f"{several(failed, 'request')} got no answer"] * bool(failed)
    left = unanswered - failed
    parts += [f"{f'{left:,} more' if failed else several(left, 'request')} cancelled"] * bool(left)
    parts += [f"{never:,} never sent"] * bool(never)
    return f"{', '.join(parts)}." if parts else "Every request was answered."


def _latency_words(summary: Summary, columns: Columns) -> str:
    ttft = columns.ms["ttft"][columns.timed]
    ttft, at = ttft[np.isfinite(ttft)], columns.at_s["sent"][columns.timed][np.isfinite(ttft)]
    words = _answered_words(summary, columns)
    if len(ttft) < 4 * _LEAST_IN_MEDIAN:
        count = several(len(ttft), "streamed answer") if len(ttft) else "Nothing was streamed to its end"
        return f"{count}. {words}"
    middle = (at.min() + at.max()) / 2
    halves = [ttft[at <= middle], ttft[at > middle]]
    if not all(len(half) for half in halves):
        return words
    first, second = (number(float(np.median(half))) for half in halves)
    return f"Median TTFT is {first} ms in the first half of the time and {second} ms in the second. {words}"


def _steps(begins: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """How many have begun and not ended, after each instant at which that changed."""
    good = np.isfinite(begins) & np.isfinite(ends)
    at = np.concatenate([begins[good], ends[good]])
    change = np.concatenate([np.ones(int(good.sum())), -np.ones(int(good.sum()))])
    order = np.argsort(at, kind="stable")
    at, total = at[order], np.cumsum(change[order])
    if not len(at):
        return at, total
    last = np.append(np.diff(at) > 0, True)
    return at[last], total[last]


def in_flight(summary: Summary, columns: Columns) -> Chart | Absent:
    """Requests sent and not ended, and those due and not ended: what the load asked for."""
    title = "Requests in flight against the load asked for"
    sent, ended = columns.at_s["sent"], columns.at_s["ended"]
    at, running = _steps(sent, ended)
    if not len(at):
        return Absent(title, "No request was sent and ended.")
    figure = go.Figure()
    unit = time_of(summary, columns, figure)
    due_at, due = _steps(columns.at_s["scheduled"], ended)
    for name, x, y, colour, dash in (
        ("due and not ended (asked for)", due_at, due, GREY, "dot"),
        ("sent and not ended (in flight)", at, running, BLUE, "solid"),
    ):
        _add_steps(figure, x, y, unit, name, colour, dash)
    asked, words = _asked(summary, float(due.max(initial=0)))
    if asked is not None:
        add_limit(figure, asked, words)
    peak, peak_due = int(running.max()), int(due.max(initial=0))
    whole = {"dtick": 1} if max(peak, peak_due, asked or 0) <= 5 else {}
    figure.update_yaxes(title={"text": "requests"}, rangemode="tozero", tickformat=",d", **whole)
    mean = float((running[:-1] * np.diff(at)).sum() / (at[-1] - at[0])) if at[-1] > at[0] else 1.0
    alt = (
        f"{several(peak, 'request')} at most in flight, {number(mean)} on average over all of the time; "
        f"at most {peak_due:,} due"
    )
    alt += f" and not ended{f'; {words}' if words else ''}."
    long = "Lines are means of short spans of time; shaded around them, the least and the most."
    notes = [long] * (len(at) > 2 * _SPANS) + [_never_sent(summary)]
    return Chart("in-flight", title, figure, alt, beside(summary, columns, " ".join(notes)))


def _never_sent(summary: Summary) -> str:
    """Arrivals of which there is no record, so that no line over time can show them."""
    never = summary.bench.missed if summary.bench else 0
    return f"{several(never, 'arrival')} never sent: in no line here." if never else ""


def _add_steps(
    figure: go.Figure, at: Floats, total: Floats, unit: TimeUnit, name: str, colour: str, dash: str
) -> None:
    """A count over time: every step of a short run; of a long one means, with the least and the most."""
    line = {"color": colour, "dash": dash, "width": 2, "shape": "hv"}
    hover = f"%{{y:,.4~g}} {name}<extra></extra>"
    if len(at) <= 2 * _SPANS:
        x, y = at, total
    else:
        edges = np.linspace(at[0], at[-1], _BINS + 1)
        x, (y, least, most) = edges[:-1], _levels(at, total, edges)
        for values, fill in ((most, None), (least, "tonexty")):
            figure.add_scatter(
                x=x / unit.seconds,
                y=values,
                mode="lines",
                line={"color": colour, "width": 0, "shape": "hv"},
                fill=fill,
                fillcolor=faint(colour),
                hoverinfo="skip",
                showlegend=False,
            )
    figure.add_scatter(x=x / unit.seconds, y=y, name=name, mode="lines", line=line, hovertemplate=hover)


def _levels(at: Floats, total: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean, the least and the most of a step function in each bin."""
    spent = np.concatenate([[0.0], np.cumsum(total[:-1] * np.diff(at))])
    place = np.clip(np.searchsorted(at, edges, side="right") - 1, 0, len(at) - 1)
    until = spent[place] + total[place] * (edges - at[place])
    mean = np.diff(until) / np.diff(edges)
    # A bin begins at the level that was there before its first step.
    least = [total[begin : end + 1].min() for begin, end in pairwise(place.tolist())]
    most = [total[begin : end + 1].max() for begin, end in pairwise(place.tolist())]
    return mean, np.array(least), np.array(most)


def _asked(summary: Summary, most_due: float) -> tuple[float | None, str]:
    """The number of requests that the load wants, or allows, at once."""
    load = summary.bench.load if summary.bench else None
    if load is None:
        asked = {session.concurrency for session in summary.sessions}
        one = asked.pop() if len(asked) == 1 else None
        return (None, "") if one is None else (one, f"asked for: {one:,} at once")
    if not load.is_open and load.concurrency:
        return load.concurrency, f"asked for: {load.concurrency:,} at once"
    if load.is_open and load.max_in_flight and load.max_in_flight <= 2 * most_due:
        return load.max_in_flight, f"at most {load.max_in_flight:,} allowed"
    return None, ""


def throughput(summary: Summary, columns: Columns) -> Chart | Absent:
    """Requests due, answered and failed, and tokens that arrived, a second."""
    title = "Throughput over time"
    begin, end = span_s(columns)
    if end <= begin or not np.isfinite(columns.at_s["ended"]).any():
        return Absent(title, "No request was sent and ended.")
    edges = np.linspace(begin, end, max(5, min(_BINS, len(columns) // 8)) + 1)
    width = float(edges[1] - edges[0])
    rows = 2 if (tokens := _token_rate(columns, edges)) is not None else 1
    figure = make_subplots(rows=rows, shared_xaxes=True, vertical_spacing=0.09)
    unit = time_of(summary, columns, figure)
    ended, ok = columns.at_s["ended"], columns.status == OK
    lines = (
        ("due", columns.at_s["scheduled"], GREY, "dot"),
        ("answered", ended[ok], GREEN, "solid"),
        ("failed", ended[columns.status == ERROR], RED, "dash"),
    )
    for name, instants, colour, dash in lines:
        known = instants[np.isfinite(instants)]
        if len(known):
            rate = np.histogram(known, edges)[0] / width
            _add_rate(figure, edges, rate, name, colour, dash, unit, 1, "requests/s")
    figure.update_yaxes(title={"text": "requests/s"}, rangemode="tozero", tickformat=",~r", row=1, col=1)
    if tokens is not None:
        _add_rate(figure, edges, tokens, "output tokens", ORANGE, "solid", unit, 2, "tokens/s")
        figure.update_yaxes(
            title={"text": "output tokens/s"}, rangemode="tozero", tickformat=",~r", row=2, col=1
        )
        figure.update_xaxes(title={"text": ""}, row=1, col=1)
    note = beside(summary, columns, f"Each step is {number(width)} s long. {_never_sent(summary)}")
    if tokens is not None:
        note += " Tokens of an answer count as if they came evenly between its first and its last."
    return Chart("throughput", title, figure, _rate_words(summary), note, 480 if rows == 2 else 380)


def _add_rate(
    figure: go.Figure,
    edges: Floats,
    rate: Floats,
    name: str,
    colour: str,
    dash: str,
    unit: TimeUnit,
    row: int,
    what: str,
) -> None:
    figure.add_scatter(
        x=edges / unit.seconds,
        y=np.append(rate, rate[-1]),
        name=name,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2, "shape": "hv"},
        hovertemplate=f"{name} %{{y:,.4~g}} {what}<extra></extra>",
        row=row,
        col=1,
    )


def _token_rate(columns: Columns, edges: Floats) -> Floats | None:
    """Output tokens a second in each bin; `None` where no answer told."""
    first, last = columns.at_s["first_token"], columns.at_s["last_token"]
    known = (columns.status == OK) & np.isfinite(columns.completion_tokens)
    whole = known & ~np.isfinite(first) & np.isfinite(columns.at_s["ended"])
    streamed = known & np.isfinite(first) & np.isfinite(last)
    if not (whole | streamed).any():
        return None
    tokens, longer = columns.completion_tokens, streamed & (last > first)
    at_once = np.concatenate([columns.at_s["ended"][whole], first[streamed & ~longer]])
    counts = np.concatenate([tokens[whole], tokens[streamed & ~longer]])
    arrived = np.histogram(at_once, edges, weights=counts)[0]
    slope = tokens[longer] / (last[longer] - first[longer])
    total = _ramp(first[longer], slope)(edges) - _ramp(last[longer], slope)(edges)
    return np.asarray((arrived + np.maximum(np.diff(total), 0)) / (edges[1] - edges[0]))


def _ramp(begins: Floats, slopes: Floats) -> Callable[[Floats], Floats]:
    """t -> the sum over all of slope x (t - begin), of those that have begun."""
    order = np.argsort(begins)
    at = begins[order]
    total = np.concatenate([[0.0], np.cumsum(slopes[order])])
    moment = np.concatenate([[0.0], np.cumsum(slopes[order] * at)])

    def at_times(t: Floats) -> Floats:
        place = np.searchsorted(at, t, side="right")
        return np.asarray(total[place] * t - moment[place])

    return at_times


def _rate_words(summary: Summary) -> str:
    bench = summary.bench
    if bench is not None:
        span = bench.steady if bench.steady.seconds else bench.whole
        where = "In the steady window" if span is bench.steady else "Over the whole run"
        parts = [
            f"{number(rate)} {what}"
            for rate, what in (
                (span.request_throughput, "requests/s"),
                (span.output_throughput, "output tokens/s"),
            )
            if rate is not None
        ]
        return f"{where}: {', '.join(parts) or 'no rate is known'}."
    told = [s.requests_per_s for s in summary.sessions if s.requests_per_s is not None]
    if len(told) == 1:
        return f"{number(told[0])} answers/s over the whole session."
    return f"{several(summary.requests.ok, 'answer')} in {several(len(summary.sessions), 'session')}."
