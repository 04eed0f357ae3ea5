"""The client over real sockets, against servers whose every byte is the test's."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import traceback
import zlib
from time import monotonic_ns
from typing import Any

import aiohttp
import pytest

from runner import stream as stream_module
from runner.client import Client, Outcome
from runner.record import OWN_FAULT, ErrorKind
from runner.redact import Redactor
from runner.retry import is_retryable
from runner.sse import Parser
from runner.stream import LINGER_NS, Stream
from runner.target import make_target
from runner.timeouts import Timeouts
from runner.transport import open_session
from tests.runner.streams import (
    CORPUS,
    END,
    HELLO,
    KEY,
    NEVER,
    Peer,
    Script,
    answering,
    ask,
    attempt,
    chunked,
    chunked_head,
    client_of,
    delta,
    head,
    piece,
    serving,
    sized,
    sse,
    until,
    usage,
)
from tests.runner.streams_http import HTTP, Http

LIMIT_S = 0.1
BODY = sse(*HELLO, done=True)


def limits(**seconds: float) -> Timeouts:
    return Timeouts(**{**dict.fromkeys(Timeouts.__struct_fields__), **seconds})


def kind_of(outcome: Outcome) -> str | None:
    return None if outcome.error is None else str(outcome.error.kind)


def check_order(stream: Stream) -> None:
    """Times stand in the order METRICS.md gives them."""
    answer = stream.answer
    times = [
        stream.started_at,
        stream.sent_at,
        stream.headers_at,
        answer.first_token_at,
        answer.last_token_at,
    ]
    known = [t for t in [*times, stream.ended_at, monotonic_ns()] if t is not None]
    assert known == sorted(known)
    assert answer.token_at == sorted(answer.token_at)


def check_hello(stream: Stream, outcome: Outcome) -> None:
    assert outcome == Outcome("ok")
    assert stream.answer.text() == "Hello"
    assert stream.answer.usage == usage(2)
    assert stream.answer.streamed
    check_order(stream)


# -- ways to send a body


def _framings() -> dict[str, Script]:
    async def close_delimited(peer: Peer) -> None:
        await peer.request()
        await peer.send(head(Connection="close"), BODY)
        peer.close()

    async def http10(peer: Peer) -> None:
        await peer.request()
        await peer.send(head().replace(b"HTTP/1.1", b"HTTP/1.0"), BODY)
        peer.close()

    async def single_bytes(peer: Peer) -> None:
        await peer.request()
        response = chunked(BODY)
        await peer.send(*[response[n : n + 1] for n in range(len(response))])
        await peer.left()

    async def chunks_of_one(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + b"".join(piece(BODY[n : n + 1]) for n in range(len(BODY))) + END)
        await peer.left()

    async def an_event_a_write(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head(), *[piece(sse(p)) for p in HELLO], piece(b"data: [DONE]\n\n"), END)
        await peer.left()

    return {
        "chunked": answering(chunked(BODY)),
        "content-length": answering(sized(BODY, content_type="text/event-stream")),
        "close-delimited": close_delimited,
        "http 1.0": http10,
        "one byte a packet": single_bytes,
        "chunks of one byte": chunks_of_one,
        "an event a write": an_event_a_write,
        "1xx first": answering(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + chunked(BODY)
        ),
        "chunk extensions": answering(chunked_head() + b"%x;a=b\r\n%s\r\n" % (len(BODY), BODY) + END),
        "trailers": answering(chunked_head() + piece(BODY) + b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"),
        "gzip despite identity": answering(chunked(gzip.compress(BODY), Content_Encoding="gzip")),
        "deflate": answering(chunked(zlib.compress(BODY), Content_Encoding="deflate")),
        "no content type": answering(chunked_head(None) + piece(BODY) + END),
        "wrong content type": answering(chunked_head("text/plain; charset=latin-1") + piece(BODY) + END),
        "charset in the content type": answering(
            chunked_head("text/event-stream; charset=ISO-8859-1") + piece(BODY) + END
        ),
        "lower case and odd spaces": answering(
            b"HTTP/1.1 200\r\ncontent-type:text/event-stream\r\ntransfer-encoding:   chunked\r\n\r\n"
            + piece(BODY)
            + END
        ),
        "a header of 60 KB": answering(chunked_head(X_Long="x" * 60_000) + piece(BODY) + END),
        "bom and blank lines first": answering(chunked(b"\xef\xbb\xbf\n\n" + BODY)),
    }


FRAMINGS = _framings()


@pytest.mark.parametrize("name", list(FRAMINGS))
async def test_every_way_to_send_a_body(name: str) -> None:
    check_hello(*await ask(FRAMINGS[name]))


@pytest.mark.parametrize("name", [n for n, case in CORPUS.items() if case.body])
async def test_every_stream_over_a_socket(name: str) -> None:
    case = CORPUS[name]
    stream, outcome = await ask(answering(chunked_head() + piece(case.body) + END))
    assert kind_of(outcome) == case.kind
    assert stream.answer.text() == case.text
    assert stream.answer.usage == case.usage
    check_order(stream)


@pytest.mark.parametrize("name", list(HTTP))
async def test_every_response(name: str) -> None:
    await check_response(HTTP[name], len(HTTP[name].response) or 1)


@pytest.mark.parametrize("name", [n for n, case in HTTP.items() if len(case.response) < 3000])
async def test_every_response_in_single_bytes(name: str) -> None:
    await check_response(HTTP[name], 1)


async def check_response(case: Http, step: int) -> None:
    """Send the response in writes of so many bytes, and see what the client makes of it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*[case.response[n : n + step] for n in range(0, len(case.response), step)])
        if case.then == "hold":
            await peer.left()
        else:
            await asyncio.sleep(0.02)  # or what was sent would be thrown away
            peer.reset() if case.then == "reset" else peer.close()

    stream, outcome = await ask(script, limits(total=20))
    assert kind_of(outcome) == case.kind
    assert stream.answer.text() == case.text
    assert stream.status == case.status
    if outcome.error is not None:
        expected = is_retryable(outcome.error.kind) if case.retryable is None else case.retryable
        assert outcome.error.retryable is expected
        assert outcome.error.timer is None
    check_order(stream)


async def test_what_is_sent() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(chunked(BODY))

    async with serving(script) as server, client_of(server.url, headers={"X-Mine": "yes"}) as client:
        check_hello(*await attempt(client, body=b'{"a":"\xc3\xa9"}'))
    lines = seen[0][0].decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["accept-encoding"] == "identity"
    assert sent["content-type"] == "application/json"
    assert sent["x-mine"] == "yes"
    assert seen[0][1] == b'{"a":"\xc3\xa9"}'


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "206 Partial"])
async def test_any_2xx_is_an_answer(status: str) -> None:
    check_hello(*await ask(answering(sized(BODY, status, "text/event-stream"))))


async def test_cookies_of_one_answer_are_not_sent_with_the_next() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            seen.append((await peer.request())[0])
            await peer.send(chunked(BODY, Set_Cookie="a=b"))

    # By name: a jar would keep no cookie of a bare address.
    async with serving(script) as server, client_of(server.url.replace("127.0.0.1", "localhost")) as client:
        check_hello(*await attempt(client))
        check_hello(*await attempt(client))
    assert len(seen) == 2
    assert not any(b"cookie" in request.lower() for request in seen)


# -- times


async def test_times_are_those_of_arrival() -> None:
    marks: dict[str, int] = {}
    go = {name: asyncio.Event() for name in ("head", "token", "more", "end")}

    async def script(peer: Peer) -> None:
        await peer.request()
        marks["asked"] = monotonic_ns()
        await go["head"].wait()
        await peer.send(chunked_head())
        await go["token"].wait()
        await peer.send(piece(sse(*HELLO[:2])))
        await go["more"].wait()
        await peer.send(piece(sse(HELLO[2])))
        await go["end"].wait()
        await peer.send(piece(sse(*HELLO[3:], done=True)) + END)
        await peer.left()

    opened: list[Stream] = []
    async with serving(script) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.attempt("chat", b"{}", opened.append))
        await until(lambda: "asked" in marks)
        stream = opened[0]

        async def step(name: str, done: Any) -> None:
            marks[name] = monotonic_ns()
            go[name].set()
            await until(done)
            marks[name + " seen"] = monotonic_ns()

        await step("head", lambda: stream.headers_at)
        await step("token", lambda: stream.answer.first_token_at)
        await step("more", lambda: len(stream.answer.token_at) == 2)
        await step("end", lambda: stream.ended_at)
        check_hello(*await task)
    assert stream.sent_at is not None
    assert stream.started_at <= stream.sent_at <= marks["asked"]
    for name, at in [
        ("head", stream.headers_at),
        ("token", stream.answer.first_token_at),
        ("more", stream.answer.last_token_at),
        ("end", stream.ended_at),
    ]:
        assert at is not None
        assert marks[name] <= at <= marks[name + " seen"], name


async def test_informational_responses_are_no_headers() -> None:
    mark = 0

    async def script(peer: Peer) -> None:
        nonlocal mark
        await peer.request()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.05)
        mark = monotonic_ns()
        await peer.send(chunked(BODY))
        await peer.left()

    stream, outcome = await ask(script)
    check_hello(stream, outcome)
    assert stream.headers_at is not None
    assert stream.headers_at >= mark


async def test_a_busy_loop_does_not_make_what_came_together_come_apart() -> None:
    stream, outcome = await ask(answering(chunked(BODY)))
    check_hello(stream, outcome)
    assert len(set(stream.answer.token_at)) == 1


# -- connections


async def test_a_connection_is_kept_and_used_again() -> None:
    async with serving(answering(chunked(BODY))) as server, client_of(server.url) as client:
        results = [await attempt(client) for _ in range(3)]
    assert len(server.peers) == 1
    assert [stream.reused for stream, _ in results] == [False, True, True]
    assert [stream.connect_ns is None for stream, _ in results] == [False, True, True]
    assert (results[0][0].connect_ns or 0) > 0
    for result in results:
        check_hello(*result)


@pytest.mark.parametrize("status", ["429 Too Many", "500 Oops", "404 Not Found"])
async def test_a_connection_is_kept_after_a_refusal(status: str) -> None:
    script = answering(sized(b'{"error":"x"}', status), chunked(BODY))
    async with serving(script) as server, client_of(server.url) as client:
        _, refused = await attempt(client)
        check_hello(*await attempt(client))
    assert refused.status == "error"
    assert len(server.peers) == 1


async def test_a_fresh_one_is_a_fresh_one() -> None:
    async with serving(answering(chunked(BODY))) as server, client_of(server.url) as client:
        await attempt(client)
        stream, outcome = await attempt(client, fresh=True)
    check_hello(stream, outcome)
    assert stream.reused is False
    assert len(server.peers) == 2


async def test_connection_close_is_heeded() -> None:
    async with (
        serving(answering(chunked(BODY, Connection="close"))) as server,
        client_of(server.url) as client,
    ):
        await attempt(client)
        stream, outcome = await attempt(client)
    check_hello(stream, outcome)
    assert stream.reused is False


async def test_many_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head())
        for payload in HELLO:
            await peer.send(piece(sse(payload)))
        await peer.send(piece(b"data: [DONE]\n\n") + END)
        await peer.left()

    async with serving(script) as server, client_of(server.url) as client:
        results = await asyncio.gather(*[attempt(client) for _ in range(100)])
    for result in results:
        check_hello(*result)


async def test_a_kept_connection_the_server_closed_fails_as_disconnected() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(BODY))
        if peer.number == 0:
            await peer.request()  # read, and closed without a word

    async with serving(script) as server, client_of(server.url) as client:
        await attempt(client)
        stream, outcome = await attempt(client)
    assert kind_of(outcome) == "disconnected"
    assert stream.reused is True


# -- servers that do not end well


async def test_a_server_that_holds_the_connection_after_done_is_left() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head(), piece(BODY))
        await peer.left()

    async with serving(script) as server, client_of(server.url) as client:
        stream, outcome = await attempt(client)
        over = monotonic_ns()
        await until(server.peers[0].gone.is_set)
    check_hello(stream, outcome)
    assert stream.answer.done_at is not None
    assert stream.ended_at == stream.answer.done_at
    assert over - stream.answer.done_at >= LINGER_NS


async def test_the_end_of_the_body_within_the_linger_keeps_the_connection() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(chunked_head(), piece(BODY))
            await asyncio.sleep(0.02)
            await peer.send(END)

    async with serving(script) as server, client_of(server.url) as client:
        await attempt(client)
        stream, outcome = await attempt(client)
    check_hello(stream, outcome)
    assert stream.reused is True
    assert stream.ended_at == stream.answer.done_at


async def test_a_finish_reason_and_a_held_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_AFTER_FINISH_NS", 100_000_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head(), piece(sse(*HELLO)))
        await peer.left()

    check_hello(*await ask(script))


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_closed_before_a_byte(ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset() if ending == "reset" else peer.close()

    stream, outcome = await ask(script)
    assert kind_of(outcome) == "disconnected"
    assert stream.headers_at is None
    assert stream.ended_at is not None
    check_order(stream)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_closed_inside_the_headers(ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
        await asyncio.sleep(0.02)
        peer.reset() if ending == "reset" else peer.close()

    _, outcome = await ask(script)
    assert kind_of(outcome) in {"disconnected", "protocol", "truncated"}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_broken_mid_stream(ending: str, framing: str) -> None:
    part = sse(*HELLO[:3])
    begin = {
        "chunked": chunked_head() + piece(part),
        "length": head(Content_Length="9999") + part,
        "close": head(Connection="close") + part,
    }

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(begin[framing])
        await arrived.wait()
        peer.reset() if ending == "reset" else peer.close()

    arrived = asyncio.Event()
    opened: list[Stream] = []

    def open_one(stream: Stream) -> None:
        opened.append(stream)
        stream.on_first_token = arrived.set

    async with serving(script) as server, client_of(server.url) as client, asyncio.timeout(30):
        stream, outcome = await client.attempt("chat", b"{}", open_one)
    assert kind_of(outcome) == "truncated"
    assert outcome.error is not None
    assert outcome.error.retryable
    assert outcome.error.http_status == 200
    assert stream.answer.text() == "Hello"
    check_order(stream)


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(
    "body", [sse(*HELLO), sse(*HELLO[:3], done=True), BODY], ids=["finish", "done", "both"]
)
async def test_broken_after_the_answer_was_there_is_ok(body: bytes, ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(body))
        await asyncio.sleep(0.05)
        peer.reset() if ending == "reset" else peer.close()

    stream, outcome = await ask(script)
    assert outcome == Outcome("ok")
    assert stream.answer.text() == "Hello"


async def broken_chunk(good: bytes, *, later: bool) -> tuple[Stream, Outcome]:
    """A good piece of a body, and then a chunk size that is none: in a read of its own, or in the same."""
    arrived = asyncio.Event()
    opened: list[Stream] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        if later:
            await peer.send(chunked_head() + piece(good))
            await arrived.wait()
            await peer.send(b"nonsense\r\n")
        else:
            await peer.send(chunked_head() + piece(good) + b"nonsense\r\n")
        await peer.left()

    def open_one(stream: Stream) -> None:
        opened.append(stream)
        stream.on_first_token = arrived.set

    async with (
        serving(script) as server,
        client_of(server.url, limits(total=5)) as client,
        asyncio.timeout(30),
    ):
        return await client.attempt("chat", b"{}", open_one)


async def test_a_malformed_chunk_size_mid_body_is_truncated_and_does_not_hang() -> None:
    stream, outcome = await broken_chunk(sse(*HELLO[:3]), later=True)
    assert kind_of(outcome) == "truncated"
    assert stream.answer.text() == "Hello"


async def test_a_malformed_chunk_size_after_the_answer_is_ok() -> None:
    check_hello(*await broken_chunk(BODY, later=True))


async def test_a_malformed_chunk_size_in_the_read_of_the_head_costs_nothing_before_it() -> None:
    stream, outcome = await broken_chunk(BODY, later=False)
    assert outcome.status == "ok"
    assert stream.status == 200


async def test_a_broken_connection_is_not_used_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(chunked_head() + piece(BODY) + b"zz\r\n")
            await peer.left()
        await peer.send(chunked(BODY))

    async with serving(script) as server, client_of(server.url) as client:
        await attempt(client)
        stream, outcome = await attempt(client)
    check_hello(stream, outcome)
    assert stream.reused is False


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"220 smtp ready\r\n\r\n",
        b"HTTP/9.9 hello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
)
async def test_not_http(response: bytes) -> None:
    _, outcome = await ask(answering(response), limits(first_token=10))
    assert kind_of(outcome) == "protocol"


async def test_headers_too_large() -> None:
    _, outcome = await ask(answering(chunked_head(X_Long="x" * 100_000) + piece(BODY) + END))
    assert kind_of(outcome) == "protocol"


async def test_nobody_listens() -> None:
    async with serving(answering(b"")) as server:
        url = server.url
    async with client_of(url) as client:
        stream, outcome = await attempt(client)
    assert kind_of(outcome) == "connect"
    assert outcome.error is not None
    assert "refused" in outcome.error.message.lower()
    assert stream.sent_at is None


async def test_no_such_host() -> None:
    async with client_of("http://no-such-host.invalid/v1") as client:
        _, outcome = await attempt(client)
    assert kind_of(outcome) == "connect"


async def test_tls_against_a_server_that_speaks_none() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.left()

    async with serving(script) as server:
        url = server.url.replace("http:", "https:")
        async with client_of(url, limits(connect=10)) as client:
            _, outcome = await attempt(client)
    assert kind_of(outcome) == "tls"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_corrupt_encoding(encoding: str) -> None:
    data = gzip.compress(BODY * 50) if encoding == "gzip" else zlib.compress(BODY * 50)
    broken = data[:20] + b"\xff" * 20 + data[40:]
    _, outcome = await ask(answering(chunked(broken, Content_Encoding=encoding)), limits(byte_idle=10))
    assert kind_of(outcome) == "bad_encoding"


async def test_an_encoding_nobody_knows() -> None:
    _, outcome = await ask(answering(chunked(b"\x00\x01\x02" * 9, Content_Encoding="x-own")))
    assert outcome.status == "error"


async def test_nothing_at_all_in_a_200() -> None:
    for response in (chunked(b""), sized(b"", content_type="text/event-stream"), b"HTTP/1.1 204 No\r\n\r\n"):
        _, outcome = await ask(answering(response))
        assert kind_of(outcome) == "empty_stream"


# -- answers that are no streams

COMPLETION = {
    "id": "c",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "tool_calls": None},
            "finish_reason": "stop",
        }
    ],
    "usage": usage(2),
}


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
async def test_a_whole_completion_is_ok_and_not_streamed(content_type: str) -> None:
    body = json.dumps(COMPLETION).encode()
    stream, outcome = await ask(answering(sized(b"\n " + body, content_type=content_type)))
    assert outcome == Outcome("ok")
    answer = stream.answer
    assert not answer.streamed
    assert (answer.text(), answer.usage) == ("Hello", usage(2))
    assert (answer.first_token_at, answer.first_content_at, answer.last_token_at) == (None, None, None)
    assert answer.token_at == []
    assert stream.headers_at is not None


async def test_a_whole_completion_of_many_reads() -> None:
    body = json.dumps({**COMPLETION, "padding": "x" * 300_000}).encode()
    stream, outcome = await ask(answering(sized(body)))
    assert outcome == Outcome("ok")
    assert stream.answer.text() == "Hello"


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"<!doctype html><title>x</title>", "text/html", "bad_content_type"),
        (b"<html>", "text/event-stream", "bad_content_type"),
        (b"Not here", "text/plain", "bad_content_type"),
        (b'{"hello": 1}', "application/json", "bad_content_type"),
        (b'{"choices": 1}', "application/json", "bad_content_type"),
        (b"[]", "application/json", "bad_content_type"),
        (b'{"choices": [', "application/json", "bad_content_type"),
        (b'{"a":' * 5000, "application/json", "bad_content_type"),
        (b'{"choices":[]}\n{"choices":[]}\n', "application/x-ndjson", "bad_content_type"),
        (b'{"error": {"message": "m", "code": 503}}', "application/json", "overloaded"),
        (b'{"error": "Unauthorized"}', "application/json", "stream_error"),
        (b'{"detail": "m"}', "text/event-stream", "stream_error"),
        (b'{"choices": []}', "application/json", "empty_stream"),
    ],
)
async def test_a_200_that_is_no_answer(body: bytes, content_type: str, kind: str) -> None:
    _, outcome = await ask(answering(sized(body, content_type=content_type)))
    assert kind_of(outcome) == kind
    assert outcome.error is not None
    assert outcome.error.excerpt == body[:500].decode()


async def test_a_completion_cut_short_is_truncated() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sized(json.dumps(COMPLETION).encode())[:-5])
        peer.close()

    _, outcome = await ask(script)
    assert kind_of(outcome) == "truncated"


# -- refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"),
        (401, "auth"),
        (402, "quota"),
        (403, "auth"),
        (404, "bad_request"),
        (408, "timeout"),
        (409, "server_error"),
        (413, "bad_request"),
        (422, "bad_request"),
        (429, "rate_limit"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "server_error"),
        (524, "server_error"),
        (529, "overloaded"),
    ],
)
async def test_statuses(status: int, kind: str) -> None:
    body = b'{"error": {"message": "the reason", "type": "t"}}'
    stream, outcome = await ask(
        answering(sized(body, f"{status} Text", X_Request_Id="req-1", Retry_After="3"))
    )
    error = outcome.error
    assert error is not None
    assert error.kind == kind
    assert error.http_status == status
    assert error.request_id == "req-1"
    assert error.message == f"HTTP {status}: the reason"
    assert error.excerpt == body.decode()
    assert error.timer == ("server" if status == 408 else None)
    assert stream.headers["retry-after"] == "3"
    check_order(stream)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "text/plain", "HTTP 500: the server gave no message"),
        (b"upstream gone", "text/plain", "HTTP 500: upstream gone"),
        (b"<html><b>502</b></html>", "text/html", "HTTP 500: <html><b>502</b></html>"),
        (b'{"error": "Unauthorized"}', "application/json", "HTTP 500: Unauthorized"),
        (b'{"detail": "no"}', "application/json", "HTTP 500: no"),
        (b'{"code": 7}', "application/json", "HTTP 500: 7"),
        (b'{"error', "application/json", 'HTTP 500: {"error'),
        (b"\xff\xfe", "text/plain", "HTTP 500: \ufffd\ufffd"),
        (b'data: {"error": "x"}\n\n', "text/event-stream", "HTTP 500: x"),
    ],
)
async def test_bodies_of_refusals(body: bytes, content_type: str, message: str) -> None:
    _, outcome = await ask(answering(sized(body, "500 Oops", content_type)))
    assert outcome.error is not None
    assert outcome.error.message == message


_NASTY = "no\x1b]0;owned\x07 \x1b[2Jkey\r\n\n# A title\u2028\u202e | x\x00\ty\x85"


@pytest.mark.parametrize(
    "response",
    [
        sized(json.dumps({"error": {"message": _NASTY}}).encode(), "401 No"),
        sized(_NASTY.encode(), "500 No", "text/plain"),
        chunked(sse({"error": {"message": _NASTY}})),
        sized(json.dumps({"error": {"message": _NASTY}}).encode()),
        sized(b"", "200 OK", "text/\x1b[2Jplain"),
        sized(b"", "302 There", Location="http://a/\x1b[2J"),
    ],
    ids=["refusal", "plain refusal", "in a stream", "document", "content type", "location"],
)
async def test_words_of_a_server_steer_no_terminal(response: bytes) -> None:
    _, outcome = await ask(answering(response))
    error = outcome.error
    assert error is not None
    assert error.message.isprintable()  # one line, too
    assert error.excerpt is None or error.excerpt.replace("\n", "").isprintable()
    if "key" in error.message:
        assert error.message.endswith("no ]0;owned [2Jkey # A title | x y")


async def test_an_excerpt_keeps_its_lines() -> None:
    body = b"<html>\r\n\t<b>502</b>\x1b[2J\n</html>"
    _, outcome = await ask(answering(sized(body, "502 Bad", "text/html")))
    assert outcome.error is not None
    assert outcome.error.excerpt == "<html>\n <b>502</b> [2J\n</html>"
    assert outcome.error.message == "HTTP 502: <html> <b>502</b> [2J </html>"


async def test_a_refusal_without_an_end_is_read_for_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_ERROR_BODY_NS", 100_000_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("500 Oops", Content_Length="999"), b"half a rea")
        await peer.left()

    async with serving(script) as server, client_of(server.url) as client:
        _, outcome = await attempt(client)
        await until(server.peers[0].gone.is_set)
    assert outcome.error is not None
    assert outcome.error.kind == "server_error"
    assert outcome.error.message == "HTTP 500: half a rea"


async def test_a_refusal_of_any_length_is_read_so_far_and_no_further() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("400 Bad", Connection="close"))
        while True:
            await peer.send(b"x" * 60_000)

    stream, outcome = await ask(script)
    assert kind_of(outcome) == "bad_request"
    assert sum(map(len, stream.document)) < 1 << 20


async def test_a_refusal_cut_short_is_still_that_refusal() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("429 Slow", Content_Length="999"), b'{"error"')
        peer.close()

    _, outcome = await ask(script)
    assert kind_of(outcome) == "rate_limit"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed_and_nothing_leaks(status: int) -> None:
    async with serving(answering(chunked(BODY))) as other:
        place = f"http://bob:hunter22@127.0.0.1:{other.port}/v2?next=1"
        response = sized(b"moved", f"{status} Moved", "text/plain", Location=place)
        _, outcome = await ask(answering(response))
        assert other.peers == []
    assert kind_of(outcome) == "redirect"
    assert outcome.error is not None
    assert f"http://127.0.0.1:{other.port}/v2?next=1" in outcome.error.message
    assert "hunter22" not in outcome.error.message


@pytest.mark.parametrize("place", [None, "", "/v2", "http://[bad", "//x"])
async def test_redirects_to_anywhere(place: str | None) -> None:
    extra = {} if place is None else {"Location": place}
    _, outcome = await ask(answering(sized(b"", "307 Moved", **extra)))
    assert kind_of(outcome) == "redirect"


# -- the timers


@pytest.mark.parametrize("timer", ["first_token", "token_gap", "byte_idle", "total"])
async def test_each_timer_over_a_socket(timer: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head())
        if timer == "token_gap":
            await peer.send(piece(sse(delta("a"))))
        while timer != "byte_idle":
            await peer.send(piece(b": ping\n\n"))
            await asyncio.sleep(0.01)
        await peer.left()

    async with serving(script) as server, client_of(server.url, limits(**{timer: LIMIT_S})) as client:
        stream, outcome = await attempt(client)
        # The server sees it leave: that is what stops the billing.
        peer = server.peers[0]
        await until(lambda: peer.gone.is_set() or peer._writer.is_closing() or peer._reader.at_eof())
    error = outcome.error
    assert error is not None
    assert (error.kind, error.timer, error.retryable) == ("timeout", timer, True)
    assert "0.1 s" in error.message
    start = {
        "first_token": stream.sent_at,
        "token_gap": stream.answer.last_token_at,
        "byte_idle": stream.headers_at,
        "total": stream.started_at,
    }[timer]
    assert start is not None
    assert stream.ended_at is not None
    assert stream.ended_at - start >= LIMIT_S * 1e9
    check_order(stream)


async def test_the_connect_timer_while_a_handshake_gets_no_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.left()  # accepts, and never says a word of TLS

    async with serving(script) as server:
        url = server.url.replace("http:", "https:")
        async with client_of(url, limits(connect=LIMIT_S)) as client:
            stream, outcome = await attempt(client)
    assert outcome.error is not None
    assert outcome.error.timer == "connect"
    assert stream.ended_at is not None
    assert stream.ended_at - stream.started_at >= LIMIT_S * 1e9


async def test_the_first_token_timer_before_any_header() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    async with serving(script) as server, client_of(server.url, limits(first_token=LIMIT_S)) as client:
        stream, outcome = await attempt(client)
        await until(server.peers[0].gone.is_set)
    assert outcome.error is not None
    assert outcome.error.timer == "first_token"
    assert outcome.error.http_status is None
    assert stream.headers_at is None


# -- cancelling


@pytest.mark.parametrize("how", ["cut", "cancel"])
@pytest.mark.parametrize("when", ["waiting", "streaming"])
async def test_a_cancel_closes_the_connection(when: str, how: str) -> None:
    begun = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if when == "streaming":
            await peer.send(chunked_head() + piece(sse(*HELLO[:3])))
        begun.set()
        await peer.left()

    opened: list[Stream] = []
    async with serving(script) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.attempt("chat", b"{}", opened.append))
        await begun.wait()
        stream = opened[0]
        await until(lambda: when == "waiting" or stream.answer.text() == "Hello")
        if how == "cut":
            stream.cut(by="user")
        else:
            task.cancel()
        await asyncio.wait([task], timeout=20)
        await until(server.peers[0].gone.is_set)
        if how == "cancel":
            assert task.cancelled()
        else:
            _, outcome = task.result()
            assert outcome == Outcome("cancelled", cancelled_by="user")
            assert stream.ended_at is not None
        assert stream.answer.text() == ("Hello" if when == "streaming" else "")


async def test_a_cancel_of_one_leaves_the_others_alone() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(*HELLO[:3])))
        await go.wait()
        await peer.send(piece(sse(*HELLO[3:], done=True)) + END)
        await peer.left()

    go = asyncio.Event()
    opened: list[Stream] = []
    async with serving(script) as server, client_of(server.url) as client:
        tasks = [asyncio.create_task(client.attempt("chat", b"{}", opened.append)) for _ in range(5)]
        await until(lambda: len(opened) == 5 and all(s.answer.text() == "Hello" for s in opened))
        opened[2].cut(by="deadline")
        go.set()
        results = await asyncio.gather(*tasks)
    assert [outcome.status for _, outcome in results] == ["ok", "ok", "cancelled", "ok", "ok"]


# -- secrets

SECRETS = [KEY, "token-of-mine-123", "hunter-2-and-3", "aHVudGVy"]


def check_secret(*things: Any) -> None:
    shown = "".join(
        "".join(traceback.format_exception(t)) if isinstance(t, BaseException) else repr(t) for t in things
    )
    for secret in SECRETS:
        assert secret not in shown, secret


def _echoes() -> dict[str, bytes]:
    echo = " ".join([*SECRETS[:2], f"Bearer {KEY}"])
    quoted = json.dumps({"error": {"message": f"bad key {echo}", "code": echo, "type": echo}}).encode()
    return {
        "refusal, json": sized(quoted, "401 No", X_Request_Id=KEY),
        "refusal, text": sized(echo.encode(), "400 No", "text/plain"),
        "redirect": sized(b"", "307 Moved", Location=f"http://h/?key={KEY}"),
        "redirect with logins": sized(
            b"", "307 Moved", Location="http://u:hunter-2-and-3/x@h/?to=http://hunter-2-and-3@h"
        ),
        "redirect with a login": sized(b"", "307 Moved", Location="http://u:hunter-2-and-3@h/"),
        "redirect with a bare login": sized(b"", "307 Moved", Location="u:hunter-2-and-3/#@h/"),
        "beside an error": chunked(sse({"error": {"message": "no"}, "choices": [], "headers": [echo]})),
        "beside a choice": chunked(
            sse({"choices": [{"error": {"message": "no"}, "headers": {"authorization": echo}}]})
        ),
        "beside an answer": chunked(sse({**delta("a", finish="stop"), "request": {"headers": [echo]}})),
        "200 with an error": sized(quoted),
        "200 with a page": sized(f"<p>{echo}".encode(), content_type=f"text/html; {KEY}"),
        "error in the stream": chunked(sse({"error": {"message": echo}})),
        "error event": chunked(sse(("error", echo.encode()))),
        "not json": chunked(sse(echo.encode())),
        "abort": chunked(sse({"choices": [{"finish_reason": "abort"}], "id": "x"}), X_Request_Id=KEY),
        "not http": f"{echo}\r\n\r\n".encode(),
        "bad header": f"HTTP/1.1 200 OK\r\n{echo}\r\n\r\n".encode(),
        "bad chunk": chunked_head() + echo.encode(),
        "kept headers": chunked(BODY, X_Request_Id=KEY, X_Echo=echo),
        "an encoding": chunked(b"\0", Content_Encoding=KEY),
        "an error of a choice": chunked(sse({"choices": [{"error": {"message": echo}}]})),
        "an error without data": chunked(sse(HELLO[1]) + b"error: " + quoted + b"\n\n"),
        "refusal, events": sized(b"data: " + quoted + b"\n\n", "401 No", "text/event-stream"),
    }


async def test_the_text_of_an_answer_is_as_the_model_said_it() -> None:
    stream, outcome = await ask(answering(chunked(sse(delta(f"my key is {KEY}", finish="stop")))))
    assert outcome == Outcome("ok")
    assert stream.answer.text() == f"my key is {KEY}"


@pytest.mark.parametrize("name", list(_echoes()))
async def test_secrets_a_server_sends_back_are_not_kept(name: str) -> None:
    script = answering(_echoes()[name])
    headers = {"X-Token": "token-of-mine-123"}
    async with (
        serving(script) as server,
        client_of(server.url, limits(byte_idle=5), headers=headers, keep_headers=("X-Echo",)) as client,
    ):
        stream, outcome = await attempt(client)
        check_secret(outcome, client.response_of(stream), client.extra_of(stream, outcome))
        if name == "kept headers":
            assert client.response_of(stream)["headers"]["x-request-id"] == "[secret]"


async def test_a_login_in_the_url_is_sent_and_not_kept() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.request())[0])
        await peer.send(sized(b"no hunter-2-and-3 here", "401 No", "text/plain"))

    async with serving(script) as server:
        url = server.url.replace("http://", "http://bob:hunter-2-and-3@")
        async with client_of(url, key=None) as client:
            _, outcome = await attempt(client)
    assert b"Authorization: Basic Ym9iOmh1bnRlci0yLWFuZC0z" in seen[0]
    check_secret(outcome)


async def test_what_fails_before_the_response_names_no_secret() -> None:
    async with serving(answering(b"")) as server:
        port = server.port
    urls = [f"http://127.0.0.1:{port}/v1", "http://no-such-host.invalid/v1", f"https://127.0.0.1:{port}/v1"]
    for url in urls:
        async with client_of(url, headers={"X-Token": "token-of-mine-123"}) as client:
            _, outcome = await attempt(client)
        check_secret(outcome)
        assert outcome.status == "error"


@pytest.mark.parametrize(
    "response",
    [
        sized(b"x" * 490 + KEY.encode() + b"y", "401 No", "text/plain"),
        sized(json.dumps({"error": {"message": "x" * 1990 + KEY}}).encode(), "401 No"),
        chunked(sse({"error": {"message": "x" * 1990 + KEY}})),
        chunked(sse(b"x" * 490 + KEY.encode())),
        sized(b"", "401 No", X_Request_Id="x" * 190 + KEY),
    ],
    ids=["excerpt", "message", "message in the stream", "excerpt of an event", "request id"],
)
async def test_half_a_secret_is_a_secret(response: bytes) -> None:
    _, outcome = await ask(answering(response))
    assert KEY[:8] not in repr(outcome)


# -- sizes


async def test_a_long_answer_in_one_go() -> None:
    texts = [f"{n:05}" for n in range(20_000)]
    body = sse(*map(delta, texts), delta(finish="stop"), done=True)
    assert len(body) > 2_000_000
    turns = 0

    async def ticking() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(answering(chunked(body))) as server, client_of(server.url) as client:
        ticker = asyncio.create_task(ticking())
        stream, outcome = await attempt(client)
        ticker.cancel()
        again, second = await attempt(client)
    assert outcome == second == Outcome("ok")
    assert stream.answer.text() == again.answer.text() == "".join(texts)
    assert again.reused is True
    assert turns > len(body) // (64 << 10)
    check_order(stream)


async def test_one_huge_event() -> None:
    text = "x" * 3_000_000
    stream, outcome = await ask(answering(chunked(sse(delta(text, finish="stop"), done=True))))
    assert outcome == Outcome("ok")
    assert len(stream.answer.text()) == len(text)


async def test_an_event_above_the_limit_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser.__init__, "__defaults__", (100_000,))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head(Connection="close") + sse(HELLO[1]) + b"data: ")
        while True:
            await peer.send(b"x" * 10_000)

    stream, outcome = await ask(script)
    assert kind_of(outcome) == "too_large"
    assert stream.answer.text() == "Hel"


async def test_ten_thousand_chunks_in_one_packet() -> None:
    body = (
        chunked_head() + piece(sse(delta("a"))) * 10_000 + piece(sse(delta(finish="stop"), done=True)) + END
    )
    stream, outcome = await ask(answering(body))
    assert outcome == Outcome("ok")
    assert stream.answer.text() == "a" * 10_000


async def test_a_compressed_flood_is_read_to_its_end() -> None:
    data = sse(*[delta("a" * 100)] * 20_000, delta(finish="stop"), done=True)
    stream, outcome = await ask(answering(chunked(gzip.compress(data), Content_Encoding="gzip")))
    assert outcome == Outcome("ok")
    assert len(stream.answer.text()) == 2_000_000


async def test_a_server_faster_than_the_parser_is_held_back() -> None:
    # The client takes what one read gave and reads no more until it is parsed: what waits is one read's.
    event = sse(delta("a" * 1000)) * 100
    pieces = 100

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head(Connection="close"))
        for _ in range(pieces):
            await peer.send(event)
        await peer.send(sse(delta(finish="stop"), done=True))
        peer.close()

    most = 0

    async def watch(stream: Stream) -> None:
        nonlocal most
        while True:
            most = max(most, sum(len(data) for data, _ in stream._backlog))
            await asyncio.sleep(0)

    opened: list[Stream] = []
    async with serving(script) as server, client_of(server.url) as client, asyncio.timeout(30):
        task = asyncio.create_task(client.attempt("chat", b"{}", opened.append))
        await until(lambda: bool(opened))
        watcher = asyncio.create_task(watch(opened[0]))
        stream, outcome = await task
        watcher.cancel()
    assert outcome == Outcome("ok")
    assert len(stream.answer.text()) == pieces * 100_000
    assert most < 1 << 20


# -- documents and pages that do not end


async def held(body: bytes, timeouts: Timeouts) -> tuple[Stream, Outcome]:
    """A chunked body without its end, on a connection that stays open."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head("application/json") + piece(body))
        await peer.left()

    return await ask(script, timeouts)


@pytest.mark.parametrize("timer", ["byte_idle", "total"])
async def test_a_whole_completion_on_a_held_connection_is_whole(timer: str) -> None:
    # Longer than the answer takes on a machine that stalls: what came by then is what is judged.
    stream, outcome = await held(json.dumps(COMPLETION).encode(), limits(**{timer: 10 * LIMIT_S}))
    assert outcome == Outcome("ok")
    assert not stream.was_cut
    assert stream.answer.text() == "Hello"


async def test_half_a_completion_on_a_held_connection_is_not() -> None:
    _, outcome = await held(json.dumps(COMPLETION).encode()[:-1], limits(byte_idle=LIMIT_S))
    assert kind_of(outcome) == "timeout"


async def test_a_page_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_ERROR_BODY_NS", 50_000_000)
    _, outcome = await held(b"<html><title>Sign in</title>", NEVER)
    assert kind_of(outcome) == "bad_content_type"


async def test_a_completion_cut_by_the_close_may_come_again_and_a_page_may_not() -> None:
    for body, retryable in ((b'{"choices": [{"mess', True), (b"<html>", False), (b"[1, 2] 3", False)):

        async def script(peer: Peer, body: bytes = body) -> None:
            await peer.request()
            await peer.send(head(content_type="application/json") + body)
            peer.close()

        _, outcome = await ask(script)
        assert outcome.error is not None
        assert outcome.error.retryable is retryable


# -- encodings


async def test_a_refusal_of_an_unknown_encoding_keeps_its_headers() -> None:
    packed = sized(b"\x1b\x03\x00\xf8", "429 Slow", Content_Encoding="br", Retry_After="7", X_Request_Id="r")
    stream, outcome = await ask(answering(packed))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.request_id) == ("rate_limit", "r")
    assert outcome.error.excerpt == ""
    assert stream.headers["retry-after"] == "7"


async def test_a_packed_stream_keeps_its_connection_and_its_times() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            packer = zlib.compressobj(wbits=31)
            begin = packer.compress(sse(*HELLO[:2])) + packer.flush(zlib.Z_SYNC_FLUSH)
            await peer.send(chunked_head(Content_Encoding="gzip"), piece(begin))
            await go.wait()
            await peer.send(piece(packer.compress(sse(*HELLO[2:], done=True)) + packer.flush()) + END)
        await peer.left()

    opened: list[Stream] = []
    async with serving(script) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.attempt("chat", b"{}", opened.append))
        await until(lambda: bool(opened) and opened[0].answer.first_token_at is not None)
        before = monotonic_ns()
        go.set()
        stream, outcome = await task
        check_hello(stream, outcome)
        assert stream.answer.token_at[0] < before < stream.answer.token_at[1]
        stream, outcome = await attempt(client)
        check_hello(stream, outcome)
        assert stream.reused is True


async def test_a_request_without_a_sink_is_unpacked_by_aiohttp() -> None:
    async with serving(answering(sized(gzip.compress(b"hello"), Content_Encoding="gzip"))) as server:
        session = open_session({})
        async with session.post(server.url, data=b"{}") as response:
            assert await response.read() == b"hello"
        await session.close()


async def test_a_packed_stream_that_is_cut_says_no_more() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        data = sse(*[delta("a")] * 20_000)
        await peer.send(chunked_head(Content_Encoding="gzip") + piece(gzip.compress(data)))
        await peer.left()

    async with serving(script) as server, client_of(server.url) as client:
        client._stop_after = 3
        stream, outcome = await attempt(client)
    assert outcome.cancelled_by == "stop_rule"
    assert stream.ended_at is not None


# -- once wrong


@pytest.mark.parametrize(
    ("inner", "text"), [(b"a\\ud800b", "a\ud800b"), (b"a\xffb", "a\ufffdb")], ids=["surrogate", "utf-8"]
)
async def test_a_completion_msgspec_refuses(inner: bytes, text: str) -> None:
    body = b'{"choices":[{"message":{"content":"' + inner + b'"},"finish_reason":"stop","p":NaN}]}'
    stream, outcome = await ask(answering(sized(body)))
    assert outcome == Outcome("ok")
    assert stream.answer.text() == text


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"a\xffb","type":"insufficient_quota"}}',
        b'{"error":{"message":"a\\ud800b","type":"insufficient_quota"}}',
        b'\xef\xbb\xbf{"error":{"message":"m","type":"insufficient_quota"}}',
    ],
    ids=["utf-8", "surrogate", "bom"],
)
async def test_a_refusal_msgspec_refuses(body: bytes) -> None:
    _, outcome = await ask(answering(sized(body, "429 Slow")))
    assert kind_of(outcome) == "quota"


async def test_a_bare_error_line_before_done() -> None:
    _, outcome = await ask(answering(chunked(b'{"error":{"code":503,"message":"x"}}\n\ndata: [DONE]\n\n')))
    assert kind_of(outcome) == "overloaded"


# -- a proxy that will not


@pytest.mark.parametrize(
    ("scheme", "status", "kind"),
    [
        ("https", 407, "auth"),
        ("http", 407, "auth"),
        ("https", 502, "connect"),
        ("http", 502, "server_error"),
    ],
)
async def test_what_a_proxy_refuses(scheme: str, status: int, kind: str) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
        await peer.left()

    target = make_target(f"{scheme}://model.example/v1", KEY, None)
    async with serving(script) as proxy:
        url = proxy.url.removesuffix("/v1").replace("http://", "http://someone:proxy-secret@")
        session = open_session(target.headers, proxy=url)
        try:
            stream, outcome = await attempt(Client(session, target, NEVER, Redactor([KEY])))
        finally:
            await session.close()
    assert kind_of(outcome) == kind
    assert heads[0].startswith(b"CONNECT model.example:443 " if scheme == "https" else b"POST http://model")
    assert outcome.error is not None
    assert "proxy-secret" not in outcome.error.message
    assert stream.answer.usage is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_machine_without_files_to_open_is_no_target_that_is_gone(number: int, wrapped: bool) -> None:
    raised: OSError = OSError(number, "Too many open files")
    if wrapped:
        raised = aiohttp.ClientConnectorError(Any, raised)  # type: ignore[arg-type]

    class Session:
        def post(self, *_: Any, **__: Any) -> Any:
            return self._fails()

        async def _fails(self) -> Any:
            raise raised

    session: Any = Session()
    _, outcome = await attempt(Client(session, make_target("http://h:1/v1", None), NEVER, Redactor([])))
    error = outcome.error
    assert error is not None
    assert error.kind is ErrorKind.CONNECT
    assert error.message.startswith(f"{OWN_FAULT}too many open files")
    assert "h:1" in error.message


async def test_a_machine_without_a_port_left_says_so_once_it_has_had_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Session:
        def post(self, *_: Any, **__: Any) -> Any:
            return self._fails()

        async def _fails(self) -> Any:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    async with serving(answering(chunked(BODY))) as server, client_of(server.url) as client:
        with monkeypatch.context() as patched:
            patched.setattr(client, "_session", Session())
            _, before = await attempt(client)
        check_hello(*await attempt(client))
        monkeypatch.setattr(client, "_session", Session())
        _, after = await attempt(client)
    assert before.error is not None
    assert not before.error.message.startswith(OWN_FAULT)  # an address that this machine has no way to
    assert after.error is not None
    assert after.error.kind is ErrorKind.CONNECT
    assert after.error.message.startswith(f"{OWN_FAULT}no port is left")
