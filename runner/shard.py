"""One worker of a run, as its parent has it: what it was handed, and what its gate hears of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from runner.engine import Told, told_of
from runner.fleet import Endpoint
from runner.gate import Ask, Gate
from runner.journal import mend
from runner.orders import (
    Bye,
    Done,
    Ended,
    Failed,
    First,
    Go,
    Head,
    Held,
    May,
    Ready,
    Room,
    Synced,
    Unused,
    Used,
    Written,
)
from runner.record import Record
from runner.retrying import Course, Failure, Retrying
from runner.shards import AnyWorker


class Handed(msgspec.Struct):
    """A request on its way to a worker."""

    id: str
    data: bytes  # as JSON
    ask: Ask
    endpoint: Endpoint | None = None  # where its attempt goes, once it has passed
    deaths: int = 0  # of workers that had it


class Open:
    """A request that some worker has.

    `told` and `written` are what the engine waits for. `None` in one of them: its worker died, and no line of
    the request is there.
    """

    def __init__(self, number: int, handed: Handed, due: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.handed = handed
        self.due = due
        self.ask = handed.ask
        self.course = Course()
        self.is_out = True  # an attempt of it has passed, and is not over
        self.has_head = False  # and the head of its answer came
        self.asking: asyncio.Task[None] | None = None  # whether, and when, there is another
        self.told: asyncio.Future[Told | None] = loop.create_future()
        self.written: asyncio.Future[bool | None] = loop.create_future()

    @property
    def endpoint(self) -> Endpoint:
        """Where its attempt went."""
        assert self.handed.endpoint is not None
        return self.handed.endpoint

    def passed(self, endpoint: Endpoint) -> None:
        """Another attempt may go."""
        self.handed.endpoint = endpoint
        self.is_out, self.has_head = True, False


class Shard:
    """A journal, and the worker that writes it just now.

    Args:
        number: its own.
        path: of its journal.
        gate, retrying: of the whole run.
        on_first_token: told of every answer's first token.
        on_room: told when its disk is full, or is no longer.
        on_fault: told of an exception of our own.
    """

    def __init__(
        self,
        number: int,
        path: Path,
        gate: Gate,
        retrying: Retrying,
        *,
        on_first_token: Callable[[], None],
        on_room: Callable[[], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.path = path
        self.worker: AnyWorker | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bye: Bye | None = None
        self.open: dict[int, Open] = {}
        self.size = 0  # of the journal, as far as its lines were told
        self.synced = Synced(0, 0, unsafe=False)
        self.room: Room | None = None  # there: its disk is full
        self.deaths = 0
        self._lines = 0  # told by the worker of now
        self._before = 0  # by those that died
        self._gate, self._retrying = gate, retrying
        self._endpoints = gate.fleet.endpoints
        self._on_first_token, self._on_room, self._on_fault = on_first_token, on_room, on_fault
        self._hears: dict[type, Callable[[Any], None]] = {
            Head: self._head,
            First: self._first,
            Ended: self._ended,
            Used: self._used,
            Unused: self._unused,
            Failed: self._failed,
            Held: self._held,
            Done: self._done,
            Written: self._written,
            Room: self._roomy,
            Synced: self._sync,
            Ready: self._begun,
            Bye: self._byed,
        }

    @property
    def synced_lines(self) -> int:
        """Lines of this session that are known to be on the disk."""
        return self._before + self.synced.lines

    def renew(self) -> None:
        """A worker is to come that has said nothing yet."""
        self.ready = asyncio.get_running_loop().create_future()
        self.bye, self.synced, self._lines = None, Synced(0, self.size, unsafe=False), 0

    def hand(self, one: Open) -> None:
        """Hand it a request that has passed the gate."""
        self.open[one.number] = one
        self.send(Go(one.number, one.handed.data, self._place(one.endpoint), one.ask.epoch, one.due))

    def send(self, order: Any) -> None:
        """Tell its worker, where there is one."""
        if self.worker is not None:
            self.worker.send(order)

    def heard(self, report: Any) -> None:
        """Take what its worker says."""
        try:
            self._hears[type(report)](report)
        except Exception as exc:  # noqa: BLE001 - asyncio would log it and go on
            self._on_fault(exc)

    async def read_back(self) -> tuple[int, int]:
        """Its worker is dead: what it had written and not told is done, the rest of what it had is not.

        Returns:
            How many were read back, how many are not done.

        Raises:
            OSError, StoreError: its journal cannot be read. Nothing of what it had is done, then.
        """
        opened, self.open = list(self.open.values()), {}
        for one in opened:
            if one.asking is not None:
                one.asking.cancel()
        found: dict[str, Record] = {}
        try:
            wanted = {one.handed.id for one in opened}
            found, size = await asyncio.to_thread(_read_back, self.path, self.size, wanted)
            self.size = size
        finally:
            for one in opened:
                self._settle(one, found.get(one.handed.id))
            self._before += self._lines + len(found)
            self.synced, self.room = Synced(0, self.size, unsafe=False), None
            self._on_room()
        return len(found), len(opened) - len(found)

    def _settle(self, one: Open, record: Record | None) -> None:
        ok, charge = False, one.ask.worst
        if record is not None:
            ok = record.status == "ok"
            charge = (record.cost or 0.0) if record.cost_bound is UNSET else record.cost_bound
        if one.is_out:
            self._gate.ended(one.ask, one.endpoint, ok=ok, headless=not one.has_head, charge=charge)
        if record is None:
            one.handed.deaths += 1
            if self._gate.budget is not None:
                one.ask.hold = self._gate.budget.lose(one.ask.hold)
        if not one.told.done():
            one.told.set_result(None if record is None else told_of(record))
        one.written.set_result(None if record is None else True)

    # -- what it says

    def _head(self, head: Head) -> None:
        one = self.open[head.number]
        one.has_head = True
        self._gate.head(one.ask, one.endpoint, head.status)

    def _first(self, first: First) -> None:
        self._gate.first_token(self._endpoints[first.endpoint], first.sent_at, first.at)
        self._on_first_token()

    def _ended(self, ended: Ended) -> None:
        one = self.open[ended.number]
        one.is_out = False
        self._gate.ended(one.ask, one.endpoint, ok=ended.ok, headless=ended.headless, charge=ended.charge)

    def _used(self, used: Used) -> None:
        ask = self.open[used.number].ask
        if used.completion is None:
            self._gate.used_at_least(ask, used.prompt)
        else:
            self._gate.used(ask, int(used.prompt), used.completion, whole=used.whole)

    def _unused(self, unused: Unused) -> None:
        self._gate.unused(self.open[unused.number].ask)

    def _failed(self, failed: Failed) -> None:
        one = self.open[failed.number]
        failure = Failure(failed.error, failed.stale, failed.headers, failed.at)
        self._ask(one, self._again(one, failure))

    def _held(self, held: Held) -> None:
        one = self.open[held.number]
        self._ask(one, self._until_let(one))

    def _done(self, done: Done) -> None:
        self.open[done.number].told.set_result(done.told)

    def _written(self, written: Written) -> None:
        self.size = written.size
        self._lines += written.written
        self.open.pop(written.number).written.set_result(written.written)

    def _roomy(self, room: Room) -> None:
        self.room = room if room.full else None
        self._on_room()

    def _sync(self, synced: Synced) -> None:
        self.synced = synced

    def _begun(self, ready: Ready) -> None:
        self.size = ready.size
        self.synced = Synced(0, ready.size, unsafe=False)
        self.ready.set_result(None)

    def _byed(self, bye: Bye) -> None:
        self.bye = bye
        self.synced = Synced(bye.lines, bye.size, self.synced.unsafe)

    # -- further attempts

    def _ask(self, one: Open, what: Coroutine[Any, Any, None]) -> None:
        one.asking = asyncio.create_task(what)
        one.asking.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._on_fault(exc)

    async def _again(self, one: Open, failure: Failure) -> None:
        after = await self._retrying.again(one.ask, one.endpoint, failure, one.course)
        if after is None:
            self.send(May(one.number, None))
        else:
            one.passed(after.endpoint)
            self.send(May(one.number, self._place(after.endpoint), one.ask.epoch, after.wait_for))

    async def _until_let(self, one: Open) -> None:
        endpoint = await self._retrying.held(one.ask, one.course)
        if endpoint is None:
            self.send(May(one.number, None))
        else:
            one.passed(endpoint)
            self.send(May(one.number, self._place(endpoint), one.ask.epoch))

    def _place(self, endpoint: Endpoint) -> int:
        return self._endpoints.index(endpoint)


def _read_back(path: Path, start: int, wanted: set[str]) -> tuple[dict[str, Record], int]:
    """The records a dead worker wrote behind `start`, by id, of those that are wanted; the journal's size."""
    mend(path)
    found: dict[str, Record] = {}
    decode = msgspec.json.Decoder(Record).decode
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            try:
                record = decode(line)
            except (msgspec.MsgspecError, RecursionError):
                continue  # readers count and name it
            if record.id in wanted:
                found[record.id] = record
        return found, file.tell()
