"""This machine's own noise: the real client against a mock whose times of sending are known.

How long after it was sent is a token stamped, at a given load? And what is the largest load at which that
stays small? Only the mock's log is the truth: what it sent late counts against nobody, but it is told.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from runner.accuracy import Accuracy, Answered, Off, accuracy, lateness
from runner.client import Client
from runner.delivery import Delivery
from runner.engine import Engine
from runner.fleet import Endpoint, Fleet
from runner.gate import Gate
from runner.gauge import Gauge
from runner.limits import Breaker, Slots
from runner.mock.config import MockConfig, Spread
from runner.mock.log import Entry
from runner.on_loop import run_on_loop
from runner.record import Record
from runner.redact import Redactor
from runner.ruler import Ruler, RulerError, planned, ruler
from runner.target import make_target
from runner.timeouts import Timeouts
from runner.transport import open_session
from scenarios.request import Request

LIMITS_MS = (1.0, 5.0)
TOTAL_S = 30.0
STEP_S = 1.0  # of tokens, in one step of the search
MOST_STREAMS = 4096
_NEAR = 1.15  # largest that is carried and least that is not, this close: good enough
_TTFT_MS, _TTFT_SD_MS = 50.0, 12.0  # spread, so that the streams are not in lock-step
_ANSWER_S = 1.0
_NOISY_MS = 5.0
_MOCK_LATE_MS = 5.0
_MOCK_BEHIND_MS = 5.0
_SPARE_FILES = 64


class CalibrationError(Exception):
    """There is nothing to tell. The text says why, and what to do."""


class Level(msgspec.Struct, frozen=True):
    """What was measured at one load."""

    streams: int
    rate: float  # tokens a second and stream
    events_per_s: float
    accuracy: Accuracy
    lag_p99_ms: float | None  # of the client's loop
    cpu_us: float  # of the client, a token; requests and records are in it
    cpu_share: float  # of one core
    mock_late: Off  # the mock's own sends, after their time


class Largest(msgspec.Struct, frozen=True):
    """The largest load whose tokens are stamped within `error_ms` of being sent, at p99."""

    error_ms: float
    streams: int  # 0: not even one
    events_per_s: float
    at_least: bool  # the search ended before it found where it ends


class Calibration(msgspec.Struct, frozen=True):
    """A machine's noise floor at a load, and what it can carry."""

    floor: Level
    largest: list[Largest]  # one a limit
    notes: list[str]  # what to think of it


def calibrate(
    streams: int = 100,
    rate: float = 100.0,
    seconds: float = 5.0,
    *,
    search: bool = True,
    total_s: float = TOTAL_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Measure the floor at a load, then look for the largest. Blocks; runs a loop and a process of its own.

    Args:
        streams: answers at once.
        rate: tokens a second, of each.
        seconds: how long the floor is measured.
        search: whether to look for the largest load.
        total_s: all of it takes about so long at most, the floor aside where that alone takes longer.
        tell: shows one line to the user.

    Raises:
        CalibrationError: the load is none, too many files would be open, or the mock does not work.
    """
    most = _most_streams()
    if not 1 <= streams <= most:
        raise CalibrationError(
            f"{streams:,} streams are more than this process may open ({most:,}): raise `ulimit -n`, or use "
            "fewer --streams"
            if streams > most
            else f"there must be at least one stream, not {streams}"
        )
    if not 0 < rate <= 10_000 or not 0 < seconds <= 3600:
        raise CalibrationError("--rate must be above 0, at most 10,000, and --seconds above 0, at most 3,600")
    found: list[Calibration] = []

    async def job() -> None:
        found.append(await _calibrate(streams, rate, seconds, search, total_s, most, tell))

    try:
        run_on_loop(job())
    except RulerError as exc:
        raise CalibrationError(f"{exc}. Is this machine very busy?") from None
    return found[0]


async def _calibrate(
    streams: int,
    rate: float,
    seconds: float,
    search: bool,
    total_s: float,
    most: int,
    tell: Callable[[str], None],
) -> Calibration:
    until = time.monotonic() + total_s
    config = MockConfig(ttft_ms=_TTFT_MS, ttft_dist=Spread.NORMAL, ttft_sd_ms=_TTFT_SD_MS, itl_ms=1000 / rate)
    with ruler(config) as mock:
        gc.collect()
        gc.freeze()
        try:
            floor = await _measure(mock, config, streams, rate, seconds)
            levels = [floor]

            async def error_at(count: int) -> float:
                level = await _measure(mock, config, count, rate, STEP_S)
                levels.append(level)
                error_ms = level.accuracy.token.p99_ms
                tell(f"{count} streams, {level.events_per_s:,.0f} events/s: p99 {error_ms:.2f} ms")
                # A mock that cannot send what was asked has not tried the client at that load.
                return math.inf if _mock_is_behind(level) else error_ms

            largest: list[Largest] = []
            if search:
                begin = {streams: floor.accuracy.token.p99_ms}
                sizes = await find_largest(error_at, LIMITS_MS, begin, most, lambda: until - time.monotonic())
                largest = [
                    Largest(limit, count, count * rate, at_least)
                    for limit, (count, at_least) in zip(LIMITS_MS, sizes, strict=True)
                ]
        finally:
            gc.unfreeze()
    return Calibration(floor, largest, notes_on(floor, levels, largest))


# -- the search


async def find_largest(
    error_at: Callable[[int], Awaitable[float]],
    limits: tuple[float, ...],
    known: dict[int, float],
    most: int,
    left_s: Callable[[], float],
) -> list[tuple[int, bool]]:
    """For each limit the largest count whose error is within it, and whether it may be larger still.

    Doubles (or halves) from what is known until it is enclosed, then bisects. A count that fails is tried
    once more: a neighbour's moment is not the machine's limit.
    """
    errors = dict(known)
    tries = dict.fromkeys(known, 1)
    total_s = left_s()

    async def carries(count: int, limit: float) -> bool:
        while errors.get(count, math.inf) > limit and tries.get(count, 0) < 2:
            tries[count] = tries.get(count, 0) + 1
            errors[count] = min(errors.get(count, math.inf), await error_at(count))
        return errors[count] <= limit

    out = []
    for number, limit in enumerate(limits, 1):
        reserve_s = total_s * (1 - number / len(limits))  # for the limits after this one
        low, high = max((n for n, error in errors.items() if error <= limit), default=0), most + 1
        failed = [n for n, error in errors.items() if n > low and error > limit]
        count = min(failed, default=_next(low, high, most))
        while low < most and left_s() > reserve_s:
            if await carries(count, limit):
                low = count
            else:
                high = count
            if low >= most or high <= 1 or (low and high <= low * _NEAR):
                break
            count = _next(low, high, most)
            if count in {low, high}:
                break
        enclosed = high <= most and (high <= 1 or (low > 0 and (high <= low * _NEAR or high - low <= 1)))
        out.append((low, not enclosed))
    return out


def _next(low: int, high: int, most: int) -> int:
    if high > most:
        return min(max(low * 2, 1), most)
    return (low + high) // 2


# -- one load


async def _measure(mock: Ruler, config: MockConfig, streams: int, rate: float, seconds: float) -> Level:
    """Answers of about a second, as many at once as there are streams."""
    target = make_target(mock.base_url, None)
    answers = max(round(seconds / _ANSWER_S), 1)
    tokens = max(round(rate * seconds / answers), 2)
    async with open_session(target.headers) as session:
        client = Client(session, target, Timeouts(first_token=30, token_gap=30), Redactor([]))
        # First connections: opening them is no part of what is measured.
        await _load(client, streams, streams, 2)
        gauge = Gauge()
        gauge.start()
        lines = await _load(client, streams, streams * answers, tokens)
        seen = gauge.stop()
    kept = answers_in(lines)
    entries = await asyncio.to_thread(mock.entries, {answer.request_id for answer in kept})
    return _level(config, streams, rate, kept, entries, seen)


async def _load(client: Client, streams: int, count: int, tokens: int) -> list[bytes]:
    """Requests by the way that `run` sends them, up to the line of the record: only the disk is left out."""
    lines = _Lines()
    delivery = Delivery(Gate(Fleet([Endpoint(client, "")])), session=0, anchor_ns=0, retries=0)
    slots = Slots(streams)
    slots.open_all()
    await Engine(delivery, lines, slots, Breaker(), lambda _: None).run(_requests(count, tokens))
    return lines.taken


async def _requests(count: int, tokens: int) -> AsyncGenerator[Request]:
    for number in range(count):
        messages = [{"role": "user", "content": f"Calibration {number}."}]
        body = {"model": "mock", "messages": messages, "max_tokens": tokens}
        yield Request(f"{number:032x}", f"{number:032x}", number, 0, None, "chat", body, {})


class _Lines:
    """Stands for the journal: takes lines, and has them at once."""

    room_needed = 0
    why = ""
    unsafe = False

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def append(self, line: bytes) -> asyncio.Future[bool]:
        self.taken.append(line)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done

    def give_up(self) -> None:
        pass


def answers_in(lines: list[bytes]) -> list[Answered]:
    """What records say of their tokens' times.

    Raises:
        RulerError: one of them is no whole answer.
    """
    kept: list[Answered] = []
    for line in lines:
        record = msgspec.json.decode(line, type=Record)
        request_id = record.response.get("headers", {}).get("x-request-id")
        sent_at, first = record.sent_at, record.first_token_at
        if record.status != "ok" or request_id is None or sent_at is None or first is None:
            why = record.error.message if record.error is not None else record.status
            raise RulerError(f"a request to the mock failed: {why}")
        kept.append(Answered(request_id, sent_at, first, list(record.chunk_us or ())))
    return kept


def _level(
    config: MockConfig,
    streams: int,
    rate: float,
    kept: list[Answered],
    entries: dict[str, Entry],
    seen: dict[str, dict[str, Any]],
) -> Level:
    plans = [planned(config, entry) for entry in entries.values()]
    cpu_s = seen["cpu"]["user_s"] + seen["cpu"]["system_s"]
    return Level(
        streams=streams,
        rate=rate,
        events_per_s=streams * rate,
        accuracy=accuracy(kept, entries),
        lag_p99_ms=seen["lag"]["p99_ms"],
        cpu_us=cpu_s / sum(len(answer.chunk_us) for answer in kept) * 1e6,
        cpu_share=cpu_s / seen["cpu"]["wall_s"],
        mock_late=lateness(entries.values(), plans),
    )


def _most_streams() -> int:
    """How many sockets this process may have, and the mock too."""
    try:
        import resource
    except ImportError:
        return 500
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_STREAMS
    return max(min(soft - _SPARE_FILES, MOST_STREAMS), 1)


# -- what to think of it


def _mock_is_behind(level: Level) -> bool:
    """Most of its tokens went late: it cannot send at this rate. On a busy machine some always go late."""
    return level.mock_late.p50_ms > _MOCK_BEHIND_MS


def notes_on(floor: Level, levels: list[Level], largest: list[Largest]) -> list[str]:
    """What a reader must know before believing it, each with what to do."""
    notes = []
    error_ms = floor.accuracy.token.p99_ms
    load = f"{floor.streams:,} streams x {floor.rate:g} tokens/s"
    if error_ms > _NOISY_MS:
        why = (
            f"its loop was late too (p99 {floor.lag_p99_ms:.1f} ms)"
            if (floor.lag_p99_ms or 0) > _NOISY_MS
            else "its loop was not late: the machine is"
        )
        notes.append(
            f"too noisy to measure at {load}: tokens are stamped {error_ms:.1f} ms late at p99; {why}. End "
            "other programs, use fewer streams, or spread the load over several processes"
        )
    if floor.mock_late.p99_ms > _MOCK_LATE_MS:
        notes.append(
            f"the mock itself sent late (p99 {floor.mock_late.p99_ms:.1f} ms): it shares this machine "
            f"({os.cpu_count()} cores). What it logged is the truth all the same, but the load was less even "
            "than asked"
        )
    late = [level.streams for level in levels if _mock_is_behind(level)]
    if late:
        notes.append(
            f"from {min(late):,} streams on the mock could not send in time: the largest loads are bounded "
            "by it, and the client alone may carry more"
        )
    if any(entry.at_least for entry in largest):
        notes.append("the search ended before it found every limit: give it a longer --limit")
    return notes
