"""Waiting until an instant of the monotonic clock, and never less.

The timers of an event loop count milliseconds, and uvloop's ring up to 1.4 ms early: a request sent before
its time would be a wrong number, one sent a millisecond late an ugly one. On Linux a kernel timer (timerfd)
keeps microseconds; elsewhere the loop's timer rings, and one that rang early waits on.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
from collections.abc import Callable
from itertools import count
from time import monotonic_ns

_S = 1_000_000_000


class Alarm:
    """Rings at absolute instants (`monotonic_ns`). Holds a descriptor where it can: call `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._set_kernel_timer: Callable[[int], None] | None = None
        self._fd = -1
        timer = _timerfd()
        if timer is not None:
            self._fd, self._set_kernel_timer = timer
            try:
                self._loop.add_reader(self._fd, self._ring)
            except NotImplementedError:  # a loop that watches no descriptors
                self.close()

    async def until(self, at: int) -> bool:
        """Wait until `at`. Returns whether it is: false where `wake` came first."""
        while (now := monotonic_ns()) < at:
            ringing: asyncio.Future[None] = self._loop.create_future()
            heapq.heappush(self._waiting, (at, next(self._order), ringing))
            if self._waiting[0][2] is ringing:
                self._set(at, now)
            await ringing
            if monotonic_ns() < at:
                return False
        return True

    def wake(self) -> None:
        """Let everybody who waits go on at once."""
        waiting, self._waiting = self._waiting, []
        for _, _, ringing in waiting:
            if not ringing.done():
                ringing.set_result(None)

    def close(self) -> None:
        """Let go of the timer. Whoever still waits goes on."""
        self.wake()
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd, self._set_kernel_timer = -1, None

    def _set(self, at: int, now: int) -> None:
        if self._set_kernel_timer is not None:
            self._set_kernel_timer(at)
            return
        if self._handle is not None:
            self._handle.cancel()
        # Less than a millisecond is none at all for uvloop, which would turn and turn until it has passed.
        self._handle = self._loop.call_later(max(at - now, 1_000_000) / _S, self._ring)

    def _ring(self) -> None:
        now = monotonic_ns()
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][2].done()):
            _, _, ringing = heapq.heappop(self._waiting)
            if not ringing.done():
                ringing.set_result(None)
        # Setting it also clears a ring that is not read; 0 sets it for never.
        if self._waiting:
            self._set(self._waiting[0][0], now)
        elif self._set_kernel_timer is not None:
            self._set_kernel_timer(0)


def _timerfd() -> tuple[int, Callable[[int], None]] | None:
    """A timer's descriptor, and what sets it to an absolute instant; `None` where the system has none.

    Through ctypes: `os` has it from Python 3.13 on.
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return None
    import ctypes

    class Spec(ctypes.Structure):
        """`struct itimerspec` of a 64-bit Linux."""

        _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        create, settime = libc.timerfd_create, libc.timerfd_settime
    except (OSError, AttributeError):
        return None
    monotonic, absolute = 1, 1
    fd = int(create(monotonic, os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        return None
    settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    spec = Spec()
    address = ctypes.addressof(spec)

    def set_timer(at: int) -> None:
        spec.at_s, spec.at_ns = divmod(at, _S)
        if settime(fd, absolute, address, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    return fd, set_timer
