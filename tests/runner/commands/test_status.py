"""`streamgauge status`: while a run goes on, and after it in whatever way it ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import Result

from runner.store import journal_files

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., "Mock"]
Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]


def write(*prompts: Any) -> Path:
    path = Path("p.jsonl")
    path.write_text("".join(json.dumps({"prompt": p} if isinstance(p, str) else p) + "\n" for p in prompts))
    return path


def told(cli: Cli, *run: str) -> dict[str, Any]:
    result = cli("status", *run, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def counts(found: dict[str, Any]) -> tuple[Any, ...]:
    names = ("state", "total", "answered", "failed", "to_send_again", "not_finished", "in_flight")
    return tuple(found[name] for name in names)


def test_nothing_to_look_at(cli: Cli) -> None:
    for arguments, says in [
        ([], "no RUN given and runs/latest does not exist"),
        (["nowhere"], "no run directory nowhere"),
        (["."], "is not a run directory: it has no run.json"),
    ]:
        result = cli("status", *arguments)
        assert result.exit_code == 2
        assert says in result.stderr
        assert result.stdout == ""


def test_after_a_run(cli: Cli, mock: Start) -> None:
    server = mock()
    cli("run", write(*"abc"), "--base-url", server.base_url, "--model", "m")
    found = told(cli)
    assert counts(found) == ("complete", 3, 3, 0, 0, 0, 0)
    assert found["rate_per_s"] > 0
    assert (found["left_out"], found["bad_lines"]) == (0, 0)
    (session,) = found["sessions"]
    assert (session["number"], session["ended_by"], session["counts"]["ok"]) == (1, "finished", 3)
    text = cli("status").stdout
    assert "complete" in text
    assert "3 of 3" in text
    assert counts(told(cli, "runs/p")) == counts(told(cli, "p")) == counts(found)


def test_after_failures(cli: Cli, mock: Start) -> None:
    server = mock()
    rows = ["a", {"prompt": "b", "max_tokens": 0}, "c"]
    cli("run", write(*rows), "--base-url", server.base_url, "--model", "m", "-c", 1)
    assert counts(told(cli)) == ("finished, with failures", 3, 2, 1, 0, 0, 0)


def test_rows_that_are_gone_and_lines_that_are_bad(cli: Cli, mock: Start) -> None:
    server = mock()
    options = ["--base-url", server.base_url, "--model", "m"]
    cli("run", write("a", "b"), *options)
    journal = next(path for path in journal_files(Path("runs/p")) if path.stat().st_size)
    with journal.open("ab") as file:
        file.write(b"rubbish\n")
        line = journal.read_bytes().splitlines()[0]
        file.write(line + b"\n")
    cli("run", write("b", "c"), *options)
    found = told(cli)
    assert counts(found) == ("complete", 2, 2, 0, 0, 0, 0)
    assert (found["left_out"], found["bad_lines"]) == (1, 1)


def test_while_it_runs_and_after_it_was_killed(
    cli: Cli, mock_process: Start, spawn: Spawn, here: Path, until: Until
) -> None:
    server = mock_process("--ttft", "20", "--itl", "50", "--tokens", "20")
    prompts = [{"prompt": f"p{n}", "max_tokens": 2 if n < 6 else 100_000} for n in range(20)]
    child = spawn("run", write(*prompts), "--base-url", server.base_url, "--model", "m", "-c", 4, cwd=here)
    until((here / "runs" / "latest").exists, child)
    until(lambda: told(cli)["answered"] == 6, child)
    until(lambda: told(cli)["in_flight"] == 4, child)
    found = told(cli)
    assert counts(found) == ("running", 20, 6, 0, 0, 14, 4)
    assert found["rate_per_s"] > 0
    child.send_signal(signal.SIGINT)
    until(lambda: told(cli)["state"] == "stopping", child)
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=60)
    found = told(cli)
    assert counts(found) == ("killed", 20, 6, 0, 0, 14, 0)
    assert found["rate_per_s"] is None  # when it ended is not known
    assert "killed" in cli("status").stdout


def test_after_an_interrupt(cli: Cli, mock_process: Start, spawn: Spawn, here: Path, until: Until) -> None:
    server = mock_process("--fault-stall", "1", "--tokens", "8")
    child = spawn("run", write(*"abcde"), "--base-url", server.base_url, "--model", "m", "-c", 2, cwd=here)
    until(lambda: server.stats()["in_flight"] == 2, child)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    until(lambda: "once more" in child.stderr.readline(), child)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert counts(told(cli)) == ("interrupted", 5, 0, 0, 2, 5, 0)


def test_looking_does_not_keep_a_run_from_starting(cli: Cli, mock: Start) -> None:
    server = mock()
    options = ["--base-url", server.base_url, "--model", "m"]
    cli("run", write("a"), *options)
    before = {p.name: p.read_bytes() for p in Path("runs/p").iterdir()}
    told(cli)
    assert {p.name: p.read_bytes() for p in Path("runs/p").iterdir()} == before
    assert cli("run", write("a", "b"), *options).exit_code == 0
