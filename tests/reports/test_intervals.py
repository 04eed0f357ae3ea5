"""What samples carry."""

from math import comb

import pytest

from reports import intervals
from reports.intervals import mean_interval, needs, percentile_ranks, reliable, share_interval


def binomial(n: int, p: float, k: int) -> float:
    """P(B = k)."""
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def test_needs_of_other_percentiles_follow_the_same_rule() -> None:
    assert [needs(p) for p in (50, 75, 90, 95, 99, 99.9, 10, 100)] == [1, 4, 10, 20, 100, 1000, 10, 1]


def test_the_rule_gives_the_numbers_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_RELIABLE", {})
    assert [reliable.__wrapped__(p) for p in (90, 95, 99)] == [64, 130, 662]
    # Two values beyond it in 99 of 100 samples: one value fewer does not do.
    n = reliable.__wrapped__(99.9)
    assert [sum(binomial(k, 0.001, i) for i in (0, 1)) > 0.01 for k in (n - 1, n)] == [True, False]


@pytest.mark.parametrize(("n", "p"), [(20, 50), (100, 90), (500, 95), (1000, 99)])
def test_ranks_cover_the_percentile_and_no_narrower_ones_do(n: int, p: int) -> None:
    low, high = percentile_ranks(n, p)
    assert low is not None
    assert high is not None
    below = [binomial(n, p / 100, k) for k in range(n + 1)]
    assert sum(below[low:high]) >= 0.99
    # P(B < low) and P(B >= high) are at most 0.5 % each, and a rank further in is not.
    assert sum(below[:low]) <= 0.005 < sum(below[: low + 1])
    assert sum(below[high:]) <= 0.005 < sum(below[high - 1 :])


def test_too_few_values_have_no_end() -> None:
    assert percentile_ranks(7, 50) == (None, None)  # 0.5^7 = 0.8 %
    assert percentile_ranks(8, 50) == (1, 8)
    assert percentile_ranks(103, 95)[1] is None  # 0.95^103 = 0.51 %
    assert percentile_ranks(104, 95)[1] == 104


def test_intervals_of_shares_and_means() -> None:
    assert list(share_interval(0, 100)) == pytest.approx([0.0, 1 - 0.005 ** (1 / 100)])
    assert list(share_interval(100, 100)) == pytest.approx([0.005 ** (1 / 100), 1.0])
    low, high = share_interval(1, 10)
    assert sum(binomial(10, low, k) for k in range(1, 11)) == pytest.approx(0.005)
    assert sum(binomial(10, high, k) for k in range(2)) == pytest.approx(0.005)
    # t(0.995, 3) = 5.8409
    assert list(mean_interval(10, 2, 4)) == pytest.approx([10 - 5.8409, 15.8409], abs=1e-4)
