"""Streams of every class servers have been seen to send, and a server that sends exact bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from runner.client import Client, Outcome
from runner.record import ErrorKind
from runner.stream import Stream
from runner.target import Redactor, make_target, secrets_of
from runner.timeouts import Timeouts
from runner.transport import open_session

OK = None
_ID = {"id": "c-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}


# -- the JSON of chunks


def delta(content: Any = None, *, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chat chunk with one choice."""
    inner = {**({} if content is None else {"content": content}), **more}
    return {**_ID, "choices": [{"index": index, "delta": inner, "finish_reason": finish}]}


def usage(completion: int, prompt: int = 7) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def sse(*payloads: Any, done: bool = False) -> bytes:
    """Payloads as events: bytes as they are, (type, payload) with an `event:` line, all else as JSON."""
    out = []
    for payload in payloads:
        head, body = b"", payload
        if isinstance(body, tuple):
            head, body = f"event: {body[0]}\n".encode(), body[1]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        out.append(head + b"data: " + data + b"\n\n")
    return b"".join(out) + (b"data: [DONE]\n\n" if done else b"")


HELLO = [
    delta(role="assistant", content=""),
    delta("Hel"),
    delta("lo"),
    delta(finish="stop"),
    {**_ID, "choices": [], "usage": usage(2)},
]


@dataclass(frozen=True)
class Case:
    """A body, and what a correct client makes of it (`kind`: the error, None for ok)."""

    body: bytes
    kind: ErrorKind | None = OK
    text: str = "Hello"
    finish: str | None = "stop"
    tokens: int | None = None  # token-bearing chunks
    usage: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)  # other fields of choice 0


def _call(**part: Any) -> dict[str, Any]:
    return delta(tool_calls=[part])


def _fn(name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    out = {}
    if name is not None:
        out["name"] = name
    if arguments is not None:
        out["arguments"] = arguments
    return out


def _tool(ident: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


_NULL_MORE: dict[str, Any] = {"reasoning": None, "refusal": None, "tool_calls": None}
_UNFINISHED = HELLO[:3]

CORPUS: dict[str, Case] = {
    # good ones
    "plain": Case(sse(*HELLO, done=True), tokens=2, usage=usage(2), more=_NULL_MORE),
    "crlf": Case(sse(*HELLO, done=True).replace(b"\n", b"\r\n"), tokens=2, usage=usage(2)),
    "cr": Case(sse(*HELLO, done=True).replace(b"\n", b"\r"), tokens=2, usage=usage(2)),
    "mixed line ends": Case(
        sse(*HELLO[:2]) + sse(*HELLO[2:3]).replace(b"\n", b"\r\n") + sse(*HELLO[3:]).replace(b"\n", b"\r"),
        tokens=2,
        usage=usage(2),
    ),
    "bom": Case(b"\xef\xbb\xbf" + sse(*HELLO, done=True), tokens=2, usage=usage(2)),
    "no space": Case(sse(*HELLO, done=True).replace(b"data: ", b"data:"), tokens=2, usage=usage(2)),
    "two spaces": Case(sse(*HELLO, done=True).replace(b"data: ", b"data:  "), tokens=2, usage=usage(2)),
    "comments": Case(
        b": OPENROUTER PROCESSING\n\n:\n\n"
        + sse(*HELLO[:2])
        + b": ping - 2024\r\n\r\n"
        + sse(*HELLO[2:], done=True),
        tokens=2,
        usage=usage(2),
    ),
    "comment as data": Case(sse(b": OPENROUTER PROCESSING", *HELLO, done=True), tokens=2, usage=usage(2)),
    "fields without data": Case(
        b"retry: 3000\n\nid: 7\n\nevent: ping\n\ndata:\n\ndata\n\n" + sse(*HELLO, done=True),
        tokens=2,
        usage=usage(2),
    ),
    "typed ping with data": Case(
        sse(("ping", {"type": "ping"}), *HELLO, ("ping", b"x"), done=True), tokens=2, usage=usage(2)
    ),
    "message events": Case(sse(*[("message", p) for p in HELLO], done=True), tokens=2, usage=usage(2)),
    "json over several lines": Case(
        b"".join(
            b"data: " + json.dumps(p, indent=1).encode().replace(b"\n", b"\ndata: ") + b"\n\n" for p in HELLO
        )
        + b"data: [DONE]\n\n",
        tokens=2,
        usage=usage(2),
    ),
    "line separators inside json": Case(
        b'data: {"choices":[{"delta":{"content":"a\xe2\x80\xa8b\xc2\x85c\xe2\x80\xa9d"}'
        b',"finish_reason":"stop"}]}\n\n',
        text="a\u2028b\x85c\u2029d",
        tokens=1,
    ),
    "invalid utf-8": Case(
        b'data: {"choices":[{"delta":{"content":"a\xffb"},"finish_reason":"stop"}]}\n\n',
        text="a\ufffdb",
        tokens=1,
    ),
    "last event without blank line": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(HELLO[3]).encode() + b"\n", tokens=2
    ),
    "last event without line end": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(HELLO[3]).encode(), tokens=2
    ),
    "done without line end": Case(sse(*_UNFINISHED) + b"data: [DONE]", finish=None, tokens=2),
    "done without space": Case(sse(*_UNFINISHED) + b"data:[DONE]\n\n", finish=None, tokens=2),
    "finish, no done": Case(sse(*HELLO), tokens=2, usage=usage(2)),
    "finish, no usage": Case(sse(*HELLO[:4], done=True), tokens=2),
    "done, no finish": Case(sse(*_UNFINISHED, done=True), finish=None, tokens=2),
    "finish, no text": Case(sse(delta(role="assistant"), delta(finish="stop"), done=True), text="", tokens=0),
    "finish after done": Case(sse(*_UNFINISHED, done=True) + sse(delta(finish="stop")), finish=None),
    "error after done": Case(sse(*HELLO, done=True) + sse({"error": {"message": "late"}}), usage=usage(2)),
    "last token in the finish chunk": Case(sse(delta("Hel"), delta("lo", finish="length")), finish="length"),
    "no finish keys at all until the end": Case(
        sse({"choices": [{"delta": {"content": "Hello"}}]}, {"choices": [{"finish_reason": "stop"}]}),
        tokens=1,
    ),
    "finish reasons that are none": Case(
        sse(delta("Hel", finish=""), delta("lo", finish="null"), delta(finish="stop"), delta(finish=None)),
        tokens=2,
    ),
    "last finish reason wins": Case(
        sse(delta("Hello", finish="stop"), delta(finish="tool_calls")), finish="tool_calls"
    ),
    "unknown finish reason": Case(sse(delta("Hello", finish="eos_token")), finish="eos_token"),
    "text after the finish": Case(sse(delta("Hel", finish="stop"), delta("lo")), tokens=2),
    "azure filters": Case(
        sse(
            {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{}]},
            delta(role="assistant", content="Hel"),
            {
                **_ID,
                "choices": [{"index": 0, "delta": None, "finish_reason": None, "content_filter_results": {}}],
            },
            delta("lo", finish="stop"),
            {**_ID, "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"a": 1}}]},
            done=True,
        ),
        tokens=2,
    ),
    "choices null and missing": Case(
        sse({"choices": None}, {"id": "x"}, *HELLO, done=True), tokens=2, usage=usage(2)
    ),
    "odd types": Case(
        sse(
            7,
            None,
            "a comment",
            [1],
            {"choices": {"0": 1}},
            {"choices": [None, 3, {"index": "0", "delta": []}]},
            delta(5),
            *HELLO,
            done=True,
        ),
        tokens=2,
        usage=usage(2),
    ),
    "role on every chunk": Case(
        sse(
            delta("Hel", role="assistant"),
            delta("lo", role="assistant"),
            delta(role="assistant", finish="stop"),
        ),
        tokens=2,
    ),
    "role chunk with null content": Case(
        sse({**_ID, "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}, *HELLO[1:]),
        tokens=2,
        usage=usage(2),
    ),
    "obfuscation": Case(
        sse({**delta("Hello", finish="stop"), "obfuscation": "xyz", "service_tier": "default"}), tokens=1
    ),
    "usage in the finish chunk": Case(
        sse(*_UNFINISHED, {**delta(finish="stop"), "usage": usage(2)}, done=True), usage=usage(2), tokens=2
    ),
    "usage twice": Case(
        sse(*_UNFINISHED, {**delta(finish="stop"), "usage": usage(9)}, HELLO[4], done=True),
        usage=usage(2),
        tokens=2,
    ),
    "usage cumulative": Case(
        sse(
            {**delta("Hel"), "usage": usage(3)},
            {**delta("lo"), "usage": usage(4)},
            {**delta(finish="stop"), "usage": usage(4)},
            done=True,
        ),
        usage=usage(4),
        tokens=2,
    ),
    "usage null afterwards": Case(
        sse(*HELLO[:4], {**_ID, "choices": [], "usage": usage(2)}, {**_ID, "choices": [], "usage": None}),
        usage=usage(2),
        tokens=2,
    ),
    "usage null everywhere": Case(sse(*[{**p, "usage": None} for p in HELLO]), tokens=2),
    "usage under a vendor key": Case(
        sse(*HELLO[:3], {**delta(finish="stop"), "x_groq": {"id": "r", "usage": usage(2)}}, done=True),
        usage=usage(2),
        tokens=2,
    ),
    "usage without choices": Case(sse(*HELLO[:4], {"usage": usage(2)}), usage=usage(2), tokens=2),
    "usage partial": Case(
        sse(*HELLO[:4], {**_ID, "choices": [], "usage": {"completion_tokens": 2}}),
        usage={"completion_tokens": 2},
        tokens=2,
    ),
    "nan and huge numbers": Case(
        b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop",'
        b'"p":NaN,"q":-Infinity}],"big":' + b"9" * 40 + b"}\n\n",
        tokens=1,
    ),
    "duplicate keys": Case(
        b'data: {"choices":[{"delta":{"content":"no","content":"Hello"},"finish_reason":"stop"}]}\n\n',
        tokens=1,
    ),
    "lone surrogate": Case(
        b'data: {"choices":[{"delta":{"content":"a\\ud800b"},"finish_reason":"stop"}]}\n\n',
        text="a\ud800b",
        tokens=1,
    ),
    "surrogates split over chunks": Case(
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}\n\n',
        text="\ud83d\ude00",
        tokens=2,
    ),
    # the other channels
    "reasoning_content": Case(
        sse(delta(reasoning_content="thi"), delta(reasoning_content="nk", content=""), *HELLO, done=True),
        tokens=4,
        usage=usage(2),
        more={"reasoning": "think"},
    ),
    "reasoning": Case(
        sse(delta(reasoning="think", content=""), delta("Hello", reasoning="", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "both reasoning keys": Case(
        sse(delta(reasoning="think", reasoning_content="think"), delta("Hello", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "reasoning, first key empty": Case(
        sse(delta(reasoning_content="", reasoning="think"), delta("Hello", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "think inside content": Case(
        sse(delta("<think>x</think>"), delta("y", finish="stop")), text="<think>x</think>y", tokens=2
    ),
    "refusal": Case(
        sse(delta(refusal="I "), delta(refusal="won't", finish="stop")),
        text="",
        tokens=2,
        more={"refusal": "I won't"},
    ),
    "content parts": Case(
        sse(
            delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta([{"type": "reasoning", "text": "m"}, {"type": "text", "text": "Hel"}]),
            delta(["lo"], finish="stop"),
            delta([]),
        ),
        tokens=3,
        more={"reasoning": "hmm"},
    ),
    "tool calls by index": Case(
        sse(
            _call(index=0, id="a", type="function", function=_fn("f", "")),
            _call(index=0, function=_fn(arguments='{"x"')),
            _call(index=1, id="b", type="function", function=_fn("g", "")),
            _call(index=0, function=_fn(arguments=":1}")),
            _call(index=1, function=_fn(arguments="{}")),
            delta(finish="tool_calls"),
            done=True,
        ),
        text="",
        finish="tool_calls",
        tokens=5,
        more={"tool_calls": [_tool("a", "f", '{"x":1}'), _tool("b", "g", "{}")]},
    ),
    "tool calls without index": Case(
        sse(
            _call(id="a", type="function", function=_fn("f", '{"x"')),
            _call(function=_fn(arguments=":1}")),
            _call(id="b", type="function", function=_fn("g", "{}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=3,
        more={"tool_calls": [_tool("a", "f", '{"x":1}'), _tool("b", "g", "{}")]},
    ),
    "tool calls all with index 0": Case(
        sse(
            delta(
                tool_calls=[
                    {"index": 0, "id": "a", "type": "function", "function": _fn("f", "{}")},
                    {"index": 0, "id": "b", "type": "function", "function": _fn("f", '{"y":2}')},
                ]
            ),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [_tool("a", "f", "{}"), _tool("b", "f", '{"y":2}')]},
    ),
    "tool calls, id and name on every piece": Case(
        sse(
            _call(index=0, id="a", type="function", function=_fn("f", '{"x"')),
            _call(index=0, id="a", type="function", function=_fn("f", ":1}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=2,
        more={"tool_calls": [_tool("a", "f", '{"x":1}')]},
    ),
    "tool calls, id null or empty afterwards": Case(
        sse(
            _call(index=0, id="a", type="function", function=_fn("f", '{"x"')),
            _call(index=0, id=None, type=None, function={"name": None, "arguments": ":"}),
            _call(index=0, id="", type="", function=_fn("", "1}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=3,
        more={"tool_calls": [_tool("a", "f", '{"x":1}')]},
    ),
    "tool call whose arguments are an object": Case(
        sse(_call(index=0, id="a", function={"name": "f", "arguments": {"x": "é"}}), delta(finish="stop")),
        text="",
        tokens=1,
        more={"tool_calls": [_tool("a", "f", '{"x": "é"}')]},
    ),
    "tool call that is only empty strings": Case(
        sse(
            _call(index=0, id="a", type="function", function=_fn("", "")),
            _call(index=0, function=_fn("f", "{}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [_tool("a", "f", "{}")]},
    ),
    "old function call": Case(
        sse(
            delta(function_call=_fn("f", "{")),
            delta(function_call=_fn(arguments="}")),
            delta(finish="function_call"),
        ),
        text="",
        finish="function_call",
        tokens=2,
        more={"tool_calls": [_tool(None, "f", "{}")]},
    ),
    "several choices": Case(
        sse(
            delta("Hel"),
            delta("Bye", index=1),
            delta("lo", finish="stop"),
            delta("!", index=1, finish="length"),
            done=True,
        ),
        tokens=4,
    ),
    "two choices in one chunk": Case(
        sse(
            {
                "choices": [
                    {"index": 1, "delta": {"content": "b"}},
                    {"index": 0, "delta": {"content": "Hello"}},
                ]
            },
            {"choices": [{"index": 1, "finish_reason": "stop"}, {"index": 0, "finish_reason": "stop"}]},
        ),
        tokens=1,
    ),
    "completions api": Case(
        sse(
            {
                **_ID,
                "object": "text_completion",
                "choices": [{"index": 0, "text": "Hel", "finish_reason": None}],
            },
            {**_ID, "choices": [{"index": 0, "text": "lo", "logprobs": None, "finish_reason": None}]},
            {**_ID, "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
            done=True,
        ),
        finish="length",
        tokens=2,
    ),
    "timings and unknown keys": Case(
        sse(*HELLO[:3], {**delta(finish="stop"), "timings": {"predicted_n": 2}, "nonsense": [1]}), tokens=2
    ),
    "error null": Case(sse(*[{**p, "error": None} for p in HELLO], done=True), tokens=2, usage=usage(2)),
    # failures
    "nothing": Case(b"", ErrorKind.EMPTY_STREAM, "", None),
    "only comments": Case(b": a\n\n: b\n\n", ErrorKind.EMPTY_STREAM, "", None),
    "only done": Case(sse(done=True), ErrorKind.EMPTY_STREAM, "", None),
    "role, then done": Case(sse(HELLO[0], done=True), ErrorKind.EMPTY_STREAM, "", None),
    "only usage": Case(
        sse({"choices": [], "usage": usage(0)}), ErrorKind.EMPTY_STREAM, "", None, usage=usage(0)
    ),
    "cut": Case(sse(*_UNFINISHED), ErrorKind.TRUNCATED, "Hello", None, tokens=2),
    "cut inside an event": Case(
        sse(*_UNFINISHED) + b'data: {"choices":[{"delta"', ErrorKind.TRUNCATED, "Hello", None
    ),
    "cut inside done": Case(sse(*_UNFINISHED) + b"data: [DON", ErrorKind.TRUNCATED, "Hello", None),
    "finish reason null as a word": Case(
        sse(delta("Hello"), delta(finish="null")), ErrorKind.TRUNCATED, "Hello", None
    ),
    "finish reason empty": Case(sse(delta("Hello"), delta(finish="")), ErrorKind.TRUNCATED, "Hello", None),
    "one choice of two unfinished": Case(
        sse(delta("Hello", finish="stop"), delta("By", index=1)), ErrorKind.TRUNCATED, "Hello"
    ),
    "abort": Case(
        sse(*_UNFINISHED, delta(finish="abort"), done=True), ErrorKind.SERVER_ERROR, finish="abort"
    ),
    "finish_reason error": Case(sse(delta("Hello", finish="error")), ErrorKind.SERVER_ERROR, finish="error"),
    "insufficient_system_resource": Case(
        sse(delta("Hello", finish="insufficient_system_resource"), done=True),
        ErrorKind.SERVER_ERROR,
        finish="insufficient_system_resource",
    ),
    "error object first": Case(sse({"error": {"message": "m"}}, done=True), ErrorKind.STREAM_ERROR, "", None),
    "error object mid-stream": Case(
        sse(*_UNFINISHED, {"error": {"message": "x", "type": "overloaded_error"}}),
        ErrorKind.OVERLOADED,
        "Hello",
        None,
        tokens=2,
    ),
    "error object with choices": Case(
        sse(*_UNFINISHED, {**delta(finish="error"), "error": {"code": 502, "message": "x"}}, done=True),
        ErrorKind.SERVER_ERROR,
        "Hello",
        None,
    ),
    "error string": Case(sse(*_UNFINISHED, {"error": "boom"}), ErrorKind.STREAM_ERROR, "Hello", None),
    "error after the finish": Case(
        sse(*HELLO, {"error": "boom"}, done=True), ErrorKind.STREAM_ERROR, usage=usage(2)
    ),
    "error code as a string": Case(
        sse({"error": {"message": "x", "type": "None", "param": "None", "code": "500"}}),
        ErrorKind.SERVER_ERROR,
        "",
        None,
    ),
    "rate limit in-band": Case(sse({"error": {"code": 429, "message": "x"}}), ErrorKind.RATE_LIMIT, "", None),
    "quota in-band": Case(
        sse({"error": {"type": "insufficient_quota", "code": 429, "message": "x"}}), ErrorKind.QUOTA, "", None
    ),
    "error event, json": Case(
        sse(*_UNFINISHED, ("error", {"message": "x", "type": "server_error"}), done=True),
        ErrorKind.SERVER_ERROR,
        "Hello",
        None,
    ),
    "error event, text": Case(sse(("error", b"upstream gone")), ErrorKind.STREAM_ERROR, "", None),
    "error event, string": Case(sse(("error", "upstream gone")), ErrorKind.STREAM_ERROR, "", None),
    "top-level error object": Case(
        sse({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}),
        ErrorKind.BAD_REQUEST,
        "",
        None,
    ),
    "top-level detail": Case(sse({"detail": "model is loading"}), ErrorKind.STREAM_ERROR, "", None),
    "error line without data": Case(
        sse(*_UNFINISHED) + b'{"error": {"message": "x", "code": 503}}\n\n',
        ErrorKind.OVERLOADED,
        "Hello",
        None,
    ),
    "plain text where json should be": Case(
        sse(*_UNFINISHED, b"Internal Server Error", done=True), ErrorKind.BAD_JSON, "Hello", None
    ),
    "half an event": Case(sse(*_UNFINISHED, b'{"choices":[', done=True), ErrorKind.BAD_JSON, "Hello", None),
    "nested too deep": Case(
        sse(*_UNFINISHED, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, done=True),
        ErrorKind.BAD_JSON,
        "Hello",
        None,
    ),
}


# -- a server whose every byte is the test's


class Peer:
    """One accepted connection, as the server's script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number  # of the connection, from 0
        self.gone = asyncio.Event()  # the client closed it

    async def request(self) -> tuple[bytes, bytes]:
        """Read one request: head and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        return head, await self._reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces, each in a write of its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def left(self) -> None:
        """Wait until the client closes."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass
        self.gone.set()

    def reset(self) -> None:
        """Close with a TCP reset."""
        # Lingering for no time: what is unsent is thrown away, and the client sees a reset.
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Wait until the transport is gone, so that nothing is left open."""
        self._writer.close()
        await self._writer.wait_closed()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Runs a script for every connection."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []
        self.port = 0
        self.failure: BaseException | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        except Exception as exc:  # noqa: BLE001 - told by the fixture
            self.failure = exc
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for peer in self.peers:
            with suppress(ConnectionError):
                await peer.closed()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    """The server, listening."""
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.close()
        await listener.wait_closed()
    if server.failure is not None:
        raise server.failure


# -- responses


def head(status: str = "200 OK", content_type: str | None = "text/event-stream", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked_head(content_type: str | None = "text/event-stream", **headers: str) -> bytes:
    return head("200 OK", content_type, Transfer_Encoding="chunked", **headers)


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def chunked(body: bytes, **headers: str) -> bytes:
    """A whole chunked response of one chunk."""
    return chunked_head(**headers) + (piece(body) if body else b"") + END


def sized(body: bytes, status: str = "200 OK", content_type: str | None = None, **headers: str) -> bytes:
    """A whole response with Content-Length; JSON unless said otherwise."""
    return head(status, content_type or "application/json", Content_Length=str(len(body)), **headers) + body


def answering(*responses: bytes) -> Script:
    """A script that answers the n-th request of each connection with the n-th response, the last for ever."""

    async def script(peer: Peer) -> None:
        number = 0
        while True:
            await peer.request()
            await peer.send(responses[min(number, len(responses) - 1)])
            number += 1

    return script


# -- the client under test

NEVER = Timeouts(connect=None, first_token=None, token_gap=None, byte_idle=None, total=None)
KEY = "sk-very-secret-0123456789"
CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'


@asynccontextmanager
async def client_of(
    url: str,
    timeouts: Timeouts = NEVER,
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
    keep_headers: tuple[str, ...] = (),
) -> AsyncIterator[Client]:
    """A client of one target, with a session of its own."""
    target = make_target(url, key, headers)
    session = open_session(target.headers)
    try:
        redact = Redactor(secrets_of(target, url, key, headers or {}))
        yield Client(session, target, timeouts, redact, keep_headers)
    finally:
        await session.close()
        await asyncio.sleep(0)


async def attempt(client: Client, *, fresh: bool = False, body: bytes = CHAT) -> tuple[Stream, Outcome]:
    """One attempt that must end by itself: a hang fails the test here and not at its time-out."""
    async with asyncio.timeout(30):
        return await client.attempt("chat", body, lambda _: None, fresh=fresh)


async def ask(script: Script, timeouts: Timeouts = NEVER, **options: Any) -> tuple[Stream, Outcome]:
    """One attempt against a server of its own."""
    async with serving(script) as server, client_of(server.url, timeouts, **options) as client:
        return await attempt(client)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails after 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
