"""The least a Python client can cost: a bare protocol under uvloop that counts events and keeps nothing.

`python floor.py PROMPTS URL CONCURRENCY MAX_TOKENS` prints how many events came, `[DONE]` aside.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

_MARK = b"data: {"
_END = b"\r\n0\r\n\r\n"  # of a chunked body; no end of a head looks like it
_TAIL = len(_END) - 1  # kept of the last read: shorter than either, so nothing is counted twice


class Exchange(asyncio.Protocol):
    """One connection, kept for one request after another until there are none."""

    def __init__(self, requests: Iterator[bytes], over: asyncio.Future[None]) -> None:
        self.events = 0
        self._requests = requests
        self._over = over
        self._tail = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it
        self._next()

    def data_received(self, data: bytes) -> None:
        """Count, and look for the end."""
        data = self._tail + data
        self.events += data.count(_MARK)
        if data.endswith(_END):
            self._tail = b""
            self._next()
        else:
            self._tail = data[-_TAIL:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over, or that it broke."""
        if not self._over.done():
            self._over.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self._over.done():
            self._over.set_result(None)
            self._transport.close()


def request(host: str, path: str, prompt: str, max_tokens: int) -> bytes:
    """One request as bytes."""
    body = {
        "model": "mock",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    data = json.dumps(body).encode()
    head = (
        f"POST {path}/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def main(prompts: str, url: str, concurrency: str, max_tokens: str) -> int:
    """Send all prompts; returns how many events came."""
    where = urlsplit(url)
    with Path(prompts).open(encoding="utf-8") as file:  # noqa: ASYNC230 - nothing else is running yet
        texts = [json.loads(line)["prompt"] for line in file]
    requests = (request(where.netloc, where.path, text, int(max_tokens)) for text in texts)
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = []
    exchanges: list[Exchange] = []
    for _ in range(min(int(concurrency), len(texts))):
        over = loop.create_future()
        exchange = Exchange(requests, over)
        await loop.create_connection(partial(_same, exchange), where.hostname or "", where.port or 80)
        ends.append(over)
        exchanges.append(exchange)
    await asyncio.gather(*ends)
    return sum(exchange.events for exchange in exchanges)


def _same(exchange: Exchange) -> Exchange:
    return exchange


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(main(*sys.argv[1:])))
