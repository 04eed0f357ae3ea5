"""The `bench` job: a scenario's load on its target, or on several side by side, measured to its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from runner.bench_team import Team
from runner.bench_worker import Part, Start
from runner.benchdir import OpenedBench
from runner.course import Course
from runner.drive import Drive, Lane, LoadEnd, Settings, open_endpoint
from runner.ended import told
from runner.fit import fit_lengths, needs_probes
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.journal import mend
from runner.live import Live, Screen, View
from runner.on_loop import run_on_loop, unless
from runner.prices import Prices
from runner.ready import Purse, ready_body, wait_ready
from runner.redact import Redactor
from runner.scrape import FILE, Scraper
from runner.shards import WorkerError
from runner.store import EndedBy, StoreError, lines
from runner.target import Target
from scenarios.scenario import Scenario
from scenarios.synthetic import Fit
from scenarios.trace import TraceRow
from scenarios.workload import Workload

_TICK_S = 0.5
_S = 1_000_000_000


class Aim(msgspec.Struct, kw_only=True):
    """One target with its load, and the run directory of its own that this goes to."""

    scenario: Scenario
    opened: OpenedBench
    target: Target
    workload: Workload
    rows: list[TraceRow] | None = None
    course: Course
    prices: Prices | None = None
    name: str = ""
    salt: str | None = None  # of the workload, which is made again once the length of prompts is known
    proven: bool = False  # it has answered before


class Outcome(msgspec.Struct):
    """What a job leaves behind beside its directories, for the one that comes after it."""

    fit: Fit | None
    asked_to_end: EndedBy | None  # a signal came, also where the load went on to its end


def run_bench(
    aims: list[Aim], redact: Redactor, settings: Settings, *, fit: Fit | None = None, patient: bool = False
) -> Outcome:
    """Run the job to its end, and leave what became of it in the sessions of its directories. Blocks.

    Args:
        aims: the targets, side by side.
        redact: takes secrets out of messages.
        settings: how to send.
        fit: how long made-up prompts are, where that was measured before.
        patient: the first Ctrl-C is noted and the load goes on; the second one is what else the first is.
    """
    course = aims[0].course
    end = course.end_ns
    several = len(aims)
    total = None if course.requests is None else several * (course.requests + course.warmup_requests)
    screen = Screen(None if end is None else end / _S, total)
    job = _Job(aims, redact, settings, screen, fit, patient=patient)
    try:
        run_on_loop(job.main())
    finally:
        for aim in aims:
            aim.opened.journal.close()
            failure = aim.opened.journal.failure  # of this process: a worker tells of its own
            if failure is not None:
                aim.opened.unsafe = failure.strerror
        screen.close(job.view())
    return job.outcome


class _Job:
    def __init__(
        self,
        aims: list[Aim],
        redact: Redactor,
        settings: Settings,
        screen: Screen,
        fit: Fit | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self.outcome = Outcome(fit, None)
        self._patient = patient
        self._aims = aims
        self._redact = redact
        self._settings = settings
        self._screen = screen
        self._workers = max(len(aims[0].opened.shards), 1)
        self._loads: Drive | Team | None = None
        self._signals = 0
        self._stopped = asyncio.Event()
        self._ended_by: EndedBy | None = None
        self._fitted_to: Aim | None = None  # it has answered, then

    async def main(self) -> None:
        async with AsyncExitStack() as stack:
            self._catch_signals()
            endpoints = [
                await open_endpoint(stack, aim.target, self._settings, self._redact) for aim in self._aims
            ]
            if not await self._get_ready(endpoints):
                return
            loads: Drive | Team | None
            if self._workers == 1:
                loads = Drive(
                    list(map(self._lane, self._aims)), self._settings, self._redact, self._screen.say
                )
                await loads.make(stack, endpoints)
            else:
                loads = await self._team()
            if loads is not None:
                self._loads = loads
                await self._run(loads)

    async def _run(self, loads: Drive | Team) -> None:
        scraper = self._scraper()
        ticker = asyncio.create_task(self._tick())
        if self._ended_by is not None:  # asked to, while it was prepared
            loads.stop(self._ended_by)
        try:
            await loads.run()
        finally:
            ticker.cancel()
            measured = {"cpu_s": round(time.process_time() + loads.cpu_s, 3), **loads.gauge}
            if scraper is not None:
                measured["metrics"] = await scraper.stop()
            if isinstance(loads, Team):
                for worker in loads.lost:
                    loads.read_back(worker, await asyncio.to_thread(self._mend, worker))
            for aim, end in zip(self._aims, loads.ends(), strict=True):
                _note_end(aim, end, loads.began_at, measured)

    # -- before

    async def _get_ready(self, endpoints: list[Endpoint]) -> bool:
        for aim, endpoint in zip(self._aims, endpoints, strict=True):
            done, reason = await unless(self._stopped.wait(), self._prepare(aim, endpoint))
            if not done:
                return False
            if reason is not None:
                aim.opened.session.ended_by, aim.opened.session.reason = "circuit_breaker", reason
                return False
        return True

    async def _prepare(self, aim: Aim, endpoint: Endpoint) -> str | None:
        """Wait for the server and fit the prompts to it, where asked to. Returns why it cannot go on."""
        if self._settings.wait_ready:
            why = await self._wait_ready(aim, endpoint)
            if why is not None:
                return why
        if needs_probes(aim.scenario, self._settings.include_usage):
            # One fit for all: the same words go to each.
            fit = self.outcome.fit
            if fit is None:
                fit = self.outcome.fit = await fit_lengths(aim.scenario, endpoint.client, self._screen.say)
                self._fitted_to = aim if fit.probes else None
            workload = Workload(aim.scenario, fit, aim.rows)
            aim.workload = workload if aim.salt is None else workload.salted(aim.salt)
            aim.opened.session.gauge["fit"] = msgspec.to_builtins(fit)
        return None

    async def _wait_ready(self, aim: Aim, endpoint: Endpoint) -> str | None:
        request, began = aim.workload.item(0).first, time.monotonic()
        purse = Purse(Gate(Fleet([endpoint]), cools=False), None, 0.0)
        body = msgspec.json.encode(ready_body(request))
        limit_s = self._settings.ready_limit_s
        ready = await wait_ready([endpoint], request.api, body, limit_s, self._screen.say, purse)
        waited_s = round(time.monotonic() - began, 3)
        aim.opened.session.gauge["ready"] = {"waited_s": waited_s, "requests": purse.requests}
        return None if ready.error is None else f"not ready after {waited_s:.1f} s: {ready.error.message}"

    def _is_proven(self, aim: Aim) -> bool:
        return self._settings.wait_ready or aim.proven or self._fitted_to is aim

    def _lane(self, aim: Aim) -> Lane:
        session = aim.opened.session
        return Lane(
            target=aim.target,
            workload=aim.workload,
            course=aim.course,
            journal=aim.opened.journal,
            session=session.number,
            anchor_ns=session.anchor_ns,
            prices=aim.prices,
            proven=self._is_proven(aim),
        )

    # -- with workers

    async def _team(self) -> Team | None:
        """Workers, ready to go; `None` where they cannot be had, or are not wanted any more."""
        redact = self._redact
        team = Team(self._start, self._workers, len(self._aims), redact, self._screen.say)
        try:
            done, _ = await unless(self._stopped.wait(), team.make())
        except WorkerError as exc:
            for aim in self._aims:
                aim.opened.session.ended_by, aim.opened.session.reason = "error", redact(str(exc))
            return None
        return team if done else None

    def _start(self, worker: int) -> Start:
        parts = [self._part(aim, worker) for aim in self._aims]
        return Start(worker, self._workers, self._settings, self._redact.secrets, parts)

    def _part(self, aim: Aim, worker: int) -> Part:
        session, schedule = aim.opened.session, aim.course.schedule
        fitted = needs_probes(aim.scenario, self._settings.include_usage)
        return Part(
            journal=str(aim.opened.shards[worker]),
            session=session.number,
            anchor_ns=session.anchor_ns,
            scenario=aim.scenario,
            target=aim.target,
            fit=self.outcome.fit if fitted else None,
            salt=aim.salt,
            sha256=aim.workload.describe().sha256,
            max_in_flight=aim.course.max_in_flight,
            arrivals=None if schedule is None else len(schedule.offsets_ns),
            prices=None if aim.prices is None else aim.prices.models,
            proven=self._is_proven(aim),
        )

    def _mend(self, worker: int) -> list[dict[str, int]]:
        """Cut the torn tails of a dead worker's journals. Returns what they hold: records by their status."""
        found = []
        for aim in self._aims:
            path = aim.opened.shards[worker]
            with contextlib.suppress(StoreError, OSError):  # readers leave a torn tail out as well
                mend(path)
            found.append(dict(Counter(_status(line) for _, line in lines(path))))
        return found

    def _scraper(self) -> Scraper | None:
        url, opened = self._settings.metrics_url, self._aims[0].opened
        if url is None:
            return None
        scraper = Scraper(
            url,
            opened.path / FILE,
            opened.session.anchor_ns,
            verify=self._settings.verify,
            ca_file=self._settings.ca_file,
        )
        try:
            scraper.start()
        except OSError as exc:
            self._screen.say(f"the server's metrics are not kept: {exc.strerror} ({opened.path / FILE})")
            return None
        return scraper

    # -- signals

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process, the journal stays
            loop.add_signal_handler(signal.SIGINT, self._signalled, "interrupted")
            loop.add_signal_handler(signal.SIGTERM, self._signalled, "terminated")

    def _signalled(self, how: EndedBy) -> None:
        loads = self._loads
        self.outcome.asked_to_end = self.outcome.asked_to_end or how
        if self._patient and loads is not None and how == "interrupted":
            self._patient = False
            self._screen.say("ending after this run, which completes its pair; once more stops it now")
            return
        self._signals += 1
        self._ended_by = self._ended_by or how
        self._stopped.set()
        for aim in self._aims:
            aim.opened.session.ended_by = aim.opened.session.ended_by or how
        if self._signals > 1:
            self._screen.say("closing the streams")
            self._cut()
            return
        if loads is not None:
            loads.stop(how)
            grace_s = self._aims[0].course.grace_ns / _S
            asyncio.get_running_loop().call_later(grace_s, self._cut)
            self._screen.say(
                f"stopping: waiting at most {grace_s:g} s for {loads.in_flight} in flight; once more closes "
                "them and keeps what they said"
            )

    def _cut(self) -> None:
        if self._loads is not None:
            self._loads.cut("user")

    # -- what is seen

    def view(self) -> View:
        loads = self._loads
        live = Live() if loads is None else loads.live
        schedule = self._aims[0].course.schedule
        gap_ns = None if schedule is None else schedule.mean_gap_ns
        return View(
            started=0 if loads is None else loads.started,
            done=live.done,
            failed=live.failed,
            in_flight=0 if loads is None else loads.in_flight,
            tokens=live.tokens,
            asked_per_s=len(self._aims) * _S / gap_ns if gap_ns else None,
            ttft_p50_ms=live.ttft_ms(50),
            ttft_p95_ms=live.ttft_ms(95),
            state="finishing" if loads is not None and loads.stopping else "",
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._screen.show(self.view())


class _Ended(msgspec.Struct):
    status: str


_ended = msgspec.json.Decoder(_Ended).decode


def _status(line: bytes) -> str:
    try:
        return _ended(line).status
    except msgspec.MsgspecError:
        return "bad"


def _note_end(aim: Aim, end: LoadEnd, began_at: int, measured: dict[str, Any]) -> None:
    session = aim.opened.session
    session.ended_at = time.monotonic_ns() - session.anchor_ns
    session.ended_by, session.reason = end.ended_by, end.reason
    session.counts = {"started": end.started, **end.status}
    if end.unwritten:
        session.counts["unwritten"] = end.unwritten
    session.gauge |= measured
    session.gauge["load"] = told(end, aim.course, began_at, session.anchor_ns)
    aim.opened.unsafe = end.unsafe
