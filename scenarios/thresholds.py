"""Thresholds: `ttft: p(95)<800ms` read and checked. Judging them is the reports' business.

AGG OP NUMBER[UNIT]      as in k6: p(95)<800ms, avg<=1.5s, rate<1%, value>1000
ucb(AGG), lcb(AGG)       the upper or lower end of the aggregation's confidence interval
METRIC{KEY:VALUE}        only of the records (or errors) whose KEY is VALUE: errors{kind:timeout}
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, NoReturn

from msgspec import Struct

Kind = Literal["time", "pace", "throughput", "share", "amount"]
Aggregation = Literal["p", "med", "avg", "min", "max", "rate", "value", "count"]
Bound = Literal["ucb", "lcb"]
Op = Literal["<", "<=", ">", ">=", "==", "!="]


class Metric(Struct, frozen=True):
    """What can be asked of a metric."""

    kind: Kind
    unit: str
    """Its natural one: what a number without a unit is in, and what a limit is turned into."""

    @property
    def aggregations(self) -> tuple[Aggregation, ...]:
        """What it can be summed up by."""
        return _AGGREGATIONS[self.kind]

    @property
    def selectable(self) -> bool:
        """Whether it is a number of single requests, so that a selector can choose among them."""
        return self.kind in {"time", "pace"}

    @property
    def units(self) -> tuple[str, ...]:
        """What may stand behind the number."""
        return tuple(unit for unit in _FACTORS[self.kind] if unit)


_DISTRIBUTION: tuple[Aggregation, ...] = ("p", "med", "avg", "min", "max", "count")
_AGGREGATIONS: dict[Kind, tuple[Aggregation, ...]] = {
    "time": _DISTRIBUTION,
    "pace": _DISTRIBUTION,
    "throughput": ("value",),
    "share": ("rate", "count"),
    "amount": ("value",),
}
# Decimal, as people write: 95 * 0.01 is a little more than 0.95, and 95 of 100 would fail `rate>=95%`.
_ONE = Decimal(1)
_FACTORS: dict[Kind, dict[str, Decimal]] = {
    "time": {
        "": _ONE,
        "us": Decimal("0.001"),
        "ms": _ONE,
        "s": Decimal(1_000),
        "m": Decimal(60_000),
        "h": Decimal(3_600_000),
    },
    "pace": {"": _ONE},
    "throughput": {"": _ONE},
    "share": {"": _ONE, "%": Decimal("0.01")},
    "amount": {"": _ONE},
}
_WITH_BOUND: frozenset[Aggregation] = frozenset({"p", "med", "avg", "rate"})

METRICS: dict[str, Metric] = {
    **{
        name: Metric("time", "ms")
        for name in (
            "ttft",
            "ttft_sched",
            "ttfc",
            "ttfb",
            "itl",
            "tpot",
            "e2e",
            "e2e_sched",
            "delay",
            "connect",
            "stall",
        )
    },
    "output_rate": Metric("pace", "tokens/s"),
    **{
        name: Metric("throughput", "1/s")
        for name in ("output_throughput", "input_throughput", "request_throughput")
    },
    **{name: Metric("share", "share") for name in ("goodput", "errors", "unserved", "expect")},
    "cost": Metric("amount", "currency"),
}
"""Every metric a threshold may name."""

SELECTABLE = tuple(
    name for name, metric in METRICS.items() if metric.selectable or name in {"errors", "expect"}
)
"""Those that a selector can stand behind."""

ERROR_KINDS = (
    *("connect", "tls", "disconnected", "timeout", "rate_limit", "overloaded", "server_error", "quota"),
    *("auth", "bad_request", "redirect", "bad_content_type", "bad_encoding", "bad_json", "truncated"),
    *("empty_stream", "stream_error", "protocol", "too_large"),
)
"""What `errors{kind:...}` may name: the record's closed list, which this package cannot import."""

SLO_METRICS = ("ttft", "ttft_sched", "ttfc", "ttfb", "tpot", "e2e", "e2e_sched", "stall")
"""Times that each request has one of, and that a user feels: what `[slo]` may name."""

DEFAULTS: dict[str, list[str]] = {"errors": ["rate<1%"], "unserved": ["rate<1%"]}
"""Judged in every bench that says nothing of these metrics. A server that hangs fails nothing: it is the
second that sees it."""


class ThresholdError(ValueError):
    """A threshold that cannot be judged. The text says which, why, and what is allowed."""


class Threshold(Struct, frozen=True):
    """One of them."""

    metric: str
    agg: Aggregation
    op: Op
    limit: float
    """In the metric's natural unit: ms, a share from 0 to 1; a plain number of `count`."""
    text: str
    """As it was written, without the metric."""
    p: float | None = None
    """Of `p(95)`: 95."""
    bound: Bound | None = None
    selector: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The metric with its selector, as it was written."""
        inside = ",".join(f"{key}:{value}" for key, value in self.selector.items())
        return f"{self.metric}{{{inside}}}" if inside else self.metric

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


_NAME = re.compile(r"\s*([^\s{}]+?)\s*(?:\{([^{}]*)\})?\s*\Z")
_PAIR = re.compile(r"\s*([\w.-]+)\s*:\s*(.*\S)\s*\Z")
_WHOLE = re.compile(r"\s*(?P<agg>[^<>=!]*?)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<limit>.*?)\s*\Z", re.S)
_BOUND = re.compile(r"(ucb|lcb)\s*\(\s*(.*?)\s*\)\Z")
_PERCENTILE = re.compile(r"p\s*\(\s*(\d+(?:\.\d+)?)\s*\)\Z")
_LIMIT = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(\S*)\Z")


def parse(metric: str, text: str) -> Threshold:
    """One threshold of a metric.

    Args:
        metric: its name, with a selector or without: `ttft`, `errors{kind:timeout}`.
        text: what must hold: `p(95)<800ms`.

    Raises:
        ThresholdError: it cannot be judged.
    """
    name, selector = parse_name(metric)
    known = METRICS[name]
    where = f"{metric.strip()}: {text.strip()!r}"
    found = _WHOLE.match(text)
    if found is None:
        _refuse(f"{where} compares nothing", f"write AGGREGATION OPERATOR NUMBER, as in {_example(name)}")
    bound, agg, p = _aggregation(found["agg"], name, where)
    limit = _limit(found["limit"], known, agg, where)
    op: Op = found["op"]  # type: ignore[assignment]  # the pattern allows no other
    return Threshold(
        metric=name,
        agg=agg,
        op=op,
        limit=limit,
        text=text.strip(),
        p=p,
        bound=bound,
        selector=selector,
    )


def parse_line(line: str) -> Threshold:
    """A threshold in one line, for a flag: `ttft: p(95)<800ms`.

    Raises:
        ThresholdError: it cannot be judged.
    """
    # The colon behind the name, not the one of a selector.
    found = re.match(r"([^:{]*(?:\{[^}]*\})?)\s*:(.*)\Z", line, re.S)
    if found is None or not found[1].strip():
        _refuse(
            f"{line!r} names no metric", "write METRIC: AGGREGATION OPERATOR NUMBER, as in ttft: p(95)<800ms"
        )
    return parse(found[1], found[2])


def parse_all(thresholds: Mapping[str, Sequence[str]]) -> list[Threshold]:
    """Those of a scenario, in order.

    Raises:
        ThresholdError: one cannot be judged.
    """
    return [parse(metric, text) for metric, texts in thresholds.items() for text in _several(metric, texts)]


def with_defaults(thresholds: Mapping[str, Sequence[str]]) -> list[Threshold]:
    """Those a bench is judged by: a scenario's own, and the defaults for metrics it says nothing of.

    An empty list (`errors = []`) says that nothing is to be judged.
    """
    missing = {metric: texts for metric, texts in DEFAULTS.items() if metric not in thresholds}
    return parse_all({**missing, **thresholds})


def parse_name(text: str) -> tuple[str, dict[str, str]]:
    """A metric and its selector.

    Raises:
        ThresholdError: there is no such metric, or it has no such selector.
    """
    found = _NAME.match(text)
    if found is None:
        _refuse(f"{text!r} is no metric", "write METRIC or METRIC{KEY:VALUE}, as in errors{kind:timeout}")
    name, inside = found[1], found[2]
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        _refuse(f"there is no metric {name!r}", f"{meant}There are {', '.join(METRICS)}")
    selector: dict[str, str] = {}
    for part in inside.split(",") if inside is not None else ():
        pair = _PAIR.match(part)
        if pair is None or pair[1] in selector:
            _refuse(f"{text!r} selects nothing", "write {KEY:VALUE}, as in errors{kind:timeout}")
        selector[pair[1]] = pair[2]
    if selector and name not in SELECTABLE:
        _refuse(f"{text!r}: {name} is of the whole run", f"selectors go with {', '.join(SELECTABLE)}")
    if name == "errors" and "kind" in selector:
        _check_kind(selector["kind"], text)
    return name, selector


def _check_kind(kind: str, where: str) -> None:
    """A kind that nothing can have would pass for ever."""
    if kind not in ERROR_KINDS:
        near = difflib.get_close_matches(kind, ERROR_KINDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        _refuse(
            f"{where!r}: there is no kind of error {kind!r}", f"{meant}There are {', '.join(ERROR_KINDS)}"
        )


def _several(metric: str, texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        _refuse(f"{metric}: {texts!r} is no list", f'write ["{texts}"]')
    return texts


def _aggregation(text: str, name: str, where: str) -> tuple[Bound | None, Aggregation, float | None]:
    metric = METRICS[name]
    allowed = ", ".join("p(N)" if agg == "p" else agg for agg in metric.aggregations)
    bound: Bound | None = None
    if outer := _BOUND.match(text):
        bound = "ucb" if outer[1] == "ucb" else "lcb"
        text = outer[2]
    if percentile := _PERCENTILE.match(text):
        agg: Aggregation = "p"
        p: float | None = float(percentile[1])
        if not 0 < float(percentile[1]) <= 100:
            _refuse(f"{where}: there is no percentile {percentile[1]}", "above 0, up to 100")
    else:
        p = None
        if text not in metric.aggregations or text == "p":
            said = f"has no aggregation {text!r}" if text else "has no aggregation before the operator"
            _refuse(f"{where} {said}", f"of {name} there are {allowed}, as in {_example(name)}")
        agg = next(one for one in metric.aggregations if one == text)
    if agg not in metric.aggregations:
        _refuse(f"{where}: {name} has no percentiles", f"there are {allowed}, as in {_example(name)}")
    if bound is not None and agg not in _WITH_BOUND:
        around = ["p(N)" if one == "p" else one for one in metric.aggregations if one in _WITH_BOUND]
        _refuse(
            f"{where}: {agg} has no confidence interval",
            f"of {name}, only {', '.join(around)} can stand inside {bound}()"
            if around
            else f"nothing of {name} has",
        )
    return bound, agg, p


def _limit(text: str, metric: Metric, agg: Aggregation, where: str) -> float:
    if not text:
        _refuse(f"{where} has no number", "write one behind the operator")
    found = _LIMIT.match(text)
    if found is None:
        _refuse(f"{where}: {text!r} is not a number (of 0 or more) and its unit", "as in 800ms, 1.5s or 1%")
    unit = found[2].lower()
    factors = {"": _ONE} if agg == "count" else _FACTORS[metric.kind]
    if unit not in factors:
        units = [one for one in factors if one]
        natural = "a plain number" if agg == "count" else f"a number in {metric.unit}"
        allowed = f"{natural}, or with {', '.join(units)}" if units else f"{natural}, without a unit"
        _refuse(f"{where}: {found[2]!r} is no unit of it", f"write {allowed}")
    # An exponent beyond all bounds is more than a Decimal takes: as a float it is infinite, or 0.
    written = float(found[1])
    limit = float(Decimal(found[1]) * factors[unit]) if 0 < written < math.inf else written
    if math.isinf(limit):
        _refuse(f"{where}: {text!r} is too large", "write a limit that something can miss")
    if metric.kind == "share" and agg == "rate" and limit > 1:
        _refuse(f"{where}: a share is never above 1 (100 %)", f"write {found[1]}% if that is meant")
    return limit


def _example(name: str) -> str:
    examples: dict[Kind, str] = {
        "time": "p(95)<800ms",
        "pace": "med>30",
        "throughput": "value>100",
        "share": "rate<1%",
        "amount": "value<5",
    }
    return "rate>95%" if name in {"goodput", "expect"} else examples[METRICS[name].kind]


def _refuse(reason: str, hint: str) -> NoReturn:
    raise ThresholdError(f"{reason}; {hint}")
