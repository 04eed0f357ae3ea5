"""Percentiles: exact ones as numpy's, the histogram's within its resolution, and none without samples."""

import numpy as np
import pytest

from reports.distribution import EXACT_UP_TO, RESOLUTION, Distribution, Values


def of(values: list[float], failures: int | None = None) -> Distribution:
    kept = Values()
    kept.add(np.array(values, dtype=np.float64))
    return kept.distribution("ms", failures=failures)


def test_exact_is_numpys_linear_interpolation() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 700)
    d = of(values.tolist())
    for p in (50, 90, 95, 99):
        assert d.percentiles[f"p{p}"] == pytest.approx(np.percentile(values, p))
    assert d.stdev == pytest.approx(values.std(ddof=1))
    assert d.exact
    assert d.resolution is None


@pytest.mark.parametrize(
    ("n", "given"),
    [
        (0, set()),
        (1, {"p50"}),
        (9, {"p50"}),
        (10, {"p50", "p90"}),
        (19, {"p50", "p90"}),
        (20, {"p50", "p90", "p95"}),
        (99, {"p50", "p90", "p95"}),
        (100, {"p50", "p90", "p95", "p99"}),
    ],
)
def test_percentiles_need_samples(n: int, given: set[str]) -> None:
    d = of([1.0] * n)
    assert {name for name, value in d.percentiles.items() if value is not None} == given


def test_no_spread_of_one_value() -> None:
    assert of([3.0]).stdev is None


def test_nan_is_no_value() -> None:
    assert of([1.0, float("nan"), 3.0]).mean == 2.0


def test_the_histogram_is_within_its_resolution_and_the_rest_exact() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate(
        [rng.lognormal(3, 1.5, EXACT_UP_TO), rng.uniform(0.001, 2, 30_000), np.zeros(500)]
    )
    rng.shuffle(values)
    kept = Values()
    for part in np.array_split(values, 73):
        kept.add(part)
    d = kept.distribution("ms", failures=len(values) // 20)
    assert not d.exact
    assert d.resolution == RESOLUTION
    assert (d.n, d.min, d.max) == (len(values), values.min(), values.max())
    assert d.mean == pytest.approx(values.mean())
    assert d.stdev == pytest.approx(values.std(ddof=1))
    for p in (50, 90, 95, 99):
        assert d.percentiles[f"p{p}"] == pytest.approx(np.percentile(values, p), rel=RESOLUTION)
    assert d.with_failures is not None
    ordered = np.sort(values)
    rank = -(-50 * d.with_failures.n // 100)
    assert d.with_failures.percentiles["p50"] == pytest.approx(ordered[rank - 1], rel=RESOLUTION)
    assert d.with_failures.percentiles["p99"] == "inf"


def test_the_switch_to_the_histogram() -> None:
    kept = Values()
    kept.add(np.full(EXACT_UP_TO, 5.0))
    assert kept.distribution("ms").exact
    kept.add(np.array([5.0]))
    d = kept.distribution("ms")
    assert not d.exact
    # All values in one bucket: minimum and maximum keep its middle from being told as a value.
    assert set(d.percentiles.values()) == {5.0}


def test_what_lies_outside_the_buckets_stays_between_minimum_and_maximum() -> None:
    kept = Values()
    kept.add(np.concatenate([np.full(30_000, 1e-7), np.full(30_000, 1e12)]))
    d = kept.distribution("ms")
    assert (d.min, d.max) == (1e-7, 1e12)
    assert d.percentiles["p99"] is not None


def test_nearest_rank() -> None:
    second = of([float(i) for i in range(1, 96)], failures=5).with_failures
    assert second is not None
    assert second.percentiles == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": "inf"}


def test_everything_failed() -> None:
    d = of([], failures=12)
    assert d.with_failures is not None
    assert d.with_failures.percentiles == {"p50": "inf", "p90": "inf", "p95": None, "p99": None}
