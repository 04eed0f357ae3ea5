"""Labels: given where they should be, and not where a run is merely noisy."""

import heapq
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET

from reports.bench import Bench, Label
from reports.intervals import student
from reports.labels import DRIFT, TREND, log_ratio, slope, trend
from reports.metrics import summarize
from runner.record import Connection

MS = 1_000_000
S = 1000 * MS


def of(run: Any) -> Bench:
    found = summarize(run).bench
    assert found is not None
    return found


def labels(run: Any) -> dict[str, Label]:
    return {label.name: label for label in of(run).labels}


def test_slope_is_the_mean_step() -> None:
    found = slope(np.array([1.0, 2, 4, 5, 7]))
    # Steps 1, 2, 1, 2: mean 1.5, stdev 0.577; t(0.995, 3) = 5.841; sqrt(3/2) for averages of a walk.
    assert found.value == 1.5
    assert found.high - found.value == pytest.approx(5.8409 * 0.57735 / 2 * 1.5**0.5, rel=1e-4)
    assert found.low == pytest.approx(2 * 1.5 - found.high)


def test_log_ratio_is_welchs() -> None:
    found = log_ratio(np.exp(np.array([1.0, 2, 3])), np.exp(np.array([4.0, 5, 6])))
    # Variances 1 and 1, n 3 and 3: error sqrt(2/3), 4 degrees of freedom, t(0.995, 4) = 4.6041.
    assert found.value == pytest.approx(3)
    assert found.high - found.value == pytest.approx(4.6041 * (2 / 3) ** 0.5, rel=1e-4)
    same = log_ratio(np.array([2.0, 2]), np.array([4.0, 4]))
    assert same.low == same.high == pytest.approx(np.log(2))


def queue(record: Any, rate: float, service_s: float, places: int, seed: int) -> list[Any]:
    """Ten seconds of Poisson arrivals at a server with so many places, each answer taking about as long."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, 10, rng.poisson(rate * 10)))
    free = [0.0] * places
    out = []
    for i, at in enumerate(arrivals):
        begin = max(float(at), heapq.heappop(free))
        end = begin + float(rng.exponential(service_s))
        heapq.heappush(free, end)
        at_ns, first, ended = int(at * S), int(begin * S) + 10 * MS, int(end * S) + 12 * MS
        out.append(
            record(
                *(i,),
                scheduled_at=at_ns,
                sent_at=at_ns,
                first_token_at=first,
                last_token_at=ended - MS,
                ended_at=ended,
                connection=Connection(reused=True),
            )
        )
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rate", "unstable"), [(40, False), (72, False), (120, True), (300, True)])
def test_unstable(bench: Any, record: Any, rate: float, seed: int, unstable: bool) -> None:
    """Eight places of 0.1 s carry 80 requests/s."""
    found = labels(bench(queue(record, rate, 0.1, 8, seed)))
    assert ("UNSTABLE" in found) is unstable
    if unstable:
        label = found["UNSTABLE"]
        assert label.low is not None
        assert label.high is not None
        assert label.value is not None
        assert label.low < rate - 80 < label.high
        assert 0 < label.low < label.value


def test_filling_up_at_the_start_is_not_growth(bench: Any, record: Any) -> None:
    """Answers of 4 s without warm-up: the number in flight grows for the first 4 of 10 s, in any run."""
    lines = [record(i, scheduled_at=i * 50 * MS, ended_at=i * 50 * MS + 4 * S) for i in range(200)]
    assert "UNSTABLE" not in labels(bench(lines))


@pytest.mark.parametrize(
    ("executor", "why"),
    [
        ("ramping-arrival-rate", "the asked rate itself changes"),
        ("constant-arrival-rate", None),
        ("constant-concurrency", None),
    ],
)
def test_unstable_is_of_open_loops_at_one_rate(
    bench: Any, record: Any, executor: str, why: str | None
) -> None:
    found = of(bench(queue(record, 300, 0.1, 8, 1), load={"executor": executor}))
    assert found.unjudged.get("UNSTABLE") == why
    assert ("UNSTABLE" in {label.name for label in found.labels}) is (executor == "constant-arrival-rate")


def test_too_short_to_judge(bench: Any, record: Any) -> None:
    lines = [record(i, scheduled_at=i * 50 * MS, ended_at=i * 50 * MS + 8 * S) for i in range(200)]
    assert of(bench(lines)).unjudged["UNSTABLE"] == "the run is too short beside its answers"


@pytest.mark.parametrize(("unsent", "unstable"), [(5, True), (4, False)])
def test_arrivals_that_waited_to_the_end(bench: Any, record: Any, unsent: int, unstable: bool) -> None:
    load = {"scheduled": 100, "sent": 100 - unsent, "unsent": unsent, "held": 40}
    assert ("UNSTABLE" in labels(bench([record(0)], load=load))) is unstable


def test_held(bench: Any, record: Any) -> None:
    lines = [record(0, held_ns=1500 * MS), record(1, held_ns=20 * MS), record(2), record(3)]
    label = labels(bench(lines))["HELD"]
    assert label.value == 0.5
    assert label.words.startswith(
        "2 arrivals (50.0%) waited because max_in_flight was reached, the longest 1,500"
    )
    # Three more never found a place, and have no record.
    stuck = {"scheduled": 10, "sent": 7, "unsent": 3, "peak_in_flight": 100}
    unsent = labels(bench([record(0)], load=stuck, name="unsent"))["HELD"]
    assert unsent.value == 0.3
    assert "(0 sent in the end, 3 never)" in unsent.words
    assert "HELD" not in labels(bench([record(0)], name="none"))


def drifting(record: Any, first_ms: float, second_ms: float, noise: float) -> list[Any]:
    rng = np.random.default_rng(3)
    out = []
    for i in range(400):
        at = i * 25 * MS
        ttft = (first_ms if i < 200 else second_ms) * float(np.exp(rng.normal(0, noise)))
        first = at + int(ttft * MS)
        times = {"scheduled_at": at, "sent_at": at, "first_token_at": first}
        out.append(record(i, **times, last_token_at=first + MS, ended_at=first + 2 * MS))
    return out


@pytest.mark.parametrize(
    ("second", "noise", "drift"),
    [(50, 0.2, False), (52, 0.01, False), (60, 0.05, True), (40, 0.05, True), (60, 1.0, False)],
)
def test_drift(bench: Any, record: Any, second: float, noise: float, drift: bool) -> None:
    found = labels(bench(drifting(record, 50, second, noise)))
    assert ("DRIFT" in found) is drift
    if drift:
        label = found["DRIFT"]
        assert label.low is not None
        assert label.high is not None
        assert label.low < second / 50 - 1 < label.high


def test_drift_needs_answers(bench: Any, record: Any) -> None:
    assert of(bench([record(i) for i in range(300)])).unjudged["DRIFT"] == (
        "needs 5 answers in each tenth of the window, and of 300 answers that began in it, one tenth has 0"
    )


def test_trend_is_kendalls() -> None:
    assert trend(np.array([1.0, 2, 3, 4])) == 1
    assert trend(np.array([4.0, 3, 2, 1])) == -1
    # Of six pairs one falls; a tie counts for neither.
    assert trend(np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)
    assert trend(np.array([1.0, 1, 2, 3])) == pytest.approx(5 / 6)


@pytest.mark.parametrize(("times", "drift"), [(1, False), (1.5, True), (3, True), (11, True), (1 / 3, True)])
def test_a_straight_rise_is_drift(bench: Any, record: Any, times: float, drift: bool) -> None:
    rng = np.random.default_rng(5)
    lines = []
    for i in range(400):
        at = i * 25 * MS
        ttft = 50 * (1 + (times - 1) * i / 400) * float(np.exp(rng.normal(0, 0.3)))
        first = at + int(ttft * MS)
        lines.append(
            record(
                *(i,),
                scheduled_at=at,
                sent_at=at,
                first_token_at=first,
                last_token_at=first + MS,
                ended_at=first + 2 * MS,
            )
        )
    found = labels(bench(lines))
    assert ("DRIFT" in found) is drift
    if drift and times == 11:  # a straight line hides itself from the interval
        assert "rising all along, Kendall's tau +" in found["DRIFT"].words


def is_drift(medians: Any) -> bool:
    """As `labels` says it."""
    found = log_ratio(medians[:5], medians[5:])
    step = np.expm1(found.low) > DRIFT or np.expm1(found.high) < -DRIFT
    return bool(step or (abs(trend(medians)) >= TREND and abs(found.value) > np.log1p(DRIFT)))


def waits(rng: Any, rate: float, service_s: float, places: int, length_s: float) -> Any:
    """The medians of ten parts of the first tokens of a queue that has run for long enough."""
    before = 20.0
    arrivals = np.sort(rng.uniform(0, before + length_s, rng.poisson(rate * (before + length_s))))
    free, out = [0.0] * places, np.empty(len(arrivals))
    for i, at in enumerate(arrivals):
        begin = max(float(at), heapq.heappop(free))
        heapq.heappush(free, begin + float(rng.exponential(service_s)))
        out[i] = begin - at + 0.05 * np.exp(rng.normal(0, 0.3))
    part = np.floor((arrivals - before) / length_s * 10)
    return np.array([np.median(out[part == number]) for number in range(10)])


@pytest.mark.parametrize(
    ("rate", "service_s", "places", "length_s", "most"),
    [(10, 1.0, 14, 60, 3), (40, 0.1, 8, 20, 2), (72, 0.1, 8, 20, 5), (10, 1.0, 11, 60, 12)],
)
def test_stationary_queues_rarely_drift(
    rate: float, service_s: float, places: int, length_s: float, most: int
) -> None:
    """Of 50; the last at nine tenths of what its server can do, over 60 times its service time."""
    rng = np.random.default_rng(7)
    assert sum(is_drift(waits(rng, rate, service_s, places, length_s)) for _ in range(50)) <= most


@pytest.mark.parametrize(
    ("times", "noise", "least"), [(1.5, 0.3, 95), (2, 0.3, 99), (4, 1.0, 90), (11, 0.3, 99)]
)
def test_the_power_to_see_a_rise(times: float, noise: float, least: int) -> None:
    rng = np.random.default_rng(11)
    at = np.arange(600) / 600

    def medians() -> Any:
        ttft = 50 * (1 + (times - 1) * at) * np.exp(rng.normal(0, noise, 600))
        return np.median(ttft.reshape(10, 60), axis=1)

    assert sum(is_drift(medians()) for _ in range(100)) >= least


def test_growth_that_may_be_chance_is_named(bench: Any, record: Any) -> None:
    """A server at 110 % for ten seconds: it grows, and ten seconds cannot prove it."""
    said = [
        of(bench(queue(record, 88, 0.1, 8, seed), name=f"run{seed}")).unjudged.get("UNSTABLE", "")
        for seed in range(4)
    ]
    assert any("requests in flight grew by" in why and "too short to tell" in why for why in said), said
    assert student(19) > 1  # what is named lies between one standard error and this many


def test_short_is_not_judged_where_nobody_counts(bench: Any, record: Any) -> None:
    silent = record(0, usage=None, usage_source="none", asked_output_tokens=5)
    assert of(bench([silent])).unjudged["SHORT"] == "no answer told its tokens (no usage)"
    assert "SHORT" not in of(bench([record(0, usage=None)], name="unasked")).unjudged


def test_coalesced_chunks_are_not_judged_without_their_times(bench: Any, record: Any) -> None:
    bare = of(bench([record(0, chunk_us=UNSET)]))
    assert bare.unjudged["coalesced chunks"] == "the times of chunks were not kept (--no-times)"
    assert "coalesced chunks" not in of(bench([record(0)], name="kept")).unjudged


@pytest.mark.parametrize(
    ("asked", "short"), [((5, 5), False), ((5, None), False), ((10, 10), True), ((None, None), False)]
)
def test_short(bench: Any, record: Any, asked: tuple[int | None, ...], short: bool) -> None:
    lines = [
        record(i, **({} if tokens is None else {"asked_output_tokens": tokens}))
        for i, tokens in enumerate(asked)
    ]
    assert ("SHORT" in labels(bench(lines))) is short


def test_short_begins_below_98_percent(bench: Any, record: Any) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 98}
    assert "SHORT" not in labels(bench([record(0, usage=usage, asked_output_tokens=100)]))
    assert "SHORT" in labels(
        bench([record(0, usage={"completion_tokens": 979}, asked_output_tokens=1000)], name="b")
    )


@pytest.mark.parametrize(
    ("synthetic", "cached", "label"),
    [
        ({"unique": True}, 2, True),
        ({"unique": True}, 1, False),
        ({}, 2, True),
        ({"unique": False}, 2, False),
        (None, 2, False),
    ],
)
def test_cached(bench: Any, record: Any, synthetic: Any, cached: int, label: bool) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": cached}}
    run = bench([record(0, usage=usage)], scenario={"prompts": {"synthetic": synthetic}})
    assert ("CACHED" in labels(run)) is label


def test_cached_is_not_judged_where_nobody_tells(bench: Any, record: Any) -> None:
    run = bench([record(0)], scenario={"prompts": {"synthetic": {"unique": True}}})
    assert of(run).unjudged["CACHED"] == "the server does not tell of cached tokens"
