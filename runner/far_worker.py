"""A worker on another machine, as it is there: the ordinary engine, reached by calls instead of a pipe.

Its records go to the parent, which writes the journal. What was not yet said to be in there is kept, and sent
again where an answer to a call was lost. Nothing here knows what carries the calls.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from runner.bulk_worker import Link, work
from runner.orders import Bye, Line, Start
from runner.pipe import Frames, Message, frame
from runner.session_facts import boot_id, versions
from runner.worker import Broken

WAIT_S = 10.0  # for something to say, until nothing is said
GATHER_S = 0.003  # from the first message of a batch to its going
MOST_BYTES = 4 << 20  # of a batch: then it goes


class Outbox:
    """Messages in batches, each kept until the other side has seen to all of it."""

    def __init__(self) -> None:
        self._new: list[bytes] = []
        self._batches: dict[int, bytes] = {}
        self._number = 0  # of the last batch
        self._some = asyncio.Event()

    def put(self, message: Message) -> None:
        """Queue a message."""
        self._new.append(frame(message))
        self._some.set()

    async def take(self, after: int, kept: int, wait_s: float = WAIT_S) -> tuple[int, bytes]:
        """Wait for a batch; give its number and its frames, which are none where nothing came.

        Args:
            after: the last batch that was received. What was given beyond it, and lost, comes again.
            kept: the last of those that need not be kept any more.
            wait_s: for a message.
        """
        for number in [number for number in self._batches if number <= kept]:
            del self._batches[number]
        lost = [self._batches[number] for number in sorted(self._batches) if number > after]
        if lost:
            return self._number, b"".join(lost)
        if not self._new:
            self._some.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._some.wait()
            except TimeoutError:
                return after, b""
            await asyncio.sleep(GATHER_S)
        return self._batch()

    def _batch(self) -> tuple[int, bytes]:
        size = count = 0
        while count < len(self._new) and size < MOST_BYTES:
            size += len(self._new[count])
            count += 1
        data = b"".join(self._new[:count])
        del self._new[:count]
        self._number += 1
        self._batches[self._number] = data
        return self._number, data


class _FarLink:
    """What stands for a pipe."""

    def __init__(self) -> None:
        self.out = Outbox()
        self._early: list[bytes] = []
        self._frames = Frames()
        self._hear: Callable[[bytes], None] | None = None

    def listen(self, decode: Callable[[bytes], Any], take: Callable[[Any], None]) -> None:
        self._hear = lambda payload: take(decode(payload))
        early, self._early = self._early, []
        for payload in early:
            self._hear(payload)

    def send(self, message: Message) -> None:
        self.out.put(message)

    def feed(self, frames: bytes) -> None:
        for payload in self._frames.feed(frames):
            if self._hear is None:
                self._early.append(payload)
            else:
                self._hear(payload)


class _Shipped:
    """Lines go to the parent's journal; it says itself what became of them."""

    size = 0

    def __init__(self, link: Link, start: Start) -> None:  # noqa: ARG002 - as the journal's
        self._link = link

    def start(self) -> None:
        pass

    async def keep(self, number: int, line: bytes) -> None:
        self._link.send(Line(number, line))

    def give_up(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def bye(self, gauge: dict[str, Any]) -> Bye:
        return Bye(gauge, None, 0, 0)


class FarWorker:
    """What is called. All of it on one event loop; no call raises."""

    def __init__(self) -> None:
        self._link: _FarLink | None = None
        self._job: asyncio.Task[None] | None = None

    async def facts(self) -> dict[str, Any]:
        """Where it is, and what it is made of."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot_id": boot_id(),
            "versions": versions(),
            "open_files": _open_files(),
        }

    async def clock(self) -> int:
        """Its `monotonic_ns`."""
        return time.monotonic_ns()

    async def push(self, frames: bytes) -> None:
        """Take orders; with the first ones its job begins."""
        link = self._begun()
        try:
            link.feed(frames)
        except Exception as exc:  # noqa: BLE001 - the parent is told, and nothing stands in a log
            link.send(Broken(type(exc).__name__, str(exc)))

    async def pull(self, after: int, kept: int) -> tuple[int, bytes]:
        """Give what there is to say, as `Outbox.take` does."""
        return await self._begun().out.take(after, kept)

    def _begun(self) -> _FarLink:
        if self._link is None:
            self._link = _FarLink()
            self._job = asyncio.ensure_future(_run(self._link))
        return self._link


def _open_files() -> int | None:
    """How many files it may have open; the limit is raised to that. `None`: any number."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        hard = soft
    return None if hard == resource.RLIM_INFINITY else hard


async def _run(link: _FarLink) -> None:
    try:
        await work(link, _Shipped)
    except Exception as exc:  # noqa: BLE001 - as in `push`
        link.send(Broken(type(exc).__name__, str(exc)))
