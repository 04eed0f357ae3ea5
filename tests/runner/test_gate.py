from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Any, cast

import pytest

from runner.budget import Budget
from runner.delivery import Delivery
from runner.fleet import Endpoint, Fleet
from runner.gate import Ask, Gate
from runner.pacing import Adaptive
from runner.prices import Price, Prices
from runner.record import Error, ErrorKind
from scenarios.request import Request

S = 1_000_000_000
MS = 1_000_000


def gate_of(endpoints: int = 1, **options: Any) -> tuple[Gate, list[Endpoint]]:
    made = [Endpoint(cast("Any", None), f"http://{number}/v1") for number in range(endpoints)]
    return Gate(Fleet(made), **options), made


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def over(gate: Gate, ask: Ask, endpoint: Endpoint, *, ok: bool = True, charge: float = 0.0) -> None:
    """An attempt from its head to its record."""
    gate.head(ask, endpoint, 200 if ok else 500)
    gate.ended(ask, endpoint, ok=ok, headless=False, charge=charge)
    gate.written(ask)


async def test_where_nothing_holds_back_it_costs_no_turn() -> None:
    gate, (only,) = gate_of()
    passing = gate.pass_(Ask())
    with pytest.raises(StopIteration) as passed:
        passing.send(None)
    assert passed.value.value is only
    assert only.in_flight == 1


async def test_requests_a_minute_retries_included() -> None:
    gate, (only,) = gate_of(rpm=6000)  # one every 10 ms
    at = []

    async def go(retry: bool) -> None:
        ask = Ask()
        assert await gate.pass_(ask, retry=retry) is only
        at.append(monotonic_ns())
        over(gate, ask, only)

    await asyncio.gather(*(go(number % 2 == 0) for number in range(20)))
    assert at[-1] - at[0] >= 19 * 10 * MS - 15 * MS
    assert gate.paced_ns() > 0


async def test_tokens_a_minute() -> None:
    gate, (only,) = gate_of(tpm=60_000)  # one a millisecond
    started = monotonic_ns()
    for _ in range(5):
        ask = Ask(size=40, most_tokens=30)  # guessed at 10 + 30
        await gate.pass_(ask)
        gate.used(ask, 10, 30)
        over(gate, ask, only)
    assert monotonic_ns() - started >= 4 * 40 * MS - 15 * MS


async def passed(*tasks: asyncio.Task[Any]) -> int:
    await turns(20)
    return sum(task.done() for task in tasks)


class Clock:
    """The gate's clock, by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = S
        monkeypatch.setattr("runner.gate.monotonic_ns", lambda: self.now)


async def test_usage_that_frees_tokens_wakes_who_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, _ = gate_of(tpm=60)  # one a second
    first = Ask(most_tokens=200)
    await gate.pass_(first)
    waiting = asyncio.create_task(gate.pass_(Ask()))
    clock.now += 3 * S
    assert await passed(waiting) == 0
    gate.used(first, 1, 2)  # and not the two hundred that were guessed
    assert await passed(waiting) == 1
    gate.stop()


async def test_what_a_refused_attempt_did_not_use_wakes_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, _ = gate_of(tpm=60)
    first = Ask(most_tokens=200)
    await gate.pass_(first)
    waiting = asyncio.create_task(gate.pass_(Ask()))
    clock.now += 1
    assert await passed(waiting) == 0
    gate.unused(first)
    assert await passed(waiting) == 1
    gate.unused(first)  # given back once only
    assert gate._tokens is not None
    assert gate._tokens.next_at > clock.now + 200 * S
    gate.stop()


async def test_an_attempt_that_broke_off_used_at_least_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, _ = gate_of(tpm=60)
    ask = Ask(most_tokens=20)
    await gate.pass_(ask)
    assert gate._tokens is not None
    before = gate._tokens.next_at
    gate.used_at_least(ask, 15)  # it may have used all twenty
    assert gate._tokens.next_at == before
    gate.used_at_least(ask, 25)
    gate.used_at_least(ask, 25)
    assert gate._tokens.next_at == before + 5 * S
    assert clock.now < before


async def test_the_turn_of_what_was_held_back_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    gate, _ = gate_of(rpm=1)
    first = Ask()
    await gate.pass_(first)
    waiting = [asyncio.create_task(gate.pass_(Ask())) for _ in range(2)]
    assert await passed(*waiting) == 0
    gate.unused(first)  # sent and refused: it had its turn
    assert await passed(*waiting) == 0
    gate.unused(first, sent=False)
    assert await passed(*waiting) == 1
    gate.stop()
    await asyncio.wait(waiting)


async def test_who_is_cancelled_as_it_passes_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    gate, (only,) = gate_of(rpm=1)
    first = Ask()
    await gate.pass_(first)
    one, two = (asyncio.create_task(gate.pass_(Ask())) for _ in range(2))
    await turns()
    gate.unused(first, sent=False)  # lets it pass
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert await passed(two) == 1
    assert only.in_flight == 2


async def test_heads_of_what_went_before_a_refusal_let_nobody_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, (only,) = gate_of()
    before = [Ask() for _ in range(5)]
    for ask in before:
        await gate.pass_(ask)
    gate.head(before[0], only, 429)
    gate.busy(before[0], only, clock.now, 10 * MS)
    waiting = [asyncio.create_task(gate.pass_(Ask())) for _ in range(32)]
    await turns()
    clock.now += 10 * MS
    for ask in before[1:]:
        gate.head(ask, only, 200)
    assert await passed(*waiting) == 1
    gate.stop()
    await asyncio.wait(waiting)


async def test_retries_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, clock.now, 30 * MS)
    order: list[str] = []

    async def go(name: str, retry: bool) -> None:
        ask = Ask()
        await gate.pass_(ask, retry=retry)
        order.append(name)
        over(gate, ask, only)

    tasks = [asyncio.create_task(go(name, name[0] == "r")) for name in ("f1", "r1", "f2", "r2")]
    await turns()
    clock.now += 30 * MS
    await asyncio.wait(tasks)
    assert order == ["r1", "r2", "f1", "f2"]


async def test_a_refusal_holds_everybody_until_the_very_instant() -> None:
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, monotonic_ns(), 50 * MS)
    until = only.cool_until
    at = []

    async def go() -> None:
        ask = Ask()
        await gate.pass_(ask)
        at.append(monotonic_ns())
        over(gate, ask, only)

    await asyncio.gather(*(go() for _ in range(10)))
    assert min(at) >= until
    assert gate.cooldowns == 1
    assert 49 * MS <= gate.cooled_ns() <= 50 * MS


async def test_only_what_was_waited_counts_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, (only,) = gate_of(rpm=60)
    gate.busy(Ask(), only, clock.now, 3600 * S)
    assert gate.cooled_ns() == 0
    clock.now += 2 * S
    assert gate.cooled_ns() == 2 * S
    gate.busy(Ask(), only, clock.now, 5000 * S)  # longer, from now on
    clock.now += 3 * S
    assert gate.cooled_ns() == 5 * S
    clock.now += 9000 * S
    assert gate.cooled_ns() == 5002 * S


async def test_after_a_cool_down_one_goes_ahead() -> None:
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, monotonic_ns(), 1 * MS)
    asks = [Ask() for _ in range(4)]
    tasks = [asyncio.create_task(gate.pass_(ask)) for ask in asks]
    await asyncio.wait(tasks[:1])
    await asyncio.sleep(0.02)
    assert [task.done() for task in tasks] == [True, False, False, False]
    gate.head(asks[0], only, 200)
    await turns()
    assert [task.done() for task in tasks] == [True, True, True, False]
    gate.head(asks[1], only, 429)
    gate.busy(asks[1], only, monotonic_ns(), 1 * MS)  # one of them was refused: back to one
    await asyncio.wait(tasks)
    assert only.in_flight == 4


async def test_another_endpoint_takes_over_at_once() -> None:
    gate, (first, second) = gate_of(2)
    gate.busy(Ask(), first, monotonic_ns(), 60 * S)
    for _ in range(3):
        assert await gate.pass_(Ask(), retry=True, avoid=[first]) is second


async def test_too_long_a_wait_is_told() -> None:
    gate, (only,) = gate_of()
    told: list[float] = []
    gate.on_shut = told.append
    gate.busy(Ask(), only, monotonic_ns(), 599 * S)
    assert told == []
    gate.busy(Ask(), only, monotonic_ns(), 3600 * S)
    assert [round(seconds) for seconds in told] == [3600]


async def test_too_long_for_one_of_two_is_none_of_the_run_s_business() -> None:
    said: list[str] = []
    gate, (first, second) = gate_of(2, tell=said.append)
    told: list[float] = []
    gate.on_shut = told.append
    gate.busy(Ask(), first, monotonic_ns(), 3600 * S)
    assert told == []
    assert said == ["the server refuses: nothing new is sent there for 3,600 s"]
    gate.busy(Ask(), second, monotonic_ns(), 3600 * S)
    assert len(told) == len(said) == 1


async def test_stop_lets_nobody_through() -> None:
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, monotonic_ns(), 60 * S)
    tasks = [asyncio.create_task(gate.pass_(Ask(), retry=retry)) for retry in (True, False)]
    await turns()
    gate.stop()
    assert [await task for task in tasks] == [None, None]
    assert await gate.pass_(Ask()) is None
    assert only.in_flight == 0


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, monotonic_ns(), 500_000 * MS)
    first, second = (asyncio.create_task(gate.pass_(Ask())) for _ in range(2))
    await turns()
    first.cancel()
    only.cool_until = 0
    gate._rung()
    assert await second is only
    gate.stop()
    assert only.in_flight == 1


async def test_who_is_cancelled_as_it_passes_gives_back() -> None:
    money = Budget(10, 0, saved)
    money.ceiling = 10
    gate, (only,) = gate_of(budget=money)
    only.cool(0, monotonic_ns(), 0)
    held = Ask(worst=1.0)
    await gate.pass_(held)
    waiting = asyncio.create_task(gate.pass_(Ask(worst=1.0)))
    await turns()
    gate.head(held, only, 200)  # lets it pass
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert only.in_flight == 1
    assert money.reserved == 1.0


# -- the budget


async def saved(_: float) -> None:
    await asyncio.sleep(0)


def limited(most: float, save: Callable[[float], Awaitable[None]] = saved) -> Any:
    said: list[str] = []
    money = Budget(most, 0.0, save)
    gate, (only,) = gate_of(budget=money, tell=said.append)
    ended: list[int] = []

    def over_now(_: Ask) -> None:
        ended.append(1)
        gate.stop()

    gate.on_over = over_now
    return gate, only, money, said, ended


async def test_nothing_goes_before_its_ceiling_is_on_disk() -> None:
    release = asyncio.Event()
    ceilings: list[float] = []

    async def save(ceiling: float) -> None:
        await release.wait()
        ceilings.append(ceiling)

    gate, only, money, _, _ = limited(10, save)
    passing = asyncio.create_task(gate.pass_(Ask(worst=1.0)))
    await turns(20)
    assert not passing.done()
    release.set()
    assert await passing is only
    assert ceilings == [1.0]
    assert money.reserved == 1.0


async def test_reservations_lower_the_concurrency_and_it_is_said_once() -> None:
    gate, only, money, said, ended = limited(10)
    asks = [Ask(worst=4.0) for _ in range(3)]
    tasks = [asyncio.create_task(gate.pass_(ask)) for ask in asks]
    await turns(20)
    assert [task.done() for task in tasks] == [True, True, False]
    assert len(said) == 1
    assert "--max-cost lowers the concurrency: 10 is left, the 2 in flight may cost up to 8" in said[0]
    assert money.lowered
    over(gate, asks[0], only, charge=0.5)
    assert await tasks[2] is only
    assert money.spent == 0.5
    assert ended == []


async def test_when_nothing_fits_any_more_it_is_over() -> None:
    gate, only, money, _, ended = limited(10)
    first = Ask(worst=4.0)
    await gate.pass_(first)
    over(gate, first, only, charge=7.0)
    assert await gate.pass_(Ask(worst=4.0)) is None
    assert ended == [1]
    assert money.spent == 7.0


async def test_two_retries_that_hold_all_there_is_do_not_wait_for_each_other() -> None:
    gate, only, _, _, ended = limited(10)
    asks = [Ask(worst=4.0) for _ in range(2)]
    for ask in asks:
        await gate.pass_(ask)
    for ask in asks:
        gate.ended(ask, only, ok=False, headless=True, charge=4.0)
    both = [asyncio.create_task(gate.pass_(ask, retry=True)) for ask in asks]
    assert [await one for one in both] == [None, None]
    assert ended == [1]


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, at once."""
    slept: list[float] = []
    real = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    monkeypatch.setattr("runner.gate.asyncio.sleep", no_sleep)
    return slept


def full_disk(failures: int) -> Callable[[float], Awaitable[None]]:
    left = [OSError(28, "No space left on device")] * failures

    async def save(_: float) -> None:
        if left:
            raise left.pop()

    return save


async def test_a_ceiling_that_cannot_be_written_is_tried_again(seconds: list[float]) -> None:
    gate, only, _, said, _ = limited(10, full_disk(3))
    assert await gate.pass_(Ask(worst=1.0)) is only
    assert seconds == [1, 1, 1]
    assert len(said) == 1
    assert "cannot be written to run.json (No space left on device): nothing new is sent" in said[0]


async def test_a_ceiling_that_cannot_be_written_at_all_ends_the_run(seconds: list[float]) -> None:
    gate, only, money, said, _ = limited(10, full_disk(1000))
    why: list[str] = []

    def unsaved(reason: str) -> None:
        why.append(reason)
        gate.stop()

    gate.on_unsaved = unsaved
    both = [
        asyncio.create_task(gate.pass_(Ask(worst=1.0))),
        asyncio.create_task(gate.reserve(Ask(worst=1.0))),
    ]
    assert [await one for one in both] == [None, False]
    assert why == ["what may be spent cannot be written to run.json (No space left on device)"]
    assert len(seconds) == 30
    assert len(said) == 1
    assert (only.in_flight, money.reserved) == (0, 0)


async def test_a_run_that_stops_meanwhile_tries_no_more(seconds: list[float]) -> None:
    gate, _, _, _, _ = limited(10, full_disk(1000))
    why: list[str] = []
    gate.on_unsaved = why.append
    passing = asyncio.create_task(gate.pass_(Ask(worst=1.0)))
    while len(seconds) < 2:
        await turns(1)
    gate.stop()
    assert await passing is None
    await turns(20)
    assert len(seconds) <= 3
    assert why == []


async def test_what_never_fits_is_let_go_and_smaller_ones_pass() -> None:
    gate, only, money, _, _ = limited(10)
    over_: list[float] = []
    gate.on_over = lambda ask: over_.append(ask.worst)
    money.spent = 5.0
    first, big, small = Ask(worst=4.0), Ask(worst=6.0), Ask(worst=3.0)
    assert await gate.pass_(first) is only
    assert await gate.pass_(big) is None  # at once, while another is under way
    assert (big.over, first.over) == (True, False)
    tasks = [asyncio.create_task(gate.pass_(ask)) for ask in (small, Ask(worst=7.0), Ask(worst=1.0))]
    await turns()
    assert [task.done() for task in tasks] == [False, False, False]  # the small one waits for room
    over(gate, first, only, charge=1.0)
    assert [await task for task in tasks] == [only, None, only]
    assert over_ == [6.0, 7.0]


async def test_when_the_last_one_under_way_leaves_nothing_all_that_wait_are_told() -> None:
    gate, only, _, _, ended = limited(10)
    first = Ask(worst=6.0)
    await gate.pass_(first)
    waiting = [asyncio.create_task(gate.pass_(Ask(worst=5.0))) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    over(gate, first, only, charge=6.0)  # the run stops while the gate looks through those that wait
    assert [await task for task in waiting] == [None, None]
    assert ended == [1]


async def test_a_reservation_past_the_gate_is_durable_before_it_is_made() -> None:
    saved_at: list[tuple[float, float]] = []

    async def save(ceiling: float) -> None:
        await asyncio.sleep(0)
        saved_at.append((money.reserved, ceiling))

    gate, _, money, _, _ = limited(10, save)
    tasks = [asyncio.create_task(gate.reserve(Ask(worst=4.0))) for _ in range(3)]
    assert sorted([await task for task in tasks]) == [False, True, True]
    assert saved_at == [(0.0, 4.0), (4.0, 8.0)]
    assert (money.reserved, money.under_way, money.unsettled) == (8.0, 2, 8.0)


# -- after a cool-down, one goes ahead: every end without a head gives its place back, once


async def window_of_one(**options: Any) -> tuple[Gate, Endpoint]:
    gate, (only,) = gate_of(**options)
    only.cool(0, monotonic_ns(), 0)
    return gate, only


async def test_an_attempt_without_a_head_makes_room_for_the_next() -> None:
    gate, only = await window_of_one()
    ask = Ask()
    assert await gate.pass_(ask) is only
    waiting = [asyncio.create_task(gate.pass_(Ask())) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    gate.ended(ask, only, ok=False, headless=True, charge=0.0)
    await turns()
    assert [task.done() for task in waiting] == [True, False]  # one, for one
    assert only.in_flight == 1
    gate.stop()
    await asyncio.wait(waiting)


async def test_an_attempt_with_a_head_made_room_already() -> None:
    gate, only = await window_of_one()
    ask = Ask()
    assert await gate.pass_(ask) is only
    gate.head(ask, only, 429)
    gate.ended(ask, only, ok=False, headless=False, charge=0.0)
    waiting = [asyncio.create_task(gate.pass_(Ask())) for _ in range(2)]
    await turns()
    assert [task.done() for task in waiting] == [True, False]
    gate.stop()
    await asyncio.wait(waiting)


async def test_what_is_withdrawn_gives_back_its_place_and_its_money() -> None:
    money = Budget(10, 0, saved)
    money.ceiling = 10
    gate, only = await window_of_one(budget=money)
    delivery = Delivery(gate, session=1, anchor_ns=0, retries=0, prices=Prices({"*": Price(1e6, 1e6)}))
    prepared = delivery.prepare(Request("i", "p", 0, 0, None, "chat", {"model": "m", "max_tokens": 1}, {}))
    prepared.ask.worst = 6.0
    assert await delivery.admit(prepared)
    waiting = [asyncio.create_task(gate.pass_(Ask(worst=5.0))) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    delivery.withdraw(prepared)
    delivery.withdraw(prepared)  # once is enough
    await turns()
    assert [task.done() for task in waiting] == [True, False]
    assert (only.in_flight, money.reserved, money.under_way, money.unsettled) == (1, 5.0, 1, 5.0)
    gate.stop()
    await asyncio.wait(waiting)


# -- adaptive


async def test_adaptive_is_told_and_tells() -> None:
    limits: list[int] = []
    adaptive = Adaptive(64)
    gate, (only,) = gate_of(adaptive=adaptive, resize=limits.append)
    now = monotonic_ns()
    for _ in range(4):
        gate.first_token(only, now, now + 100 * MS)
    assert limits == [8]
    gate.busy(Ask(), only, monotonic_ns(), 0)
    assert limits == [8, 4]


async def test_failures_of_one_endpoint_are_the_fleet_s_business() -> None:
    gate, (first, second) = gate_of(2)
    wrong = Error(ErrorKind.AUTH, "no")
    assert gate.failed(Ask(), first, wrong)
    assert await gate.pass_(Ask()) is second
    assert not gate.failed(Ask(), second, wrong)
    assert not gate.failed(Ask(), second, Error(ErrorKind.RATE_LIMIT, "later"))


async def test_after_a_refusal_it_is_another_one_s_turn_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    gate, (only,) = gate_of()
    gate.busy(Ask(), only, clock.now, 10 * MS)
    order: list[int] = []

    async def go(made: int) -> None:
        ask = Ask()
        await gate.pass_(ask, retry=True, made=made)
        order.append(made)
        over(gate, ask, only)

    tasks = [asyncio.create_task(go(made)) for made in (3, 1, 2)]
    await turns()
    clock.now += 10 * MS
    await asyncio.wait(tasks)
    assert order == [1, 2, 3]
