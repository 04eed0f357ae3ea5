"""Waiting until an instant of the monotonic clock, and never less."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

from runner.mock.wheel import Wheel


class Alarm:
    """Rings at absolute instants, to some 50 us on Linux. An event loop's own timers count milliseconds, and
    may ring early: a request sent before its time would be a wrong number.
    """

    def __init__(self) -> None:
        self._wheel = Wheel(asyncio.get_running_loop())
        self._waiting: set[asyncio.Future[None]] = set()

    async def until(self, at: int) -> bool:
        """Wait until `at` (`monotonic_ns`). Returns whether it is: false where `wake` came first."""
        if monotonic_ns() >= at:
            return True
        ringing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ring(_now: int) -> int:
            if not ringing.done():
                ringing.set_result(None)
            return 0

        self._wheel.add(at, ring)
        self._waiting.add(ringing)
        try:
            await ringing
        finally:
            self._waiting.discard(ringing)
        return monotonic_ns() >= at

    def wake(self) -> None:
        """Let everybody who waits go on at once."""
        for ringing in self._waiting:
            if not ringing.done():
                ringing.set_result(None)

    def close(self) -> None:
        """Let go of the timer."""
        self._wheel.close()
