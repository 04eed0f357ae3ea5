"""A worker on another machine, as the parent has it: `AnyWorker` over calls.

The journal of what it sends back is written here. A record counts once it is in there, and only then does its
worker hear that it need not keep it. Times that cross over are turned from one clock into the other: nobody
beyond this module sees an instant of another clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

from msgspec.structs import replace

from runner.bulk_worker import TELL_S, why_unsafe
from runner.journal import DYING_TRIES, Journal
from runner.offset import Aligned, Offset, measure
from runner.orders import (
    REPORTS,
    Anchor,
    Bye,
    Failed,
    First,
    GiveUp,
    Go,
    Line,
    Ready,
    Room,
    Start,
    Synced,
    Written,
)
from runner.pipe import Frames, Message, frame, reader
from runner.shards import Death
from runner.worker import Broken

_CLOCK_S = 30.0  # between two looks at its clock
_END_S = 20.0
_decode = reader(Broken, Line, *REPORTS)


class FarError(Exception):
    """It cannot be reached any more. The text says how it went, to go after its name."""


class Far(Protocol):
    """The calls of a `FarWorker`; each raises `FarError` where it is gone."""

    async def push(self, frames: bytes) -> None: ...  # noqa: D102
    async def pull(self, after: int, kept: int) -> tuple[int, bytes]: ...  # noqa: D102
    async def clock(self) -> int: ...  # noqa: D102
    def kill(self) -> None: ...  # noqa: D102


class Node:
    """One of them. It begins at once.

    Args:
        number: its own.
        far: to reach it by.
        about: what the manifest says of it with what it measured.
        facts: what it says of its place; its clock is added, and how it was lost.
        offset: of its clock.
        start: what it is to do, in times of our clock, with the journal to write.
        take: is given what it says, in times of our clock.
    """

    def __init__(
        self,
        number: int,
        far: Far,
        about: dict[str, Any],
        facts: dict[str, Any],
        offset: Offset,
        start: Start,
        take: Callable[[Any], None],
    ) -> None:
        self.number, self.about = number, about
        self.ended: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self._far, self._facts = far, facts
        self._clock = Aligned(offset)
        self._anchor_ns = start.anchor_ns
        self._take = take
        self._journal = Journal(Path(start.journal), tries=DYING_TRIES)
        self._size = self._journal.synced_bytes
        self._journal.start(self._on_full)
        self._out: list[bytes] = []
        self._some = asyncio.Event()
        self._received = 0  # the last batch
        self._pending: dict[int, int] = {}  # lines of batches that are not in the journal yet
        self._bye: Bye | None = None
        self._broken: Broken | None = None
        self._tell_clock()
        self.send(replace(start, anchor_ns=start.anchor_ns + offset.offset_ns, journal=""))
        self._watching = asyncio.create_task(self._watch())

    # -- as `AnyWorker`

    def send(self, message: Message) -> None:
        """Send it a message, with others of this turn; to one that is gone, nothing goes."""
        if isinstance(message, GiveUp):
            self._journal.give_up()
            return
        if isinstance(message, Go):
            message = replace(message, due=message.due + self._clock.now.offset_ns)
        self._out.append(frame(message))
        self._some.set()

    async def close(self, within_s: float = _END_S) -> Death:
        """End it, and wait for that."""
        self._far.kill()
        return await self.end(within_s)

    async def end(self, within_s: float = _END_S) -> Death:
        """Wait for an end that it knows of; kill it where that does not come in time."""
        done, _ = await asyncio.wait({self.ended}, timeout=within_s)
        if not done:
            self._watching.cancel()
        return await self.ended

    # -- its life

    async def _watch(self) -> None:
        parts = [self._push(), self._pull(), self._look_at_clock(), self._tell_synced()]
        tasks = {asyncio.create_task(part) for part in parts}
        death = Death(1, lost="was ended")
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            death = self._death(next((task.exception() for task in done if task.exception()), None))
        finally:
            for task in tasks:
                task.cancel()
            self._far.kill()
            self._tell_clock()
            if death.code:
                self._facts["lost"] = death.lost or "broke"
            await self._close_journal()
            self._say_bye()
            self.ended.set_result(death)

    async def _close_journal(self) -> None:
        """Bring it to the disk and let it go, whoever wants to be rid of this meanwhile."""
        # No task, which the end of the loop would cancel before a thread has taken it up.
        closing = asyncio.get_running_loop().run_in_executor(None, self._journal.close)
        while not closing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # what its last lines came to is told

    def _death(self, exc: BaseException | None) -> Death:
        if self._broken is not None:
            return Death(1, self._broken)
        if isinstance(exc, FarError):
            return Death(1, lost=str(exc))
        if exc is not None:
            return Death(1, Broken(type(exc).__name__, str(exc)))
        return Death(0)

    def _say_bye(self) -> None:
        if self._bye is not None:
            journal = self._journal
            self._take(
                replace(
                    self._bye,
                    failure=why_unsafe(journal),
                    lines=journal.synced_lines,
                    size=journal.synced_bytes,
                )
            )

    async def _push(self) -> None:
        """Everything there is to say in one call, and the next one when that is over: so blocks form."""
        while True:
            await self._some.wait()
            self._some.clear()
            out, self._out = self._out, []
            await self._far.push(b"".join(out))

    async def _pull(self) -> None:
        while self._bye is None and self._broken is None:
            number, data = await self._far.pull(self._received, self._kept)
            if number > self._received:
                self._received = number
                for payload in Frames().feed(data):
                    self._hear(_decode(payload))

    @property
    def _kept(self) -> int:
        """The last batch of which, and of all before it, every line is in the journal."""
        return min(self._pending) - 1 if self._pending else self._received

    def _hear(self, said: Any) -> None:
        offset_ns = self._clock.now.offset_ns
        if isinstance(said, Line):
            self._write(said)
        elif isinstance(said, First):
            self._take(replace(said, sent_at=said.sent_at - offset_ns, at=said.at - offset_ns))
        elif isinstance(said, Failed):
            self._take(replace(said, at=said.at - offset_ns))
        elif isinstance(said, Ready):
            self._take(Ready(self._size))
        elif isinstance(said, Bye):
            self._bye = said
        elif isinstance(said, Broken):
            self._broken = said
        else:
            self._take(said)

    # -- its journal

    def _write(self, said: Line) -> None:
        batch = self._received
        self._pending[batch] = self._pending.get(batch, 0) + 1
        written = self._journal.append(said.line)
        written.add_done_callback(partial(self._written, said.number, len(said.line), batch))

    def _written(self, number: int, size: int, batch: int, done: asyncio.Future[bool]) -> None:
        written = done.result()
        self._size += size if written else 0
        self._pending[batch] -= 1
        if not self._pending[batch]:
            del self._pending[batch]
        self._take(Written(number, written, self._size))

    def _on_full(self, full: bool) -> None:
        self._take(Room(full, self._journal.why, self._journal.room_needed))

    async def _tell_synced(self) -> None:
        while True:
            journal = self._journal
            self._take(Synced(journal.synced_lines, journal.synced_bytes, journal.unsafe))
            await asyncio.sleep(TELL_S)

    # -- its clock

    async def _look_at_clock(self) -> None:
        while True:
            await asyncio.sleep(_CLOCK_S)
            if self._clock.take(await measure(self._far.clock)):
                self.send(Anchor(self._anchor_ns + self._clock.now.offset_ns))
            self._tell_clock()

    def _tell_clock(self) -> None:
        self._facts["clock"] = self._clock.told(monotonic_ns())
