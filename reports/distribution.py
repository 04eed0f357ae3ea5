"""Many values of one metric -> its distribution, in memory that stops growing.

Up to 50,000 values are kept and their percentiles are exact (linear interpolation, as numpy's default).
Beyond that they move into a fixed histogram with buckets 0.05 % wide: a percentile is then the middle of its
bucket, at most 0.025 % off. Count, minimum, maximum, mean and standard deviation are exact always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from reports.intervals import needs, percentile_ranks, reliable

PERCENTILES = (50, 90, 95, 99)
# METRICS, from order statistics at 99 %: below the first a percentile is withheld, below the second flagged.
NEEDS = {p: needs(p) for p in PERCENTILES}
RELIABLE = {p: reliable(p) for p in PERCENTILES}

EXACT_UP_TO = 50_000
RESOLUTION = 0.0005
_LOW, _HIGH = 1e-4, 1e9  # 0.1 us to 11 days in ms; what lies outside is put into the first or last bucket
_STEP = math.log1p(RESOLUTION)
_BUCKETS = math.ceil(math.log(_HIGH / _LOW) / _STEP)
_MANY = 2000

Floats = npt.NDArray[np.float64]


class WithFailures(Struct, kw_only=True):
    """The second reading: every failure as +infinity, nearest-rank percentiles.

    `n` counts values and failures. A percentile that falls among the failures is the text `"inf"`.
    """

    n: int
    failures: int
    percentiles: dict[str, float | str | None]


class Distribution(Struct, kw_only=True):
    """One metric. `None` is "no such number": no values, or too few for that percentile (`NEEDS`)."""

    unit: str
    n: int
    exact: bool
    resolution: float | None  # relative width of a bucket, where percentiles come from the histogram
    mean: float | None
    stdev: float | None  # of a sample: n - 1
    min: float | None
    max: float | None
    percentiles: dict[str, float | None]
    withheld: str | None = None  # why percentiles are missing, where it is not the number of samples
    with_failures: WithFailures | None = None
    # Of a bench, by percentile: [low, high] at 99 % (`reports/intervals.py`); `None` for an end that would
    # take more samples.
    ci: dict[str, tuple[float | None, float | None]] = {}


def name_of(p: float) -> str:
    """`p95`, `p99.9`: the name of a percentile."""
    return f"p{p:.15g}"


class Values:
    """Takes the values of one metric, block by block."""

    def __init__(self) -> None:
        self.n = 0
        self._mean = 0.0
        self._m2 = 0.0
        self._min = math.inf
        self._max = -math.inf
        self._kept: list[Floats] = []
        self._zeros = 0
        self._buckets: npt.NDArray[np.int64] | None = None

    def add(self, values: Floats) -> None:
        """Add a block; NaN is "no value" and is left out."""
        values = values[~np.isnan(values)]
        if not len(values):
            return
        self._moments(values)
        if self._buckets is None and self.n <= EXACT_UP_TO:
            self._kept.append(values)
            return
        if self._buckets is None:
            self._buckets = np.zeros(_BUCKETS, dtype=np.int64)
            for kept in self._kept:
                self._bucket(self._buckets, kept)
            self._kept.clear()
        self._bucket(self._buckets, values)

    def _moments(self, values: Floats) -> None:
        # Chan's update: a sum of squares loses its digits where the spread is small beside the mean.
        n, mean = len(values), float(values.mean())
        delta, total = mean - self._mean, self.n + n
        self._m2 += float(((values - mean) ** 2).sum()) + delta * delta * self.n * n / total
        self._mean += delta * n / total
        self.n = total
        self._min = min(self._min, float(values.min()))
        self._max = max(self._max, float(values.max()))

    def _bucket(self, buckets: npt.NDArray[np.int64], values: Floats) -> None:
        positive = values[values > 0]
        self._zeros += len(values) - len(positive)
        at = (np.log(positive / _LOW) / _STEP).astype(np.int64).clip(0, _BUCKETS - 1)
        if len(at) > _MANY:
            buckets += np.bincount(at, minlength=_BUCKETS)
        else:  # few values do not need to be counted into all buckets
            found, counts = np.unique(at, return_counts=True)
            buckets[found] += counts

    def _sorted(self) -> Floats:
        merged = np.sort(np.concatenate(self._kept)) if self._kept else np.empty(0)
        self._kept = [merged]
        return merged

    def _ranks(self, ranks: list[int]) -> list[float]:
        """The values at these ranks (from 1) of the sorted values, from the histogram."""
        assert self._buckets is not None
        ends = np.cumsum(self._buckets) + self._zeros
        out = []
        for rank in ranks:
            if rank <= self._zeros:
                out.append(min(self._min, 0.0))
                continue
            bucket = int(np.searchsorted(ends, rank))
            middle = _LOW * math.exp((bucket + 0.5) * _STEP)
            out.append(min(max(middle, self._min), self._max))
        return out

    def _percentile(self, values: Floats | None, p: float) -> float:
        if values is not None:
            return float(np.percentile(values, p))
        place = (self.n - 1) * p / 100
        low, high = self._ranks([math.floor(place) + 1, math.ceil(place) + 1])
        return low + (high - low) * (place - math.floor(place))

    def percentile(self, p: float) -> float | None:
        """One percentile, however few the values; `None` without any."""
        if not self.n:
            return None
        return self._percentile(self._sorted() if self._buckets is None else None, p)

    def quantiles(self, shares: Floats) -> Floats:
        """The values that these shares (0 to 1) of all lie below; none without any value."""
        if not self.n:
            return np.empty(0)
        if self._buckets is None:
            return np.quantile(self._sorted(), shares)
        return np.array([self._percentile(None, 100 * share) for share in shares])

    @property
    def mean(self) -> float | None:
        """The mean of what was added so far."""
        return self._mean if self.n else None

    def distribution(
        self,
        unit: str,
        *,
        withheld: str | None = None,
        failures: int | None = None,
        more: Iterable[float] = (),
        intervals: bool = False,
    ) -> Distribution:
        """What was added so far.

        Args:
            unit: as METRICS says.
            withheld: a reason not to give percentiles at all.
            failures: requests to count as +infinity in a second reading; `None` for no such reading.
            more: percentiles wanted beside `PERCENTILES`.
            intervals: give the interval of each percentile as well.
        """
        exact = self._buckets is None
        values = self._sorted() if exact else None
        have = self.n > 0
        wanted = (*PERCENTILES, *sorted({p for p in more if p not in PERCENTILES}))
        given = [p for p in wanted if self.n >= needs(p) and not withheld]
        return Distribution(
            unit=unit,
            n=self.n,
            exact=exact,
            resolution=None if exact else RESOLUTION,
            mean=self._mean if have else None,
            stdev=math.sqrt(self._m2 / (self.n - 1)) if self.n > 1 else None,
            min=self._min if have else None,
            max=self._max if have else None,
            percentiles={name_of(p): self._percentile(values, p) if p in given else None for p in wanted},
            withheld=withheld,
            with_failures=None if failures is None else self._with_failures(values, failures, wanted),
            ci={name_of(p): self._interval(values, p) for p in given} if intervals else {},
        )

    def _interval(self, values: Floats | None, p: float) -> tuple[float | None, float | None]:
        low, high = (None if rank is None else self._at(values, rank) for rank in percentile_ranks(self.n, p))
        return low, high

    def _at(self, values: Floats | None, rank: int) -> float:
        return self._ranks([rank])[0] if values is None else float(values[rank - 1])

    def _with_failures(self, values: Floats | None, failures: int, wanted: Iterable[float]) -> WithFailures:
        n = self.n + failures
        percentiles: dict[str, float | str | None] = {}
        for p in wanted:
            rank = max(1, math.ceil(round(p * n / 100, 6)))  # nearest rank
            if n < needs(p):
                percentiles[name_of(p)] = None
            elif rank > self.n:
                percentiles[name_of(p)] = "inf"
            else:
                percentiles[name_of(p)] = self._at(values, rank)
        return WithFailures(n=n, failures=failures, percentiles=percentiles)
