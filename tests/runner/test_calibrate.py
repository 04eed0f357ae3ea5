"""Calibration: the search as a function, the notes by hand, and all of it once, small, against the mock."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from runner import calibrate as module
from runner.accuracy import Accuracy, Off
from runner.calibrate import (
    CalibrationError,
    Largest,
    Level,
    calibrate,
    find_largest,
    notes_on,
)
from runner.mock.config import MockConfig, Spread
from runner.mock.log import Entry
from runner.mock.server import serve
from runner.ruler import RulerError, planned, ruler


class Machine:
    """Errors that follow from the count; every measurement takes a second."""

    def __init__(self, error: Callable[[int], float], seconds: float = 100) -> None:
        self.error = error
        self.left_s = seconds
        self.asked: list[int] = []

    async def measure(self, count: int) -> float:
        self.asked.append(count)
        self.left_s -= 1
        return self.error(count)

    def search(self, known: dict[int, float], most: int = 1000) -> list[tuple[int, bool]]:
        job = find_largest(self.measure, (1.0, 5.0), known, most, lambda: self.left_s)
        return asyncio.run(job)


@pytest.mark.parametrize("begin", [1, 10, 100, 400, 1000])
def test_the_largest_is_enclosed_from_wherever_it_begins(begin: int) -> None:
    machine = Machine(lambda count: count / 100)  # 1 ms at 100, 5 ms at 500
    (one, one_open), (five, five_open) = machine.search({begin: begin / 100})
    assert 100 / 1.2 <= one <= 100
    assert 500 / 1.2 <= five <= 500
    assert not one_open
    assert not five_open
    assert max(map(machine.asked.count, machine.asked)) <= 2


def test_a_neighbours_moment_is_not_the_limit() -> None:
    failed: set[int] = set()

    def error(count: int) -> float:
        if count not in failed:
            failed.add(count)
            return 9.0
        return count / 100

    (one, _), (five, _) = Machine(error).search({10: 0.1})
    assert 100 / 1.2 <= one <= 100
    assert 500 / 1.2 <= five <= 500


def test_nothing_is_carried() -> None:
    assert Machine(lambda _: math.inf).search({100: 9.0}) == [(0, False), (0, False)]


def test_all_is_carried() -> None:
    assert Machine(lambda _: 0.1).search({100: 0.1}, most=300) == [(300, True), (300, True)]


def test_what_the_time_does_not_suffice_for_is_at_least() -> None:
    machine = Machine(lambda count: count / 100, seconds=2)
    (one, one_open), (five, five_open) = machine.search({10: 0.1})
    assert 10 <= one <= 40
    assert 10 <= five <= 80
    assert one_open
    assert five_open
    assert len(machine.asked) <= 3


def level(
    p99_ms: float = 0.4, lag_ms: float = 0.3, mock_p50_ms: float = 0.1, mock_p99_ms: float = 0.3
) -> Level:
    seen = Off(100, 0.1, p99_ms)
    return Level(
        streams=50,
        rate=100,
        events_per_s=5000,
        accuracy=Accuracy(seen, seen, seen, seen),
        lag_p99_ms=lag_ms,
        cpu_us=25,
        cpu_share=0.125,
        mock_late=Off(100, mock_p50_ms, mock_p99_ms),
    )


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        (level(), ""),
        (
            level(p99_ms=9, lag_ms=12),
            "too noisy to measure at 50 streams x 100 tokens/s: tokens are stamped 9.0",
        ),
        (level(p99_ms=9), "its loop was not late"),
        (level(mock_p99_ms=30), "the mock itself sent late (p99 30.0 ms)"),
        (level(mock_p50_ms=30, mock_p99_ms=40), "from 50 streams on the mock could not send in time"),
    ],
)
def test_what_must_be_known_is_said(floor: Level, said: str) -> None:
    notes = "\n".join(notes_on(floor, [floor], [Largest(1.0, 50, 5000, at_least=False)]))
    assert said in notes
    assert bool(said) == bool(notes)


def test_an_open_end_is_said() -> None:
    assert (
        "before it found every limit"
        in notes_on(level(), [level()], [Largest(1.0, 50, 5000, at_least=True)])[0]
    )


def test_all_of_it_against_the_real_mock() -> None:
    said: list[str] = []
    found = calibrate(3, 50.0, 0.4, total_s=0.01, tell=said.append)
    floor = found.floor
    seen = floor.accuracy
    assert (floor.streams, floor.rate, floor.events_per_s) == (3, 50, 150)
    assert (seen.first.n, seen.token.n, seen.gap.n, seen.ttft.n) == (3, 60, 57, 3)
    assert 0 < seen.first.p50_ms <= seen.first.p99_ms
    assert 0 < seen.token.p50_ms <= seen.token.p99_ms
    assert floor.cpu_us > 0
    assert [entry.error_ms for entry in found.largest] == [1, 5]
    assert all(entry.at_least and entry.streams in {0, 3} for entry in found.largest)  # no time to look
    assert said == []
    assert set(msgspec.to_builtins(found)) == {"floor", "largest", "notes"}
    assert calibrate(1, 50.0, 0.1, search=False).largest == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, 100.0, 1.0), "at least one stream"),
        ((1_000_000, 100.0, 1.0), "ulimit -n"),
        ((1, 0.0, 1.0), "--rate"),
        ((1, 100.0, 0.0), "--seconds"),
    ],
)
def test_what_is_no_load(given: Any, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        calibrate(*given)


def test_a_mock_that_does_not_work_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockConfig, "__post_init__", lambda _self: None)
    monkeypatch.setattr(module, "MockConfig", lambda **given: MockConfig(**given, faults={"500": 1.0}))
    with pytest.raises(CalibrationError, match=r"mock failed: HTTP 500.*Is this machine very busy"):
        calibrate(1, 100.0, 0.1, search=False)


async def test_the_plan_is_what_the_mock_sends_by(tmp_path: Path) -> None:
    """Nothing goes before its time, and what is drawn is drawn as the mock does."""
    log = tmp_path / "log.jsonl"
    config = MockConfig(
        ttft_ms=30,
        ttft_dist=Spread.NORMAL,
        ttft_sd_ms=10,
        itl_ms=2,
        itl_dist=Spread.NORMAL,
        itl_sd_ms=1,
        log=log,
    )
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "stream": True}
    async with serve(config) as server, aiohttp.ClientSession() as session:
        for _ in range(4):
            async with session.post(
                f"{server.base_url}/chat/completions", data=json.dumps(asked)
            ) as response:
                await response.read()
    entries = [msgspec.json.decode(line, type=Entry) for line in log.read_bytes().splitlines()]
    plans = [list(islice(planned(config, entry), 5)) for entry in entries]
    for entry, plan in zip(entries, plans, strict=True):
        sent = [(entry.first_token_sent_ns or 0) + us * 1000 for us in entry.token_us]
        assert all(at > due - 1000 for at, due in zip(sent, plan, strict=True))
    # One draw more or less would move them by several ms, half of them to before their time.
    spread = {plan[0] - entry.received_ns for plan, entry in zip(plans, entries, strict=True)}
    assert len(spread) == 4


def test_the_ruler_ends_with_its_block_and_says_what_it_lacks() -> None:
    before = threading.active_count()
    with ruler(MockConfig()) as mock:
        assert mock.base_url.startswith("http://127.0.0.1:")
        with pytest.raises(RulerError, match="lacks 1 of 1"):
            mock.entries({"never"}, limit_s=0.05)
    assert threading.active_count() == before


def test_a_ruler_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgspec.json, "encode", lambda *_args, **_more: b'{"tokens": 0}')
    with pytest.raises(RulerError, match="tokens must be at least 1"), ruler(MockConfig()):
        pass
