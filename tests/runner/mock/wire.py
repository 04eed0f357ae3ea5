"""Plain HTTP over a plain socket, so that a test sees what the mock really sends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from runner.mock.server import Server


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    pieces: list[bytes] = field(default_factory=list)  # the chunks of a chunked body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each event, parsed; `[DONE]` as it is."""
        data = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n")[:-1]]
        return [item if item == "[DONE]" else json.loads(item) for item in data]

    @property
    def text(self) -> str:
        """What all content deltas of choice 0 say together."""
        chunks = [event["choices"] for event in self.events if event != "[DONE]"]
        return "".join(choices[0]["delta"].get("content", "") for choices in chunks if choices)


class Wire:
    """One plain connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> None:
        """Send a request; a body that is no bytes goes as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: mock"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(data)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)

    async def head(self) -> Response:
        """Read status and headers."""
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z0-9 -]+", block[0])
        assert match is not None
        return Response(int(match[1]), dict(line.split(": ", 1) for line in block[1:-2]), b"")

    async def piece(self) -> bytes:
        """Read one chunk; empty at the end of the body."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size + 2)
        assert data[size:] == b"\r\n"
        return data[:size]

    async def receive(self, *, body: bool = True) -> Response:
        """Read one response, whole."""
        response = await self.head()
        if not body:
            return response
        if response.headers.get("transfer-encoding") == "chunked":
            while piece := await self.piece():
                response.pieces.append(piece)
            response.body = b"".join(response.pieces)
        elif "content-length" in response.headers:
            response.body = await self.reader.readexactly(int(response.headers["content-length"]))
        else:
            response.body = await self.reader.read()
        return response

    async def ask(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
        """One request and its response."""
        self.send(path, body, headers)
        return await self.receive()


@asynccontextmanager
async def wire(server: Server) -> AsyncIterator[Wire]:
    """A connection to the mock."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)


def chat(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    """The body of a streamed chat request."""
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]} | more
