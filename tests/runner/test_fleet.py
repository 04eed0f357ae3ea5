from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from runner.fleet import Endpoint, Fleet
from runner.record import Error, ErrorKind

S = 1_000_000_000


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(cast("Any", None), f"http://{number}/v1") for number in range(count)]


def names(picked: Sequence[Endpoint | None]) -> str:
    return "".join("-" if e is None else e.base_url[7] for e in picked)


def error(kind: ErrorKind, status: int | None = None) -> Error:
    return Error(kind, "no", http_status=status)


def test_least_in_flight_first_and_of_equals_each_in_turn() -> None:
    fleet = Fleet(endpoints(3))
    picked = []
    for _ in range(9):
        endpoint = fleet.pick(S)
        assert endpoint is not None
        endpoint.answered(True, endpoint.sent())
        picked.append(endpoint)
    assert sorted(names(picked)) == list("000111222")
    picked[4].ended()
    assert fleet.pick(S) is picked[4]


def test_equals_without_load_are_used_alike() -> None:
    fleet = Fleet(endpoints(3))
    assert sorted(names([fleet.pick(S) for _ in range(6)])) == list("001122")


def test_cooling_down_is_one_endpoint_s_own() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    first.cool(0, S, 5 * S)
    assert {fleet.pick(2 * S) for _ in range(4)} == {second}
    assert fleet.next_at(2 * S) == 6 * S
    second.cool(0, S, 3 * S)
    assert fleet.pick(2 * S) is None
    assert fleet.cool_until() == 4 * S
    assert fleet.pick(4 * S) is second


def burst(endpoint: Endpoint, now: int) -> list[int]:
    """The epochs of all attempts that may go now."""
    fleet, out = Fleet([endpoint]), []
    while fleet.pick(now) is not None:
        out.append(endpoint.sent())
        assert len(out) <= 100
        if len(out) == 100:
            break
    return out


def test_after_a_cool_down_one_goes_ahead_then_twice_as_many() -> None:
    (only,) = endpoints(1)
    only.cool(0, S, S)
    assert burst(only, 2 * S - 1) == []
    sizes = []
    for _ in range(4):
        epochs = burst(only, 2 * S)
        sizes.append(len(epochs))
        only.answered(True, epochs[0])  # one head is enough for the next step
        for epoch in epochs[1:]:
            only.answered(False, epoch)
    assert sizes == [1, 2, 4, 8]


def test_heads_of_what_went_before_a_refusal_let_nobody_follow() -> None:
    (only,) = endpoints(1)
    before = [only.sent() for _ in range(5)]
    only.answered(False, before[0])
    only.cool(before[0], S, S)
    for epoch in before[1:]:
        only.answered(True, epoch)
    ahead = burst(only, 2 * S)
    assert len(ahead) == 1
    only.answered(True, ahead[0])
    assert len(burst(only, 2 * S)) == 2


def test_what_went_before_and_is_unanswered_keeps_nobody_waiting() -> None:
    (only,) = endpoints(1)
    before = [only.sent() for _ in range(5)]
    only.cool(before[0], S, S)
    assert len(burst(only, 2 * S)) == 1
    for epoch in before:
        only.answered(False, epoch)
    assert burst(only, 2 * S) == []  # the one ahead has not been answered


def test_a_burst_of_refusals_is_one() -> None:
    (only,) = endpoints(1)
    assert only.cool(0, 2 * S, S)
    assert not only.cool(0, 2 * S + 5, 2 * S)
    assert only.refusals == 1
    assert only.cool_until == 4 * S + 5  # the longest wait of the burst
    assert not only.cool(0, 2 * S + 6, S)
    assert only.cool_until == 4 * S + 5
    assert only.cool(only.epoch, 5 * S, S)
    assert only.refusals == 2
    only.accepted()
    assert only.refusals == 0


def test_the_longest_wait_rules_in_any_epoch() -> None:
    (only,) = endpoints(1)
    only.cool(0, S, 60 * S)
    only.cool(only.epoch, 2 * S, S)
    assert only.cool_until == 61 * S


def test_a_late_word_of_an_earlier_burst_begins_a_cool_down_of_its_own() -> None:
    (only,) = endpoints(1)
    only.cool(0, S, S)
    (ahead,) = burst(only, 2 * S)
    assert not only.cool(0, 3 * S, S)
    only.answered(True, ahead)
    assert burst(only, 4 * S - 1) == []
    assert len(burst(only, 4 * S)) == 1


def test_a_sick_endpoint_rests_while_others_are_well() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert not fleet.failed(first, error(ErrorKind.CONNECT), S, 0)
    assert {fleet.pick(S) for _ in range(4)} == {second}
    fleet.failed(second, error(ErrorKind.SERVER_ERROR), S, 0)
    assert fleet.pick(S) is not None  # all are sick: any is better than none
    assert first in {fleet.pick(100 * S), fleet.pick(100 * S)}


def test_connections_that_break_together_are_one_failure() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    went = [first.sent() for _ in range(32)]
    for n, epoch in enumerate(went):
        fleet.failed(first, error(ErrorKind.DISCONNECTED), S + n, epoch)
    assert first.sick_until == 2 * S
    (ahead,) = burst(first, 2 * S)
    fleet.failed(first, error(ErrorKind.CONNECT), 2 * S, ahead)  # it is still away: twice as long
    assert first.sick_until == 4 * S


def test_a_single_endpoint_is_never_left_out() -> None:
    (only,) = endpoints(1)
    fleet = Fleet([only])
    for kind in ErrorKind:
        assert not fleet.failed(only, error(kind, 404), S, 0)
    assert fleet.pick(S) is only


def test_a_wrong_endpoint_is_used_no_more() -> None:
    said: list[str] = []
    first, second = endpoints(2)
    fleet = Fleet([first, second], said.append)
    assert fleet.failed(first, error(ErrorKind.AUTH, 401), S, 0)
    assert fleet.failed(
        first, error(ErrorKind.AUTH, 401), S, 0
    )  # one that was under way: it may go elsewhere
    assert {fleet.pick(S) for _ in range(3)} == {second}
    assert said == ["http://0/v1 is used no more: no"]
    assert not fleet.failed(second, error(ErrorKind.AUTH, 401), S, 0)  # the last one stays
    assert not fleet.failed(second, error(ErrorKind.BAD_REQUEST, 400), S, 0)


OF_A_ROW = [error(ErrorKind.AUTH, 403), error(ErrorKind.BAD_REQUEST, 404), error(ErrorKind.BAD_REQUEST, 405)]


@pytest.mark.parametrize("refusal", OF_A_ROW, ids=lambda e: str(e.http_status))
def test_what_may_be_about_one_row_is_the_endpoint_s_fault_where_it_never_answered(refusal: Error) -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert fleet.failed(first, refusal, S, 0)
    assert first.out is refusal


@pytest.mark.parametrize("refusal", OF_A_ROW, ids=lambda e: str(e.http_status))
def test_or_three_times_in_a_row(refusal: Error) -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    first.accepted()
    assert [fleet.failed(first, refusal, S, 0) for _ in range(2)] == [True, True]  # another may take the row
    first.accepted()
    assert [fleet.failed(first, refusal, S, 0) for _ in range(2)] == [True, True]
    assert first.out is None
    assert fleet.failed(first, refusal, S, 0)
    assert first.out is refusal


@pytest.mark.parametrize("refusal", OF_A_ROW, ids=lambda e: str(e.http_status))
def test_what_two_endpoints_say_of_a_row_is_about_the_row(refusal: Error) -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    first.accepted()
    second.accepted()
    for _ in range(10):
        assert fleet.failed(first, refusal, S, 0)
        assert not fleet.failed(second, refusal, S, 0, {first: refusal})
    assert first.out is second.out is None


def test_another_failure_elsewhere_says_nothing_of_a_row() -> None:
    first, second, third = endpoints(3)
    fleet = Fleet([first, second, third])
    assert fleet.failed(second, OF_A_ROW[1], S, 0, {first: error(ErrorKind.CONNECT)})
    assert second.out is not None


def test_a_retry_goes_elsewhere_where_it_can() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert {fleet.pick(S, avoid=[first]) for _ in range(4)} == {second}
    second.cool(0, S, S)
    assert fleet.pick(S, avoid=[first]) is first


def test_elsewhere_is_where_one_is_well_and_was_not_tried() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert fleet.elsewhere(S, [first])
    assert not fleet.elsewhere(S, [first, second])
    second.cool(0, S, S)
    assert not fleet.elsewhere(S, [first])
    assert fleet.elsewhere(2 * S, [first])
    second.fell_ill(second.epoch, 2 * S)
    assert not fleet.elsewhere(2 * S, [first])
    assert fleet.elsewhere(3 * S, [first])
    fleet.failed(second, error(ErrorKind.QUOTA, 402), 3 * S, 0)
    assert not fleet.elsewhere(3 * S, [first])
