"""The command, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from runner.mock.config import RoleChunk, Spread
from runner.mock.faults import FAULTS, GROUPS

ROOT = Path(__file__).parents[3]
START = [sys.executable, "-c", "from runner.commands.mock import command; command(prog_name='mock')"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*START, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its base URL."""
    with subprocess.Popen(
        [*START, "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # there although stdout is a pipe: it was flushed
            assert line.startswith("listening on http://127.0.0.1:")
            yield process, line.removeprefix("listening on ").strip()
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_and_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with started("--ttft", "1", "--tokens", "4", "--log", str(log)) as (process, base_url):
        body = {"model": "m", "prompt": "hi"}
        usage = requests.post(f"{base_url}/completions", json=body, timeout=30).json()["usage"]
        with requests.post(
            f"{base_url}/completions",
            json=body | {"stream": True, "max_tokens": 1000},
            stream=True,
            timeout=30,
        ) as response:
            assert response.status_code == 200
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert usage["completion_tokens"] == 4
    assert out == ""
    assert f"--base-url {base_url}" in err
    assert "Traceback" not in err
    assert [json.loads(line)["ordinal"] for line in log.read_text().splitlines()] == [0, 1]


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: port {port} on 127.0.0.1 is in use")
    assert "--port" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--host", "192.0.2.1", "--port", "0"], 1, "no address of this machine"),
        (["--port", "0", "--log", "no/such/folder/log"], 1, "cannot write the log no/such/folder/log"),
        (["--ttft", "fast"], 2, "--ttft"),
        (["--itl", "-1"], 2, "--itl"),
        (["--tokens", "0"], 2, "--tokens"),
        (["--fault-429", "2"], 2, "--fault-429"),
        (["--fault-429", "0.7", "--fault-500", "0.7"], 2, "add up to 1.4"),
        (["--fault", "500", "--fault", "cut"], 2, "Give each its share, as in 429=0.2"),
        (["--fault", "5000"], 2, "unknown fault '5000': did you mean 500"),
        (["--fault", "500=all"], 2, "--fault 500=all: the share must be a number from 0 to 1"),
        (["--fault", "500=2"], 2, "the share must be a number from 0 to 1, as in 500=0.2"),
        (["--fault", "cut=.1", "--fault", "cut=.2"], 2, "--fault cut is given twice: leave one out"),
        (["--fault-500", ".1", "--fault", "500=.2"], 2, "--fault-500 is the same as --fault 500"),
        (["--fault-first", "-1"], 2, "--fault-first"),
        (["--lockstep"], 2, "lockstep needs"),
        (["--role-chunk", "late"], 2, "--role-chunk"),
        (["--frobnicate"], 2, "--frobnicate"),
    ],
)
def test_bad_input_gets_one_message(options: list[str], code: int, said: str) -> None:
    result = run(*options)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_faults_are_listed() -> None:
    result = run("--list-faults", "--fault", "nonsense")  # it is a question, whatever stands beside it
    assert result.returncode == 0
    heading, *lines = result.stdout.splitlines()
    assert heading.split("  ")[0] == "NAME"
    names = [line.split("  ")[0] for line in lines if "  " in line]
    assert names == list(FAULTS)
    assert len(lines) == len(FAULTS) + 2 * len(GROUPS)
    assert "error truncated" in next(line for line in lines if line.startswith("cut "))


def test_faults_by_name() -> None:
    options = ["--fault", "503", "--fault-first", "1", "--retry-after", "0.25", "--fault-429", "0"]
    with started(*options) as (_, base_url):
        body = {"model": "m", "prompt": "hi"}
        answers = [requests.post(f"{base_url}/completions", json=body, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
    with started("--fault", "429=1.0", "--retry-after", "0.25") as (_, base_url):
        refused = requests.post(f"{base_url}/completions", json=body, timeout=30)
    assert refused.headers["retry-after"] == "0.25"


def test_options_name_what_the_server_knows() -> None:
    from runner.commands.mock import command

    options = {option.name: option for option in command.params}
    contracts = ("429", "500", "reset", "stall")  # flags of their own, from before --fault
    assert {f"fault_{name}" for name in contracts} <= set(options)
    assert set(contracts) <= set(FAULTS)
    for name, known in (("ttft_dist", Spread), ("itl_dist", Spread), ("role_chunk", RoleChunk)):
        assert set(options[name].type.choices) == set(known)  # type: ignore[attr-defined]
    assert all(getattr(option, "help", "") for option in command.params)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runner.commands.mock import command\n"
        "try: command(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'msgspec', 'uvloop', 'runner.mock.server'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stderr.strip() == "[]"
