"""A sweep laid out for every format people read: its sentence, its table, its curves as sparklines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from reports.bench_tables import UNKNOWN
from reports.cells import NONE, amount, number, several, share
from reports.distribution import NEEDS, RELIABLE
from reports.layout import Fact, Table, cut
from reports.sweep import LOADS, Curve, Point, at, groups, shown

_BARS = "▁▂▃▄▅▆▇█"
_NOT_QUOTED = "×"  # noqa: RUF001 (a mark that is no letter)
_SENT = {"load.concurrency": "answers/s"}


def title(curve: Curve) -> str:
    """What was swept."""
    what = " and ".join(curve.keys)
    how = "searched" if curve.mode == "until" else "swept"
    return f"{curve.scenario}: {what} {how}, {several(len(curve.points), 'point')}"


def sentences(curve: Curve) -> list[str]:
    """What came out: the answer of a search, or the knee of each curve."""
    if curve.answer is not None:
        return [curve.answer.words]
    out = []
    for knee in curve.knees:
        where = f"{at(knee.where)}: " if knee.where else ""
        out.append(f"{where}{'knee at ' if knee.run else ''}{knee.words}")
    return out


def facts(curve: Curve) -> list[Fact]:
    """What was run."""
    out = [("target", curve.target)] if curve.target else []
    if curve.load:
        out.append(("first point", curve.load))
    if curve.thresholds:
        out.append(("held to", ", ".join(curve.thresholds)))
    return out


def verdict_of(point: Point) -> str:
    """In a word: what a point is worth."""
    if point.state != "done":
        return {"planned": "not run", "running": "not finished", "cut": "cut short"}.get(
            point.state, point.state
        )
    if not point.fit:  # INVALID is of this client; that nothing succeeded is of the target
        return "fails" if point.nothing_succeeded else "INVALID"
    if not point.stable:
        return "UNSTABLE"
    return {True: "meets", False: "fails", None: "unknown"}[point.meets]


def _judged(point: Point) -> str:
    more = [label for label in point.labels if label != "UNSTABLE"]
    if point.validity == "WARN":
        more.insert(0, "WARN")
    if point.stage == "confirm":
        more.append("again")
    return " ".join([verdict_of(point), *more])


def table(curve: Curve) -> tuple[Table, int]:
    """A row a point, and how many of its columns are text."""
    keys = [*(key for key in curve.keys if key not in LOADS), *(key for key in curve.keys if key in LOADS)]
    sent = _SENT.get(curve.load_key or "", "sent/s")
    header = [
        *(key.rpartition(".")[2] for key in keys),
        *(sent, "output tok/s", "goodput", "ttft_sched p50", "p95, ms", "tpot p50", "errors", "judged"),
    ]
    return Table(header, [_row(point, keys) for point in curve.points]), 0


def _row(point: Point, keys: Sequence[str]) -> list[str]:
    where = [cut(shown(point.values.get(key)), 24) for key in keys]
    errors = UNKNOWN if point.errors_share is None else share(point.errors_share)
    if point.state != "done" or not point.fit:
        return [*where, *[NONE] * 6, errors if point.nothing_succeeded else NONE, _judged(point)]
    least = ">=" if point.output_tokens_at_least else ""
    rates = [
        _number(point.rate_sent_per_s),
        UNKNOWN if point.output_tokens_per_s is None else least + number(point.output_tokens_per_s),
    ]
    times = [
        UNKNOWN if point.goodput_share is None else share(point.goodput_share),
        _percentile(point.ttft_sched_p50_ms, 50, point.ttft_sched_n),
        _percentile(point.ttft_sched_p95_ms, 95, point.ttft_sched_n),
        _percentile(point.tpot_p50_ms, 50, point.tpot_n),
    ]
    if not point.stable:
        times = ["unstable"] * len(times)
    return [*where, *rates, *times, errors, _judged(point)]


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else number(value)


def _percentile(value: float | None, p: int, n: int) -> str:
    if value is None:
        return NONE if not n else f"n/a ({NEEDS[p]})"
    return ("~" if n < RELIABLE[p] else "") + number(value)


def money(curve: Curve) -> Table:
    """Throughput by GPU, and what tokens cost. No rows where nobody said how many GPUs."""
    rows = []
    for point in curve.points:
        gpu = point.gpu
        if gpu is None or not point.fit:
            continue
        cost = gpu.usd_per_million_output_tokens
        each, cents = _number(gpu.output_tokens_per_s), UNKNOWN if cost is None else f"${amount(cost)}"
        rows.append([at(point.values), str(gpu.gpus), each, cents, verdict_of(point)])
    return Table(["point", "GPUs", "output tok/s/GPU", "$/M output tokens", "judged"], rows)


def reasons(curve: Curve) -> list[str]:
    """Why points do not meet what they are held to."""
    return [f"{at(point.values)}: {point.why}" for point in curve.points if point.why]


# -- sparklines

SERIES: tuple[tuple[str, Callable[[Point], float | None], bool], ...] = (
    ("output tokens/s", lambda point: point.output_tokens_per_s, False),
    ("ttft_sched p95, ms", lambda point: point.ttft_sched_p95_ms, True),
    ("tpot p50, ms", lambda point: point.tpot_p50_ms, True),
    ("good requests/s", lambda point: point.goodput_per_s, True),
)
"""Name, value, and whether it is quoted of stable points only."""


def curves(curve: Curve) -> list[tuple[str, Table]]:
    """A small table a curve: its points from left to right, drawn from 0 to the highest value."""
    out = []
    for where, points in groups(curve):
        done = [point for point in points if point.state == "done"]
        if len(done) < 2:
            continue
        rows = [row for name, value, stable in SERIES if (row := _spark(name, done, value, stable))]
        if rows:
            out.append(
                (_caption(curve, where, done), Table(["left to right", "", "lowest", "highest"], rows))
            )
    return out


def _caption(curve: Curve, where: dict[str, Any], points: list[Point]) -> str:
    key = curve.load_key
    if key is None:
        return "Curves, in the order of the table"
    first, last = (shown(points[n].values[key]) for n in (0, -1))
    return f"Curves, {key} {first} to {last}" + (f" at {at(where)}" if where else "")


def _spark(
    name: str, points: list[Point], value: Callable[[Point], float | None], stable: bool
) -> list[str] | None:
    values = [value(point) if point.fit and (point.stable or not stable) else None for point in points]
    known = [one for one in values if one is not None]
    if not known:
        return None
    drawn = "".join(_NOT_QUOTED if one is None else bar(one, max(known)) for one in values)
    return [name, drawn, number(min(known)), number(max(known))]


def bar(value: float, most: float) -> str:
    """One of eight heights, from 0 to `most`."""
    if most <= 0:
        return _BARS[0]
    return _BARS[min(len(_BARS) - 1, max(0, math.ceil(value / most * len(_BARS)) - 1))]


def line(point: Point) -> str:
    """A point in one line, for who watches."""
    parts = [] if point.why.startswith(_judged(point)) else [_judged(point)]
    if point.fit and point.output_tokens_per_s is not None:
        parts.append(f"{number(point.output_tokens_per_s)} output tokens/s")
    if point.quotable and point.ttft_sched_p95_ms is not None:
        parts.append(f"ttft_sched p95 {number(point.ttft_sched_p95_ms)} ms")
    if point.errors_share is not None:
        parts.append(f"errors {share(point.errors_share)}")
    return ": ".join(part for part in (", ".join(parts), point.why) if part)
