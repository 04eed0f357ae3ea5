"""The `run` job: a plan's requests sent once each, into an opened run directory, until done or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from runner.client import Client
from runner.delivery import Delivery, Keep
from runner.engine import Engine
from runner.limits import Breaker, Slots
from runner.progress import Progress, Snapshot
from runner.rundir import Opened
from runner.store import PROGRESS
from runner.store import Progress as ProgressFile
from runner.target import Redactor, Target
from runner.timeouts import Timeouts
from runner.transport import open_session
from scenarios.prompts import Plan
from scenarios.request import Request, digest64

_TICK_S = 0.5
_TURN_S = 0.0005  # how long settled rows may be skipped before the loop gets its turn


class Settings(msgspec.Struct, frozen=True):
    """How to send, as opposed to what."""

    concurrency: int = 32
    retries: int = 3
    timeouts: Timeouts = Timeouts()
    include_usage: bool = True
    keep: Keep = Keep()
    keep_headers: tuple[str, ...] = ()
    grace_s: float | None = 25.0
    verify: bool = True
    ca_file: str | None = None


def run_bulk(opened: Opened, plan: Plan, target: Target, redact: Redactor, settings: Settings) -> Engine:
    """Run the job to its end, and leave what became of it in the opened run's session. Blocks."""
    progress = Progress(plan.requests, len(opened.settled))
    job = _Job(opened, plan, target, redact, settings, progress)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(job.main())
        finally:
            # uvloop leaves its own behind, deaf: what follows must still end by Ctrl-C.
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            opened.journal.close()
            if hasattr(job, "engine"):  # else it failed before it began: that error is the one to show
                progress.close(job.snapshot())
    return job.engine


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class _Job:
    engine: Engine  # there once `main` has begun

    def __init__(
        self,
        opened: Opened,
        plan: Plan,
        target: Target,
        redact: Redactor,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self._opened = opened
        self._plan = plan
        self._target = target
        self._redact = redact
        self._settings = settings
        self._progress = progress
        self._signals = 0

    async def main(self) -> None:
        settings, session = self._settings, self._opened.session
        opened, journal = self._opened, self._opened.journal
        slots = Slots(settings.concurrency)
        async with open_session(
            self._target.headers, verify=settings.verify, ca_file=settings.ca_file
        ) as http:
            client = Client(http, self._target, settings.timeouts, self._redact, settings.keep_headers)
            delivery = Delivery(
                client,
                session=session.number,
                anchor_ns=session.anchor_ns,
                retries=settings.retries,
                include_usage=settings.include_usage,
                keep=settings.keep,
            )
            breaker = Breaker(answered=opened.answered > 0)
            self.engine = Engine(delivery, journal, slots, breaker, self._tell)
            delivery.on_first_token = self.engine.first_token
            journal.start(self.engine.on_full)
            self._catch_signals()
            ticker = asyncio.create_task(self._tick())
            # What exists now lives as long as the run: keep the collector from walking it over and over.
            gc.collect()
            gc.freeze()
            try:
                await self.engine.run(self._feed())
            finally:
                ticker.cancel()
                self._note_end()

    def snapshot(self) -> Snapshot:
        tally = self.engine.tally
        return Snapshot(
            done=self._opened.journal.synced_lines,
            failed=tally.status["error"],
            in_flight=self.engine.in_flight,
            tokens=tally.completion_tokens,
            state="stopping" if self.engine.stopping else "",
        )

    # -- requests in

    async def _feed(self) -> AsyncGenerator[Request]:
        settled = array("Q", self._opened.settled.tobytes())
        blocks, builder = self._plan.blocks(), self._plan.builder()
        turn = time.perf_counter()
        block = await asyncio.to_thread(next, blocks, None)
        while block is not None:
            ahead = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
            try:
                for request in builder.feed(block):
                    if _among(settled, digest64(request.id)):
                        if time.perf_counter() - turn > _TURN_S:
                            await asyncio.sleep(0)
                            turn = time.perf_counter()
                    else:
                        yield request
                if builder.done:
                    return
            finally:
                block = await ahead
        for request in builder.end():
            if not _among(settled, digest64(request.id)):
                yield request

    # -- signals

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process, the journal stays
            loop.add_signal_handler(signal.SIGINT, self._signalled, "interrupted")
            loop.add_signal_handler(signal.SIGTERM, self._signalled, "terminated")

    def _signalled(self, how: Any) -> None:
        self._signals += 1
        if self._signals > 1:
            if how == "interrupted" and self.engine.stopping:
                self.engine.ended_by = how
            self.engine.cut("user")
            self._tell("closing the streams")
            return
        count, grace_s = self.engine.in_flight, self._settings.grace_s
        self.engine.stop(how)
        limited = how == "terminated" and grace_s is not None
        if limited:
            loop = asyncio.get_running_loop()
            loop.call_later(grace_s or 0, self.engine.cut, "deadline")
        wait = f" at most {grace_s:g} s" if limited else ""
        self._tell(
            f"stopping: waiting{wait} for {count} in flight; once more closes them and keeps what they said"
        )

    # -- progress out

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            await asyncio.to_thread(self._show, self.snapshot())

    def _show(self, snapshot: Snapshot) -> None:
        self._progress.show(snapshot)
        opened = self._opened
        told = ProgressFile(
            pid=os.getpid(),
            session=opened.session.number,
            at_ns=time.monotonic_ns(),
            total=self._plan.requests,
            settled=len(opened.settled) + snapshot.done,
            in_flight=snapshot.in_flight,
            synced_bytes=opened.journal.synced_bytes,
            state=snapshot.state or "running",
        )
        path = opened.path / PROGRESS
        beside = path.with_name(f".{PROGRESS}.{os.getpid()}")
        with contextlib.suppress(OSError):  # derived: a full disk must not end the run here
            beside.write_bytes(msgspec.json.encode(told))
            beside.replace(path)

    def _tell(self, text: str) -> None:
        self._progress.say(text)

    def _note_end(self) -> None:
        session, engine = self._opened.session, self.engine
        session.ended_at = time.monotonic_ns() - session.anchor_ns
        session.ended_by, session.reason = engine.ended_by, engine.reason
        if engine.ended_by == "circuit_breaker":
            session.stopped_on = engine.stopped_on
        tally = engine.tally
        session.counts = {"started": tally.started, **tally.status, "retries": tally.retries}
        session.gauge = {"cpu_s": round(time.process_time(), 3)}


def _among(sorted_digests: array[int], digest: int) -> bool:
    place = bisect_left(sorted_digests, digest)
    return place < len(sorted_digests) and sorted_digests[place] == digest
