"""The ends of a load's parts as the end of the whole."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from runner.course import Course
from runner.drive import LoadEnd
from runner.ended import joined, told
from runner.gauge import together
from runner.store import EndedBy
from scenarios.arrivals import Schedule


def end(ended_by: EndedBy = "finished", **changes: Any) -> LoadEnd:
    return LoadEnd(ended_by=ended_by, **changes)


def test_counts_add_up_and_peaks_are_the_most_they_can_have_been() -> None:
    found = joined(
        [
            end(scheduled=5, sent=4, arrived=4, held=1, peak_in_flight=3, status={"ok": 3, "error": 1}),
            end(scheduled=4, sent=4, arrived=4, peak_in_flight=2, status={"ok": 4}, was_full=True),
        ]
    )
    assert (found.scheduled, found.sent, found.arrived, found.held) == (9, 8, 8, 1)
    assert found.peak_in_flight == 5
    assert found.status == {"ok": 7, "error": 1}
    assert found.was_full


@pytest.mark.parametrize(
    ("spans", "window"),
    [
        ([(10, 90), (20, 80)], (20, 80)),  # the time in which both were steady
        ([(10, 20), (20, 80)], (None, None)),
        ([(10, 90), (None, None)], (None, None)),  # one never was
        ([(10, 90)], (10, 90)),
    ],
)
def test_the_steady_window_is_everybody_s(
    spans: list[tuple[int | None, int | None]], window: tuple[int | None, int | None]
) -> None:
    assert joined([end(steady=span) for span in spans]).steady == window


@pytest.mark.parametrize(
    ("each", "first", "how"),
    [
        (["finished", "finished"], None, "finished"),
        (["finished", "circuit_breaker"], "circuit_breaker", "circuit_breaker"),
        (["worker_lost", "worker_lost"], "worker_lost", "worker_lost"),
        (["worker_lost", "error"], "error", "error"),
        (["interrupted", "worker_lost"], "worker_lost", "interrupted"),
        (["disk_full", "finished"], None, "disk_full"),
    ],
)
def test_how_it_ended(each: list[EndedBy], first: EndedBy | None, how: str) -> None:
    found = joined([end(by, reason=f"because of {by}") for by in each], first)
    assert found.ended_by == how
    assert found.reason == f"because of {how}"


def test_what_the_manifest_says_of_an_open_loop() -> None:
    schedule = Schedule(array("q", [0, 10, 20]), 1, 5, 25, 10.0)
    course = Course(executor="constant-arrival-rate", schedule=schedule, max_in_flight=8)
    whole = end(scheduled=2, sent=3, arrived=1, steady=(1005, 1025))
    found = told(whole, course, 1000, 400)
    assert (found["unsent"], found["sent"]) == (1, 3)
    assert (found["schedule_begin_ns"], found["schedule_end_ns"]) == (605, 625)
    assert (found["steady_begin_ns"], found["steady_end_ns"]) == (605, 625)
    assert (found["max_in_flight"], found["concurrency"], found["mean_gap_ms"]) == (8, None, 1e-5)


def gauge(p99_ms: float | None, n: int, user_s: float) -> dict[str, Any]:
    return {
        "lag": {"n": n, "p50_ms": 0.1, "p99_ms": p99_ms, "max_ms": p99_ms, "missed": 1},
        "gc": {"pauses": 2, "total_ms": 3.0, "max_ms": 2.0},
        "cpu": {"user_s": user_s, "system_s": 0.5, "wall_s": 4.0 + user_s},
    }


def test_lag_is_the_worst_process_s_and_cpu_is_all_of_theirs() -> None:
    found = together([gauge(2.0, 100, 1.0), gauge(9.0, 50, 2.0), gauge(None, 0, 0.0)])
    assert found["lag"] == {"n": 150, "p50_ms": 0.1, "p99_ms": 9.0, "max_ms": 9.0, "missed": 3}
    assert found["gc"] == {"pauses": 6, "total_ms": 9.0, "max_ms": 2.0}
    assert found["cpu"] == {"user_s": 3.0, "system_s": 1.5, "wall_s": 6.0}
    assert together([]) == {}
