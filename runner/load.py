"""The load of a bench: requests at the instants, or with the concurrency, that a scenario asks for.

Nothing here asks whether the server keeps up. An open loop sends when it is time to; one that is late sends
at once, and the record shows it. Only `max_in_flight` makes an arrival wait, and that wait stands in its
record (`held_ns`) and in every number counted from the schedule.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from itertools import count
from time import monotonic_ns
from typing import Any, Protocol

import msgspec

from runner.chunks import clean
from runner.course import Course
from runner.delivery import About, encode_line
from runner.engine import DISK_WAIT_S, Sink, Tally
from runner.limits import GONE_NS, LoadBreaker, Slots
from runner.live import Live
from runner.record import CancelledBy, Error, ErrorKind, Phase, Record
from runner.store import EndedBy
from runner.window import Window
from scenarios.request import Request
from scenarios.workload import Item

_S = 1_000_000_000
_TURNS_TO_SEND = 10
_TURNS_TO_READ = 3
_REST_NS = 250_000_000  # of a place whose request met a closed door: nobody asks for a storm


class Sender(Protocol):
    """Request in, record out (`runner/delivery.py`)."""

    def prepare(self, request: Request) -> Any: ...  # noqa: D102
    def admit(self, prepared: Any) -> Awaitable[bool]: ...  # noqa: D102
    def send(self, prepared: Any, scheduled_at: int, phase: Phase) -> Awaitable[Record]: ...  # noqa: D102
    def written(self, prepared: Any) -> None: ...  # noqa: D102
    def heard_since(self, at: int) -> bool: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def cut(self, by: CancelledBy) -> None: ...  # noqa: D102


class Clock(Protocol):
    """Waits until an instant (`runner/alarm.py`)."""

    def until(self, at: int) -> Awaitable[bool]: ...  # noqa: D102
    def wake(self) -> None: ...  # noqa: D102


class _Flight(msgspec.Struct):
    """One arrival, ready to go: a request, or a conversation."""

    number: int
    item: Item
    prepared: Any


class Load:
    """Drives one load to its end.

    Args:
        delivery: sends a request and makes its record.
        journal: takes the lines.
        item: what the k-th arrival sends.
        course: when.
        clock: waits; of this load alone, because a load that ends wakes whoever waits on it.
        live: is told of every record.
        tell: shows one line to the user.
        anchor_ns: of the session; times of records are counted from it.
        proven: the target has answered before, so that its first failure is no sign of a wrong one.
    """

    def __init__(
        self,
        delivery: Sender,
        journal: Sink,
        item: Callable[[int], Item],
        course: Course,
        clock: Clock,
        live: Live,
        tell: Callable[[str], None],
        *,
        anchor_ns: int = 0,
        proven: bool = False,
    ) -> None:
        self.tally = Tally()
        self.ended_by: EndedBy = "error"  # until it is known better
        self.reason: str | None = None
        self.peak_in_flight = 0
        self.held = 0  # measured arrivals that waited for a place
        self.sent: dict[Phase, int] = {"warmup": 0, "measure": 0}  # requests, turns of conversations included
        self.arrived: dict[Phase, int] = {"warmup": 0, "measure": 0}  # arrivals that were started
        self.began_at = 0
        self.was_full = False  # an arrival found `max_in_flight` reached
        self.on_stop: Callable[[EndedBy, str | None], None] = lambda _by, _why: None
        self._delivery = delivery
        self._journal = journal
        self._item = item
        self._course = course
        self._clock = clock
        self._live = live
        self._tell = tell
        self._anchor_ns = anchor_ns
        self._breaker = LoadBreaker(proven=proven, workers=course.stripe.workers)
        self._heard_elsewhere_at = 0
        self._slots = Slots(course.places[0][1] if course.places else 0)
        self._window = Window(course.places[0][1] if len(course.places) == 1 else None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: set[int] = set()
        self._no_more = False  # no further arrival is started
        self._halted = False  # nor is a further turn of a conversation
        self._stopped_at: int | None = None  # by the user, the breaker, the disk: not by its own end
        self._room: asyncio.Future[None] | None = None
        self._full_since = self._full_until = 0
        self._failure: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Arrivals whose place is taken."""
        return len(self._going)

    @property
    def stopping(self) -> bool:
        """Nothing new is started."""
        return self._no_more

    @property
    def tripped(self) -> Error | None:
        """What made it end early."""
        return self._breaker.tripped

    async def run(self, begin_at: int | None = None) -> None:
        """Drive it; return when every line is written.

        Args:
            begin_at: the instant it starts; now, where there is none.
        """
        self.began_at = monotonic_ns() if begin_at is None else begin_at
        ending = self._arm_end()
        try:
            # Where either is not so, it was stopped before it began.
            if not self._no_more and await self._clock.until(self.began_at):
                await (self._open() if self._course.schedule is not None else self._closed())
        except Exception as exc:  # noqa: BLE001 - raised again below, when what was paid for is written
            self._failure = self._failure or exc
        finally:
            self._end_of_starts()
            while self._tasks:
                await asyncio.wait(self._tasks)
            for handle in ending:
                handle.cancel()
        if self._failure is not None:
            raise self._failure
        if self._stopped_at is None:
            self.ended_by = "finished"

    def stop(self, ended_by: EndedBy, reason: str | None = None) -> None:
        """Start nothing more; what is in flight goes on to its end."""
        if self._stopped_at is None or ended_by == "interrupted":
            self.ended_by, self.reason = ended_by, reason
        if self._stopped_at is None:
            self._stopped_at = monotonic_ns()
            self.on_stop(ended_by, reason)
        self._halt()

    def cut(self, by: CancelledBy) -> None:
        """Close what is in flight. Its partial answers are kept, as far as the disk takes them."""
        self._halt()
        self._delivery.cut(by)
        if self.ended_by == "disk_full" or by == "user":
            self._journal.give_up()

    def on_full(self, full: bool) -> None:
        """Told by the journal that the disk is full: there is nothing to measure any more."""
        if full:
            self._tell(
                f"{self._journal.why}: the bench ends, and what is in flight is kept, if room is made soon"
            )
            self.stop("disk_full", self._journal.why)
            asyncio.get_running_loop().call_later(DISK_WAIT_S, self._journal.give_up)

    def first_token(self) -> None:
        """Told of every answer's first token."""
        self._breaker.token()

    @property
    def proven(self) -> bool:
        """The target has answered."""
        return self._breaker.proven

    def heard_elsewhere(self, at: int, *, proven: bool) -> None:
        """Told of what another worker has of the target: that it answers, and a byte's instant."""
        self._heard_elsewhere_at = max(self._heard_elsewhere_at, at)
        if proven:
            self._breaker.prove()

    def scheduled(self) -> dict[Phase, int]:
        """Arrivals that were due by the time it ended (of a closed loop: that were started)."""
        schedule = self._course.schedule
        if schedule is None:
            return dict(self.arrived)
        due = len(schedule.offsets_ns)
        if self._stopped_at is not None:  # what was still to come is no miss
            due = bisect_right(schedule.offsets_ns, self._stopped_at - self.began_at)
        warmup = min(due, schedule.warmup)
        return {"warmup": warmup, "measure": due - warmup}

    def unsent_wait_s(self) -> float:
        """How long measured arrivals that were never sent had waited at the window's end, added up."""
        schedule, (_, end) = self._course.schedule, self.window()
        if schedule is None or end is None:
            return 0.0
        first, due = sum(self.arrived.values()), sum(self.scheduled().values())  # they went in order
        offsets = schedule.offsets_ns[max(first, schedule.warmup) : due]
        return sum(max(0, end - self.began_at - offset) for offset in offsets) / _S

    def window(self) -> tuple[int | None, int | None]:
        """The steady window (METRICS): instants, `None` twice where there was none."""
        schedule = self._course.schedule
        if schedule is None:
            return self._window.bounds()
        begin, end = self.began_at + schedule.begin_ns, self.began_at + schedule.end_ns
        if self._stopped_at is not None:
            end = min(end, self._stopped_at)
        return (begin, end) if end > begin else (None, None)

    # -- when nothing is started any more

    def _arm_end(self) -> list[asyncio.TimerHandle]:
        end = self._course.end_ns
        if end is None:
            return []
        loop, end = asyncio.get_running_loop(), end + self.began_at - monotonic_ns()
        handles = [loop.call_later((end + self._course.grace_ns) / _S, self._deadline)]
        if self._course.schedule is None:
            handles.append(loop.call_later(end / _S, self._end_of_starts))
        return handles

    def _deadline(self) -> None:
        if self._tasks or not self._no_more:
            self.cut("deadline")

    def _end_of_starts(self) -> None:
        if not self._no_more:
            self._no_more = True
            self._slots.wake()

    def _is_halted(self) -> bool:
        return self._halted  # a question, because it can change while something is awaited

    def _halt(self) -> None:
        self._halted = True
        self._end_of_starts()
        self._clock.wake()
        self._free_room()

    # -- an open loop

    async def _open(self) -> None:
        schedule = self._course.schedule
        assert schedule is not None
        for nth, offset in enumerate(schedule.offsets_ns):
            due = self.began_at + offset
            # Made before its time, so that none of this is in its delay.
            flight = self._flight(nth)
            # A wait that was cut short ends the load: nothing is sent before its time.
            if not await self._clock.until(due):
                break
            held_ns = await self._place(due)
            if self._no_more or not await self._launch(flight, due, self._phase(nth, due), held_ns):
                break
            await self._gone(flight)

    async def _place(self, due: int) -> int:
        """Wait until one more may be in flight. Returns how long it was held for that.

        Counted is the time in which a full house was met: from when this arrival, or the one it stood behind,
        was turned away. That the client itself came late is no holding.
        """
        limit = self._course.max_in_flight
        if limit is None:
            return 0
        for _ in range(_TURNS_TO_READ):  # what has come already is to be read first
            if self.in_flight < limit:
                break
            await asyncio.sleep(0)
        while self.in_flight >= limit and not self._no_more:
            self.was_full = True
            if due > self._full_until:
                self._full_since = monotonic_ns()
            self._room = asyncio.get_running_loop().create_future()
            await self._room
            self._full_until = monotonic_ns()
        return max(0, self._full_until - max(due, self._full_since))

    def _free_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # -- a closed loop

    async def _closed(self) -> None:
        course = self._course
        self._slots.open_all()
        resizing = asyncio.create_task(self._resize()) if len(course.places) > 1 else None
        try:
            for nth in count():
                if nth >= course.warmup_requests and self.arrived["measure"] == course.requests:
                    break
                flight = self._flight(nth)  # while it waits for a place
                free_since = await self._slots.take()
                if self._no_more:
                    break
                if nth < course.places[0][1]:
                    free_since = monotonic_ns()  # the first ones: their places are opened one by one
                if not await self._launch(flight, free_since, self._phase(nth, free_since), 0):
                    break
                await self._gone(flight)
        finally:
            if resizing is not None:
                resizing.cancel()

    async def _resize(self) -> None:
        for offset, places in self._course.places:
            if not await self._clock.until(self.began_at + offset):
                return
            self._slots.resize(places)

    # -- one arrival

    def _phase(self, nth: int, at: int) -> Phase:
        course = self._course
        if course.schedule is not None:
            return "warmup" if nth < course.schedule.warmup else "measure"
        warming = nth < course.warmup_requests or at - self.began_at < course.warmup_ns
        return "warmup" if warming else "measure"

    def _flight(self, nth: int) -> _Flight:
        number = self._course.stripe.number(nth)
        item = self._item(number)
        return _Flight(number, item, self._prepare(item.first, about(number, item)))

    def _prepare(self, request: Request, what: About) -> Any:
        prepared = self._delivery.prepare(request)
        prepared.about = what
        return prepared

    async def _launch(self, flight: _Flight, due: int, phase: Phase, held_ns: int) -> bool:
        flight.prepared.held_ns = held_ns
        if not await self._delivery.admit(flight.prepared):
            return False
        self.arrived[phase] += 1
        self.held += held_ns > 0 and phase == "measure"
        self._going.add(flight.number)
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._window.started(self._going, measured=phase == "measure")
        task = asyncio.create_task(self._fly(flight, due, phase))
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return True

    async def _gone(self, flight: _Flight) -> None:
        """Give the loop its turns until the request's bytes are out, or it waits for a connection.

        Sends leave at the end of a turn, and reads must get their share: one start a turn at most. Making the
        next request before these bytes are out would be in their delay.
        """
        for _ in range(_TURNS_TO_SEND):
            await asyncio.sleep(0)
            if flight.prepared.is_out:
                return

    async def _fly(self, flight: _Flight, due: int, phase: Phase) -> None:
        try:
            record = await self._send(flight.prepared, due, phase)
            for turn in count(1):
                going_on = await self._turn(flight, turn, record, phase)
                if going_on is None:
                    break
                record = going_on
            await self._rest(record)
        finally:
            self._going.discard(flight.number)
            self._window.ended(flight.number, monotonic_ns(), refilled=not self._no_more)
            self._slots.release()

    async def _rest(self, record: Record) -> None:
        """In a closed loop a place that could not even connect is not filled again at once."""
        error = record.error
        if self._course.schedule is None and error is not None and error.kind is ErrorKind.CONNECT:
            await self._clock.until(monotonic_ns() + _REST_NS)

    async def _turn(self, flight: _Flight, turn: int, last: Record, phase: Phase) -> Record | None:
        """Send a conversation's next turn; `None`: it has no further one."""
        rest = flight.item.rest
        following = rest.next(clean(last.text)) if rest is not None and last.status == "ok" else None
        if following is None or last.ended_at is None or self._is_halted():
            return None
        think_s, request, asked_output = following
        # From the end of the answer: what this side took to write it down is not the user's.
        due = self._anchor_ns + last.ended_at + int(think_s * _S)
        prepared = self._prepare(request, about(flight.number, flight.item, turn, asked_output))
        if not await self._clock.until(due) or self._is_halted():
            return None
        if not await self._delivery.admit(prepared):
            return None
        return await self._send(prepared, due, phase)

    async def _send(self, prepared: Any, due: int, phase: Phase) -> Record:
        self.sent[phase] += 1
        self.tally.started += 1
        record = await self._delivery.send(prepared, due, phase)
        self.tally.add(record)
        self._live.add(record)
        line = encode_line(record)
        self._judge(record)
        # The place is kept until the line is written: a kill costs at most what is in flight.
        if not await self._journal.append(line):
            self.tally.unwritten += 1
        self._delivery.written(prepared)
        return record

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free_room()
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
            self.stop("error", f"internal error: {type(self._failure).__name__}")

    def _judge(self, record: Record) -> None:
        if record.status == "cancelled" or self._stopped_at is not None:
            return
        now = monotonic_ns()
        since = now - GONE_NS
        heard = record.headers_at is not None or self._heard_elsewhere_at >= since
        heard = heard or self._delivery.heard_since(since)
        if self._breaker.note(record.error, now, heard=heard):
            error = self._breaker.tripped
            assert error is not None
            self.stop("circuit_breaker", error.message)
            self.cut("fail_fast")


def about(number: int, item: Item, turn: int = 0, asked_output: int | None = None) -> About:
    """What the load says of a request: the `number`-th arrival's, or a later turn of it."""
    several, leave = item.rest is not None, item.leave
    return About(
        conversation=number if several else None,
        turn=turn if several else None,
        asked_input_tokens=item.asked_input_tokens if turn == 0 else None,
        asked_output_tokens=item.asked_output_tokens if turn == 0 else asked_output,
        leave_after_tokens=leave.tokens if leave is not None else None,
        patience_s=leave.patience_s if leave is not None else None,
    )
