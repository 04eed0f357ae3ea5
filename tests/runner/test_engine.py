from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any

import pytest

from runner import engine as module
from runner.engine import Engine, Tally
from runner.limits import Breaker, Slots
from runner.record import Attempt, CancelledBy, Error, ErrorKind, Record
from scenarios.request import Request


def request(number: int) -> Request:
    return Request(f"{number:032x}", "p", number, 0, None, "chat", {}, {})


def record(of: Request, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": of.id,
        "prompt_id": of.prompt_id,
        "index": of.index,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        "scheduled_at": 1,
        "sent_at": 1,
        "headers_at": 1,
        "first_token_at": 1,
        "first_content_at": 1,
        "last_token_at": 1,
        "ended_at": 1,
        "status": "ok",
        **changes,
    }
    return Record(**values)


def failure(kind: ErrorKind = ErrorKind.SERVER_ERROR, http_status: int | None = None) -> dict[str, Any]:
    return {"status": "error", "error": Error(kind, f"{kind}!", http_status=http_status, retryable=True)}


class Server:
    """A `Sender` whose answers come when a test says so, or at once."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.sent: list[int] = []
        self.waiting: dict[int, asyncio.Future[dict[str, Any] | BaseException]] = {}
        self.peak = 0
        self.stopped = 0
        self.shut = False
        self.barred: set[int] = set()
        self.at_the_bar: Callable[[], None] = lambda: None
        self.withdrawn: list[int] = []
        self.settled: list[int] = []
        self.cuts: list[CancelledBy] = []
        self.answers: dict[int, dict[str, Any] | BaseException] = {}

    async def send(self, request: Request, scheduled_at: int) -> Record:
        assert scheduled_at > 0
        self.sent.append(request.index)
        future = asyncio.get_running_loop().create_future()
        self.waiting[request.index] = future
        self.peak = max(self.peak, len(self.waiting))
        if self.at_once:
            await turns(10)
            future.set_result(self.answers.get(request.index, {}))
        try:
            found = await future
        finally:
            del self.waiting[request.index]
        if isinstance(found, BaseException):
            raise found
        return record(request, **found)

    def prepare(self, request: Request) -> Request:
        return request

    async def admit(self, prepared: Request) -> bool:
        if prepared.index in self.barred:
            self.at_the_bar()
        return not self.shut and prepared.index not in self.barred

    def withdraw(self, prepared: Request) -> None:
        self.withdrawn.append(prepared.index)

    def written(self, prepared: Request) -> None:
        self.settled.append(prepared.index)

    def answer(self, number: int, **changes: Any) -> None:
        self.waiting[number].set_result(changes)

    def stop(self) -> None:
        self.stopped += 1

    def cut(self, by: CancelledBy) -> None:
        self.cuts.append(by)
        for future in self.waiting.values():
            future.set_result({"status": "cancelled", "cancelled_by": by})


class Paper:
    """A `Sink` that writes at once, or when told."""

    room_needed = 8 << 20
    why = "the disk is full"
    unsafe = False

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.waiting: list[tuple[bytes, asyncio.Future[bool]]] = []
        self.stuck = False
        self.given_up = False

    def append(self, line: bytes) -> asyncio.Future[bool]:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.stuck:
            self.waiting.append((line, future))
            if self.given_up:
                self.give_up()
        else:
            self.lines.append(json.loads(line))
            future.set_result(True)
        return future

    def write_out(self) -> None:
        self.stuck = False
        for line, future in self.waiting:
            self.lines.append(json.loads(line))
            future.set_result(True)
        self.waiting.clear()

    def give_up(self) -> None:
        self.given_up = True
        for _, future in self.waiting:
            future.set_result(False)
        self.waiting.clear()

    @property
    def written(self) -> list[int]:
        return [line["index"] for line in self.lines]


class Set:
    """An engine and its surroundings."""

    def __init__(self, concurrency: int = 3, *, at_once: bool = True, opened: bool = True) -> None:
        self.server = Server(at_once=at_once)
        self.paper = Paper()
        self.slots = Slots(concurrency)
        self.said: list[str] = []
        self.closed = False
        self.engine = Engine(self.server, self.paper, self.slots, Breaker(), self.said.append)
        if opened:
            self.slots.open_all()

    async def feed(self, numbers: Iterable[int]) -> AsyncGenerator[Request]:
        try:
            for number in numbers:
                yield request(number)
        finally:
            self.closed = True

    def start(self, numbers: Iterable[int] = range(10)) -> asyncio.Task[None]:
        return asyncio.create_task(self.engine.run(self.feed(numbers)))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- the load


async def test_every_request_once_and_written() -> None:
    it = Set()
    await it.start(range(100))
    assert sorted(it.server.sent) == sorted(it.paper.written) == list(range(100))
    assert it.server.peak == 3
    assert (it.engine.ended_by, it.engine.reason, it.engine.in_flight) == ("finished", None, 0)
    assert (it.engine.tally.started, it.engine.tally.finished, it.engine.tally.unwritten) == (100, 100, 0)
    assert it.closed
    assert it.said == []


async def test_nothing_to_send() -> None:
    it = Set()
    await it.start([])
    assert (it.engine.ended_by, it.engine.tally.started) == ("finished", 0)


async def test_the_first_goes_alone() -> None:
    it = Set(5, at_once=False, opened=False)
    run = it.start()
    await turns()
    assert it.server.sent == [0]
    it.slots.open_all()  # as its first token does
    await turns()
    assert it.server.sent == [0, 1, 2, 3, 4]
    it.server.at_once = True
    for number in range(5):
        it.server.answer(number)
    await run


async def test_a_failed_first_is_followed_by_one() -> None:
    it = Set(5, at_once=False, opened=False)
    run = it.start()
    await turns()
    it.server.answer(0, **failure())
    await turns()
    assert it.server.sent == [0, 1]
    it.server.answer(1)  # an answer without a token opens all places, too
    await turns()
    assert it.server.sent == [0, 1, 2, 3, 4, 5, 6]
    it.engine.cut("user")
    it.engine.stop("interrupted")
    await run


async def test_a_place_is_kept_until_the_line_is_written() -> None:
    it = Set(3)
    it.paper.stuck = True
    run = it.start()
    await until(lambda: len(it.paper.waiting) == 3)
    await turns()
    assert it.server.sent == [0, 1, 2]
    assert it.engine.in_flight == 3
    it.paper.write_out()
    await run
    assert sorted(it.paper.written) == list(range(10))


# -- stopping


async def test_stop_drains() -> None:
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.engine.stop("interrupted", "because")
    it.engine.stop("terminated", "too late")
    assert it.engine.stopping
    await turns()
    assert not run.done()
    for number in (2, 0, 1):
        it.server.answer(number)
    await run
    assert it.server.sent == [0, 1, 2]
    assert it.paper.written == [2, 0, 1]
    assert (it.engine.ended_by, it.engine.reason) == ("interrupted", "because")
    assert (it.server.stopped, it.server.cuts) == (1, [])
    assert it.closed


async def test_stop_before_the_first() -> None:
    it = Set()
    it.engine.stop("interrupted")
    await it.start()
    assert (it.server.sent, it.closed) == ([], True)


async def test_stop_while_the_only_place_is_taken() -> None:
    it = Set(1, at_once=False)
    run = it.start()
    await turns()
    it.engine.stop("terminated")
    await turns()
    assert it.closed  # the feed is let go at once, and not after the last answer
    it.server.answer(0)
    await run
    assert it.server.sent == [0]


async def test_cut_keeps_what_was_said() -> None:
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.engine.stop("interrupted")
    it.engine.cut("user")
    await run
    assert [(line["status"], line["cancelled_by"]) for line in it.paper.lines] == [("cancelled", "user")] * 3
    assert not it.paper.given_up
    assert it.engine.tally.status == {"cancelled": 3}


# -- the disk


async def test_a_full_disk_admits_nothing() -> None:
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.paper.stuck = True
    it.engine.on_full(True)
    it.engine.on_full(True)
    (said,) = it.said
    assert said.startswith("the disk is full: nothing new is sent")
    assert "(8 MB)" in said
    it.server.answer(0)
    it.server.answer(1)
    await turns()
    assert (it.server.sent, it.paper.written) == ([0, 1, 2], [])
    it.server.at_once = True
    it.paper.write_out()
    it.engine.on_full(False)
    it.server.answer(2)
    await run
    assert it.said[1:] == ["there is room on the disk again: sending goes on"]
    assert sorted(it.paper.written) == list(range(10))
    assert (it.engine.ended_by, it.engine.tally.unwritten, it.paper.given_up) == ("finished", 0, False)


async def test_a_disk_that_stays_full_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_WAIT_S", 0.02)
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.paper.stuck = True
    it.engine.on_full(True)
    it.server.answer(0)
    it.server.answer(1)
    await asyncio.sleep(0.3)
    assert not it.paper.given_up  # the wait begins when the last stream has ended
    it.server.answer(2)
    await run
    assert (it.engine.ended_by, it.engine.reason) == ("disk_full", "the disk is full")
    assert (it.engine.tally.finished, it.engine.tally.unwritten) == (3, 3)
    assert it.server.sent == [0, 1, 2]


async def test_room_again_before_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_WAIT_S", 3600)
    it = Set(2)
    it.paper.stuck = True
    run = it.start()
    await until(lambda: len(it.paper.waiting) == 2)
    for _ in range(3):
        it.engine.on_full(True)
        await turns()
        it.engine.on_full(False)
        await turns()
    it.paper.write_out()
    await run
    assert it.engine.ended_by == "finished"
    assert len(it.said) == 6


async def test_a_cut_on_a_full_disk_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_WAIT_S", 3600)
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.paper.stuck = True
    it.engine.on_full(True)
    it.server.answer(0)
    await turns()
    it.engine.stop("terminated")
    it.engine.cut("deadline")
    await run
    assert (it.engine.ended_by, it.engine.tally.unwritten) == ("terminated", 3)


async def test_a_disk_that_fills_up_while_the_run_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_WAIT_S", 0.01)
    it = Set(2, at_once=False)
    run = it.start()
    await turns()
    it.engine.stop("interrupted")
    it.paper.stuck = True
    it.engine.on_full(True)
    it.server.answer(0)
    it.server.answer(1)
    await run
    assert (it.engine.ended_by, it.engine.tally.unwritten) == ("interrupted", 2)


# -- what goes wrong


async def test_an_error_of_our_own_loses_nothing_else() -> None:
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.server.waiting[1].set_result(RuntimeError("a bug"))
    await turns()
    sent = list(it.server.sent)  # its place may have been given away before anybody knew of the error
    assert sent in ([0, 1, 2], [0, 1, 2, 3])
    for number in list(it.server.waiting):
        it.server.answer(number)
    with pytest.raises(RuntimeError, match="a bug"):
        await run
    assert it.server.sent == sent
    assert it.paper.written == [number for number in sent if number != 1]
    assert (it.engine.ended_by, it.engine.reason) == ("error", "internal error: RuntimeError")


async def test_a_feed_that_breaks_loses_nothing() -> None:
    """The prompt file was changed under the run, say."""

    async def feed() -> AsyncGenerator[Request]:
        yield request(0)
        yield request(1)
        raise ValueError("the file changed")

    it = Set(3, at_once=False)
    run = asyncio.create_task(it.engine.run(feed()))
    await turns()
    assert not run.done()
    it.server.answer(0)
    it.server.answer(1)
    with pytest.raises(ValueError, match="the file changed"):
        await run
    assert it.paper.written == [0, 1]


# -- the circuit breaker


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        ([failure(ErrorKind.AUTH)], 1),
        ([failure(ErrorKind.CONNECT)], 1),
        ([failure(ErrorKind.BAD_REQUEST, 404)], 1),
        ([failure(ErrorKind.BAD_REQUEST, 400)] * 3, 3),
        ([failure(ErrorKind.SERVER_ERROR, 500)] * 3, 3),
        ([{}, *[failure(ErrorKind.AUTH)] * 3], 4),
        ([{}, *[failure(ErrorKind.SERVER_ERROR)] * 50], 51),
    ],
)
async def test_stops_where_nothing_works(answers: list[dict[str, Any]], sent: int) -> None:
    it = Set(1)
    it.server.answers.update(enumerate(answers))
    await it.start(range(200))
    assert len(it.server.sent) == sent
    assert it.paper.written == it.server.sent  # the failures are kept, too
    assert it.engine.ended_by == "circuit_breaker"
    assert it.engine.tripped == answers[-1]["error"]
    assert it.engine.reason == answers[-1]["error"].message


async def test_goes_on_where_something_works() -> None:
    it = Set(1)
    it.server.answers.update({n: failure(ErrorKind.BAD_REQUEST, 400) for n in range(1, 150)})
    it.server.answers.update({n: failure() for n in range(151, 200)})
    await it.start(range(200))
    assert len(it.server.sent) == 200
    assert (it.engine.ended_by, it.engine.tripped) == ("finished", None)
    assert it.engine.tally.errors == {"bad_request": 149, "server_error": 49}


async def test_cancelled_requests_prove_nothing() -> None:
    it = Set(1)
    it.server.answers.update({n: {"status": "cancelled", "cancelled_by": "deadline"} for n in range(100)})
    await it.start(range(100))
    assert it.engine.ended_by == "finished"
    assert not it.slots.opened or it.slots.concurrency == 1


async def test_a_stop_by_hand_is_not_renamed_by_what_fails_after_it() -> None:
    it = Set(3, at_once=False)
    run = it.start()
    await turns()
    it.engine.stop("interrupted")
    for number in range(3):
        it.server.answer(number, **failure(ErrorKind.AUTH))
    await run
    assert it.engine.ended_by == "interrupted"


# -- counts


def test_tally() -> None:
    tally = Tally()
    assert tally.finished == 0
    tally.add(record(request(1), usage={"completion_tokens": 7}))
    tally.add(record(request(2), usage={"completion_tokens": "7"}))
    tally.add(record(request(3)))
    attempt = Attempt(None, None, None, Error(ErrorKind.CONNECT, "m"), "", None, 0, "backoff")
    tally.add(record(request(4), **failure(), usage_partial={"completion_tokens": 2}, attempts=[attempt] * 3))
    tally.add(record(request(5), status="cancelled"))
    assert tally.status == {"ok": 3, "error": 1, "cancelled": 1}
    assert (tally.finished, tally.retries, tally.completion_tokens) == (5, 3, 9)
    assert tally.errors == {"server_error": 1}


async def test_a_journal_that_is_not_safe_buys_no_more() -> None:
    it = Set(1)
    it.paper.unsafe = True
    await it.start(range(10))
    assert it.server.sent == []
    assert it.engine.ended_by == "error"


# -- the gate


async def test_what_the_gate_does_not_let_through_is_not_sent() -> None:
    it = Set(3)
    it.server.shut = True
    await it.start(range(10))
    assert it.server.sent == []
    assert it.engine.tally.started == 0
    assert it.closed


async def test_one_that_may_not_go_keeps_no_other_from_going() -> None:
    it = Set(2)
    it.server.barred = {0, 1, 2, 5, 9}  # more than there are places
    await it.start(range(10))
    assert it.server.sent == [3, 4, 6, 7, 8]
    assert it.engine.ended_by == "finished"


async def test_a_run_that_stops_in_the_gate_reads_no_further() -> None:
    it = Set(2, at_once=False)
    it.server.barred = {0}
    it.server.at_the_bar = lambda: it.engine.stop("budget")
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    await it.start(numbers())
    assert (it.server.sent, read) == ([], [0])


async def test_what_the_disk_did_not_take_is_not_settled() -> None:
    it = Set(2)
    it.paper.stuck = True
    run = it.start(range(2))
    await until(lambda: len(it.paper.waiting) == 2)
    it.paper.give_up()
    await run
    assert (it.engine.tally.unwritten, it.server.settled) == (2, [])


async def test_a_request_is_settled_once_its_line_is_written() -> None:
    it = Set(1)
    it.paper.stuck = True
    run = it.start(range(2))
    await turns(30)
    assert it.server.sent == [0]
    assert it.server.settled == []
    it.paper.write_out()
    await run
    assert it.server.settled == [0, 1]


async def test_who_passed_the_gate_and_finds_the_run_stopped_is_withdrawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Set(2)
    admit = it.server.admit

    async def full_meanwhile(prepared: Request) -> bool:
        it.engine.on_full(True)
        return await admit(prepared)

    monkeypatch.setattr(it.server, "admit", full_meanwhile)
    run = it.start(range(2))
    await turns(20)
    assert (it.server.sent, it.server.withdrawn) == ([], [])
    it.engine.stop("interrupted")
    await run
    assert (it.server.sent, it.server.withdrawn) == ([], [0])
    it.engine.on_full(False)


async def test_giving_up_before_the_first_request() -> None:
    it = Set(2)
    error = Error(ErrorKind.CONNECT, "nobody there")
    it.engine.give_up(error, "not ready: nobody there")
    await it.engine.stopped()
    await it.start(range(3))
    assert it.server.sent == []
    assert (it.engine.ended_by, it.engine.tripped) == ("circuit_breaker", error)
    assert it.engine.stopped_on(None) == it.engine.stopped_on("connect") == "connect"


@pytest.mark.parametrize(
    ("status", "before", "stopped_on"),
    [
        (400, None, "bad_request"),
        (400, "auth", "bad_request"),
        (400, "bad_request", None),
        (404, None, "bad_request"),
        (404, "bad_request", "bad_request"),
    ],
)
def test_what_a_400_stopped_has_one_more_chance(
    status: int, before: str | None, stopped_on: str | None
) -> None:
    it = Set(2)
    assert it.engine.stopped_on(before) is None
    it.engine.give_up(Error(ErrorKind.BAD_REQUEST, "no", http_status=status), "no")
    assert it.engine.stopped_on(before) == stopped_on
