"""Clients people have, unchanged: the official SDK, and `requests` code that splits lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import requests
from openai.types.chat import ChatCompletionMessageParam

from runner.mock.config import MockConfig
from runner.mock.server import Server, serve
from tests.runner.mock.wire import until

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How deep is the river?"}]
ENDLESS = MockConfig(itl_ms=5, tokens=100_000)


@asynccontextmanager
async def sdk(server: Server, key: str = "k") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key=key, max_retries=0) as client:
        yield client


# -- the official SDK


async def test_sdk_streams() -> None:
    async with serve(MockConfig(ttft_ms=2, itl_ms=1)) as server, sdk(server) as client:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="m", messages=MESSAGES, max_tokens=5, stream=True
            )
        ]
        whole = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=5)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 6 + ["length"]
    assert all(chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5


async def test_sdk_include_usage() -> None:
    async with serve(MockConfig()) as server, sdk(server) as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_sdk_accumulating_stream_helper() -> None:
    async with (
        serve(MockConfig()) as server,
        sdk(server) as client,
        client.chat.completions.stream(model="m", messages=MESSAGES, n=2) as stream,
    ):
        final = await stream.get_final_completion()
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]
    assert all(choice.message.content for choice in final.choices)


async def test_sdk_cancels() -> None:
    async with serve(ENDLESS) as server, sdk(server) as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        seen = [await anext(stream) for _ in range(4)]
        await stream.close()
        await until(lambda: server.stats.client_disconnects == 1)
        sent = server.stats.tokens_sent
        await asyncio.sleep(0.03)
        assert server.stats.tokens_sent == sent < 100_000
        assert server.stats.in_flight == 0
    assert all(chunk.usage is None for chunk in seen)


async def test_sdk_cancelled_task_leaves() -> None:
    async with serve(ENDLESS) as server, sdk(server) as client:

        async def read() -> None:
            async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
                pass

        task = asyncio.create_task(read())
        await until(lambda: server.stats.tokens_sent > 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.stats.client_disconnects == 1)


async def test_sdk_errors() -> None:
    async with serve(MockConfig(api_key="right", models=("m",))) as server:
        async with sdk(server, "wrong") as client:
            with pytest.raises(openai.AuthenticationError) as unauthorized:
                await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async with sdk(server, "right") as client:
            with pytest.raises(openai.NotFoundError) as unknown:
                await client.chat.completions.create(model="gpt-x", messages=MESSAGES)
            with pytest.raises(openai.BadRequestError) as bad:
                await client.chat.completions.create(model="m", messages=[])
            assert [model.id async for model in client.models.list()] == ["m"]
    assert unauthorized.value.code == "invalid_api_key"
    assert unknown.value.code == "model_not_found"
    assert bad.value.param == "messages"
    assert bad.value.request_id


async def test_sdk_rate_limit_and_server_error() -> None:
    async with serve(MockConfig(faults={"429": 1.0}, retry_after_s=3)) as server, sdk(server) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert limited.value.code == "rate_limit_exceeded"
    assert limited.value.response.headers["retry-after"] == "3"
    async with serve(MockConfig(faults={"500": 1.0})) as server, sdk(server) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert server.stats.requests == 1


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("400", openai.BadRequestError),
        ("401", openai.AuthenticationError),
        ("403", openai.PermissionDeniedError),
        ("404", openai.NotFoundError),
        ("409", openai.ConflictError),
        ("422", openai.UnprocessableEntityError),
        ("429-quota", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("502", openai.InternalServerError),
        ("529", openai.InternalServerError),
        ("close-before-head", openai.APIConnectionError),
        ("garbage", openai.APIConnectionError),
    ],
)
async def test_sdk_knows_the_refusals(fault: str, raised: type[openai.APIError]) -> None:
    async with serve(MockConfig(faults={fault: 1.0}, fault_first=1)) as server, sdk(server) as client:
        with pytest.raises(raised):
            await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert server.stats.requests == 1
        async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("error-mid", openai.APIError),
        ("engine-killed", openai.APIError),
        ("close", openai.APIConnectionError),
    ],
)
async def test_sdk_meets_errors_inside_a_stream(fault: str, raised: type[openai.APIError]) -> None:
    seen = 0
    async with serve(MockConfig(faults={fault: 1.0}, itl_ms=1, tokens=8)) as server, sdk(server) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(raised):  # noqa: PT012
            async for chunk in stream:
                seen += bool(chunk.choices[0].delta.content)
    assert seen == 4


# A second reader's word that these answers are good ones. The rest of the odd ones it cannot read.
SDK_READS = [
    *("stale", "http-length", "http-close", "http-1xx", "http-odd-chunks", "http-trailer", "gzip", "deflate"),
    *("no-content-type", "wrong-content-type", "reset-after-done", "no-last-chunk", "hold-after-done"),
    *("crlf", "cr", "mixed-ends", "split-crlf", "comments", "comment-flood", "bom", "no-space", "lines"),
    *("messages", "no-blank-line", "no-line-end", "no-done", "bytes", "split-utf8", "one-write"),
    *("huge-event", "line-separators", "role-null", "role-alone", "role-everywhere", "role-never"),
    *("choices-empty", "grouped", "finish-blank", "finish-twice", "finish-unknown", "finish-with-last"),
    *("finish-missing", "usage-with-finish", "usage-everywhere", "usage-twice", "usage-null-last"),
    *("reasoning-content", "reasoning", "two-choices", "late-choice", "error-null", "unknown-keys", "nan"),
    *("huge-number", "duplicate-keys", "lone-surrogate"),
]


async def test_sdk_reads_odd_streams() -> None:
    prompt: ChatCompletionMessageParam = {"role": "user", "content": "How déep is the river 🌊 today?"}
    async with openai.AsyncOpenAI(base_url="http://none", api_key="k", max_retries=0) as one:
        for fault in SDK_READS:
            config = MockConfig(faults={fault: 1.0}, echo=True)
            async with serve(config) as server, asyncio.timeout(10):
                client = one.with_options(base_url=server.base_url)
                text, usage = "", None
                async for chunk in await client.chat.completions.create(
                    model="m", messages=[prompt], stream=True, stream_options={"include_usage": True}
                ):
                    text += "".join(c.delta.content or "" for c in chunk.choices if c.index == 0)
                    usage = chunk.usage or usage
            assert text == prompt["content"], fault
            assert usage is not None, fault
            assert usage.completion_tokens == 7, fault


async def test_sdk_retries_by_the_header() -> None:
    async with serve(MockConfig(faults={"429": 0.5}, retry_after_s=0, seed=2)) as server:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=20) as client:
            for _ in range(4):
                await client.chat.completions.create(model="m", messages=MESSAGES)
        assert server.stats.by_status["200"] == 4


async def test_sdk_text_completions() -> None:
    async with serve(MockConfig()) as server, sdk(server) as client:
        whole = await client.completions.create(model="m", prompt=["a", "b"], max_tokens=4)
        stream = await client.completions.create(
            model="m", prompt="a", max_tokens=4, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert len(whole.choices) == 2
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


async def test_synchronous_sdk() -> None:
    def work(base_url: str) -> tuple[int, str | None]:
        with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
            with client.chat.completions.create(
                model="m", messages=MESSAGES, max_tokens=6, stream=True
            ) as stream:
                tokens = sum(bool(chunk.choices[0].delta.content) for chunk in stream)
            whole = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=6)
            with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as cut:
                next(iter(cut))
            return tokens, whole.choices[0].finish_reason

    async with serve(MockConfig(ttft_ms=20)) as server:
        assert await asyncio.to_thread(work, server.base_url) == (6, "length")
        await until(lambda: server.stats.client_disconnects == 1)


# -- requests, split on `data: `


def post(base_url: str, **more: Any) -> requests.Response:
    body = {"model": "m", "messages": MESSAGES, "stream": True} | more
    return requests.post(f"{base_url}/chat/completions", json=body, stream=True, timeout=30)


def deltas(response: requests.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if not line.startswith(b"data: "):
            continue
        data = line[len(b"data: ") :]
        if data == b"[DONE]":
            return
        yield json.loads(data)


async def test_requests_streams_and_gets_usage() -> None:
    def work(base_url: str) -> tuple[str, Any, str]:
        with post(base_url, max_tokens=50, stream_options={"include_usage": True}) as response:
            response.raise_for_status()
            chunks = list(deltas(response))
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
        with post(base_url, max_tokens=50, stream=False) as response:
            whole = response.json()["choices"][0]["message"]["content"]
        return text, chunks[-1]["usage"], whole

    async with serve(MockConfig(itl_ms=1)) as server:
        text, usage, whole = await asyncio.to_thread(work, server.base_url)
    assert text == whole
    assert usage["completion_tokens"] == 50


async def test_requests_cancels() -> None:
    def work(base_url: str) -> int:
        seen = 0
        with post(base_url) as response:
            for chunk in deltas(response):
                seen += 1
                assert "usage" not in chunk
                if seen == 5:
                    break
        return seen

    async with serve(ENDLESS) as server:
        assert await asyncio.to_thread(work, server.base_url) == 5
        await until(lambda: server.stats.client_disconnects == 1)
        assert server.stats.tokens_sent < 100_000


async def test_requests_sees_refusals_and_resets() -> None:
    def refused(base_url: str) -> int:
        with post(base_url) as response:
            return response.status_code

    def broken(base_url: str) -> None:
        with post(base_url) as response:
            list(deltas(response))

    async with serve(MockConfig(faults={"429": 1.0})) as server:
        assert await asyncio.to_thread(refused, server.base_url) == 429
    async with serve(MockConfig(faults={"reset": 1.0}, itl_ms=1)) as server:
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            await asyncio.to_thread(broken, server.base_url)
