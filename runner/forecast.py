"""What a comparison will take, before it sends anything: requests, time, and what they may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from runner.course import Course
from runner.prices import Prices, worst_case
from scenarios.scenario import Scenario
from scenarios.workload import Workload

_S = 1_000_000_000
_MILLION = 1_000_000
PROBES = 3  # what `runner/fit.py` asks, once


class RunForecast(msgspec.Struct, kw_only=True):
    """One run of a side. `None` where only the run itself can tell."""

    requests: int | None  # warm-up included; conversations count once
    warmup: int | None
    seconds: float | None  # until the last request is sent
    rounds: float | None  # answers one after the other, where nothing else says how long it takes
    grace_s: float  # and at most so long for the answers that are still coming
    most_cost: float | None
    likely_cost: float | None  # prompts as long as asked, answers up to their limit
    why_no_cost: str | None = None


class Forecast(msgspec.Struct, kw_only=True):
    """The whole comparison."""

    runs: int
    requests: int | None
    seconds: float | None
    most_s: float | None
    rounds: float | None
    most_cost: float | None
    likely_cost: float | None
    a: RunForecast
    b: RunForecast


def forecast_run(
    scenario: Scenario, workload: Workload, course: Course, prices: Prices | None
) -> RunForecast:
    """What one run of a side takes."""
    requests, warmup = _requests(course)
    most, likely, why = _cost(scenario, workload, requests, prices)
    return RunForecast(
        requests=requests,
        warmup=warmup,
        seconds=None if course.end_ns is None else course.end_ns / _S,
        rounds=_rounds(course, requests),
        grace_s=course.grace_ns / _S,
        most_cost=most,
        likely_cost=likely,
        why_no_cost=why,
    )


def forecast(a: RunForecast, b: RunForecast, pairs: int, *, probed: bool) -> Forecast:
    """What all pairs take, the first probes included."""
    both = (a, b)
    requests = total([side.requests for side in both])
    seconds = total([side.seconds for side in both])
    grace_s = a.grace_s + b.grace_s
    rounds = total([side.rounds for side in both])
    most, likely = total([side.most_cost for side in both]), total([side.likely_cost for side in both])
    return Forecast(
        runs=2 * pairs,
        requests=None if requests is None else int(pairs * requests) + (PROBES if probed else 0),
        seconds=None if seconds is None else pairs * seconds,
        most_s=None if seconds is None else pairs * (seconds + grace_s),
        rounds=None if rounds is None else pairs * rounds,
        most_cost=None if most is None else pairs * most,
        likely_cost=None if likely is None else pairs * likely,
        a=a,
        b=b,
    )


def _requests(course: Course) -> tuple[int | None, int | None]:
    if course.schedule is not None:
        return len(course.schedule.offsets_ns), course.schedule.warmup
    if course.requests is not None and not course.warmup_ns:
        return course.requests + course.warmup_requests, course.warmup_requests
    return None, None


def _rounds(course: Course, requests: int | None) -> float | None:
    if course.end_ns is not None or requests is None or len(course.places) != 1:
        return None
    return math.ceil(requests / course.places[0][1])


def _cost(
    scenario: Scenario, workload: Workload, requests: int | None, prices: Prices | None
) -> tuple[float | None, float | None, str | None]:
    if prices is None:
        return None, None, "no prices are given (--price, or target.price)"
    if scenario.prompts.multi_turn:
        return None, None, "conversations carry their answers on: how long they get is not known"
    if requests is None:
        return None, None, "how many requests there will be depends on how fast they are answered"
    most, likely = 0.0, 0.0
    known = True
    for number in range(requests):
        item = workload.item(number)
        body = item.first.body
        price = prices.of(body.get("model"))
        if price is None:
            return None, None, f"there is no price for the model {body.get('model')!r}"
        worst = worst_case(body, len(msgspec.json.encode(body)), price)
        if worst is None:
            return None, None, "answers have no limit of tokens"
        most += worst
        known = known and item.asked_input_tokens is not None and item.asked_output_tokens is not None
        if known:
            tokens = (item.asked_input_tokens or 0) * price.input
            likely += (tokens + (item.asked_output_tokens or 0) * price.output) / _MILLION
    return most, likely if known else None, None


def total(values: Sequence[float | None]) -> float | None:
    """Their sum; `None` where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
