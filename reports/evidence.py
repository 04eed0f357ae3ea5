"""What the runs of both sides say of one gated metric: an estimate of how much worse NEW is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct, field, structs

from reports.estimate import Estimate, batch_variance, borrowed, counted, paired, pooled, welch
from reports.gates import Gate, Reading, read
from reports.sides import Run, Sides, once

# One run a side, and nothing known of how runs differ: noise about three times the usual is taken for
# granted, and only what is far beyond it is told (reports/metric_verdicts.py).
ASSUMED_NOISE = 0.10
_CERTAIN = 1e6  # degrees of freedom of a spread that was not measured but taken for granted


class Evidence(Struct):
    """What the runs say of one gate."""

    gate: Gate
    base: list[float]  # a run's value, of those that have one
    new: list[float]
    base_counts: tuple[int, int] = (0, 0)  # of shares
    new_counts: tuple[int, int] = (0, 0)
    pairs: int | None = None
    estimate: Estimate | None = None
    overwhelming_only: bool = False
    why: str = ""  # there is no estimate
    absent: list[str] = field(default_factory=list)  # sides that have no value at all
    missing: list[str] = field(default_factory=list)  # runs without a value, and why


def evidence(gate: Gate, sides: Sides, stored: Sequence[Sequence[Run]] = ()) -> Evidence:
    """What the runs say of a metric.

    Args:
        gate: which metric, and how.
        sides: the runs judged.
        stored: groups of runs that show how one thing differs from run to run.
    """
    readings = [[read(run.summary, gate) for run in side] for side in (sides.base, sides.new)]
    found = _gather(gate, sides, readings)
    if not (found.base and found.new):
        found.why = f"not measured in {' and '.join(found.absent) or 'both runs of any pair'}"
        return found
    if gate.scale == "ratio" and min(*found.base, *found.new) <= 0:
        found.why = "a run's value is 0, and nothing is a ratio of that"
        return found
    base, new = ([_scaled(gate, value) for value in side] for side in (found.base, found.new))
    if found.pairs is not None and found.pairs >= 2:
        found.estimate = paired(base, new)
    elif len(base) >= 2 and len(new) >= 2:
        found.estimate = welch(base, new)
    else:
        _few(found, sides, base, new, stored)
    if gate.scale == "share" and found.estimate is not None:
        found.estimate = structs.replace(found.estimate, counted=counted(found.base_counts, found.new_counts))
    return found


def _gather(gate: Gate, sides: Sides, readings: list[list[Reading]]) -> Evidence:
    used: list[list[Reading]] = [[], []]
    if sides.paired:
        for both in zip(*readings, strict=True):
            if all(reading.value is not None for reading in both):
                for to, reading in zip(used, both, strict=True):
                    to.append(reading)
    else:
        used = [[r for r in side if r.value is not None] for side in readings]
    base, new = ([r.value for r in side if r.value is not None] for side in used)
    counts = [(sum(r.hits for r in side), sum(r.of for r in side)) for side in used]
    runs = [*zip(sides.base, readings[0], strict=True), *zip(sides.new, readings[1], strict=True)]
    return Evidence(
        gate=gate,
        base=base,
        new=new,
        base_counts=counts[0],
        new_counts=counts[1],
        pairs=len(used[0]) if sides.paired else None,
        absent=[
            side
            for side, of in zip(("BASE", "NEW"), readings, strict=True)
            if all(r.value is None for r in of)
        ],
        missing=[f"{run.name}: {r.why}" for run, r in runs if r.value is None],
    )


def _scaled(gate: Gate, value: float) -> float:
    """So that larger is worse, and differences are effects. A share is one of failures already."""
    if gate.scale != "ratio":
        return value
    return -math.log(value) if gate.higher_is_better else math.log(value)


def _few(
    found: Evidence, sides: Sides, base: list[float], new: list[float], stored: Sequence[Sequence[Run]]
) -> None:
    """A side of one run: its spread comes from stored runs, else from inside the run."""
    gate = found.gate
    noise = pooled([values_of(gate, group) for group in once([*stored, sides.base, sides.new])])
    inside = _inside(found, sides)
    if noise is not None:
        floors = tuple(variance or 0.0 for variance in inside)
        found.estimate = borrowed(base, new, noise, (floors[0], floors[1]))
        return
    found.overwhelming_only = True
    if inside[0] is None or inside[1] is None:
        found.why = "one run a side, too few requests in it for batches, and no stored runs"
        return
    assumed = 0.0 if gate.scale == "share" else 2 * ASSUMED_NOISE**2
    if gate.scale == "added":
        assumed *= found.base[0] * found.new[0]
    found.estimate = Estimate(
        mean=new[0] - base[0],
        error=math.sqrt(inside[0] + inside[1] + assumed),
        freedom=_CERTAIN,
        method="batch means and an assumed run-to-run noise of 10 %",
        n=1,
    )


def values_of(gate: Gate, runs: Sequence[Run]) -> list[float]:
    """Each run's value, so that larger is worse; runs without one are left out."""
    values = [read(run.summary, gate).value for run in runs]
    return [
        _scaled(gate, value) for value in values if value is not None and (value > 0 or gate.scale != "ratio")
    ]


def _inside(found: Evidence, sides: Sides) -> list[float | None]:
    """The variance of each side's value as far as the requests of one run tell."""
    gate = found.gate
    if gate.scale == "share":
        pairs = (found.base_counts, found.new_counts)
        # A half more of either, so that no failure is not taken for no doubt.
        shares = [((hits + 0.5) / (of + 1), of) for hits, of in pairs]
        return [p * (1 - p) / of for p, of in shares]
    out: list[float | None] = []
    for runs, values in ((sides.base, found.base), (sides.new, found.new)):
        series = runs[0].series.get(gate.metric) if len(runs) == 1 and gate.p == 50 else None
        variance = None if series is None else batch_variance(series)
        if variance is not None and gate.scale == "added":
            variance *= values[0] ** 2
        out.append(variance)
    return out
