"""A course cut up for workers: every arrival, place and request is in just one part."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.course import Course, Stripe, course_of, share
from scenarios.arrivals import Schedule
from scenarios.scenario import Load, Stage


def parts(course: Course, workers: int) -> list[Course]:
    return [share(course, worker, workers) for worker in range(workers)]


def numbers(course: Course, count: int) -> list[int]:
    return [course.stripe.number(nth) for nth in range(count)]


counts = st.integers(1, 12)


@settings(max_examples=40)
@given(counts, st.integers(1, 40), st.integers(0, 30), st.integers(1, 200))
def test_requests_places_and_warm_up_of_a_closed_loop_add_up(
    workers: int, places: int, warmup: int, requests: int
) -> None:
    whole = Course(
        executor="constant-concurrency", places=[(0, places)], warmup_requests=warmup, requests=requests
    )
    workers = min(workers, places)
    cut = parts(whole, workers)
    assert sum(part.places[0][1] for part in cut) == places
    assert sum(part.warmup_requests for part in cut) == warmup
    assert sum(part.requests or 0 for part in cut) == requests
    asked, warm = [], []
    for part in cut:
        mine = numbers(part, part.warmup_requests + (part.requests or 0))
        assert mine == sorted(mine)
        asked += mine
        warm += mine[: part.warmup_requests]
    # The arrivals are those of one process, and so are those of the warm-up.
    assert sorted(asked) == list(range(warmup + requests))
    assert sorted(warm) == list(range(warmup))


@settings(max_examples=40)
@given(counts, st.integers(1, 40), st.integers(40, 400))
def test_each_worker_has_requests_in_proportion_to_its_places(
    workers: int, places: int, requests: int
) -> None:
    """So that they end about together."""
    whole = Course(executor="constant-concurrency", places=[(0, places)], requests=requests)
    for part in parts(whole, min(workers, places)):
        each = (part.requests or 0) / part.places[0][1]
        assert requests // places <= each <= requests // places + 1


@settings(max_examples=40)
@given(counts, st.lists(st.integers(0, 10**9), max_size=60).map(sorted), st.data())
def test_arrivals_of_an_open_loop_keep_their_instants(
    workers: int, offsets: list[int], data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(0, len(offsets)))
    most = data.draw(st.integers(workers, 100))
    schedule = Schedule(array("q", offsets), warmup, 0, 10**9, 5.0)
    whole = Course(executor="constant-arrival-rate", schedule=schedule, max_in_flight=most)
    due: dict[int, int] = {}
    warm = set()
    for part in parts(whole, workers):
        assert part.schedule is not None
        mine = numbers(part, len(part.schedule.offsets_ns))
        due |= dict(zip(mine, part.schedule.offsets_ns, strict=True))
        warm |= set(mine[: part.schedule.warmup])
        assert (part.schedule.begin_ns, part.schedule.end_ns) == (0, 10**9)
    assert [due[number] for number in range(len(offsets))] == offsets
    assert len(due) == len(offsets)
    assert warm == set(range(warmup))
    assert sum(part.max_in_flight or 0 for part in parts(whole, workers)) == most


def test_a_changing_number_of_places_adds_up_at_every_moment() -> None:
    load = Load(executor="ramping-concurrency", start=1, stages=[Stage(duration=4, target=9)])
    whole = course_of(load, 0, None, 1)
    cut = parts(whole, 4)
    for at, count in whole.places:
        now = [[places for since, places in part.places if since <= at][-1] for part in cut]
        assert sum(now) == count
    assert all(a[1] != b[1] for part in cut for a, b in zip(part.places, part.places[1:], strict=False))


def test_one_process_has_every_arrival() -> None:
    assert [Stripe().number(nth) for nth in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("course", "most"),
    [
        (Course(executor="constant-concurrency", places=[(0, 7)]), 7),
        (Course(executor="ramping-concurrency", places=[(0, 1), (5, 9), (9, 0)]), 9),
        (Course(executor="constant-arrival-rate", max_in_flight=100), 100),
    ],
)
def test_how_many_requests_it_has_under_way_at_most(course: Course, most: int) -> None:
    assert course.most == most
