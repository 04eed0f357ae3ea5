"""Faults, the peer's leaving, and what the log says of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.mock.config import MockConfig
from runner.mock.server import serve
from tests.runner.mock.wire import chat, until, wire

CHAT = "/v1/chat/completions"


async def test_429_says_when_to_come_back(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    config = MockConfig(faults={"429": 1.0}, retry_after_s=7, log=log_file)
    async with serve(config) as server, wire(server) as line:
        response = await line.ask(CHAT, chat("p"))
        assert server.stats.in_flight == 0
    assert (response.status, response.headers["retry-after"]) == (429, "7")
    assert response.json["error"]["code"] == "rate_limit_exceeded"
    [entry] = entries()
    assert (entry["status"], entry["fault"], entry["prompt"]) == (429, "429", "p")
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["first_token_sent_ns"] is None


async def test_500() -> None:
    async with serve(MockConfig(faults={"500": 1.0})) as server, wire(server) as line:
        response = await line.ask(CHAT, chat())
    assert (response.status, response.json["error"]["type"]) == (500, "server_error")
    assert "retry-after" not in response.headers


@pytest.mark.parametrize("itl_ms", [0, 2])
async def test_reset_after_half_of_the_tokens(
    itl_ms: float, log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    config = MockConfig(faults={"reset": 1.0}, tokens=8, itl_ms=itl_ms, log=log_file)
    async with serve(config) as server, wire(server) as line:
        line.send(CHAT, chat())
        await line.head()
        pieces = 0
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            while await line.piece():
                pieces += 1
        await until(lambda: server.stats.open_connections == 0)
        assert server.stats.client_disconnects == 0
    assert pieces <= 5  # the role and four tokens, as far as they were read before the reset
    [entry] = entries()
    assert (entry["fault"], entry["tokens_sent"], entry["tokens_planned"]) == ("reset", 4, 8)
    assert (entry["done_sent_ns"], entry["peer_left_ns"]) == (None, None)


async def test_reset_of_a_whole_answer() -> None:
    async with serve(MockConfig(faults={"reset": 1.0})) as server, wire(server) as line:
        line.send(CHAT, chat(stream=False))
        with pytest.raises(ConnectionResetError):
            await line.head()
        assert server.stats.by_status == {}


async def test_stall_holds_the_connection(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    config = MockConfig(faults={"stall": 1.0}, tokens=4, log=log_file)
    async with serve(config) as server:
        async with wire(server) as line:
            line.send(CHAT, chat())
            await line.head()
            for _ in range(3):
                await line.piece()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(line.piece(), 0.1)
            assert (server.stats.in_flight, server.stats.open_connections) == (1, 1)
        await until(lambda: server.stats.in_flight == 0)
        assert server.stats.client_disconnects == 1
    [entry] = entries()
    assert (entry["fault"], entry["tokens_sent"], entry["done_sent_ns"]) == ("stall", 2, None)
    assert entry["peer_left_ns"] >= entry["first_token_sent_ns"]


async def test_fault_shares_repeat_with_the_seed() -> None:
    runs = []
    for _ in range(2):
        async with serve(MockConfig(faults={"429": 0.3, "500": 0.2}, seed=4)) as server, wire(server) as line:
            runs.append([(await line.ask(CHAT, chat())).status for _ in range(60)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 429, 500}


@pytest.mark.parametrize("half", [False, True], ids=["closed", "half-closed"])
@pytest.mark.parametrize("stream", [True, False])
async def test_peer_leaves(
    half: bool, stream: bool, log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    config = MockConfig(itl_ms=5, tokens=100_000, log=log_file)
    async with serve(config) as server:
        async with wire(server) as line:
            line.send(CHAT, chat(stream=stream))
            if stream:
                await until(lambda: server.stats.tokens_sent >= 3)
            else:
                await until(lambda: server.stats.in_flight == 1)
            if half:
                line.writer.write_eof()
                await until(lambda: server.stats.in_flight == 0)
        await until(lambda: server.stats.open_connections == 0)
        sent = server.stats.tokens_sent
        await asyncio.sleep(0.03)
        assert server.stats.tokens_sent == sent  # nothing more is made
        assert (server.stats.client_disconnects, server.stats.in_flight) == (1, 0)
    [entry] = entries()
    assert entry["tokens_sent"] == sent == len(entry["token_us"])
    assert entry["done_sent_ns"] is None
    assert entry["peer_left_ns"] >= entry["received_ns"]


async def test_peer_that_leaves_a_full_pipe_is_noticed() -> None:
    async with serve(MockConfig(tokens=200_000)) as server:
        async with wire(server) as line:
            line.send(CHAT, chat())
            await line.head()
            line.writer.transport.abort()
        await until(lambda: server.stats.open_connections == 0)
        assert server.stats.client_disconnects == 1
        assert server.stats.tokens_sent < 200_000


async def test_log_has_a_line_a_request_soon_and_in_the_end(
    log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    async with serve(MockConfig(tokens=3, log=log_file)) as server, wire(server) as line:
        await line.ask(CHAT, chat("first"))
        await until(lambda: log_file.stat().st_size > 0)  # not only at the end
        await line.ask(CHAT, {"model": "m"})
        await line.ask("/health")
        await line.ask("/v1/nowhere")
        await line.ask("/v1/completions", {"model": "m", "prompt": "last"})
    first, refused, nowhere, last = entries()
    assert [entry["ordinal"] for entry in entries()] == [0, 1, None, 2]
    assert [entry["status"] for entry in entries()] == [200, 400, 404, 200]
    assert (first["prompt"], last["prompt"], refused["prompt"]) == ("first", "last", None)
    assert (first["model"], first["path"], first["stream"]) == ("m", CHAT, True)
    assert (first["tokens_sent"], len(first["token_us"]), first["token_us"][0]) == (3, 3, 0)
    assert (last["tokens_sent"], last["token_us"], last["first_token_sent_ns"]) == (3, [], None)
    assert nowhere["path"] == "/v1/nowhere"
    assert {entry["connection"] for entry in entries()} == {0}


async def test_large_batches_of_the_log_stay_whole(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    prompts = [f"{number} " + "x" * 20_000 for number in range(100)]
    async with serve(MockConfig(log=log_file, tokens=1)) as server, wire(server) as line:
        for prompt in prompts:
            await line.ask(CHAT, chat(prompt))
    assert [entry["prompt"] for entry in entries()] == prompts


async def test_log_is_appended_to(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    for _ in range(2):
        async with serve(MockConfig(log=log_file)) as server, wire(server) as line:
            await line.ask(CHAT, chat())
    assert len(entries()) == 2
