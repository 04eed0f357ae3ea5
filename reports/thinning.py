"""Fewer points to draw that look the same: extremes are kept. No number is ever of them alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reports.frame import Floats

Places = npt.NDArray[np.int64]


def extremes(x: Floats, y: Floats, spans: int) -> Places:
    """Where the points to draw are: the lowest and the highest of each span of x, and the first and last.

    Args:
        x: positions, in any order.
        y: values. Points with a NaN or an infinity in either are never drawn.
        spans: equal parts of x; at most `2 * spans + 2` points are left.

    Returns:
        Places in the arrays, in the order of x.
    """
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    good = good[np.argsort(x[good], kind="stable")]
    if len(good) <= 2 * spans + 2:
        return good
    at, values = x[good], y[good]
    width = (at[-1] - at[0]) / spans
    span = np.zeros(len(good), dtype=np.int64)
    if width > 0:
        span = np.minimum(((at - at[0]) / width).astype(np.int64), spans - 1)
    order = np.lexsort((values, span))
    ends = np.flatnonzero(np.diff(span[order], append=-1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    kept = np.unique(np.concatenate([order[starts], order[ends], [0, len(good) - 1]]))
    return np.asarray(good[kept])


def ranks(n: int, of: int, points: int) -> Places:
    """Ranks (from 1) of sorted values at which a curve up to the tail is drawn: evenly in log(1 / (1 - p)).

    Args:
        n: values.
        of: values and failures: what a share is a share of.
        points: at most so many ranks; the first and the last value are always among them.
    """
    if n <= points:
        return np.arange(1, n + 1)
    # Up to the last value, which stands in the middle of its rank: failures are beyond the curve.
    tail = np.logspace(0, np.log10(of / (of - n + 0.5)), points)
    found = np.ceil(np.round((1 - 1 / tail) * of, 6)).astype(np.int64)
    return np.unique(np.clip(found, 1, n))


def even_ranks(n: int, points: int) -> Places:
    """Ranks (from 1) of n sorted values, evenly spread, with the first and the last."""
    if n <= points:
        return np.arange(1, n + 1)
    return np.unique(np.linspace(1, n, points).round().astype(np.int64))
