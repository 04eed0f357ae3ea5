"""Thinned points keep their extremes, ends and order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from reports.thinning import even_ranks, extremes, ranks

_VALUES = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.just(float("inf"))), max_size=300
).map(lambda values: np.array(values, dtype=np.float64))


@given(_VALUES, st.integers(1, 20))
def test_the_lowest_and_the_highest_of_each_span_are_kept(y: npt.NDArray[np.float64], spans: int) -> None:
    x = np.arange(len(y), dtype=np.float64)
    places = extremes(x, y, spans)
    good = y[np.isfinite(y)]
    assert len(places) <= 2 * spans + 2
    assert np.isfinite(y[places]).all()
    assert (np.diff(places) > 0).all()
    if len(good):
        assert y[places].min() == good.min()
        assert y[places].max() == good.max()
        finite = np.flatnonzero(np.isfinite(y))
        assert {finite[0], finite[-1]} <= set(places.tolist())


def test_each_span_keeps_its_own() -> None:
    x = np.arange(1001.0)
    y = np.sin(x)
    places = set(extremes(x, y, 10).tolist())
    for begin in range(0, 1000, 100):
        part = y[begin : begin + (100 if begin < 900 else 101)]
        assert {begin + int(part.argmin()), begin + int(part.argmax())} <= places
    assert len(places) <= 22


def test_points_come_in_the_order_of_x() -> None:
    assert extremes(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), 5).tolist() == [1, 2, 0]


def test_points_at_one_place_keep_their_extremes() -> None:
    places = extremes(np.zeros(100), np.arange(100.0), 3)
    assert {0, 99} <= set(places.tolist())


@given(st.integers(1, 10**6), st.integers(0, 1000), st.integers(5, 500))
def test_ranks_of_a_curve(n: int, failures: int, points: int) -> None:
    for found in (ranks(n, n + failures, points), even_ranks(n, points)):
        assert len(found) <= max(points, 5)
        assert found[0] == 1
        assert found[-1] == n
        assert (np.diff(found) > 0).all()


def test_the_tail_is_drawn_point_by_point() -> None:
    assert ranks(100_000, 100_000, 400)[-4:].tolist() == [99_997, 99_998, 99_999, 100_000]


def test_a_curve_that_failures_end_early_has_all_of_its_points() -> None:
    """Half of the requests failed: equal steps on the axis, up to the last answer."""
    found = ranks(10_000, 20_000, 100)
    steps = np.diff(-np.log1p(-(found - 0.5) / 20_000))
    assert len(found) == 100
    assert steps.max() < 1.1 * steps.min()
