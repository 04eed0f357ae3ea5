"""What an attempt may be billed. Instants are given, no clock runs."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from runner.billed import attempt_cost, charged, was_stale
from runner.client import Outcome
from runner.prices import Price
from runner.record import STALE_NS, Error, ErrorKind
from runner.stream import Stream
from tests.runner.streams import NEVER

PRICE = Price(1e6, 1e6)  # one a token
GONE = Error(ErrorKind.DISCONNECTED, "gone", retryable=True)


def attempt(**changes: Any) -> Stream:
    stream = Stream(NEVER)
    stream.sent_at, stream.ended_at = 1_000, 2_000
    for name, value in changes.items():
        setattr(stream, name, value)
    return stream


async def bound(stream: Stream, error: Error) -> Any:
    told = attempt_cost(PRICE, 50.0, stream, Outcome("error", error))
    assert told[:2] == (None, "none")
    assert charged(*told) == (0.0 if told[2] is UNSET else told[2])
    return told[2]


@pytest.mark.parametrize(
    "status", [300, 307, 308, 400, 401, 402, 403, 404, 409, 413, 422, 429, 499, 503, 529]
)
async def test_a_refusal_before_any_work_is_free(status: int) -> None:
    error = Error(ErrorKind.BAD_REQUEST, "no", http_status=status)
    assert await bound(attempt(mode="refusal", status=status), error) is UNSET


@pytest.mark.parametrize("status", [101, 408, 500, 501, 502, 504, 520, 524, 530, 598, 600])
async def test_any_other_status_may_come_after_the_work(status: int) -> None:
    error = Error(ErrorKind.SERVER_ERROR, "no", http_status=status)
    assert await bound(attempt(mode="refusal", status=status), error) == 50.0


async def test_what_was_never_sent_is_free() -> None:
    assert await bound(attempt(sent_at=None), Error(ErrorKind.CONNECT, "no")) is UNSET


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"reused": True}, True),
        ({"reused": True, "ended_at": 1_000 + STALE_NS}, True),
        ({"reused": True, "ended_at": 1_000 + STALE_NS + 1}, False),  # it died under work
        ({"reused": True, "sent_at": None}, True),
        ({"reused": False}, False),
        ({"reused": None}, False),
    ],
)
async def test_a_kept_connection_was_stale_only_where_it_died_at_once(
    changes: dict[str, Any], stale: bool
) -> None:
    stream = attempt(**changes)
    assert was_stale(stream, GONE) is stale
    free = stale or stream.sent_at is None
    assert await bound(stream, GONE) == (UNSET if free else 50.0)


async def test_only_a_lost_connection_is_stale() -> None:
    assert not was_stale(attempt(reused=True), None)
    assert not was_stale(attempt(reused=True), Error(ErrorKind.TRUNCATED, "cut"))


async def test_where_no_worst_case_is_known_there_is_no_bound() -> None:
    assert attempt_cost(PRICE, 0.0, attempt(), Outcome("error", GONE)) == (None, "none", UNSET)
