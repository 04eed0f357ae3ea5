"""A worker as its parent has it: what the gate hears, and what is read back of one that died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.budget import Budget
from runner.delivery import encode_line
from runner.engine import Told
from runner.fleet import Endpoint, Fleet
from runner.gate import Ask, Gate
from runner.orders import Done, Ended, Failed, First, Go, Head, Held, May, Ready, Room, Synced, Written
from runner.record import Error, ErrorKind, Record
from runner.retrying import Retrying
from runner.shard import Handed, Open, Shard

OK = Told("ok")
BUSY = Error(ErrorKind.SERVER_ERROR, "no", http_status=500, retryable=True)


class Line:
    """One shard with a worker that only listens."""

    def __init__(self, path: Path, worst: float = 0.0) -> None:
        async def save(_ceiling: float) -> None:
            pass

        self.budget = Budget(100.0, 0.0, save) if worst else None
        if self.budget is not None:
            self.budget.ceiling = 100.0
        self.endpoint = Endpoint(None, "http://there/v1")  # type: ignore[arg-type]  # nothing is sent here
        self.gate = Gate(Fleet([self.endpoint]), budget=self.budget)
        self.faults: list[BaseException] = []
        self.rooms = 0
        self.said: list[Any] = []
        self.worst = worst
        self.shard = Shard(
            0,
            path,
            self.gate,
            Retrying(self.gate, retries=2),
            on_first_token=lambda: None,
            on_room=self.roomy,
            on_fault=self.faults.append,
        )
        self.shard.worker = self  # type: ignore[assignment]

    def roomy(self) -> None:
        self.rooms += 1

    def send(self, order: Any) -> None:
        self.said.append(order)

    async def hand(self, number: int) -> Open:
        ask = Ask(worst=self.worst)
        handed = Handed(f"{number:032x}", b"{}", ask, await self.gate.pass_(ask))
        one = Open(number, handed, 5)
        self.shard.hand(one)
        return one


def line(number: int, status: Any = "ok", **more: Any) -> bytes:
    times: dict[str, Any] = dict.fromkeys(
        ("scheduled_at", "sent_at", "headers_at", "first_token_at", "first_content_at", "last_token_at"), 1
    )
    record = Record(
        f"{number:032x}", "p", number, None, 0, 1, "measure", **times, ended_at=2, status=status, **more
    )
    return encode_line(record)


async def test_an_answer_is_handed_out_heard_of_and_written(tmp_path: Path) -> None:
    it = Line(tmp_path / "records-0.jsonl")
    it.shard.heard(Ready(70))
    one = await it.hand(1)
    assert it.said == [Go(1, b"{}", 0, 0, 5)]
    assert it.endpoint.in_flight == 1
    for report in (Head(1, 200), First(0, 3, 4), Ended(1, True, False, 0.0), Done(1, OK)):
        it.shard.heard(report)
    assert (it.endpoint.in_flight, it.endpoint.proven) == (0, True)
    assert await one.told is OK
    assert not one.written.done()
    it.shard.heard(Written(1, True, 90))
    it.shard.heard(Synced(1, 90, False))
    assert await one.written is True
    assert (it.shard.open, it.shard.size, it.shard.synced_lines) == ({}, 90, 1)
    it.shard.heard(Room(True, "the disk is full", 8))
    assert (it.shard.room is not None, it.rooms) == (True, 1)
    it.shard.heard(Room(False, "", 8))
    assert (it.shard.room, it.rooms, it.faults) == (None, 2, [])


async def test_a_further_attempt_passes_the_parent_s_gate(tmp_path: Path) -> None:
    it = Line(tmp_path / "records-0.jsonl")
    one = await it.hand(1)
    it.shard.heard(Ended(1, False, False, 0.0))
    it.shard.heard(Failed(1, BUSY, False, {"retry-after": "0"}, 3))
    assert it.endpoint.in_flight == 0
    assert one.asking is not None
    await one.asking
    assert it.said[1:] == [May(1, 0, 0, "retry-after")]
    assert (it.endpoint.in_flight, one.course.made, one.is_out) == (1, 1, True)
    it.shard.heard(Ended(1, False, True, 0.0))
    it.shard.heard(Held(1))
    await one.asking
    assert it.said[2:] == [May(1, 0, 0)]
    it.shard.heard(Ended(1, False, False, 0.0))
    it.gate.stop()
    it.shard.heard(Failed(1, BUSY, False, {}, 3))
    await one.asking
    assert it.said[3:] == [May(1, None)]


async def test_what_a_dead_worker_wrote_is_read_back_and_the_rest_is_open_again(tmp_path: Path) -> None:
    path = tmp_path / "records-0.jsonl"
    old = line(9)
    path.write_bytes(old + line(1) + line(2, cost=1.0) + line(3)[:-20])
    it = Line(path, worst=4.0)
    it.shard.heard(Ready(0))
    told, written, torn, asked = [await it.hand(number) for number in (1, 2, 3, 4)]
    it.shard.size = len(old)
    reserve = tmp_path / ".records-0.jsonl.reserve"  # what a worker that is killed leaves behind
    reserve.touch()
    for report in (
        Ended(1, True, False, 2.0),
        Done(1, OK),
        Ended(4, False, True, 0.0),
        Failed(4, BUSY, False, {}, 3),
    ):
        it.shard.heard(report)
    assert await it.shard.read_back() == (2, 2)
    assert [one.told.result() for one in (told, torn, asked)] == [OK, None, None]
    assert [one.written.result() for one in (told, written, torn, asked)] == [True, True, None, None]
    found = written.told.result()
    assert found is not None
    assert (found.status, found.begun) == ("ok", True)
    assert path.read_bytes().endswith(line(2, cost=1.0))
    assert it.shard.size == path.stat().st_size
    assert not reserve.exists()
    assert (it.shard.synced_lines, it.endpoint.in_flight, it.shard.open) == (2, 0, {})
    assert it.budget is not None
    assert it.budget.under_way == 0
    assert it.budget.reserved == pytest.approx(2.0 + 1.0 + 4.0)  # what was torn may have cost the most
    for one in (told, written):
        it.gate.written(one.ask)
    assert it.budget.unsettled == 4.0


async def test_a_journal_that_cannot_be_read_back_has_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "records-0.jsonl").mkdir()
    it = Line(tmp_path / "records-0.jsonl")
    one = await it.hand(1)
    with pytest.raises(IsADirectoryError):
        await it.shard.read_back()
    assert (one.told.result(), one.written.result(), it.endpoint.in_flight) == (None, None, 0)


async def test_what_makes_no_sense_is_a_fault_of_ours(tmp_path: Path) -> None:
    it = Line(tmp_path / "records-0.jsonl")
    it.shard.heard(Head(7, 200))
    assert [type(fault) for fault in it.faults] == [KeyError]
