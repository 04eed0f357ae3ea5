from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable
from itertools import pairwise
from time import monotonic_ns
from typing import Any, cast

import pytest

from runner.alarm import Alarm
from runner.course import Course
from runner.delivery import About
from runner.live import Live
from runner.load import Load
from runner.record import CancelledBy, Error, ErrorKind, Phase, Record
from scenarios.arrivals import Schedule
from scenarios.request import Request
from scenarios.workload import Item, Leave

MS = 1_000_000


class Going:
    """A request as a fake sender prepares it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.about: About | None = None
        self.held_ns = 0
        self.is_out = False


class Server:
    """A `Sender` that answers when a test says so, or after so many turns of the loop."""

    def __init__(self, *, turns: int | None = 2) -> None:
        self.turns = turns
        self.sent: list[tuple[int, Phase, int, int]] = []  # (index, phase, due, sent at)
        self.prepared: dict[int, Going] = {}
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.answers: dict[int, dict[str, Any]] = {}
        self.cuts: list[CancelledBy] = []
        self.peak = 0
        self.heard = False
        self.turns_to_send = 0  # of the loop, until its bytes are out

    def prepare(self, request: Request) -> Going:
        return self.prepared.setdefault(request.index, Going(request))

    async def admit(self, _: Going) -> bool:
        return True

    def withdraw(self, _: Going) -> None:
        raise AssertionError

    def written(self, _: Going) -> None: ...

    def heard_since(self, _: int) -> bool:
        return self.heard

    def stop(self) -> None: ...

    def cut(self, by: CancelledBy) -> None:
        self.cuts.append(by)
        for future in self.waiting.values():
            if not future.done():
                future.set_result({"status": "cancelled", "cancelled_by": by})

    def answer(self, number: int, **changes: Any) -> None:
        self.waiting[number].set_result(changes)

    async def send(self, going: Going, scheduled_at: int, phase: Phase) -> Record:
        index = going.request.index
        for _ in range(self.turns_to_send):
            await asyncio.sleep(0)
        going.is_out = True
        self.sent.append((index, phase, scheduled_at, monotonic_ns()))
        future = self.waiting[index] = asyncio.get_running_loop().create_future()
        self.peak = max(self.peak, len(self.waiting))
        if self.turns is not None:
            for _ in range(self.turns):
                await asyncio.sleep(0)
            future.set_result(self.answers.get(index, {}))
        try:
            changes = await future
        finally:
            del self.waiting[index]
        return record(index, going, phase, scheduled_at, **changes)


def record(index: int, going: Going, phase: Phase, scheduled_at: int, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": f"{index:032x}",
        "prompt_id": "p",
        "index": index,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": phase,
        "scheduled_at": scheduled_at,
        "sent_at": 1,
        "headers_at": 1,
        "first_token_at": 2,
        "first_content_at": 2,
        "last_token_at": 2,
        "ended_at": monotonic_ns(),
        "status": "ok",
        "text": f"answer {index}",
        **changes,
    }
    if going.held_ns:
        values["held_ns"] = going.held_ns
    return Record(**values)


class Paper:
    """A `Sink` that writes at once."""

    room_needed = 0
    why = "the disk is full"
    unsafe = False

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.given_up = 0

    def append(self, line: bytes) -> asyncio.Future[bool]:
        self.lines.append(json.loads(line))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.set_result(True)
        return future

    def give_up(self) -> None:
        self.given_up += 1


class Talk:
    """A conversation that hands out `turns` more requests."""

    def __init__(self, number: int, turns: int, think_s: float = 0.001) -> None:
        self.heard: list[str] = []
        self._number, self._left, self._think_s = number, turns, think_s

    def next(self, answer: str) -> tuple[float, Request, int | None] | None:
        self.heard.append(answer)
        if not self._left:
            return None
        self._left -= 1
        return self._think_s, request(1000 * (self._number + 1) + self._left), 7


def request(index: int) -> Request:
    return Request(f"{index:032x}", "p", index, 0, None, "chat", {}, {})


def item(number: int) -> Item:
    return Item(first=request(number), asked_input_tokens=11, asked_output_tokens=5)


def open_course(offsets_ms: list[float], *, warmup: int = 0, **changes: Any) -> Course:
    offsets = array("q", [int(at * MS) for at in offsets_ms])
    schedule = Schedule(
        offsets_ns=offsets,
        warmup=warmup,
        begin_ns=offsets[warmup] if warmup else 0,
        end_ns=offsets[-1],
        mean_gap_ns=1.0,
    )
    return Course(executor="constant-arrival-rate", schedule=schedule, **changes)


class Bench:
    """A load with everything around it faked but the clock."""

    def __init__(
        self,
        course: Course,
        server: Server | None = None,
        make: Callable[[int], Item] = item,
        *,
        proven: bool = False,
    ) -> None:
        self.server = server or Server()
        self.paper = Paper()
        self.said: list[str] = []
        self.live = Live()
        self.alarm = Alarm()
        self.load = Load(
            self.server, self.paper, make, course, self.alarm, self.live, self.said.append, proven=proven
        )

    async def run(self) -> Load:
        try:
            async with asyncio.timeout(30):
                await self.load.run()
        finally:
            self.alarm.close()
        return self.load

    def start(self) -> asyncio.Task[Load]:
        return asyncio.create_task(self.run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


# -- open loops


async def test_nothing_is_sent_before_its_time_and_nothing_is_left_out() -> None:
    offsets = [0, 0, 3, 4.5, 4.6, 9, 20]
    bench = Bench(open_course(offsets))
    load = await bench.run()
    assert [index for index, *_ in bench.server.sent] == list(range(7))
    for (_, _, due, sent_at), offset in zip(bench.server.sent, offsets, strict=True):
        assert due == load.began_at + int(offset * MS)
        assert sent_at >= due
    assert load.scheduled() == load.arrived == {"warmup": 0, "measure": 7}
    assert load.held == 0
    assert not any("held_ns" in line for line in bench.paper.lines)


async def test_a_slow_server_does_not_slow_an_open_loop() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2, 3]), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 4)
    for number in range(4):
        server.answer(number)
    load = await running
    assert load.peak_in_flight == 4
    assert load.held == 0


async def test_beyond_max_in_flight_arrivals_wait_in_order_and_their_records_say_how_long() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2, 3], max_in_flight=2), server)
    running = bench.start()
    await until(lambda: 0 < bench.load._full_since < monotonic_ns() - 10 * MS)
    assert [index for index, *_ in server.sent] == [0, 1]
    server.answer(1)
    await until(lambda: len(server.sent) == 3)
    server.answer(0)
    await until(lambda: len(server.sent) == 4)
    server.answer(2)
    server.answer(3)
    load = await running
    assert server.peak == 2
    assert load.held == 2
    held: dict[int, int] = {line["index"]: line.get("held_ns", 0) for line in bench.paper.lines}
    assert held[0] == held[1] == 0
    for index, _, due, sent_at in server.sent[2:]:
        assert 0 < held[index] <= sent_at - due  # the rest of its delay is the client's
        assert held[index] >= 9 * MS


async def test_an_arrival_behind_one_that_waited_is_held_as_well() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2], max_in_flight=2), server)
    running = bench.start()
    await until(lambda: monotonic_ns() > bench.load.began_at + 5 * MS and len(server.waiting) == 2)
    server.answer(0)
    server.answer(1)
    await until(lambda: len(server.sent) == 3)
    server.answer(2)
    load = await running
    assert load.held == 1


async def test_arrivals_that_never_got_a_place_are_unsent_when_the_grace_is_over() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2], max_in_flight=1, grace_ns=5 * MS), server)
    load = await bench.run()
    assert server.cuts == ["deadline"]
    assert load.scheduled() == {"warmup": 0, "measure": 3}
    assert load.arrived["measure"] == 1
    assert [line["cancelled_by"] for line in bench.paper.lines] == ["deadline"]
    assert load.ended_by == "finished"


async def test_warm_up_comes_first_and_is_marked() -> None:
    bench = Bench(open_course([0, 1, 2, 3, 4], warmup=2))
    load = await bench.run()
    assert [phase for _, phase, *_ in bench.server.sent] == ["warmup"] * 2 + ["measure"] * 3
    assert load.scheduled() == load.arrived == {"warmup": 2, "measure": 3}
    assert load.window() == (load.began_at + 2 * MS, load.began_at + 4 * MS)


async def test_what_was_still_to_come_when_the_user_stopped_it_is_no_miss() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 60_000, 60_001]), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 2)
    bench.load.stop("interrupted")
    server.answer(0)
    server.answer(1)
    load = await running
    assert load.ended_by == "interrupted"
    assert load.scheduled() == {"warmup": 0, "measure": 2}
    assert load.arrived["measure"] == 2
    begin, end = load.window()
    assert begin is not None
    assert end is not None
    assert end - begin < 60_000 * MS


# -- closed loops


def closed(concurrency: int, **changes: Any) -> Course:
    return Course(executor="constant-concurrency", places=[(0, concurrency)], **changes)


async def test_a_closed_loop_keeps_its_places_filled_and_sends_what_was_asked() -> None:
    bench = Bench(closed(3, requests=10), Server(turns=20))
    load = await bench.run()
    assert [index for index, *_ in bench.server.sent] == list(range(10))
    assert bench.server.peak == load.peak_in_flight == 3
    assert load.arrived["measure"] == 10


async def test_warm_up_requests_of_a_closed_loop_come_on_top() -> None:
    bench = Bench(closed(2, requests=4, warmup_requests=3))
    load = await bench.run()
    assert [phase for _, phase, *_ in bench.server.sent] == ["warmup"] * 3 + ["measure"] * 4
    assert load.arrived == {"warmup": 3, "measure": 4}


async def test_a_closed_loop_by_time_warms_up_measures_and_ends() -> None:
    bench = Bench(closed(2, warmup_ns=10 * MS, duration_ns=20 * MS), Server(turns=50))
    load = await bench.run()
    phases = [phase for _, phase, *_ in bench.server.sent]
    assert phases == sorted(phases, reverse=True)
    assert set(phases) == {"warmup", "measure"}
    for _, phase, due, _ in bench.server.sent:
        assert (due - load.began_at < 10 * MS) == (phase == "warmup")


async def test_the_steady_window_is_from_the_first_answers_of_all_places_to_the_first_empty_one() -> None:
    server = Server(turns=None)
    bench = Bench(closed(2, requests=4), server)
    at: list[int] = []

    async def answer(number: int, then: set[int]) -> None:
        at.append(monotonic_ns())
        server.answer(number)
        await until(lambda: set(server.waiting) == then)

    running = bench.start()
    await until(lambda: set(server.waiting) == {0, 1})
    await answer(1, {0, 2})
    await answer(0, {2, 3})  # here it opens: both places have had an answer
    await answer(2, {3})  # and here it ends: nothing is left for this place
    await answer(3, set())
    begin, end = (await running).window()
    assert begin is not None
    assert end is not None
    assert at[1] <= begin <= at[2] <= end <= at[3]


async def test_a_loop_that_never_fills_its_places_has_no_steady_window() -> None:
    load = await Bench(closed(8, requests=3)).run()
    assert load.window() == (None, None)


async def test_places_follow_the_stages() -> None:
    server = Server(turns=None)
    course = Course(
        executor="ramping-concurrency", places=[(0, 1), (5 * MS, 3), (1500 * MS, 1)], duration_ns=60_000 * MS
    )
    bench = Bench(course, server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 3)
    await until(lambda: bench.load._slots.concurrency == 1)
    for number in list(server.waiting):
        server.answer(number)
    await until(lambda: set(server.waiting) == {3})
    bench.load.stop("interrupted")
    server.answer(3)
    await running
    assert server.peak == 3


async def test_what_is_in_flight_at_the_end_gets_its_grace_and_is_then_cut() -> None:
    server = Server(turns=None)
    bench = Bench(closed(2, duration_ns=5 * MS, grace_ns=5 * MS), server)
    load = await bench.run()
    assert server.cuts == ["deadline"]
    assert len(server.sent) == 2
    assert load.ended_by == "finished"


# -- conversations, users who leave


async def test_a_conversation_goes_on_turn_by_turn_and_keeps_its_place() -> None:
    talks: dict[int, Talk] = {}

    def make(number: int) -> Item:
        talks[number] = Talk(number, 2)
        return Item(first=request(number), rest=cast("Any", talks[number]), asked_output_tokens=5)

    bench = Bench(closed(1, requests=2), make=make)
    load = await bench.run()
    assert [index for index, *_ in bench.server.sent] == [0, 1001, 1000, 1, 2001, 2000]
    assert bench.server.peak == 1
    assert talks[0].heard == ["answer 0", "answer 1001", "answer 1000"]
    about = bench.server.prepared[1000].about
    assert about is not None
    assert (about.conversation, about.turn, about.asked_output_tokens) == (0, 2, 7)
    assert load.arrived["measure"] == 2
    assert load.sent["measure"] == 6


async def test_a_conversation_ends_with_a_turn_that_fails() -> None:
    server = Server()
    server.answers[0] = {"status": "error", "error": Error(ErrorKind.SERVER_ERROR, "no")}
    bench = Bench(
        closed(1, requests=1), server, make=lambda n: Item(first=request(n), rest=cast("Any", Talk(n, 2)))
    )
    await bench.run()
    assert len(server.sent) == 1


async def test_what_the_load_says_of_a_request_goes_with_it() -> None:
    def make(number: int) -> Item:
        return Item(
            first=request(number),
            leave=Leave(tokens=3, patience_s=None),
            asked_input_tokens=11,
            asked_output_tokens=5,
        )

    bench = Bench(open_course([0]), make=make)
    await bench.run()
    assert bench.server.prepared[0].about == About(
        asked_input_tokens=11, asked_output_tokens=5, leave_after_tokens=3
    )


# -- ends that come early


@pytest.mark.parametrize("kind", [ErrorKind.CONNECT, ErrorKind.AUTH, ErrorKind.TLS])
async def test_a_target_that_is_not_there_ends_it_at_once(kind: ErrorKind) -> None:
    server = Server()
    gone = {"status": "error", "error": Error(kind, "nobody there")}
    server.answers = dict.fromkeys(range(1000), gone)
    bench = Bench(closed(1, requests=1000), server)
    load = await bench.run()
    assert load.ended_by == "circuit_breaker"
    assert load.reason == "nobody there"
    assert len(server.sent) < 5


async def test_a_server_that_refuses_under_load_is_a_result() -> None:
    server = Server()
    busy = {"status": "error", "error": Error(ErrorKind.OVERLOADED, "later", http_status=503)}
    server.answers = dict.fromkeys(range(200), busy)
    bench = Bench(closed(4, requests=200), server)
    load = await bench.run()
    assert load.ended_by == "finished"
    assert len(bench.paper.lines) == 200


async def test_an_error_of_our_own_ends_it_and_is_shown() -> None:
    def make(number: int) -> Item:
        if number == 2:
            raise RuntimeError("boom")
        return item(number)

    with pytest.raises(RuntimeError, match="boom"):
        await Bench(closed(1, requests=5), make=make).run()


async def test_a_full_disk_ends_it() -> None:
    server = Server(turns=None)
    bench = Bench(closed(1, requests=5), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 1)
    bench.load.on_full(True)
    server.answer(0)
    load = await running
    assert load.ended_by == "disk_full"
    assert len(bench.paper.lines) == 1
    assert "disk is full" in bench.said[0]


# -- what a review found


async def test_a_timed_warm_up_takes_nothing_from_the_requests_to_measure() -> None:
    bench = Bench(closed(2, requests=5, warmup_ns=20 * MS), Server(turns=20))
    load = await bench.run()
    assert load.arrived["measure"] == 5
    assert load.arrived["warmup"] > 0


async def test_one_start_a_turn_in_a_burst() -> None:
    turn = 0
    bench = Bench(open_course([0] * 6), Server(turns=50))

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    started: list[int] = []
    send = bench.server.send

    async def noted(going: Going, scheduled_at: int, phase: Phase) -> Record:
        started.append(turn)
        return await send(going, scheduled_at, phase)

    bench.server.send = noted  # type: ignore[method-assign]
    counting = asyncio.create_task(count_turns())
    await bench.run()
    counting.cancel()
    assert len(set(started)) == 6


async def test_the_next_request_is_made_when_the_one_before_is_out() -> None:
    server = Server(turns=30)
    server.turns_to_send = 4
    made_while: list[list[int]] = []

    def make(number: int) -> Item:
        made_while.append([index for index, going in server.prepared.items() if not going.is_out])
        return item(number)

    await Bench(open_course([0, 0, 0, 0]), server, make).run()
    assert made_while == [[], [], [], []]


async def test_in_a_closed_loop_it_is_made_before_its_place_is_free() -> None:
    server = Server(turns=None)
    made: list[int] = []

    def make(number: int) -> Item:
        made.append(number)
        return item(number)

    bench = Bench(closed(1, requests=2), server, make)
    running = bench.start()
    await until(lambda: len(made) == 2)
    assert set(server.waiting) == {0}
    server.answer(0)
    await until(lambda: set(server.waiting) == {1})
    server.answer(1)
    await running


async def test_a_load_that_is_stopped_sends_nothing_before_its_time() -> None:
    bench = Bench(open_course([0, 60_000, 60_001]))
    running = bench.start()
    await until(lambda: len(bench.server.sent) == 1)
    bench.alarm.wake()
    load = await running
    assert len(bench.server.sent) == 1
    assert load.arrived["measure"] == 1


async def test_a_client_that_comes_late_was_not_held() -> None:
    def make(number: int) -> Item:
        if number == 1:
            time.sleep(0.02)  # the client's own fault; the answer is there when it comes back
        return item(number)

    bench = Bench(open_course([0, 1], max_in_flight=1), Server(turns=1), make)
    load = await bench.run()
    assert load.held == 0
    assert not any("held_ns" in line for line in bench.paper.lines)


async def test_arrivals_that_were_never_sent_have_waited_to_the_end_of_the_window() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2, 6], max_in_flight=1, grace_ns=5 * MS), server)
    load = await bench.run()
    assert load.arrived["measure"] == 1
    assert load.unsent_wait_s() == pytest.approx((5 + 4 + 0) / 1000)


async def test_a_place_that_met_a_closed_door_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.load._REST_NS", 5 * MS)
    server = Server()
    gone = {"status": "error", "error": Error(ErrorKind.CONNECT, "no"), "headers_at": None}
    server.answers = dict.fromkeys(range(4), gone)
    await Bench(closed(1, requests=4), server, proven=True).run()
    sent = [sent_at for *_, sent_at in server.sent]
    assert all(after - before >= 5 * MS for before, after in pairwise(sent))
    # An open loop sends when it is time to.
    other = Server()
    other.answers = server.answers
    load = await Bench(open_course([0, 0, 0, 0]), other, proven=True).run()
    assert load.arrived["measure"] == 4


async def test_a_later_turn_is_due_when_the_user_has_thought_and_not_when_we_have_written() -> None:
    ended: dict[int, int] = {}

    def make(number: int) -> Item:
        return Item(first=request(number), rest=cast("Any", Talk(number, 2, think_s=0.004)))

    class Slow(Paper):
        def append(self, line: bytes) -> asyncio.Future[bool]:
            told = json.loads(line)
            ended[told["index"]] = told["ended_at"]
            written = super().append(line)
            late: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.02, late.set_result, written.result())
            return late

    bench = Bench(closed(1, requests=1), make=make)
    bench.paper = bench.load._journal = Slow()
    await bench.run()
    due = {index: at for index, _, at, _ in bench.server.sent}
    assert due[1001] == ended[0] + 4 * MS
    assert due[1000] == ended[1001] + 4 * MS
    assert all(sent_at >= at for _, _, at, sent_at in bench.server.sent)


async def test_half_a_surrogate_in_an_answer_does_not_end_a_conversation() -> None:
    server = Server()
    server.answers[0] = {"text": "half \ud83d"}
    talk = Talk(0, 1)
    bench = Bench(closed(1, requests=1), server, lambda n: Item(first=request(n), rest=cast("Any", talk)))
    await bench.run()
    assert talk.heard[0] == "half \ufffd"
    assert len(server.sent) == 2


async def test_only_measured_arrivals_count_as_held() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 1, 2], warmup=2, max_in_flight=1), server)
    running = bench.start()
    for number in range(3):
        await until(lambda number=number: number in server.waiting and len(server.sent) == number + 1)  # type: ignore[misc]
        await asyncio.sleep(0.005)
        server.answer(number)
    load = await running
    assert load.held == 1
    assert sum("held_ns" in line for line in bench.paper.lines) == 2


async def test_a_breaker_cuts_what_is_in_flight() -> None:
    server = Server(turns=None)
    bench = Bench(closed(2, requests=50), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 2)
    server.answer(0, status="error", error=Error(ErrorKind.AUTH, "no"), headers_at=None)
    load = await running
    assert server.cuts == ["fail_fast"]
    assert load.ended_by == "circuit_breaker"


async def test_a_target_that_has_answered_a_probe_may_refuse_the_first_request() -> None:
    server = Server()
    gone = {"status": "error", "error": Error(ErrorKind.CONNECT, "no"), "headers_at": None}
    server.answers[0] = gone
    load = await Bench(closed(1, requests=5), server, proven=True).run()
    assert load.ended_by == "finished"
    assert len(server.sent) == 5


async def test_lines_the_disk_did_not_take_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Paper):
        def append(self, line: bytes) -> asyncio.Future[bool]:
            del line
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            future.set_result(False)
            return future

    monkeypatch.setattr("runner.load.DISK_WAIT_S", 0.0)
    server = Server(turns=None)
    bench = Bench(closed(1, requests=3), server)
    paper = bench.load._journal = Full()
    running = bench.start()
    await until(lambda: len(server.waiting) == 1)
    bench.load.on_full(True)
    await until(lambda: paper.given_up > 0)
    server.answer(0)
    load = await running
    assert load.tally.unwritten == 1


async def test_ctrl_c_on_a_full_disk_does_not_wait_for_room() -> None:
    server = Server(turns=None)
    bench = Bench(closed(1, requests=3), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 1)
    bench.load.on_full(True)
    bench.load.stop("interrupted")
    bench.load.cut("user")
    load = await running
    assert load.ended_by == "interrupted"
    assert bench.paper.given_up > 0


async def test_a_load_that_was_stopped_before_it_began_sends_nothing() -> None:
    bench = Bench(open_course([60_000, 60_001]))
    bench.load.stop("interrupted")
    load = await bench.run()
    assert load.ended_by == "interrupted"
    assert load.scheduled() == load.arrived == {"warmup": 0, "measure": 0}


async def test_an_error_of_our_own_keeps_what_was_paid_for() -> None:
    server = Server(turns=None)

    def make(number: int) -> Item:
        if number == 2:
            raise RuntimeError("boom")
        return item(number)

    bench = Bench(closed(3, requests=5), server, make)
    running = bench.start()
    await until(lambda: len(server.waiting) == 2 and bench.load.stopping)
    server.answer(0)
    server.answer(1)
    with pytest.raises(RuntimeError, match="boom"):
        await running
    assert len(bench.paper.lines) == 2
    assert bench.load.ended_by == "error"


async def test_ctrl_c_while_the_last_answers_come_leaves_the_window_whole() -> None:
    server = Server(turns=None)
    bench = Bench(open_course([0, 10]), server)
    running = bench.start()
    await until(lambda: len(server.waiting) == 2)
    bench.load.stop("interrupted")
    server.answer(0)
    server.answer(1)
    load = await running
    assert load.window() == (load.began_at, load.began_at + 10 * MS)
    assert load.scheduled()["measure"] == 2
