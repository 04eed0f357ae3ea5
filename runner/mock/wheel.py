"""One clock for all streams: calls each step when it is due, never before.

The timers of an event loop count milliseconds, and uvloop's fire up to 1.4 ms early. On Linux the wheel
therefore rings by a timerfd, which keeps microseconds; elsewhere by the loop's timer, and one that rang early
waits on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from time import monotonic_ns

# Takes the time now; returns when it wants to be called again (ns), or 0 for never.
Step = Callable[[int], int]

# Steps in one turn of the loop: streams in lock-step must not keep requests waiting unread.
STEPS_PER_TURN = 64


class Wheel:
    """Steps by due time. Holds a file descriptor where the system has timerfd: call `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heap: list[tuple[int, int, Step]] = []
        self._serial = 0  # breaks ties, so that steps are never compared
        self._armed = 0  # when the alarm rings, 0 for never
        self._ringing = False
        self._alarm = _timerfd_alarm(loop, self._ring) or _LoopAlarm(loop, self._ring)

    def add(self, due_ns: int, step: Step) -> None:
        """Call `step` at `due_ns` (monotonic clock), or at the next turn where that has passed."""
        self._serial += 1
        heappush(self._heap, (due_ns, self._serial, step))
        if not self._ringing and (self._armed == 0 or due_ns < self._armed):
            self._arm(due_ns)

    def close(self) -> None:
        """Forget all steps and release the timer."""
        self._heap.clear()
        self._alarm.close()

    def _arm(self, due_ns: int) -> None:
        self._armed = due_ns
        self._alarm.set(due_ns)

    def _ring(self) -> None:
        heap = self._heap
        self._ringing = True
        try:
            for _ in range(STEPS_PER_TURN):
                now = monotonic_ns()  # read again for each step: it is the stamp of what that step sends
                if not heap or heap[0][0] > now:
                    break
                _, serial, step = heappop(heap)
                due = step(now)
                if due:
                    heappush(heap, (due, serial, step))
        finally:
            self._ringing = False
            self._arm(heap[0][0] if heap else 0)


class _LoopAlarm:
    """Rings by the loop's own timer. May ring early: the wheel looks at the clock and sets it again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due_ns: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if due_ns:
            wait_s = (due_ns - monotonic_ns()) / 1e9
            # less than a millisecond is none at all for uvloop, which would turn and turn until it has passed
            self._handle = self._loop.call_later(max(wait_s, 0.001) if wait_s > 0 else 0, self._ring)

    def close(self) -> None:
        self.set(0)


class _TimerfdAlarm:
    """Rings by a kernel timer that the loop watches like a socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        settime: Callable[[int], None],
        ring: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self.set = settime  # setting it, to 0 too, also clears a ring not yet read
        loop.add_reader(fd, ring)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _timerfd_alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> _TimerfdAlarm | None:
    """A timerfd on the monotonic clock, or None. Through ctypes, because `os` has it only from 3.13 on."""
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return None
    import ctypes

    class Itimerspec(ctypes.Structure):
        # struct itimerspec of a 64-bit Linux: interval, then value, each seconds and nanoseconds
        _fields_ = tuple(
            (name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")
        )

    clock_monotonic, absolute = 1, 1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        create, settime = libc.timerfd_create, libc.timerfd_settime
    except (OSError, AttributeError):
        return None
    fd: int = create(clock_monotonic, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        return None
    settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    spec = Itimerspec()
    address = ctypes.addressof(spec)

    def set_timer(due_ns: int) -> None:
        spec.value_s, spec.value_ns = divmod(due_ns, 1_000_000_000)
        if settime(fd, absolute, address, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    try:
        return _TimerfdAlarm(loop, fd, set_timer, ring)
    except NotImplementedError:  # a loop that watches no descriptors
        os.close(fd)
        return None
