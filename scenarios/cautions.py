"""What can be meant, but is probably not: warnings, said before anything is sent."""

from __future__ import annotations

import math

from scenarios.checks import LIMITS
from scenarios.scenario import Scenario
from scenarios.thresholds import METRICS, parse_all

_SCHEDULED = {"ttft": "ttft_sched", "e2e": "e2e_sched"}


def warnings(scenario: Scenario) -> list[str]:
    """What to warn of, each with what to do."""
    return [*_unscheduled(scenario), *_too_few(scenario), *_unsteady(scenario), *_unlimited(scenario)]


def _unscheduled(scenario: Scenario) -> list[str]:
    """An open loop's late requests wait before they are sent, and `ttft` does not see it."""
    if not scenario.load.is_open:
        return []
    names = dict.fromkeys(one.metric for one in parse_all(scenario.thresholds) if one.metric in _SCHEDULED)
    return [
        f"the threshold on {name} leaves out what a request waited before it was sent: in an open loop, "
        f"use {_SCHEDULED[name]}"
        for name in names
    ]


def _too_few(scenario: Scenario) -> list[str]:
    """A percentile needs an answer beyond it."""
    expected = expected_requests(scenario)
    found = []
    for one in parse_all(scenario.thresholds):
        if expected is None or one.p is None or one.metric == "itl":
            continue
        beyond = min(one.p, 100 - one.p) / 100
        needed = math.ceil(round(1 / beyond, 6)) if beyond > 0 else 1
        if expected < needed:
            found.append(
                f"the threshold {one} needs {needed:,} answers, and this load sends about {expected:,.0f}: "
                "make it longer, or judge a lower percentile"
            )
    return found


def expected_requests(scenario: Scenario) -> float | None:
    """Requests in the measured part, about; `None` where the target's speed, a trace or the turns decide."""
    load = scenario.load
    if scenario.prompts.multi_turn:
        return None
    if load.requests is not None:
        return load.requests
    if load.executor == "constant-arrival-rate" and load.rate is not None and load.duration_s is not None:
        return load.rate * load.duration_s
    if load.executor == "ramping-arrival-rate":
        total, before = 0.0, load.start
        for stage in load.stages:
            total += stage.duration_s * (before + stage.target) / 2
            before = stage.target
        return total
    return None


def _unsteady(scenario: Scenario) -> list[str]:
    """Throughput is of the steady window, and some loads have none."""
    load = scenario.load
    if load.executor == "ramping-concurrency":
        why, instead = "places that come and go have no steady window", "take a constant concurrency"
    elif (
        load.executor == "constant-concurrency"
        and load.requests is not None
        and load.concurrency is not None
        and load.requests <= load.concurrency
    ):
        why = f"{load.requests:,} requests at {load.concurrency:,} at once have no steady window"
        instead = "send more than fit at once"
    else:
        return []
    return [
        f"the threshold {one} cannot be judged: {why}; {instead}"
        for one in parse_all(scenario.thresholds)
        if METRICS[one.metric].kind == "throughput"
    ]


def _unlimited(scenario: Scenario) -> list[str]:
    """Synthetic prompts are no questions: an answer to one may go on for ever."""
    limited = scenario.prompts.output_tokens is not None or any(name in scenario.request for name in LIMITS)
    if scenario.prompts.synthetic is None or limited or scenario.load.executor == "trace":
        return []
    return ["nothing limits the answers: give prompts.output_tokens (--output-tokens) or request.max_tokens"]
