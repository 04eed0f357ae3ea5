"""Places of a closed load, and when to stop because nothing works."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

import pytest

from runner.limits import Breaker, LoadBreaker, Slots
from runner.record import Error, ErrorKind


async def taken(slots: Slots) -> bool:
    """Whether a place is free now; takes it."""
    task = asyncio.create_task(slots.take())
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return True
    task.cancel()
    await asyncio.wait([task])
    return False


async def test_the_first_goes_alone() -> None:
    slots = Slots(3)
    assert [await taken(slots) for _ in range(3)] == [True, False, False]


async def test_then_as_many_as_were_asked_for() -> None:
    slots = Slots(3)
    slots.open_all()
    slots.open_all()
    assert [await taken(slots) for _ in range(5)] == [True, True, True, False, False]
    slots.release()
    assert [await taken(slots) for _ in range(2)] == [True, False]


async def test_one_place_stays_one() -> None:
    slots = Slots(1)
    slots.open_all()
    assert [await taken(slots) for _ in range(2)] == [True, False]


async def test_opening_while_the_first_is_under_way() -> None:
    slots = Slots(4)
    await slots.take()
    slots.open_all()
    assert [await taken(slots) for _ in range(4)] == [True, True, True, False]


async def test_fewer_places_take_the_free_ones_away() -> None:
    slots = Slots(5)
    slots.open_all()
    await slots.take()
    slots.resize(3)
    assert [await taken(slots) for _ in range(3)] == [True, True, False]


async def test_fewer_places_than_are_taken_come_about_as_they_are_given_back() -> None:
    slots = Slots(4)
    slots.open_all()
    for _ in range(4):
        await slots.take()
    slots.resize(2)
    for _ in range(2):
        slots.release()
        assert not await taken(slots)
    slots.release()  # one is left, of two
    assert [await taken(slots) for _ in range(2)] == [True, False]


async def test_more_places_again_wake_who_waits() -> None:
    slots = Slots(4)
    slots.open_all()
    slots.resize(1)
    await slots.take()
    waiting = [asyncio.create_task(slots.take()) for _ in range(3)]
    await asyncio.sleep(0)
    slots.resize(3)
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 2
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_new_size_before_it_opens_is_for_later() -> None:
    slots = Slots(5)
    slots.resize(2)
    assert [await taken(slots) for _ in range(2)] == [True, False]
    slots.open_all()
    assert [await taken(slots) for _ in range(2)] == [True, False]


async def test_a_place_knows_since_when_it_is_free() -> None:
    before = monotonic_ns()
    slots = Slots(2)
    made = monotonic_ns()
    assert before <= await slots.take() <= made
    slots.open_all()
    opened = monotonic_ns()
    assert made <= await slots.take() <= opened
    slots.release()
    freed = monotonic_ns()
    await asyncio.sleep(0.01)
    assert opened <= await slots.take() <= freed


async def test_the_place_free_longest_is_taken_first() -> None:
    slots = Slots(3)
    slots.open_all()
    for _ in range(3):
        await slots.take()
    slots.release()
    between = monotonic_ns()
    slots.release()
    assert await slots.take() <= between
    assert await slots.take() >= between


async def test_a_waiter_that_gives_up_takes_no_place_with_it() -> None:
    slots = Slots(2)
    await slots.take()
    waiters = [asyncio.create_task(slots.take()) for _ in range(3)]
    await asyncio.sleep(0)
    slots.release()
    waiters[0].cancel()  # at the very moment it is woken
    await asyncio.wait(waiters[:2], return_when=asyncio.ALL_COMPLETED, timeout=5)
    assert waiters[0].cancelled() or waiters[0].done()
    assert waiters[1].done() != (waiters[0].done() and not waiters[0].cancelled())
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)


async def test_never_more_than_allowed_at_once() -> None:
    slots = Slots(5)
    slots.open_all()
    now = most = 0

    async def work() -> None:
        nonlocal now, most
        await slots.take()
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        slots.release()

    await asyncio.gather(*[work() for _ in range(100)])
    assert most == 5


# -- the breaker


def error(kind: ErrorKind, status: int | None = None) -> Error:
    return Error(kind, "m", http_status=status)


def noted(*errors: Error | None) -> list[bool]:
    breaker = Breaker()
    return [breaker.note(e) for e in errors]


@pytest.mark.parametrize(
    "first",
    [
        error(ErrorKind.AUTH, 401),
        error(ErrorKind.QUOTA, 429),
        error(ErrorKind.REDIRECT, 307),
        error(ErrorKind.TLS),
        error(ErrorKind.CONNECT),
        error(ErrorKind.BAD_REQUEST, 404),
        error(ErrorKind.BAD_REQUEST, 405),
    ],
    ids=lambda e: f"{e.kind}-{e.http_status}",
)
def test_what_ends_a_run_that_has_had_no_success_at_once(first: Error) -> None:
    assert noted(first) == [True]


@pytest.mark.parametrize(
    "kind",
    [k for k in ErrorKind if k not in {"auth", "quota", "redirect", "tls", "connect"}],
)
def test_what_may_be_the_prompts_fault_has_three_tries(kind: ErrorKind) -> None:
    assert noted(*[error(kind, 400)] * 3) == [False, False, True]


def test_a_success_starts_anew() -> None:
    bad = error(ErrorKind.SERVER_ERROR)
    assert not any(noted(bad, bad, None, bad, bad, bad, bad))


@pytest.mark.parametrize("kind", [ErrorKind.AUTH, ErrorKind.QUOTA])
def test_later_three_refusals_in_a_row(kind: ErrorKind) -> None:
    bad = error(kind)
    assert noted(None, bad, bad, bad) == [False, False, False, True]
    assert not any(noted(None, bad, bad, None, bad, bad))
    assert not any(noted(None, bad, bad, error(ErrorKind.TIMEOUT), bad, bad))


def test_later_fifty_failures_in_a_row() -> None:
    results = noted(None, *[error(ErrorKind.CONNECT)] * 50)
    assert results.index(True) == 50


def test_bad_requests_are_about_one_prompt() -> None:
    assert not any(noted(None, *[error(ErrorKind.BAD_REQUEST, 400)] * 500))
    # A 404 is about the model, or the URL: it has gone away.
    assert noted(None, *[error(ErrorKind.BAD_REQUEST, 404)] * 3) == [False, False, False, True]
    other = [error(ErrorKind.TIMEOUT)] * 49
    assert noted(None, *other, error(ErrorKind.BAD_REQUEST, 400), error(ErrorKind.TIMEOUT))[-2:] == [
        False,
        True,
    ]


def test_once_tripped_it_stays_so_and_keeps_the_first_reason() -> None:
    breaker = Breaker()
    first = error(ErrorKind.AUTH, 401)
    assert breaker.note(first)
    assert breaker.note(error(ErrorKind.TLS))
    assert breaker.note(None)
    assert breaker.note(error(ErrorKind.BAD_REQUEST, 400))
    assert breaker.tripped is first


def test_a_token_of_any_answer_is_a_sign_of_life() -> None:
    breaker = Breaker()
    breaker.token()
    for _ in range(200):
        assert not breaker.note(error(ErrorKind.RATE_LIMIT, 429))
        breaker.token()
    for n in range(50):
        assert breaker.note(error(ErrorKind.RATE_LIMIT, 429)) == (n == 49)


def test_answers_that_only_break_after_tokens_stop_it_too() -> None:
    breaker = Breaker()
    for n in range(50):
        breaker.token()
        assert breaker.note(error(ErrorKind.TRUNCATED), begun=True) == (n == 49)


def test_what_an_earlier_session_answered_proves_the_settings() -> None:
    breaker = Breaker(answered=True)
    assert not any(breaker.note(error(ErrorKind.BAD_REQUEST, 400)) for _ in range(100))
    assert [breaker.note(error(ErrorKind.AUTH, 401)) for _ in range(3)] == [False, False, True]


# -- of a bench


def busy() -> Error:
    return Error(ErrorKind.OVERLOADED, "later", http_status=503)


def test_a_bench_goes_on_though_the_server_refuses_everything() -> None:
    breaker = LoadBreaker()
    assert not any(breaker.note(busy(), second * 10**9) for second in range(1000))


@pytest.mark.parametrize(
    "error",
    [
        Error(ErrorKind.CONNECT, "x"),
        Error(ErrorKind.AUTH, "x", http_status=401),
        Error(ErrorKind.BAD_REQUEST, "x", http_status=404),
    ],
)
def test_a_bench_of_the_wrong_target_ends_with_its_first_failure(error: Error) -> None:
    breaker = LoadBreaker()
    assert breaker.note(error, 1)
    assert breaker.tripped is error


def test_a_bench_ends_with_the_third_bad_request_before_any_token() -> None:
    breaker = LoadBreaker()
    bad = Error(ErrorKind.BAD_REQUEST, "x", http_status=400)
    assert [breaker.note(bad, 1) for _ in range(3)] == [False, False, True]
    answered = LoadBreaker()
    answered.token()
    assert not any(answered.note(bad, 1) for _ in range(100))


def test_a_bench_ends_when_nobody_was_there_for_ten_seconds_and_fifty_requests() -> None:
    gone = Error(ErrorKind.CONNECT, "x")
    breaker = LoadBreaker()
    breaker.token()
    assert not any(breaker.note(gone, n) for n in range(1000))  # many, at once
    assert breaker.note(gone, 10 * 10**9)
    slow = LoadBreaker()
    slow.token()
    assert not any(slow.note(gone, n * 10**9) for n in range(49))  # long, but few
    slow.note(None, 49 * 10**9)
    assert not slow.note(gone, 50 * 10**9)


def test_a_bench_goes_on_while_anybody_is_heard() -> None:
    gone = Error(ErrorKind.CONNECT, "x")
    breaker = LoadBreaker(proven=True)
    assert not any(breaker.note(gone, n * 10**9, heard=n % 9 == 0) for n in range(200))
    assert any(breaker.note(gone, (200 + n) * 10**9) for n in range(60))
    # A key that is refused is answered, and still is nobody's answer.
    refused = Error(ErrorKind.AUTH, "x", http_status=401)
    other = LoadBreaker(proven=True)
    assert any(other.note(refused, n * 10**9, heard=True) for n in range(60))


def test_a_bench_that_is_proven_does_not_end_with_one_failure() -> None:
    assert not LoadBreaker(proven=True).note(Error(ErrorKind.CONNECT, "x"), 1)
