"""Requests to records: attempts, waits, what is kept; and the line of the journal."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic_ns
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from runner.budget import Budget
from runner.delivery import About, Delivery, Keep, encode_line
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.prices import Price, Prices, UnboundedError
from runner.record import ErrorKind, Record
from runner.timeouts import Timeouts
from scenarios.request import Request
from tests.runner.streams import (
    CORPUS,
    END,
    HELLO,
    KEY,
    NEVER,
    Peer,
    Script,
    Server,
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

BODY = sse(*HELLO, done=True)
GOOD = chunked(BODY)
CORE = {
    "cost",
    "cost_source",
    "id",
    "prompt_id",
    "index",
    "custom_id",
    "sample",
    "session",
    "phase",
    "scheduled_at",
    "sent_at",
    "headers_at",
    "first_token_at",
    "first_content_at",
    "last_token_at",
    "ended_at",
    "status",
    "cancelled_by",
    "error",
    "streamed",
    "finish_reason",
    "text",
    "reasoning",
    "refusal",
    "tool_calls",
    "usage",
    "usage_source",
    "usage_partial",
    "response",
    "extra",
    "attempts",
    "connection",
    "row",
}


class NoWait(random.Random):
    """Jitter that always draws 0."""

    def random(self) -> float:
        return 0.0


def request(api: Any = "chat", **body: Any) -> Request:
    full = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return Request("id-1", "prompt-1", 4, 2, "mine", api, full, {"label": "é", "n": [1]})


@asynccontextmanager
async def delivering(
    script: Script, timeouts: Timeouts = NEVER, *, retries: int = 3, anchor_ns: int = 0, **options: Any
) -> AsyncIterator[tuple[Delivery, Server]]:
    async with serving(script) as server, client_of(server.url, timeouts) as client, asyncio.timeout(30):
        told = options.pop("on_first_token", None)
        gate = Gate(Fleet([Endpoint(client, "http://there/v1")]))
        delivery = Delivery(gate, session=3, anchor_ns=anchor_ns, retries=retries, rng=NoWait(), **options)
        delivery.on_first_token = told
        yield delivery, server


async def sent(delivery: Delivery, what: Request, at: int, *phase: Any) -> Record:
    """From the gate to the journal."""
    prepared = delivery.prepare(what)
    if not await delivery.admit(prepared):
        raise RefusedError
    record = await delivery.send(prepared, at, *phase)
    delivery.written(prepared)
    return record


class RefusedError(Exception):
    """The gate let nothing pass."""


async def deliver(script: Script, timeouts: Timeouts = NEVER, **options: Any) -> Record:
    async with delivering(script, timeouts, **options) as (delivery, _):
        record = await sent(delivery, request(), monotonic_ns())
        assert delivery.streaming == 0
        check(record)
        return record


def check(record: Record) -> None:
    """What holds for every record."""
    line = encode_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert KEY.encode() not in line
    written = json.loads(line.decode("utf-8"))
    assert set(written) >= CORE
    times = [
        record.scheduled_at,
        record.sent_at,
        record.headers_at,
        record.first_token_at,
        record.last_token_at,
        record.ended_at,
    ]
    known = [t for t in times if t is not None]
    assert known == sorted(known)
    assert (record.error is None) == (record.status != "error")
    assert (record.cancelled_by is None) == (record.status != "cancelled")
    if record.status != "ok":
        assert record.usage is None
        assert record.usage_source == "none"
    else:
        assert record.usage_partial is None
        assert record.usage_source == ("none" if record.usage is None else "server")


def script_of(*responses: bytes | None) -> Script:
    """Answers the n-th request, whatever its connection, with the n-th response; None closes without one."""
    left = list(responses)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            response = left.pop(0)
            if response is None:
                return
            await peer.send(response)

    return script


# -- a good answer


async def test_the_record_of_a_good_answer() -> None:
    anchor = monotonic_ns() - 5_000_000_000
    async with delivering(answering(GOOD), anchor_ns=anchor) as (delivery, _):
        scheduled = monotonic_ns()
        record = await sent(delivery, request(), scheduled)
    check(record)
    assert (record.id, record.prompt_id, record.index, record.sample, record.custom_id) == (
        "id-1",
        "prompt-1",
        4,
        2,
        "mine",
    )
    assert (record.session, record.phase, record.status, record.streamed) == (3, "measure", "ok", True)
    assert record.scheduled_at == scheduled - anchor
    assert record.sent_at is not None
    assert 5_000_000_000 <= record.sent_at < 60_000_000_000
    assert (record.text, record.finish_reason, record.usage) == ("Hello", "stop", usage(2))
    assert (record.reasoning, record.refusal, record.tool_calls, record.attempts) == (None, None, None, [])
    assert record.connection.reused is False
    assert record.response["id"] == "c-1"
    assert record.row == {"label": "é", "n": [1]}
    assert record.chunk_us == [0, 0]
    written = json.loads(encode_line(record))
    assert "choices" not in written
    assert "chunk_tokens" not in written
    assert written["request"]["messages"] == [{"role": "user", "content": "hi"}]


async def test_the_body_sent_is_the_body_kept() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            head, body = await peer.request()
            seen.append((head.split(b" ")[1], json.loads(body)))
            await peer.send(GOOD)

    asked = request("completions", prompt="é", stream=False)
    before = json.dumps(asked.body)
    async with delivering(script) as (delivery, _):
        record = await sent(delivery, asked, monotonic_ns())
        await sent(delivery, asked, monotonic_ns())
    assert seen[0] == seen[1] == (b"/v1/completions", record.request)
    assert isinstance(record.request, dict)
    assert record.request["stream"] is True
    assert record.request["stream_options"] == {"include_usage": True}
    assert json.dumps(asked.body) == before


async def test_usage_can_be_left_unasked() -> None:
    record = await deliver(answering(GOOD), include_usage=False)
    assert isinstance(record.request, dict)
    assert "stream_options" not in record.request
    assert record.request["stream"] is True


async def test_what_need_not_be_kept() -> None:
    record = await deliver(answering(GOOD), keep=Keep(request=False, times=False))
    written = json.loads(encode_line(record))
    assert not {"request", "chunk_us"} & set(written)


async def test_the_phase_is_the_callers() -> None:
    async with delivering(answering(GOOD)) as (delivery, _):
        assert (await sent(delivery, request(), monotonic_ns(), "warmup")).phase == "warmup"


async def test_chunk_times_count_from_the_first_token() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(HELLO[0])))
        for text in ("a", "b", "c"):
            await asyncio.sleep(0.02)
            await peer.send(piece(sse(delta(text))))
        await peer.send(piece(sse(delta(finish="stop"), done=True)) + END)
        await peer.left()

    record = await deliver(script)
    assert isinstance(record.chunk_us, list)
    assert record.chunk_us[0] == 0
    assert record.chunk_us == sorted(record.chunk_us)
    assert len(record.chunk_us) == 3
    assert record.last_token_at is not None
    assert record.first_token_at is not None
    assert record.chunk_us[-1] == (record.last_token_at - record.first_token_at) // 1000


async def test_tokens_a_chunk_where_the_server_tells() -> None:
    assert (await deliver(answering(chunked(CORPUS["usage cumulative"].body)))).chunk_tokens == [3, 1]


async def test_several_choices_are_kept_side_by_side() -> None:
    record = await deliver(answering(chunked(CORPUS["several choices"].body)))
    assert isinstance(record.choices, list)
    assert [choice["text"] for choice in record.choices] == ["Hello", "Bye!"]
    assert record.text == "Hello"


async def test_a_completion_that_was_not_streamed() -> None:
    body = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": usage(2)}
    record = await deliver(answering(sized(json.dumps(body).encode())))
    assert (record.status, record.streamed, record.text) == ("ok", False, "Hello")
    assert (record.first_token_at, record.first_content_at, record.last_token_at) == (None, None, None)
    assert record.chunk_us == []


async def test_the_first_token_is_told() -> None:
    told: list[int] = []
    await deliver(answering(chunked(sse(*HELLO))), on_first_token=lambda: told.append(1))
    assert told == [1]


@pytest.mark.parametrize("name", list(CORPUS))
async def test_every_stream_becomes_a_line(name: str) -> None:
    case = CORPUS[name]
    record = await deliver(answering(chunked(case.body)), retries=0)
    if case.body[:1] != b"{":
        assert (record.error and record.error.kind) == case.kind
        assert record.text == case.text
        assert (record.usage if case.kind is None else record.usage_partial) == case.usage


# -- stale connections


async def test_a_stale_connection_is_replaced_once_at_once() -> None:
    script = script_of(GOOD, None, GOOD)
    async with delivering(script, retries=0) as (delivery, server):
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    check(record)
    assert (record.status, record.text) == ("ok", "Hello")
    assert record.connection.reused is False
    (attempt,) = record.attempts
    assert (attempt.wait_for, attempt.wait_ns) == ("stale_connection", 0)
    assert (attempt.error.kind, attempt.text, attempt.first_token_at) == ("disconnected", "", None)
    assert len(server.peers) == 2


async def test_it_is_replaced_by_a_fresh_one_and_not_by_the_next_kept_one() -> None:
    together = asyncio.Barrier(2)

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number < 2:
            await together.wait()
        await peer.send(GOOD)
        if peer.number < 2:
            await peer.request()  # read, and closed without a word: both

    async with delivering(script, retries=0) as (delivery, server):
        await asyncio.gather(*[sent(delivery, request(), monotonic_ns()) for _ in range(2)])
        record = await sent(delivery, request(), monotonic_ns())
    assert record.status == "ok"
    assert [a.wait_for for a in record.attempts] == ["stale_connection"]
    assert len(server.peers) == 3


async def test_a_stale_connection_costs_no_retry() -> None:
    script = script_of(GOOD, None, sized(b"", "500 Oops"), GOOD)
    async with delivering(script, retries=1) as (delivery, _):
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    assert record.status == "ok"
    assert [a.wait_for for a in record.attempts] == ["stale_connection", "backoff"]


async def test_it_is_resent_once_only() -> None:
    script = script_of(GOOD, None, None)
    async with delivering(script, retries=0) as (delivery, _):
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    assert record.error is not None
    assert record.error.kind == "disconnected"
    assert [a.wait_for for a in record.attempts] == ["stale_connection"]


async def test_a_kept_connection_that_dies_under_work_is_an_ordinary_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.billed.STALE_NS", -1)  # however soon it died, it was too late
    async with delivering(script_of(GOOD, None, GOOD), prices=PRICES) as (delivery, _):
        await sent(delivery, request(max_tokens=50), monotonic_ns())
        record = await sent(delivery, request(max_tokens=50), monotonic_ns())
    (attempt,) = record.attempts
    assert (record.status, attempt.wait_for) == ("ok", "backoff")
    assert attempt.cost_bound is not UNSET


async def test_a_fresh_connection_that_dies_is_not_resent_for_nothing() -> None:
    record = await deliver(script_of(None), retries=0)
    assert record.error is not None
    assert record.error.kind == "disconnected"
    assert record.attempts == []


async def test_a_kept_connection_that_dies_after_a_byte_is_not_stale() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(GOOD)
        await peer.request()
        await peer.send(chunked_head() + piece(sse(HELLO[1])))

    async with delivering(script, retries=0) as (delivery, _):
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    assert record.error is not None
    assert record.error.kind == "truncated"
    assert record.attempts == []


# -- retries


async def test_attempts_are_kept_and_never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.delivery._A_WAIT_NS", 60_000_000_000)  # however busy the machine is
    first = chunked_head() + piece(sse(delta("lost "), {"choices": [], "usage": usage(1)})) + END
    record = await deliver(script_of(first, sized(b'{"error":"x"}', "503 Busy", Retry_After="0"), GOOD))
    assert (record.status, record.text, record.usage) == ("ok", "Hello", usage(2))
    cut, busy = record.attempts
    assert (cut.error.kind, cut.text, cut.usage_partial) == ("truncated", "lost ", usage(1))
    assert (cut.wait_for, cut.wait_ns) == ("backoff", 0)
    assert (busy.error.kind, busy.error.http_status, busy.text) == ("overloaded", 503, "")
    assert (busy.wait_for, busy.wait_ns) == ("retry-after", 0)
    times = [cut.sent_at, cut.ended_at, busy.sent_at, busy.ended_at, record.sent_at]
    assert None not in times
    assert times == sorted(times, key=lambda at: at or 0)


async def test_a_hint_is_waited_for() -> None:
    record = await deliver(script_of(sized(b"", "429 Slow", Retry_After_Ms="80"), GOOD))
    (attempt,) = record.attempts
    assert attempt.wait_for == "retry-after-ms"
    assert attempt.wait_ns >= 80_000_000
    assert record.sent_at is not None
    assert record.sent_at - (attempt.ended_at or 0) >= 80_000_000
    assert record.sent_at is not None
    assert attempt.ended_at is not None
    assert record.sent_at - attempt.ended_at >= 79_000_000


async def test_a_hint_above_the_cap_ends_it() -> None:
    record = await deliver(script_of(sized(b"", "429 Slow", Retry_After="3600"), GOOD))
    assert record.error is not None
    assert record.error.kind == "rate_limit"
    assert record.attempts == []


async def test_retries_end() -> None:
    record = await deliver(answering(sized(b"", "500 Oops")), retries=2)
    assert record.status == "error"
    assert len(record.attempts) == 2


async def test_no_retries() -> None:
    assert (await deliver(answering(sized(b"", "500 Oops")), retries=0)).attempts == []


@pytest.mark.parametrize("status", ["401 No", "400 Bad", "307 Moved", "402 Pay"])
async def test_what_is_not_tried_again(status: str) -> None:
    record = await deliver(answering(sized(b"", status)), retries=5)
    assert record.error is not None
    assert not record.error.retryable
    assert record.attempts == []


async def test_a_timeout_is_tried_again_twice_at_most() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    record = await deliver(script, Timeouts(None, 0.02, None, None, None), retries=9)
    assert record.error is not None
    assert (record.error.kind, record.error.timer) == ("timeout", "first_token")
    assert [a.error.timer for a in record.attempts] == ["first_token"] * 2


async def test_a_failed_answer_keeps_what_came() -> None:
    body = sse(delta("part"), delta(reasoning="hm"), {"choices": [], "usage": usage(1)}, {"error": "boom"})
    record = await deliver(answering(chunked(body)), retries=0)
    assert (record.status, record.text, record.reasoning) == ("error", "part", "hm")
    assert (record.usage, record.usage_partial) == (None, usage(1))
    assert record.first_token_at is not None


# -- stopping


async def test_stop_ends_a_wait_with_the_error_it_had() -> None:
    async with delivering(answering(sized(b"", "503 Busy", Retry_After="500"))) as (delivery, server):
        task = asyncio.create_task(sent(delivery, request(), monotonic_ns()))
        await until(lambda: bool(server.peers) and delivery.streaming == 0)
        delivery.stop()
        record = await task
    assert record.error is not None
    assert record.error.kind == "overloaded"
    assert record.status == "error"


async def test_stop_lets_what_is_under_way_end() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(*HELLO[:3])))
        await go.wait()
        await peer.send(piece(sse(*HELLO[3:], done=True)) + END)
        await peer.left()

    async with delivering(script) as (delivery, _):
        task = asyncio.create_task(sent(delivery, request(), monotonic_ns()))
        await until(lambda: delivery.streaming == 1)
        delivery.stop()
        go.set()
        assert (await task).status == "ok"


async def test_nothing_is_tried_again_after_stop() -> None:
    async with delivering(answering(sized(b"", "500 Oops"))) as (delivery, _):
        prepared = delivery.prepare(request())
        assert await delivery.admit(prepared)
        delivery.stop()
        assert (await delivery.send(prepared, monotonic_ns())).attempts == []
        assert not await delivery.admit(delivery.prepare(request()))


async def test_cut_keeps_the_partial_answers() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(*HELLO[:3], {"choices": [], "usage": usage(2)})))
        await peer.left()

    told: list[int] = []
    async with delivering(script, on_first_token=lambda: told.append(1)) as (delivery, server):
        tasks = [asyncio.create_task(sent(delivery, request(), monotonic_ns())) for _ in range(4)]
        await until(lambda: len(told) == 4)
        assert delivery.streaming == 4
        delivery.cut("user")
        records = [await task for task in tasks]
        await until(lambda: all(peer.gone.is_set() for peer in server.peers))
    for record in records:
        check(record)
        assert (record.status, record.cancelled_by, record.error) == ("cancelled", "user", None)
        assert (record.text, record.usage, record.usage_partial) == ("Hello", None, usage(2))
        assert record.attempts == []
        assert record.ended_at is not None


async def test_what_is_begun_after_the_cut_is_cut() -> None:
    async with delivering(answering(chunked(sse(*HELLO)))) as (delivery, server):
        prepared = delivery.prepare(request())
        assert await delivery.admit(prepared)
        delivery.cut("user")
        record = await delivery.send(prepared, monotonic_ns())
        assert server.peers == []
    check(record)
    assert (record.status, record.cancelled_by, record.sent_at) == ("cancelled", "user", None)


# -- lines


def line_of(**fields: Any) -> dict[str, Any]:
    record = Record(
        id="i",
        prompt_id="p",
        index=0,
        custom_id=None,
        sample=0,
        session=0,
        phase="measure",
        scheduled_at=None,
        sent_at=None,
        headers_at=None,
        first_token_at=None,
        first_content_at=None,
        last_token_at=None,
        ended_at=None,
        status="ok",
        **fields,
    )
    line = encode_line(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    written: dict[str, Any] = json.loads(line.decode("utf-8"))
    return written


def test_core_fields_are_written_at_their_defaults() -> None:
    assert set(line_of()) == CORE


@pytest.mark.parametrize("field", ["text", "reasoning", "finish_reason"])
def test_half_a_pair_does_not_cost_the_answer(field: str) -> None:
    assert line_of(**{field: "a\ud800b"})[field] == "a\ufffdb"
    assert line_of(**{field: "\ud83d\ude00"})[field] == "\U0001f600"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a\ud800": ["\udc00", {"b": "c\ud800"}]}, {"a\ufffd": ["\ufffd", {"b": "c\ufffd"}]}),
        ({"n": float("nan"), "i": float("-inf")}, {"n": None, "i": None}),
        ({"n": 10**40}, {"n": 10**40}),
        ({"u": "a\u2028b\nc\x00"}, {"u": "a\u2028b\nc\x00"}),
    ],
)
def test_odd_values_can_be_written(value: dict[str, Any], written: dict[str, Any]) -> None:
    assert line_of(extra=value, usage=value, row=value)["extra"] == written


def test_the_kinds_are_written_as_their_names() -> None:
    assert json.loads(json.dumps([str(kind) for kind in ErrorKind])) == [kind.value for kind in ErrorKind]


# -- what it cost, and where it went

PRICES = Prices({"*": Price(input=1e6, output=1e6)})  # one a token


async def test_the_cost_of_an_answer() -> None:
    record = await deliver(answering(GOOD), prices=PRICES)
    assert record.usage is not None
    known = record.usage["prompt_tokens"] + record.usage["completion_tokens"]
    assert (record.cost, record.cost_source, record.cost_bound) == (known, "prices", UNSET)
    assert record.connection.base_url == "http://there/v1"


async def test_without_prices_the_provider_s_own_number() -> None:
    told = {"choices": [], "usage": {**usage(2), "cost": 0.125}}
    record = await deliver(answering(chunked(sse(*HELLO, told, done=True))))
    assert (record.cost, record.cost_source) == (0.125, "provider")
    record = await deliver(answering(chunked(sse(*HELLO, told, done=True))), prices=PRICES)
    assert (record.cost, record.cost_source) == (0.125, "provider")


@pytest.mark.parametrize(
    ("response", "bounded"),
    [
        (sized(b"", "429 Slow", Retry_After="0"), False),  # refused: nobody worked for it
        (sized(b"", "503 Busy", Retry_After="0"), False),
        (sized(b"", "500 Oops"), True),
        (sized(b"", "504 Late"), True),
        (sized(b"", "408 Late"), True),
        (None, True),  # it had the request: it may have worked
        (chunked_head() + piece(sse(delta("lost "))) + END, True),
    ],
)
async def test_the_most_a_failed_attempt_may_have_cost(response: bytes | None, bounded: bool) -> None:
    async with delivering(script_of(response, GOOD), prices=PRICES) as (delivery, _):
        record = await sent(delivery, request(max_tokens=50), monotonic_ns())
    (attempt,) = record.attempts
    assert attempt.base_url == "http://there/v1"
    assert (attempt.cost, attempt.cost_source) == (None, "none")
    if bounded:
        body = {**request(max_tokens=50).body, "stream": True, "stream_options": {"include_usage": True}}
        assert attempt.cost_bound == len(msgspec.json.encode(body)) + 50
    else:
        assert attempt.cost_bound is UNSET


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 1000.0}, {"max_tokens": 5, "n": "8"}])
async def test_under_a_budget_nothing_goes_without_a_worst_case(limit: dict[str, Any]) -> None:
    async def save(_: float) -> None:
        pass

    gate = Gate(Fleet([]), budget=Budget(100.0, 0.0, save))
    delivery = Delivery(gate, session=3, anchor_ns=0, retries=0, prices=PRICES)
    with pytest.raises(UnboundedError, match=r"is no limit|not a whole number"):
        delivery.prepare(request(**limit))
    assert delivery.prepare(request(max_tokens=5)).ask.worst > 5


async def test_a_failed_attempt_keeps_the_cost_its_stream_told_of() -> None:
    first = chunked_head() + piece(sse(delta("lost "), {"choices": [], "usage": usage(1)})) + END
    async with delivering(script_of(first, GOOD), prices=PRICES) as (delivery, _):
        record = await sent(delivery, request(max_tokens=50), monotonic_ns())
    (attempt,) = record.attempts
    told = usage(1)
    assert attempt.cost is not None
    assert attempt.cost == told["prompt_tokens"] + told["completion_tokens"]
    assert not isinstance(attempt.cost_bound, UnsetType)
    assert attempt.cost_bound > attempt.cost


async def test_what_speaks_of_one_endpoint_goes_to_the_other() -> None:
    async with (
        serving(answering(sized(b"", "401 Unauthorized"))) as wrong,
        serving(answering(GOOD)) as right,
        client_of(wrong.url) as first,
        client_of(right.url) as second,
        asyncio.timeout(30),
    ):
        fleet = Fleet([Endpoint(first, "http://wrong/v1"), Endpoint(second, "http://right/v1")])
        delivery = Delivery(Gate(fleet), session=3, anchor_ns=0, retries=0, rng=NoWait())
        records = [await sent(delivery, request(), monotonic_ns()) for _ in range(4)]
    assert [record.status for record in records] == ["ok"] * 4
    assert {record.connection.base_url for record in records} == {"http://right/v1"}
    attempts = [attempt for record in records for attempt in record.attempts]
    assert [(a.error.kind, a.wait_for, a.base_url) for a in attempts] == [
        ("auth", "other_endpoint", "http://wrong/v1")
    ]


async def test_an_answer_cut_on_purpose() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(*HELLO[:1])))
        for text in "abc":
            await peer.send(piece(sse(delta(text))))
            await asyncio.sleep(0.005)
        await peer.left()

    async with serving(script) as server, client_of(server.url, stop_after=3) as client, asyncio.timeout(30):
        delivery = Delivery(
            Gate(Fleet([Endpoint(client, "http://there/v1")])), session=1, anchor_ns=0, retries=3
        )
        record = await sent(delivery, request(), monotonic_ns())
        await until(lambda: all(peer.gone.is_set() for peer in server.peers))
    assert (record.status, record.cancelled_by, record.error) == ("cancelled", "stop_rule", None)
    assert record.text.startswith("abc")
    assert record.attempts == []


# -- a server that has answered, and is away for a while

BUSY_NOW = sized(b"", "503 Busy", Retry_After="0")


async def test_what_has_answered_gets_time_and_not_attempts() -> None:
    async with delivering(script_of(GOOD, *[BUSY_NOW] * 7, GOOD), retries=1) as (delivery, _):
        assert (await sent(delivery, request(), monotonic_ns())).attempts == []
        record = await sent(delivery, request(), monotonic_ns())
    assert record.status == "ok"
    assert len(record.attempts) == 7


async def test_what_has_never_answered_does_not() -> None:
    async with delivering(script_of(*[BUSY_NOW] * 7, GOOD), retries=1) as (delivery, _):
        record = await sent(delivery, request(), monotonic_ns())
    assert (record.status, len(record.attempts)) == ("error", 1)


async def test_nor_does_it_without_retries() -> None:
    async with delivering(script_of(GOOD, *[BUSY_NOW] * 7, GOOD), retries=0) as (delivery, _):
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    assert (record.status, len(record.attempts)) == ("error", 0)


async def test_nor_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.gate.PATIENCE_NS", -1)
    async with delivering(script_of(GOOD, *[BUSY_NOW] * 7, GOOD), retries=2) as (delivery, _):
        dead: list[float] = []
        assert isinstance(delivery._gate, Gate)
        delivery._gate.on_dead = dead.append
        await sent(delivery, request(), monotonic_ns())
        record = await sent(delivery, request(), monotonic_ns())
    assert (record.status, len(record.attempts)) == ("error", 2)
    assert dead


async def test_an_encoding_nobody_asked_for_is_not_asked_for_again() -> None:
    packed = sized(b"\x0b\x02\x80hi\x03", Content_Encoding="br")
    async with delivering(script_of(packed, GOOD)) as (delivery, server):
        record = await sent(delivery, request(), monotonic_ns())
        assert len(server.peers) == 1
    assert record.error is not None
    assert (record.error.kind, record.error.retryable, record.attempts) == ("bad_encoding", False, [])


@pytest.mark.parametrize(
    "response",
    [GOOD, chunked(sse(*HELLO[:2])), sized(b'{"error": "no"}', "500 Oops"), None],
    ids=["good", "cut short", "refused", "closed"],
)
async def test_nothing_of_an_answer_waits_for_the_garbage_collector(response: bytes | None) -> None:
    # What it finds it finds by stopping the loop: with 200 requests a second, for 70 ms at a time.
    async with delivering(script_of(*[response] * 50), retries=0) as (delivery, _):
        await sent(delivery, request(), 1)
        gc.collect()
        before = gc.get_debug()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(20):
                await sent(delivery, request(), 1)
            gc.collect()
            found = [type(one).__name__ for one in gc.garbage]
        finally:
            gc.set_debug(before)
            gc.garbage.clear()
            gc.enable()
    assert not {"Stream", "Answer", "Prepared"} & set(found)


# -- users who leave


async def sent_to(delivery: Delivery, patience_s: float, due: int) -> Record:
    prepared = delivery.prepare(request())
    prepared.about = About(patience_s=patience_s)
    assert await delivery.admit(prepared)
    return await delivery.send(prepared, due)


async def test_patience_counts_from_when_a_request_was_due() -> None:
    ago = 10_000_000_000
    async with delivering(answering(GOOD)) as (delivery, server):
        left = await sent_to(delivery, 5.0, monotonic_ns() - ago)
        assert (left.status, left.cancelled_by, left.sent_at) == ("cancelled", "abandon", None)
        assert server.peers == []  # nobody waits for it: it is not sent
        assert (await sent_to(delivery, 3600.0, monotonic_ns() - ago)).status == "ok"


async def test_no_timer_keeps_an_answer_longer_than_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    later, handles = loop.call_later, list[asyncio.TimerHandle]()

    def call_later(delay: float, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        handle = later(delay, *arguments, **more)
        if delay > 3000:
            handles.append(handle)
        return handle

    async with delivering(answering(GOOD)) as (delivery, _):
        monkeypatch.setattr(loop, "call_later", call_later)
        await sent_to(delivery, 3600.0, monotonic_ns())
    assert [handle.cancelled() for handle in handles] == [True]
