"""The parent of a `run` over several workers: what its engine hands requests to, and hears of lines from.

Everything that is one for the whole run stays here: the gate with its rates, cool-downs and money, the places
of the load, the circuit breaker. A request passes the gate, and then goes to the worker with the least to do;
it keeps its place until that worker's line is written. A worker that dies has what it had written read back,
and the rest of what it was handed goes to the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from runner.chunks import clean
from runner.delivery import added_fields, prepare
from runner.engine import Told
from runner.gate import Ask, Gate
from runner.on_loop import unless
from runner.orders import REPORTS, Cut, Epochs, Finish, GiveUp, Start
from runner.record import CancelledBy
from runner.retrying import Retrying
from runner.shard import Handed, Open, Shard
from runner.shards import AnyWorker, Death, WorkerError, start_worker, start_workers
from runner.store import JOURNAL, StoreError, own_name
from scenarios.request import Request

_JOB = "runner.bulk_worker:work"
_MOST_DEATHS = 3  # of one shard, until nobody takes its place
_MOST_WITH_ONE = 3  # deaths of workers that had the same request, until it is left alone
_END_S = 120.0  # for a worker to bring its last lines to the disk
_UNWANTED_S = 2.0  # for one that was handed nothing yet
_LOST = Told("lost")
_encode = msgspec.json.Encoder().encode


Launch = Callable[[int, Start, Callable[[Any], None]], Awaitable[AnyWorker]]
"""Starts a worker: its number, what it is to do, who takes what it says."""


class Elsewhere(Protocol):
    """Where workers are that are not of this machine."""

    told: list[dict[str, Any]]  # of every one there was, for the manifest

    async def launch(  # noqa: D102 - as `Launch`
        self, number: int, start: Start, take: Callable[[Any], None]
    ) -> AnyWorker: ...


async def launch_here(number: int, start: Start, take: Callable[[Any], None]) -> AnyWorker:
    """Start a process of this machine."""
    return await start_worker(number, _JOB, start, kinds=REPORTS, take=take)


class Sent(msgspec.Struct):
    """What became of a request, for the engine. `of`: to wait for its line; `None`: there is none."""

    told: Told
    of: Open | None


class Shards:
    """All workers of a run. To the engine, what sends its requests and takes its lines.

    Args:
        run: the run directory.
        start: what every worker is to do; its journal is filled in.
        gate, retrying: of the whole run.
        redact: takes secrets out of what is said of a dead worker.
        tell: shows one line to the user.
        launch: starts a worker; default: as a process of this machine.
    """

    def __init__(
        self,
        run: Path,
        start: Start,
        gate: Gate,
        retrying: Retrying,
        redact: Callable[[str | None], str | None],
        tell: Callable[[str], None],
        launch: Launch = launch_here,
    ) -> None:
        self._launch = launch
        self.ended: list[dict[str, Any]] = []  # of each worker that is over, for the manifest
        self.on_first_token: Callable[[], None] = lambda: None
        self.on_full: Callable[[bool], None] = lambda _: None
        self.on_broken: Callable[[str], None] = lambda _: None  # told why the run cannot go on
        self.on_none_left: Callable[[], None] = lambda: self.on_broken("no worker is left")
        self.journal_failure: str | None = None  # why a journal is not safe on the disk
        self._failure: BaseException | None = None  # of our own
        self._start = start
        self._gate, self._retrying = gate, retrying
        self._redact, self._tell = redact, tell
        self._looks = gate.limits_cost or gate.counts_tokens  # at what a request asks, beside its place
        self._add = added_fields(start.settings.include_usage)
        self._numbers = 0
        self._burials: set[asyncio.Task[None]] = set()
        self._change = asyncio.Event()
        self._stopped = asyncio.Event()
        self.shards = [self._shard(run, number) for number in range(start.settings.workers)]
        for endpoint in gate.fleet.endpoints:
            endpoint.on_epoch = self._tell_epochs

    def _shard(self, run: Path, number: int) -> Shard:
        return Shard(
            number,
            run / own_name(JOURNAL, number),
            self._gate,
            self._retrying,
            on_first_token=self._first_token,
            on_room=self._roomy,
            on_fault=self._fail,
        )

    # -- their life

    async def start(self) -> bool:
        """Start them all. False: `stop` came first, and none is left.

        Raises:
            WorkerError: one does not start. None is left.
        """
        starting = start_workers([self._begin(shard) for shard in self.shards])
        _, workers = await unless(self._stopped.wait(), starting)
        if workers is None:
            return False
        for shard, worker in zip(self.shards, workers, strict=True):
            self._take_on(shard, worker)
        return True

    async def finish(self) -> None:
        """Have every worker bring its lines to the disk and end; what it measured is in `ended`."""
        self._stopped.set()
        await self._bury_all()
        self._send_all(Finish())
        workers = [shard.worker for shard in self.shards if shard.worker is not None]
        await asyncio.gather(*(worker.end(_END_S) for worker in workers))
        await asyncio.sleep(0)  # their burials begin
        await self._bury_all()
        self.ended.sort(key=lambda one: one["shard"])
        if self._failure is not None:
            raise self._failure

    async def _bury_all(self) -> None:
        while self._burials:
            await asyncio.wait(self._burials)

    async def _begin(self, shard: Shard) -> AnyWorker:
        shard.renew()
        start = msgspec.structs.replace(self._start, journal=str(shard.path))
        worker = await self._launch(shard.number, start, shard.heard)
        either: set[asyncio.Future[Any]] = {shard.ready, worker.ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await worker.close(_UNWANTED_S)
            raise
        if not shard.ready.done():
            words = (await worker.ended).words
            raise WorkerError(f"worker {shard.number} did not start: it {words}")
        return worker

    def _take_on(self, shard: Shard, worker: AnyWorker) -> None:
        shard.worker = worker
        self._tell_epochs()
        worker.ended.add_done_callback(partial(self._died, shard, worker))

    def _died(self, shard: Shard, worker: AnyWorker, ended: asyncio.Future[Death]) -> None:
        shard.worker = None
        task = asyncio.create_task(self._bury(shard, worker, ended.result()))
        self._burials.add(task)
        task.add_done_callback(self._buried)

    def _buried(self, task: asyncio.Task[None]) -> None:
        self._burials.discard(task)
        self._change.set()
        self._change.clear()
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._fail(exc)
        if not self._stopping and not self._burials and all(shard.worker is None for shard in self.shards):
            self.on_none_left()

    async def _bury(self, shard: Shard, worker: AnyWorker, death: Death) -> None:
        """See to what a worker leaves behind, and to another in its place."""
        about: dict[str, Any] = {"shard": shard.number, **worker.about}
        self.ended.append(about)
        if shard.bye is not None and death.code == 0:
            about |= shard.bye.gauge
            self.journal_failure = self.journal_failure or shard.bye.failure
            return
        shard.deaths += 1
        words = self._redact(death.words) or ""
        lost = await self._read_back(shard)
        again = 0 if self._stopping or death.broken is not None else lost
        about |= {"died": words, "open": lost, "sent_again": again, "replaced": False}
        told = f"worker {shard.number} {words}"
        if death.broken is not None:
            self.on_broken(told)
            return
        more = f"; {lost} open prompts are sent again" if again else ""
        self._tell(f"{told}: nothing it had written is lost{more}")
        if not self._stopping and shard.deaths <= _MOST_DEATHS:
            about["replaced"] = await self._replaced(shard)

    async def _read_back(self, shard: Shard) -> int:
        had = len(shard.open)
        try:
            return (await shard.read_back())[1]
        except (OSError, StoreError) as exc:
            self._tell(f"the journal of worker {shard.number} cannot be read back: {exc}")
            return had

    async def _replaced(self, shard: Shard) -> bool:
        try:
            _, worker = await unless(self._stopped.wait(), self._begin(shard))
        except WorkerError as exc:
            self._tell(f"no other takes its place: {self._redact(str(exc))}")
            return False
        if worker is None:
            return False
        self._take_on(shard, worker)
        return True

    # -- the engine's sender

    def prepare(self, request: Request) -> Handed:
        """Make it ready to be handed out."""
        ask = Ask(row=request.index)
        if self._looks:
            prices, limited = self._start.settings.prices, self._gate.limits_cost
            ask = prepare(request, self._add, prices, limited=limited).ask
        try:
            data = _encode(request)
        except UnicodeEncodeError:  # half a surrogate pair in a row; its record would not keep it either
            data = _encode(clean(msgspec.to_builtins(request)))
        return Handed(request.id, data, ask)

    async def admit(self, handed: Handed) -> bool:
        """Wait until it may go for the first time. False: it must not."""
        handed.endpoint = await self._gate.pass_(handed.ask)
        return handed.endpoint is not None

    def withdraw(self, handed: Handed) -> None:
        """It was admitted, and is not sent after all."""
        if handed.endpoint is not None:
            self._gate.ended(handed.ask, handed.endpoint, ok=False, headless=True, charge=0.0)
            handed.endpoint = None

    async def send(self, handed: Handed, scheduled_at: int) -> Sent:
        """Have some worker send it until there is a record; `scheduled_at` is `monotonic_ns`."""
        one = await self._hand_out(handed, scheduled_at)
        while one is not None:
            told = await one.told
            if told is not None:
                return Sent(told, one)
            one = await self._once_more(one)
        return Sent(_LOST, None)

    def append(self, sent: Sent) -> Awaitable[bool]:
        """Wait until its line is written, or never will be (False)."""
        return self._kept(sent.of)

    def written(self, handed: Handed) -> None:
        """Its line is written."""
        self._gate.written(handed.ask)

    def stop(self) -> None:
        """No attempt is begun any more."""
        self._stopped.set()
        self._retrying.stop()

    def cut(self, by: CancelledBy) -> None:
        """Close every connection that is still being answered on."""
        self.stop()
        self._send_all(Cut(by))

    async def _kept(self, one: Open | None) -> bool:
        if one is None:
            return True  # there is no answer, and so no line that is missing
        while one is not None:
            written = await one.written
            if written is not None:
                return written
            one = await self._once_more(one)  # its worker died with the line
        return False

    async def _hand_out(self, handed: Handed, due: int) -> Open | None:
        shard = await self._least()
        if shard is None:
            self.withdraw(handed)
            return None
        self._numbers += 1
        one = Open(self._numbers, handed, due)
        shard.hand(one)
        return one

    async def _once_more(self, one: Open) -> Open | None:
        """Its worker died. `None`: nothing is begun any more."""
        handed = one.handed
        if handed.deaths >= _MOST_WITH_ONE:  # it may be what kills them, and would kill them all
            row = "a row" if one.ask.row is None else f"row {one.ask.row + 1}"
            self._tell(f"{row} is left out: {handed.deaths} workers died with it. The next session sends it")
            return None
        handed.endpoint = None if self._stopping else await self._gate.pass_(one.ask, retry=True)
        return None if handed.endpoint is None else await self._hand_out(handed, one.due)

    async def _least(self) -> Shard | None:
        """The worker with the least to do; `None`: there is none, and none will come in time."""
        waited = False
        while True:
            able = [shard for shard in self.shards if shard.worker is not None]
            # One that is new since a stop has not heard of it, nor that streams are to be closed.
            if able and not (waited and self._stopping):
                return min(able, key=lambda shard: len(shard.open))
            if not self._burials or self._stopping:
                return None
            await self._change.wait()
            waited = True

    # -- the engine's journal

    @property
    def room_needed(self) -> int:
        """Bytes that have to be free before a full disk counts as having room again."""
        return sum(shard.room.needed for shard in self.shards if shard.room is not None)

    @property
    def why(self) -> str:
        """Why lines cannot be written."""
        return next((shard.room.why for shard in self.shards if shard.room is not None), "the disk is full")

    @property
    def unsafe(self) -> bool:
        """An fsync failed somewhere."""
        return any(shard.synced.unsafe for shard in self.shards)

    def give_up(self) -> None:
        """Stop waiting for room."""
        self._send_all(GiveUp())

    @property
    def synced_lines(self) -> int:
        """Lines of this session that are known to be on the disk."""
        return sum(shard.synced_lines for shard in self.shards)

    @property
    def synced_bytes(self) -> dict[str, int]:
        """Of every journal that is being written, by its name."""
        return {shard.path.name: shard.synced.size for shard in self.shards if shard.ready.done()}

    # -- inside

    @property
    def _stopping(self) -> bool:
        return self._stopped.is_set()

    def _first_token(self) -> None:
        self.on_first_token()

    def _roomy(self) -> None:
        self.on_full(any(shard.room is not None for shard in self.shards))

    def _send_all(self, order: Any) -> None:
        for shard in self.shards:
            shard.send(order)

    def _tell_epochs(self) -> None:
        self._send_all(Epochs([endpoint.epoch for endpoint in self._gate.fleet.endpoints]))

    def _fail(self, exc: BaseException) -> None:
        self._failure = self._failure or exc
        self.on_broken(f"internal error: {type(exc).__name__}")
