"""`run --workers N`: the same answers as one process gives, every limit held once, and a worker that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import Mock, children_of, journal_of

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need socket pairs")
# What says when and where, and not what.
TIMES = {
    *("scheduled_at", "sent_at", "headers_at", "first_token_at", "first_content_at", "last_token_at"),
    *("ended_at", "chunk_us", "connection", "session", "response"),
}


def prompts(count: int) -> Path:
    path = Path("p.jsonl")
    rows = [{"prompt": f"row {i} \u00e9", "place": i, "big": 10**30} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def to(mock: Mock) -> list[str]:
    return ["--base-url", mock.base_url, "--model", "m"]


def content(run: str) -> dict[str, dict[str, Any]]:
    """What was asked and answered, by id."""
    lines = journal_of(run)
    found = {line["id"]: {k: v for k, v in line.items() if k not in TIMES} for line in lines}
    assert len(found) == len(lines), "an id twice"
    return found


def session(run: str = "runs/p", number: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())["sessions"][number]
    return found


def names(run: str = "runs/p") -> list[str]:
    return sorted(path.name for path in Path(run).glob("records*.jsonl") if path.stat().st_size)


def test_several_workers_give_what_one_process_gives_and_any_number_goes_on(cli: Cli, mock: Start) -> None:
    server, file = mock(echo=True), prompts(40)
    assert cli("run", file, *to(server), "--workers", 1, "-o", "one").exit_code == 0
    result = cli("run", file, *to(server), "--workers", 3, "--limit", 25, "-o", "more")
    assert result.exit_code == 0, result.output
    assert names("more") == ["records-0.jsonl", "records-1.jsonl", "records-2.jsonl"]
    gauge = session("more")["gauge"]
    assert [worker["shard"] for worker in gauge["workers"]] == [0, 1, 2]
    assert sum(worker["requests"] for worker in gauge["workers"]) == 25
    assert gauge["lag"]["n"] > 0
    assert gauge["cpu"]["user_s"] > gauge["parent"]["cpu"]["user_s"]

    assert cli("run", file, *to(server), "--workers", 2, "--limit", 33, "-o", "more").exit_code == 0
    result = cli("run", file, *to(server), "--workers", 1, "-o", "more")
    assert "33 of 40 are answered, 7 to send" in result.stderr
    assert len(names("more")) == 4
    assert content("more") == content("one")
    told = json.loads(cli("status", "more", "--json").stdout)
    assert (told["state"], told["answered"]) == ("complete", 40)
    cli("export", "more", "-o", "rows.jsonl")
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [row["place"] for row in rows] == list(range(40))
    assert server.completions == 80


def test_a_rate_is_that_of_all_workers(cli: Cli, mock: Start) -> None:
    server = mock(log=Path("mock.log"), tokens=1, ttft_ms=300)
    result = cli("run", prompts(16), *to(server), "--workers", 2, "--rpm", 1200, "-c", 8)
    assert result.exit_code == 0, result.output
    server.stop()
    at = sorted(json.loads(line)["received_ns"] for line in Path("mock.log").read_text().splitlines())
    assert (at[-1] - at[0]) / 1e9 > 15 * 0.05 - 0.04  # 20 a second; two meters would take half of that
    assert session()["gauge"]["paced_s"] > 0
    assert len(names()) == 2


def test_a_budget_is_that_of_all_workers(cli: Cli, mock: Start) -> None:
    server, file = mock(tokens=4), prompts(60)
    prices = ["--price", "input=0,output=1000000", "--max-tokens", 4, "--max-cost", 100]  # 4 a request
    result = cli("run", file, *to(server), "--workers", 2, "-c", 8, *prices)
    assert result.exit_code == 75, result.output
    assert "stopped by --max-cost" in result.stderr
    assert (server.completions, len(content("runs/p"))) == (25, 25)


def test_one_wrong_key_stops_all_workers(cli: Cli, mock: Start) -> None:
    server = mock(faults={"401": 1.0})
    result = cli("run", prompts(30), *to(server), "--workers", 2, "-c", 8, "--retries", 0)
    assert result.exit_code == 75, result.output
    assert server.completions == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc names a process's children")
def test_a_worker_that_is_killed_costs_nothing_that_was_written(
    here: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    mock = mock_process("--ttft", "30", "--itl", "2", "--echo")
    file = prompts(1000)  # so many that another worker is there before the end
    child = spawn("run", file, *to(mock), "-c", 16, "--workers", 2, "-o", "out", cwd=here)
    until(lambda: mock.completions > 60, child)
    os.kill(children_of(child.pid)[0], signal.SIGKILL)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert len(content("out")) == 1000
    assert all(record["status"] == "ok" for record in content("out").values())
    told = session("out")["gauge"]["workers"]
    died = [worker for worker in told if "died" in worker]
    assert [worker["died"] for worker in died] == ["was killed by signal 9 (SIGKILL)"]
    assert died[0]["replaced"]
    assert died[0]["sent_again"] <= 16
    assert mock.completions <= 1000 + died[0]["sent_again"]
    assert f"worker {died[0]['shard']} was killed by signal 9 (SIGKILL). What it had written is kept" in err


def test_ctrl_c_drains_all_workers_and_twice_cuts_them(
    here: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    mock = mock_process("--ttft", "20", "--itl", "200")
    child = spawn("run", prompts(100), *to(mock), "-c", 8, "--workers", 2, "-o", "out", cwd=here)
    assert child.stderr is not None
    until(lambda: mock.stats()["tokens_sent"] > 8, child)
    child.send_signal(signal.SIGINT)
    until(lambda: "stopping: waiting for" in child.stderr.readline(), child)
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130, err
    found = content("out")
    assert {record["cancelled_by"] for record in found.values()} <= {"user", None}
    assert len(found) == mock.completions
    assert session("out")["ended_by"] == "interrupted"


def test_a_worker_that_cannot_start_is_told(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = mock()
    monkeypatch.setattr("runner.bulk_shards._JOB", "runner.no_such_job:work")
    result = cli("run", prompts(3), *to(server), "--workers", 2)
    assert result.exit_code == 1
    assert (
        "did not start: it broke (ModuleNotFoundError: No module named 'runner.no_such_job')" in result.stderr
    )
    assert "Traceback" not in result.output
    assert (session()["ended_by"], server.completions) == ("error", 0)


def test_no_more_workers_are_started_than_there_are_streams(cli: Cli, mock: Start) -> None:
    result = cli("run", prompts(4), *to(mock()), "-c", 1, "--workers", 8)
    assert (result.exit_code, names()) == (0, ["records.jsonl"]), result.output
    assert "note: --workers 8: -c 1 has work for 1, and so many are used" in result.stderr
