from __future__ import annotations

import asyncio
from time import monotonic_ns

import pytest

from runner.alarm import Alarm

MS = 1_000_000


async def test_it_never_rings_early() -> None:
    alarm = Alarm()
    try:
        for wait in (0, 1000, 100_000, 400_000, 999_999, 1_500_000, 3_000_000):
            at = monotonic_ns() + wait
            assert await alarm.until(at)
            assert monotonic_ns() >= at
    finally:
        alarm.close()


async def test_several_wait_at_once_and_ring_in_order() -> None:
    alarm = Alarm()
    rung: list[int] = []

    async def wait(ms: int) -> None:
        await alarm.until(start + ms * MS)
        rung.append(ms)

    start = monotonic_ns()
    try:
        await asyncio.gather(*(wait(ms) for ms in (9, 3, 6, 1)))
    finally:
        alarm.close()
    assert rung == [1, 3, 6, 9]


async def test_who_is_woken_is_told_that_it_was_too_early() -> None:
    alarm = Alarm()
    waiting = asyncio.create_task(alarm.until(monotonic_ns() + 3_600_000 * MS))
    await asyncio.sleep(0)
    alarm.wake()
    assert await waiting is False
    alarm.close()


async def test_the_loop_s_own_timer_does_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.alarm._timerfd", lambda: None)
    alarm = Alarm()
    for wait in (0, 100_000, 900_000, 2_100_000):
        at = monotonic_ns() + wait
        assert await alarm.until(at)
        assert monotonic_ns() >= at
    alarm.close()


async def test_who_gave_up_waiting_is_forgotten() -> None:
    alarm = Alarm()
    waiting = asyncio.create_task(alarm.until(monotonic_ns() + 1 * MS))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await alarm.until(monotonic_ns() + 3 * MS)
    alarm.close()
