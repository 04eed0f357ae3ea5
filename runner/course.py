"""The course of a load: when its requests go, or how many at once, and when it is over."""

from __future__ import annotations

import msgspec

from scenarios import scenario
from scenarios.arrivals import Schedule, measured_s, places, schedule
from scenarios.trace import TraceRow

_S = 1_000_000_000


class Course(msgspec.Struct, kw_only=True):
    """A load made ready. Times are nanoseconds from its start.

    An open loop has a `schedule`; a closed one `places`, and ends after `requests` or `duration_ns`, both
    counted from the end of the warm-up.
    """

    executor: scenario.Executor
    schedule: Schedule | None = None
    max_in_flight: int | None = None
    places: list[tuple[int, int]] = []
    warmup_ns: int = 0
    warmup_requests: int = 0
    requests: int | None = None
    duration_ns: int | None = None
    grace_ns: int = 30 * _S

    @property
    def scheduled(self) -> int | None:
        """How many arrivals are measured; `None`: as many as find the time."""
        if self.schedule is not None:
            return len(self.schedule.offsets_ns) - self.schedule.warmup
        return self.requests

    @property
    def end_ns(self) -> int | None:
        """When nothing is started any more; `None`: when all have been."""
        if self.schedule is not None:
            return self.schedule.end_ns
        return None if self.duration_ns is None else self.warmup_ns + self.duration_ns


def course_of(load: scenario.Load, seed: int, rows: list[TraceRow] | None, most_in_flight: int) -> Course:
    """The course of a scenario's load.

    Args:
        load: as checked.
        seed: draws the arrivals.
        rows: of the trace, where it replays one.
        most_in_flight: where the scenario names no `max_in_flight`.
    """
    grace_ns = round(load.graceful_stop_s * _S)
    if load.is_open:
        return Course(
            executor=load.executor,
            schedule=schedule(load, seed, rows),
            max_in_flight=load.max_in_flight or most_in_flight,
            grace_ns=grace_ns,
        )
    duration_s = measured_s(load)
    return Course(
        executor=load.executor,
        places=places(load),
        warmup_ns=round((load.warmup_s or 0.0) * _S),
        warmup_requests=load.warmup_requests or 0,
        requests=load.requests,
        duration_ns=None if duration_s is None else round(duration_s * _S),
        grace_ns=grace_ns,
    )
