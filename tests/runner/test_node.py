"""A node as the parent has it, over calls that are faked: journal, acknowledgement, clocks, death."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner import node as module
from runner.engine import Told
from runner.journal import Journal
from runner.node import FarError, Node
from runner.offset import Offset
from runner.orders import (
    ORDERS,
    Bye,
    Done,
    Failed,
    First,
    Go,
    Head,
    Line,
    Ready,
    Start,
    Synced,
    Written,
)
from runner.pipe import Frames, Message, frame, reader
from runner.record import Error, ErrorKind
from runner.settings import Settings
from runner.shards import Death
from runner.worker import Broken

AHEAD = 10**12  # of its clock
_orders = reader(*ORDERS)


class Fake:
    """An actor whose batches are written down beforehand; `None` is its loss."""

    def __init__(self, *batches: list[Message] | None) -> None:
        self.orders: list[Any] = []
        self.kept: list[int] = []
        self.killed = False
        self._batches = list(batches)
        self.more = asyncio.Event()

    async def push(self, frames: bytes) -> None:
        self.orders += [_orders(payload) for payload in Frames().feed(frames)]

    async def pull(self, after: int, kept: int) -> tuple[int, bytes]:
        self.kept.append(kept)
        while after >= len(self._batches):
            self.more.clear()
            await self.more.wait()
        batch = self._batches[after]
        if batch is None:
            raise FarError("was lost")
        return after + 1, b"".join(frame(message) for message in batch)

    def add(self, batch: list[Message] | None) -> None:
        self._batches.append(batch)
        self.more.set()

    async def clock(self) -> int:
        return AHEAD

    def kill(self) -> None:
        self.killed = True


def begin(path: Path, fake: Fake, said: list[Any], facts: dict[str, Any] | None = None) -> Node:
    start = Start(str(path), 3, 1_000, [], ["sk-secret"], Settings())
    take: Callable[[Any], None] = said.append
    return Node(1, fake, {"pid": 7}, facts if facts is not None else {}, Offset(AHEAD, 50), start, take)


def without(said: list[Any], *kinds: type) -> list[Any]:
    return [message for message in said if not isinstance(message, (Synced, *kinds))]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - whatever it is, nobody says when
        await asyncio.sleep(0.001)


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited())


def test_times_that_cross_over_are_turned_into_those_of_the_other_clock(tmp_path: Path) -> None:
    error = Error(ErrorKind.OVERLOADED, "later")

    async def main() -> tuple[Fake, list[Any]]:
        fake, said = Fake([Head(1, 200), First(0, AHEAD + 5, AHEAD + 9)]), list[Any]()
        node = begin(tmp_path / "records-1.jsonl", fake, said)
        node.send(Go(1, b"{}", 0, 0, 123))
        fake.add([Failed(1, error, False, {}, AHEAD + 11), Bye({}, None, 0, 0)])
        await node.ended
        return fake, said

    fake, said = run(main())
    start, go = fake.orders
    assert (start.anchor_ns, start.journal) == (1_000 + AHEAD, "")
    assert go.due == 123 + AHEAD
    assert without(said) == [
        Head(1, 200),
        First(0, 5, 9),
        Failed(1, error, False, {}, 11),
        Bye({}, None, 0, 0),
    ]


def test_a_batch_is_acknowledged_once_all_its_lines_are_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, gate = tmp_path / "records-1.jsonl", threading.Event()

    def slow(fd: int, line: bytes) -> int:
        gate.wait(30)
        return os.write(fd, line)

    monkeypatch.setattr(module, "Journal", partial(Journal, write=slow))
    lines = [b'{"id":"a"}\n', b'{"id":"b"}\n']

    async def main() -> tuple[Fake, list[Any]]:
        fake, said = Fake([Line(1, lines[0])], [Head(2, 200), Line(2, lines[1])]), list[Any]()
        node = begin(path, fake, said)
        await until(lambda: len(fake.kept) >= 3)
        assert fake.kept == [0, 0, 0]
        assert not without(said, Head)
        gate.set()
        await until(lambda: len(without(said, Head)) >= 2)
        fake.add([Head(3, 200)])
        await until(lambda: len(fake.kept) >= 4)
        fake.add([Bye({}, None, 0, 0)])
        assert (await node.ended) == Death(0)
        return fake, said

    fake, said = run(main())
    assert fake.kept[-1] >= 2
    assert path.read_bytes() == b"".join(lines)
    assert without(said, Head) == [
        Written(1, True, len(lines[0])),
        Written(2, True, len(lines[0]) + len(lines[1])),
        Bye({}, None, 2, len(lines[0]) + len(lines[1])),
    ]


def test_a_node_that_is_lost_leaves_what_it_sent_in_the_journal(tmp_path: Path) -> None:
    path, facts = tmp_path / "records-1.jsonl", dict[str, Any]()

    async def main() -> tuple[Fake, Death, list[Any]]:
        said: list[Any] = []
        fake = Fake([Ready(0), Done(1, Told("ok")), Line(1, b'{"id":"a"}\n')], None)
        node = begin(path, fake, said, facts)
        death = await node.ended
        Journal(path).close()  # its lock is free again
        return fake, death, said

    fake, death, said = run(main())
    assert fake.killed
    assert (death.code, death.words) == (1, "was lost")
    assert facts["lost"] == "was lost"
    assert path.read_bytes() == b'{"id":"a"}\n'
    assert without(said) == [Ready(0), Done(1, Told("ok")), Written(1, True, 11)]


def test_the_manifest_is_told_of_its_clock(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"ip": "10.0.0.2"}

    async def main() -> None:
        node = begin(tmp_path / "records-1.jsonl", Fake([Bye({}, None, 0, 0)]), [], facts)
        await node.ended

    run(main())
    assert facts["clock"]["offset_ns"] == AHEAD
    assert facts["clock"]["error_ns"] >= 50
    assert "lost" not in facts


def test_what_breaks_a_worker_there_is_told(tmp_path: Path) -> None:
    async def main() -> Death:
        fake = Fake([Broken("ValueError", "no such thing")])
        return await begin(tmp_path / "records-1.jsonl", fake, []).ended

    death = run(main())
    assert death.broken == Broken("ValueError", "no such thing")
    assert death.words == "broke (ValueError: no such thing)"


def test_one_that_does_not_end_in_time_is_ended(tmp_path: Path) -> None:
    async def main() -> tuple[Death, Fake]:
        fake = Fake([Ready(0)])
        return await begin(tmp_path / "records-1.jsonl", fake, []).end(within_s=0.01), fake

    death, fake = run(main())
    assert death.code == 1
    assert fake.killed


def test_a_node_that_has_ended_has_let_go_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records-1.jsonl"
    close, closing, go = Journal.close, threading.Event(), threading.Event()

    def slow(journal: Journal) -> None:
        closing.set()
        assert go.wait(30)
        close(journal)

    monkeypatch.setattr(Journal, "close", slow)

    async def main() -> bool:
        node = begin(path, Fake(), [])
        await asyncio.sleep(0)
        node._watching.cancel()
        assert await asyncio.to_thread(closing.wait, 30)
        node._watching.cancel()  # as the end of the loop does
        for _ in range(20):
            await asyncio.sleep(0)
        early = node.ended.done()
        go.set()
        await node.ended
        return early

    assert not run(main())
    close(Journal(path, tries=1))  # its lock is free
