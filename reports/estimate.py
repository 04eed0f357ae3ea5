"""How much worse one side is than the other, and how sure that is. The unit of evidence is a run.

    paired    d_i = new_i - base_i; mean, s / sqrt(n), t with n - 1 degrees of freedom
    Welch     means apart, s_b^2 / n_b + s_n^2 / n_n, Welch's degrees of freedom (Biometrika 34, 1947)
    borrowed  a side of one run has no spread of its own: that of stored runs, pooled

Shares have counts beside the runs, and the more cautious of both decides: a run without a failure has no
spread, and is no proof. Of counts: Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method
10) and Fisher's exact test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy.special import nctdtr, ndtr, ndtri, stdtr, stdtrit

PASS_ALPHA = 0.05  # one-sided: a regression as large as the limit passes so often
FAIL_ALPHA = 0.025  # one-sided: where nothing changed, a metric fails at most so often
POWER = 0.8  # the chance that as many pairs as were said settle it
MOST = 1000  # pairs nobody will run: beyond it is said to be out of reach

_FAR = 37.0  # standard errors from which a chance is 1 to every digit


class Counted(Struct, frozen=True):
    """What counts alone say of a difference of shares: bounds as the verdict needs them, and the chance."""

    low: float
    high: float
    p: float


class Estimate(Struct, frozen=True, kw_only=True):
    """How much worse, on the scale the limit is on; positive is worse."""

    mean: float
    error: float
    """Standard error; 0 where all runs agree to the last digit."""
    freedom: float
    method: str
    n: float
    """Pairs, or runs a side (their harmonic mean, where they differ)."""
    counted: Counted | None = None

    @property
    def high(self) -> float:
        """The one-sided 95 % upper bound."""
        bound = self.mean + float(stdtrit(self.freedom, 1 - PASS_ALPHA)) * self.error
        return bound if self.counted is None else max(bound, self.counted.high)

    @property
    def low(self) -> float:
        """The one-sided 97.5 % lower bound."""
        bound = self.mean - float(stdtrit(self.freedom, 1 - FAIL_ALPHA)) * self.error
        return bound if self.counted is None else min(bound, self.counted.low)

    @property
    def p(self) -> float:
        """The chance of at least this, if it is not worse at all."""
        if self.error > 0:
            chance = float(stdtr(self.freedom, -self.mean / self.error))
        else:
            chance = 0.0 if self.mean > 0 else 1.0
        return chance if self.counted is None else max(chance, self.counted.p)

    @property
    def spread(self) -> float:
        """Standard deviation of what one pair says, or a run a side."""
        return self.error * math.sqrt(self.n)


def paired(base: Sequence[float], new: Sequence[float]) -> Estimate:
    """Of runs that belong together, one a side; at least two pairs."""
    d = np.subtract(new, base)
    n = len(d)
    return Estimate(
        mean=float(d.mean()),
        error=float(d.std(ddof=1)) / math.sqrt(n),
        freedom=n - 1,
        method="paired t",
        n=n,
    )


def welch(base: Sequence[float], new: Sequence[float]) -> Estimate:
    """Of runs that do not belong together; at least two a side."""
    of_base, of_new = (float(np.var(side, ddof=1)) / len(side) for side in (base, new))
    square = of_base + of_new
    freedom = float(len(base) + len(new) - 2)
    if square > 0:
        # As shares of the sum: squares of small numbers would be 0.
        share_base, share_new = of_base / square, of_new / square
        freedom = 1 / (share_base**2 / (len(base) - 1) + share_new**2 / (len(new) - 1))
    return Estimate(
        mean=float(np.mean(new) - np.mean(base)),
        error=math.sqrt(square),
        freedom=freedom,
        method="Welch's t",
        n=2 / (1 / len(base) + 1 / len(new)),
    )


class Noise(Struct, frozen=True):
    """The spread from run to run, as variance, and the degrees of freedom it is known with."""

    variance: float
    freedom: int


def pooled(groups: Sequence[Sequence[float]]) -> Noise | None:
    """The spread inside groups of runs of one thing; `None` without two runs in any."""
    usable = [group for group in groups if len(group) >= 2]
    freedom = sum(len(group) - 1 for group in usable)
    if not freedom:
        return None
    squares = sum(float(np.var(group)) * len(group) for group in usable)
    return Noise(squares / freedom, freedom)


def borrowed(
    base: Sequence[float], new: Sequence[float], noise: Noise, inside: tuple[float, float] = (0.0, 0.0)
) -> Estimate:
    """Where a side is one run: the spread is that of stored runs.

    Args:
        base: a value a run.
        new: a value a run.
        noise: of stored runs.
        inside: the variance of each side's value as far as its requests tell: the least it can be.
    """
    square = max(noise.variance, inside[0]) / len(base) + max(noise.variance, inside[1]) / len(new)
    return Estimate(
        mean=float(np.mean(new) - np.mean(base)),
        error=math.sqrt(square),
        freedom=noise.freedom,
        method="t on stored noise",
        n=2 / (1 / len(base) + 1 / len(new)),
    )


BATCHES = 20
BATCH_REQUESTS = 10
FEWEST_BATCHES = 5


def batch_variance(series: npt.NDArray[np.float64]) -> float | None:
    """The variance of a run's log median, from the medians of batches in the order of sending.

    Neighbours resemble each other, batches of them much less; `None` for fewer than five batches of ten.
    """
    batches = min(BATCHES, len(series) // BATCH_REQUESTS)
    if batches < FEWEST_BATCHES or not (series > 0).all():
        return None
    medians = [math.log(float(np.median(part))) for part in np.array_split(series, batches)]
    return float(np.var(medians, ddof=1)) / batches


# -- shares


def counted(base: tuple[int, int], new: tuple[int, int]) -> Counted:
    """Of failures and requests, over all runs of each side."""
    (x_base, n_base), (x_new, n_new) = base, new
    p_base, p_new = x_base / n_base, x_new / n_new
    low_of, high_of = _wilson(x_base, n_base, PASS_ALPHA), _wilson(x_new, n_new, PASS_ALPHA)
    high = p_new - p_base + math.hypot(high_of[1] - p_new, p_base - low_of[0])
    low_of, high_of = _wilson(x_new, n_new, FAIL_ALPHA), _wilson(x_base, n_base, FAIL_ALPHA)
    low = p_new - p_base - math.hypot(p_new - low_of[0], high_of[1] - p_base)
    return Counted(low, high, _fisher(base, new))


def _wilson(x: int, n: int, alpha: float) -> tuple[float, float]:
    """Wilson's score interval of a share, at a one-sided level."""
    z = float(ndtri(1 - alpha))
    middle = (x + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(x * (n - x) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _fisher(base: tuple[int, int], new: tuple[int, int]) -> float:
    if not new[0]:
        return 1.0
    from scipy.stats import fisher_exact  # slow to import, and most runs have no failure

    table = [[new[0], new[1] - new[0]], [base[0], base[1] - base[0]]]
    return float(fisher_exact(table, alternative="greater")[1])


# -- several metrics


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Each metric's chance, raised so that all of them together cry wolf no more often than one would.

    S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    out, least = {}, 0.0
    for rank, (name, p) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(chances) - rank) * p))
        out[name] = least
    return out


# -- how many more


def needed(found: Estimate, limit: float, alpha: float) -> int | None:
    """Pairs (or runs a side) in all that settle it with a chance of 80 %; `None` beyond a thousand.

    By the noncentral t, if effect and spread stay as they are.

    Args:
        found: so far.
        limit: what is allowed.
        alpha: what a FAIL is held against, so Holm's share of it.
    """
    up, down = _spreads(found)
    if min(up, down) <= 0:
        return None
    n = np.arange(math.floor(found.n) + 1, MOST + 1, dtype=np.float64)
    n = n[n >= 2]
    freedom = n - 1 if found.method == "paired t" else 2 * (n - 1)
    passes = _reaches((limit - found.mean) * np.sqrt(n) / up, freedom, PASS_ALPHA)
    fails = _reaches(found.mean * np.sqrt(n) / down, freedom, alpha)
    fails = np.minimum(fails, ndtr((found.mean - limit / 2) * np.sqrt(n) / down))
    settled = np.flatnonzero(np.maximum(passes, fails) >= POWER)
    return int(n[settled[0]]) if len(settled) else None


def _spreads(found: Estimate) -> tuple[float, float]:
    """Of a pair, upwards and downwards: where counts decide, theirs, as wide as their interval looks."""
    if found.counted is None:
        return found.spread, found.spread
    root = math.sqrt(found.n)
    up = (found.counted.high - found.mean) / float(ndtri(1 - PASS_ALPHA)) * root
    down = (found.mean - found.counted.low) / float(ndtri(1 - FAIL_ALPHA)) * root
    return max(found.spread, up), max(found.spread, down)


def _reaches(
    away: npt.NDArray[np.float64], freedom: npt.NDArray[np.float64], alpha: float
) -> npt.NDArray[np.float64]:
    """The chance that a t statistic so many standard errors away from 0 is seen to be above it."""
    chance = 1 - nctdtr(freedom, np.clip(away, -_FAR, _FAR), stdtrit(freedom, 1 - alpha))
    return np.where(away >= _FAR, 1.0, np.where(away <= 0, 0.0, np.nan_to_num(chance)))
