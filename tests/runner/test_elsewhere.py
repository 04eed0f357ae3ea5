"""A whole `run` with workers elsewhere, without what would carry the calls to them: here they are near."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.bulk import run_bulk
from runner.far_worker import FarWorker
from runner.node import FarError, Node
from runner.offset import measure
from runner.orders import Start
from runner.redact import Redactor
from runner.rundir import close_run
from runner.settings import Settings
from runner.shards import WorkerError
from runner.target import make_target
from scenarios.prompts import Plan
from tests.conftest import Mock, journal_of
from tests.runner.test_rundir import opened, planned

Servers = Callable[..., Mock]


class Near:
    """A worker in this process. With `lives`, it is lost when it has answered so many calls for news."""

    def __init__(self, lives: int | None) -> None:
        self._worker = FarWorker()
        self._lives = lives

    def _alive(self) -> FarWorker:
        if self._lives is not None and self._lives <= 0:
            raise FarError("was lost on node near")
        return self._worker

    async def push(self, frames: bytes) -> None:
        await self._alive().push(frames)

    async def pull(self, after: int, kept: int) -> tuple[int, bytes]:
        found = await self._alive().pull(after, kept)
        self._lives = None if self._lives is None else self._lives - 1
        self._alive()
        return found

    async def clock(self) -> int:
        return await self._worker.clock()

    def kill(self) -> None:
        self._lives = 0
        if self._worker._job is not None:
            self._worker._job.cancel()


class Nearby:
    """As a cluster: a node for every entry of `lives`, and none in the place of one that is lost."""

    def __init__(self, *lives: int | None) -> None:
        self.told: list[dict[str, Any]] = []
        self._lives = lives
        self._begun: set[int] = set()

    async def launch(self, number: int, start: Start, take: Callable[[Any], None]) -> Node:
        if number in self._begun:
            raise WorkerError(f"worker {number} did not start: no node is left for it")
        self._begun.add(number)
        near = Near(self._lives[number])
        facts: dict[str, Any] = {"shard": number}
        self.told.append(facts)
        return Node(number, near, {"node": "near"}, facts, await measure(near.clock), start, take)


class Slow(Nearby):
    """One on which only the first of two comes up; the run is told to stop while the other is waited for."""

    def __init__(self, number: int) -> None:
        super().__init__(None, None)
        self.nodes: list[Node] = []
        self.ended: list[int] = []
        self._signal = number

    async def launch(self, number: int, start: Start, take: Callable[[Any], None]) -> Node:
        if number == 1:
            try:
                os.kill(os.getpid(), self._signal)
                await asyncio.Event().wait()
            finally:
                self.ended.append(number)
        self.nodes.append(await super().launch(number, start, take))
        return self.nodes[-1]


def send(path: Path, plan: Plan, base_url: str, cluster: Nearby | None, workers: int = 1) -> Any:
    run = opened(path, plan, url=base_url)
    target = make_target(base_url, "sk-secret")
    settings = Settings(concurrency=6, workers=workers)
    engine = run_bulk(run, plan, [target], Redactor(["sk-secret"]), settings, cluster)
    close_run(run)
    return engine


def content(run: Path) -> dict[str, Any]:
    lines = journal_of(run)
    found = {line["id"]: (line["text"], line["row"], line["request"], line["status"]) for line in lines}
    assert len(found) == len(lines), "an id twice"
    return found


def last(run: Path) -> dict[str, Any]:
    session: dict[str, Any] = json.loads((run / "run.json").read_text())["sessions"][-1]
    return session


def test_workers_elsewhere_give_what_one_process_gives(here: Path, mock: Servers) -> None:
    plan, server = planned(here, *(f"prompt {i}" for i in range(40))), mock(echo=True)
    send(here / "one", plan, server.base_url, None)
    engine = send(here / "far", plan, server.base_url, Nearby(None, None), workers=2)
    assert engine.ended_by == "finished"
    assert content(here / "far") == content(here / "one")
    session = last(here / "far")
    assert [node["shard"] for node in session["nodes"]] == [0, 1]
    assert all(node["clock"]["error_ns"] >= 0 for node in session["nodes"])
    assert sum(worker["requests"] for worker in session["gauge"]["workers"]) == 40
    for line in journal_of(here / "far"):
        assert 0 <= line["scheduled_at"] <= line["sent_at"] <= line["first_token_at"] <= line["ended_at"]
    written = b"".join(path.read_bytes() for path in (here / "far").iterdir() if path.is_file())
    assert b"sk-secret" not in written


def test_a_node_that_is_lost_costs_no_row_and_doubles_none(here: Path, mock: Servers) -> None:
    plan, server = planned(here, *(f"prompt {i}" for i in range(60))), mock(echo=True)
    send(here / "one", plan, server.base_url, None)
    engine = send(here / "far", plan, server.base_url, Nearby(None, 6), workers=2)
    assert engine.ended_by == "finished"
    assert content(here / "far") == content(here / "one")
    session = last(here / "far")
    assert session["nodes"][1]["lost"] == "was lost on node near"
    (died,) = [worker for worker in session["gauge"]["workers"] if "died" in worker]
    assert (died["shard"], died["replaced"]) == (1, False)


@pytest.mark.parametrize(
    ("number", "ended_by"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_while_workers_start_waits_for_none_of_them(
    here: Path, mock: Servers, number: int, ended_by: str
) -> None:
    plan, server, cluster = planned(here, "one", "two"), mock(echo=True), Slow(number)
    engine = send(here / "far", plan, server.base_url, cluster, workers=2)
    assert (engine.ended_by, last(here / "far")["ended_by"]) == (ended_by, ended_by)
    assert cluster.ended == [1]
    assert [node.ended.done() for node in cluster.nodes] == [True]
    assert (server.completions, journal_of(here / "far")) == (0, [])
    send(here / "far", plan, server.base_url, Nearby(None), workers=1)
    assert len(content(here / "far")) == 2


def test_with_no_node_left_the_run_stops_and_goes_on_later(here: Path, mock: Servers) -> None:
    plan, server = planned(here, *(f"prompt {i}" for i in range(60))), mock(echo=True)
    engine = send(here / "far", plan, server.base_url, Nearby(5, 5), workers=2)
    assert (engine.ended_by, last(here / "far")["ended_by"]) == ("no_nodes", "no_nodes")
    some = len(journal_of(here / "far"))
    assert some < 60
    send(here / "far", plan, server.base_url, Nearby(None), workers=1)
    assert len({line["id"] for line in journal_of(here / "far") if line["status"] == "ok"}) == 60
