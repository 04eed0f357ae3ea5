"""Schedules, the wheel, faults and the configuration: no sockets."""

from __future__ import annotations

import asyncio
from itertools import islice, pairwise
from statistics import fmean, stdev
from time import monotonic_ns
from typing import Any

import pytest
import uvloop

from runner.mock import wheel as wheel_module
from runner.mock.config import MockConfig, Spread
from runner.mock.faults import draw_fault
from runner.mock.timing import Timing, request_rng
from runner.mock.wheel import Wheel

MS = 1_000_000


def times(config: MockConfig, count: int, *, start_ns: int = 0, ordinal: int = 0) -> list[int]:
    schedule = Timing(config).schedule(start_ns, request_rng(config.seed, ordinal))
    return list(islice(schedule, count))


def test_fixed_times_do_not_drift() -> None:
    assert times(MockConfig(ttft_ms=50, itl_ms=10), 4, start_ns=7) == [
        7 + (50 + 10 * k) * MS for k in range(4)
    ]
    assert times(MockConfig(ttft_ms=0.5), 2) == [MS // 2, MS // 2]


@pytest.mark.parametrize("spread", [Spread.NORMAL, Spread.LOGNORMAL])
def test_drawn_times_have_the_mean_and_spread_asked_for(spread: Spread) -> None:
    config = MockConfig(ttft_ms=5, itl_ms=20, itl_dist=spread, itl_sd_ms=4, seed=3)
    drawn = times(config, 20_001)
    gaps = [(b - a) / MS for a, b in pairwise(drawn)]
    assert drawn[0] == 5 * MS
    assert min(gaps) >= 0
    assert fmean(gaps) == pytest.approx(20, rel=0.02)
    assert stdev(gaps) == pytest.approx(4, rel=0.05)


def test_same_seed_and_ordinal_same_times() -> None:
    config = MockConfig(ttft_ms=9, ttft_dist=Spread.NORMAL, ttft_sd_ms=3, itl_ms=2)
    assert times(config, 5) == times(config, 5)
    assert times(config, 5) != times(config, 5, ordinal=1)


def test_wide_normal_times_never_lie_before_the_start() -> None:
    config = MockConfig(ttft_ms=1, ttft_dist=Spread.NORMAL, ttft_sd_ms=100)
    assert min(times(config, 1, ordinal=k)[0] for k in range(50)) == 0


def test_lockstep_is_on_the_grid_and_never_early() -> None:
    config = MockConfig(ttft_ms=25, itl_ms=10, lockstep=True)
    for start in (0, 1, 9_999_999, 123_456_789):
        first, second = times(config, 2, start_ns=start)
        assert first % (10 * MS) == 0
        assert start + 25 * MS <= first < start + 35 * MS
        assert second - first == 10 * MS


def test_faults_come_at_their_shares() -> None:
    shares = {"429": 0.2, "reset": 0.1}
    drawn = [draw_fault(shares, request_rng(1, ordinal)) for ordinal in range(5000)]
    names = [fault.name if fault else "" for fault in drawn]
    assert names.count("429") == pytest.approx(1000, rel=0.1)
    assert names.count("reset") == pytest.approx(500, rel=0.15)
    assert names.count("") + names.count("429") + names.count("reset") == 5000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ttft_ms": -1}, "ttft_ms"),
        ({"itl_ms": float("nan")}, "itl_ms"),
        ({"tokens": 0}, "tokens"),
        ({"lockstep": True}, "grid"),
        ({"itl_dist": Spread.LOGNORMAL, "itl_sd_ms": 1}, "lognormal itl"),
        ({"faults": {"flood": 0.1}}, "unknown fault 'flood': did you mean comment-flood"),
        ({"faults": {"eror-mid": 0.1}}, "did you mean error-mid"),
        ({"faults": {"0": 0.1}}, "--list-faults names all of them"),
        ({"fault_first": -1}, "fault_first must be at least 0"),
        ({"faults": {"429": 1.1}}, "from 0 to 1"),
        ({"faults": {"429": 0.6, "500": 0.6}}, "add up to 1.2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MockConfig(**settings)


async def drive_wheel() -> list[tuple[int, int]]:
    """(due, called at) of steps added in disorder, some of them twice, one while the wheel turns."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    calls: list[tuple[int, int]] = []
    done = asyncio.Event()
    start = monotonic_ns()

    def add(due: int, again_ns: int = 0) -> None:
        state = [due]

        def step(now: int) -> int:
            calls.append((state[0], now))
            if len(calls) == 1:
                add(now + MS)
            if len(calls) == 13:
                done.set()
            if again_ns and state[0] == due:
                state[0] += again_ns
                return state[0]
            return 0

        wheel.add(due, step)

    for offset_us in (4000, 300, 2500, 2500, 0, 1700):
        add(start + offset_us * 1000, again_ns=700_000)
    await asyncio.wait_for(done.wait(), 10)
    await asyncio.sleep(0.01)
    wheel.close()
    return calls


@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("timerfd", [True, False], ids=["timerfd", "loop timer"])
def test_wheel_is_never_early(loop_factory: Any, timerfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not timerfd:
        monkeypatch.setattr(wheel_module, "_timerfd_alarm", lambda _loop, _ring: None)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        calls = runner.run(drive_wheel())
    assert len(calls) == 13
    assert all(called >= due for due, called in calls)
