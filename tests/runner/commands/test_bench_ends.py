"""How `bench` ends, what `status` says of it, and results that nobody takes."""

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

from runner.commands.options import ends_on_sigterm
from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]

LONG = ["--rate", 50, "--duration", "10m", "--input-tokens", 20, "--output-tokens", 5, "-o", "out"]


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what a test is about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        if name != "nothing_succeeded":
            monkeypatch.setitem(validity.LIMITS, name, tuple(0.0 if name == "sent" else 1e9 for _ in limits))


def to(mock: Mock) -> list[str]:
    return ["--base-url", mock.base_url, "--model", "m"]


def prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(4)))
    return path


def told(cli: Cli, run: Path | str) -> dict[str, Any]:
    result = cli("status", run, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# -- exit codes


def test_a_threshold_that_failed_counts_for_more_than_sigterm(
    tmp_path: Path, cli: Cli, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "2", "--tokens", "10")
    child = spawn("bench", *to(server), *LONG, "--set", 'thresholds.ttft=["p(50)<1ms"]')
    until(lambda: server.stats()["tokens_sent"] > 200, child)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert child.returncode in {97, 99}, err  # 97: on a machine this busy
    assert "stopped by SIGTERM: the numbers above" in err
    assert "ttft" in out
    found = told(cli, tmp_path / "out")
    assert (found["state"], found["kind"]) == ("terminated", "bench")
    text = cli("status", tmp_path / "out").stdout
    assert "bench, stopped by SIGTERM" in text
    assert "again" not in text


def test_sigterm_while_it_is_set_up_promises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for advice, said in (("", "stopped by SIGTERM."), ("Do it again.", "stopped by SIGTERM. Do it again.")):
        with pytest.raises(SystemExit) as raised, ends_on_sigterm(advice):
            os.kill(os.getpid(), signal.SIGTERM)
        assert raised.value.code == 75
        assert capsys.readouterr().err == f"streamgauge: {said}\n"


@pytest.mark.usefixtures("fit")
@pytest.mark.parametrize(("stopped", "code"), [(KeyboardInterrupt(), 130), (SystemExit(75), 75)])
def test_a_report_is_not_lost_with_the_calibration(
    cli: Cli, mock: Start, here: Path, monkeypatch: pytest.MonkeyPatch, stopped: BaseException, code: int
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        assert Path("out/summary.json").exists()  # whatever happens now
        raise stopped

    monkeypatch.setattr("runner.calibrate.calibrate", interrupted)
    result = cli(
        *("bench", *to(mock(itl_ms=1)), "-c", 2, "-n", 4, "--prompts", prompts(here), "--calibrate"),
        *("-o", "out", "--format", "json"),
    )
    assert result.exit_code == code
    assert "--calibrate was stopped" in result.stderr
    assert json.loads(result.stdout)["requests"]["ok"] == 4


# -- results that cannot be written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_for_results_is_told_once(tmp_path: Path, mock_process: Start, spawn: Spawn) -> None:
    server = mock_process()
    bench = ["bench", *to(server), "-c", 1, "-n", 4, "--prompts", prompts(tmp_path), "-o", "out"]
    run = ["run", tmp_path / "prompts.jsonl", *to(server), "-o", "dataset"]
    with Path("/dev/full").open("wb") as full:
        for at_once in ([bench, run], [["report", "out"], ["export", "out", "-o", "-"]]):
            for child in [spawn(*arguments, stdout=full) for arguments in at_once]:
                err = child.communicate(timeout=60)[1]
                assert child.returncode == 1, err
                assert err.count("cannot write standard output: No space left on device") == 1, err
                assert "Traceback" not in err
                assert "Exception ignored" not in err
    assert (tmp_path / "out" / "summary.json").exists()


# -- status


def test_status_of_a_bench_that_ran_to_its_end(cli: Cli, mock: Start, here: Path) -> None:
    server = mock(faults={"500": 0.5})
    call = ["bench", *to(server), "-c", 2, "-n", 20, "--prompts", prompts(here)]
    cli(*call, "--set", "load.warmup_requests=3", "-o", "out")
    found = told(cli, "out")
    assert (found["state"], found["scheduled"], found["sent"], found["warmup"]) == ("complete", 20, 20, 3)
    assert found["answered"] + found["failed"] == 20
    text = cli("status", "out").stdout
    assert text.startswith("out: bench, complete\n  sent        20 of 20 scheduled\n")
    assert "again" not in text


def test_status_while_a_bench_runs_and_after_it_was_killed(
    tmp_path: Path, cli: Cli, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "2", "--tokens", "10")
    child = spawn("bench", *to(server), *LONG)
    run = tmp_path / "out"
    until((run / "run.json").exists, child)
    until(lambda: told(cli, run)["answered"] > 3, child)
    found = told(cli, run)
    assert (found["state"], found["sent"]) == ("running", None)
    assert 25_000 < found["scheduled"] < 35_000
    child.kill()
    child.wait(timeout=60)
    found = told(cli, run)
    assert found["state"] == "killed"
    assert (
        f"answered    {found['answered']:,} of {found['scheduled']:,} scheduled" in cli("status", run).stdout
    )
