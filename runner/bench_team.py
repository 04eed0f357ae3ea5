"""The load of a bench in several processes, as one: it begins at one instant, and what ends one ends all.

A worker that dies ends the load: what it was to send is missing, and a bench at a part of its load measures
nothing that was asked. What the others have under way goes on to its end, and all of it is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from runner.bench_worker import (
    JOB,
    TICK_S,
    TO_PARENT,
    End,
    Go,
    Heard,
    Pulse,
    Ready,
    Start,
    Stop,
    Stopped,
    Word,
)
from runner.drive import LoadEnd
from runner.ended import joined
from runner.engine import DISK_WAIT_S
from runner.gauge import together
from runner.live import Live
from runner.record import CancelledBy
from runner.redact import Redactor
from runner.shards import Death, Worker, WorkerError, start_worker, start_workers
from runner.store import EndedBy

_LEAD_NS = 200_000_000  # from the word to the start: enough for a busy machine to pass it on
_LAST_S = (
    DISK_WAIT_S + 10.0
)  # from the cut of all streams to the end of a worker that does not come to its own


class _Seen:
    """What is known of one worker."""

    def __init__(self) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self.pulse: Pulse | None = None
        self.end: End | None = None
        self.lost: str | None = None
        self.lost_at = 0
        self.left = 0  # in flight when it was lost, as it last said
        self.read_back: list[dict[str, int]] = []  # of each target: records of a lost one by their status


class Team:
    """Workers that drive the loads of some targets together.

    Args:
        start: makes the first message of the worker of this number.
        workers: how many.
        targets: of how many targets each of them has a part.
        redact: takes secrets out of messages.
        say: shows one line to the user.
    """

    def __init__(
        self,
        start: Callable[[int], Start],
        workers: int,
        targets: int,
        redact: Redactor,
        say: Callable[[str], None],
    ) -> None:
        self.live = Live()
        self.began_at = 0
        self._start = start
        self._targets = targets
        self._redact = redact
        self._say = say
        self._workers: list[Worker] = []
        self._seen = [_Seen() for _ in range(workers)]
        self._stops: dict[int, EndedBy] = {}  # how a target's load first ended early
        self._said: set[str] = set()

    async def make(self) -> None:
        """Start them, and wait until each is ready to go.

        Raises:
            WorkerError: one of them is not. None is left behind.
        """
        numbers = range(len(self._seen))
        self._workers = await start_workers(
            [
                start_worker(k, JOB, self._start(k), kinds=TO_PARENT, take=partial(self._take, k))
                for k in numbers
            ]
        )
        try:
            await asyncio.gather(*(self._until_ready(k) for k in numbers))
        except BaseException:
            await self.close()
            raise

    async def run(self) -> None:
        """Begin, and wait until all of them have ended."""
        self.began_at = time.monotonic_ns() + _LEAD_NS
        for worker in self._workers:
            worker.send(Go(self.began_at))
        ticking = asyncio.create_task(self._tick())
        try:
            await asyncio.gather(*map(self._until_ended, self._workers))
        finally:
            ticking.cancel()

    async def close(self) -> None:
        """End those that still run."""
        await asyncio.gather(*(worker.close() for worker in self._workers))

    @property
    def in_flight(self) -> int:
        """Arrivals whose place is taken, of all workers, as they last said."""
        return sum(pulse.in_flight for pulse in self._pulses)

    @property
    def started(self) -> int:
        """Requests sent so far."""
        return sum(end.started for pulse in self._pulses for end in pulse.so_far)

    @property
    def stopping(self) -> bool:
        """Nothing new is started."""
        return len(self._pulses) == len(self._seen) and all(pulse.stopping for pulse in self._pulses)

    def stop(self, ended_by: EndedBy, reason: str | None = None) -> None:
        """Start nothing more."""
        for target in range(self._targets):
            self._stop(target, ended_by, reason)

    def cut(self, by: CancelledBy) -> None:
        """Close what is in flight. A worker that does not end then is killed."""
        for target in range(self._targets):
            self._send(Stop(target, cut=by))
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            loop.call_later(_LAST_S, worker.kill)

    def ends(self) -> list[LoadEnd]:
        """What became of the load of each target."""
        return [
            joined(
                [_end_of(number, seen, target) for number, seen in enumerate(self._seen)],
                self._stops.get(target),
            )
            for target in range(self._targets)
        ]

    @property
    def gauge(self) -> dict[str, Any]:
        """What all of them measured of themselves, and each by itself."""
        told = [seen.end.gauge for seen in self._seen if seen.end is not None]
        return {**together(told), "workers": [self._told(k, seen) for k, seen in enumerate(self._seen)]}

    @property
    def lost(self) -> list[int]:
        """Workers that did not come to their ends: the tails of their journals may be torn."""
        return [number for number, seen in enumerate(self._seen) if seen.lost is not None]

    def read_back(self, worker: int, status: list[dict[str, int]]) -> None:
        """Told of a lost one's records, by their status, in the journal of each target."""
        self._seen[worker].read_back = status

    @property
    def cpu_s(self) -> float:
        """CPU of all of them, from their starts on."""
        return sum(seen.end.cpu_s for seen in self._seen if seen.end is not None)

    # -- inside

    @property
    def _pulses(self) -> list[Pulse]:
        return [seen.pulse for seen in self._seen if seen.pulse is not None]

    def _told(self, number: int, seen: _Seen) -> dict[str, Any]:
        pulse = seen.pulse
        out: dict[str, Any] = {"shard": number, "pid": self._workers[number].pid}
        if pulse is not None:
            out["requests"] = sum(end.started for end in pulse.so_far)
        if seen.end is not None:
            out |= seen.end.gauge
        if seen.lost is not None:
            out |= {"died": seen.lost, "in_flight": seen.left}
        return out

    def _send(self, message: Stop | Heard, but: int | None = None) -> None:
        for worker in self._workers:
            if worker.number != but:
                worker.send(message)

    def _stop(self, target: int, by: EndedBy, reason: str | None, but: int | None = None) -> None:
        self._stops.setdefault(target, by)
        self._send(Stop(target, by, reason, "fail_fast" if by == "circuit_breaker" else None), but)

    def _take(self, number: int, message: Any) -> None:
        seen = self._seen[number]
        if isinstance(message, Pulse):
            seen.pulse = message
            live = self.live
            live.done = sum(pulse.done for pulse in self._pulses)
            live.failed = sum(pulse.failed for pulse in self._pulses)
            live.tokens = sum(pulse.tokens for pulse in self._pulses)
            live.give(message.ttft)
        elif isinstance(message, Stopped):
            if message.target not in self._stops:
                self._stop(message.target, message.by, message.reason, but=number)
        elif isinstance(message, Word):
            if message.text not in self._said:  # a full disk is found by all of them
                self._said.add(message.text)
                self._say(message.text)
        elif isinstance(message, Ready):
            seen.ready.set_result(None)
        elif isinstance(message, End):
            seen.end = message

    async def _until_ready(self, number: int) -> None:
        worker, ready = self._workers[number], self._seen[number].ready
        await asyncio.wait({ready, worker.ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            death = await worker.ended
            raise WorkerError(f"worker {number} did not get ready: it {death.words}")

    async def _until_ended(self, worker: Worker) -> None:
        death = await worker.ended
        seen = self._seen[worker.number]
        if seen.end is None or death.code != 0:
            self._lose(worker.number, seen, death)

    def _lose(self, number: int, seen: _Seen, death: Death) -> None:
        seen.lost_at = time.monotonic_ns()
        if seen.pulse is not None:
            seen.left = seen.pulse.in_flight
            seen.pulse = msgspec.structs.replace(seen.pulse, in_flight=0, stopping=True)
        after_s = max(0.0, (seen.lost_at - self.began_at) / 1e9)
        seen.lost = f"{self._redact(death.words)}, {after_s:.1f} s after the start"
        told = f"worker {number} {seen.lost}"
        self._say(f"{told}: the load ends, and what the others have in flight is kept")
        for target in range(self._targets):
            self._stop(target, "error" if death.broken is not None else "worker_lost", told)

    async def _tick(self) -> None:
        """Pass on what one of them hears: a target that answers another worker is there."""
        while True:
            await asyncio.sleep(TICK_S)
            now, pulses = time.monotonic_ns(), self._pulses
            for target in range(self._targets):
                proven = any(pulse.proven[target] for pulse in pulses)
                heard = any(pulse.heard[target] for pulse in pulses)
                if proven or heard:
                    self._send(Heard(target, proven, now if heard else 0))


def _end_of(number: int, seen: _Seen, target: int) -> LoadEnd:
    if seen.end is not None:
        return seen.end.ends[target]
    end = LoadEnd(ended_by="worker_lost") if seen.pulse is None else seen.pulse.so_far[target]
    if seen.read_back:
        end = msgspec.structs.replace(end, status=seen.read_back[target])
    begin, stop = end.steady
    end = msgspec.structs.replace(end, ended_by="worker_lost", reason=f"worker {number} {seen.lost}")
    return end if stop is None else msgspec.structs.replace(end, steady=(begin, min(stop, seen.lost_at)))
