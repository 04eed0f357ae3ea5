"""Two sets of runs -> a verdict per metric that a pull request can be held to.

METRICS, "Comparing", is the specification; docs/compare.md says it for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from reports.bench import Outcome
from reports.cells import several
from reports.comparison import CompareError, Comparison, Fingerprint, MetricVerdict
from reports.evidence import Evidence, evidence
from reports.expect_changes import Changes, expectation_changes
from reports.fingerprints import fingerprints
from reports.gates import GATED, MAX_SHARE, Gate, gates, unserved
from reports.groups import runs_of
from reports.metric_verdicts import amount_of, verdicts
from reports.shifts import noise as noise_of
from reports.shifts import shifts, side_of, warnings
from reports.sides import Run, Sides, arrange, check, is_invalid, once, read_run
from reports.validity import only_failed
from runner.store import StoreError, load_manifest


class Compared(Struct):
    """A comparison, and the runs and gates it was made of: what charts are drawn from."""

    comparison: Comparison
    sides: Sides
    gates: list[Gate]


def compare(base: Sequence[Path], new: Sequence[Path], **how: Any) -> Comparison:
    """`compared`, without what charts are drawn from."""
    return compared(base, new, **how).comparison


def compared(
    base: Sequence[Path],
    new: Sequence[Path],
    *,
    max_regression: Mapping[str, float] | None = None,
    max_added_ms: Mapping[str, float] | None = None,
    metrics: Sequence[str] | None = None,
    paired: bool | None = None,
    declared: Collection[str] = (),
    noise: Sequence[Path] = (),
) -> Compared:
    """Judge the runs of one side by those of the other.

    Args:
        base: run directories of what was before.
        new: run directories of what is to be judged.
        max_regression: by metric, how much worse is allowed (0.1: 10 %); "" is of all others but shares.
        max_added_ms: by metric, how many milliseconds more are allowed; judged instead of the ratio.
        metrics: these and no others (`reports.gates.name_of_metric`); default: ttft, tpot, e2e, errors.
        paired: whether runs belong together in pairs; default: as their tags `pair` say.
        declared: fields that are meant to differ; a name stands for all below it.
        noise: folders of stored runs, each of one thing: how it differs from run to run.

    Raises:
        StoreError: a run cannot be read.
        CompareError: the runs cannot be compared, or not so.
    """
    asked = gates(metrics, max_regression or {}, max_added_ms or {})
    times = _times(asked)
    series = len(base) == 1 or len(new) == 1
    read = [[read_run(path, times, series=series) for path in side] for side in (base, new)]
    stored = [[read_run(path) for path in runs_of(folder)] for folder in noise]
    unfit = [run.name for group in stored for run in group if is_invalid(run)]
    stored = [[run for run in group if not is_invalid(run)] for group in stored]
    before, after = read
    check(before, after)
    shares = any(gate.scale == "share" for gate in asked)
    sides = arrange(before, after, paired, shares=shares)
    if metrics is None and not any(one.metric == "unserved" for one in asked) and _left_more(sides):
        asked.append(unserved())
    found = _judged(asked, sides, stored, frozenset(declared))
    try:
        found.answers = _answers(base[-1], new[-1])
    except StoreError as exc:  # they are shown, and no verdict hangs on them
        found.warnings.append(f"which answers changed cannot be said: {exc}")
    found.warnings += [f"{name} is INVALID, and in no noise." for name in unfit]
    return Compared(found, sides, asked)


def _answers(base: Path, new: Path) -> Changes | None:
    """Which prompts had the expected answers before and have not now: shown; `check --expect` judges."""
    prompts = [load_manifest(run).prompts for run in (base, new)]
    if any(one is None or not one.expects for one in prompts):
        return None
    return expectation_changes(base, new)


def _left_more(sides: Sides) -> bool:
    """Whether NEW left more arrivals unserved than it may: a server that hangs fails nothing.

    Judged only there: loads that end by the clock cut a few on both sides.
    """
    base, new = (
        [run.summary.bench.unserved for run in side if run.summary.bench] for side in (sides.base, sides.new)
    )
    shares = [sum(one.n for one in side) / max(1, sum(one.of for one in side)) for side in (base, new)]
    return shares[1] - shares[0] > MAX_SHARE


def _judged(
    asked: Sequence[Gate], sides: Sides, stored: Sequence[Sequence[Run]], declared: frozenset[str]
) -> Comparison:
    """Judge runs that were read."""
    apart = fingerprints(sides, declared, _shaping(asked)) if sides.base and sides.new else []
    blocked = sides.unfit or _undeclared(apart)
    found = [evidence(gate, sides, stored) for gate in asked]
    kept = found if sides.unfit else _measured(found)
    judged = verdicts(kept, blocked)
    _pass_no_outage(judged, sides)
    overall = _overall(judged)
    groups = once([*stored, sides.base])
    return Comparison(
        verdict=overall,
        words=blocked or _in_words(judged, overall),
        unfit=sides.unfit,
        verdicts=judged,
        base=side_of(sides.base),
        new=side_of(sides.new),
        paired=sides.paired,
        pairs=_pairs(sides),
        fingerprints=apart,
        dropped=sides.dropped,
        warnings=[*_partly(kept), *(warnings(sides) if sides.base and sides.new else [])],
        noise=noise_of(asked, groups),
        noise_runs=_beside(groups[:-1], sides.base),
        shifts=shifts(sides, _times(asked)),
        not_measured={one.gate.name: one.why for one in found if one not in kept},
    )


def _pass_no_outage(judged: Sequence[MetricVerdict], sides: Sides) -> None:
    """Runs that had no answer at all are in no time, and a server that went down in them did not pass."""
    silent = Counter(one.side for one in sides.dropped if not one.answered)
    silent["new"] += sum(only_failed(run.summary) for run in sides.new)  # they are in `errors`
    if silent["new"] <= silent["base"]:
        return
    for one in judged:
        if one.verdict == "PASS":
            one.verdict = "INCONCLUSIVE"
            one.words = (
                f"nothing succeeded in {several(silent['new'], 'run')} of NEW ({silent['base']:,} of BASE), "
                f"which are in none of its numbers. Of the others: {one.words}"
            )


def _beside(stored: Sequence[Sequence[Run]], base: Sequence[Run]) -> list[str]:
    """The stored runs that are not BASE's."""
    own = {run.path.resolve() for run in base}
    return [run.name for group in stored for run in group if run.path.resolve() not in own]


def _shaping(asked: Sequence[Gate]) -> frozenset[str]:
    """Settings that send nothing, and are what a judged metric is made of."""
    return frozenset({"slo"} if any(one.metric == "goodput" for one in asked) else ())


def _times(asked: Sequence[Gate]) -> list[str]:
    """The metrics of which each request has one value."""
    return list(dict.fromkeys(one.metric for one in asked if one.unit == "ms" and one.metric != "itl"))


def _undeclared(apart: Sequence[Fingerprint]) -> str | None:
    names = [one.field for one in apart if not one.declared]
    if not names:
        return None
    return (
        f"not comparable: the sides differ in {', '.join(names)}, and nobody declared it. Measure them "
        "alike, or say what is meant with --declare"
    )


def _measured(found: list[Evidence]) -> list[Evidence]:
    """Without the usual metrics that neither side has.

    Raises:
        CompareError: one was asked for by name, or none is left.
    """
    kept = [one for one in found if len(one.absent) < 2]
    for one in found:
        if one.gate.asked and one not in kept:
            raise CompareError(f"{one.gate.name} was not measured on either side. {_first(one)}")
    # Errors alone say nothing of how fast anything was.
    usual = {one.gate.metric for one in kept} - {"errors", "unserved"}
    if not kept or (not usual and not any(one.gate.asked for one in kept)):
        names = ", ".join(name for name in GATED if name != "errors")
        raise CompareError(f"the runs have no metric in common to judge by ({names}). {_first(found[0])}")
    return kept


def _partly(kept: Sequence[Evidence]) -> list[str]:
    """What only some runs have."""
    return [
        f"{one.gate.name} is of fewer runs than there are: {'; '.join(one.missing[:3])}."
        for one in kept
        if one.missing and not one.absent
    ]


def _first(one: Evidence) -> str:
    return one.missing[0] if one.missing else one.why


def _overall(judged: Sequence[MetricVerdict]) -> Outcome:
    found = {one.verdict for one in judged}
    if "FAIL" in found:
        return "FAIL"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in found or not found else "PASS"


def _in_words(judged: Sequence[MetricVerdict], overall: Outcome) -> str:
    names = ", ".join(one.metric for one in judged if one.verdict == overall)
    if overall == "PASS":
        return f"none of {several(len(judged), 'metric')} got worse by more than is allowed"
    if overall == "FAIL":
        grown = [
            f"{one.metric} ({amount_of(one.scale, one.effect)})"
            for one in judged
            if one.verdict == overall and one.effect is not None
        ]
        return f"{', '.join(grown)} got worse"
    more = [one.more for one in judged if one.verdict == overall]
    unit = "pair" if any(one.pairs is not None for one in judged) else "run"
    most = max((n for n in more if n is not None), default=None)
    if most is None or None in more:
        return f"{names} cannot be judged yet"
    a_side = "" if unit == "pair" else " a side"
    return f"{names} cannot be judged yet: about {several(most, f'more {unit}')}{a_side} would settle it"


def _pairs(sides: Sides) -> list[tuple[str, str]]:
    if not sides.paired:
        return []
    return [(one.name, other.name) for one, other in zip(sides.base, sides.new, strict=True)]
