"""Streams of every class servers have been seen to send, and a server that sends exact bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from runner.client import Client, Outcome
from runner.redact import Redactor, secrets_of
from runner.stream import Stream
from runner.target import make_target
from runner.timeouts import Timeouts
from runner.transport import open_session
from tests.runner.streams_bad import BAD
from tests.runner.streams_calls import CALLS
from tests.runner.streams_errors import IN_BAND
from tests.runner.streams_framing import FRAMING
from tests.runner.streams_gateways import GATEWAYS
from tests.runner.streams_good import GOOD
from tests.runner.streams_json import HELLO, Case, delta, sse, usage
from tests.runner.streams_vendors import VENDORS

__all__ = ["CORPUS", "HELLO", "delta", "sse", "usage"]  # besides what is made here

CORPUS: dict[str, Case] = {**GOOD, **VENDORS, **GATEWAYS, **CALLS, **FRAMING, **BAD, **IN_BAND}
# All but those that are too large to be cut everywhere.
HANDY = [name for name, case in CORPUS.items() if len(case.body) < 50_000]

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

    async def head(self) -> bytes:
        """Read the head of a request that has no body, or none that matters."""
        return await self._reader.readuntil(b"\r\n\r\n")

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
    stop_after: int | None = None,
) -> AsyncIterator[Client]:
    """A client of one target, with a session of its own."""
    target = make_target(url, key, headers)
    session = open_session(target.headers)
    try:
        redact = Redactor(secrets_of(target, url, key, headers or {}))
        yield Client(session, target, timeouts, redact, keep_headers, stop_after=stop_after)
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
