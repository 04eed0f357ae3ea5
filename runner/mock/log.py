"""The mock's own account of what it sent and when: JSON lines that a client's times can be judged by."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

FLUSH_S = 0.05
# Writes up to this size go to the page cache in microseconds; larger ones leave the loop.
_THREAD_BYTES = 256 * 1024


class Entry(msgspec.Struct):
    """One request. Instants are `time.monotonic_ns()`, null where the thing did not happen.

    A time of sending is read just before the bytes are handed to the kernel: no client can have them earlier.
    """

    ordinal: int | None  # counts completion requests from 0; null for other paths
    connection: int  # counts connections from 0
    request_id: str  # as in the header x-request-id
    completion_id: str | None
    method: str
    path: str
    model: str | None
    stream: bool
    prompt: str | None  # last user message, or the prompt
    received_ns: int  # the last byte of the request was handed to this process
    headers_sent_ns: int | None = None
    first_token_sent_ns: int | None = None
    token_us: list[int] = msgspec.field(
        default_factory=list
    )  # one a token of each choice, from the first, rounded down
    tokens_planned: int | None = None  # all choices together, as if nothing went wrong
    tokens_sent: int = 0
    done_sent_ns: int | None = None  # the end of the answer was sent
    peer_left_ns: int | None = None  # the client closed before that
    status: int | None = None
    fault: str | None = None


class RequestLog:
    """Appends entries to a file, in batches, at most `FLUSH_S` late. `close` writes the rest."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._loop = loop
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def add(self, entry: Entry) -> None:
        """Take a finished entry."""
        self._lines.append(self._encoder.encode(entry))
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    async def close(self) -> None:
        """Write what is left and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing
        self._write(self._take())
        self._file.close()

    def _take(self) -> bytes:
        lines, self._lines = self._lines, []
        return b"".join(line + b"\n" for line in lines)

    def _flush(self) -> None:
        self._timer = None
        if (
            self._writing is not None and not self._writing.done()
        ):  # one at a time keeps lines whole and in order
            self._timer = self._loop.call_later(FLUSH_S, self._flush)
            return
        data = self._take()
        if len(data) <= _THREAD_BYTES:
            self._write(data)
        else:
            self._writing = self._loop.run_in_executor(None, self._write, data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
