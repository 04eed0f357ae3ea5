"""Draws that follow from the seed, a purpose and some numbers, and never from the order of calls.

    uniform(42, "length", 7)        # the same for ever, whoever asks first

A stream of random numbers would not do: what request 7 asks must not depend on whether request 6 was made
here or by another worker.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from statistics import NormalDist

from scenarios.scenario import Lengths

_NORMAL = NormalDist()


def uniform(seed: int, purpose: str, *numbers: int) -> float:
    """Return a number in [0, 1) with 53 random bits."""
    key = f"{seed}/{purpose}/{'/'.join(map(str, numbers))}".encode()
    return (int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 11) * 2.0**-53


def tokens(lengths: int | Lengths, u: float) -> int:
    """Return a length in tokens, at least 1."""
    return max(1, lengths if isinstance(lengths, int) else round(cut_normal(lengths, u, 1.0)))


def cut_normal(lengths: Lengths, u: float, least: float) -> float:
    """Return the `u` quantile of the normal distribution between `min` (or `least`) and `max`.

    What lies outside is left out, not moved to the bounds: a pile of prompts of exactly `max` tokens is
    nobody's traffic. So the mean moves where the bounds do not lie evenly around it.
    """
    low = max(least, -math.inf if lengths.min is None else lengths.min)
    high = max(low, math.inf if lengths.max is None else lengths.max)
    nearest = min(max(lengths.mean, low), high)
    if lengths.stdev <= 0:
        return nearest
    below = _NORMAL.cdf((low - lengths.mean) / lengths.stdev)
    share = _NORMAL.cdf((high - lengths.mean) / lengths.stdev) - below
    p = below + u * share
    if share <= 0 or not 0 < p < 1:  # the bounds lie where the distribution has nothing left
        return nearest if share <= 0 else low
    return min(max(lengths.mean + lengths.stdev * _NORMAL.inv_cdf(p), low), high)


def longest(lengths: int | Lengths) -> int:
    """Return a length in tokens that no draw exceeds."""
    if isinstance(lengths, int):
        return lengths
    # 53 bits reach no further than 8.3 standard deviations.
    top = math.ceil(lengths.mean + 9 * max(lengths.stdev, 0.0))
    return max(1, lengths.min or 0, top if lengths.max is None else min(top, lengths.max))
