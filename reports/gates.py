"""What a comparison gates on: metrics by name, their limits, and each run's one statistic of them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from reports.bench import Bench
from reports.cells import several
from reports.comparison import CompareError, Scale
from reports.distribution import PERCENTILES, name_of
from reports.intervals import reliable
from reports.summary import POOLED, Summary
from scenarios.thresholds import METRICS

GATED = ("ttft", "tpot", "e2e", "errors")
MAX_REGRESSION = 0.10
MAX_SHARE = 0.01  # of requests that may fail beyond BASE's, where nothing else was said
_KNOWN = {name: metric for name, metric in METRICS.items() if name != "expect"}
_UNITS = {"share": "share", "amount": "currency"}
_PERCENTILE = re.compile(r"p\(?(\d+)\)?\Z")


class Gate(Struct, frozen=True, kw_only=True):
    """One metric to judge."""

    metric: str
    p: int | None  # of a distribution
    scale: Scale
    limit: float  # of BASE, in milliseconds, or of all requests
    asked: bool  # by name: not to have it is an error

    @property
    def name(self) -> str:
        """As people write it; the median needs no mark."""
        return self.metric if self.p in {None, 50} else f"{self.metric}:p{self.p}"

    @property
    def label(self) -> str:
        """With its statistic."""
        return self.metric if self.p is None else f"{self.metric} p{self.p}"

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is good."""
        return self.metric == "goodput" or _KNOWN[self.metric].kind in {"pace", "throughput"}

    @property
    def unit(self) -> str:
        """Of a run's value."""
        return _KNOWN[self.metric].unit

    @property
    def threshold(self) -> float:
        """The limit as an effect is measured: ratios by their logarithm."""
        return math.log1p(self.limit) if self.scale == "ratio" else self.limit

    def shown(self, effect: float) -> float:
        """An effect as it was measured, on the scale of the limit."""
        return math.expm1(min(effect, 700.0)) if self.scale == "ratio" else effect


def name_of_metric(text: str) -> str:
    """A metric as gates are called: `ttft:p(95)` is `ttft:p95`, `ttft:p50` is `ttft`.

    Raises:
        CompareError: there is no such metric.
    """
    metric, colon, stat = (part.strip() for part in text.partition(":"))
    if metric not in _KNOWN:
        near = difflib.get_close_matches(metric, _KNOWN, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CompareError(f"there is no metric {metric!r} to compare; {meant}There are {', '.join(_KNOWN)}")
    if not colon:
        return metric
    found = _PERCENTILE.match(stat)
    if not _has_percentiles(metric) or found is None or int(found[1]) not in PERCENTILES:
        allowed = ", ".join(f"{metric}:p{p}" for p in PERCENTILES) if _has_percentiles(metric) else metric
        raise CompareError(f"{text!r} cannot be compared; of {metric} there is {allowed}")
    return metric if found[1] == "50" else f"{metric}:p{found[1]}"


def _has_percentiles(metric: str) -> bool:
    return _KNOWN[metric].kind in {"time", "pace"}


def gates(
    metrics: Sequence[str] | None, max_regression: Mapping[str, float], max_added_ms: Mapping[str, float]
) -> list[Gate]:
    """What to judge, in order.

    Args:
        metrics: these and no others; `None`: what is gated by default, and what a limit names.
        max_regression: by metric; "" is of all that have no limit of their own, and are no shares.
        max_added_ms: by metric; such a one is judged by the milliseconds added, and not by the ratio.

    Raises:
        CompareError: there is no such metric, or it cannot be judged so.
    """
    relative = {name and name_of_metric(name): limit for name, limit in max_regression.items()}
    added = {name_of_metric(name): limit for name, limit in max_added_ms.items()}
    named = [name_of_metric(name) for name in metrics] if metrics is not None else []
    if both := [name for name in added if name in relative]:
        raise CompareError(
            f"{both[0]} has two limits: choose --max-regression (a ratio) or --max-added (milliseconds)"
        )
    for name in added:
        if _KNOWN[name.partition(":")[0]].kind != "time":
            raise CompareError(f"--max-added {name}: only times have milliseconds to add")
    limits = [name for name in (*relative, *added) if name]
    wanted = list(dict.fromkeys([*(named if metrics is not None else GATED), *limits]))
    if not wanted:
        raise CompareError("no metric to judge: name one with --metric")
    asked = {*named, *limits}
    return [_gate(name, relative, added, name in asked) for name in wanted]


def unserved() -> Gate:
    """What is judged beside the usual metrics where NEW left arrivals unserved: no failure, and no answer."""
    return _gate("unserved", {}, {}, asked=False)


def _gate(name: str, relative: Mapping[str, float], added: Mapping[str, float], asked: bool) -> Gate:
    metric, _, stat = name.partition(":")
    kind = _KNOWN[metric].kind
    scale: Scale = "added" if name in added else "share" if kind == "share" else "ratio"
    if scale == "added":
        limit = added[name]
    elif scale == "share":
        limit = relative.get(name, MAX_SHARE)
    else:
        limit = relative.get(name, relative.get("", MAX_REGRESSION))
    if not 0 < limit < math.inf:
        raise CompareError(f"{name}: a limit of {limit:g} allows nothing to be proven; it must be above 0")
    p = (int(stat[1:]) if stat else 50) if _has_percentiles(metric) else None
    return Gate(metric=metric, p=p, scale=scale, limit=limit, asked=asked)


class Reading(Struct, frozen=True):
    """A run's one statistic of a metric. `value` is `None` where there is none, and `why` says why."""

    value: float | None = None
    why: str = ""
    hits: int = 0  # of a share: what failed, or missed
    of: int = 0


def read(summary: Summary, gate: Gate) -> Reading:
    """What a run says of a gate's metric."""
    if gate.metric == "errors":
        requests = summary.requests
        return _share(requests.error, requests.ok + requests.error, "no request was answered or failed")
    if gate.p is not None:
        return _percentile(summary, gate.metric, gate.p)
    if gate.metric == "cost":
        return _cost(summary)
    return _of_bench(summary.bench, gate.metric) if summary.bench else Reading(why="only a bench has it")


def _cost(summary: Summary) -> Reading:
    cost = summary.cost
    unknown = cost.answers - cost.answers_known + cost.lost_unknown
    if not cost.total or unknown:
        what = f"what {unknown:,} attempts cost is not known" if cost.total else "nobody told what it cost"
        return Reading(why=what)
    return Reading(cost.total)


def _of_bench(bench: Bench, metric: str) -> Reading:
    """Numbers of which a part is not known are none: a side that tells less would look better, or worse."""
    if metric == "goodput":
        good = bench.goodput
        if good.unknown:
            return Reading(why=f"whether {several(good.unknown, 'answer')} met the SLO is not known")
        return _share(good.of - good.met, good.of, "the scenario has no [slo]")
    if metric == "unserved":
        return _share(bench.unserved.n, bench.unserved.of, "no arrival was due")
    rate: float | None = getattr(bench.steady, metric)
    if rate and bench.steady.at_least(metric):
        return Reading(why="some answers in its steady window did not tell their tokens")
    return Reading(rate) if rate else Reading(why="its steady window, or tokens in it, are not known")


def _share(hits: int, of: int, why: str) -> Reading:
    return Reading(hits / of, hits=hits, of=of) if of else Reading(why=why)


def _percentile(summary: Summary, metric: str, p: int) -> Reading:
    d = summary.metrics[metric]
    if d.withheld:
        return Reading(why=f"withheld: {d.withheld}")
    if not d.n:
        return Reading(why="no answer has it")
    # Half of the answers lie beyond a median; above it, a verdict asks for what a number is marked without.
    least = 1 if p == 50 else reliable(p)
    if d.n < least and metric not in POOLED:
        return Reading(why=f"p{p} takes {least:,} values a run, and there are {d.n:,}")
    value = d.percentiles[name_of(p)]
    return Reading(why=f"p{p} takes more values") if value is None else Reading(value)


# -- limits as people write them

_LIMIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|)\Z")
_ADDED = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|)\Z")
_TO_MS = {"us": 1e-3, "ms": 1.0, "": 1.0, "s": 1e3}


def max_regressions(texts: Iterable[str]) -> dict[str, float]:
    """`10%` for all, `ttft=5%` for one; "" is the key of the first.

    Raises:
        CompareError: one is no limit.
    """
    out: dict[str, float] = {}
    for text in texts:
        name, equals, limit = (part.strip() for part in text.rpartition("="))
        found = _LIMIT.match(limit)
        share = float(found[1]) / (100 if found[2] else 1) if found else 0.0
        if found is None or not share or (share >= 1 and not found[2]) or (equals and not name):
            meant = f"; write {limit}% if that is meant" if found and share >= 1 and not found[2] else ""
            raise CompareError(f"--max-regression {text!r} is no limit like 10% or ttft=5%{meant}")
        _put(out, name and name_of_metric(name), share, "--max-regression")
    return out


def max_added(texts: Iterable[str]) -> dict[str, float]:
    """`ttft=20ms`, in milliseconds.

    Raises:
        CompareError: one is no limit.
    """
    out: dict[str, float] = {}
    for text in texts:
        name, _, limit = (part.strip() for part in text.rpartition("="))
        found = _ADDED.match(limit)
        if not name or found is None or not float(found[1]):
            raise CompareError(f"--max-added {text!r} is no limit like ttft=20ms")
        _put(out, name_of_metric(name), float(found[1]) * _TO_MS[found[2]], "--max-added")
    return out


def _put(to: dict[str, float], name: str, limit: float, flag: str) -> None:
    if name in to:
        raise CompareError(f"{flag} is given twice for {name or 'all metrics'}")
    to[name] = limit
