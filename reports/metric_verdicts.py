"""Each gated metric judged, in METRICS' order: PASS, then FAIL, then INCONCLUSIVE.

PASS          the one-sided 95 % upper bound lies below the limit. All metrics must pass, each at its own
              5 %, so that any one of them may be the one at its limit: nothing is divided among them
FAIL          the chance of such an effect where there is none is at most 2.5 %, raised by Holm over the
              gated metrics (any of them may cry wolf), and the effect is at least half of the limit
INCONCLUSIVE  neither, with how many more pairs or runs would settle it
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reports.bench import Outcome
from reports.cells import number, several
from reports.comparison import MetricVerdict, Scale
from reports.estimate import FAIL_ALPHA, MOST, Estimate, holm, needed
from reports.evidence import Evidence
from reports.gates import Gate

# Where one run a side is all there is: nothing smaller is told.
OVERWHELMING = math.log(1.5)
OVERWHELMING_SHARE = 0.10
_MISSES = {"goodput": "missed its SLO", "unserved": "was left unserved"}


def judge(estimate: Estimate, threshold: float, p_holm: float) -> Outcome:
    """METRICS' three steps, in their order."""
    if estimate.high < threshold:
        return "PASS"
    if p_holm <= FAIL_ALPHA and estimate.low > 0 and estimate.mean >= threshold / 2:
        return "FAIL"
    return "INCONCLUSIVE"


def _judge_overwhelming(found: Evidence, estimate: Estimate, p_holm: float) -> Outcome:
    """One run a side, and no noise known: only what no usual noise could do."""
    far = {"share": OVERWHELMING_SHARE, "ratio": OVERWHELMING}.get(found.gate.scale)
    if far is None:
        far = max(found.gate.limit, found.base[0] * math.expm1(OVERWHELMING))
    if estimate.mean >= far and estimate.low > 0 and p_holm <= FAIL_ALPHA:
        return "FAIL"
    return "PASS" if estimate.mean <= -far and estimate.high < 0 else "INCONCLUSIVE"


def verdicts(found: Sequence[Evidence], blocked: str | None = None) -> list[MetricVerdict]:
    """Judge all gated metrics.

    Args:
        found: what the runs say of each.
        blocked: why none of them can have another verdict than INCONCLUSIVE.
    """
    chances = holm({one.gate.name: one.estimate.p for one in found if one.estimate is not None})
    return [_verdict(one, chances, blocked) for one in found]


def _verdict(found: Evidence, chances: Mapping[str, float], blocked: str | None) -> MetricVerdict:
    gate, estimate = found.gate, found.estimate
    base, new = _typical(gate, found.base, found.base_counts), _typical(gate, found.new, found.new_counts)
    out = MetricVerdict(
        metric=gate.name,
        scale=gate.scale,
        verdict="INCONCLUSIVE",
        words=blocked or found.why,
        unit=gate.unit,
        higher_is_better=gate.higher_is_better,
        base=base,
        new=new,
        change=_change(gate, base, new),
        effect=None,
        low=None,
        high=None,
        limit=gate.limit,
        p=None,
        p_holm=None,
        method=None,
        pairs=found.pairs,
        base_runs=len(found.base),
        new_runs=len(found.new),
        base_values=_shown(gate, found.base),
        new_values=_shown(gate, found.new),
    )
    if estimate is None:
        out.words += f" ({'; '.join(found.missing[:2])})" if found.missing and not blocked else ""
        return out
    p_holm = chances[gate.name]
    out.effect, out.low, out.high = (gate.shown(x) for x in (estimate.mean, estimate.low, estimate.high))
    out.p, out.p_holm, out.method = estimate.p, p_holm, estimate.method
    if not blocked:
        _decide(out, found, estimate, p_holm, len(chances))
    return out


def _decide(out: MetricVerdict, found: Evidence, estimate: Estimate, p_holm: float, metrics: int) -> None:
    gate = found.gate
    if gate.scale == "share" and not found.new_counts[0]:
        out.verdict = "PASS"
        what = _MISSES.get(gate.metric, "failed")
        most = amount_of("share", max(estimate.high, 0.0), sign=False)
        of = several(found.new_counts[1], "request")
        out.words = f"none of {of} of NEW {what}, which leaves room for at most {most} more"
        return
    if found.overwhelming_only:
        out.verdict = _judge_overwhelming(found, estimate, p_holm)
    else:
        out.verdict = judge(estimate, gate.threshold, p_holm)
    if out.verdict == "INCONCLUSIVE" and not found.overwhelming_only:
        alpha = FAIL_ALPHA * min(1.0, estimate.p / p_holm) if p_holm else FAIL_ALPHA / metrics
        total = needed(estimate, gate.threshold, alpha)
        out.more = None if total is None else max(1, total - math.floor(estimate.n))
    out.words = _WORDS[out.verdict](out, found, p_holm)


def _typical(gate: Gate, values: list[float], counts: tuple[int, int]) -> float | None:
    """Of a side: what its runs come to."""
    if not values:
        return None
    if gate.scale == "share":
        worse = counts[0] / counts[1]
        return 1 - worse if gate.higher_is_better else worse
    if gate.scale == "ratio" and min(values) > 0:
        return math.exp(math.fsum(map(math.log, values)) / len(values))
    return math.fsum(values) / len(values)


def _change(gate: Gate, base: float | None, new: float | None) -> float | None:
    if base is None or new is None:
        return None
    if gate.scale == "ratio":
        return new / base - 1 if base else None
    return new - base


def _shown(gate: Gate, values: list[float]) -> list[float]:
    return [1 - value for value in values] if gate.metric == "goodput" else values


# -- in words


def amount_of(scale: Scale, value: float, *, sign: bool = True) -> str:
    """An effect or a limit as people read it."""
    digits, what = {"ratio": (1, "%"), "share": (2, "points"), "added": (2, "ms")}[scale]
    shown = value if scale == "added" else value * 100
    if round(shown, digits) == 0:
        return f"0 {what}"
    text = number(shown) if scale == "added" else f"{shown:.{digits}f}"
    return f"{'+' if sign and shown > 0 else ''}{text} {what}"


def _passes(out: MetricVerdict, found: Evidence, p_holm: float) -> str:
    assert out.low is not None
    assert out.high is not None
    if found.overwhelming_only:
        return f"better by far more than any usual noise ({amount_of(out.scale, out.effect or 0.0)})"
    at_most = f"worse by at most {amount_of(out.scale, max(out.high, 0.0), sign=False)}"
    allowed = f"{amount_of(out.scale, out.limit, sign=False)} allowed"
    if p_holm <= FAIL_ALPHA and out.low > 0:
        return f"a regression, proven smaller than the allowed one: {at_most}, {allowed}"
    return f"{at_most}, {allowed}"


def _fails(out: MetricVerdict, found: Evidence, p_holm: float) -> str:
    assert out.low is not None
    if found.overwhelming_only:
        return "worse by far more than any usual noise, though how runs differ here is not known"
    return (
        f"worse by at least {amount_of(out.scale, max(out.low, 0.0), sign=False)}: "
        f"chance alone does this in {_odds(p_holm)}"
    )


def _odds(p: float) -> str:
    return "less than 1 of 10,000 comparisons" if p < 1e-4 else f"{p * 100:.2g} of 100 comparisons"


def _is_open(out: MetricVerdict, found: Evidence, p_holm: float) -> str:
    assert out.low is not None
    assert out.high is not None
    if found.overwhelming_only:
        return (
            "one run a side says nothing of how runs differ. Make at least three a side, or name stored runs "
            "with --noise"
        )
    between = f"between {amount_of(out.scale, out.low)} and {amount_of(out.scale, out.high)}"
    unit = "pair" if out.pairs is not None else "run"
    if out.more is None:
        more = f"more than {MOST:,} {unit}s would be needed: the effect is too near the limit"
    else:
        a_side = "" if unit == "pair" else " a side"
        more = f"about {several(out.more, f'more {unit}')}{a_side} would settle it"
    beyond = (
        " (above 0 alone, and not among all gated metrics)" if out.low > 0 and p_holm > FAIL_ALPHA else ""
    )
    return f"{between}{beyond}, {amount_of(out.scale, out.limit, sign=False)} allowed: {more}"


_WORDS = {"PASS": _passes, "FAIL": _fails, "INCONCLUSIVE": _is_open}
