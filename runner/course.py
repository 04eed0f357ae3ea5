"""The course of a load: when its requests go, or how many at once, and when it is over."""

from __future__ import annotations

import msgspec

from scenarios import scenario
from scenarios.arrivals import Schedule, measured_s, places, schedule, stripe
from scenarios.trace import TraceRow

_S = 1_000_000_000


class Stripe(msgspec.Struct, frozen=True):
    """Which arrivals of a load are one worker's: those of its places.

    Arrival j comes to place j mod `places`, and place p is worker p mod `workers`'s. So each has its part of
    the arrivals in proportion to its places, and all stripes make the whole. An open loop has one place a
    worker.
    """

    worker: int = 0
    workers: int = 1
    places: int = 1

    @property
    def own(self) -> int:
        """How many of the places are this worker's."""
        return len(range(self.worker, self.places, self.workers))

    def number(self, count: int) -> int:
        """The arrival that is the worker's `count`-th, from 0."""
        rounds, place = divmod(count, self.own)
        return rounds * self.places + self.worker + place * self.workers

    def below(self, number: int) -> int:
        """How many arrivals before the `number`-th are the worker's."""
        rounds, rest = divmod(number, self.places)
        return rounds * self.own + self.part(rest)

    def part(self, count: int) -> int:
        """The worker's part of so many places."""
        return len(range(self.worker, count, self.workers))


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
    stripe: Stripe = Stripe()

    @property
    def most(self) -> int | None:
        """How many requests it has under way at most; `None`: any number."""
        return max((places for _, places in self.places), default=self.max_in_flight)

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


def share(course: Course, worker: int, workers: int) -> Course:
    """One worker's part of a course. All parts make the whole: its arrivals, places, requests and limit.

    Args:
        course: of the whole load.
        worker: which one, from 0.
        workers: how many there are: no more than `course.most`, or one has nothing to do.
    """
    if course.schedule is not None:
        mine = Stripe(worker, workers, workers)
        most = course.max_in_flight
        return msgspec.structs.replace(
            course,
            schedule=stripe(course.schedule, worker, workers),
            max_in_flight=None if most is None else mine.part(most),
            stripe=mine,
        )
    mine = Stripe(worker, workers, course.most or workers)
    warmup, requests = mine.below(course.warmup_requests), course.requests
    if requests is not None:
        requests = mine.below(course.warmup_requests + requests) - warmup
    return msgspec.structs.replace(
        course,
        places=_changes([(at, mine.part(count)) for at, count in course.places]),
        warmup_requests=warmup,
        requests=requests,
        stripe=mine,
    )


def _changes(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [step for at, step in enumerate(steps) if at == 0 or steps[at - 1][1] != step[1]]
