"""A worker of `bench`: the ordinary load on its own stripe of the schedule, into a journal of its own.

It is told the instant of the start, and to stop or to cut; it tells how far it is, and in the end what became
of its part. Signals, the server's readiness, the lengths of prompts and the manifest are its parent's.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from runner.course import course_of, share
from runner.drive import Drive, Lane, LoadEnd, Settings
from runner.journal import Journal
from runner.pipe import Message, Pipe, reader
from runner.prices import Price, Prices
from runner.record import CancelledBy
from runner.redact import Redactor
from runner.replay import trace_rows
from runner.store import EndedBy
from runner.target import Target
from scenarios.scenario import Scenario
from scenarios.synthetic import Fit
from scenarios.workload import Workload

JOB = "runner.bench_worker:work"
TICK_S = 0.5


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's part of the load of one target."""

    journal: str
    session: int
    anchor_ns: int
    scenario: Scenario
    target: Target
    fit: Fit | None
    salt: str | None
    sha256: str | None  # of the file of prompts, as the parent read it
    max_in_flight: int | None
    arrivals: int | None  # of the whole schedule
    prices: dict[str, Price] | None
    proven: bool


# -- from the parent


class Start(Message, frozen=True, tag=True):
    """What to do."""

    worker: int
    workers: int
    settings: Settings
    secrets: list[str]
    parts: list[Part]


class Go(Message, frozen=True, tag=True):
    """Begin at this instant."""

    at: int


class Stop(Message, frozen=True, tag=True):
    """Start nothing more of a target, and close its streams where `cut` says by whom."""

    target: int
    by: EndedBy | None = None
    reason: str | None = None
    cut: CancelledBy | None = None


class Heard(Message, frozen=True, tag=True):
    """What others hear of a target: that it has answered, the instant of a byte."""

    target: int
    proven: bool
    at: int


# -- from a worker


class Ready(Message, frozen=True, tag=True):
    """All is there that the load needs."""


class Pulse(Message, frozen=True, tag=True):
    """How far it is; `ttft` is what came since the last one (`Live`)."""

    done: int
    failed: int
    tokens: int
    in_flight: int
    stopping: bool
    so_far: list[LoadEnd]  # of each target: all that is known of a worker that is killed
    proven: list[bool]
    heard: list[bool]
    ttft: dict[int, int]


class Word(Message, frozen=True, tag=True):
    """A line for the user."""

    text: str


class Stopped(Message, frozen=True, tag=True):
    """Its load of a target has stopped before its end."""

    target: int
    by: EndedBy
    reason: str | None


class End(Message, frozen=True, tag=True):
    """What became of it: its journals are written and closed."""

    ends: list[LoadEnd]
    gauge: dict[str, Any]
    cpu_s: float


TO_PARENT: tuple[type[Message], ...] = (Ready, Pulse, Word, Stopped, End)


class ChangedError(Exception):
    """What this worker finds is not what its parent did."""


async def work(pipe: Pipe) -> None:
    """The job: see `runner/worker.py`."""
    started: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
    pipe.listen(reader(Start), started.set_result)
    await _Worker(pipe, await started).run()


class _Worker:
    def __init__(self, pipe: Pipe, start: Start) -> None:
        self._pipe = pipe
        self._start = start
        self._lanes: list[Lane] = []
        self._begin_at: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ticked_at = time.monotonic_ns()

    async def run(self) -> None:
        drive: Drive | None = None
        try:
            drive = self._make()
            await self._run(drive)
        finally:
            for lane in self._lanes:
                await asyncio.to_thread(lane.journal.close)  # a slow disk's fsync is no sign that it hangs
            if drive is not None and drive.began_at:  # also where it broke: what became of it is known
                self._pulse(drive)
                self._pipe.send(End(drive.ends(), drive.gauge, round(time.process_time(), 3)))

    def _make(self) -> Drive:
        start = self._start
        for part in start.parts:
            self._lanes.append(self._lane(part))  # one by one: what is open is closed, whatever comes after
        say = lambda text: self._pipe.send(Word(text))  # noqa: E731
        return Drive(self._lanes, start.settings, Redactor(start.secrets), say)

    async def _run(self, drive: Drive) -> None:
        async with AsyncExitStack() as stack:
            await drive.make(stack)
            for target, load in enumerate(drive.loads):
                load.on_stop = partial(self._stopped, target)
            self._pipe.listen(reader(Go, Stop, Heard), partial(self._take, drive))
            self._pipe.send(Ready())
            begin_at = await self._begin_at
            ticking = asyncio.create_task(self._tick(drive))
            driving = asyncio.ensure_future(drive.run(begin_at))
            try:
                await asyncio.shield(driving)
            except asyncio.CancelledError:  # its parent is gone: keep what there is
                drive.stop("error", "the parent process is gone")
                for load in drive.loads:
                    load.cut("user")
                await driving
                raise
            finally:
                ticking.cancel()

    def _lane(self, part: Part) -> Lane:
        scenario, rows = part.scenario, trace_rows(part.scenario)
        whole = course_of(scenario.load, scenario.seed, rows, part.max_in_flight or 1)
        workload = Workload(scenario, part.fit, rows)
        arrivals = None if whole.schedule is None else len(whole.schedule.offsets_ns)
        if workload.describe().sha256 != part.sha256 or arrivals != part.arrivals:
            raise ChangedError("the prompts or the trace have changed since the start: run it again")
        return Lane(
            target=part.target,
            workload=workload if part.salt is None else workload.salted(part.salt),
            course=share(whole, self._start.worker, self._start.workers),
            journal=Journal(Path(part.journal)),
            session=part.session,
            anchor_ns=part.anchor_ns,
            prices=None if part.prices is None else Prices(part.prices),
            proven=part.proven,
        )

    def _take(self, drive: Drive, message: Go | Stop | Heard) -> None:
        if isinstance(message, Go):
            self._begin_at.set_result(message.at)
            return
        load = drive.loads[message.target]
        if isinstance(message, Heard):
            load.heard_elsewhere(message.at, proven=message.proven)
            return
        if message.by is not None:
            load.stop(message.by, message.reason)
        if message.cut is not None:
            load.cut(message.cut)

    def _stopped(self, target: int, by: EndedBy, reason: str | None) -> None:
        self._pipe.send(Stopped(target, by, reason))

    async def _tick(self, drive: Drive) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._pulse(drive)

    def _pulse(self, drive: Drive) -> None:
        since, self._ticked_at = self._ticked_at, time.monotonic_ns()
        live = drive.live
        self._pipe.send(
            Pulse(
                done=live.done,
                failed=live.failed,
                tokens=live.tokens,
                in_flight=drive.in_flight,
                stopping=drive.stopping,
                so_far=drive.so_far(),
                proven=[load.proven for load in drive.loads],
                heard=drive.heard_since(since),
                ttft=live.taken(),
            )
        )
