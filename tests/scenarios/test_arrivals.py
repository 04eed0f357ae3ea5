"""Schedules as pure functions: rates, distributions, reproducibility, prefixes, warm-up, stripes."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scenarios.arrivals import NS, Schedule, measured_s, places, schedule, stripe, warmup_places
from scenarios.scenario import ArrivalProcess, Load, Stage
from scenarios.trace import TraceRow

PROCESSES: tuple[ArrivalProcess, ...] = ("constant", "poisson", "gamma")


def constant_rate(**keys: Any) -> Load:
    return Load(executor="constant-arrival-rate", **{"rate": 4.0, "duration": "60s", **keys})


def ramp(*stages: tuple[float, float], **keys: Any) -> Load:
    return Load(
        executor="ramping-arrival-rate",
        stages=[Stage(duration=duration, target=target) for duration, target in stages],
        **keys,
    )


def measured(found: Schedule) -> list[int]:
    return list(found.offsets_ns[found.warmup :])


def gaps_s(found: Schedule) -> list[float]:
    return [(b - a) / NS for a, b in pairwise([0, *found.offsets_ns])]


# The first offsets, for ever: a change here changes what yesterday's seed means.
GOLDEN = {
    "constant": [0, 250000000, 500000000, 750000000, 1000000000],
    "poisson": [255015072, 261347282, 341753298, 404899844, 738298012],
    "gamma": [208973965, 209219693, 240164626, 260258487, 572789500],
}


@pytest.mark.parametrize("process", PROCESSES)
def test_the_first_offsets_stay_for_ever(process: ArrivalProcess) -> None:
    found = schedule(constant_rate(arrival=process, burstiness=0.5), 42)
    assert list(found.offsets_ns[:5]) == pytest.approx(GOLDEN[process], abs=1)


def test_poisson_gaps_are_the_inverse_cdf_of_the_plain_draws() -> None:
    draw = random.Random(7).random
    gaps = [-math.log(1 - draw()) / 4 for _ in range(100)]
    found = schedule(constant_rate(requests=100), 7)
    assert gaps_s(found) == pytest.approx(gaps, abs=1e-8)


def test_constant_arrivals_stand_at_k_over_rate_and_stay_below_the_end() -> None:
    found = schedule(constant_rate(arrival="constant", rate=3.0), 1)
    assert list(found.offsets_ns) == [round(k * NS / 3) for k in range(180)]
    assert (found.begin_ns, found.end_ns, found.warmup) == (0, 60 * NS, 0)
    assert found.mean_gap_ns == pytest.approx(NS / 3)


def test_requests_end_with_the_last_arrival() -> None:
    found = schedule(constant_rate(duration=None, requests=500), 3)
    assert len(found.offsets_ns) == 500
    assert found.end_ns == found.offsets_ns[-1]


def test_what_ends_first_ends_it() -> None:
    assert len(schedule(constant_rate(arrival="constant", requests=1000), 3).offsets_ns) == 240
    assert len(schedule(constant_rate(arrival="constant", requests=100), 3).offsets_ns) == 100


@pytest.mark.parametrize(
    ("process", "burstiness", "law"),
    [
        ("poisson", 1.0, stats.expon(scale=0.01)),
        ("gamma", 1.0, stats.expon(scale=0.01)),
        ("gamma", 0.5, stats.gamma(0.5, scale=0.02)),
        ("gamma", 4.0, stats.gamma(4.0, scale=0.0025)),
    ],
)
def test_gaps_follow_their_law(process: ArrivalProcess, burstiness: float, law: Any) -> None:
    load = constant_rate(rate=100.0, duration=None, requests=4000, arrival=process, burstiness=burstiness)
    gaps = gaps_s(schedule(load, 11))
    assert stats.kstest(gaps, law.cdf).pvalue > 0.01
    # The test can fail: a rate 30 % off does not pass.
    assert stats.kstest([gap * 1.3 for gap in gaps], law.cdf).pvalue < 0.01


@pytest.mark.parametrize("process", ["poisson", "gamma"])
def test_the_rate_is_met(process: ArrivalProcess) -> None:
    found = schedule(constant_rate(rate=200.0, duration="30s", arrival=process, burstiness=0.5), 5)
    # 6000 expected; the counts' standard deviation is sqrt(6000 / burstiness).
    assert len(found.offsets_ns) == pytest.approx(6000, abs=4 * math.sqrt(12000))


@given(st.integers(0, 2**64), st.sampled_from(PROCESSES))
def test_one_seed_one_schedule(seed: int, process: ArrivalProcess) -> None:
    load = constant_rate(arrival=process, duration="10s", burstiness=0.7)
    assert schedule(load, seed).offsets_ns == schedule(load, seed).offsets_ns
    if process != "constant":
        assert schedule(load, seed).offsets_ns != schedule(load, seed + 1).offsets_ns


@given(
    seed=st.integers(0, 1000),
    process=st.sampled_from(PROCESSES),
    short=st.floats(0, 30),
    more=st.floats(0, 30),
    warmup=st.one_of(st.none(), st.floats(0, 10)),
)
def test_a_longer_load_begins_with_a_shorter_one(
    seed: int, process: ArrivalProcess, short: float, more: float, warmup: float | None
) -> None:
    first = schedule(constant_rate(arrival=process, duration=short, warmup=warmup), seed)
    second = schedule(constant_rate(arrival=process, duration=short + more, warmup=warmup), seed)
    assert second.offsets_ns[: len(first.offsets_ns)] == first.offsets_ns
    assert (first.begin_ns, first.warmup) == (second.begin_ns, second.warmup)
    counted = schedule(
        constant_rate(arrival=process, duration=None, requests=len(measured(first)), warmup=warmup), seed
    )
    assert counted.offsets_ns == first.offsets_ns


@given(
    seed=st.integers(0, 1000),
    process=st.sampled_from(PROCESSES),
    burstiness=st.floats(0.05, 20),
    rate=st.floats(0.01, 50),
    duration=st.floats(0, 20),
    warmup=st.one_of(
        st.fixed_dictionaries({"warmup": st.floats(0, 10)}),
        st.fixed_dictionaries({"warmup_requests": st.integers(0, 20)}),
    ),
)
def test_ascending_and_within_bounds(
    seed: int,
    process: ArrivalProcess,
    burstiness: float,
    rate: float,
    duration: float,
    warmup: dict[str, Any],
) -> None:
    load = constant_rate(arrival=process, burstiness=burstiness, rate=rate, duration=duration, **warmup)
    found = schedule(load, seed)
    offsets = list(found.offsets_ns)
    assert offsets == sorted(offsets)
    assert all(0 <= at <= found.begin_ns for at in offsets[: found.warmup])
    assert all(found.begin_ns <= at < found.end_ns for at in measured(found))
    assert found.end_ns - found.begin_ns == round(duration * NS)


def test_warm_up_by_time_comes_before_and_on_top() -> None:
    found = schedule(constant_rate(arrival="constant", warmup="5s"), 1)
    assert (found.warmup, found.begin_ns, found.end_ns) == (20, 5 * NS, 65 * NS)
    assert measured(found) == [5 * NS + k * NS // 4 for k in range(240)]


def test_warm_up_by_number_comes_before_and_on_top() -> None:
    found = schedule(constant_rate(arrival="constant", warmup_requests=20, duration=None, requests=500), 1)
    assert (found.warmup, len(measured(found)), found.begin_ns) == (20, 500, 5 * NS)
    random_one = schedule(constant_rate(warmup_requests=20, duration=None, requests=500), 1)
    assert (random_one.warmup, len(measured(random_one))) == (20, 500)
    assert random_one.begin_ns == random_one.offsets_ns[19]


def test_without_keys_nothing_is_warm_up() -> None:
    assert schedule(constant_rate(), 1).warmup == 0


@pytest.mark.parametrize("process", PROCESSES)
def test_a_ramp_has_as_many_arrivals_as_the_integral_of_its_rate(process: ArrivalProcess) -> None:
    # 0 to 100 in 10 s, at once down to 20, 5 s there, a rest, 100 again, down to 0 in 4 s.
    load = ramp((10, 100), (0, 20), (5, 20), (0, 0), (3, 0), (0, 100), (4, 0), arrival=process)
    at = [x / NS for x in schedule(load, 9).offsets_ns]
    tolerance = 1 if process == "constant" else 4
    for begin, end, wanted in [(0, 5, 125), (5, 10, 375), (10, 15, 100), (15, 18, 0), (18, 22, 200)]:
        count = sum(begin <= x < end for x in at)
        assert abs(count - wanted) <= tolerance * math.sqrt(wanted) if wanted else count == 0
    assert measured_s(load) == 22


def test_a_ramp_rescaled_by_its_integral_is_a_poisson_process() -> None:
    found = schedule(ramp((20, 200), start=20.0), 13)
    integral = [20 * t + 180 / 20 * t * t / 2 for t in (at / NS for at in found.offsets_ns)]
    gaps = [b - a for a, b in pairwise([0.0, *integral])]
    assert stats.kstest(gaps, stats.expon.cdf).pvalue > 0.01
    assert found.end_ns == 20 * NS
    assert 0 < found.offsets_ns[-1] < found.end_ns


def test_a_ramp_warms_up_where_it_begins_or_at_its_first_target() -> None:
    begun = schedule(ramp((10, 100), start=50.0, warmup="2s", arrival="constant"), 1)
    assert (begun.warmup, begun.begin_ns, begun.end_ns) == (100, 2 * NS, 12 * NS)
    assert len(measured(begun)) == pytest.approx(750, abs=1)
    at_zero = schedule(ramp((10, 100), warmup="2s", arrival="constant"), 1)
    assert (at_zero.warmup, len(measured(at_zero))) == (200, 500)


def test_requests_end_a_ramp_early() -> None:
    found = schedule(ramp((10, 100), requests=7), 1)
    assert len(found.offsets_ns) == 7
    assert found.end_ns == found.offsets_ns[-1]


@given(st.integers(1, 7), st.integers(0, 50), st.integers(0, 99))
def test_stripes_make_the_whole(n: int, warmup: int, seed: int) -> None:
    whole = schedule(constant_rate(duration=None, requests=100, warmup_requests=warmup), seed)
    parts = [stripe(whole, i, n) for i in range(n)]
    assert sorted(at for part in parts for at in part.offsets_ns) == list(whole.offsets_ns)
    assert sum(part.warmup for part in parts) == whole.warmup
    assert {(part.begin_ns, part.end_ns) for part in parts} == {(whole.begin_ns, whole.end_ns)}
    for i, part in enumerate(parts):
        assert list(part.offsets_ns) == list(whole.offsets_ns[i::n])
        assert list(part.offsets_ns[: part.warmup]) == list(whole.offsets_ns[: whole.warmup][i::n])
        assert part.mean_gap_ns == pytest.approx(n * NS / 4)


ROWS = [TraceRow(at) for at in (0.0, 1.0, 1.0, 2.5, 4.0)]


def trace(**keys: Any) -> Load:
    return Load(executor="trace", **keys)


def test_a_trace_keeps_its_times() -> None:
    found = schedule(trace(), 0, ROWS)
    assert list(found.offsets_ns) == [0, NS, NS, 2.5 * NS, 4 * NS]
    assert (found.begin_ns, found.end_ns, found.warmup, found.mean_gap_ns) == (0, 4 * NS, 0, NS)


def test_a_trace_runs_faster() -> None:
    assert list(schedule(trace(speed=2.0), 0, ROWS).offsets_ns) == [0, NS / 2, NS / 2, 1.25 * NS, 2 * NS]


def test_the_front_of_a_trace_is_its_warm_up() -> None:
    found = schedule(trace(warmup="1s", duration="2s"), 0, ROWS)
    assert (found.warmup, found.begin_ns, found.end_ns) == (1, NS, 3 * NS)
    assert measured(found) == [NS, NS, 2.5 * NS]
    counted = schedule(trace(warmup_requests=2, requests=2), 0, ROWS)
    assert (counted.warmup, counted.begin_ns, measured(counted)) == (2, NS, [NS, 2.5 * NS])
    assert counted.end_ns == 2.5 * NS


def test_a_trace_shorter_than_its_warm_up_measures_nothing() -> None:
    for keys in ({"warmup": "10s"}, {"warmup_requests": 9}):
        found = schedule(trace(**keys), 0, ROWS)
        assert measured(found) == []
        assert found.end_ns >= found.begin_ns


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (constant_rate(rate=None), "load.rate is None"),
        (constant_rate(rate=0.0), "load.rate is 0.0"),
        (constant_rate(duration=None), "no end"),
        (constant_rate(arrival="gamma", burstiness=0.0), "burstiness"),
        (ramp((10, 0)), "no arrivals"),
        (trace(), "without rows"),
        (Load(concurrency=4), "no schedule"),
    ],
)
def test_no_schedule_says_why(load: Load, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        schedule(load, 1)


def test_a_duration_of_zero_has_no_arrivals_but_an_end() -> None:
    found = schedule(constant_rate(duration=0), 1)
    assert (len(found.offsets_ns), found.begin_ns, found.end_ns) == (0, 0, 0)


def test_places_of_a_constant_concurrency() -> None:
    assert places(Load(concurrency=32, duration="10s", warmup="5s")) == [(0, 32)]
    with pytest.raises(ValueError, match=r"load\.concurrency"):
        places(Load())


def test_places_change_where_the_nearest_whole_number_does() -> None:
    load = Load(
        executor="ramping-concurrency",
        stages=[
            Stage(duration="10s", target=5),
            Stage(duration="2s", target=5),
            Stage(duration="0s", target=9),
            Stage(duration="2s", target=7),
        ],
    )
    assert places(load) == [
        (0, 0),
        *((s * NS, count) for s, count in ((1, 1), (3, 2), (5, 3), (7, 4), (9, 5), (12, 9))),
        (12.5 * NS, 8),
        (13.5 * NS, 7),
    ]


def test_places_warm_up_before_the_stages() -> None:
    load = Load(
        executor="ramping-concurrency", start=2, stages=[Stage(duration=2, target=3)], warmup=5, requests=9
    )
    assert places(load) == [(0, 2), (6 * NS, 3)]
    assert warmup_places(load) == 2
    load = Load(executor="ramping-concurrency", stages=[Stage(duration=2, target=3)], warmup=5)
    assert places(load)[:3] == [(0, 3), (5 * NS, 0), (round((5 + 1 / 3) * NS), 1)]


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 40)), min_size=1, max_size=5), st.integers(0, 40))
def test_places_follow_the_line(stages: list[tuple[float, int]], start: int) -> None:
    load = Load(
        executor="ramping-concurrency",
        start=start,
        stages=[Stage(duration=long, target=target) for long, target in stages],
    )
    steps = places(load)
    assert steps[0][0] == 0
    assert steps[-1][1] == stages[-1][1]
    assert all(a[0] < b[0] and a[1] != b[1] for a, b in pairwise(steps))
    assert all(0 <= count <= 40 for _, count in steps)


def test_places_of_an_open_loop_are_none() -> None:
    with pytest.raises(ValueError, match="no places"):
        places(constant_rate())
