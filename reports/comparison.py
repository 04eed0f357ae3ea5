"""What a comparison of two sides says: every verdict and what it rests on; and the one owner of that schema.

`None` is "not known", never 0. Effects are how much worse NEW is than BASE; `change` is how it differs.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from reports.bench import Outcome
from reports.expect_changes import Changes

COMPARISON_VERSION = 1

Scale = Literal["ratio", "added", "share"]
Part = Literal["prompts", "schedule", "limits", "request", "target"]


class CompareError(ValueError):
    """Runs that cannot be compared, or not so. The text says which, why, and what to do."""


class MetricVerdict(Struct, kw_only=True):
    """One gated metric, judged.

    `effect`, `low`, `high` and `limit` are on the metric's scale: a share of BASE (0.1: ten per cent worse),
    milliseconds added, or the difference of two shares.
    """

    metric: str  # `ttft`, `ttft:p95`
    scale: Scale
    verdict: Outcome
    words: str
    unit: str
    higher_is_better: bool
    base: float | None  # over runs: the geometric mean, of shares all failures of all requests
    new: float | None
    change: float | None  # new / base - 1, or new - base
    effect: float | None
    low: float | None  # one-sided 97.5 %
    high: float | None  # one-sided 95 %
    limit: float
    p: float | None  # of an effect like this, if there is none
    p_holm: float | None  # the same, among all gated metrics
    method: str | None
    pairs: int | None  # that have the metric, where runs are paired
    base_runs: int  # that have the metric
    new_runs: int
    more: int | None = None  # pairs, or runs a side, that would settle an INCONCLUSIVE
    base_values: list[float] = []  # a run
    new_values: list[float] = []


class Fingerprint(Struct, kw_only=True):
    """Something that differs between the sides."""

    field: str
    part: Part
    base: str
    new: str
    declared: bool  # what is under test; the others make every verdict INCONCLUSIVE


class Dropped(Struct, kw_only=True):
    """A run that is in no verdict."""

    run: str
    side: Literal["base", "new"]
    pair: str | None
    words: str
    answered: bool = True  # False: none of its requests succeeded
    next_steps: list[str] = []


class RunNoise(Struct, kw_only=True):
    """How far a metric goes from run to run where nothing changed."""

    runs: int
    spread: float  # standard deviation: of logarithms, so a share; of shares, in points
    scale: Scale
    least: float | None  # the smallest effect that six pairs with this spread would FAIL in 80 of 100 times


class Shift(Struct, kw_only=True):
    """A whole distribution on either side: all requests of all runs, pooled. Shown, and never judged by."""

    metric: str
    unit: str
    percentiles: list[int]
    base: list[float | None]
    new: list[float | None]
    base_n: int
    new_n: int


class Side(Struct, kw_only=True):
    """The runs of a side that verdicts are of."""

    runs: list[str]
    requests: int
    finish_reasons: dict[str, int]
    output_tokens_mean: float | None


class Comparison(Struct, kw_only=True):
    """All of it."""

    comparison_version: int = COMPARISON_VERSION
    verdict: Outcome
    words: str
    unfit: str | None = None  # why there are too few valid runs to judge at all (exit code 97)
    verdicts: list[MetricVerdict]
    base: Side
    new: Side
    paired: bool
    pairs: list[tuple[str, str]] = []  # of run directories
    fingerprints: list[Fingerprint] = []
    dropped: list[Dropped] = []
    warnings: list[str] = []
    noise: dict[str, RunNoise] = {}  # by metric, of BASE and the stored runs
    noise_runs: list[str] = []  # stored runs beside BASE
    shifts: list[Shift] = []
    not_measured: dict[str, str] = {}  # usually gated metrics that neither side has, and why
    answers: Changes | None = None  # of the last run of each side, where rows say what they expect


def exit_code(comparison: Comparison, on_inconclusive: Literal["pass", "fail"] | None = None) -> int:
    """What `compare` and `ab` exit with: 97 too few valid runs, 99 FAIL, 98 INCONCLUSIVE, else 0.

    Args:
        comparison: what was found.
        on_inconclusive: what an INCONCLUSIVE counts as instead.
    """
    if comparison.unfit is not None:
        return 97
    if comparison.verdict == "INCONCLUSIVE" and on_inconclusive is not None:
        return 0 if on_inconclusive == "pass" else 99
    return {"PASS": 0, "FAIL": 99, "INCONCLUSIVE": 98}[comparison.verdict]
