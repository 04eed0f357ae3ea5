"""One TCP connection: bytes to requests, one answered at a time, and the peer's leaving noticed at once."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from time import monotonic_ns
from typing import cast

from runner.mock.exchange import Exchange
from runner.mock.http import CONTINUE, HttpError, Request, RequestParser
from runner.mock.service import Service
from runner.mock.staged import StagedExchange

# Requests sent ahead beyond this are left in the kernel until the answer before them is sent.
_AHEAD_LIMIT_BYTES = 1024 * 1024
# After an error, the rest of what the peer sends is read and thrown away so long: closing with bytes unread
# would reset the connection, and the answer could be lost.
_LINGER_S = 1.0
# struct linger {on, 0 s}: closing resets
_LINGER_NOT = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)


class Connection(asyncio.Protocol):
    """The protocol of one connection; is the `Line` of its exchanges."""

    def __init__(self, service: Service, connections: set[Connection]) -> None:
        self.paused = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done when it is gone
        self._service = service
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser()
        self._exchange: Exchange | StagedExchange | None = None
        self._read_ns = 0  # when bytes last came
        self._free_ns = 0  # when the last answer was sent
        self._reused = False  # it has had a request before
        self._keep = True  # whether the connection outlives the current answer
        self._advancing = False
        self._refused = False
        self._reading = True
        self._idle_timer: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports are no subclass of asyncio's
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With no room in the buffer a loop writes at once and not at the end of its turn: the stamp of a
        # token is the time of its system call, and `paused` says at once that the kernel's buffer is full.
        self._transport.set_write_buffer_limits(high=0, low=0)
        stats = self._service.stats
        self._number = stats.connections
        stats.connections += 1
        stats.open_connections += 1
        self._connections.add(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Stamp and parse; answer where nothing is being answered."""
        self._read_ns = monotonic_ns()
        if self._refused:
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._parser.feed(data)
        if self._exchange is None:
            self._advance()
        elif self._parser.buffered_bytes > _AHEAD_LIMIT_BYTES and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The peer has closed its side. Who does so before the answer's end does not want the rest."""
        if self._exchange is not None:
            self._leave()
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The connection is gone, for whatever reason."""
        self._leave()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self in self._connections:
            self._connections.remove(self)
            self._service.stats.open_connections -= 1
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The kernel's buffer is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """The kernel has taken everything: send what has become due."""
        self.paused = False
        exchange = self._exchange
        if exchange is not None and exchange.blocked:
            exchange.blocked = False
            self._service.wheel.add(monotonic_ns(), exchange.step)

    # -- what an exchange and the server ask for

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, at once where it takes them."""
        self._transport.write(data)

    def reset(self) -> None:
        """Break the connection with an RST."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._exchange = None
        self._refused = True
        self._transport.abort()

    def close(self) -> None:
        """Close the connection in order, after what was written."""
        self._exchange = None
        self._refused = True
        self._transport.close()

    def answered(self) -> None:
        """The current exchange is over, its answer sent."""
        self._exchange = None
        self._finish()
        if not self._advancing:
            self._advance()

    def drop(self) -> None:
        """Close at once, as the server stops: this is not the peer leaving."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.drop()
        self._transport.abort()

    # -- inside

    def _advance(self) -> None:
        """Answer the requests that are here, until one takes time."""
        self._advancing = True
        parser = self._parser
        try:
            while self._exchange is None and not self._refused:
                request = parser.next_request()
                if request is None:
                    if parser.wants_continue():
                        self._transport.write(CONTINUE)
                    break
                self._serve(request)
        except HttpError as error:
            self._refuse(error)
        finally:
            self._advancing = False

    def _serve(self, request: Request) -> None:
        received = self._read_ns
        self._keep = request.head.keep_alive and self._service.config.keep_alive_s != 0
        start = max(received, self._free_ns)
        result = self._service.respond(request, self, self._number, received, start, reused=self._reused)
        self._reused = True
        if isinstance(result, bytes):
            self._transport.write(result)
            self._finish()
            return
        exchange, opening = result
        if exchange.entry.stream and request.head.version == (1, 0):
            self._keep = False
        self._exchange = exchange
        due = exchange.start(monotonic_ns(), opening)
        if due:
            self._service.wheel.add(due, exchange.step)

    def _finish(self) -> None:
        """An answer has been sent."""
        self._free_ns = monotonic_ns()
        if not self._keep:
            self._refused = True  # whatever came after it
            self._transport.close()
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self._rest()

    def _rest(self) -> None:
        """Wait for a request, at most as long as idle connections are kept."""
        limit_s = self._service.config.keep_alive_s
        if limit_s and self._idle_timer is None:
            self._idle_timer = self._loop.call_later(limit_s, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_timer = None
        if self._exchange is None:
            self._transport.close()

    def _leave(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave(monotonic_ns())

    def _refuse(self, error: HttpError) -> None:
        self._refused = True
        self._transport.write(self._service.refuse(error.status, error.message))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._idle_timer = self._loop.call_later(_LINGER_S, self._transport.close)
