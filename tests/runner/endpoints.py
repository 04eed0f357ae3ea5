"""Endpoints that behave in the ways a probe has to tell apart: small servers over aiohttp."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aiohttp import web

from tests.runner.streams import delta, sse

PAGE = b"<!doctype html><title>Welcome</title>"


@dataclass(kw_only=True)
class Endpoint:
    """How one behaves. The default is a plain, good server under /v1."""

    prefix: str = "/v1"
    models: tuple[str, ...] | None = ("m",)
    strict: bool = True  # other models are refused
    key: str | None = None
    moved_to: str | None = None
    page: bool = False  # a web page at every path that is none of its own, with status 200
    refuses: tuple[str, ...] = ()  # fields of a body that are answered with 400
    in_band: bool = False  # errors come inside a stream
    limit: str | None = "max_tokens"  # the field that is heeded
    usage: str = "asked"  # or "always", "never", "every chunk"
    usage_more: Callable[[int], dict[str, Any]] = lambda _: {}  # of the n-th answer
    streamed: bool = True
    role: bool = True
    done: bool = True
    one_write: bool = False
    a_chunk: int = 1  # tokens in one
    token: Callable[[str], dict[str, Any]] = delta
    finish: str = "length"
    headers: dict[str, str] = field(default_factory=dict)
    fails_after: int | None = None  # answers; those after them are a 429
    gap_s: float = 0.0
    waits_after: int | None = None  # chunks; what follows comes when nobody is there any more
    slots: bool = False  # tells its busy slots at /slots
    metrics: bool = False  # the same, in Prometheus text
    one_slot: bool = False  # answers one request at a time
    honours: bool = True  # stops when its client leaves
    keep_alive: bool = True
    bodies: list[dict[str, Any]] = field(default_factory=list)  # what it was asked
    paths: list[str] = field(default_factory=list)
    running: int = 0
    answers: int = 0


def app_of(endpoint: Endpoint) -> web.Application:
    app = web.Application()
    lock = asyncio.Lock()

    async def handle(request: web.Request) -> web.StreamResponse:
        endpoint.paths.append(f"{request.method} {request.path}")
        response = await _answer(endpoint, request, lock)
        if not response.prepared and not endpoint.keep_alive:
            response.force_close()
        return response

    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _error(status: int, message: str, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "code": code}
    return web.json_response({"error": error}, status=status)


async def _answer(endpoint: Endpoint, request: web.Request, lock: asyncio.Lock) -> web.StreamResponse:
    if request.path == "/slots" and endpoint.slots:
        return web.json_response([{"id": 0, "is_processing": endpoint.running > 0, "prompt": "secret"}])
    if request.path == "/metrics" and endpoint.metrics:
        name = "vllm:num_requests_running"
        return web.Response(text=f'# TYPE {name} gauge\n{name}{{a="b"}} {endpoint.running}.0\n')
    if endpoint.key is not None and request.headers.get("Authorization") != f"Bearer {endpoint.key}":
        return _error(401, f"Incorrect key: {request.headers.get('Authorization')}")
    path = request.path.removeprefix(endpoint.prefix) if request.path.startswith(endpoint.prefix) else None
    if path == "/models" and request.method == "GET" and endpoint.models is not None:
        return web.json_response({"data": [{"id": name} for name in endpoint.models]})
    if path not in {"/chat/completions", "/completions"} or request.method != "POST":
        if endpoint.page:
            return web.Response(body=PAGE, content_type="text/html")
        return web.json_response({"detail": "Not Found"}, status=404)
    if endpoint.moved_to is not None:
        return web.Response(status=307, headers={"Location": endpoint.moved_to})
    body = await request.json()
    endpoint.bodies.append(body)
    return _refusal(endpoint, body) or await _completion(endpoint, request, body, lock)


def _refusal(endpoint: Endpoint, body: dict[str, Any]) -> web.Response | None:
    endpoint.answers += 1
    if endpoint.fails_after is not None and endpoint.answers > endpoint.fails_after:
        return _error(429, "slow down")
    refused = next((name for name in endpoint.refuses if name in body), None)
    refusal = None
    if refused is not None:
        refusal = _error(400, f"Unsupported parameter: {refused}")
    elif endpoint.strict and endpoint.models is not None and body["model"] not in endpoint.models:
        refusal = _error(404, "no such model", "model_not_found")
    elif isinstance(body.get("temperature"), str):
        refusal = _error(400, "temperature is no number")
    if refusal is not None and endpoint.in_band:
        assert isinstance(refusal.body, bytes)
        return web.Response(body=sse(refusal.body), content_type="text/event-stream")
    return refusal


async def _completion(
    endpoint: Endpoint, request: web.Request, body: dict[str, Any], lock: asyncio.Lock
) -> web.StreamResponse:
    tokens = body.get(endpoint.limit or "", 400)
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    usage |= endpoint.usage_more(len(endpoint.bodies))
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    tells = endpoint.usage in {"always", "every chunk"} or (endpoint.usage == "asked" and asked)
    if not endpoint.streamed:
        message = {"role": "assistant", "content": "word " * tokens}
        choice = {"index": 0, "message": message, "finish_reason": endpoint.finish}
        return web.json_response({"choices": [choice], **({"usage": usage} if tells else {})})
    events = [delta(role="assistant", content="")] if endpoint.role else []
    for n in range(0, tokens, endpoint.a_chunk):
        chunk = endpoint.token(" word" * endpoint.a_chunk)
        if endpoint.usage == "every chunk":
            chunk = {**chunk, "usage": {**usage, "completion_tokens": n + endpoint.a_chunk}}
        events.append(chunk)
    events.append(delta(finish=endpoint.finish))
    if tells:
        events.append({"choices": [], "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **endpoint.headers})
    if not endpoint.keep_alive:
        response.force_close()
    if endpoint.one_slot:
        async with lock:
            await _send(endpoint, request, response, events)
    else:
        await _send(endpoint, request, response, events)
    return response


async def _send(
    endpoint: Endpoint, request: web.Request, response: web.StreamResponse, events: list[dict[str, Any]]
) -> None:
    endpoint.running += 1
    began, sent = monotonic(), 0
    try:
        await response.prepare(request)
        if endpoint.one_write:
            await response.write(sse(*events, done=endpoint.done))
            return
        for event in events:
            await response.write(sse(event))
            sent += 1
            await asyncio.sleep(endpoint.gap_s)
            while sent == endpoint.waits_after and request.transport is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if endpoint.done:
            await response.write(sse(done=True))
    except ConnectionError:
        if not endpoint.honours:
            # It goes on for longer than the answer would have taken, at the pace so far.
            await asyncio.sleep(1.3 * (256 - sent) * (monotonic() - began) / max(sent, 1))
    finally:
        endpoint.running -= 1


@asynccontextmanager
async def listening(endpoint: Endpoint) -> AsyncIterator[str]:
    """The endpoint in this loop; gives its URL, without a path."""
    runner = web.AppRunner(app_of(endpoint), access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def in_thread(endpoint: Endpoint) -> Iterator[str]:
    """The same in a loop of its own, for whole commands."""
    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def main() -> None:
        stop = asyncio.Event()
        async with listening(endpoint) as url:
            ready.put((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    url, loop, stop = ready.get(timeout=30)
    try:
        yield url
    finally:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)


def text_of(body: dict[str, Any]) -> str:
    """The prompt of a body."""
    return str(body["prompt"] if "prompt" in body else json.dumps(body["messages"]))
