"""The mock as a server: inside a test (`serve`), or as a process of its own (`run_forever`)."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from runner.mock.config import MockConfig
from runner.mock.connection import Connection
from runner.mock.service import Service
from runner.mock.stats import Stats

_BACKLOG = 4096


class Server:
    """A listening mock. `stats` is live."""

    def __init__(self, host: str, port: int, stats: Stats) -> None:
        self.host = host
        self.port = port
        self.stats = stats

    @property
    def base_url(self) -> str:
        """The URL for an OpenAI client, with `/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"


@asynccontextmanager
async def serve(config: MockConfig, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
    """Serve while the block runs; port 0 picks a free one.

    At its end connections are cut, and the log is complete. Raises `OSError` where it gets no port or log.
    """
    loop = asyncio.get_running_loop()
    service = Service(config, loop)
    connections: set[Connection] = set()
    try:
        listener = await loop.create_server(
            lambda: Connection(service, connections), host, port, backlog=_BACKLOG
        )
        try:
            yield Server(host, listener.sockets[0].getsockname()[1], service.stats)
        finally:
            listener.close()
            for connection in list(connections):
                connection.drop()
            await listener.wait_closed()
            await asyncio.gather(*(connection.lost for connection in list(connections)))
    finally:
        await service.close()


def run_forever(config: MockConfig, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, under uvloop where it is installed; `ready` gets the base URL.

    For a process of its own: it changes that process's garbage collection.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(config, host, port, ready))


async def _run(config: MockConfig, host: str, port: int, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with serve(config, host, port) as server:
        # What lives now lives to the end, and what a request leaves behind goes by its count of references:
        # a rare collector, that need not look at the former, is a shorter pause in the middle of a stream.
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        ready(server.base_url)
        await stop.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
