from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.budget import Budget, Hold


def budget(most: float = 10.0, spent: float = 0.0) -> tuple[Budget, list[float]]:
    saved: list[float] = []

    async def save(ceiling: float) -> None:
        saved.append(ceiling)

    return Budget(most, spent, save), saved


def test_reserved_then_charged_then_spent() -> None:
    money, _ = budget(10)
    hold = Hold()
    money.reserve(hold, 4)
    assert (money.reserved, money.spent, money.under_way) == (4, 0, 1)
    assert money.fits(6)
    assert not money.fits(6.1)
    money.charge(hold, 1)
    assert (money.reserved, money.spent, money.under_way) == (1, 0, 0)  # held until it is written
    money.settle(hold)
    assert (money.reserved, money.spent) == (0, 1)


def test_attempts_of_one_request_add_up() -> None:
    money, _ = budget(10)
    hold = Hold()
    for charge in (4, 4):
        money.reserve(hold, 4)
        money.charge(hold, charge)
    assert not money.fits(4)
    assert money.is_over(4)  # nothing is under way that could make room
    money.settle(hold)
    assert money.spent == 8


def test_what_no_record_tells_of_stays_held() -> None:
    money, _ = budget(10, spent=1)
    written, lost, refused = Hold(), Hold(), Hold()
    for hold, amount in ((written, 0.1), (lost, 0.2), (refused, 0.0)):
        money.reserve(hold, 3)
        money.charge(hold, amount)
    assert money.left == pytest.approx(8.7)
    assert money.unsettled == pytest.approx(0.3)
    money.settle(written)
    assert money.left == pytest.approx(8.7)
    assert money.unsettled == 0.2
    money.reserve(lost, 3)
    assert money.left == pytest.approx(8.7)  # reserved is not spent, and may be
    assert money.unsettled == 3.2
    money.charge(lost, 0.0)
    assert money._holds == {lost}  # what was free is forgotten: --wait-ready may ask for ever
    money.settle(lost)
    assert money.unsettled == 0.0  # and not a rounding error


def test_what_is_under_way_may_make_room() -> None:
    money, _ = budget(10, spent=3)
    hold = Hold()
    money.reserve(hold, 5)
    assert not money.fits(4)
    assert not money.is_over(4)
    assert money.is_over(7.5)  # more than is left in any case


async def test_the_ceiling_grows_in_few_steps_and_covers_all() -> None:
    money, saved = budget(1000)
    for _ in range(100):
        if not money.covered(1):
            await money.cover(1)
        assert money.covered(1)
        money.reserve(Hold(), 1)
        assert money.reserved <= saved[-1]
    assert len(saved) < 10
    assert saved == sorted(saved)


async def test_a_ceiling_that_could_not_be_saved_is_none() -> None:
    async def save(_: float) -> None:
        raise OSError

    money = Budget(10, 0, save)
    with pytest.raises(OSError):  # noqa: PT011 - any will do
        await money.cover(1)
    assert not money.covered(1)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), max_size=40), st.integers(1, 8))
def test_never_more_than_was_allowed(requests: list[tuple[float, float]], at_once: int) -> None:
    money, _ = budget(10)
    holds: list[tuple[Hold, float]] = []
    paid = 0.0
    for worst, share in requests:
        if len(holds) == at_once:
            hold, amount = holds.pop(0)
            money.charge(hold, amount)
            money.settle(hold)
        if money.fits(worst):
            hold = Hold()
            money.reserve(hold, worst)
            holds.append((hold, worst * share))
            paid += worst * share
    assert paid <= 10 * (1 + 1e-6)
    for hold, amount in holds:
        money.charge(hold, amount)
        money.settle(hold)
    assert money.spent == pytest.approx(paid)
    assert money.reserved == pytest.approx(0)
    assert money.under_way == 0


def test_what_a_dead_worker_had_stays_held_and_its_request_goes_again() -> None:
    money, _ = budget(10)
    hold = Hold()
    money.reserve(hold, 4)
    money.charge(hold, 4)  # at its worst
    again = money.lose(hold)
    money.reserve(again, 4)
    assert not money.fits(2.1)
    money.charge(again, 1)
    money.settle(again)
    assert (money.spent, money.unsettled) == (1, 4)
    assert money.left == 5
    unsent = Hold()
    assert money.lose(unsent) is unsent
