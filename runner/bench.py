"""The `bench` job: a scenario's load on its target, or on several side by side, measured to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from runner.alarm import Alarm
from runner.benchdir import OpenedBench
from runner.client import Client
from runner.course import Course
from runner.delivery import Delivery, Keep
from runner.fit import fit_lengths, needs_probes
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.gauge import Gauge
from runner.live import Live, Screen, View
from runner.load import Load
from runner.on_loop import run_on_loop
from runner.prices import Prices
from runner.ready import Purse, ready_body, wait_ready
from runner.redact import Redactor
from runner.scrape import FILE, Scraper
from runner.store import EndedBy
from runner.target import Target, without_query
from runner.timeouts import Timeouts
from runner.transport import open_session
from scenarios.scenario import Scenario
from scenarios.synthetic import Fit
from scenarios.trace import TraceRow
from scenarios.workload import Workload

_TICK_S = 0.5
_S = 1_000_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to send and to watch, as opposed to what."""

    timeouts: Timeouts = Timeouts()
    include_usage: bool = True
    keep: Keep = Keep()
    keep_headers: tuple[str, ...] = ()
    verify: bool = True
    ca_file: str | None = None
    wait_ready: bool = False
    ready_limit_s: float | None = None
    metrics_url: str | None = None  # with its login: never written


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
        self.loads: list[Load] = []
        self.outcome = Outcome(fit, None)
        self._patient = patient
        self._aims = aims
        self._redact = redact
        self._settings = settings
        self._screen = screen
        self._live = Live()
        self._signals = 0
        self._stopped = asyncio.Event()
        self._ended_by: EndedBy | None = None
        self._fitted_to: Aim | None = None  # it has answered, then

    async def main(self) -> None:
        async with AsyncExitStack() as stack:
            self._catch_signals()
            endpoints = [await self._endpoint(stack, aim) for aim in self._aims]
            if not await self._get_ready(endpoints):
                return
            for aim, endpoint in zip(self._aims, endpoints, strict=True):
                alarm = Alarm()
                stack.callback(alarm.close)
                load = self._load(aim, endpoint, alarm)
                self.loads.append(load)
                aim.opened.journal.start(load.on_full)
            await self._drive()

    async def _drive(self) -> None:
        # What exists now lives as long as the load: keep the collector from walking it over and over.
        gc.collect()
        gc.freeze()
        gauge, scraper = Gauge(), self._scraper()
        gauge.start()
        ticker = asyncio.create_task(self._tick())
        if self._ended_by is not None:  # asked to, while it was prepared
            for load in self.loads:
                load.stop(self._ended_by)
        try:
            outcomes = await asyncio.gather(*map(self._run, self.loads), return_exceptions=True)
        finally:
            measured = gauge.stop()
            gc.unfreeze()
            ticker.cancel()
            scraped = {} if scraper is None else {"metrics": await scraper.stop()}
            for aim, load in zip(self._aims, self.loads, strict=True):
                _note_end(aim, load, {**measured, **scraped})
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _run(self, load: Load) -> None:
        try:
            await load.run()
        except BaseException:
            for other in self.loads:
                other.stop("error", "the load of another target failed")
            raise

    # -- before

    async def _endpoint(self, stack: AsyncExitStack, aim: Aim) -> Endpoint:
        settings, target = self._settings, aim.target
        http = await stack.enter_async_context(
            open_session(target.headers, verify=settings.verify, ca_file=settings.ca_file, proxy=target.proxy)
        )
        client = Client(http, target, settings.timeouts, self._redact, settings.keep_headers)
        return Endpoint(client, without_query(target.base_url))

    async def _get_ready(self, endpoints: list[Endpoint]) -> bool:
        for aim, endpoint in zip(self._aims, endpoints, strict=True):
            preparing = asyncio.create_task(self._prepare(aim, endpoint))
            stopped = asyncio.create_task(self._stopped.wait())
            await asyncio.wait({preparing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not preparing.done():
                preparing.cancel()
                await asyncio.wait({preparing})
                return False
            reason = preparing.result()
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

    def _load(self, aim: Aim, endpoint: Endpoint, alarm: Alarm) -> Load:
        settings, session = self._settings, aim.opened.session
        delivery = Delivery(
            Gate(Fleet([endpoint]), cools=False),
            session=session.number,
            anchor_ns=session.anchor_ns,
            retries=0,
            include_usage=settings.include_usage,
            keep=settings.keep,
            prices=aim.prices,
        )
        load = Load(
            delivery,
            aim.opened.journal,
            aim.workload.item,
            aim.course,
            alarm,
            self._live,
            self._screen.say,
            anchor_ns=session.anchor_ns,
            proven=settings.wait_ready or aim.proven or self._fitted_to is aim,
        )
        delivery.on_first_token = load.first_token
        return load

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
        self.outcome.asked_to_end = self.outcome.asked_to_end or how
        if self._patient and self.loads and how == "interrupted":
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
        for load in self.loads:
            load.stop(how)
        going, grace_s = self._in_flight, self._aims[0].course.grace_ns / _S
        if self.loads:
            asyncio.get_running_loop().call_later(grace_s, self._cut)
            self._screen.say(
                f"stopping: waiting at most {grace_s:g} s for {going} in flight; once more closes them and "
                "keeps what they said"
            )

    def _cut(self) -> None:
        for load in self.loads:
            load.cut("user")

    # -- what is seen

    @property
    def _in_flight(self) -> int:
        return sum(load.in_flight for load in self.loads)

    def view(self) -> View:
        live = self._live
        schedule = self._aims[0].course.schedule
        gap_ns = None if schedule is None else schedule.mean_gap_ns
        return View(
            started=sum(load.tally.started for load in self.loads),
            done=live.done,
            failed=live.failed,
            in_flight=self._in_flight,
            tokens=live.tokens,
            asked_per_s=len(self._aims) * _S / gap_ns if gap_ns else None,
            ttft_p50_ms=live.ttft_ms(50),
            ttft_p95_ms=live.ttft_ms(95),
            state="finishing" if self.loads and all(load.stopping for load in self.loads) else "",
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._screen.show(self.view())


def _note_end(aim: Aim, load: Load, measured: dict[str, Any]) -> None:
    session = aim.opened.session
    session.ended_at = time.monotonic_ns() - session.anchor_ns
    session.ended_by, session.reason = load.ended_by, load.reason
    tally = load.tally
    session.counts = {"started": tally.started, **tally.status}
    if tally.unwritten:
        session.counts["unwritten"] = tally.unwritten
    session.gauge |= {"cpu_s": round(time.process_time(), 3), **measured}
    session.gauge["load"] = _told(load, aim.course, session.anchor_ns)


def _told(load: Load, course: Course, anchor_ns: int) -> dict[str, Any]:
    """What became of the load, for the manifest. Instants are since the session's anchor."""
    scheduled = load.scheduled()
    schedule = course.schedule
    window = load.window()

    def since_anchor(at: int | None) -> int | None:
        return None if at is None else at - anchor_ns

    out: dict[str, Any] = {
        "executor": course.executor,
        "scheduled": scheduled["measure"],
        "scheduled_warmup": scheduled["warmup"],
        "sent": load.sent["measure"],
        "sent_warmup": load.sent["warmup"],
        "arrived": load.arrived["measure"],
        "unsent": scheduled["measure"] - load.arrived["measure"],
        "unsent_wait_s": round(load.unsent_wait_s(), 6),
        "held": load.held,
        "mean_gap_ms": None if schedule is None or not schedule.mean_gap_ns else schedule.mean_gap_ns / 1e6,
        "steady_begin_ns": since_anchor(window[0]),
        "steady_end_ns": since_anchor(window[1]),
        "max_in_flight": course.max_in_flight,
        "concurrency": max((places for _, places in course.places), default=None),
        "peak_in_flight": load.peak_in_flight,
    }
    if schedule is not None:
        out["schedule_begin_ns"] = since_anchor(load.began_at + schedule.begin_ns)
        out["schedule_end_ns"] = since_anchor(load.began_at + schedule.end_ns)
    return out
