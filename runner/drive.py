"""The loads of one process, one a target: made ready, driven together, and what became of each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from runner.alarm import Alarm
from runner.client import Client
from runner.course import Course
from runner.delivery import Delivery, Keep
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.gauge import Gauge
from runner.journal import Journal
from runner.live import Live
from runner.load import Load
from runner.prices import Prices
from runner.record import CancelledBy, Phase
from runner.redact import Redactor
from runner.store import EndedBy
from runner.target import Target, without_query
from runner.timeouts import Timeouts
from runner.transport import open_session
from scenarios.workload import Workload


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
    workers: int = 1


class Lane(msgspec.Struct, kw_only=True):
    """One target's load, or a worker's part of it."""

    target: Target
    workload: Workload
    course: Course
    journal: Journal
    session: int
    anchor_ns: int
    prices: Prices | None = None
    proven: bool = False  # the target has answered before


class LoadEnd(msgspec.Struct, kw_only=True):
    """What became of a load, or of a worker's part of it. Counts of the measured phase, unless named."""

    ended_by: EndedBy
    reason: str | None = None
    started: int = 0
    unwritten: int = 0
    status: dict[str, int] = {}
    scheduled: int = 0
    scheduled_warmup: int = 0
    sent: int = 0
    sent_warmup: int = 0
    arrived: int = 0
    unsent_wait_s: float = 0.0
    held: int = 0
    peak_in_flight: int = 0
    was_full: bool = False
    steady: tuple[int | None, int | None] = (None, None)
    """Instants (`monotonic_ns`)."""
    unsafe: str | None = None
    """Why its journal could not be made safe on the disk."""


class Drive:
    """Drives some loads together. Their journals are open, and are closed by who opened them.

    Args:
        lanes: one a target.
        settings: how to send.
        redact: takes secrets out of messages.
        say: shows one line to the user.
    """

    def __init__(
        self, lanes: list[Lane], settings: Settings, redact: Redactor, say: Callable[[str], None]
    ) -> None:
        self.live = Live()
        self.loads: list[Load] = []
        self.began_at = 0
        self.gauge: dict[str, Any] = {}
        self._lanes = lanes
        self._settings = settings
        self._redact = redact
        self._say = say
        self._deliveries: list[Delivery] = []

    async def make(self, stack: AsyncExitStack, endpoints: list[Endpoint] | None = None) -> None:
        """Make the loads ready. `stack` closes what they hold; `endpoints`: where there are some already."""
        for number, lane in enumerate(self._lanes):
            if endpoints is None:
                endpoint = await open_endpoint(stack, lane.target, self._settings, self._redact)
            else:
                endpoint = endpoints[number]
            alarm = Alarm()
            stack.callback(alarm.close)
            load = self._load(lane, endpoint, alarm)
            self.loads.append(load)
            lane.journal.start(load.on_full)

    async def run(self, begin_at: int | None = None) -> None:
        """Run them to their ends.

        Args:
            begin_at: the instant of their start; at once, where there is none.
        """
        # What exists now lives as long as the load: keep the collector from walking it over and over.
        gc.collect()
        gc.freeze()
        gauge = Gauge()
        gauge.start()
        self.began_at = time.monotonic_ns() if begin_at is None else begin_at
        try:
            outcomes = await asyncio.gather(*map(self._run, self.loads), return_exceptions=True)
        finally:
            self.gauge = gauge.stop()
            gc.unfreeze()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    @property
    def in_flight(self) -> int:
        """Arrivals whose place is taken, of all loads."""
        return sum(load.in_flight for load in self.loads)

    @property
    def cpu_s(self) -> float:
        """CPU of other processes than this one."""
        return 0.0

    @property
    def started(self) -> int:
        """Requests sent so far."""
        return sum(load.tally.started for load in self.loads)

    @property
    def stopping(self) -> bool:
        """Nothing new is started."""
        return bool(self.loads) and all(load.stopping for load in self.loads)

    def stop(self, ended_by: EndedBy, reason: str | None = None) -> None:
        """Start nothing more."""
        for load in self.loads:
            load.stop(ended_by, reason)

    def cut(self, by: CancelledBy) -> None:
        """Close what is in flight."""
        for load in self.loads:
            load.cut(by)

    def heard_since(self, at: int) -> list[bool]:
        """Whether a byte of each target came since that instant."""
        return [delivery.heard_since(at) for delivery in self._deliveries]

    def ends(self) -> list[LoadEnd]:
        """What became of each."""
        return [
            _end(load, lane.journal, self.began_at)
            for load, lane in zip(self.loads, self._lanes, strict=True)
        ]

    def so_far(self) -> list[LoadEnd]:
        """The same of loads that go on: what was started is counted, and what was due is not asked."""
        return [
            _count(LoadEnd(ended_by="worker_lost", steady=load.window()), load, scheduled=load.arrived)
            for load in self.loads
        ]

    async def _run(self, load: Load) -> None:
        try:
            await load.run(self.began_at)
        except BaseException:
            for other in self.loads:
                other.stop("error", "the load of another target failed")
            raise

    def _load(self, lane: Lane, endpoint: Endpoint, alarm: Alarm) -> Load:
        delivery = Delivery(
            Gate(Fleet([endpoint]), cools=False),
            session=lane.session,
            anchor_ns=lane.anchor_ns,
            retries=0,
            include_usage=self._settings.include_usage,
            keep=self._settings.keep,
            prices=lane.prices,
        )
        load = Load(
            delivery,
            lane.journal,
            lane.workload.item,
            lane.course,
            alarm,
            self.live,
            self._say,
            anchor_ns=lane.anchor_ns,
            proven=lane.proven,
        )
        delivery.on_first_token = load.first_token
        self._deliveries.append(delivery)
        return load


async def open_endpoint(
    stack: AsyncExitStack, target: Target, settings: Settings, redact: Redactor
) -> Endpoint:
    """A target with a session of its own, which `stack` closes."""
    http = await stack.enter_async_context(
        open_session(target.headers, verify=settings.verify, ca_file=settings.ca_file, proxy=target.proxy)
    )
    client = Client(http, target, settings.timeouts, redact, settings.keep_headers)
    return Endpoint(client, without_query(target.base_url))


def _end(load: Load, journal: Journal, began_at: int) -> LoadEnd:
    load.began_at = load.began_at or began_at  # one that was never run
    end = LoadEnd(
        ended_by=load.ended_by,
        reason=load.reason,
        unsent_wait_s=load.unsent_wait_s(),
        steady=load.window(),
        unsafe=None if journal.failure is None else journal.failure.strerror,
    )
    return _count(end, load, scheduled=load.scheduled())


def _count(end: LoadEnd, load: Load, *, scheduled: dict[Phase, int]) -> LoadEnd:
    tally = load.tally
    return msgspec.structs.replace(
        end,
        started=tally.started,
        unwritten=tally.unwritten,
        status=dict(tally.status),
        scheduled=scheduled["measure"],
        scheduled_warmup=scheduled["warmup"],
        sent=load.sent["measure"],
        sent_warmup=load.sent["warmup"],
        arrived=load.arrived["measure"],
        held=load.held,
        peak_in_flight=load.peak_in_flight,
        was_full=load.was_full,
    )
