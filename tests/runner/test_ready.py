from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from runner import ready
from runner.fleet import Endpoint
from runner.ready import Readiness, ready_body, wait_ready
from scenarios.request import Request
from tests.runner.streams import HELLO, Script, chunked, client_of, serving, sized, sse

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


async def waited(script: Script, limit_s: float | None = 30.0) -> tuple[Readiness, list[str], int]:
    said: list[str] = []
    async with serving(script) as server, client_of(server.url) as client:
        endpoint = Endpoint(client, server.url)
        async with asyncio.timeout(60):
            told = await wait_ready([endpoint], "chat", b"{}", limit_s, said.append)
        return told, said, len(server.peers)


async def test_until_it_answers() -> None:
    told, said, asked = await waited(script_of(BUSY, b"", BUSY, sized(b"no", "404 Not Found"), GOOD))
    assert (told.error, told.requests, asked) == (None, 5, 5)
    assert said == ["not ready for 0 s: HTTP 503: loading the model"]  # and not once an attempt


@pytest.mark.parametrize("status", ["401 No", "402 No", "400 No", "307 There"])
async def test_what_will_not_pass_is_not_waited_for(status: str) -> None:
    told, _, asked = await waited(script_of(sized(b"", status), GOOD))
    assert asked == 1
    assert told.error is not None


async def test_the_time_is_limited() -> None:
    async def silent(peer: Any) -> None:
        await peer.request()
        await peer.left()

    told, _, asked = await waited(silent, 0.05)
    assert asked == 1
    assert told.error is not None
    assert "no answer within 0.05 s" in told.error.message


async def test_one_endpoint_of_two_is_enough() -> None:
    async with (
        serving(script_of(GOOD)) as server,
        client_of(server.url) as good,
        client_of("http://127.0.0.1:9/v1") as dead,
    ):
        told = await wait_ready(
            [Endpoint(dead, "d"), Endpoint(good, "g")], "chat", b"{}", 0.5, lambda _: None
        )
    assert told.error is None


def test_the_request_is_one_of_the_run_s_with_an_answer_of_one_token() -> None:
    body = msgspec.json.decode(ready_body(request(max_tokens=500, n=3), {"stream": True}))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "stream": True,
    }
    assert msgspec.json.decode(ready_body(request(max_completion_tokens=9), {}))["max_completion_tokens"] == 1
    assert msgspec.json.decode(ready_body(request(), {}))["max_tokens"] == 1
