"""Labels of a bench: what its numbers depend on, whoever is to blame. They are no verdict on the client.

UNSTABLE: of an open loop at one rate, the mean number of requests that had come and not ended, in 20 equal
parts of the steady window. The parts in which the first requests had not ended yet are left out: there the
number grows in every run. The slope is the mean step from one part to the next. Queues are alike from one
moment to the next, so a straight line through them finds growth where there is none; the steps are judged
instead, as those of a random walk, the most a queue can wander without growing. Their interval is Student's t
at 99 %, with the standard error times sqrt(3/2), for steps between averages of a walk vary by two thirds of
what the walk itself does (H. Working, Econometrica 28, 1960). UNSTABLE is a slope whose interval lies above 0
and which adds at least a request and a tenth of the mean; also more than 1 % of the arrivals, and 5 of them,
never sent where places were waited for to the end.

DRIFT: the median of `ttft` in 10 equal parts of the steady window; the mean of their logarithms in the second
half less that in the first, with Welch's t interval at 99 %. DRIFT where it lies beyond 5 % up or down. A
trend is spread within the halves as well, and hides itself from that: so also where Kendall's rank
correlation of the ten medians with time is at least 0.64 up or down (by chance alone 1 in 100: M. G. Kendall,
Biometrika 30, 1938) and the halves differ by more than 5 %.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from reports.bench import Asked, Label
from reports.cells import several
from reports.frame import Floats
from reports.intervals import student
from reports.summary import Summary
from reports.windows import BATCHES, SPANS, BenchTally

DRIFT = 0.05
TREND = 0.64
SHORT = 0.98
CACHED = 0.01
UNSENT = 0.01
LEAST_UNSENT = 5
GROWTH = 0.10
SEEN = 1.0  # standard errors from which growth that may be chance is named
LEAST_SPANS = 10
LEAST_IN_BATCH = 5


class Estimate(Struct):
    """A number and its interval."""

    value: float
    low: float
    high: float


def slope(means: Floats) -> Estimate:
    """The mean step of a series of averages, with its interval; of at least 3."""
    steps = np.diff(means)
    value, n = float(steps.mean()), len(steps)
    error = math.sqrt(1.5) * float(steps.std(ddof=1)) / math.sqrt(n)
    half = student(n - 1) * error
    return Estimate(value, value - half, value + half)


def log_ratio(first: Floats, second: Floats) -> Estimate:
    """The mean logarithm of the second values less that of the first, with Welch's interval."""
    one, two = np.log(first), np.log(second)
    value = float(two.mean() - one.mean())
    v1, v2 = float(one.var(ddof=1)) / len(one), float(two.var(ddof=1)) / len(two)
    if v1 + v2 <= 1e-18:
        return Estimate(value, value, value)
    freedom = (v1 + v2) ** 2 / (v1**2 / (len(one) - 1) + v2**2 / (len(two) - 1))
    half = student(freedom) * math.sqrt(v1 + v2)
    return Estimate(value, value - half, value + half)


def trend(values: Floats) -> float:
    """Kendall's rank correlation with time: 1 where each value is above all before it, -1 where below."""
    n = len(values)
    signs = np.sign(values[None, :] - values[:, None])
    return float(np.triu(signs, 1).sum()) / (n * (n - 1) / 2)


def _unstable(tally: BenchTally, missed: int) -> Label | str | None:
    load = tally.load
    if not load.is_open:
        return None
    share = missed / load.scheduled if load.scheduled else 0.0
    if tally.was_full and missed >= LEAST_UNSENT and share > UNSENT:
        return Label(
            name="UNSTABLE",
            value=None,
            words=f"{missed:,} arrivals ({share:.1%}) were still waiting for a place when the run ended: "
            "more come than are answered, and every percentile depends on the duration.",
        )
    if load.executor == "ramping-arrival-rate":
        return "the asked rate itself changes"
    means, stay, span = tally.in_flight(), tally.early_stay_ns.mean, tally.span
    if means is None or span is None:
        return "no steady window"
    if stay is None:
        return "no request ended that came early in the window"
    rest = means[math.ceil(stay / (span[1] - span[0]) * SPANS) :]
    if len(rest) < LEAST_SPANS:
        return "the run is too short beside its answers"
    line = slope(rest)
    growth, mean = line.value * (len(rest) - 1), float(rest.mean())
    if growth < max(1.0, GROWTH * mean):
        return None
    if line.low <= 0:
        error = (line.value - line.low) / student(len(rest) - 2)
        if line.value < SEEN * error:
            return None
        return f"requests in flight grew by {growth:,.0f}, and the run is too short to tell that from chance"
    to_rate = SPANS / ((span[1] - span[0]) / 1e9)
    low, value, high = (n * to_rate for n in (line.low, line.value, line.high))
    return Label(
        name="UNSTABLE",
        value=value,
        low=low,
        high=high,
        words=f"requests in flight or waiting grow by {value:.3g} a second (99 % interval {low:.3g} to "
        f"{high:.3g}): more come than are answered, and every percentile depends on the duration.",
    )


def _held(tally: BenchTally, missed: int) -> Label | None:
    # By the records; those that never found a place have none.
    held = tally.held + (missed if tally.was_full else 0)
    if not held:
        return None
    of = tally.load.scheduled
    part = f" ({held / of:.1%})" if of else ""
    longest = f", the longest {tally.held_max_ms:,.0f} ms" if tally.held_max_ms else ""
    never = f" ({tally.held:,} sent in the end, {held - tally.held:,} never)" if held > tally.held else ""
    return Label(
        name="HELD",
        value=held / of if of else None,
        words=f"{several(held, 'arrival')}{part} waited because max_in_flight was reached{longest}{never}: "
        "the wait is in ttft_sched and e2e_sched, not in ttft.",
    )


def _drift(tally: BenchTally) -> Label | str | None:
    if tally.span is None:
        return "no steady window"
    parts = tally.ttft
    least, of = min(part.n for part in parts), sum(part.n for part in parts)
    if least < LEAST_IN_BATCH:
        has = f"of {of:,} answers that began in it, one tenth has {least}"
        return f"needs {LEAST_IN_BATCH} answers in each tenth of the window, and {has}"
    medians = np.array([part.percentile(50) for part in parts], dtype=np.float64)
    if (medians <= 0).any():
        return "a ttft of 0"
    half = BATCHES // 2
    found = log_ratio(medians[:half], medians[half:])
    value, low, high = (math.expm1(n) for n in (found.value, found.low, found.high))
    tau = trend(medians)
    is_step = low > DRIFT or high < -DRIFT
    if not is_step and (abs(tau) < TREND or abs(found.value) <= math.log1p(DRIFT)):
        return None
    before, after = (math.exp(float(np.log(m).mean())) for m in (medians[:half], medians[half:]))
    interval = f"99 % interval {low:+.1%} to {high:+.1%}"
    why = interval if is_step else f"{'rising' if tau > 0 else 'falling'} all along, Kendall's tau {tau:+.2f}"
    return Label(
        name="DRIFT",
        value=value,
        low=low,
        high=high,
        words=f"ttft p50 went from {before:,.1f} to {after:,.1f} ms from the first half to the second "
        f"({value:+.1%}, {why}): no one number stands for this run.",
    )


def _short(asked: Asked) -> Label | str | None:
    if asked.share is None and asked.untold:
        return "no answer told its tokens (no usage)"
    if asked.share is None or asked.share >= SHORT:
        return None
    return Label(
        name="SHORT",
        value=asked.share,
        words=f"answers reached {asked.share:.1%} of the output tokens asked for ({asked.reached:,} of "
        f"{asked.asked:,}): e2e and throughput are of shorter answers. force_output asks the server for all.",
    )


def _cached(summary: Summary) -> Label | str | None:
    prompts = summary.scenario.get("prompts")
    synthetic = prompts.get("synthetic") if isinstance(prompts, dict) else None
    if not isinstance(synthetic, dict) or synthetic.get("unique", True) is not True:
        return None
    tokens = summary.tokens
    if tokens.cached is None or not tokens.prompt:
        return "the server does not tell of cached tokens"
    share = tokens.cached / tokens.prompt
    if share <= CACHED:
        return None
    return Label(
        name="CACHED",
        value=share,
        words=f"{share:.1%} of prompt tokens came from the server's cache, though each prompt should be "
        "new: ttft is better than it would be.",
    )


def labels(summary: Summary, tally: BenchTally, missed: int) -> tuple[list[Label], dict[str, str]]:
    """The labels a bench gets, and those that could not be judged, with why."""
    whole = summary.chunks.total == 0 and summary.metrics["ttft"].n > 0
    judged: dict[str, Any] = {
        "UNSTABLE": _unstable(tally, missed),
        "HELD": _held(tally, missed),
        "DRIFT": _drift(tally),
        "SHORT": _short(tally.output_tokens),
        "CACHED": _cached(summary),
        "coalesced chunks": "the times of chunks were not kept (--no-times)" if whole else None,
    }
    given = [found for found in judged.values() if isinstance(found, Label)]
    return given, {name: found for name, found in judged.items() if isinstance(found, str)}
