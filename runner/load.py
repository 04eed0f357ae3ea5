"""The load of a bench: requests at the instants, or with the concurrency, that a scenario asks for.

Nothing here asks whether the server keeps up. An open loop sends when it is time to; one that is late sends
at once, and the record shows it. Only `max_in_flight` makes an arrival wait, and that wait stands in its
record (`held_ns`) and in every number counted from the schedule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from time import monotonic_ns
from typing import Any, Protocol

import msgspec

from runner.course import Course
from runner.delivery import About, encode_line
from runner.engine import DISK_WAIT_S, Sink, Tally
from runner.limits import LoadBreaker, Slots
from runner.live import Live
from runner.record import CancelledBy, Error, Phase, Record
from runner.store import EndedBy
from scenarios.request import Request
from scenarios.workload import Item

_S = 1_000_000_000


class Sender(Protocol):
    """Request in, record out (`runner/delivery.py`)."""

    def prepare(self, request: Request) -> Any: ...  # noqa: D102
    def admit(self, prepared: Any) -> Awaitable[bool]: ...  # noqa: D102
    def withdraw(self, prepared: Any) -> None: ...  # noqa: D102
    def send(self, prepared: Any, scheduled_at: int, phase: Phase) -> Awaitable[Record]: ...  # noqa: D102
    def written(self, prepared: Any) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def cut(self, by: CancelledBy) -> None: ...  # noqa: D102


class Clock(Protocol):
    """Waits until an instant (`runner/alarm.py`)."""

    def until(self, at: int) -> Awaitable[bool]: ...  # noqa: D102
    def wake(self) -> None: ...  # noqa: D102


class _Flight(msgspec.Struct):
    """One arrival on its way: a request, or a conversation."""

    number: int
    phase: Phase
    item: Item
    prepared: Any


class Load:
    """Drives one load to its end.

    Args:
        delivery: sends a request and makes its record.
        journal: takes the lines.
        item: what the k-th arrival sends.
        course: when.
        clock: waits.
        live: is told of every record.
        tell: shows one line to the user.
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
    ) -> None:
        self.tally = Tally()
        self.ended_by: EndedBy = "finished"
        self.reason: str | None = None
        self.peak_in_flight = 0
        self.held = 0  # measured arrivals that waited for a place
        self.sent: dict[Phase, int] = {"warmup": 0, "measure": 0}  # requests, turns of conversations included
        self.arrived: dict[Phase, int] = {"warmup": 0, "measure": 0}  # arrivals that were started
        self.began_at = 0
        self.steady_begin: int | None = None
        self.steady_end: int | None = None
        self._delivery = delivery
        self._journal = journal
        self._item = item
        self._course = course
        self._clock = clock
        self._live = live
        self._tell = tell
        self._breaker = LoadBreaker()
        self._slots = Slots(course.places[0][1] if course.places else 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: set[int] = set()
        self._first_ones: set[int] | None = None  # who filled all places: the window opens when they are done
        self._measuring_since: int | None = None
        self._no_more = False  # no further arrival is started
        self._over_at: int | None = None  # since when
        self._halted = False  # nor is a further turn of a conversation
        self._room: asyncio.Future[None] | None = None
        self._full_until = 0
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

    async def run(self) -> None:
        """Drive it; return when every line is written."""
        self.began_at = monotonic_ns()
        # Its first turns belong to the first requests: nothing else has been kept waiting yet.
        pacing = asyncio.create_task(self._open() if self._course.schedule is not None else self._closed())
        ending = self._arm_end()
        try:
            await pacing
            self._end_of_starts()
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for handle in ending:
                handle.cancel()
            pacing.cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self, ended_by: EndedBy, reason: str | None = None) -> None:
        """Start nothing more; what is in flight goes on to its end."""
        if not self._halted:
            self.ended_by, self.reason = ended_by, reason
        self._halt()

    def cut(self, by: CancelledBy) -> None:
        """Close what is in flight. Its partial answers are kept."""
        self._halt()
        self._delivery.cut(by)

    def on_full(self, full: bool) -> None:
        """Told by the journal that the disk is full: there is nothing to measure any more."""
        if full:
            self._tell(
                f"{self._journal.why}: the bench ends, and what is in flight is kept, if room is made soon"
            )
            self.stop("disk_full", self._journal.why)
            asyncio.get_running_loop().call_later(DISK_WAIT_S, self._journal.give_up)

    def scheduled(self) -> dict[Phase, int]:
        """Arrivals that were due by the time nothing was started any more (a closed loop's: that started)."""
        schedule = self._course.schedule
        if schedule is None:
            return dict(self.arrived)
        due = len(schedule.offsets_ns)
        if self.ended_by != "finished" and self._over_at is not None:  # what was still to come is no miss
            passed = self._over_at - self.began_at
            due = sum(offset <= passed for offset in schedule.offsets_ns)
        warmup = min(due, schedule.warmup)
        return {"warmup": warmup, "measure": due - warmup}

    def window(self) -> tuple[int | None, int | None]:
        """The steady window (METRICS): instants, `None` where it never began or is not over."""
        schedule = self._course.schedule
        if schedule is None:
            return (self.steady_begin, self.steady_end) if self.steady_begin is not None else (None, None)
        begin, end = self.began_at + schedule.begin_ns, self.began_at + schedule.end_ns
        if self.ended_by != "finished" and self._over_at is not None:
            end = min(end, self._over_at)
        return (begin, end) if end > begin else (None, None)

    # -- when nothing is started any more

    def _arm_end(self) -> list[asyncio.TimerHandle]:
        end = self._course.end_ns
        if end is None:
            return []
        loop = asyncio.get_running_loop()
        handles = [loop.call_later((end + self._course.grace_ns) / _S, self._deadline)]
        if self._course.schedule is None:
            handles.append(loop.call_later(end / _S, self._end_of_starts))
        return handles

    def _deadline(self) -> None:
        if self._tasks or not self._no_more:
            self.cut("deadline")

    def _end_of_starts(self) -> None:
        if self._no_more:
            return
        self._no_more = True
        self._over_at = monotonic_ns()
        self._slots.wake()

    def _halt(self) -> None:
        self._halted = True
        self._end_of_starts()
        self._clock.wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # -- an open loop

    async def _open(self) -> None:
        schedule = self._course.schedule
        assert schedule is not None
        for number, offset in enumerate(schedule.offsets_ns):
            due = self.began_at + offset
            # Made before its time, so that none of this is in its delay.
            flight = self._flight(number, "warmup" if number < schedule.warmup else "measure")
            await self._clock.until(due)
            held_ns = await self._place(due)
            if self._no_more or not await self._launch(flight, due, held_ns):
                break
            # One start a turn: sends leave at the end of a turn, and reads must get their share.
            await asyncio.sleep(0)

    async def _place(self, due: int) -> int:
        """Wait until one more may be in flight. Returns how long that took, behind others included."""
        limit = self._course.max_in_flight
        while limit is not None and self.in_flight >= limit and not self._no_more:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
            self._full_until = monotonic_ns()
        return max(0, self._full_until - due)

    # -- a closed loop

    async def _closed(self) -> None:
        course = self._course
        self._slots.open_all()
        resizing = asyncio.create_task(self._resize()) if len(course.places) > 1 else None
        last = None if course.requests is None else course.requests + course.warmup_requests
        try:
            for number in count():
                if number == last:
                    break
                free_since = await self._slots.take()
                if self._no_more:
                    break
                if number < course.places[0][1]:
                    free_since = monotonic_ns()  # the first ones: their places are opened one by one
                flight = self._flight(number, self._phase(number, free_since))
                if not await self._launch(flight, free_since, 0):
                    break
                await asyncio.sleep(0)
        finally:
            if resizing is not None:
                resizing.cancel()

    def _phase(self, number: int, at: int) -> Phase:
        warming = number < self._course.warmup_requests or at - self.began_at < self._course.warmup_ns
        return "warmup" if warming else "measure"

    async def _resize(self) -> None:
        for offset, places in self._course.places:
            await self._clock.until(self.began_at + offset)
            self._slots.resize(places)

    # -- one arrival

    def _flight(self, number: int, phase: Phase) -> _Flight:
        item = self._item(number)
        return _Flight(number, phase, item, self._prepare(item.first, self._about(number, item)))

    def _prepare(self, request: Request, about: About) -> Any:
        prepared = self._delivery.prepare(request)
        prepared.about = about
        return prepared

    def _about(self, number: int, item: Item, turn: int = 0, asked_output: int | None = None) -> About:
        several = item.rest is not None
        leave = item.leave
        return About(
            conversation=number if several else None,
            turn=turn if several else None,
            asked_input_tokens=item.asked_input_tokens if turn == 0 else None,
            asked_output_tokens=item.asked_output_tokens if turn == 0 else asked_output,
            leave_after_tokens=leave.tokens if leave is not None else None,
            patience_s=leave.patience_s if leave is not None else None,
        )

    async def _launch(self, flight: _Flight, due: int, held_ns: int) -> bool:
        flight.prepared.held_ns = held_ns
        if not await self._delivery.admit(flight.prepared):
            return False
        self.arrived[flight.phase] += 1
        self.sent[flight.phase] += 1
        self.tally.started += 1
        self.held += held_ns > 0 and flight.phase == "measure"
        task = asyncio.create_task(self._fly(flight, due))
        self._tasks.add(task)
        self._going.add(flight.number)
        task.add_done_callback(self._landed)
        self._watch_start(flight.phase)
        return True

    async def _fly(self, flight: _Flight, due: int) -> None:
        try:
            record = await self._send(flight.prepared, due, flight.phase)
            rest, turn = flight.item.rest, 0
            while rest is not None and record.status == "ok" and not self._halted:
                following = rest.next(record.text)
                if following is None:
                    break
                think_s, request, asked_output = following
                turn += 1
                prepared = self._prepare(request, self._about(flight.number, flight.item, turn, asked_output))
                answered = await self._turn(prepared, think_s, flight.phase)
                if answered is None:
                    break
                record = answered
        finally:
            self._going.discard(flight.number)
            self._watch_end(flight.number)
            self._slots.release()

    async def _turn(self, prepared: Any, think_s: float, phase: Phase) -> Record | None:
        due = monotonic_ns() + int(think_s * _S)
        await self._clock.until(due)
        if self._halted or not await self._delivery.admit(prepared):
            return None
        self.sent[phase] += 1
        self.tally.started += 1
        return await self._send(prepared, due, phase)

    async def _send(self, prepared: Any, due: int, phase: Phase) -> Record:
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
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
            self.stop("error", f"internal error: {type(self._failure).__name__}")

    def first_token(self) -> None:
        """Told of every answer's first token."""
        self._breaker.token()

    def _judge(self, record: Record) -> None:
        if record.status == "cancelled":
            return
        if self._breaker.note(record.error, monotonic_ns()) and not self._no_more:
            error = self._breaker.tripped
            assert error is not None
            self.stop("circuit_breaker", error.message)
            self.cut("fail_fast")

    # -- the steady window of a closed loop

    def _watch_start(self, phase: Phase) -> None:
        if phase == "measure" and self._measuring_since is None:
            self._measuring_since = monotonic_ns()
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        steps = self._course.places
        if len(steps) == 1 and self._first_ones is None and len(self._going) >= steps[0][1]:
            self._first_ones = set(self._going)

    def _watch_end(self, number: int) -> None:
        if self._first_ones is None:
            return
        now = monotonic_ns()
        self._first_ones.discard(number)
        if not self._first_ones and self.steady_begin is None and self._measuring_since is not None:
            self.steady_begin = now
        if self._no_more and self.steady_end is None:
            self.steady_end = now  # the first place that is left empty
