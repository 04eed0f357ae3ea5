"""What the end of a run says of its client: whether more workers would help, and which of them died."""

from __future__ import annotations

from typing import Any

import pytest

from runner.commands.ending import _more_workers, _of_workers, _unwritten
from runner.store import Session


def session(gauge: dict[str, Any]) -> Session:
    return Session(1, "", 0, 0, None, "", 0, {}, gauge=gauge)


def process(busy_s: float, lag_ms: float | None = 1.0, wall_s: float = 10.0, **more: Any) -> dict[str, Any]:
    cpu = {"user_s": busy_s, "system_s": 0.0, "wall_s": wall_s}
    return {"lag": {"p99_ms": lag_ms}, "cpu": cpu, **more}


@pytest.mark.parametrize(
    ("busy_s", "lag_ms", "wall_s", "cores", "says"),
    [
        (9.0, 1.0, 10.0, 4, True),
        (9.0, None, 10.0, 4, True),
        (6.5, 30.0, 10.0, 4, True),
        (6.5, 5.0, 10.0, 4, False),  # busy, and never late
        (2.0, 90.0, 10.0, 4, False),  # others are busy
        (9.0, 1.0, 10.0, 1, False),  # there is no other core
        (0.9, 1.0, 1.0, 4, False),  # too short to say
    ],
)
def test_one_process_that_was_the_bottleneck_says_so(
    busy_s: float, lag_ms: float | None, wall_s: float, cores: int, says: bool
) -> None:
    found = _more_workers(session(process(busy_s, lag_ms, wall_s)), cores)
    assert bool(found) is says
    assert not found or "--workers 2 carries more" in found[0]


def test_of_several_the_busiest_says_so_as_long_as_there_are_cores() -> None:
    gauge = process(12.0, workers=[process(3.0), process(9.0, 40.0), {"shard": 2, "died": "was killed"}])
    told = "this client's busiest worker used 90% of a core, its event loop was 40 ms late at p99"
    assert _more_workers(session(gauge), 8) == [f"{told}: --workers 4 carries more"]
    assert "--workers 3 " in _more_workers(session(gauge), 3)[0]
    assert _more_workers(session(gauge), 2) == []
    assert _more_workers(session({"cpu_s": 3.0}), 8) == []  # of an earlier version


def test_what_became_of_workers_that_died_is_said() -> None:
    died: dict[str, Any] = {"shard": 1, "died": "was killed by signal 9 (SIGKILL)", "replaced": False}
    died |= {"open": 1, "sent_again": 1}
    (told,) = _of_workers(session({"workers": [process(1.0, shard=0), died]}))
    assert told.startswith("worker 1 was killed by signal 9 (SIGKILL). What it had written is kept, ")
    assert told.endswith(" 1 open prompt went to others; none took its place")
    (told,) = _of_workers(session({"workers": [{**died, "sent_again": 0}]}))
    assert told.endswith(" 1 open prompt will be sent again; none took its place")
    assert _of_workers(session({})) == []
    assert _unwritten(session({"workers": [died]})) == "were lost with a worker that died"
    assert _unwritten(session({"workers": [process(1.0)]})) == "found no room on the disk"
