"""A time limit on work that nobody else can end: patterns that backtrack for ever, and schemas that hold one.

The matcher of `re` looks for signals while it works, so a timer of the process's own CPU time ends it: a
busy machine ends nothing too early. Signals reach the main thread only, and not on every system: elsewhere,
callers have to take a process that can be ended as a whole.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


class OutOfTime(BaseException):
    """The work was ended. No `except Exception` of a library takes it for its own."""


def can_interrupt() -> bool:
    """Whether `within` has a limit here."""
    return hasattr(signal, "SIGVTALRM") and threading.current_thread() is threading.main_thread()


def within(limit_s: float, work: Callable[[], T]) -> T:
    """The result of `work`, or OutOfTime after so many seconds of this process's CPU time."""
    before = signal.signal(signal.SIGVTALRM, _end)
    try:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
            return work()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _end(*_: object) -> NoReturn:
    raise OutOfTime
