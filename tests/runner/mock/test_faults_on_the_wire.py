"""Faults as bytes and times: what is sent, when, to whom; and what the log says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from runner.mock.config import MockConfig, RoleChunk
from runner.mock.fault import Scope
from runner.mock.faults import FAULTS
from runner.mock.server import serve
from tests.runner.mock.wire import chat, until, wire

CHAT = "/v1/chat/completions"
MS = 1_000_000
USAGE = {"stream_options": {"include_usage": True}}


def always(name: str, **more: Any) -> MockConfig:
    return MockConfig(faults={name: 1.0}, **more)


async def test_tokens_keep_their_times(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    """Staged or not, a token goes when it would have gone."""
    times = []
    for faults in ({}, {"role-alone": 1.0}):
        config = MockConfig(ttft_ms=20, itl_ms=10, tokens=5, faults=faults, log=log_file)
        async with serve(config) as server, wire(server) as line:
            asked = monotonic_ns()
            assert len((await line.ask(CHAT, chat())).text) > 0
            assert monotonic_ns() - asked >= 60 * MS
        entry = entries()[-1]
        assert entry["first_token_sent_ns"] - entry["received_ns"] >= 20 * MS
        assert entry["received_ns"] <= entry["headers_sent_ns"] <= entry["first_token_sent_ns"]
        sent = [entry["first_token_sent_ns"] + us * 1000 for us in entry["token_us"]]
        due = [entry["received_ns"] + (20 + 10 * n) * MS for n in range(5)]
        assert all(at + 1000 >= planned for at, planned in zip(sent, due, strict=True))  # kept in whole µs
        times.append((entry["fault"], len(entry["token_us"]), entry["tokens_sent"]))
        assert entry["done_sent_ns"] is not None
    assert times == [(None, 5, 5), ("role-alone", 5, 5)]


async def test_a_break_comes_when_the_next_token_would_have(
    log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    config = always("close", ttft_ms=5, itl_ms=30, tokens=4, log=log_file)
    async with serve(config) as server, wire(server) as line:
        line.send(CHAT, chat())
        await line.reader.read()
        now = monotonic_ns()
        await until(lambda: server.stats.open_connections == 0)
    [entry] = entries()
    assert now - entry["received_ns"] >= 65 * MS
    assert (entry["tokens_sent"], entry["tokens_planned"], entry["done_sent_ns"]) == (2, 4, None)
    assert entry["peer_left_ns"] is None


@pytest.mark.parametrize("when", list(RoleChunk))
async def test_the_role_goes_when_it_should(when: RoleChunk) -> None:
    early = when is RoleChunk.EARLY  # then it does not wait for the token, however late that is
    config = always("messages", ttft_ms=3_600_000 if early else 30, tokens=2, role_chunk=when)
    async with serve(config) as server, wire(server) as line:
        began = monotonic_ns()
        line.send(CHAT, chat())
        await line.head()
        first = await line.piece()
        assert (b'"role"' in first) == (when is not RoleChunk.NEVER)
        assert early or monotonic_ns() - began >= 30 * MS


async def test_the_connection_goes_on_after_what_ends_in_order() -> None:
    async with serve(always("crlf", echo=True)) as server, wire(server) as line:
        for prompt in ("one", "two"):
            body = (await line.ask(CHAT, chat(prompt))).body
            assert f'"content":"{prompt}"'.encode() in body
        assert server.stats.connections == 1


async def test_who_does_not_ask_for_a_stream_gets_the_answer(
    log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    names = [fault.name for fault in FAULTS.values() if fault.scope in {Scope.STREAM, Scope.CHAT}]
    for name in names:
        async with serve(always(name, log=log_file)) as server, wire(server) as line:
            whole = await line.ask(CHAT, chat(stream=False))
            assert whole.json["choices"][0]["finish_reason"] == "stop"
    assert [entry["fault"] for entry in entries()] == [None] * len(names)


@pytest.mark.parametrize("name", ["close-before-head", "stale"])
@pytest.mark.parametrize("stream", [True, False])
async def test_closed_without_a_byte(
    name: str, stream: bool, log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    async with serve(always(name, log=log_file)) as server, wire(server) as line:
        if name == "stale":
            assert (await line.ask(CHAT, chat(stream=stream))).status == 200
        line.send(CHAT, chat(stream=stream))
        assert await line.reader.read() == b""
        await until(lambda: server.stats.open_connections == 0)
        assert server.stats.by_status == ({"200": 1} if name == "stale" else {})
        assert server.stats.client_disconnects == 0
    last = entries()[-1]
    assert (last["fault"], last["status"], last["headers_sent_ns"]) == (name, None, None)


async def test_comments_come_until_the_peer_leaves(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    async with serve(always("comments-after-half", tokens=4, log=log_file)) as server:
        async with wire(server) as line:
            line.send(CHAT, chat())
            await line.head()
            pieces = [await line.piece() for _ in range(6)]
            assert server.stats.in_flight == 1
        await until(lambda: server.stats.in_flight == 0)
        assert server.stats.client_disconnects == 1
    assert pieces[3:] == [b": ping\n\n"] * 3
    assert entries()[0]["tokens_sent"] == 2


async def test_http_1_0_gets_no_chunks() -> None:
    body = json.dumps(chat(max_tokens=2)).encode()
    async with serve(always("crlf")) as server, wire(server) as line:
        line.writer.write(f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        response = await line.receive()
    assert "transfer-encoding" not in response.headers
    assert response.body.endswith(b"data: [DONE]\r\n\r\n")


async def test_packets_are_cut_where_they_should_be() -> None:
    async with serve(always("split-utf8", echo=True)) as server, wire(server) as line:
        response = await line.ask(CHAT, chat("naïve 🌊 x"))
    cut = [piece for piece in response.pieces if piece[-1] >= 0xC0]
    assert len(cut) == 2
    assert response.text == "naïve 🌊 x"


async def test_a_slow_reader_of_bytes_gets_all(log_file: Path) -> None:
    async with serve(always("bytes", tokens=40, log=log_file)) as server, wire(server) as line:
        response = await line.ask(CHAT, chat() | USAGE)
        assert len(response.pieces) == len(response.body) > 5000
        assert len(response.events) == 40 + 4
        assert server.stats.in_flight == 0


async def test_an_end_of_the_server_ends_what_is_staged(
    log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    async with serve(always("comments-before-token", log=log_file)) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        data = json.dumps(chat()).encode()
        writer.write(f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await reader.readuntil(b": ping\n\n")
    [entry] = entries()
    assert (entry["fault"], entry["done_sent_ns"], entry["peer_left_ns"]) == (
        "comments-before-token",
        None,
        None,
    )
    writer.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat("", stream_options={"include_usage": True})),  # an echo of nothing: no token at all
        (CHAT, chat("one")),
        (CHAT, chat("one two", n=3)),
        ("/v1/completions", {"model": "m", "prompt": "one two", "stream": True, "n": 3}),
    ],
    ids=["no token", "one token", "three choices", "three texts"],
)
async def test_no_answer_is_too_short_to_go_wrong(path: str, body: dict[str, Any]) -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    for name in FAULTS:
        async with serve(always(name, echo=True)) as server, wire(server) as line:
            line.send(path, body)
            await until(lambda: server.stats.requests == 1)
            await asyncio.sleep(0)
        assert raised == [], name
