"""Signals outside the load, and a terminal that has gone away."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import Mock, journal_of

Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


def prompts(folder: Path, count: int) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"number {n}"}) + "\n" for n in range(count)), "utf-8")
    return file


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_while_the_prompts_are_read(
    tmp_path: Path, spawn: Spawn, until: Until, number: signal.Signals, code: int
) -> None:
    child = spawn("run", "-", "--model", "m", "-o", "out", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write("a prompt\n" * 10_000)
    child.stdin.flush()
    until(lambda: list(tmp_path.glob(".streamgauge-stdin-*")), child)
    child.send_signal(number)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == code, err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_ctrl_c_stops_the_sending_when_nobody_reads_stderr(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    mock = mock_process("--ttft", "40", "--itl", "5")
    child = spawn(
        *("run", prompts(tmp_path, 5000), "--base-url", mock.base_url, "--model", "m"),
        *("-c", 8, "-o", "out.jsonl"),
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "run directory: out.run\n"
    child.stderr.close()
    child.stderr = None
    until(lambda: mock.stats()["tokens_sent"] > 0, child)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    # Whatever was sent is in the journal.
    lines = journal_of(tmp_path / "out.run")
    assert len(lines) == mock.completions < 5000


def test_a_lost_terminal_costs_no_result(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn
) -> None:
    mock = mock_process()
    child = spawn(
        "run", prompts(tmp_path, 20), "--base-url", mock.base_url, "--model", "m", "-o", "out.jsonl"
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    child.stderr.close()
    child.stdout = child.stderr = None
    child.communicate(timeout=60)
    assert len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) == 20


def test_the_load_leaves_the_signals_as_they_were(
    cli: Callable[..., Result], mock: Callable[..., Mock], here: Path
) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    result = cli("run", prompts(here, 2), "--base-url", mock().base_url, "--model", "m")
    assert result.exit_code == 0
    # The loop's own handlers are deaf once it is closed; a final report must still end by Ctrl-C.
    assert [signal.getsignal(number) for number in numbers] == before
