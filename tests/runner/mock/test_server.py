"""The mock over real sockets: shapes, times, HTTP manners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from runner.mock.config import MockConfig, RoleChunk, Spread
from runner.mock.server import serve
from runner.mock.timing import Timing, request_rng
from tests.runner.mock.wire import chat, until, wire

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
USAGE = {"stream_options": {"include_usage": True}}
MS = 1_000_000


# -- shapes


async def test_chat_stream_is_shaped_as_the_real_one() -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        response = await line.ask(CHAT, chat(max_tokens=3) | USAGE)
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["openai-processing-ms"].isdigit()
    role, *tokens, finish, usage, done = response.events
    assert done == "[DONE]"
    assert len(tokens) == 3
    assert len(response.pieces) == 7  # a chunk an event
    assert role == {
        "id": role["id"],
        "object": "chat.completion.chunk",
        "created": role["created"],
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": role["system_fingerprint"],
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        "usage": None,
    }
    assert role["id"].startswith("chatcmpl-")
    for event in (*tokens, finish, usage):
        assert {key: event[key] for key in ("id", "object", "created", "model")} == {
            key: role[key] for key in ("id", "object", "created", "model")
        }
    assert all(token["choices"][0]["finish_reason"] is None and token["usage"] is None for token in tokens)
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert usage["choices"] == []
    counts = usage["usage"]
    assert counts["completion_tokens"] == 3
    assert counts["prompt_tokens"] >= 1
    assert counts["total_tokens"] == 3 + counts["prompt_tokens"]
    assert counts["prompt_tokens_details"]["cached_tokens"] == 0
    assert counts["completion_tokens_details"]["reasoning_tokens"] == 0


async def test_no_usage_unless_asked_for() -> None:
    async with serve(MockConfig(tokens=5)) as server, wire(server) as line:
        events = (await line.ask(CHAT, chat())).events[:-1]
    assert not any("usage" in event for event in events)
    assert len(events) == 1 + 5 + 1
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("when", "roles"), [(RoleChunk.WITH_FIRST, 1), (RoleChunk.NEVER, 0)])
async def test_role_chunk(when: RoleChunk, roles: int) -> None:
    async with serve(MockConfig(ttft_ms=5, tokens=2, role_chunk=when)) as server, wire(server) as line:
        deltas = [event["choices"][0]["delta"] for event in (await line.ask(CHAT, chat())).events[:-1]]
    assert ["role" in delta for delta in deltas] == [True] * roles + [False] * 3


async def test_whole_answer_says_what_the_stream_says() -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        streamed = await line.ask(CHAT, chat(max_tokens=40) | USAGE)
        whole = (await line.ask(CHAT, chat(max_tokens=40, stream=False))).json
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["role"] == "assistant"
    assert whole["choices"][0]["message"]["content"] == streamed.text
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"] == streamed.events[-2]["usage"]
    assert whole["id"] != streamed.events[0]["id"]


async def test_text_completions() -> None:
    body = {"model": "m", "prompt": "hello", "max_tokens": 4}
    async with serve(MockConfig()) as server, wire(server) as line:
        streamed = (await line.ask("/completions", body | {"stream": True} | USAGE)).events
        whole = (await line.ask(TEXT, body)).json
    *tokens, finish, usage, done = streamed
    assert (len(tokens), done) == (4, "[DONE]")
    assert {event["object"] for event in streamed[:-1]} == {"text_completion"}
    assert finish["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert usage["usage"] == whole["usage"]
    assert whole["choices"][0]["text"] == "".join(event["choices"][0]["text"] for event in tokens)
    assert whole["id"].startswith("cmpl-")


@pytest.mark.parametrize("stream", [True, False])
async def test_several_choices_come_interleaved(stream: bool) -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        response = await line.ask(CHAT, chat(n=3, max_tokens=2, stream=stream) | (USAGE if stream else {}))
        assert server.stats.tokens_sent == 6
    if not stream:
        choices = response.json["choices"]
        assert [choice["index"] for choice in choices] == [0, 1, 2]
        assert len({choice["message"]["content"] for choice in choices}) == 3
        return
    indices = [choice["index"] for event in response.events[:-1] for choice in event["choices"]]
    assert indices == [0, 1, 2] * 4  # roles, two tokens, finish reasons
    assert response.events[-2]["usage"]["completion_tokens"] == 6


async def test_ids_are_unique_and_models_echoed() -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        first = await line.ask(CHAT, chat())
        second = await line.ask(CHAT, chat(model='b"\\ü'))
    assert first.events[0]["id"] != second.events[0]["id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.events[0]["model"] == 'b"\\ü'


async def test_paths_with_and_without_v1() -> None:
    async with serve(MockConfig(models=("a", "b"))) as server, wire(server) as line:
        for path in ("/v1/models", "/models"):
            assert [card["id"] for card in (await line.ask(path)).json["data"]] == ["a", "b"]
        assert (await line.ask("/v1/models/b")).json["id"] == "b"
        assert (await line.ask("/v1/models/c")).json["error"]["code"] == "model_not_found"
        assert (await line.ask("/health")).json == {"status": "ok"}
        for path in ("/chat/completions", CHAT):
            assert (await line.ask(path, chat(model="a"))).status == 200
        line.send("/health", method="HEAD")
        assert (await line.receive(body=False)).headers["content-length"] == "15"


async def test_stats() -> None:
    async with serve(MockConfig(tokens=7)) as server, wire(server) as line:
        await line.ask(CHAT, chat())
        await line.ask("/nowhere")
        stats = (await line.ask("/stats")).json
    assert stats == {
        "requests": 3,
        "by_status": {"200": 1, "404": 1},
        "connections": 1,
        "open_connections": 1,
        "tokens_sent": 7,
        "in_flight": 0,
        "peak_in_flight": 1,
        "client_disconnects": 0,
    }
    assert server.stats.open_connections == 0


# -- refusals


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "param"),
    [
        ("/v1/embeddings", "POST", {}, 404, None),
        ("/", "GET", None, 404, None),
        (CHAT, "GET", None, 405, None),
        ("/v1/models", "DELETE", None, 405, None),
        (CHAT, "POST", b"{nonsense", 400, None),
        (CHAT, "POST", {"model": "m"}, 400, "messages"),
        (TEXT, "POST", {"model": "m"}, 400, "prompt"),
    ],
)
async def test_refusals(path: str, method: str, body: Any, status: int, param: str | None) -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        line.send(path, body, method=method)
        response = await line.receive()
        error = response.json["error"]
        assert (response.status, set(error)) == (status, {"message", "type", "param", "code"})
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert ("allow" in response.headers) == (status == 405)
        assert (await line.ask(CHAT, chat())).status == 200  # the connection goes on


async def test_key_and_models() -> None:
    async with serve(MockConfig(api_key="right", models=("m",))) as server, wire(server) as line:
        missing = await line.ask(CHAT, chat())
        wrong = await line.ask(CHAT, chat(), {"Authorization": "Bearer wröng"})
        right = {"Authorization": "Bearer right"}
        other = await line.ask(CHAT, chat(model="x"), right)
        assert (await line.ask(CHAT, chat(), right)).status == 200
        assert (await line.ask("/v1/models")).status == 401
        assert (await line.ask("/health")).status == 200
    assert (missing.status, missing.json["error"]["code"]) == (401, None)
    assert (wrong.status, wrong.json["error"]["code"]) == (401, "invalid_api_key")
    assert b"right" not in wrong.body
    assert (other.status, other.json["error"]["code"]) == (404, "model_not_found")


# -- times: bounds that hold on any machine


@pytest.mark.parametrize("role", list(RoleChunk))
async def test_no_token_is_early(role: RoleChunk, log_file: Path, entries: Callable[[], list[Any]]) -> None:
    config = MockConfig(ttft_ms=30, itl_ms=5, tokens=6, role_chunk=role, log=log_file)
    async with serve(config) as server, wire(server) as line:
        asked = monotonic_ns()
        line.send(CHAT, chat())
        head = await line.head()
        head_at = monotonic_ns()
        arrivals = []
        while piece := await line.piece():
            arrivals.append((monotonic_ns(), piece))
    assert head.status == 200
    tokens = [at for at, piece in arrivals if b'"content":"' in piece and b'"content":""' not in piece]
    assert len(tokens) == 6
    for place, at in enumerate(tokens):
        assert at >= asked + (30 + 5 * place) * MS
    [entry] = entries()
    assert asked <= entry["received_ns"] <= entry["headers_sent_ns"] <= head_at
    first = entry["first_token_sent_ns"]
    for place, (at, offset_us) in enumerate(zip(tokens, entry["token_us"], strict=True)):
        assert entry["received_ns"] + (30 + 5 * place) * MS <= first + (offset_us + 1) * 1000
        assert first + offset_us * 1000 <= at
    assert entry["done_sent_ns"] <= arrivals[-1][0]


async def test_headers_and_role_come_before_the_first_token() -> None:
    async with serve(MockConfig(ttft_ms=60_000)) as server, wire(server) as line:
        line.send(CHAT, chat())
        async with asyncio.timeout(10):
            assert (await line.head()).status == 200
            assert b'"role":"assistant"' in await line.piece()
        assert server.stats.tokens_sent == 0


async def test_whole_answer_takes_as_long_as_the_stream() -> None:
    async with serve(MockConfig(ttft_ms=20, itl_ms=10)) as server, wire(server) as line:
        asked = monotonic_ns()
        await line.ask(CHAT, chat(max_tokens=4, stream=False))
        assert monotonic_ns() >= asked + 50 * MS


async def test_lockstep_streams_share_their_moments(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    config = MockConfig(ttft_ms=3, itl_ms=20, tokens=3, lockstep=True, log=log_file)
    async with serve(config) as server, wire(server) as one, wire(server) as two:
        one.send(CHAT, chat("a"))
        await asyncio.sleep(0.007)
        two.send(CHAT, chat("b"))
        await asyncio.gather(one.receive(), two.receive())
    for entry in entries():
        grid_line = -(-(entry["received_ns"] + 3 * MS) // (20 * MS)) * 20 * MS
        for place, offset_us in enumerate(entry["token_us"]):
            assert entry["first_token_sent_ns"] + (offset_us + 1) * 1000 >= grid_line + place * 20 * MS
        assert len(entry["token_us"]) == 3


async def test_drawn_times_repeat_with_the_seed(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    config = MockConfig(ttft_ms=10, ttft_dist=Spread.LOGNORMAL, ttft_sd_ms=8, tokens=1, seed=5, log=log_file)
    for _ in range(2):
        async with serve(config) as server, wire(server) as line:
            for _ in range(3):
                await line.ask(CHAT, chat())
    waits = [entry["first_token_sent_ns"] - entry["received_ns"] for entry in entries()]
    for ordinal, wait in enumerate(waits):
        rng = request_rng(5, ordinal % 3)
        rng.random()  # the fault's draw
        assert wait >= next(Timing(config).schedule(0, rng))


# -- manners


async def test_body_in_pieces_and_chunks() -> None:
    body = json.dumps(chat(max_tokens=1)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    data = head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with serve(MockConfig()) as server, wire(server) as line:
        for start in range(0, len(data), 11):
            line.writer.write(data[start : start + 11])
            await asyncio.sleep(0)
        assert (await line.receive()).status == 200


async def test_requests_sent_ahead_are_answered_in_turn(
    log_file: Path, entries: Callable[[], list[Any]]
) -> None:
    async with serve(MockConfig(ttft_ms=5, log=log_file, echo=True)) as server, wire(server) as line:
        for prompt in ("one", "two", "three"):
            line.send(CHAT, chat(prompt))
        line.send("/health")
        assert [(await line.receive()).text for _ in range(3)] == ["one", "two", "three"]
        assert (await line.receive()).json == {"status": "ok"}
        assert server.stats.peak_in_flight == 1
    for before, after in pairwise(entries()):
        assert after["first_token_sent_ns"] >= before["done_sent_ns"] + 5 * MS


async def test_expect_continue() -> None:
    body = json.dumps(chat()).encode()
    async with serve(MockConfig()) as server, wire(server) as line:
        line.send(CHAT, headers={"Expect": "100-continue", "Content-Length": str(len(body))}, method="POST")
        assert (await line.head()).status == 100
        line.writer.write(body)
        assert (await line.receive()).status == 200


async def test_connection_close_is_honoured() -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        response = await line.ask(CHAT, chat(), {"Connection": "close"})
        assert response.headers["connection"] == "close"
        assert await line.reader.read() == b""


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection() -> None:
    body = json.dumps(chat(max_tokens=2)).encode()
    async with serve(MockConfig()) as server, wire(server) as line:
        line.writer.write(f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        response = await line.receive()
    assert "transfer-encoding" not in response.headers
    assert response.headers["connection"] == "close"
    assert len(response.events) == 5


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"not http\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000, 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(data: bytes, status: int) -> None:
    async with serve(MockConfig()) as server, wire(server) as line:
        line.writer.write(data)
        response = await line.receive()
        assert response.status == status
        assert set(response.json["error"]) == {"message", "type", "param", "code"}
        assert await line.reader.read() == b""
        assert server.stats.by_status == {str(status): 1}


async def test_keep_alive_zero_closes_unannounced() -> None:
    async with serve(MockConfig(keep_alive_s=0)) as server, wire(server) as line:
        response = await line.ask(CHAT, chat())
        assert "connection" not in response.headers
        assert await line.reader.read() == b""


async def test_idle_connections_are_closed_and_busy_ones_not() -> None:
    async with serve(MockConfig(ttft_ms=120, keep_alive_s=0.05)) as server, wire(server) as line:
        assert (await line.ask(CHAT, chat())).status == 200
        asked = monotonic_ns()
        assert await line.reader.read() == b""
        assert monotonic_ns() - asked >= 40 * MS
        assert server.stats.client_disconnects == 0


async def test_slow_reader_gets_everything() -> None:
    tokens = 60_000  # some 15 MB: more than kernel buffers hold
    async with serve(MockConfig(tokens=tokens)) as server, wire(server) as line, wire(server) as other:
        line.send(CHAT, chat() | USAGE)
        await until(lambda: server.stats.tokens_sent > 0)
        for _ in range(20):
            assert (await other.ask("/health")).status == 200
        assert server.stats.tokens_sent < tokens  # it waits for the reader
        async with asyncio.timeout(60):
            response = await line.receive()
    assert len(response.events) == tokens + 4
    assert server.stats.tokens_sent == tokens


async def test_end_of_the_server_cuts_its_streams(log_file: Path, entries: Callable[[], list[Any]]) -> None:
    async with AsyncExitStack() as stack:
        async with serve(MockConfig(ttft_ms=1, itl_ms=60_000, log=log_file)) as server:
            line = await stack.enter_async_context(wire(server))  # left after the server has ended
            line.send(CHAT, chat())
            await until(lambda: server.stats.tokens_sent == 1)
        [entry] = entries()
        assert (entry["tokens_sent"], entry["done_sent_ns"], entry["peer_left_ns"]) == (1, None, None)
        assert (server.stats.open_connections, server.stats.client_disconnects) == (0, 0)


async def test_ipv6_url() -> None:
    try:
        async with serve(MockConfig(), host="::1") as server:
            assert server.base_url == f"http://[::1]:{server.port}/v1"
    except OSError:
        pytest.skip("no IPv6 here")
