"""When requests go: pure functions of the load and the seed, made before the start.

    plan = schedule(load, seed)          # open loops and traces: when every request goes
    steps = places(load)                 # closed loops: how many at once, from when on

An arrival process is made in two steps. First its points at a mean of one a second: 0, 1, 2, ...
(constant), or the sums of random gaps of mean 1 (poisson: exponential; gamma: shape `burstiness`, so that
the variance of a gap is 1 / burstiness). Then every point x is moved to the time t at which the integral of
the asked rate from 0 to t is x. By the time-rescaling theorem (Brown, Barbieri, Ventura, Kass and Frank,
Neural Computation 14, 2002; inversion in Cinlar, Introduction to Stochastic Processes, 1975) a Poisson
process becomes one of just that rate, ramps included.

Gaps are drawn as the inverse CDF of `random.Random(seed).random()`, one draw a gap: the only numbers of
`random` that Python promises to keep. The gamma's inverse is scipy's `gammaincinv`; another version of it
may move an arrival by a nanosecond.

Because points come in order, a longer load begins with the whole of a shorter one.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from msgspec import Struct

from scenarios.scenario import Load
from scenarios.trace import TraceRow

NS = 1_000_000_000
MOST_ARRIVALS = 5_000_000
"""Of one schedule, which is made before the start and kept in memory."""
_CHUNK = 4096


class Schedule(Struct, frozen=True, eq=False):
    """When requests go, in nanoseconds from the start of the load."""

    offsets_ns: array[int]
    """All arrivals, warm-up first, ascending."""
    warmup: int
    """So many of them are warm-up."""
    begin_ns: int
    end_ns: int
    """The measured part. Where a number of requests ends it, it ends with the last arrival."""
    mean_gap_ns: float | None
    """`None` where fewer than two arrivals are measured and no rate is given."""


class _Piece(Struct, frozen=True):
    """Some seconds in which the rate changes in a straight line. `points` is the integral up to its begin."""

    points: float
    begin_s: float
    duration_s: float
    rate: float
    slope: float

    def time(self, points: float) -> float:
        """Return when the integral reaches `points`: a root of rate t + slope t^2 / 2 = y."""
        y = points - self.points
        if y <= 0:
            return self.begin_s
        # This form of the root loses no digits where the slope is small, and takes 0.
        root = math.sqrt(max(0.0, self.rate * self.rate + 2 * self.slope * y))
        return self.begin_s + min(self.duration_s, 2 * y / (self.rate + root))


def schedule(load: Load, seed: int, rows: Sequence[TraceRow] | None = None) -> Schedule:
    """Return the arrivals of an open loop. A trace's are those of `rows` (see `trace.read_trace`).

    Raises:
        ValueError: the load has no arrivals, or no end.
    """
    if load.executor == "trace":
        if not rows:
            raise ValueError("a trace without rows has no arrivals")
        return _of_trace(load, rows)
    if load.executor == "constant-arrival-rate":
        if load.rate is None or not load.rate > 0:
            raise ValueError(f"load.rate is {load.rate}, not above 0")
        if load.duration is None and load.requests is None:
            raise ValueError("the load has no end: give load.duration or load.requests")
        rate, pieces = load.rate, [_Piece(0.0, 0.0, math.inf, load.rate, 0.0)]
    elif load.executor == "ramping-arrival-rate":
        rate, pieces = _first(load), _pieces(load)
        if not pieces:
            raise ValueError("load.stages hold no time at a rate above 0: no arrivals")
    else:
        raise ValueError(f"{load.executor} has no schedule: requests go when a place is free")
    return _of_process(load, seed, rate, pieces)


def expected(load: Load) -> float:
    """Return how many arrivals the schedule of an open loop will have, as far as the load says; else 0."""
    if load.executor == "constant-arrival-rate":
        rate = load.rate or 0.0
        measured = rate * (load.duration_s or 0.0) if load.requests is None else load.requests
    elif load.executor == "ramping-arrival-rate":
        rate, pieces = _first(load), _pieces(load)
        measured = pieces[-1].points + _area(pieces[-1]) if pieces else 0.0
    else:
        return 0.0  # a trace's rows are in memory as it is
    return measured + (load.warmup_requests or rate * (load.warmup_s or 0.0))


def stripe(whole: Schedule, i: int, n: int) -> Schedule:
    """Return every `n`-th arrival from the `i`-th on, for one of `n` workers. All stripes make the whole."""
    return Schedule(
        offsets_ns=whole.offsets_ns[i::n],
        warmup=len(range(i, whole.warmup, n)),
        begin_ns=whole.begin_ns,
        end_ns=whole.end_ns,
        mean_gap_ns=None if whole.mean_gap_ns is None else whole.mean_gap_ns * n,
    )


def measured_s(load: Load) -> float | None:
    """Return the seconds of the measured part; `None` where only a number of requests or a trace ends it."""
    limits = [] if load.duration_s is None else [load.duration_s]
    if load.executor.startswith("ramping"):
        limits.append(sum(stage.duration_s for stage in load.stages))
    return min(limits, default=None)


def places(load: Load) -> list[tuple[int, int]]:
    """Return from when on (ns) how many requests of a closed loop go at once: the nearest whole number.

    A warm-up of some seconds stands at the front, at the first number above 0. One of some requests ends when
    they are done, so it is not in the list: the caller counts from there (see `warmup_places`).
    """
    if load.executor == "constant-concurrency":
        if not load.concurrency or load.concurrency < 1:
            raise ValueError(f"load.concurrency is {load.concurrency}, not 1 or more")
        return [(0, load.concurrency)]
    if load.executor != "ramping-concurrency":
        raise ValueError(f"{load.executor} has no places: requests go at their time")
    begin_ns = round((load.warmup_s or 0.0) * NS)
    steps = [(0, warmup_places(load))] if begin_ns else []
    steps.append((begin_ns, _whole(load.start)))
    at, value = begin_ns, load.start
    for stage in load.stages:
        long_ns = round(stage.duration_s * NS)
        steps += [(at + offset, count) for offset, count in _steps(value, stage.target, long_ns)]
        at, value = at + long_ns, stage.target
    return _without_repeats(steps)


def warmup_places(load: Load) -> int:
    """Return how many requests of a closed loop go at once while it warms up."""
    return load.concurrency or max(1, _whole(_first(load)))


def _first(load: Load) -> float:
    """Return the rate or places of a ramp's warm-up: where it begins, or the first target where that is 0."""
    return load.start or next((stage.target for stage in load.stages if stage.target > 0), 0.0)


def _whole(value: float) -> int:
    return math.floor(value + 0.5)


def _steps(start: float, target: float, long_ns: int) -> Iterator[tuple[int, int]]:
    """Yield when the nearest whole number changes on a straight line, and to what."""
    first, last = _whole(start), _whole(target)
    if long_ns > 0:
        step = 1 if last > first else -1
        for count in range(first + step, last + step, step) if first != last else ():
            edge = count - 0.5 if step > 0 else count + 0.5
            yield min(long_ns, round(long_ns * (edge - start) / (target - start))), count
    yield long_ns, last


def _without_repeats(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep the last step of every moment, and only where it changes something."""
    kept: list[tuple[int, int]] = []
    for at, count in steps:
        if kept and kept[-1][0] == at:
            kept.pop()
        if not kept or kept[-1][1] != count:
            kept.append((at, count))
    return kept


def _pieces(load: Load) -> list[_Piece]:
    """Return the stages of a ramp in which anything arrives."""
    pieces = []
    points, at, rate = 0.0, 0.0, load.start
    for stage in load.stages:
        long_s = stage.duration_s
        if long_s > 0 and (rate > 0 or stage.target > 0):
            pieces.append(_Piece(points, at, long_s, rate, (stage.target - rate) / long_s))
            points += long_s * (rate + stage.target) / 2
        at, rate = at + long_s, stage.target
    return pieces


def _of_process(load: Load, seed: int, rate: float, pieces: list[_Piece]) -> Schedule:
    points = _points(load, seed)
    offsets: array[int] = array("q")
    before, point = _warm_up(load, rate, points, offsets)
    warmup = len(offsets)
    begin_s = before / rate
    begin_ns = round(begin_s * NS)
    limit_s = measured_s(load)
    end_ns = None if limit_s is None else begin_ns + round(limit_s * NS)
    ends = [piece.points for piece in pieces[1:]]
    total = pieces[-1].points + _area(pieces[-1])
    most = math.inf if load.requests is None else warmup + load.requests
    while len(offsets) < most and point - before <= total:
        x = point - before
        at_ns = round((begin_s + pieces[bisect_right(ends, x)].time(x)) * NS)
        if end_ns is not None and at_ns >= end_ns:
            break
        offsets.append(at_ns)
        point = next(points)
    if end_ns is None or len(offsets) >= most:
        end_ns = offsets[-1] if len(offsets) > warmup else begin_ns
    gap = NS / rate if load.executor == "constant-arrival-rate" else _mean_gap(offsets, warmup)
    return Schedule(offsets, warmup, begin_ns, end_ns, gap)


def _area(piece: _Piece) -> float:
    if math.isinf(piece.duration_s):
        return math.inf
    return piece.duration_s * (piece.rate + piece.slope * piece.duration_s / 2)


def _warm_up(load: Load, rate: float, points: Iterator[float], offsets: array[int]) -> tuple[float, float]:
    """Add the warm-up's arrivals; return how much of the process they use up, and the first point after.

    A number of random arrivals ends with the last of them, where the process starts anew. A number of
    constant ones ends where the next is due.
    """
    before = 0.0
    point = next(points)
    if load.warmup_requests:
        for _ in range(load.warmup_requests):
            offsets.append(round(point / rate * NS))
            before, point = point, next(points)
        return (point if load.arrival == "constant" else before), point
    if load.warmup_s:
        before, end_ns = load.warmup_s * rate, round(load.warmup_s * NS)
        while (at_ns := round(point / rate * NS)) < end_ns:
            offsets.append(at_ns)
            point = next(points)
        before = min(before, point)  # rounding must not put a measured point before the begin
    return before, point


def _points(load: Load, seed: int) -> Iterator[float]:
    """Yield the points of the process at a mean of one a second, without end."""
    if load.arrival == "constant":
        count = 0
        while True:
            yield float(count)
            count += 1
    at = 0.0
    for gap in _gaps(load, seed):
        at += gap
        yield at


def _gaps(load: Load, seed: int) -> Iterator[float]:
    draw = random.Random(seed).random  # noqa: S311 (a schedule, no secret)
    shape = load.burstiness
    if load.arrival == "poisson" or shape == 1:
        log = math.log
        while True:
            yield -log(1.0 - draw())
    if not shape > 0:
        raise ValueError(f"load.burstiness is {shape}, not above 0")
    from scipy.special import gammaincinv  # a third of a second, for one of three processes

    while True:
        yield from (gammaincinv(shape, [draw() for _ in range(_CHUNK)]) / shape).tolist()


def _of_trace(load: Load, rows: Sequence[TraceRow]) -> Schedule:
    """Return a trace's own times, `speed` times faster. Its first seconds or rows are the warm-up."""
    if not load.speed > 0:
        raise ValueError(f"load.speed is {load.speed}, not above 0")
    first, scale = rows[0].at_s, NS / load.speed
    offsets = array("q", (round((row.at_s - first) * scale) for row in rows))
    if load.warmup_requests:
        warmup = min(load.warmup_requests, len(offsets))
        begin_ns = offsets[min(warmup, len(offsets) - 1)]
    else:
        begin_ns = round((load.warmup_s or 0.0) * NS)
        warmup = sum(1 for at in offsets if at < begin_ns)
    if load.requests is not None:
        del offsets[warmup + load.requests :]
    end_ns = max(begin_ns, offsets[-1])
    if load.duration_s is not None and begin_ns + round(load.duration_s * NS) <= end_ns:
        end_ns = begin_ns + round(load.duration_s * NS)
        del offsets[warmup + sum(1 for at in offsets[warmup:] if at < end_ns) :]
    return Schedule(offsets, warmup, begin_ns, end_ns, _mean_gap(offsets, warmup))


def _mean_gap(offsets: array[int], warmup: int) -> float | None:
    gaps = len(offsets) - warmup - 1
    return (offsets[-1] - offsets[warmup]) / gaps if gaps > 0 else None
