"""`streamgauge sweep` as a user meets it: points, searches, what is left behind, going on, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]

LENGTHS = ["--input-tokens", 20, "--output-tokens", 3]
SHORT = ["-n", 2, *LENGTHS, "-o", "out"]
GRID = ["--over", "concurrency=1,2", *SHORT]


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what these tests are about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        if name not in {"nothing_succeeded"}:
            monkeypatch.setitem(validity.LIMITS, name, tuple(0.0 if name == "sent" else 1e9 for _ in limits))


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], bool | None]], None]:
    """Have runs stand as their concurrency says."""
    from reports import sweep

    def believe(meets: Callable[[float], bool | None]) -> None:
        def standing(summary: Any) -> sweep.Standing:
            met = meets(summary.scenario["load"]["concurrency"])
            return sweep.Standing(fit=met is not None, stable=True, meets=met, why="" if met else "as told")

        monkeypatch.setattr(sweep, "standing", standing)

    return believe


def to(server: Mock) -> list[str]:
    return ["--base-url", server.base_url, "--model", "m"]


def kept(folder: str = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "sweep.json").read_text())
    return found


def states() -> list[tuple[str, str]]:
    return [(point["run"], point["state"]) for point in kept()["points"]]


# -- over values


def test_a_grid_is_a_curve(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=5)
    gpus = ["--set", "target.gpus=2", "--set", "target.gpu_hour_usd=3.6", "--tag", "build=7"]
    result = cli("sweep", *to(server), *GRID, *gpus, "--markdown", "s.md")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("folder of the runs: out\n")
    assert "point 2 of 2: load.concurrency=2, about" in result.stderr
    assert result.stdout.startswith("knee at load.concurrency 2: the highest that is stable")
    assert "$/M output tokens" in result.stdout
    assert "## bench: load.concurrency swept, 2 points" in Path("s.md").read_text()
    found = kept()
    assert [point["values"] for point in found["points"]] == [
        {"load.concurrency": 1},
        {"load.concurrency": 2},
    ]
    assert states() == [("01-concurrency-1", "done"), ("02-concurrency-2", "done")]
    assert (found["ended_by"], found["exit_code"], found["version"]) == ("finished", 0, 1)
    manifest = json.loads(Path("out/02-concurrency-2/run.json").read_text())
    assert manifest["tags"] == {"build": "7", "point": "02"}
    # Prompts of each point begin in words of their own; the same are asked behind them.
    first, second = (_records(run) for run in ("01-concurrency-1", "02-concurrency-2"))
    assert {one["prompt_id"] for one in first} < {one["prompt_id"] for one in second}
    assert not {one["id"] for one in first} & {one["id"] for one in second}
    _check_report(cli, server)


def _records(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path("out") / run / "records.jsonl").read_text().splitlines()]


def _check_report(cli: Cli, server: Mock) -> None:
    """The folder gives all of it again, and the same command has nothing left to do."""
    told = json.loads(cli("report", "out", "-f", "json").stdout)
    assert [point["quotable"] for point in told["points"]] == [True, True]
    gpu = told["points"][0]["gpu"]
    # 2 GPUs at 3.60 an hour are 0.002 a second.
    assert gpu["usd_per_million_output_tokens"] == pytest.approx(
        0.002 / (2 * gpu["output_tokens_per_s"]) * 1e6
    )
    rows = cli("report", "out", "-f", "csv").stdout.splitlines()
    assert rows[0].startswith("load.concurrency,run,")
    assert len(rows) == 3
    assert "names runs in it" not in cli("report", "out", "--as", "vllm").output
    sent = server.completions
    again = cli("sweep", *to(server), *GRID, "--set", "target.gpus=2", "--set", "target.gpu_hour_usd=3.6")
    assert again.exit_code == 2
    assert "tags.build changed" in again.stderr
    assert server.completions == sent


def test_it_goes_on_where_it_stopped(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=2)
    grid = ["--over", "concurrency=1,2,3", *SHORT]
    assert cli("sweep", *to(server), *grid).exit_code == 0
    found = kept()
    found["points"][1]["state"] = "cut"  # as Ctrl-C leaves it
    found["points"][2]["state"] = "running"  # as kill -9 does, once its last record was written
    Path("out/sweep.json").write_text(json.dumps(found))
    sent = server.completions
    refused = cli("sweep", *to(server), *grid, "--model", "n", "--seed", 3)
    assert refused.exit_code == 2
    assert "seed, target.model changed" in refused.stderr
    refused = cli("sweep", *to(server), "--over", "concurrency=1,2", *SHORT)
    assert "--over changed" in refused.stderr
    result = cli("sweep", *to(server), *grid, "--resume")
    assert result.exit_code == 0, result.output
    assert "resumed: 1 of 3 points is finished" in result.stderr
    assert "02-concurrency-2 is not finished and now out/02-concurrency-2-2" in result.stderr
    assert [state for _, state in states()] == ["done"] * 3
    assert len(list(Path("out").glob("02-*"))) == 2
    # Two measured and two of warm-up, and perhaps three to see how long prompts are.
    assert server.completions - sent in {4, 7}


def test_what_is_there_is_not_written_over(cli: Cli, mock: Start) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    server = mock()
    result = cli("sweep", *to(server), *GRID)
    assert result.exit_code == 2
    assert "mine.txt" in result.stderr
    assert "no sweep" in cli("sweep", *to(server), *GRID, "--resume").stderr
    assert server.completions == 0
    assert cli("sweep", *to(server), *GRID, "--fresh", "--dry-run").exit_code == 0
    assert Path("out/mine.txt").exists()


def test_a_dry_run_says_what_it_takes(cli: Cli, mock: Start) -> None:
    server = mock()
    price = ["--price", "input=1,output=10"]
    result = cli(
        "sweep", *to(server), "--over", "rate=1,2", "--duration", "30s", *LENGTHS, *price, "--dry-run"
    )
    assert result.exit_code == 0, result.output
    assert "2 points over load.rate" in result.stdout
    assert "time: about 66 s" in result.stdout  # 3 s of warm-up each
    assert "cost: at most " in result.stdout
    call = ["sweep", *to(server), "--until", "ttft: p(95)<1s", "--to", 8, "--duration", "30s", "--dry-run"]
    result = cli(*call)
    assert "points: at most about 10 points" in result.stdout
    told = json.loads(cli(*call, "-f", "json").stdout)
    assert told["plan"]["until"]["key"] == "load.rate"
    assert told["forecast"]["points"] == 10
    assert server.completions == 0
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--over or --until is missing"),
        (["--over", "rate=1", "--until", "ttft: p(95)<1s"], "are both given"),
        (["--until", "ttft p95"], "--until: "),
        (["--until", "ttft: p(95)<1s", "--tolerance", "5"], "--tolerance '5'"),
        (["--until", "ttft: p(95)<1s", "--from", 8, "--to", 4], "--to 4 is below --from 8"),
        (["--until", "ttft: p(95)<1s", "--by", "concurrency", "--from", 1.5], "a whole number"),
        (["ramp", "--until", "ttft: p(95)<1s"], "give --by rate"),
        (["--over", "rate=1,x", "-n", 1], "load.rate"),
        (["chat", "--over", "rate=0"], "load.rate is 0"),
        (["--over", "rate=1", "--resume"], "there is no sweep runs/bench-sweep-*"),
    ],
)
def test_what_cannot_be_meant(cli: Cli, options: list[Any], told: str) -> None:
    result = cli("sweep", "--base-url", "http://127.0.0.1:9", "--model", "m", *options)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert not Path("runs").exists()


# -- searches


SEARCH = ["--until", "ttft_sched: p(50)<10s", "--by", "concurrency", "--from", 2, "--confirm", 2, *SHORT]


def test_the_highest_that_meets_it_is_found(cli: Cli, mock: Start, truth: Any) -> None:
    truth(lambda value: value <= 4)
    result = cli("sweep", *to(mock()), *SEARCH)
    assert result.exit_code == 0, result.output
    found = kept()
    assert [point["values"]["load.concurrency"] for point in found["points"]] == [2, 4, 8, 6, 5, 4, 5]
    assert [point["run"] for point in found["points"]][-1] == "07-concurrency-5"
    assert (found["answer"]["best"], found["answer"]["fails"]) == (4, 5)
    said = " ".join(result.stdout.split())
    assert said.startswith("4 requests at once is stable and meets ttft_sched: p(50)<10s, in 2 runs of 2; 5 ")
    assert "ttft_sched: p(50)<10s" in json.loads(cli("report", "out", "-f", "json").stdout)["thresholds"]


def test_a_search_goes_on_where_it_stopped(cli: Cli, mock: Start, truth: Any) -> None:
    truth(lambda value: value <= 2)
    server = mock()
    assert cli("sweep", *to(server), *SEARCH).exit_code == 0
    whole = [point["run"] for point in kept()["points"]]
    found = kept()
    del found["points"][3:]
    found["points"][2]["state"] = "cut"
    Path("out/sweep.json").write_text(json.dumps(found))
    for run in whole[3:]:
        (Path("out") / run).rename(f"gone-{run}")
    assert cli("sweep", *to(server), *SEARCH).exit_code == 0
    assert [point["run"] for point in kept()["points"]] == whole
    assert "--confirm changed" in cli("sweep", *to(server), *SEARCH, "--confirm", 4).stderr


@pytest.mark.parametrize(
    ("meets", "code", "told"),
    [
        (lambda value: value < 2, 99, "is not met at the lowest: 2 requests at once fails in 2 runs of 2"),
        (lambda value: value < 99, 0, "it never failed up to --to 4, so the limit lies higher"),
        (lambda value: True if value < 4 else None, 98, "nobody can tell: as told"),
    ],
)
def test_searches_that_find_no_limit_say_so(
    cli: Cli, mock: Start, truth: Any, meets: Any, code: int, told: str
) -> None:
    truth(meets)
    result = cli("sweep", *to(mock()), *SEARCH, "--to", 4)
    assert result.exit_code == code, result.output
    assert told in " ".join(result.stdout.split())


def test_a_client_that_is_not_fit_ends_it(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import validity

    server = mock(ttft_ms=20)
    call = ["sweep", *to(server), *SEARCH, "--to", 2, "--requests", 24]
    with monkeypatch.context() as patch:
        patch.setitem(validity.LIMITS, "loop_lag_p99_ms", (-2.0, -1.0))
        patch.setattr(validity, "LAG_SHARES", (-1.0, -1.0))
        result = cli(*call)
    assert result.exit_code == 97, result.output
    assert "INVALID: the client's event loop" in " ".join(result.stdout.split())
    assert len(kept()["points"]) == 1
    again = cli(*call, "--redo-invalid")
    assert "01-concurrency-2 is INVALID and now" in again.stderr
    assert len(list(Path("out").glob("01-*"))) == 2


# -- ends


def test_a_dead_target_ends_it(cli: Cli) -> None:
    result = cli("sweep", "--base-url", "http://127.0.0.1:9", "--model", "m", *GRID, "--requests", 200)
    assert result.exit_code == 1, result.output
    assert "the target is gone: " in result.stderr
    assert "-o out goes on from here" in result.stderr
    assert [state for _, state in states()] == ["cut", "planned"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_leave_what_can_be_gone_on_with(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until, number: signal.Signals, code: int
) -> None:
    server = mock_process("--ttft", "5", "--itl", "1")
    slow = ["--over", "requests=4,4000", "-c", 2, *LENGTHS, "-o", "out"]
    child = spawn("sweep", *to(server), *slow)
    journal = tmp_path / "out" / "02-requests-4000" / "records.jsonl"
    until(lambda: journal.exists() and journal.stat().st_size > 0, child)
    child.send_signal(number)
    said, told = child.communicate(timeout=60)
    assert child.returncode == code, told
    assert "finished by then" in told
    assert "1 of 2 points are not measured" in said
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["state"] for point in found["points"]] == ["done", "cut"]
