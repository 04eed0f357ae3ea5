"""Every chart of a run, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go

from reports import breakdowns, curves, health, timelines
from reports.columns import Columns, observe
from reports.page import Absent, Chart
from reports.summary import Summary

Draw = Callable[[Summary, Columns], Chart | Absent]

# In the order of the page.
CHARTS: dict[str, Draw] = {
    "percentiles": curves.percentile_chart,
    "ecdf": curves.ecdf_chart,
    "latency": timelines.latency_over_time,
    "in_flight": timelines.in_flight,
    "throughput": timelines.throughput,
    "prompt_length": breakdowns.ttft_by_prompt,
    "slowest": breakdowns.waterfall,
    "errors": breakdowns.error_kinds,
    "late_sends": health.send_lateness,
    "loop_lag": health.loop_lag,
    "server": health.server,
}


def charts(summary: Summary, columns: Columns) -> dict[str, Chart | Absent]:
    """Every chart, or why there is none."""
    return {name: draw(summary, columns) for name, draw in CHARTS.items()}


def figures(run: str | Path) -> dict[str, go.Figure]:
    """The charts of a run's report as plotly figures, those it has data for, in the order of the report.

    Args:
        run: the run directory.

    Returns:
        By name: percentiles, ecdf, latency, in_flight, throughput, prompt_length, slowest, errors,
        late_sends, loop_lag, server. Long runs are thinned for drawing, with their extremes kept.

    Raises:
        StoreError: there is no such run directory.
    """
    found = charts(*observe(run))
    return {name: chart.figure for name, chart in found.items() if isinstance(chart, Chart)}
