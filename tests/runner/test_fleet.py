from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

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
        endpoint.sent()
        endpoint.answered(True)
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
    first.cool(S, S, 5 * S)
    assert {fleet.pick(2 * S) for _ in range(4)} == {second}
    assert fleet.next_at(2 * S) == 6 * S
    second.cool(S, S, 3 * S)
    assert fleet.pick(2 * S) is None
    assert fleet.cool_until() == 4 * S
    assert fleet.pick(4 * S) is second


def test_after_a_cool_down_one_goes_ahead_then_twice_as_many() -> None:
    (only,) = endpoints(1)
    fleet = Fleet([only])
    only.cool(S, S, S)
    assert fleet.pick(2 * S - 1) is None
    sent = []
    for _ in range(4):
        burst = 0
        while fleet.pick(2 * S) is not None:
            only.sent()
            burst += 1
            assert burst < 100
        sent.append(burst)
        only.answered(True)  # one head is enough for the next step
        for _ in range(burst - 1):
            only.answered(False)
    assert sent == [1, 2, 4, 8]


def test_a_burst_of_refusals_is_one() -> None:
    (only,) = endpoints(1)
    assert only.cool(S, 2 * S, S)
    assert not only.cool(S, 2 * S + 5, 2 * S)
    assert only.refusals == 1
    assert only.cool_until == 4 * S + 5  # the longest wait of the burst
    assert only.cool(5 * S, 6 * S, S)
    assert only.refusals == 2
    only.accepted()
    assert only.refusals == 0


def test_a_sick_endpoint_rests_while_others_are_well() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert not fleet.failed(first, error(ErrorKind.CONNECT), S)
    assert {fleet.pick(S) for _ in range(4)} == {second}
    fleet.failed(second, error(ErrorKind.SERVER_ERROR), S)
    assert fleet.pick(S) is not None  # all are sick: any is better than none
    assert first in {fleet.pick(100 * S), fleet.pick(100 * S)}


def test_a_single_endpoint_is_never_left_out() -> None:
    (only,) = endpoints(1)
    fleet = Fleet([only])
    for kind in ErrorKind:
        assert not fleet.failed(only, error(kind, 404), S)
    assert fleet.pick(S) is only


def test_a_wrong_endpoint_is_used_no_more() -> None:
    said: list[str] = []
    first, second = endpoints(2)
    fleet = Fleet([first, second], said.append)
    assert fleet.failed(first, error(ErrorKind.AUTH, 401), S)
    assert fleet.failed(first, error(ErrorKind.AUTH, 401), S)  # one that was under way: it may go elsewhere
    assert {fleet.pick(S) for _ in range(3)} == {second}
    assert said == ["http://0/v1 is used no more: no"]
    assert not fleet.failed(second, error(ErrorKind.AUTH, 401), S)  # the last one stays
    assert not fleet.failed(second, error(ErrorKind.BAD_REQUEST, 400), S)


def test_a_retry_goes_elsewhere_where_it_can() -> None:
    first, second = endpoints(2)
    fleet = Fleet([first, second])
    assert {fleet.pick(S, avoid=first) for _ in range(4)} == {second}
    second.cool(S, S, S)
    assert fleet.pick(S, avoid=first) is first
