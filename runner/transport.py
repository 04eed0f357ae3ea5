"""The aiohttp session, and the seam under it where bytes are stamped as the loop hands them over.

aiohttp would wake a task for every read; here the protocol itself stamps the bytes, drains the response body
in the same callback and gives both to a `Sink`, so that a time is that of arrival and not of a task's turn.
The seam (`TCPConnector._factory`, `ResponseHandler`, `ClientRequest.send`) is not public: the version of
aiohttp is pinned, and tests/runner/test_transport_canary.py says what has moved when it does.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic_ns
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from runner.sse import TooLarge
from runner.unpack import Corrupt, CutShort, Unpacker, can_undo, encodings

# uvicorn closes idle connections after 5 s, and says so nowhere: let go before it does.
KEEP_ALIVE_S = 4.0
_HEADER_LIMIT = 64 << 10
# Never reached: the body is drained in every callback. It keeps aiohttp from pausing the socket in between.
_BUFFER = 64 << 20
_LARGE = 16 << 10


class Sink(Protocol):
    """What one attempt at one request wants to know of its connection. Stamps are `monotonic_ns`."""

    fresh: bool  # a connection of its own is wanted, not one from the pool
    may_go: Callable[[], bool]  # asked once a connection is there, before a byte is sent

    def connected(self, handler: Handler, connect_ns: int | None) -> None:
        """A connection is there; opening it took `connect_ns` (`None`: it was kept from before)."""

    def sent(self, at: int) -> None:
        """The request's last byte was handed to the socket."""

    def head(self, message: RawResponseMessage, at: int) -> None:
        """Status and headers are read (informational responses are left out)."""

    def body(self, data: bytes, at: int) -> None:
        """Some of the body came, transfer and content encoding undone."""

    def ended(self, exc: BaseException | None, at: int) -> None:
        """Nothing more will come: the body is whole (`None`), or this is what broke it."""


CURRENT: ContextVar[Sink | None] = ContextVar("streamgauge_sink", default=None)


class Handler(ResponseHandler):
    """aiohttp's protocol with the stamps taken and the body handed on as it arrives."""

    def __init__(self, loop: Any, reads: Reads) -> None:
        super().__init__(loop)
        self._reads = reads
        self.sink: Sink | None = None
        self.uses = 0
        self.connect_ns: int | None = None
        self._stamp = 0
        self._body: StreamReader | None = None
        self._taken = 0
        self.half_head = False  # some of a response's head came, and not all of it

    def attach(self, sink: Sink) -> None:
        """Give the next exchange on this connection to `sink`."""
        self.sink = sink
        self._body = None
        self._taken = 0
        self.half_head = False
        first = self.uses == 0
        self.uses += 1
        sink.connected(self, self.connect_ns if first else None)

    def data_received(self, data: bytes) -> None:
        """Stamp. Parsing waits until all that this poll of the loop brings is stamped."""
        if self.sink is None or not data:
            super().data_received(data)
            return
        self._reads.add(self, data, monotonic_ns())
        if len(data) > _LARGE:
            self._reads.parse()  # a flood is not piled up: its reader may want to pause it

    def parse(self, data: bytes, stamp: int) -> None:
        """Let aiohttp parse a read, pass on what that gave."""
        if self.sink is None:  # it ended, or was dropped, meanwhile
            if self.transport is not None and not self.transport.is_closing():
                super().data_received(data)
            return
        self._stamp = stamp
        if self._body is None:
            data = self._heads(data, stamp)
        super().data_received(data)
        self._drain(stamp)

    def _heads(self, data: bytes, stamp: int) -> bytes:
        # aiohttp's parser throws away a head whose body breaks in the same read: give it every head alone.
        while self._body is None and self.sink is not None:
            end = data.find(b"\r\n\r\n") + 4
            if not 4 <= end < len(data):
                break
            super().data_received(data[:end])
            self._drain(stamp)
            data = data[end:]
        self.half_head = True
        return data

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass on what the end of the connection completes or breaks."""
        stamp = monotonic_ns()
        self.flush()
        super().connection_lost(exc)
        sink, body = self.sink, self._body
        if sink is None:
            return
        if body is not None and exc is None:
            self._drain(stamp)  # where the end of the connection is the end of the body
        if self.sink is not None:
            broken = exc or (body.exception() if body is not None else None) or self.exception()
            self._end(broken or ConnectionResetError("the connection was closed"), stamp)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Called by aiohttp's parser with every response head."""
        message, body = data
        self.half_head = False
        # The last informational one is final to aiohttp: it would go on in another protocol.
        if self.sink is not None and (not 100 <= message.code < 200 or message.code == 101):
            self._body = body
            self._taken = 0
            sink = self.sink
            names = encodings(message.headers.get("content-encoding", ""))
            if names and can_undo(names):
                self.sink = _Unpacking(self, sink, names)
            sink.head(message, self._stamp)
        super().feed_data(data, size)

    def set_response_params(self, **options: Any) -> None:
        """Called by aiohttp before every request: for a sink, encodings are undone here."""
        if CURRENT.get() is not None:
            options["auto_decompress"] = False
        super().set_response_params(**options)

    def start_timeout(self) -> None:
        """Called by aiohttp once the whole request is written (its own timer, `sock_read`, is not used)."""
        if self.sink is not None:
            self.sink.sent(monotonic_ns())

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by aiohttp for every piece of a body taken out of its buffer, paused or not."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def flush(self) -> None:
        """Parse what was read and waits: before anything is decided on what has come."""
        self._reads.parse()

    def drop(self) -> None:
        """Close the connection at once: the only way to cancel a stream."""
        self.sink = None
        self.abort()

    def _drain(self, stamp: int) -> None:
        body, sink = self._body, self.sink
        if sink is None:
            return
        if body is None:
            if self.exception() is not None:
                self._end(self.exception(), stamp)
            return
        if body.total_bytes > self._taken:
            self._taken = body.total_bytes
            sink.body(_take_all(body), stamp)
        if body.is_eof() or body.exception() is not None:
            self._end(body.exception(), stamp)
        elif self._exception is not None:
            self._end(self.exception(), stamp)

    def _end(self, exc: BaseException | None, stamp: int) -> None:
        sink, self.sink, self._body = self.sink, None, None
        if sink is not None:
            sink.ended(exc, stamp)


class Reads:
    """What one poll of the loop has brought: stamped read by read, parsed after that, in the same order.

    Streams in lock-step become ready together. If each read were parsed before the next is taken, the last
    would be stamped a hundred parses late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Handler, bytes, int]] = deque()
        self._parsing = False

    def add(self, handler: Handler, data: bytes, stamp: int) -> None:
        """Keep a read until the poll is over."""
        if not self._waiting:
            self._loop.call_soon(self.parse)
        self._waiting.append((handler, data, stamp))

    def parse(self) -> None:
        """Parse what waits."""
        waiting = self._waiting
        if self._parsing or not waiting:
            return
        self._parsing = True
        try:
            while waiting:
                handler, data, stamp = waiting.popleft()
                try:
                    handler.parse(data, stamp)
                except BaseException:
                    handler.abort()  # as a loop does with a protocol that raises; the others go on
                    raise
        finally:
            self._parsing = False
            if waiting:
                self._loop.call_soon(self.parse)


class _Unpacking:
    """Stands before the sink of a compressed body: hands on what the bytes become."""

    def __init__(self, handler: Handler, sink: Sink, names: list[str]) -> None:
        self._handler = handler
        self._sink = sink
        self._unpackers = [Unpacker(name) for name in reversed(names)]  # the last was put on last
        self.fresh, self.may_go = sink.fresh, sink.may_go
        self.connected, self.sent, self.head = sink.connected, sink.sent, sink.head

    def body(self, data: bytes, at: int) -> None:
        self._hand_on(data, at, 0)

    def ended(self, exc: BaseException | None, at: int) -> None:
        try:
            for unpacker in self._unpackers:
                unpacker.finish()
        except CutShort as short:
            exc = exc or short
        self._sink.ended(exc, at)

    def _hand_on(self, data: bytes, at: int, depth: int) -> None:
        if depth == len(self._unpackers):
            self._sink.body(data, at)
            return
        try:
            for piece in self._unpackers[depth].feed(data):
                self._hand_on(piece, at, depth + 1)
                if self._handler.sink is not self:
                    return  # it has seen enough
        except (Corrupt, TooLarge) as exc:
            self._handler.drop()
            self._sink.ended(exc, at)


def _take_all(body: StreamReader) -> bytes:
    """What a body has buffered. aiohttp's way costs five calls a read, and raises what `ended` is to tell."""
    buffer = body._buffer  # noqa: SLF001
    if len(buffer) == 1:
        data = buffer.popleft()
    else:
        data = b"".join(buffer)
        buffer.clear()
    body._size = 0  # noqa: SLF001
    if body._http_chunk_splits:  # noqa: SLF001 - one entry a chunk, for a reader that is not there
        body._http_chunk_splits.clear()  # noqa: SLF001
    return data


class Connector(aiohttp.TCPConnector):
    """A pool without a limit of its own, whose connections are `Handler`s."""

    def __init__(self, **options: Any) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE_S, **options)
        self._factory: Any = functools.partial(Handler, loop=self._loop, reads=Reads(self._loop))

    async def _get(self, key: Any, traces: Any) -> Any:
        sink = CURRENT.get()
        if sink is not None and sink.fresh:
            return None
        return await super()._get(key, traces)

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109
        started = monotonic_ns()
        handler = await super()._create_connection(req, traces, timeout)
        if isinstance(handler, Handler):
            handler.connect_ns = monotonic_ns() - started
        return handler


class HeldBackError(Exception):
    """A request may not go any more, now that there is a connection. Not a byte of it was sent."""


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        sink = CURRENT.get()
        if isinstance(conn.protocol, Handler):
            if sink is None:
                conn.protocol.uses += 1  # the next exchange finds it kept
            elif not sink.may_go():
                conn.protocol.uses += 1
                conn.release()  # a good connection: the next one will want it
                raise HeldBackError
            else:
                conn.protocol.attach(sink)
        return await super().send(conn)


def open_session(
    headers: dict[str, str],
    *,
    verify: bool = True,
    ca_file: str | None = None,
    proxy: str | None = None,
) -> aiohttp.ClientSession:
    """The one session of a run. Must be called inside the event loop.

    Args:
        headers: sent with every request.
        verify: check the server's certificate.
        ca_file: certificates to trust in place of the system's.
        proxy: an http(s) proxy to go through, login included. Those of the environment are not used.
    """
    context: ssl.SSLContext | bool = verify
    if ca_file is not None and verify:
        context = ssl.create_default_context(cafile=ca_file)
    return aiohttp.ClientSession(
        connector=Connector(ssl=context, use_dns_cache=True),
        request_class=_Request,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Time-outs are our own (runner/stream.py): aiohttp's see neither tokens nor silence behind comments.
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        read_bufsize=_BUFFER,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
        auto_decompress=True,
        trust_env=False,
        proxy=proxy,
    )
