"""The parent of several workers, without a process: whom it hands requests to once a worker has died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.bulk_shards import Shards
from runner.engine import Told
from runner.fleet import Endpoint, Fleet
from runner.gate import Ask, Gate
from runner.orders import Done, Ready, Room, Start
from runner.retrying import Retrying
from runner.settings import Settings
from runner.shard import Handed
from runner.shards import Death


class Listener:
    """What stands for a worker: it only listens."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, order: Any) -> None:
        self.said.append(order)


class Starting(Listener):
    """What stands for a worker that says nothing, not even that it is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, Any] = {}
        self.ended: asyncio.Future[Death] = asyncio.get_running_loop().create_future()

    async def close(self, within_s: float) -> None:  # noqa: ARG002 - it ends at once
        self.ended.set_result(Death(-9))


def parent(run: Path, tell: Callable[[str], None] = lambda _: None, **more: Any) -> Shards:
    gate = Gate(Fleet([Endpoint(None, "http://there/v1")]))  # type: ignore[arg-type]  # nothing is sent
    start = Start("", 1, 0, [], [], Settings(workers=2))
    return Shards(run, start, gate, Retrying(gate, retries=2), lambda text: text, tell, **more)


async def admitted(shards: Shards) -> Handed:
    handed = Handed("0" * 32, b"{}", Ask(row=6))
    assert await shards.admit(handed)
    return handed


async def test_a_worker_that_comes_after_the_end_is_handed_nothing(tmp_path: Path) -> None:
    shards, worker = parent(tmp_path), Listener()
    burial = asyncio.create_task(asyncio.sleep(0))
    shards._burials.add(burial)
    sending = asyncio.create_task(shards.send(await admitted(shards), 0))
    await asyncio.wait({burial})
    shards.cut("user")
    shards.shards[0].worker = worker  # type: ignore[assignment]
    shards._buried(burial)
    sent = await sending
    assert (sent.told.status, sent.of, worker.said) == ("lost", None, [])
    assert await shards.append(sent) is True  # no answer was there


async def test_an_answer_that_died_with_its_worker_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "records-0.jsonl").touch()
    shards = parent(tmp_path)
    shard = shards.shards[0]
    shard.worker = Listener()  # type: ignore[assignment]
    shard.heard(Ready(0))
    sending = asyncio.create_task(shards.send(await admitted(shards), 0))
    await asyncio.sleep(0)
    shard.heard(Done(1, Told("ok")))
    sent = await sending
    shards.stop()
    assert await shard.read_back() == (0, 1)
    assert (sent.told.status, await shards.append(sent)) == ("ok", False)


async def test_the_room_that_is_asked_for_is_that_of_all_workers(tmp_path: Path) -> None:
    shards = parent(tmp_path)
    for shard in shards.shards:
        shard.heard(Room(True, "the disk is full", 8))
    assert shards.room_needed == 16


async def test_a_request_that_kills_its_workers_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "records-0.jsonl").touch()
    told: list[str] = []
    shards, worker = parent(tmp_path, told.append), Listener()
    shard = shards.shards[0]
    shard.worker = worker  # type: ignore[assignment]
    sending = asyncio.create_task(shards.send(await admitted(shards), 0))
    for _ in range(3):
        await asyncio.sleep(0)
        await shard.read_back()
    assert (await sending).told.status == "lost"
    assert len(worker.said) == 3
    assert told == ["row 7 is left out: 3 workers died with it. The next session sends it"]


async def test_a_stop_ends_workers_that_are_still_being_started(tmp_path: Path) -> None:
    begun: list[Starting] = []
    told: list[str] = []
    all_of_them = asyncio.Event()

    async def launch(number: int, start: Start, take: Callable[[Any], None]) -> Starting:
        begun.append(Starting())
        if len(begun) == 2:
            all_of_them.set()
        return begun[-1]

    shards = parent(tmp_path, told.append, launch=launch)
    starting = asyncio.create_task(shards.start())
    await all_of_them.wait()
    shards.stop()
    assert not await starting
    await shards.finish()
    assert [worker.ended.done() for worker in begun] == [True, True]
    assert (shards.ended, told) == ([], [])  # no death: nobody takes their place


async def test_the_end_waits_for_no_worker_that_is_to_take_anothers_place(tmp_path: Path) -> None:
    (tmp_path / "records-0.jsonl").touch()
    begun: list[Starting] = []
    here = asyncio.Semaphore(0)

    async def launch(number: int, start: Start, take: Callable[[Any], None]) -> Starting:
        begun.append(Starting())
        take(Ready(0)) if len(begun) <= 2 else None
        here.release()
        return begun[-1]

    shards = parent(tmp_path, launch=launch)
    assert await shards.start()
    begun[0].ended.set_result(Death(-9))
    for _ in range(3):
        await here.acquire()
    begun[1].ended.set_result(Death(0))
    await shards.finish()
    assert [worker.ended.done() for worker in begun] == [True, True, True]
    assert shards.ended[0]["replaced"] is False
