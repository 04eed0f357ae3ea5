"""What samples carry: how many a percentile needs, and the interval of a percentile, a share and a mean.

The interval of a percentile is that of order statistics, free of any assumption on the shape (H. A. David,
H. N. Nagaraja, Order Statistics, 3rd ed., Wiley 2003, section 7.1). Of n sorted values, as many lie below the
p-quantile as a binomial B(n, p) says, so

    P(x[l] <= quantile <= x[u]) >= P(l <= B <= u - 1)

with l the largest rank and u the smallest one whose tail is at most half of what is left of the confidence.
The interval of a share is Clopper and Pearson's (Biometrika 26, 1934), of a mean Student's t. All of them
take the requests of a run for independent: they speak of this run, and not of the next one.
"""

from __future__ import annotations

import math
from functools import lru_cache

CONFIDENCE = 0.99

# METRICS' own numbers; others follow from the same rules.
_NEEDS = {50: 1, 90: 10, 95: 20, 99: 100}
_RELIABLE = {50: 1, 90: 64, 95: 130, 99: 662}


def needs(p: float) -> int:
    """Values below which the p-th percentile is not given: fewer than one of them lies beyond it."""
    if p in _NEEDS:
        return _NEEDS[int(p)]
    beyond = min(p, 100 - p)
    return max(1, math.ceil(round(100 / beyond, 9))) if beyond > 0 else 1


@lru_cache(maxsize=64)
def reliable(p: float) -> int:
    """Values below which it is marked: at least two lie beyond it in 99 of 100 samples of that size."""
    if p in _RELIABLE:
        return _RELIABLE[int(p)]
    beyond = min(p, 100 - p) / 100
    if beyond <= 0:
        return 1
    low, high = 1, 2
    while _at_most_one(high, beyond) > 1 - CONFIDENCE:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _at_most_one(middle, beyond) > 1 - CONFIDENCE else (low, middle)
    return high


def _at_most_one(n: int, share: float) -> float:
    """The chance that at most one of n values lies beyond."""
    return float((1 - share) ** n + n * share * (1 - share) ** (n - 1))


@lru_cache(maxsize=64)  # many metrics are of the same requests, and each takes as long as a thousand records
def percentile_ranks(n: int, p: float) -> tuple[int | None, int | None]:
    """Ranks (from 1) of the sorted values between which the percentile lies; `None`: no such value."""
    if p >= 100:
        return n, None
    tail = (1 - CONFIDENCE) / 2
    low, high = _quantile(tail, n, p / 100), _quantile(1 - tail, n, p / 100) + 1
    return (low if low >= 1 else None, high if high <= n else None)


def _quantile(q: float, n: int, p: float) -> int:
    """The least k with P(B <= k) >= q."""
    from scipy.special import bdtr, bdtrik

    k = max(0, math.ceil(float(bdtrik(q, n, p))))
    return k - 1 if k > 0 and float(bdtr(k - 1, n, p)) >= q else k


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """Of a share: hits of n."""
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def mean_interval(mean: float, stdev: float, n: int) -> tuple[float, float]:
    """Of a mean; n is at least 2."""
    half = student(n - 1) * stdev / math.sqrt(n)
    return mean - half, mean + half


def student(freedom: float) -> float:
    """How many standard errors a t interval reaches to each side."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
