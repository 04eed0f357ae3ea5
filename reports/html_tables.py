"""The tables of a run's page: the same numbers as every other format, laid out for a browser."""

from __future__ import annotations

from collections.abc import Iterable

from reports import layout
from reports.bench import Outcome
from reports.bench import Verdict as Judged
from reports.bench_tables import goodput_cell
from reports.cells import NONE, count, number, percentile, percentile_with_failures, share
from reports.distribution import PERCENTILES, Distribution
from reports.page import Cell, Column, Mark, Measured, Table, Tile, Tone
from reports.summary import RATES, TIMES, Summary

TONES: dict[Outcome, Tone] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}
_MEANS = {
    "ttft": "sent to first token",
    "ttft_sched": "due to first token",
    "ttfc": "sent to first content",
    "ttfb": "sent to headers",
    "itl": "between chunks, pooled",
    "tpot": "time per output token",
    "e2e": "sent to end",
    "e2e_sched": "due to end",
    "delay": "due to sent",
    "connect": "opening a connection",
    "stall": "longest gap of a stream",
    "output_rate": "tokens/s of a stream",
}


def grid(caption: str, table: layout.Table, *, text_columns: int = 1, note: str = "") -> Table:
    """A table of the other formats; its first columns are text."""
    columns = [
        Column(name or "measure", align="left" if place < text_columns else "right")
        for place, name in enumerate(table.header)
    ]
    rows: list[list[Cell]] = [list(row) for row in table.rows]
    return Table(caption, columns, rows, note)


def latency_table(summary: Summary) -> Table:
    """Every time and rate that has values: n, percentiles with their intervals, mean, maximum."""
    found = [(name, summary.metrics[name]) for name in (*TIMES, *RATES)]
    rows = [_latency_row(name, d) for name, d in found if d.n]
    intervals = any(d.ci for _, d in found)
    rated = any(name in RATES and d.n for name, d in found)
    note = "In ms, but output_rate, which is in tokens/s." if rated else "In ms."
    if intervals:
        note += " Below each percentile: its 99 % interval, for this run."
    return Table(
        "Times of answered, streamed requests",
        [
            Column("metric", align="left"),
            Column("from, to", align="left"),
            Column("n"),
            *(Column(f"p{p}") for p in PERCENTILES),
            Column("mean"),
            Column("max"),
        ],
        rows,
        note.strip(),
    )


def _latency_row(name: str, d: Distribution) -> list[Cell]:
    cells: list[Cell] = [Measured(percentile(d, p), interval(d, p)) for p in PERCENTILES]
    return [name, _MEANS[name], count(d.n), *cells, number(d.mean), number(d.max)]


def interval(d: Distribution, p: int) -> str:
    """The interval of a percentile, where it has one."""
    low, high = d.ci.get(f"p{p}", (None, None))
    if low is None and high is None:
        return ""
    return f"{'?' if low is None else number(low)} to {'?' if high is None else number(high)}"


def second_reading(summary: Summary) -> Table | None:
    """Percentiles with every request without an answer as endless; `None` where all were answered."""
    rows: list[list[Cell]] = []
    for name in TIMES:
        d = summary.metrics[name]
        second = d.with_failures
        if second and second.failures and d.n:
            cells = [percentile_with_failures(second, p) for p in PERCENTILES]
            rows.append([name, count(second.n), count(second.failures), *cells])
    columns = [Column("metric", align="left"), Column("n"), Column("of them no answer")]
    columns += [Column(f"p{p}", "ms") for p in PERCENTILES]
    note = "inf: so many requests got no answer that this percentile is one of them."
    return (
        Table("The same, with requests without an answer as endless", columns, rows, note) if rows else None
    )


def threshold_table(judged: Iterable[Judged]) -> Table:
    """A row a threshold."""
    rows: list[list[Cell]] = [
        [
            one.threshold + (" (default)" if one.default else ""),
            Mark(one.verdict, TONES[one.verdict]),
            one.words,
        ]
        for one in judged
    ]
    columns = [
        Column("threshold", align="left"),
        Column("verdict", align="left"),
        Column("measured", align="long"),
    ]
    return Table("Thresholds", columns, rows)


def tiles(summary: Summary) -> list[Tile]:
    """The numbers that are looked for first; those that are not known are left out."""
    out = []
    for name, p, label in (
        ("ttft", 50, "TTFT, median"),
        ("ttft_sched", 99, "TTFT from schedule, p99"),
        ("itl", 50, "ITL, median"),
        ("e2e", 50, "E2E, median"),
    ):
        d = summary.metrics[name]
        if d.percentiles[f"p{p}"] is not None:
            ends = interval(d, p)
            beside = f"n = {d.n:,}" + (f" · {ends}" if ends else "")
            out.append(Tile(label, percentile(d, p), "ms", beside))
    bench = summary.bench
    if bench is not None:
        span, where = (bench.steady, "steady window") if bench.steady.seconds else (bench.whole, "whole run")
        for rate, label, unit in (
            (span.request_throughput, "Answers", "/s"),
            (span.output_throughput, "Output", "tokens/s"),
        ):
            if rate is not None:
                out.append(Tile(label, number(rate), unit, f"{span.answers:,} answers, {where}"))
        good = bench.goodput
        if good.slo_ms and good.low is not None:
            out.append(Tile("Goodput", goodput_cell(good), "", f"{good.met:,} of {good.of:,} met the SLO"))
    requests = summary.requests
    if requests.errors_share is not None:
        of = f"{requests.error:,} of {requests.ok + requests.error:,}"
        out.append(Tile("Failed", share(requests.errors_share), "", of))
    elif requests.total:
        out.append(Tile("Answered", count(requests.ok) or NONE, "", f"of {requests.total:,}"))
    return out
