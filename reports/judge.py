"""Thresholds on a summary -> verdicts, and the exit code they and the client's fitness come to.

A percentile is judged on the plain reading, as in k6: answered requests. Where the second reading (failures
as +infinity) would not hold, the verdict says so beside; the default thresholds on `errors` and `unserved`
catch those themselves. No data fails. Too few values for a percentile, `itl` withheld, a throughput without a
steady window, and a value of which only the bounds are known and the limit lies between, are INCONCLUSIVE.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from reports.bench import Bench, Outcome, Validity, Verdict
from reports.cells import amount, number, several, share
from reports.distribution import Distribution, WithFailures, name_of
from reports.gauge import table
from reports.intervals import CONFIDENCE, mean_interval, needs, reliable, share_interval
from reports.summary import POOLED, Hits, Summary
from scenarios.thresholds import DEFAULTS, METRICS, Threshold

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SCHED = {"ttft": "ttft_sched", "e2e": "e2e_sched"}  # from when the load said it should go

OnInconclusive = Literal["pass", "fail"]


class _Found(Struct):
    """A value to judge; or why there is none."""

    value: float | None = None
    most: float | None = None  # where the value is only the least it can be
    outcome: Outcome = "FAIL"  # without a value
    why: str = "no data"
    warnings: list[str] = []


def _cell(metric: str, agg: str, value: float) -> str:
    if agg == "count":
        return f"{value:,.0f}"
    if METRICS[metric].kind == "share":
        return share(value)
    if metric == "cost":
        return amount(value)
    unit = METRICS[metric].unit
    return f"{number(value)}{'/s' if unit == '1/s' else f' {unit}'}"


def judge(summary: Summary, thresholds: Sequence[Threshold]) -> list[Verdict]:
    """A verdict on each threshold."""
    return [_judge(summary, threshold) for threshold in thresholds]


def _judge(summary: Summary, threshold: Threshold) -> Verdict:
    found = _find(summary, threshold)
    if found.value is None:
        outcome, words = found.outcome, found.why
    elif found.most is None or found.most == found.value:
        outcome = "PASS" if _HOLDS[threshold.op](found.value, threshold.limit) else "FAIL"
        words = _cell(threshold.metric, threshold.agg, found.value)
    else:
        outcome = _of_range(found.value, found.most, threshold)
        low, high = (_cell(threshold.metric, threshold.agg, end) for end in (found.value, found.most))
        words = f"at least {low}" if math.isinf(found.most) else f"{low} to {high}"
    warnings = list(found.warnings)
    if outcome == "PASS":
        warnings += _second_reading(summary, threshold)
    if threshold.metric in _SCHED and summary.bench is not None and summary.bench.load.is_open:
        warnings.append(
            f"arrivals of an open loop may wait before they are sent, and {threshold.metric} does not show "
            f"it: {_SCHED[threshold.metric]} does."
        )
    return Verdict(
        threshold=str(threshold),
        metric=threshold.name,
        value=found.value,
        limit=threshold.limit,
        verdict=outcome,
        words=words,
        warnings=warnings,
        default=threshold.text in DEFAULTS.get(threshold.name, ())
        and threshold.name not in table(summary.scenario.get("thresholds")),
    )


def _of_range(least: float, most: float, threshold: Threshold) -> Outcome:
    """A verdict where all that is known is that the value lies between these two."""
    limit, op = threshold.limit, threshold.op
    if op in {"==", "!="} and least <= limit <= most:
        return "INCONCLUSIVE"
    ends = {_HOLDS[op](least, limit), _HOLDS[op](most, limit)}
    return "INCONCLUSIVE" if len(ends) == 2 else "PASS" if ends == {True} else "FAIL"


def _find(summary: Summary, threshold: Threshold) -> _Found:
    metric, bench = threshold.metric, summary.bench
    if metric == "expect":
        return _expect(summary, threshold)
    if threshold.selector and metric != "errors":
        selected = summary.selected.get(threshold.name)
        if selected is None:
            return _Found(why=f"no data: no answer with {threshold.name}{_no_columns(summary)}")
        return _of(selected, threshold)
    if metric in summary.metrics:
        return _of(summary.metrics[metric], threshold)
    if metric == "errors":
        return _errors(summary, threshold)
    if metric == "cost":
        return _cost(summary)
    if bench is not None and metric.endswith("_throughput"):
        return _throughput(bench, metric)
    if bench is not None and metric == "goodput":
        return _goodput(summary, threshold)
    if bench is not None and metric == "unserved":
        unserved = bench.unserved
        return _of_share(unserved.n, unserved.of, threshold, "no arrival was due")
    only = "" if bench is not None else ", which only a bench measures"
    return _Found(why=f"no data: this run has no {metric}{only}")


def _no_columns(summary: Summary) -> str:
    return " (a slim copy has no columns of yours: judge the whole run)" if summary.slim else ""


def _expect(summary: Summary, threshold: Threshold) -> _Found:
    expect = summary.expect
    if expect is None:
        return _Found(why="no data: no answer was held against what its row expects (check --expect does)")
    hits, n = expect.passed, expect.judged
    if threshold.selector:
        selected = expect.selected.get(threshold.name)
        if selected is None or not selected.n:
            return _Found(why=f"no data: no row that expects something, with {threshold.name}")
        hits, n = selected.hits, selected.n
    if not n:
        return _Found(why="no data: no row expects anything")
    found = _of_share(hits, n, threshold)
    if expect.left_out:
        found.warnings = [f"{expect.left_out:,} requests that were cancelled are not judged."]
    return found


def _of(d: Distribution, threshold: Threshold) -> _Found:
    """A number of a distribution."""
    agg = threshold.agg
    if agg == "count":
        return _Found(float(d.n))
    if not d.n:
        return _Found(why=f"no data: no request has a {threshold.metric}")
    if d.withheld:
        return _Found(outcome="INCONCLUSIVE", why=f"withheld: {d.withheld}")
    if threshold.bound is not None and threshold.metric in POOLED:
        return _Found(outcome="INCONCLUSIVE", why="gaps of one stream are alike: their pool has no interval")
    if agg in {"p", "med"}:
        return _percentile(d, threshold, 50.0 if threshold.p is None else threshold.p)
    if agg != "avg":
        return _Found(d.min if agg == "min" else d.max)
    if threshold.bound is None or d.mean is None:
        return _Found(d.mean)
    if d.stdev is None:
        return _Found(outcome="INCONCLUSIVE", why="an interval of a mean needs 2 values, and there is 1")
    return _Found(mean_interval(d.mean, d.stdev, d.n)[threshold.bound == "ucb"])


def _percentile(d: Distribution, threshold: Threshold, p: float) -> _Found:
    name = name_of(p)
    value, least = d.percentiles.get(name), needs(p)
    if threshold.bound is not None:
        value = d.ci.get(name, (None, None))[threshold.bound == "ucb"]
        least = max(least, _needs_end(p, threshold.bound))
    if value is None:
        what = f"the {threshold.bound} of {name}" if threshold.bound else name
        return _Found(outcome="INCONCLUSIVE", why=f"{what} needs {least:,} values, and there are {d.n:,}")
    found = _Found(value)
    if threshold.bound is None and d.n < reliable(p):
        found.warnings = [f"{name} of {d.n:,} values is a guess: it takes {reliable(p):,} to trust it."]
    return found


def _needs_end(p: float, bound: str) -> int:
    """Values from which an end of a percentile's interval exists."""
    below = p / 100 if bound == "ucb" else 1 - p / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(below)) if 0 < below < 1 else 1


def _throughput(bench: Bench, metric: str) -> _Found:
    steady = bench.steady
    if steady.seconds is None:
        executor = bench.load.executor
        why = (
            "a changing number at once has none"
            if executor == "ramping-concurrency"
            else ("places were never all filled, or the run ended first")
        )
        return _Found(outcome="INCONCLUSIVE", why=f"the steady window is not known: {why}")
    value: float | None = getattr(steady, metric)
    least = value is not None and steady.at_least(metric)
    found = _Found(
        value, most=math.inf if least else None, why="no data: no answer in the window told its tokens"
    )
    if least:
        missing = steady.without_usage if metric == "output_throughput" else steady.without_input
        found.warnings = [f"{missing:,} answers did not tell their tokens: the true value is higher."]
    return found


def _of_share(
    hits: int, n: int, threshold: Threshold, none: str = "no request was answered or failed"
) -> _Found:
    if threshold.agg == "count":
        return _Found(float(hits))
    if not n:
        return _Found(why=f"no data: {none}")
    return _Found(hits / n if threshold.bound is None else share_interval(hits, n)[threshold.bound == "ucb"])


def _errors(summary: Summary, threshold: Threshold) -> _Found:
    requests = summary.requests
    if not threshold.selector:
        return _of_share(requests.error, requests.ok + requests.error, threshold)
    selected = summary.selected_errors.get(threshold.name, Hits())
    if not selected.n:
        return _Found(why=f"no data: no request with {threshold.name}{_no_columns(summary)}")
    return _of_share(selected.hits, selected.n, threshold)


def _cost(summary: Summary) -> _Found:
    cost = summary.cost
    if cost.total is None:
        return _Found(why="no data: nobody told what this run cost (price of the target, or usage.cost)")
    found = _Found(cost.total)
    unknown = cost.answers - cost.answers_known + cost.lost_unknown
    if unknown:
        found.warnings = [f"what {unknown:,} attempts cost is not known and not in it."]
    return found


def _goodput(summary: Summary, threshold: Threshold) -> _Found:
    assert summary.bench is not None
    good = summary.bench.goodput
    if not good.slo_ms:
        return _Found(why="no data: the scenario has no [slo]")
    everyone = good.of + good.unknown
    found = _of_share(good.met, everyone, threshold, "nothing was to be judged")
    if good.unknown:
        found.most = _of_share(good.met + good.unknown, everyone, threshold).value
        unknown = several(good.unknown, "answer")
        found.warnings = [f"whether {unknown} met the SLO is not known: all or none of them may have."]
    return found


def _second_reading(summary: Summary, threshold: Threshold) -> list[str]:
    """A warning, where a percentile that holds would not with what got no answer as +infinity."""
    d = summary.metrics.get(threshold.metric)
    second = d.with_failures if d is not None and not threshold.selector else None
    if second is None or not second.failures or threshold.agg not in {"p", "med"} or threshold.bound:
        return []
    value = _second_value(second, 50.0 if threshold.p is None else threshold.p)
    if value is None or _HOLDS[threshold.op](value, threshold.limit):
        return []
    reads = "infinite" if math.isinf(value) else number(value)
    unanswered = several(second.failures, "request")
    return [f"with {unanswered} that got no answer as infinitely slow it is {reads}, which does not hold."]


def _second_value(second: WithFailures, p: float) -> float | None:
    value = second.percentiles.get(name_of(p))
    return math.inf if value == "inf" else value if isinstance(value, float) else None


def exit_code(
    validity: Validity | None, verdicts: Sequence[Verdict], on_inconclusive: OnInconclusive | None = None
) -> int:
    """What a bench exits with: 97 the client was not fit, 99 FAIL, 98 INCONCLUSIVE, else 0.

    Args:
        validity: of the client; `None` where it was not judged.
        verdicts: on the thresholds.
        on_inconclusive: what an INCONCLUSIVE counts as instead.
    """
    if validity is not None and validity.level == "INVALID":
        return 97
    found = {verdict.verdict for verdict in verdicts}
    if "FAIL" in found or ("INCONCLUSIVE" in found and on_inconclusive == "fail"):
        return 99
    return 98 if "INCONCLUSIVE" in found and on_inconclusive != "pass" else 0
