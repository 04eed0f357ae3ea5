"""Requests on their way through the gate: replicas, cool-downs, whose turn it is, tokens a minute."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic_ns
from typing import Any

import pytest

from runner.delivery import Delivery
from runner.fleet import Endpoint, Fleet
from runner.gate import Ask, Gate
from runner.record import Record
from runner.transport import Connector
from scenarios.request import Request
from tests.runner.streams import (
    END,
    HELLO,
    NEVER,
    Peer,
    Script,
    answering,
    chunked,
    chunked_head,
    client_of,
    delta,
    piece,
    serving,
    sized,
    sse,
    until,
    usage,
)

MS = 1_000_000
GOOD = chunked(sse(*HELLO, done=True))
FAR = sized(b"", "429 Slow", Retry_After="3600")
SOON = sized(b"", "429 Slow", Retry_After_Ms="30")


class Draws(random.Random):
    """Jitter that always draws the same."""

    def __init__(self, drawn: float = 0.0) -> None:
        super().__init__()
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


def request(prompt: str = "hi", **body: Any) -> Request:
    full = {"model": "m", "messages": [{"role": "user", "content": prompt}], **body}
    return Request("id-1", "prompt-1", 0, 0, None, "chat", full, {})


def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@asynccontextmanager
async def fleet_of(*scripts: Script | None) -> AsyncIterator[Fleet]:
    """An endpoint for each script; `None`: nobody is there."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(30))
        made = []
        for number, script in enumerate(scripts):
            url = dead_url() if script is None else (await stack.enter_async_context(serving(script))).url
            client = await stack.enter_async_context(client_of(url, NEVER))
            made.append(Endpoint(client, f"http://{number}/v1"))
        yield Fleet(made)


def delivery_of(gate: Gate, *, retries: int = 0, drawn: float = 0.0) -> Delivery:
    return Delivery(gate, session=1, anchor_ns=0, retries=retries, rng=Draws(drawn))


async def sent(delivery: Delivery, what: Request) -> Record:
    prepared = delivery.prepare(what)
    assert await delivery.admit(prepared)
    record = await delivery.send(prepared, monotonic_ns())
    delivery.written(prepared)
    return record


def in_turn(*responses: bytes) -> Script:
    """Answers the n-th request, whatever its connection, with the n-th response, the last for ever."""
    left = list(responses)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


# -- one replica's trouble


@pytest.mark.parametrize("trouble", [None, answering(FAR), answering(SOON)], ids=["dead", "far", "busy"])
async def test_a_row_without_retries_goes_where_all_is_well(trouble: Script | None) -> None:
    shut: list[float] = []
    async with fleet_of(trouble, answering(GOOD)) as fleet:
        gate = Gate(fleet)
        gate.on_shut = shut.append
        records = [await sent(delivery_of(gate), request()) for _ in range(6)]
    assert [record.status for record in records] == ["ok"] * 6
    attempts = [attempt for record in records for attempt in record.attempts]
    assert {(a.wait_for, a.wait_ns, a.base_url) for a in attempts} == {("other_endpoint", 0, "http://0/v1")}
    assert shut == []


async def test_a_hint_that_is_too_long_is_waited_out_elsewhere() -> None:
    async with fleet_of(answering(FAR), in_turn(SOON, GOOD)) as fleet:
        record = await sent(delivery_of(Gate(fleet), retries=1), request())
    assert record.status == "ok"
    assert record.connection.base_url == "http://1/v1"
    assert {attempt.base_url for attempt in record.attempts} == {"http://0/v1", "http://1/v1"}


async def test_a_failure_with_a_hint_that_is_too_long_goes_elsewhere() -> None:
    oops = sized(b"", "500 Oops", Retry_After="3600")
    async with fleet_of(answering(oops), answering(GOOD)) as fleet:
        records = [await sent(delivery_of(Gate(fleet), retries=1), request()) for _ in range(2)]
    assert [record.status for record in records] == ["ok", "ok"]


async def test_when_all_ask_for_too_long_it_is_over() -> None:
    shut: list[float] = []
    async with fleet_of(answering(FAR), answering(FAR)) as fleet:
        gate = Gate(fleet)
        gate.on_shut = shut.append
        record = await sent(delivery_of(gate, retries=5), request())
    assert record.status == "error"
    assert len(record.attempts) == 1
    assert len(shut) == 1


async def test_also_when_the_last_that_does_not_is_wrong() -> None:
    shut: list[float] = []
    async with fleet_of(answering(FAR), answering(sized(b"", "401 No"))) as fleet:
        gate = Gate(fleet)
        gate.on_shut = shut.append
        fleet.endpoints[0].cool(0, monotonic_ns(), 3_600_000 * MS)
        task = asyncio.create_task(sent(delivery_of(gate), request()))
        await until(lambda: bool(shut))
        gate.stop()
        assert (await task).status == "error"


async def test_every_endpoint_is_asked_once_for_nothing() -> None:
    async with fleet_of(None, None, None) as fleet:
        record = await sent(delivery_of(Gate(fleet)), request())
    assert record.status == "error"
    tried = [*(a.base_url for a in record.attempts), record.connection.base_url]
    assert sorted(url or "" for url in tried) == ["http://0/v1", "http://1/v1", "http://2/v1"]


async def test_where_all_refuse_retries_end() -> None:
    async with fleet_of(None, answering(sized(b"", "429 Slow", Retry_After_Ms="1"))) as fleet:
        record = await sent(delivery_of(Gate(fleet), retries=2), request())
    assert record.status == "error"
    counted = [a for a in record.attempts if a.wait_for != "other_endpoint"]
    assert len(counted) == 2
    assert len(record.attempts) <= 2 + 3


async def test_after_a_retry_that_counted_each_is_asked_for_nothing_again() -> None:
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while True:
            await peer.request()
            asked += 1
            if asked == 3:
                await until(lambda: all(e.is_well(monotonic_ns()) for e in fleet.endpoints))
            await peer.send(GOOD if asked == 4 else SOON)

    async with fleet_of(script, script) as fleet:
        record = await sent(delivery_of(Gate(fleet), retries=1), request())
    assert record.status == "ok"
    waits = [attempt.wait_for for attempt in record.attempts]
    assert waits == ["other_endpoint", "retry-after-ms", "other_endpoint"]


async def test_one_row_s_404_is_asked_elsewhere_and_leaves_nobody_out() -> None:
    missing = sized(b'{"error": "no such file"}', "404 Not Found")
    async with fleet_of(*(in_turn(GOOD, GOOD, *[missing] * 6, GOOD) for _ in range(2))) as fleet:
        delivery = delivery_of(Gate(fleet))
        for _ in range(4):
            assert (await sent(delivery, request())).status == "ok"
        for _ in range(6):
            record = await sent(delivery, request())
            assert record.error is not None
            assert (record.error.http_status, len(record.attempts)) == (404, 1)
        assert [endpoint.out for endpoint in fleet.endpoints] == [None, None]
        assert (await sent(delivery, request())).status == "ok"


# -- a cool-down that begins while an attempt connects


@asynccontextmanager
async def connecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Connections are there only once the second event is set; the first says that one would be."""
    there, go = asyncio.Event(), asyncio.Event()
    real = Connector._create_connection

    async def slow(self: Connector, *args: Any) -> Any:
        made = await real(self, *args)
        there.set()
        await go.wait()
        return made

    monkeypatch.setattr(Connector, "_create_connection", slow)
    yield there, go


async def test_what_still_connects_waits_for_the_cool_down(monkeypatch: pytest.MonkeyPatch) -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        await peer.send(GOOD)

    async with connecting(monkeypatch) as (there, go), fleet_of(script) as fleet:
        (only,) = fleet.endpoints
        task = asyncio.create_task(sent(delivery_of(Gate(fleet)), request()))
        await there.wait()
        only.cool(0, monotonic_ns(), 50 * MS)
        go.set()
        record = await task
    assert record.status == "ok"
    assert record.attempts == []
    assert record.sent_at is not None
    assert record.sent_at >= only.cool_until
    assert len(peers) == 1  # the connection was kept for it
    assert record.connection.reused


async def test_what_was_held_back_when_the_run_stops_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])

    async with connecting(monkeypatch) as (there, go), fleet_of(script) as fleet:
        gate = Gate(fleet, rpm=1.0)
        delivery = delivery_of(gate)
        task = asyncio.create_task(sent(delivery, request()))
        await there.wait()
        fleet.endpoints[0].cool(0, monotonic_ns(), 60_000 * MS)
        go.set()
        await until(lambda: delivery.streaming == 0)
        delivery.stop()
        record = await task
    assert (record.status, record.cancelled_by, record.sent_at) == ("cancelled", "fail_fast", None)
    assert gate._requests is not None
    assert gate._requests.next_at <= monotonic_ns()  # its turn is another's
    assert heads == []
    assert fleet.endpoints[0].in_flight == 0


# -- where the load is what is measured, nothing is held back, and nothing shifted


async def test_a_bench_s_refusals_are_results() -> None:
    async with fleet_of(None, answering(FAR), answering(SOON)) as fleet:
        records = [await sent(delivery_of(Gate(fleet, cools=False)), request()) for _ in range(6)]
    assert [record.status for record in records] == ["error"] * 6
    assert [record.attempts for record in records] == [[]] * 6


async def test_a_bench_s_retries_end_at_a_hint_that_is_too_long() -> None:
    async with fleet_of(answering(FAR)) as fleet:
        record = await sent(delivery_of(Gate(fleet, cools=False), retries=3), request())
    assert (record.status, record.attempts) == ("error", [])


async def test_a_bench_s_requests_are_sent_whatever_befalls_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connecting(monkeypatch) as (there, go), fleet_of(answering(GOOD), answering(GOOD)) as fleet:
        delivery = delivery_of(Gate(fleet, cools=False))
        prepared = delivery.prepare(request())
        assert await delivery.admit(prepared)
        task = asyncio.create_task(delivery.send(prepared, monotonic_ns()))
        await there.wait()
        assert prepared.endpoint is not None
        prepared.endpoint.fell_ill(prepared.ask.epoch, monotonic_ns())
        go.set()
        record = await task
    assert record.status == "ok"
    assert record.connection.base_url == prepared.endpoint.base_url
    assert record.connection.reused is False


# -- whose turn it is


async def test_of_refused_requests_the_one_with_the_fewest_attempts_goes_ahead() -> None:
    order: list[str] = []
    twice = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            name = json.loads(body)["messages"][0]["content"]
            order.append(name)
            if order.count("old") < 2 and name == "old":
                await peer.send(SOON)
            elif name == "old" and order.count("old") == 2:
                await peer.send(sized(b"", "429 Slow", Retry_After_Ms="150"))
                twice.set()
            elif name == "new" and order.count("new") == 1:
                await twice.wait()
                await until(lambda: gate.cooldowns == 2)  # the old one waits already
                await peer.send(sized(b"", "429 Slow", Retry_After_Ms="150"))
            else:
                await peer.send(GOOD)

    async with fleet_of(script) as fleet:
        gate = Gate(fleet)
        delivery = delivery_of(gate, retries=5)
        new = asyncio.create_task(sent(delivery, request("new")))
        await until(lambda: order == ["new"])
        old = asyncio.create_task(sent(delivery, request("old")))
        records = [await new, await old]
    assert [record.status for record in records] == ["ok", "ok"]
    assert [len(record.attempts) for record in records] == [1, 2]
    assert order == ["new", "old", "old", "new", "old"]


async def test_at_once_said_by_one_that_refuses_is_no_leave_to_storm() -> None:
    now = sized(b"", "429 Slow", Retry_After="0")
    async with fleet_of(in_turn(now, GOOD)) as fleet:
        record = await sent(delivery_of(Gate(fleet), retries=1, drawn=0.1), request())
    assert record.status == "ok"
    (attempt,) = record.attempts
    assert attempt.wait_for == "retry-after"
    assert attempt.wait_ns >= 0.1 * 0.5e9 - MS
    assert record.sent_at is not None
    assert attempt.ended_at is not None
    assert record.sent_at - attempt.ended_at >= 0.1 * 0.5e9 - MS


# -- tokens a minute


class Heard(Gate):
    """A gate that writes down what it is told of tokens."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet, tpm=6e9)
        self.heard: list[tuple[Any, ...]] = []

    def used(self, ask: Ask, prompt: int, completion: int, *, whole: bool = True) -> None:
        self.heard.append(("used", prompt, completion, whole))
        super().used(ask, prompt, completion, whole=whole)

    def used_at_least(self, ask: Ask, tokens: float) -> None:
        self.heard.append(("at least", tokens))
        super().used_at_least(ask, tokens)

    def unused(self, ask: Ask, *, sent: bool = True) -> None:
        self.heard.append(("unused", sent))
        super().unused(ask, sent=sent)


SIZE = 111  # bytes of the request's body
BESIDE = {**usage(2), "total_tokens": 7 + 2 + 40}  # forty tokens of thinking
DOCUMENT = {"choices": [{"message": {"content": "x" * 30}, "finish_reason": "stop"}]}
CUT = chunked_head() + piece(sse(delta("abc" * 10), delta("d")))


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (GOOD, ("used", 7, 2, True)),
        (chunked(sse(*HELLO[:-1], {"choices": [], "usage": BESIDE}, done=True)), ("used", 7, 42, True)),
        (chunked(sse(*HELLO[:-1], done=True)), ("used", SIZE // 3, 2, True)),
        (chunked(sse(delta("abc" * 10, finish="stop"), done=True)), ("used", SIZE // 3, 10, True)),
        (CUT + END, ("at least", SIZE // 3 + 11)),
        (CUT + piece(sse({"choices": [], "usage": usage(5)})) + END, ("used", 7, 5, False)),
        (sized(b"", "429 Slow"), ("unused", True)),
        (sized(b"", "400 Bad"), ("unused", True)),
        (sized(json.dumps(DOCUMENT).encode()), ("used", SIZE // 3, 10, True)),
    ],
    ids=["usage", "thinking", "chunks", "bytes", "broken", "broken, told", "429", "400", "document"],
)
async def test_the_meter_is_told_what_every_attempt_used(response: bytes, told: tuple[Any, ...]) -> None:
    async with fleet_of(answering(response)) as fleet:
        gate = Heard(fleet)
        delivery = delivery_of(gate)
        assert len(delivery.prepare(request()).data) == SIZE
        await sent(delivery, request())
    assert gate.heard == [told]


async def test_an_answer_cut_on_purpose_used_what_was_seen() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head())
        for text in "abc":
            await peer.send(piece(sse(delta(text))))
            await asyncio.sleep(0.005)
        await peer.left()

    async with serving(script) as server, client_of(server.url, stop_after=2) as client, asyncio.timeout(30):
        gate = Heard(Fleet([Endpoint(client, "http://0/v1")]))
        await sent(delivery_of(gate), request())
    ((what, prompt, completion, whole),) = gate.heard
    assert (what, prompt, whole) == ("used", SIZE // 3, True)
    assert completion in {2, 3}  # two may have come in one read


async def test_nobody_there_used_nothing() -> None:
    async with fleet_of(None) as fleet:
        gate = Heard(fleet)
        await sent(delivery_of(gate), request())
    assert gate.heard == [("unused", True)]
