"""How far another machine's clock is from ours, and how well that is known.

Asked for its time, the other side answers somewhere between the question and the answer's coming: taking the
middle, the error is at most half of the round trip. The shortest of some round trips knows best. Clocks
drift, so what was known grows old.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec

ROUND_TRIPS = 16
_DRIFT = 10_000  # a part of the time that passes: 100 us a second, more than two quartz clocks differ


class Offset(msgspec.Struct, frozen=True):
    """Of another `monotonic_ns` over ours."""

    offset_ns: int
    error_ns: int  # it is off by this at most
    at: int = 0  # when it was measured, on our clock

    def aged(self, now: int) -> int:
        """The error by now."""
        return self.error_ns + max(now - self.at, 0) // _DRIFT


async def measure(
    ask: Callable[[], Awaitable[int]],
    clock: Callable[[], int] = time.monotonic_ns,
    round_trips: int = ROUND_TRIPS,
) -> Offset:
    """Measure another clock's offset.

    Args:
        ask: gives its time, once a call.
        clock: ours.
        round_trips: how often it is asked.
    """
    best: Offset | None = None
    for _ in range(round_trips):
        sent = clock()
        there = await ask()
        back = clock()
        error = (back - sent + 1) // 2
        if best is None or error < best.error_ns:
            best = Offset(there - (sent + back) // 2, error, back)
    assert best is not None
    return best


class Aligned:
    """The offset in use, and what the manifest keeps of it."""

    def __init__(self, first: Offset) -> None:
        self.now = first
        self.measured = 1
        self._first = first
        self._worst_ns = first.error_ns

    def take(self, measured: Offset) -> bool:
        """Take a later measurement. Returns whether it is used from now on."""
        self.measured += 1
        aged = self.now.aged(measured.at)
        if measured.error_ns > aged:
            return False
        self._worst_ns = max(self._worst_ns, aged)
        self.now = measured
        return True

    def told(self, now: int) -> dict[str, int]:
        """The offset, the largest error of any that was used, the drift since the first."""
        return {
            "offset_ns": self.now.offset_ns,
            "error_ns": max(self._worst_ns, self.now.aged(now)),
            "drift_ns": self.now.offset_ns - self._first.offset_ns,
            "measured": self.measured,
        }
