"""What is shown beside the verdicts and never judged by: whole distributions, lengths, noise, cautions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.special import ndtri

from reports.bench import Unserved
from reports.comparison import RunNoise, Shift, Side
from reports.distribution import Values
from reports.estimate import FAIL_ALPHA, POWER, pooled
from reports.evidence import values_of
from reports.gates import Gate
from reports.sides import Run, Sides

DECILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
_LENGTHS_APART = 0.05
_USUAL_PAIRS = 6


def side_of(runs: Sequence[Run]) -> Side:
    """A side in short."""
    reasons = Counter[str]()
    for run in runs:
        reasons.update(run.summary.requests.finish_reasons)
    return Side(
        runs=[run.name for run in runs],
        requests=sum(run.summary.requests.total for run in runs),
        finish_reasons=dict(reasons.most_common()),
        output_tokens_mean=_mean_length(runs),
    )


def _mean_length(runs: Sequence[Run]) -> float | None:
    lengths = [run.output_tokens for run in runs if run.output_tokens.n]
    total = sum(found.n for found in lengths)
    return sum((found.mean or 0.0) * found.n for found in lengths) / total if total else None


def shifts(sides: Sides, metrics: Iterable[str]) -> list[Shift]:
    """The deciles of each time, and of the tokens an answer has."""
    read: dict[str, tuple[str, Callable[[Run], Values]]] = {
        name: ("ms", lambda run, name=name: run.values[name])  # type: ignore[misc]
        for name in metrics
    }
    read["output_tokens"] = ("tokens", lambda run: run.output_tokens)
    out = []
    for name, (unit, values) in read.items():
        base, new = ([values(run) for run in side] for side in (sides.base, sides.new))
        if any(one.n for one in base) and any(one.n for one in new):
            out.append(
                Shift(
                    metric=name,
                    unit=unit,
                    percentiles=list(DECILES),
                    base=_deciles(base),
                    new=_deciles(new),
                    base_n=sum(one.n for one in base),
                    new_n=sum(one.n for one in new),
                )
            )
    return out


def _deciles(runs: Sequence[Values]) -> list[float | None]:
    """Over runs: the mean of each run's, so that a long run does not outweigh the others."""
    found = [[one.percentile(p) for one in runs if one.n] for p in DECILES]
    return [float(np.mean([value for value in values if value is not None])) for values in found]


def noise(gates: Sequence[Gate], groups: Sequence[Sequence[Run]]) -> dict[str, RunNoise]:
    """How far each metric goes from run to run inside groups of runs of one thing."""
    out = {}
    for gate in gates:
        values = [values_of(gate, group) for group in groups]
        found = pooled(values)
        if found is None or (gate.scale == "share" and not found.variance):
            continue
        spread = math.sqrt(found.variance)
        reach = float(ndtri(1 - FAIL_ALPHA) + ndtri(POWER)) * spread * math.sqrt(2 / _USUAL_PAIRS)
        out[gate.name] = RunNoise(
            runs=sum(len(group) for group in values),
            spread=gate.shown(spread),
            scale=gate.scale,
            least=gate.shown(reach),
        )
    return out


# -- cautions


def warnings(sides: Sides) -> list[str]:
    """What may make the two sides differ, or a number doubtful, and refuses nothing."""
    return [
        *_of_clients(sides),
        *_of_lengths(sides),
        *_of_runs("BASE", sides.base),
        *_of_runs("NEW", sides.new),
        *_of_kinds(sides),
    ]


def _of_clients(sides: Sides) -> Iterable[str]:
    base, new = _hosts(sides.base), _hosts(sides.new)
    if base != new:
        yield f"the client ran on other hosts: {_named(base)} for BASE, {_named(new)} for NEW."
    found = _versions(sides.base), _versions(sides.new)
    for name in sorted(found[0] | found[1]):
        one, other = (side.get(name, set()) for side in found)
        if one != other:
            yield f"the client had another {name}: {_named(one)} for BASE, {_named(other)} for NEW."


def _named(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "unknown"


def _hosts(runs: Sequence[Run]) -> set[str]:
    return {session.host for run in runs for session in run.manifest.sessions}


def _versions(runs: Sequence[Run]) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for run in runs:
        for session in run.manifest.sessions:
            for name, version in session.versions.items():
                out.setdefault(name, set()).add(str(version))
    return out


def _of_lengths(sides: Sides) -> Iterable[str]:
    apart = []
    for shift in shifts(sides, ()):
        both = zip(shift.percentiles, shift.base, shift.new, strict=True)
        apart = [p for p, b, n in both if b and n and abs(n / b - 1) > _LENGTHS_APART]
    base, new = _mean_length(sides.base), _mean_length(sides.new)
    if base and new and (apart or abs(new / base - 1) > _LENGTHS_APART):
        yield (
            f"answers have another length: {base:.1f} tokens on average for BASE, {new:.1f} for NEW. "
            "Times of whole answers (e2e) differ by that alone; tpot does not."
        )


def _of_runs(side: str, runs: Sequence[Run]) -> Iterable[str]:
    labels = Counter[str]()
    yield from _of_unserved(side, [run.summary.bench.unserved for run in runs if run.summary.bench])
    for run in runs:
        bench = run.summary.bench
        if bench is None:
            continue
        labels.update(label.name for label in bench.labels)
        if bench.validity.level == "WARN":
            labels["WARN"] += 1
        if bench.load.ended_early:
            yield f"{run.name} ended early: {bench.load.ended_early}."
    if labels:
        counts = ", ".join(f"{name} in {n} of {len(runs)} runs" for name, n in sorted(labels.items()))
        yield f"{side}: {counts}. `streamgauge report RUN` says more."


def _of_unserved(side: str, found: Sequence[Unserved]) -> Iterable[str]:
    left, of = sum(one.n for one in found), sum(one.of for one in found)
    if left:
        yield (
            f"{side}: {left:,} of {of:,} arrivals were left unserved (never sent, or cut when the run "
            "ended): they are no errors, and in no time. `unserved` judges them."
        )


def _of_kinds(sides: Sides) -> Iterable[str]:
    if any(run.summary.bench is None for run in (*sides.base, *sides.new)):
        yield (
            "a run that is no bench has no load of its own and no check of its client: its numbers are "
            "judged as they are."
        )
