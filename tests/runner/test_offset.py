"""Clocks of other machines: the offset is never off by more than its error says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.offset import Aligned, Offset, measure

delays = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=20)


@settings(max_examples=40)
@given(st.integers(-(10**15), 10**15), delays)
def test_the_offset_is_within_its_error_however_the_way_there_and_back_differ(
    true: int, ways: list[tuple[int, int]]
) -> None:
    now = 10**16
    left: Iterator[tuple[int, int]] = iter(ways)

    async def ask() -> int:
        nonlocal now
        there, back = next(left)
        now += there
        theirs = now + true
        now += back
        return theirs

    found = asyncio.run(measure(ask, lambda: now, len(ways)))
    assert abs(found.offset_ns - true) <= found.error_ns
    assert found.error_ns == min((there + back + 1) // 2 for there, back in ways)


def test_what_was_known_grows_old_and_a_better_measurement_takes_its_place() -> None:
    clock = Aligned(Offset(1000, 200, at=0))
    assert not clock.take(Offset(5000, 300, at=0))  # worse, and as fresh
    later = 30 * 10**9
    assert clock.now.aged(later) == 200 + 3_000_000
    assert clock.take(Offset(5000, 300, at=later))
    told = clock.told(later)
    assert told == {"offset_ns": 5000, "error_ns": 3_000_200, "drift_ns": 4000, "measured": 3}
