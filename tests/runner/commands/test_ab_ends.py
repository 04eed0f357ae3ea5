"""How `ab` ends once three good pairs are there: a signal, a full disk, a side that dies or fails it all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import Mock
from tests.reports.compared import bench_of
from tests.reports.conftest import Write, _failed, _record, bench, write  # noqa: F401  (fixtures)

Cli = Callable[..., Result]
Start = Callable[..., Mock]

SMALL = ["-c", 2, "-n", 4, "--input-tokens", 20, "--output-tokens", 4, "-o", "out"]
FOUR = [*SMALL, "--pairs", 4, "--metric", "ttft"]
DONE = ["done"] * 6


@pytest.fixture
def pairs_there(
    bench: Write,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three pairs are made without a server, b a little faster: what comes after them is what is tested."""
    from runner.commands.ab_runs import Turns

    make, really = bench_of(bench, _record, _failed), Turns._one

    def one(turns: Turns, slot: Any) -> str | None:
        if slot.pair > 3:
            return really(turns, slot)
        level = {"a": 100.0, "b": 90.0}[slot.side] + slot.pair / 10
        made = make(f"made/{slot.run}", ttft_ms=level, tags={"pair": str(slot.pair), "side": slot.side})
        shutil.copytree(made, turns._folder / slot.run)
        slot.ended_by, slot.validity = "finished", "OK"
        turns._answered.add(slot.side)
        return None

    monkeypatch.setattr(Turns, "_one", one)


def when(monkeypatch: pytest.MonkeyPatch, announced: str, do: Callable[[], object]) -> None:
    """Do something between two runs: when this one is announced."""
    from runner.commands import ab_runs, options

    def say(line: str) -> None:
        options.say(line)
        if line.startswith(announced):
            do()

    monkeypatch.setattr(ab_runs, "say", say)


def between(a: Mock, b: Mock) -> list[str]:
    return ["--base-url", a.base_url, "--base-url-b", b.base_url, "--model", "m"]


def plan() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("out/ab.json").read_text())
    return found


def states() -> list[str]:
    return [run["state"] for run in plan()["runs"]]


unix = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@unix
@pytest.mark.usefixtures("pairs_there")
@pytest.mark.parametrize(
    ("number", "code", "how", "words"),
    [
        (signal.SIGINT, 130, "interrupted", "interrupted: the verdict is on the pairs"),
        (signal.SIGTERM, 75, "terminated", "stopped by SIGTERM"),
    ],
)
def test_a_signal_between_two_runs(
    cli: Cli,
    mock: Start,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    how: str,
    words: str,
) -> None:
    server = mock()
    when(monkeypatch, "pair 4 of 4", lambda: signal.raise_signal(number))
    result = cli("ab", *between(server, server), *FOUR, "--markdown", "v.md")
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "PASS: " in result.stdout
    assert Path("v.md").read_text().startswith("## PASS")
    assert (plan()["ended_by"], plan()["exit_code"]) == (how, code)
    assert states() == [*DONE, "planned", "planned"]
    assert server.completions == 0


@unix
@pytest.mark.usefixtures("pairs_there")
def test_sigterm_during_a_run(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.load import Load

    came = Load.first_token
    once = iter([signal.SIGTERM])

    def first_token(load: Load, *arguments: Any) -> None:
        came(load, *arguments)
        for number in once:
            signal.raise_signal(number)

    monkeypatch.setattr(Load, "first_token", first_token)
    server = mock(ttft_ms=5, itl_ms=5)
    result = cli("ab", *between(server, server), *FOUR[2:], "-c", 1, "-n", 5000)
    assert result.exit_code == 75, result.output
    assert "stopped by SIGTERM: the verdict is on the pairs" in result.stderr
    assert "PASS: " in result.stdout
    assert plan()["ended_by"] == "terminated"
    assert states() == [*DONE, "cut", "planned"]


@pytest.mark.usefixtures("pairs_there")
def test_a_side_that_dies(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner import limits, load

    # Ten seconds and fifty requests in which nobody is there: no longer than this test has.
    monkeypatch.setattr(limits, "GONE_NS", 0)
    monkeypatch.setattr(load, "GONE_NS", 0)
    monkeypatch.setattr(limits, "_NOTHING_WORKS", 3)
    a, b = mock(), mock()
    when(monkeypatch, "pair 4 of 4, side b", b.stop)
    # One process, this one: what is changed above is changed here.
    result = cli("ab", *between(a, b), *FOUR, "--junit", "v.xml", "--workers", 1)
    assert result.exit_code == 1, result.output  # what there is passes; that b died is no PASS
    assert "PASS: " in result.stdout
    assert "side b is gone: cannot connect" in result.stderr
    assert (plan()["ended_by"], plan()["exit_code"]) == ("target_gone", 1)
    assert "side b is gone" in plan()["reason"]
    assert states() == [*DONE, "cut", "planned"]


@pytest.mark.usefixtures("pairs_there")
@pytest.mark.parametrize(("number", "code"), [(28, 75), (5, 1)])  # no room; the disk is broken
def test_a_disk_that_takes_no_further_run(
    cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    from runner import ab

    def stuck(*_: object) -> None:
        raise OSError(number, os.strerror(number), "ab.json")

    server = mock()
    when(monkeypatch, "pair 4 of 4", lambda: monkeypatch.setattr(ab, "replace_file", stuck))
    result = cli("ab", *between(server, server), *FOUR)
    assert result.exit_code == code, result.output
    assert "the next run could not be written: " in result.stderr
    assert "PASS: " in result.stdout
    assert "warning: out/ab.json could not be written" in result.stderr
    assert server.completions == 0


@pytest.mark.usefixtures("pairs_there")
def test_a_disk_that_is_full_during_a_run(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.load import Load

    run = Load.run

    async def filled(load: Load, begin_at: int | None = None) -> None:
        load.on_full(True)
        await run(load, begin_at)

    monkeypatch.setattr(Load, "run", filled)
    server = mock()
    result = cli("ab", *between(server, server), *FOUR, "--workers", 1)  # in this process
    assert result.exit_code == 75, result.output
    assert "04-b ended early: the disk is full" in result.stderr
    assert "PASS: " in result.stdout
    assert plan()["ended_by"] == "disk_full"


def test_a_side_that_fails_everything(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import validity

    for name, limits in validity.LIMITS.items():  # a busy machine is not what this is about
        if name != "nothing_succeeded":
            easy = 0.0 if name == "sent" else 1e9
            monkeypatch.setitem(validity.LIMITS, name, tuple(easy for _ in limits))
    good, bad = mock(), mock(faults={"500": 1.0})
    result = cli("ab", *between(good, bad), *SMALL, "--pairs", 3, "--markdown", "v.md")
    assert result.exit_code == 99, result.output
    assert result.stdout.startswith("FAIL: errors (+100.00 points) got worse")
    assert states() == DONE
    assert [run["only_failed"] for run in plan()["runs"] if run["side"] == "b"] == [True] * 3
    assert Path("v.md").read_text().startswith("## FAIL: errors")
