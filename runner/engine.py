"""The load loop: requests through slots to the client to the journal; draining, stopping, cutting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal, Protocol

import msgspec

from runner.delivery import encode_line
from runner.limits import Breaker, Slots
from runner.record import CancelledBy, Error, ErrorKind, Record, Status
from runner.store import EndedBy
from scenarios.request import Request

DISK_WAIT_S = 30.0
_MOST_TOKENS = 1 << 53  # a server that says more says nothing


class Sender(Protocol):
    """Request in, record out (`runner/delivery.py`)."""

    def prepare(self, request: Request) -> Any: ...  # noqa: D102
    def admit(self, prepared: Any) -> Awaitable[bool]: ...  # noqa: D102
    def withdraw(self, prepared: Any) -> None: ...  # noqa: D102
    def send(self, prepared: Any, scheduled_at: int) -> Awaitable[Any]: ...  # noqa: D102
    def written(self, prepared: Any) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def cut(self, by: CancelledBy) -> None: ...  # noqa: D102


class Sink(Protocol):
    """Where lines go (`runner/journal.py`)."""

    def append(self, line: Any) -> Awaitable[bool]: ...  # noqa: D102
    @property
    def room_needed(self) -> int: ...  # noqa: D102
    @property
    def why(self) -> str: ...  # noqa: D102
    @property
    def unsafe(self) -> bool: ...  # noqa: D102
    def give_up(self) -> None: ...  # noqa: D102


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What the load has to know of a request that is over. `lost`: no record tells of it, its worker died."""

    status: Status | Literal["lost"]
    cancelled_by: CancelledBy | None = None
    error: Error | None = None
    begun: bool = False  # a token of its answer had come
    attempts: int = 0  # earlier ones
    completion_tokens: int | None = None  # as far as the server told


def told_of(record: Record) -> Told:
    """The same of a record."""
    usage = record.usage or record.usage_partial or {}
    told = usage.get("completion_tokens")
    return Told(
        record.status,
        record.cancelled_by,
        record.error,
        record.first_token_at is not None,
        len(record.attempts),
        told if isinstance(told, int) and abs(told) < _MOST_TOKENS else None,
    )


class Tally:
    """What has happened so far, for whoever shows it."""

    def __init__(self) -> None:
        self.started = 0
        self.status: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.retries = 0
        self.chunks = 0  # token-bearing chunks
        self.completion_tokens = 0  # as far as servers told
        self.cut = 0  # of the cancelled, those that are asked again
        self.unwritten = 0  # finished, and the disk would not take them

    @property
    def finished(self) -> int:
        """Requests with a record."""
        return self.status.total()

    def add(self, record: Record) -> None:
        """Count one record."""
        self.count(told_of(record))

    def count(self, told: Told) -> None:
        """Count one request that is over."""
        self.status[told.status] += 1
        self.cut += told.status == "cancelled" and told.cancelled_by != "stop_rule"
        if told.error is not None:
            self.errors[str(told.error.kind)] += 1
        self.retries += told.attempts
        self.completion_tokens += told.completion_tokens or 0


class Engine:
    """One closed load over every request of a feed.

    Args:
        delivery: sends a request and makes its record.
        journal: takes the lines.
        slots: concurrency.
        breaker: says when nothing works.
        tell: shows one line to the user.
        told: what the load has to know of what `delivery` sent.
        encode: that as the line `journal` takes.
    """

    def __init__(
        self,
        delivery: Sender,
        journal: Sink,
        slots: Slots,
        breaker: Breaker,
        tell: Callable[[str], None],
        *,
        told: Callable[[Any], Told] = told_of,
        encode: Callable[[Any], Any] = encode_line,
    ) -> None:
        self.tally = Tally()
        self.ended_by: EndedBy = "finished"
        self.reason: str | None = None
        self._delivery = delivery
        self._journal = journal
        self._slots = slots
        self._breaker = breaker
        self._tell = tell
        self._told = told
        self._encode = encode
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._disk_watch: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Requests admitted whose line is not written yet."""
        return len(self._tasks)

    @property
    def tripped(self) -> Error | None:
        """What opened the circuit breaker."""
        return self._breaker.tripped

    def stopped_on(self, before: str | None) -> str | None:
        """The error kind that opened the circuit breaker: what it met goes again with the next session.

        A 400 to every request, before any answer, may be a gateway's word for a wrong key, or be about these
        prompts after all. They get one more chance, and not one a session: they would stop every one.

        Args:
            before: the same of the session before.
        """
        error = self._breaker.tripped
        if error is None:
            return None
        doubtful = error.kind is ErrorKind.BAD_REQUEST and error.http_status not in {404, 405}
        return None if doubtful and before == error.kind else str(error.kind)

    @property
    def stopping(self) -> bool:
        """Nothing new is admitted."""
        return self._stopped.is_set()

    async def run(self, feed: AsyncGenerator[Request]) -> None:
        """Send what the feed gives, or as much of it as comes before `stop`; return when all is written."""
        try:
            async with aclosing(feed):
                async for request in feed:
                    free_since = await self._place()
                    if free_since is None:
                        break
                    prepared = self._delivery.prepare(request)
                    if await self._admitted(prepared):
                        self._start(prepared, free_since)
                    elif self.stopping:
                        break
                    else:
                        self._slots.release()  # this one is left out, others may go
                    # One start a turn: sends leave at the end of a turn, and reads must get their share.
                    await asyncio.sleep(0)
        finally:
            while self._tasks:
                await asyncio.wait(self._tasks)
            if self._disk_watch is not None:
                self._disk_watch.cancel()
        if self._failure is not None:
            raise self._failure

    def first_token(self) -> None:
        """Told when any answer's first token has come: the target, the key and the model are right."""
        self._breaker.token()
        self._slots.open_all()

    def stop(self, ended_by: EndedBy, reason: str | None = None) -> None:
        """Admit nothing more; what is in flight goes on to its end."""
        if not self.stopping:
            self.ended_by, self.reason = ended_by, reason
            self._stopped.set()
            self._room.set()
            self._delivery.stop()
            self._slots.wake()

    async def stopped(self) -> None:
        """Wait until nothing new is admitted any more."""
        await self._stopped.wait()

    def give_up(self, error: Error, reason: str) -> None:
        """Stop as the circuit breaker does, on an error no request of the load has met."""
        self._breaker.tripped = error
        self.stop("circuit_breaker", reason)

    def cut(self, by: CancelledBy) -> None:
        """Close what is in flight. Its partial answers are kept, as far as the disk takes them."""
        self._delivery.cut(by)
        if not self._room.is_set() or self._disk_watch is not None:
            self._journal.give_up()

    def on_full(self, full: bool) -> None:
        """Told by the journal that the disk is full, or no longer."""
        if full and self._disk_watch is None:
            self._disk_watch = asyncio.create_task(self._watch_disk())
        elif not full and self._disk_watch is not None:
            self._disk_watch.cancel()
            self._disk_watch = None
        if full and self._room.is_set() and not self.stopping:
            self._room.clear()
            self._tell(
                f"{self._journal.why}: nothing new is sent, what is in flight is kept. Make room "
                f"({max(self._journal.room_needed >> 20, 1)} MB), or the run ends, resumable, "
                f"{DISK_WAIT_S:g} s after its last stream."
            )
        elif not full and not self._room.is_set():
            self._room.set()
            self._tell("there is room on the disk again: sending goes on")

    async def _watch_disk(self) -> None:
        while self.tally.finished < self.tally.started:  # noqa: ASYNC110 - seldom, and nothing hangs on it
            await asyncio.sleep(0.1)
        await asyncio.sleep(DISK_WAIT_S)
        self._journal.give_up()
        self.stop("disk_full", self._journal.why)

    async def _place(self) -> int | None:
        """Wait for a place and for room on the disk. Returns since when it was free; `None` on stop."""
        if self.stopping:
            return None
        free_since = await self._slots.take()
        await self._room.wait()
        if self._journal.unsafe:
            self.stop("error", "the journal is not safe on the disk")
        return None if self._stopped.is_set() else free_since

    async def _admitted(self, prepared: Any) -> bool:
        """Pass the gate. False: this request is not sent, for the run stops, or it alone must not."""
        if not await self._delivery.admit(prepared):
            return False
        await self._room.wait()  # the disk may have filled up meanwhile
        if self.stopping:
            self._delivery.withdraw(prepared)
        return not self.stopping

    def _start(self, prepared: Any, free_since: int) -> None:
        self.tally.started += 1
        task = asyncio.create_task(self._one(prepared, free_since))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
            self.stop("error", f"internal error: {type(self._failure).__name__}")

    async def _one(self, prepared: Any, free_since: int) -> None:
        try:
            sent = await self._delivery.send(prepared, free_since)
            told = self._told(sent)
            self.tally.count(told)
            line = self._encode(sent)
            self._judge(told)
            del sent
            # The place is kept until the line is written: a kill costs at most what is in flight.
            if await self._journal.append(line):
                self._delivery.written(prepared)
            else:
                self.tally.unwritten += 1
        finally:
            self._slots.release()

    def _judge(self, told: Told) -> None:
        if told.status in {"cancelled", "lost"}:
            return
        if self._breaker.note(told.error, begun=told.begun) and not self.stopping:
            error = self._breaker.tripped
            assert error is not None
            self.stop("circuit_breaker", error.message)
        if told.status == "ok":
            self._slots.open_all()
