"""A worker of `run`: the ordinary engine for the requests it is handed, with a journal of its own.

What is all workers' together (concurrency, rates, cool-downs, money, the circuit breaker) is the parent's.
Where the engine asks its gate, this one asks the parent's.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

import msgspec

from runner.client import Client
from runner.delivery import Delivery, encode_line
from runner.engine import told_of
from runner.fleet import Endpoint
from runner.gate import Ask
from runner.gauge import Gauge
from runner.journal import DYING_TRIES, Journal
from runner.orders import (
    ORDERS,
    Anchor,
    Bye,
    Cut,
    Done,
    Ended,
    Epochs,
    Failed,
    Finish,
    First,
    GiveUp,
    Go,
    Head,
    Held,
    May,
    Ready,
    Room,
    Start,
    Synced,
    Unused,
    Used,
    Written,
)
from runner.pipe import Message, reader
from runner.redact import Redactor
from runner.retrying import Course, Failure, Next
from runner.target import without_query
from runner.transport import open_session
from scenarios.request import Request

TELL_S = 0.25  # between words on what of a journal is on the disk
_SAY_WHEN = ("retry-after", "x-ratelimit-", "llm_provider-")  # how such headers' names begin
_decode = msgspec.json.Decoder(Request).decode


class Link(Protocol):
    """The way to the parent: a `Pipe`, or what stands for one on another machine."""

    def listen(self, decode: Callable[[bytes], Any], take: Callable[[Any], None]) -> None: ...  # noqa: D102
    def send(self, message: Message) -> None: ...  # noqa: D102


class Lines(Protocol):
    """Where a worker's lines go, and who tells the parent what became of them."""

    size: int  # of the journal, as far as was told

    def start(self) -> None: ...  # noqa: D102
    async def keep(self, number: int, line: bytes) -> None: ...  # noqa: D102
    def give_up(self) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
    def bye(self, gauge: dict[str, Any]) -> Bye: ...  # noqa: D102


async def work(pipe: Link, lines: Callable[[Link, Start], Lines] | None = None) -> None:
    """Do what the parent says, until it says `Finish` or is gone.

    Args:
        pipe: to the parent.
        lines: makes what takes the lines; default: a journal of its own.
    """
    await _Work(pipe, lines or _Journaled).main()


class _FarGate:
    """What stands here for the parent's gate, and for what decides on further attempts."""

    def __init__(self, pipe: Link, endpoints: list[Endpoint], *, limits_cost: bool, tpm: bool) -> None:
        self.limits_cost = limits_cost
        self.counts_tokens = tpm
        self._send = pipe.send
        self._endpoints = endpoints
        self._places = {endpoint: place for place, endpoint in enumerate(endpoints)}
        self._asked: dict[int, asyncio.Future[May]] = {}

    async def pass_(self, ask: Ask) -> Endpoint | None:
        raise NotImplementedError  # the parent let it pass before it came here

    def may_go(self, ask: Ask, endpoint: Endpoint) -> bool:
        return ask.epoch == endpoint.epoch

    def head(self, ask: Ask, endpoint: Endpoint, status: int) -> None:  # noqa: ARG002
        self._send(Head(ask.number, status))

    def first_token(self, endpoint: Endpoint, sent_at: int, at: int) -> None:
        self._send(First(self._places[endpoint], sent_at, at))

    def ended(
        self,
        ask: Ask,
        endpoint: Endpoint,  # noqa: ARG002
        *,
        ok: bool,
        headless: bool,
        charge: float,
    ) -> None:
        self._send(Ended(ask.number, ok, headless, charge))

    def used(self, ask: Ask, prompt: int, completion: int, *, whole: bool = True) -> None:
        self._send(Used(ask.number, prompt, completion, whole))

    def used_at_least(self, ask: Ask, tokens: float) -> None:
        self._send(Used(ask.number, tokens, None))

    def unused(self, ask: Ask, *, sent: bool = True) -> None:  # noqa: ARG002 - where not, `Held` says it
        self._send(Unused(ask.number))

    def written(self, ask: Ask) -> None:
        pass  # said with the size of the journal

    def stop(self) -> None:
        pass  # the parent knows, and lets nothing pass any more

    async def again(self, ask: Ask, endpoint: Endpoint, failure: Failure, course: Course) -> Next | None:  # noqa: ARG002
        headers = {
            name: value
            for name, value in ((name.lower(), value) for name, value in failure.headers.items())
            if name.startswith(_SAY_WHEN)
        }
        self._send(Failed(ask.number, failure.error, failure.stale, headers, failure.at))
        may, after = await self._answer(ask)
        if after is None:
            return None
        course.fresh = course.fresh or may.wait_for == "stale_connection"
        return Next(after, may.wait_for)

    async def held(self, ask: Ask, course: Course) -> Endpoint | None:  # noqa: ARG002
        self._send(Held(ask.number))
        return (await self._answer(ask))[1]

    async def _answer(self, ask: Ask) -> tuple[May, Endpoint | None]:
        asked: asyncio.Future[May] = asyncio.get_running_loop().create_future()
        self._asked[ask.number] = asked
        may = await asked
        ask.epoch = may.epoch
        return may, None if may.endpoint is None else self._endpoints[may.endpoint]

    def answered(self, may: May) -> None:
        """The parent has answered."""
        self._asked.pop(may.number).set_result(may)


class _Journaled:
    """A journal of this process's own."""

    def __init__(self, pipe: Link, start: Start) -> None:
        self._pipe = pipe
        self._journal = Journal(Path(start.journal), tries=DYING_TRIES)
        self.size = self._journal.synced_bytes
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._journal.start(self._on_full)
        self._ticker = asyncio.create_task(self._tick())

    async def keep(self, number: int, line: bytes) -> None:
        written = await self._journal.append(line)
        # In the order of the lines: futures of one thread, and one task each.
        self.size += len(line) if written else 0
        self._pipe.send(Written(number, written, self.size))

    def give_up(self) -> None:
        self._journal.give_up()

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        await asyncio.to_thread(self._journal.close)  # a slow disk's fsync is no sign that it hangs

    def bye(self, gauge: dict[str, Any]) -> Bye:
        journal = self._journal
        return Bye(gauge, why_unsafe(journal), journal.synced_lines, journal.synced_bytes)

    def _on_full(self, full: bool) -> None:
        self._pipe.send(Room(full, self._journal.why, self._journal.room_needed))

    async def _tick(self) -> None:
        told = None
        while True:
            journal = self._journal
            now = Synced(journal.synced_lines, journal.synced_bytes, journal.unsafe)
            if now != told:
                self._pipe.send(now)
                told = now
            await asyncio.sleep(TELL_S)


def why_unsafe(journal: Journal) -> str | None:
    """Why what a journal took may not be safe on the disk."""
    failure = journal.failure
    return None if failure is None or journal.full else failure.strerror


class _Work:
    _lines: Lines
    _delivery: Delivery
    _gate: _FarGate

    def __init__(self, pipe: Link, lines: Callable[[Link, Start], Lines]) -> None:
        self._pipe = pipe
        self._lines_of = lines
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoints: list[Endpoint] = []
        self._requests = 0
        self._started: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def main(self) -> None:
        self._pipe.listen(reader(*ORDERS), self._take)
        start = await self._started
        gauge = Gauge()
        async with AsyncExitStack() as stack:
            await self._set_up(stack, start)
            try:
                self._lines.start()
                gc.collect()
                gc.freeze()
                gauge.start()
                self._pipe.send(Ready(self._lines.size))
                await self._over
            finally:
                await self._lines.close()
        self._pipe.send(self._lines.bye({**gauge.stop(), "requests": self._requests}))

    async def _set_up(self, stack: AsyncExitStack, start: Start) -> None:
        settings = start.settings
        redact = Redactor(start.secrets)
        for target in start.targets:
            http = await stack.enter_async_context(
                open_session(
                    target.headers, verify=settings.verify, ca_file=settings.ca_file, proxy=target.proxy
                )
            )
            client = Client(
                http,
                target,
                settings.timeouts,
                redact,
                settings.keep_headers,
                stop_after=settings.stop_after,
            )
            self._endpoints.append(Endpoint(client, without_query(target.base_url)))
        limited = settings.max_cost is not None and settings.prices is not None
        self._gate = _FarGate(self._pipe, self._endpoints, limits_cost=limited, tpm=settings.tpm is not None)
        self._delivery = Delivery(
            self._gate,
            session=start.session,
            anchor_ns=start.anchor_ns,
            retries=settings.retries,
            include_usage=settings.include_usage,
            keep=settings.keep,
            prices=settings.prices,
            retrying=self._gate,
        )
        self._lines = self._lines_of(self._pipe, start)

    # -- from the parent

    def _take(self, order: Any) -> None:
        kind = type(order)
        if kind is Go:
            task = asyncio.create_task(self._one(order))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        elif kind is May:
            self._gate.answered(order)
        elif kind is Epochs:
            for endpoint, epoch in zip(self._endpoints, order.now, strict=True):
                endpoint.epoch = epoch
        elif kind is Cut:
            self._delivery.cut(order.by)
        elif kind is GiveUp:
            self._lines.give_up()
        elif kind is Anchor:
            self._delivery.anchor_ns = order.anchor_ns
        elif kind is Start:
            self._started.set_result(order)
        elif kind is Finish and not self._over.done():
            self._over.set_result(None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._over.done():
            self._over.set_exception(task.exception() or RuntimeError())

    async def _one(self, go: Go) -> None:
        self._requests += 1
        prepared = self._delivery.prepare(_decode(go.request))
        prepared.endpoint = self._endpoints[go.endpoint]
        prepared.ask.epoch, prepared.ask.number = go.epoch, go.number
        # It is due now at the latest: the offset of another machine's clock has an error.
        record = await self._delivery.send(prepared, min(go.due, monotonic_ns()))
        self._pipe.send(Done(go.number, told_of(record)))
        line = encode_line(record)
        del record, prepared
        await self._lines.keep(go.number, line)
