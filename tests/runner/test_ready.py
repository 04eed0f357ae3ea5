from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from runner import ready
from runner.budget import Budget
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.prices import Price
from runner.ready import Purse, Readiness, ready_body, wait_ready
from scenarios.answer_limit import most_tokens
from scenarios.request import Request
from tests.runner.streams import HELLO, Peer, Script, chunked, client_of, serving, sized, sse

GOOD = chunked(sse(*HELLO, done=True))
BUSY = sized(b'{"error":{"message":"loading the model"}}', "503 Loading")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_PAUSES_S", (0.0,))


def script_of(*responses: bytes) -> Script:
    """Answers the n-th connection with the n-th response; an empty one closes it."""
    left = list(responses)

    async def script(peer: Any) -> None:
        await peer.request()
        response = left.pop(0)
        if response:
            await peer.send(response)

    return script


def request(**body: Any) -> Request:
    full = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return Request("id", "prompt", 0, 0, None, "chat", full, {})


async def saved(_: float) -> None:
    await asyncio.sleep(0)


def purse_of(budget: Budget | None = None, worst: float = 0.0) -> Purse:
    return Purse(Gate(Fleet([]), budget=budget), Price(1e6, 1e6), worst)


async def waited(
    script: Script, limit_s: float | None = 30.0, purse: Purse | None = None
) -> tuple[Readiness, list[str], int]:
    said: list[str] = []
    async with serving(script) as server, client_of(server.url) as client:
        async with asyncio.timeout(60):
            told = await wait_ready(
                [Endpoint(client, "http://there/v1")],
                "chat",
                b"{}",
                limit_s,
                said.append,
                purse or purse_of(),
            )
        return told, said, len(server.peers)


async def test_until_it_answers() -> None:
    purse = purse_of()
    script = script_of(BUSY, b"", BUSY, sized(b"no", "404 Not Found"), GOOD)
    told, said, asked = await waited(script, purse=purse)
    assert (told.error, purse.requests, asked) == (None, 5, 5)
    assert said == [
        "--wait-ready: asking http://there/v1 for one token, for at most 30 s",
        "http://there/v1 is not ready: HTTP 503: loading the model",  # and not once an attempt
    ]


async def test_what_it_waits_for_is_told_before_anything_is_asked() -> None:
    said: list[str] = []

    async def script(peer: Peer) -> None:
        assert said == ["--wait-ready: asking http://there/v1 for one token"]
        await peer.request()
        await peer.send(GOOD)

    async with serving(script) as server, client_of(server.url) as client:
        told = await wait_ready(
            [Endpoint(client, "http://there/v1")], "chat", b"{}", None, said.append, purse_of()
        )
    assert told.error is None


async def test_a_server_that_only_keeps_silent_is_told_of_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_SAY_EVERY_S", 0.001)
    enough, said = asyncio.Event(), [""]

    def tell(text: str) -> None:
        said.append(text)
        if len(said) > 4:
            enough.set()

    async def script(peer: Peer) -> None:
        await peer.request()
        await enough.wait()
        await peer.send(GOOD)

    async with serving(script) as server, client_of(server.url) as client, asyncio.timeout(60):
        told = await wait_ready([Endpoint(client, "u")], "chat", b"{}", None, tell, purse_of())
    assert told.error is None
    assert said[2] == "u is not ready: no answer yet"


@pytest.mark.parametrize("status", ["401 No", "402 No", "405 No", "307 There"])
async def test_what_will_not_pass_is_not_waited_for(status: str) -> None:
    told, _, asked = await waited(script_of(sized(b"", status), GOOD))
    assert asked == 1
    assert told.error is not None


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable", "413 Too Large"])
async def test_a_refusal_of_the_request_is_an_answer(status: str) -> None:
    body = b'{"error":{"message":"max_tokens must be at least 16"}}'
    told, said, asked = await waited(script_of(BUSY, sized(body, status), GOOD))
    assert (told.error, asked) == (None, 2)
    assert said[-1].startswith("http://there/v1 answers, so it is ready: HTTP 4")
    assert "max_tokens must be at least 16" in said[-1]


async def test_the_time_is_limited() -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    told, _, asked = await waited(silent, 0.05)
    assert asked == 1
    assert told.error is not None
    assert "no answer within 0.05 s" in told.error.message


# -- several endpoints


async def test_the_first_that_answers_is_enough_and_the_others_rest() -> None:
    released = asyncio.Event()

    async def loading(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(BUSY)
            released.set()

    async def good(peer: Peer) -> None:
        await peer.request()
        await released.wait()
        await peer.send(GOOD)

    said: list[str] = []
    async with (
        serving(loading) as other,
        serving(good) as server,
        client_of(other.url) as first,
        client_of(server.url) as second,
        asyncio.timeout(60),
    ):
        endpoints = [Endpoint(first, "first"), Endpoint(second, "second")]
        told = await wait_ready(endpoints, "chat", b"{}", None, said.append, purse_of())
    assert told == Readiness(None)
    assert said[0] == "--wait-ready: asking first and second for one token"
    assert said[-1] == "first is not ready yet (HTTP 503: loading the model): the run begins without it"
    now = time.monotonic_ns()
    assert Fleet(endpoints).pick(now) is endpoints[1]
    assert endpoints[0].sick_until > endpoints[1].sick_until == 0
    assert endpoints[0].out is None  # it is used once it is healthy


async def test_one_that_only_keeps_silent_rests_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_GRACE_S", 0.0)

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    said: list[str] = []
    async with (
        serving(silent) as other,
        serving(script_of(GOOD)) as server,
        client_of(other.url) as first,
        client_of(server.url) as second,
        asyncio.timeout(60),
    ):
        endpoints = [Endpoint(first, "first"), Endpoint(second, "second")]
        told = await wait_ready(endpoints, "chat", b"{}", None, said.append, purse_of())
    assert told == Readiness(None)
    assert said[-1] == "first is not ready yet (no answer yet): the run begins without it"
    assert endpoints[0].sick_until > 0


async def test_those_that_are_as_ready_are_not_spoken_ill_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_GRACE_S", 60.0)
    first_is_done = asyncio.Event()

    async def quick(peer: Peer) -> None:
        await peer.request()
        await peer.send(GOOD)
        first_is_done.set()

    async def slower(peer: Peer) -> None:
        await peer.request()
        await first_is_done.wait()
        await peer.send(GOOD)

    said: list[str] = []
    async with (
        serving(quick) as one,
        serving(slower) as two,
        client_of(one.url) as first,
        client_of(two.url) as second,
        asyncio.timeout(30),
    ):
        endpoints = [Endpoint(first, "first"), Endpoint(second, "second")]
        await wait_ready(endpoints, "chat", b"{}", None, said.append, purse_of())
    assert len(said) == 1
    assert [endpoint.sick_until for endpoint in endpoints] == [0, 0]


async def test_a_wrong_key_at_one_does_not_end_the_wait_for_the_other() -> None:
    async with (
        serving(script_of(sized(b"", "401 No"))) as wrong,
        serving(script_of(BUSY, BUSY, GOOD)) as right,
        client_of(wrong.url) as first,
        client_of(right.url) as second,
        asyncio.timeout(60),
    ):
        endpoints = [Endpoint(first, "first"), Endpoint(second, "second")]
        told = await wait_ready(endpoints, "chat", b"{}", None, lambda _: None, purse_of())
    assert told.error is None


# -- what it costs


async def test_every_request_is_reserved_and_charged_and_stays_held() -> None:
    ceilings: list[float] = []
    peers = 0

    async def save(ceiling: float) -> None:
        ceilings.append(ceiling)

    money = Budget(100.0, 0.0, save)
    answers = [b"", sized(b"", "504 Late"), BUSY, sized(b"", "429 Slow", Retry_After="0"), GOOD]

    async def script(peer: Peer) -> None:
        nonlocal peers
        await peer.request()
        assert money.reserved <= ceilings[-1]  # durable before it went
        assert money.under_way == 1
        response = answers[peers]
        peers += 1
        if response:
            await peer.send(response)

    purse = purse_of(money, 5.0)
    told, _, asked = await waited(script, purse=purse)
    assert (told.error, told.over, asked) == (None, False, 5)
    # The lost connection and the 504 count, the two refusals do not, the answer does by its usage.
    assert GOOD.count(b"usage") == 1
    paid = purse.total - 2 * 5.0
    assert 0 < paid != 5.0
    assert (money.spent, money.under_way) == (0.0, 0)
    assert money.unsettled == money.reserved == purse.total


async def test_one_that_is_broken_off_is_charged() -> None:
    money = Budget(100.0, 0.0, saved)

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    await waited(silent, 0.05, purse_of(money, 5.0))
    assert (money.unsettled, money.under_way) == (5.0, 0)


async def test_what_does_not_fit_is_not_sent() -> None:
    money = Budget(12.0, 0.0, saved)
    told, _, asked = await waited(script_of(*[b""] * 5), None, purse_of(money, 5.0))
    assert (told.over, told.error is None, asked) == (True, False, 2)
    assert money.unsettled == 10.0
    told, _, asked = await waited(script_of(), None, purse_of(Budget(1.0, 0.0, saved), 5.0))
    assert (told.over, told.error, asked) == (True, None, 0)


def test_the_request_is_one_of_the_run_s_with_an_answer_of_one_token() -> None:
    asked = ready_body(request(max_tokens=500, n=3, best_of=4, min_tokens=9, ignore_eos=True))
    assert asked == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "stream": True,
    }
    both = ready_body(request(max_completion_tokens=9, max_tokens=800))
    assert (both["max_completion_tokens"], both["max_tokens"]) == (1, 1)
    only = ready_body(request(max_completion_tokens=9, max_tokens=None))
    assert (only["max_completion_tokens"], only["max_tokens"]) == (1, None)
    assert ready_body(request())["max_tokens"] == 1
    assert most_tokens(both) == most_tokens(only) == 1
