"""The `run` job: a plan's requests sent once each, into an opened run directory, until done or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from runner.budget import Budget
from runner.bulk_shards import Elsewhere, Shards, launch_here
from runner.client import Client
from runner.delivery import Delivery
from runner.engine import Engine
from runner.feed import feed, first_of
from runner.fleet import Endpoint, Fleet
from runner.gate import Ask, Gate
from runner.gauge import Gauge, over_all
from runner.limits import Breaker, Slots
from runner.on_loop import run_on_loop, unless
from runner.orders import Start
from runner.pacing import Adaptive
from runner.prices import amount, bound_of, worst_case
from runner.progress import Progress, Snapshot
from runner.ready import Purse, ready_body, wait_ready
from runner.redact import Redactor
from runner.retrying import Retrying
from runner.rundir import Opened, write_manifest
from runner.settings import Settings
from runner.spent import Spent, spent_before
from runner.store import PROGRESS, own_name
from runner.store import Progress as ProgressFile
from runner.target import Target, without_query
from runner.transport import open_session
from scenarios.prompts import Plan

_TICK_S = 0.5


def run_bulk(
    opened: Opened,
    plan: Plan,
    targets: list[Target],
    redact: Redactor,
    settings: Settings,
    cluster: Elsewhere | None = None,
) -> Engine:
    """Run the job to its end, and leave what became of it in the opened run's session. Blocks.

    Args:
        opened: the run directory.
        plan: what to send; what is settled is left out.
        targets: where to.
        redact: takes their secrets out of texts.
        settings: how; with a cluster, `workers` is the number of its actors.
        cluster: where the workers are, if not on this machine.
    """
    progress = Progress(plan.requests, len(opened.settled))
    job = _Job(opened, plan, targets, redact, settings, progress, cluster)
    try:
        run_on_loop(job.main())
    finally:
        opened.journal.close()
        if hasattr(job, "engine"):  # else it failed before it began: that error is the one to show
            progress.close(job.snapshot())
    return job.engine


class _Job:
    engine: Engine  # there once `main` has begun
    gate: Gate
    _slots: Slots

    def __init__(
        self,
        opened: Opened,
        plan: Plan,
        targets: list[Target],
        redact: Redactor,
        settings: Settings,
        progress: Progress,
        cluster: Elsewhere | None,
    ) -> None:
        self._opened = opened
        self._cluster = cluster
        self._plan = plan
        self._targets = targets
        self._redact = redact
        self._settings = settings
        self._progress = progress
        self._signals = 0
        self._done = 0  # as far as it was shown
        self._misfits = 0  # requests that cost more than --max-cost leaves
        self._misfit = ""  # of the first of them
        self._adaptive = Adaptive(settings.concurrency) if settings.adaptive else None
        self._shards: Shards | None = None  # with more than one worker
        self._gauge = Gauge()

    async def main(self) -> None:
        journal = self._opened.journal
        async with AsyncExitStack() as stack:
            fleet = Fleet([await self._endpoint(stack, target) for target in self._targets], self._tell)
            self.engine = self._engine(fleet)
            if self._shards is None:
                journal.start(self.engine.on_full)
            self._catch_signals()
            ticker = asyncio.create_task(self._tick())
            # What exists now lives as long as the run: keep the collector from walking it over and over.
            gc.collect()
            gc.freeze()
            self._gauge.start()
            try:
                if self._settings.wait_ready:
                    await self._wait_ready(fleet)
                if self._shards is not None and not self.engine.stopping:
                    await self._start_workers(self._shards)
                    self._slots.begin()
                await self.engine.run(feed(self._plan, self._opened, self._settings.pilot))
                if self._settings.pilot is not None and self._settings.pilot < self._to_send:
                    self.engine.stop("pilot")
                elif self._misfits:
                    self.engine.stop("budget", self._why_over())
            finally:
                await self._end(ticker)

    async def _start_workers(self, shards: Shards) -> None:
        started = await shards.start()
        if started and self._cluster is not None:
            # Now, and not at the end: what times of records mean must be known of a run that was killed, too.
            self._cluster.told.sort(key=lambda node: node["shard"])
            self._opened.session.nodes = self._cluster.told
            await asyncio.to_thread(write_manifest, self._opened.path, self._opened.manifest)

    async def _end(self, ticker: asyncio.Task[None]) -> None:
        try:
            if self._shards is not None:
                await self._shards.finish()
        finally:
            ticker.cancel()
            self._note_end()

    async def _endpoint(self, stack: AsyncExitStack, target: Target) -> Endpoint:
        settings = self._settings
        http = await stack.enter_async_context(
            open_session(target.headers, verify=settings.verify, ca_file=settings.ca_file, proxy=target.proxy)
        )
        client = Client(
            http,
            target,
            settings.timeouts,
            self._redact,
            settings.keep_headers,
            stop_after=settings.stop_after,
        )
        return Endpoint(client, without_query(target.base_url))

    def _engine(self, fleet: Fleet) -> Engine:
        settings, opened = self._settings, self._opened
        adaptive = self._adaptive
        self._slots = slots = Slots(adaptive.limit if adaptive is not None else settings.concurrency)
        self.gate = Gate(
            fleet,
            rpm=settings.rpm,
            tpm=settings.tpm,
            budget=self._budget(),
            adaptive=adaptive,
            resize=slots.resize,
            tell=self._tell,
        )
        breaker = Breaker(answered=opened.answered > 0)
        engine = (
            self._engine_here(slots, breaker)
            if settings.workers == 1 and self._cluster is None
            else self._engine_of_workers(slots, breaker)
        )
        self.gate.on_over = self._over
        self.gate.on_unsaved = lambda why: engine.stop("disk_full", why)
        self.gate.on_shut = lambda wait_s: engine.stop(
            "circuit_breaker", f"the server asks to be left alone for {wait_s:,.0f} s"
        )
        self.gate.on_dead = lambda down_s: engine.stop(
            "circuit_breaker", f"the server has given no answer for {down_s:,.0f} s"
        )
        return engine

    def _engine_here(self, slots: Slots, breaker: Breaker) -> Engine:
        settings, session = self._settings, self._opened.session
        delivery = Delivery(
            self.gate,
            session=session.number,
            anchor_ns=session.anchor_ns,
            retries=settings.retries,
            include_usage=settings.include_usage,
            keep=settings.keep,
            prices=settings.prices,
        )
        engine = Engine(delivery, self._opened.journal, slots, breaker, self._tell)
        delivery.on_first_token = engine.first_token
        return engine

    def _engine_of_workers(self, slots: Slots, breaker: Breaker) -> Engine:
        settings, session = self._settings, self._opened.session
        start = Start("", session.number, session.anchor_ns, self._targets, self._redact.secrets, settings)
        retrying = Retrying(self.gate, settings.retries)
        cluster = self._cluster
        launch = launch_here if cluster is None else cluster.launch
        shards = Shards(self._opened.path, start, self.gate, retrying, self._redact, self._tell, launch)
        engine = Engine(
            shards,
            shards,
            slots,
            breaker,
            self._tell,
            told=lambda sent: sent.told,
            encode=lambda sent: sent,  # its worker writes the line
        )
        shards.on_first_token = engine.first_token
        shards.on_full = engine.on_full
        shards.on_broken = lambda why: engine.stop("error", why)
        if cluster is not None:
            shards.on_none_left = lambda: engine.stop("no_nodes", "no node of the cluster is left")
        self._shards = shards
        return engine

    def _budget(self) -> Budget | None:
        settings, opened = self._settings, self._opened
        if settings.max_cost is None or settings.prices is None:
            return None
        own = None if opened.part is None else [opened.journal.path]
        before = spent_before(opened.path, opened.manifest.sessions[:-1], settings.prices, own)
        if before != Spent():
            self._tell(before.words(settings.max_cost))

        async def save(ceiling: float) -> None:
            opened.session.reserved_cost = ceiling
            await asyncio.to_thread(write_manifest, opened.path, opened.manifest)

        return Budget(settings.max_cost, before.amount, save)

    async def _wait_ready(self, fleet: Fleet) -> None:
        request = await asyncio.to_thread(first_of, self._plan)
        if request is None:
            return
        body = ready_body(request)
        data, began = msgspec.json.encode(body), time.monotonic()
        purse = self._purse(body, len(data))
        limit_s = self._settings.ready_limit_s
        asking = wait_ready(fleet.endpoints, request.api, data, limit_s, self._tell, purse)
        _, ready = await unless(self.engine.stopped(), asking)
        waited_s = time.monotonic() - began
        self._opened.session.gauge["ready"] = {
            "waited_s": round(waited_s, 3),
            "requests": purse.requests,
            "cost_bound": purse.total if purse.priced else None,
        }
        if ready is None:
            return
        if ready.over:
            self.engine.stop("budget", "no further request of --wait-ready fits into what is left")
        elif ready.error is not None:
            self.engine.give_up(ready.error, f"not ready after {waited_s:.1f} s: {ready.error.message}")

    def _purse(self, body: dict[str, Any], size: int) -> Purse:
        prices = self._settings.prices
        price = prices.of(body.get("model")) if prices is not None else None
        worst = worst_case(body, size, price) if price is not None else None
        if self.gate.budget is not None and prices is not None:
            worst = bound_of(body, size, prices)
        return Purse(self.gate, price, worst or 0.0)

    def _over(self, ask: Ask) -> None:
        """A request does not fit into the budget any more. The run ends where no smaller one would."""
        budget = self.gate.budget
        assert budget is not None
        least, self._misfits = self._settings.least_cost, self._misfits + 1
        if self._misfits == 1:
            row = "a row" if ask.row is None else f"row {ask.row + 1}"
            self._misfit = (
                f"{row} may cost up to {amount(ask.worst)}, and {amount(max(budget.left, 0))} is left"
            )
        if not budget.fits(least) and budget.is_over(least):
            self.engine.stop("budget", self._why_over())
        elif self._misfits == 1:
            self._tell(f"--max-cost: {self._misfit}. It is not sent, smaller ones are")

    def _why_over(self) -> str:
        if self._misfits == 1:
            return self._misfit
        return f"{self._misfits:,} requests did not fit, the first: {self._misfit}"

    def snapshot(self) -> Snapshot:
        tally = self.engine.tally
        # Which of the lines on the disk are of cancelled ones is not known before the end: it is never more.
        self._done = max(self._done, self._synced_lines - tally.cut)
        return Snapshot(
            done=self._done,
            failed=tally.status["error"],
            in_flight=self.engine.in_flight,
            tokens=tally.completion_tokens,
            state="stopping" if self.engine.stopping else self.gate.state(),
            cancelled=tally.cut,
        )

    @property
    def _synced_lines(self) -> int:
        return (self._shards or self._opened.journal).synced_lines

    @property
    def _to_send(self) -> int:
        return self._plan.requests - len(self._opened.settled)

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
            # At once: else `status` would count what may not be on the disk yet, and take it back.
            synced = {} if self._shards is None else self._shards.synced_bytes
            await asyncio.to_thread(self._show, self.snapshot(), synced)
            await asyncio.sleep(_TICK_S)

    def _show(self, snapshot: Snapshot, synced: dict[str, int]) -> None:
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
            synced=synced,
        )
        path = opened.path / own_name(PROGRESS, opened.manifest.shard)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
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
            earlier = self._opened.manifest.sessions[:-1]
            session.stopped_on = engine.stopped_on(earlier[-1].stopped_on if earlier else None)
        tally = engine.tally
        session.counts = {"started": tally.started, **tally.status, "retries": tally.retries}
        if tally.unwritten:
            session.counts["unwritten"] = tally.unwritten
        if self.gate.budget is not None:
            # No longer a ceiling over what is in flight, but what was held for good: no record tells of it.
            session.reserved_cost = self.gate.budget.unsettled
        workers = [] if self._shards is None else self._shards.ended
        if self._shards is not None and self._shards.journal_failure is not None:
            self._opened.journal.failure = OSError(errno.EIO, self._shards.journal_failure)
        session.gauge |= {**over_all(self._gauge.stop(), workers), **self._paced()}

    def _paced(self) -> dict[str, Any]:
        """What held requests back."""
        gate, adaptive = self.gate, self._adaptive
        out: dict[str, Any] = {
            "cooldowns": gate.cooldowns,
            "cooldown_s": round(gate.cooled_ns() / 1e9, 3),
            "paced_s": round(gate.paced_ns() / 1e9, 3),
        }
        if adaptive is not None:
            out |= {"lowest_concurrency": adaptive.lowest, "highest_concurrency": adaptive.highest}
        if gate.budget is not None:
            budget = gate.budget
            out |= {"budget_lowered": budget.lowered, "spent": budget.spent + budget.unsettled}
        return out
