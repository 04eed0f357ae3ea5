"""`bench --workers`: the load of one process, sent by several; and what becomes of it when one of them dies.

Each run here starts processes, which takes time: they are few, and each looks at several things.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from scenarios.arrivals import schedule
from scenarios.scenario import Load
from tests.conftest import Mock, journal_of

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]

OPEN = ["--rate", 50, "--duration", "10m", "--seed", 5, "--input-tokens", 20, "--output-tokens", 5]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="workers need socket pairs")


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what these tests are about."""
    from reports import validity

    for name in validity.LIMITS:
        if name != "nothing_succeeded":
            monkeypatch.setitem(validity.LIMITS, name, (0.0, 0.0) if name == "sent" else (1e9, 1e9))


def to(mock: Mock) -> list[str]:
    return ["--base-url", mock.base_url, "--model", "m"]


def prompts(folder: Path, count: int) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(count)))
    return path


def session(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())["sessions"][0]
    return found


def asked(run: Path) -> list[tuple[Any, ...]]:
    what = ("index", "id", "prompt_id", "phase", "request")
    return sorted(
        (tuple(record[name] for name in what) for record in journal_of(run)), key=lambda one: one[0]
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(parent: int) -> list[int]:
    """In the order in which they were started. A child is the thread's that made it."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    return sorted(int(pid) for one in children for pid in one.read_text().split())


def test_two_workers_ask_what_one_process_asks(cli: Cli, mock: Start, here: Path) -> None:
    server = mock(itl_ms=1)
    call = ["bench", *to(server), "-c", 3, "-n", 8, "--prompts", prompts(here, 5)]
    call += ["--set", "load.warmup_requests=3"]
    assert cli(*call, "--workers", 1, "-o", "one").exit_code == 0
    result = cli(*call, "--workers", 2, "-o", "two")
    assert result.exit_code == 0, result.output
    assert asked(here / "two") == asked(here / "one")
    assert sorted(path.name for path in (here / "two").glob("records*")) == [
        "records-0.jsonl",
        "records-1.jsonl",
        "records.jsonl",
    ]
    assert (here / "two" / "records.jsonl").read_bytes() == b""  # the command's own: it holds the lock
    found, alone = (session(here / run)["gauge"]["load"] for run in ("two", "one"))
    for name in ("scheduled", "scheduled_warmup", "sent", "sent_warmup", "arrived", "concurrency"):
        assert found[name] == alone[name], name
    assert found["peak_in_flight"] == 3
    told = session(here / "two")
    assert told["counts"] == {"started": 11, "ok": 11}
    assert [worker["requests"] for worker in told["gauge"]["workers"]] == [7, 4]  # two places, and one
    assert told["gauge"]["lag"]["n"] == sum(worker["lag"]["n"] for worker in told["gauge"]["workers"])
    assert server.completions == 22
    assert "2 processes" in result.stdout
    assert "8 of 8 answered" in cli("report", "two").stdout


def test_more_workers_than_there_is_work_for(cli: Cli, mock: Start, here: Path) -> None:
    call = ["bench", *to(mock()), "-c", 1, "-n", 2, "--prompts", prompts(here, 2), "--workers", 3]
    result = cli(*call, "-o", "out")
    assert result.exit_code == 0, result.output
    assert "note: --workers 3: this load has work for 1, and so many are used\n" in result.stderr
    assert (here / "out" / "records.jsonl").exists()


def test_a_worker_that_is_killed_makes_it_invalid_and_loses_nothing_written(
    tmp_path: Path, cli: Cli, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "2", "--tokens", "5")
    child = spawn("bench", *to(server), *OPEN, "--workers", 2, "-o", "out")
    run = tmp_path / "out"
    until(lambda: sum(file.stat().st_size > 0 for file in run.glob("records-*.jsonl")) == 2, child)
    until(lambda: len(journal_of(run)) > 6, child)
    written = {record["id"] for record in journal_of(run)}
    one, other = workers_of(child.pid)
    os.kill(one, signal.SIGKILL)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 97, err
    assert "was killed by signal 9 (SIGKILL), " in err
    assert "INVALID: worker" in out.replace("\n", " ")
    assert not is_running(other)
    found = session(run)
    assert found["ended_by"] == "worker_lost"
    records = journal_of(run)
    assert written <= {record["id"] for record in records}
    assert found["counts"]["ok"] == len(records)
    died = [worker for worker in found["gauge"]["workers"] if "died" in worker]
    assert [worker["pid"] for worker in died] == [one]
    assert "ended early, because a worker died" in cli("status", run).stdout
    # Each went at the instant at which one process would have sent it.
    offsets = schedule(Load(executor="constant-arrival-rate", rate=50.0, duration="10m"), 5).offsets_ns
    begin = found["gauge"]["load"]["schedule_begin_ns"]
    assert all(record["scheduled_at"] == begin + offsets[record["index"]] for record in records)


def test_ctrl_c_stops_all_of_them_and_keeps_what_they_had_begun(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "20", "--tokens", "30")
    long = [*OPEN[:-1], 30]
    child = spawn("bench", *to(server), *long, "--workers", 2, "-o", "out", start_new_session=True)
    run = tmp_path / "out"
    until(lambda: len(list(run.glob("records-*.jsonl"))) == 2 and len(journal_of(run)) > 3, child)
    pids = workers_of(child.pid)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does it
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "stopping: waiting at most 30 s" in err
    found = session(run)
    assert found["ended_by"] == "interrupted"
    records = journal_of(run)
    assert {record["status"] for record in records} == {"ok"}  # what was under way went on to its end
    assert found["counts"] == {"started": len(records), "ok": len(records)}
    assert not any(map(is_running, pids))


def test_one_that_finds_nobody_there_ends_all(cli: Cli, mock: Start, here: Path) -> None:
    server = mock(faults={"401": 1.0})
    call = ["bench", *to(server), "--rate", 20, "--duration", "10m", "--prompts", prompts(here, 2)]
    result = cli(*call, "--api-key", "sk-of-mine", "--workers", 2, "-o", "out")
    assert result.exit_code in {1, 97, 99}, result.output
    found = session(here / "out")
    assert found["ended_by"] == "circuit_breaker"
    assert "401" in found["reason"]
    kept = "".join(path.read_text() for path in (here / "out").iterdir())
    assert "sk-of-mine" not in kept + result.output
