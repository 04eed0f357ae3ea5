"""The client's gauge, on clocks and loops that do as they are told."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gauge import TICK_NS, Gauge, Histogram, over_all

MS = 1_000_000


class FakeHandle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Its timers fire when the test says so; its clock is the gauge's."""

    def __init__(self) -> None:
        self.now = 5_000 * MS
        self.timers: list[tuple[int, Callable[[], None], FakeHandle]] = []

    def clock(self) -> int:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> FakeHandle:
        handle = FakeHandle()
        self.timers.append((self.now + round(delay * 1e9), callback, handle))
        return handle

    def fire(self, late_ns: int) -> None:
        due, callback, handle = self.timers.pop(0)
        assert not handle.cancelled
        self.now = max(self.now, due + late_ns)
        callback()


def started() -> tuple[FakeLoop, Gauge]:
    loop = FakeLoop()
    gauge = Gauge(loop, loop.clock, lambda: (loop.now / 2e9, loop.now / 4e9))
    gauge.start()
    return loop, gauge


def test_ticks_keep_to_the_schedule_of_the_start() -> None:
    loop, gauge = started()
    began = loop.now
    for number in range(1, 50):
        assert loop.timers[0][0] == began + number * TICK_NS
        loop.fire(late_ns=3 * MS)
    assert gauge.stop()["lag"]["n"] == 49


def test_lateness_is_counted_from_when_a_tick_was_due() -> None:
    loop, gauge = started()
    for late in [1 * MS] * 97 + [7 * MS] * 3:
        loop.fire(late)
    lag = gauge.stop()["lag"]
    assert lag["n"] == 100
    assert lag["p50_ms"] == pytest.approx(1, rel=0.04)
    assert lag["p99_ms"] == pytest.approx(7, rel=0.04)
    assert lag["max_ms"] == 7
    assert lag["missed"] == 0


def test_a_pause_counts_as_every_tick_it_spanned() -> None:
    loop, gauge = started()
    loop.fire(late_ns=35 * MS)  # due with it: those 10, 20 and 30 ms later
    lag = gauge.stop()["lag"]
    assert (lag["n"], lag["missed"], lag["max_ms"]) == (4, 3, 35)
    assert lag["p50_ms"] == pytest.approx(15, rel=0.04)


def test_a_timer_that_is_early_is_not_late_and_moves_nothing() -> None:
    loop, gauge = started()
    began = loop.now
    for _ in range(10):
        loop.fire(late_ns=-1_400_000)
    assert loop.timers[0][0] == began + 11 * TICK_NS
    lag = gauge.stop()["lag"]
    assert (lag["n"], lag["p99_ms"], lag["max_ms"], lag["missed"]) == (10, 0, 0, 0)


def test_a_pause_that_lasts_to_the_end_is_seen() -> None:
    loop, gauge = started()
    loop.now += 100 * MS
    lag = gauge.stop()["lag"]
    assert (lag["n"], lag["max_ms"], lag["missed"]) == (10, 90, 9)
    assert loop.timers[0][2].cancelled


def test_what_never_ticked_has_no_lag() -> None:
    _, gauge = started()
    assert gauge.stop()["lag"] == {"n": 0, "p50_ms": None, "p99_ms": None, "max_ms": None, "missed": 0}


def test_cpu_and_wall_are_those_of_the_load() -> None:
    loop, gauge = started()
    loop.now += 8_000 * MS
    assert gauge.stop()["cpu"] == {"user_s": 4.0, "system_s": 2.0, "wall_s": 8.0}


def test_garbage_pauses_are_counted_until_the_end() -> None:
    loop, gauge = started()
    before = gauge._pauses.n
    gc.collect()
    loop.now += 1
    seen: dict[str, Any] = gauge.stop()["gc"]
    assert seen["pauses"] > before
    gc.collect()
    assert gauge._pauses.n == seen["pauses"]
    assert gauge._on_gc not in gc.callbacks


def test_pauses_add_up() -> None:
    loop, gauge = started()
    gc.disable()  # none but ours
    try:
        for pause in (3, 5):
            gauge._on_gc("start", {})
            loop.now += pause * MS
            gauge._on_gc("stop", {})
        gauge._on_gc("stop", {})  # began before the gauge did
        assert gauge.stop()["gc"] == {"pauses": 2, "total_ms": 8, "max_ms": 5}
    finally:
        gc.enable()


async def test_a_blocked_loop_shows_in_the_p99() -> None:
    gauge = Gauge()
    gauge.start()
    await asyncio.sleep(0)
    time.sleep(0.12)  # noqa: ASYNC251 - blocking is the point
    await asyncio.sleep(0)
    lag = gauge.stop()["lag"]
    assert (lag["p99_ms"] or 0) >= 100
    assert (lag["missed"] or 0) >= 10


@given(st.lists(st.integers(0, 10**13), min_size=1), st.sampled_from([0, 1, 50, 90, 99, 100]))
def test_percentiles_are_those_of_the_values_within_a_bucket(values: list[int], share: int) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    true = ordered[max(-(-len(values) * share // 100) - 1, 0)]
    found = histogram.percentile_ms(share)
    assert found is not None
    if true < 1 << 42:
        assert true / 1e6 <= found + 1e-9
        assert found <= max(true / 1e6 * (1 + 1 / 32), 0)
    assert found <= max(values) / 1e6


def test_the_memory_of_a_histogram_does_not_grow() -> None:
    histogram = Histogram()
    size = len(histogram._counts)
    for value in (0, 1, 31, 32, 10**6, 10**12, 10**15, -7):
        histogram.add(value)
    assert len(histogram._counts) == size
    assert (histogram.n, histogram.max_ns) == (8, 10**15)
    assert histogram.percentile_ms(1) == 0


def test_one_that_never_began_counts_nothing_since_the_boot() -> None:
    loop = FakeLoop()
    seen = Gauge(loop, loop.clock, lambda: (7.0, 8.0)).stop()
    assert seen["lag"]["n"] == 0
    assert seen["cpu"] == {"user_s": 0.0, "system_s": 0.0, "wall_s": 0.0}


def measured(p99_ms: float | None, pause_ms: float, user_s: float, wall_s: float) -> dict[str, Any]:
    return {
        "lag": {"n": 3, "p99_ms": p99_ms},
        "gc": {"pauses": 1, "max_ms": pause_ms},
        "cpu": {"user_s": user_s, "system_s": 0.5, "wall_s": wall_s},
    }


def test_several_processes_are_as_late_as_the_worst_and_as_dear_as_all_of_them() -> None:
    own = measured(None, 1.0, 1.0, 9.0)
    workers = [measured(3.0, 7.0, 2.0, 8.0), measured(5.0, 0.0, 4.0, 7.0), {"shard": 2, "died": "was killed"}]
    told = over_all(own, workers)
    assert told["lag"]["p99_ms"] == 5.0
    assert told["gc"]["max_ms"] == 7.0
    assert told["cpu"] == {"user_s": 7.0, "system_s": 1.5, "wall_s": 9.0}
    assert (told["cpu_s"], told["workers"], told["parent"]) == (8.5, workers, own)
    assert over_all(own, []) == {"cpu_s": 1.5, **own}
