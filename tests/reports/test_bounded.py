"""A limit on patterns that never end."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from reports.bounded import OutOfTime, can_interrupt, within

EVIL = "a" * 40 + "b"


def test_a_pattern_that_backtracks_for_ever_is_ended() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(OutOfTime):
        within(0.05, lambda: re.search("^(a+)+$", EVIL))
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_work_that_ends_is_left_alone() -> None:
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5.0, lambda: dict[str, int]()["x"])
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_signals_are_for_the_main_thread() -> None:
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(can_interrupt()))
    thread.start()
    thread.join()
    assert (can_interrupt(), seen) == (True, [False])
