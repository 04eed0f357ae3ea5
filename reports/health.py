"""The client's own health, and what the server said of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports.axes import add_limit, ms_axis
from reports.cells import number, share
from reports.columns import Columns
from reports.gauge import window
from reports.page import Absent, Chart
from reports.palette import BLUE, GREEN, GREY, ORANGE, PURPLE
from reports.server_metrics import KV_CACHE, RUNNING, WAITING, server_values
from reports.summary import Summary
from reports.thinning import extremes
from reports.timelines import beside, thinned, time_of
from reports.validity import LAG_SHARES, LIMITS

_SPANS = 600
_NO_BENCH = "Only `bench` measures the client itself; this is a `run`."


def send_lateness(summary: Summary, columns: Columns) -> Chart | Absent:
    """How late each request was sent though a place was free for it."""
    title = "Late sends"
    bench = summary.bench
    if bench is None:
        return Absent(title, _NO_BENCH)
    connect = np.where(columns.retried, 0.0, np.nan_to_num(columns.ms["connect"]))
    late = np.maximum(columns.ms["delay"] - connect, 0)
    free = columns.measured & np.isfinite(late) & (columns.ms["held"] == 0)
    span = window(bench.load)
    if not bench.load.is_open and span is not None:  # the start of a closed loop is no lateness: not counted
        due = columns.at_s["scheduled"]
        free &= (due >= span[0] / 1e9) & (due < span[1] / 1e9)
    if not free.any():
        return Absent(title, "No request was sent with a place free for it.")
    figure = go.Figure()
    unit = time_of(summary, columns, figure)
    x, y = columns.at_s["scheduled"][free], late[free]
    places = extremes(x, y, _SPANS)
    figure.add_scatter(
        x=x[places] / unit.seconds,
        y=y[places],
        customdata=columns.input[free][places],
        mode="markers",
        marker={"size": 5, "color": PURPLE, "opacity": 0.6},
        hovertemplate="request %{customdata}: sent %{y:,.2f} ms late<extra></extra>",
    )
    figure.update_yaxes(ms_axis(y, title="sent late by", log=False))
    client = bench.client
    if client.late_over_ms is not None:
        add_limit(figure, client.late_over_ms, f"late: over {client.late_over_ms:g} ms")
    words = f"Half of the sends were at most {number(float(np.median(y)))} ms late, the latest "
    words += f"{number(float(y.max()))} ms."
    if client.late_share is not None:
        words = (
            f"{client.late:,} of {client.sends:,} sends ({share(client.late_share)}) count as late. {words}"
        )
    note = "The time to open a connection is left out, as are requests that waited for a place"
    note += "." if bench.load.is_open else ", and all before and after the steady window."
    drawn = thinned(len(x), len(places))
    return Chart("late-sends", title, figure, words, beside(summary, columns, f"{note} {drawn}"), 320)


def loop_lag(summary: Summary, columns: Columns) -> Chart | Absent:
    """How late the client's event loop ran, against the limits."""
    title = "Event-loop lag of the client"
    del columns
    if summary.bench is None:
        return Absent(title, _NO_BENCH)
    lag = summary.bench.client.lag
    if lag is None:
        return Absent(title, "The loop's lag was not measured: the session wrote no end.")
    values = [("p50", lag.p50_ms), ("p99", lag.p99_ms), ("max", lag.max_ms)]
    known = [(name, value) for name, value in values if value is not None]
    figure = go.Figure()
    figure.add_bar(
        y=[f"{name} " for name, _ in known],
        x=[value for _, value in known],
        text=[f"{number(value)} ms" for _, value in known],
        textposition="outside",
        cliponaxis=False,
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:,.2f} ms<extra></extra>",
    )
    ttft = summary.metrics["ttft"].percentiles["p50"] or 0.0
    for level, fixed, part in zip(("WARN", "INVALID"), LIMITS["loop_lag_p99_ms"], LAG_SHARES, strict=True):
        at = max(fixed or 0.0, part * ttft)
        add_limit(figure, at, f"{level}: p99 over {number(at)} ms", vertical=True)
    most = max([*(value for _, value in known), 1.2 * max(LIMITS["loop_lag_p99_ms"][1] or 0, 0.1 * ttft)])
    figure.update_layout(
        xaxis={"title": {"text": "lag (ms)"}, "range": [0, most * 1.25], "tickformat": ",~r"},
        yaxis={"type": "category", "autorange": "reversed"},
    )
    words = f"p50 {number(lag.p50_ms)} ms, p99 {number(lag.p99_ms)} ms, at most {number(lag.max_ms)} ms"
    return Chart("loop-lag", title, figure, f"{words}, over {lag.n:,} ticks.", height_px=260)


def server(summary: Summary, columns: Columns) -> Chart | Absent:
    """Requests running and queued, and the use of the KV cache, as the server counts them."""
    title = "The server's own metrics"
    run = Path(summary.path)
    pages = list(server_values(run))
    if not pages:
        told = summary.bench.server if summary.bench else None
        why = "Pages were scraped, but none held a name known here." if told and told.pages else ""
        return Absent(title, why or "No metrics were scraped (`bench --metrics-url URL` does).")
    names = {name for _, values in pages for name in values}
    counts, cache = names & {RUNNING, WAITING}, KV_CACHE in names
    rows = [counts] * bool(counts) + [{KV_CACHE}] * cache
    figure = make_subplots(rows=len(rows), shared_xaxes=True, vertical_spacing=0.09)
    unit = time_of(summary, columns, figure)
    styles = {
        RUNNING: ("running", GREEN, "solid", 1.0),
        WAITING: ("queued", ORANGE, "dash", 1.0),
        KV_CACHE: ("KV cache in use", GREY, "solid", 100.0),
    }
    at, words = np.array([t for t, _ in pages]), []
    for row, group in enumerate(rows, 1):
        for name in (name for name in styles if name in group):
            label, colour, dash, times = styles[name]
            y = np.array([times * values.get(name, np.nan) for _, values in pages])
            places = extremes(at, y, _SPANS)
            unit_name = " %" if name == KV_CACHE else ""
            figure.add_scatter(
                x=at[places] / unit.seconds,
                y=y[places],
                name=label,
                mode="lines" if len(places) > 1 else "markers",
                line={"color": colour, "dash": dash, "width": 2, "shape": "hv"},
                hovertemplate=f"{label}: %{{y:,.4~g}}{unit_name}<extra></extra>",
                row=row,
                col=1,
            )
            words.append(f"{label} {number(float(np.nanmax(y)))}{unit_name} at most")
        title_text = "cache (%)" if group == {KV_CACHE} else "requests"
        figure.update_yaxes(title={"text": title_text}, rangemode="tozero", row=row, col=1)
        if row < len(rows):
            figure.update_xaxes(title={"text": ""}, row=row, col=1)
    alt = f"Over {len(pages):,} pages: {', '.join(words)}."
    return Chart("server", title, figure, alt, beside(summary, columns), 260 + 160 * (len(rows) - 1))
