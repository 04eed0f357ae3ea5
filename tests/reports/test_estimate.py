"""The statistics of a comparison, against scipy and against exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from scipy import stats

from reports.estimate import (
    Counted,
    Estimate,
    batch_variance,
    borrowed,
    counted,
    holm,
    needed,
    paired,
    pooled,
    welch,
)

values = st.lists(st.floats(-1, 1), min_size=2, max_size=9)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=9))
def test_paired_is_scipys(pairs: list[tuple[float, float]]) -> None:
    base, new = (list(side) for side in zip(*pairs, strict=True))
    found = paired(base, new)
    if np.ptp(np.subtract(new, base)) < 1e-6:  # scipy warns of what is the same to the last digits
        return
    told = stats.ttest_rel(new, base, alternative="greater")
    assert found.p == pytest.approx(told.pvalue)
    upper = stats.ttest_rel(new, base, alternative="less").confidence_interval(0.95).high
    assert found.high == pytest.approx(upper)
    assert found.low == pytest.approx(told.confidence_interval(0.975).low)


@given(values, values)
def test_welch_is_scipys(base: list[float], new: list[float]) -> None:
    found = welch(base, new)
    if min(np.ptp(base), np.ptp(new)) < 1e-6:
        return
    told = stats.ttest_ind(new, base, equal_var=False, alternative="greater")
    assert found.p == pytest.approx(told.pvalue)
    assert found.freedom == pytest.approx(told.df)
    assert found.low == pytest.approx(told.confidence_interval(0.975).low)


def test_runs_that_agree_to_the_last_digit() -> None:
    assert paired([1.0, 2.0], [1.5, 2.5]).p == 0.0
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert welch([1.0, 1.0], [1.0, 1.0]).high == 0.0


def test_a_side_of_one_run_borrows_the_spread_of_stored_ones() -> None:
    noise = pooled([[1.0, 2.0, 3.0], [5.0, 5.0], [9.0]])
    assert noise is not None
    assert noise.variance == pytest.approx(2 / 3)
    assert noise.freedom == 3
    found = borrowed([1.0], [2.0], noise)
    assert found.error == pytest.approx(math.sqrt(4 / 3))
    assert borrowed([1.0], [2.0], noise, (5.0, 0.0)).error == pytest.approx(math.sqrt(5 + 2 / 3))
    assert pooled([[1.0], [2.0]]) is None


def test_one_of_many_is_the_t_test_of_two_samples() -> None:
    base = [1.0, 1.2, 0.9, 1.1]
    noise = pooled([base])
    assert noise is not None
    told = stats.ttest_ind([1.4], base, equal_var=True, alternative="greater")
    assert borrowed(base, [1.4], noise).p == pytest.approx(told.pvalue)


def test_batches_tell_the_variance_of_a_median() -> None:
    rng = np.random.default_rng(0)
    runs = [np.exp(rng.normal(0, 0.3, 400)) for _ in range(300)]
    true = np.var([math.log(np.median(run)) for run in runs])
    told = np.mean([batch_variance(run) or 0.0 for run in runs])
    assert told == pytest.approx(true, rel=0.2)
    assert batch_variance(runs[0][:49]) is None


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1))
def test_holm_as_it_is_written_down(chances: dict[str, float]) -> None:
    ordered = sorted(chances.values())
    steps = np.minimum(np.maximum.accumulate([(len(ordered) - k) * p for k, p in enumerate(ordered)]), 1)
    assert sorted(holm(chances).values()) == pytest.approx(steps.tolist())


def test_counts_by_newcombe_and_fisher() -> None:
    """R. G. Newcombe, Statistics in Medicine 17, 1998, table II, method 10: 56/70 - 48/80."""
    told = counted((48, 80), (56, 70))
    assert told.low == pytest.approx(0.0524, abs=5e-5)  # one-sided 97.5 % is the low end of 95 %
    assert told.p == pytest.approx(stats.fisher_exact([[56, 14], [48, 32]], "greater")[1])
    assert counted((5, 70), (0, 70)).p == 1.0
    assert counted((0, 100), (0, 100)).high == pytest.approx(
        stats.binomtest(0, 100).proportion_ci(0.90, "wilson").high
    )


def test_where_counts_decide_pairs_needed_are_theirs() -> None:
    """One failure in each run of 20: the runs agree, and 3 of 60 is little to go by still."""
    few = structs.replace(paired([0.0] * 3, [0.05] * 3), counted=counted((0, 60), (3, 60)))
    assert few.low < 0
    assert few.high > 0.01
    n = needed(few, 0.01, 0.025)
    assert n is not None
    assert counted((0, 20 * n), (n, 20 * n)).low > 0
    assert 8 <= n <= 20


def test_pairs_needed_settle_it_in_80_of_100() -> None:
    """The number that is told, simulated."""
    found = Estimate(mean=0.02, error=0.06 / 2, freedom=3, method="paired t", n=4)
    limit = math.log(1.1)
    n = needed(found, limit, 0.025)
    assert n is not None
    assert 4 < n < 12

    def passed(pairs: int) -> float:
        d = np.random.default_rng(pairs).normal(0.02, 0.06, (20_000, pairs))
        error = d.std(axis=1, ddof=1) / math.sqrt(pairs)
        return float((d.mean(axis=1) + stats.t.ppf(0.95, pairs - 1) * error < limit).mean())

    assert passed(n) >= 0.79
    assert passed(n - 1) < 0.81


def test_an_effect_at_the_limit_takes_too_many() -> None:
    found = Estimate(mean=math.log(1.1) / 2, error=0.5, freedom=3, method="paired t", n=4)
    assert needed(found, math.log(1.1), 0.025) is None


def test_of_runs_and_counts_the_more_cautious_decides() -> None:
    of_runs = Estimate(mean=0.02, error=0.01, freedom=5, method="paired t", n=6)
    sure, unsure = Counted(low=0.019, high=0.021, p=0.001), Counted(low=-1.0, high=1.0, p=0.6)
    held = structs.replace(of_runs, counted=sure)
    assert (held.low, held.high, held.p) == (of_runs.low, of_runs.high, of_runs.p)
    held = structs.replace(of_runs, counted=unsure)
    assert (held.low, held.high, held.p) == (-1.0, 1.0, 0.6)


def test_pairs_needed_to_fail_are_those_that_show_half_of_the_limit() -> None:
    # Counts leave no hope of a PASS. A mean of so many pairs is above 0.05 in 80 of 100 times from
    # (0.8416 x 0.03 / 0.005) squared = 25.5 on; above 0 it is far sooner.
    counts = Counted(low=0.05, high=0.555, p=0.01)
    found = Estimate(mean=0.055, error=0.015, freedom=3, method="paired t", n=4, counted=counts)
    assert needed(found, 0.10, 0.025) == 26
