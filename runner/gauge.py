"""What the client itself did during a load: how late its loop ran, its garbage pauses, its CPU.

A tick is due every 10 ms, on a schedule fixed at the start. How late the loop comes to it is how late it may
have come to anything else: a busy client shows in the p99 of that long before it shows in its CPU.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Protocol

TICK_NS = 10_000_000
_NS_PER_MS = 1e6
# A bucket is 1/32 of its power of two wide: no percentile is off by more than 3 %.
_SUB_BITS = 5
_SUB = 1 << _SUB_BITS
_TOP_BITS = 42  # ns: over an hour


class Timers(Protocol):
    """What is needed of a loop."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any:
        """Call back after `delay` seconds; what is returned can be cancelled."""


class Histogram:
    """Counts of times in ns, in buckets that grow with them. Memory does not depend on how many there are."""

    def __init__(self) -> None:
        self.n = 0
        self.max_ns = 0
        self._counts = [0] * ((_TOP_BITS - _SUB_BITS + 1) << _SUB_BITS)

    def add(self, value_ns: int) -> None:
        """Count a time; one below 0 is counted as 0."""
        value_ns = max(value_ns, 0)
        self.n += 1
        self.max_ns = max(self.max_ns, value_ns)
        shift = max(value_ns.bit_length() - _SUB_BITS - 1, 0)
        place = (shift << _SUB_BITS) + (value_ns >> shift)
        self._counts[min(place, len(self._counts) - 1)] += 1

    def percentile_ms(self, share: float) -> float | None:
        """The least time that so many percent of all do not exceed; `None` of none.

        It is the upper end of its bucket, and never above the largest time.
        """
        left = self.n * share / 100
        for place, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return min(_upper_end(place), self.max_ns) / _NS_PER_MS
        return None


def _upper_end(place: int) -> int:
    shift = max((place >> _SUB_BITS) - 1, 0)
    return ((place - (shift << _SUB_BITS) + 1) << shift) - 1


class Gauge:
    """Measures this process from `start` to `stop`. For one load: make another for the next."""

    def __init__(
        self,
        loop: Timers | None = None,
        clock: Callable[[], int] = monotonic_ns,
        cpu: Callable[[], tuple[float, float]] | None = None,
    ) -> None:
        """`loop`: the running one where not given; `cpu`: user and system seconds spent so far."""
        self._loop = loop
        self._clock = clock
        self._cpu = cpu or _cpu_s
        self._lag = Histogram()
        self._missed = 0
        self._due_ns = 0  # the next tick
        self._handle: Any = None
        self._pauses = Histogram()
        self._paused_ns = 0
        self._pause_began_ns: int | None = None
        self._began_ns = 0
        self._cpu_before = (0.0, 0.0)

    def start(self) -> None:
        """Begin. Must be called on the loop's thread."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._began_ns = self._clock()
        self._cpu_before = self._cpu()
        gc.callbacks.append(self._on_gc)
        self._due_ns = self._began_ns + TICK_NS
        self._arm(self._began_ns)

    def stop(self) -> dict[str, dict[str, float | int | None]]:
        """End, and say what was seen: `lag`, `gc` and `cpu`."""
        now = self._clock()
        if self._handle is None:  # never started: no tick was due
            self._began_ns, self._cpu_before = now, self._cpu()
        else:
            self._handle.cancel()
            self._handle = None
            self._count(now)  # what is due by now and was not come to
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)
        user_s, system_s = self._cpu()
        lag, pauses = self._lag, self._pauses
        return {
            "lag": {
                "n": lag.n,
                "p50_ms": lag.percentile_ms(50),
                "p99_ms": lag.percentile_ms(99),
                "max_ms": lag.max_ns / _NS_PER_MS if lag.n else None,
                "missed": self._missed,
            },
            "gc": {
                "pauses": pauses.n,
                "total_ms": self._paused_ns / _NS_PER_MS,
                "max_ms": pauses.max_ns / _NS_PER_MS,
            },
            "cpu": {
                "user_s": user_s - self._cpu_before[0],
                "system_s": system_s - self._cpu_before[1],
                "wall_s": (now - self._began_ns) / 1e9,
            },
        }

    def _arm(self, now: int) -> None:
        assert self._loop is not None
        self._handle = self._loop.call_later(max(self._due_ns - now, 0) / 1e9, self._tick)

    def _tick(self) -> None:
        now = self._clock()
        if now < self._due_ns:  # the loop's timer was early; the loop was not late
            self._lag.add(0)
            self._due_ns += TICK_NS
        else:
            self._count(now)
        self._arm(now)

    def _count(self, now: int) -> None:
        """Every tick due by now, each with its own lateness: a long pause is more than one late tick."""
        late = -1
        while self._due_ns <= now:
            self._lag.add(now - self._due_ns)
            self._due_ns += TICK_NS
            late += 1
        self._missed += max(late, 0)

    def _on_gc(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._pause_began_ns = self._clock()
        elif self._pause_began_ns is not None:
            pause = self._clock() - self._pause_began_ns
            self._pause_began_ns = None
            self._pauses.add(pause)
            self._paused_ns += pause


def over_all(own: dict[str, Any], workers: list[dict[str, Any]]) -> dict[str, Any]:
    """What several processes measured, as one, and each by itself.

    Args:
        own: of the parent, from `Gauge.stop`.
        workers: of each worker the same, with whatever else is known of it; of one that died, only that.
    """
    out = own if not workers else together([own, *(worker for worker in workers if "cpu" in worker)])
    cpu = out["cpu"]
    out = {"cpu_s": round(cpu["user_s"] + cpu["system_s"], 3), **out}
    return out if not workers else {**out, "parent": own, "workers": workers}


def together(gauges: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several processes measured at one time, as `Gauge.stop` tells it of one; nothing of none.

    What can be counted is summed up. Of lag it is the worst process's percentiles: none is averaged.
    """
    if not gauges:
        return {}

    def worst(part: str, name: str) -> Any:
        return max((one[part][name] for one in gauges if one[part].get(name) is not None), default=None)

    def total(part: str, name: str) -> Any:
        return sum(one[part].get(name, 0) for one in gauges)

    return {
        "lag": {
            "n": total("lag", "n"),
            **{name: worst("lag", name) for name in ("p50_ms", "p99_ms", "max_ms")},
            "missed": total("lag", "missed"),
        },
        "gc": {
            **{name: total("gc", name) for name in ("pauses", "total_ms")},
            "max_ms": worst("gc", "max_ms"),
        },
        "cpu": {
            **{name: total("cpu", name) for name in ("user_s", "system_s")},
            "wall_s": worst("cpu", "wall_s"),
        },
    }


def _cpu_s() -> tuple[float, float]:
    if sys.platform == "win32":
        times = os.times()
        return times.user, times.system
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime
