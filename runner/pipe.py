"""Messages between a parent and a worker: frames on a stream, each end on its own event loop.

A frame is the length of its payload (4 bytes, little-endian) and one message as msgpack. What is sent in one
turn of the loop leaves in one write, so that a block of small messages costs as much as one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, cast

import msgspec

_HEAD = 4
_encode = msgspec.msgpack.Encoder().encode


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What goes over a pipe is a struct of this kind. Both ends are of one version: it has no history."""


def reader(*kinds: type[Message]) -> Callable[[bytes], Any]:
    """Decodes a message that is one of these."""
    decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(reduce(or_, kinds)).decode
    return decode


class Frames:
    """Bytes as they come to the payloads of whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; return the payloads that are whole now."""
        held = self._bytes
        held += data
        out, at = [], 0
        while len(held) - at >= _HEAD:
            end = at + _HEAD + int.from_bytes(held[at : at + _HEAD], "little")
            if len(held) < end:
                break
            out.append(bytes(held[at + _HEAD : end]))
            at = end
        del held[:at]
        return out


def frame(message: Message) -> bytes:
    """A message as it goes over the stream."""
    payload = _encode(message)
    return len(payload).to_bytes(_HEAD, "little") + payload


class Pipe(asyncio.Protocol):
    """One end. Nothing here waits: what cannot be written yet is held, what is not listened for as well."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.garbled = False  # a message came that this end does not know; it has closed
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._early: list[bytes] = []  # before anybody listened
        self._decode: Callable[[bytes], Any] | None = None
        self._take: Callable[[Any], None] = lambda _: None
        self._out: list[bytes] = []

    def listen(self, decode: Callable[[bytes], Any], take: Callable[[Any], None]) -> None:
        """Have every message, from the first one on, decoded and taken; again: from now on by others."""
        self._decode, self._take = decode, take
        early, self._early = self._early, []
        self._hand_on(early)

    def send(self, message: Message) -> None:
        """Send a message at the end of this turn. To an end that is closed, nothing goes."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(frame(message))

    async def close(self) -> None:
        """Send what is left, and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        await self.closed

    def abort(self) -> None:
        """Close at once; what is left is not sent."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _hand_on(self, payloads: list[bytes]) -> None:
        for at, payload in enumerate(payloads):
            if self._decode is None:
                self._early += payloads[at:]
                return
            try:
                message = self._decode(payload)
            except msgspec.MsgspecError:
                self.garbled = True
                self.abort()
                return
            self._take(message)

    # -- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its type

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._hand_on(self._frames.feed(data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its name is asyncio's
        """The other end is gone, or this one is closed."""
        if not self.closed.done():
            self.closed.set_result(None)


async def open_pipe(end: socket.socket) -> Pipe:
    """One end of a socket pair on the running loop."""
    end.setblocking(False)
    _, pipe = await asyncio.get_running_loop().create_unix_connection(Pipe, sock=end)
    return pipe
