"""`streamgauge sweep` as a user meets it: points, searches, what is left behind, going on, exit codes."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from tests.conftest import Mock, journal_of

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


Believe = Callable[[Callable[[float], bool | str]], list[str]]
GOLDEN = Path(__file__).parents[2] / "reports" / "schema-3"


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> Believe:
    """Have runs stand as their concurrency says, without any being made: `INVALID` or other words for None.

    Returns the directories of those that ran.
    """
    from reports import metrics, sweep
    from runner.commands import bench_ending
    from runner.commands.sweep_runs import Points

    golden, ran = metrics.summarize(GOLDEN), list[str]()

    def believe(meets: Callable[[float], bool | str]) -> list[str]:
        def one(self: Any, point: Any) -> None:
            run = self._folder / point.run
            run.mkdir()
            shutil.copy(GOLDEN / "run.json", run)
            ran.append(point.run)
            point.ended_by = "finished"

        def summarize(path: Path) -> Any:
            found = msgspec.json.decode(msgspec.json.encode(golden), type=type(golden))
            load = {"concurrency": int(path.name.rpartition("-")[2])}
            found.path, found.scenario = str(path), {**found.scenario, "load": load}
            assert found.bench is not None
            found.bench.validity.level = "INVALID" if meets(load["concurrency"]) == "INVALID" else "OK"
            return found

        def standing(summary: Any) -> sweep.Standing:
            met = meets(summary.scenario["load"]["concurrency"])
            known = met if isinstance(met, bool) else None
            why = met if isinstance(met, str) else ""
            return sweep.Standing(fit=met != "INVALID", stable=True, meets=known, why=why)

        monkeypatch.setattr(Points, "_one", one)
        monkeypatch.setattr(bench_ending, "judge_answers", lambda _: None)
        monkeypatch.setattr(metrics, "summarize", summarize)
        monkeypatch.setattr(sweep, "standing", standing)
        return ran

    return believe


NOBODY = ["--base-url", "http://127.0.0.1:9", "--model", "m"]


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
    first, second = (journal_of(Path("out") / run) for run in ("01-concurrency-1", "02-concurrency-2"))
    assert {one["prompt_id"] for one in first} < {one["prompt_id"] for one in second}
    assert not {one["id"] for one in first} & {one["id"] for one in second}
    _check_report(cli, server)


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
    assert "name runs in it" in cli("report", "out", "--as", "vllm").output
    sent = server.completions
    again = cli("sweep", *to(server), *GRID, "--set", "target.gpus=2", "--set", "target.gpu_hour_usd=3.6")
    assert again.exit_code == 2
    assert "tags.build changed" in again.stderr
    assert server.completions == sent


def test_it_goes_on_where_it_stopped(cli: Cli, truth: Believe) -> None:
    ran = truth(lambda _: True)
    grid = ["--over", "concurrency=1,2,3", *SHORT]
    assert cli("sweep", *NOBODY, *grid).exit_code == 0
    found = kept()
    found["points"][1]["state"] = "cut"  # as Ctrl-C leaves it
    Path("out/02-concurrency-2/run.json").unlink()
    found["points"][2]["state"] = "running"  # as kill -9 does, once its last record was written
    Path("out/sweep.json").write_text(json.dumps(found))
    refused = cli("sweep", *NOBODY, *grid, "--model", "n", "--seed", 3)
    assert refused.exit_code == 2
    assert "seed, target.model changed" in refused.stderr
    assert "--over changed" in cli("sweep", *NOBODY, "--over", "concurrency=1,2", *SHORT).stderr
    ran.clear()
    result = cli("sweep", *NOBODY, *grid, "--resume")
    assert result.exit_code == 0, result.output
    assert "resumed: 1 of 3 points is finished" in result.stderr
    assert "02-concurrency-2 is not finished and now out/02-concurrency-2-2" in result.stderr
    assert [state for _, state in states()] == ["done"] * 3
    assert len(list(Path("out").glob("02-*"))) == 2
    assert ran == ["02-concurrency-2"]


def test_the_latest_sweep_of_a_scenario_is_gone_on_with(cli: Cli, truth: Believe) -> None:
    ran = truth(lambda _: True)
    grid = ["--over", "concurrency=1,2", *SHORT[:-2]]
    assert cli("sweep", *NOBODY, *grid).exit_code == 0
    ran.clear()
    assert cli("sweep", *NOBODY, *grid, "--resume").exit_code == 0
    assert ran == []
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("bench-sweep-")


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
        (["--over", "rate=1", "--until", "ttft: p(95)<1s"], "--over and --until are both given"),
        (["--until", "ttft p95"], "--until: "),
        (["--until", "ttft: p(95)<1s", "--tolerance", "5"], "--tolerance '5'"),
        (["--until", "ttft: p(95)<1s", "--from", 8, "--to", 4], "--to 4 is below --from 8"),
        (["--until", "ttft: p(95)<1s", "--by", "concurrency", "--from", 1.5], "a whole number"),
        (["ramp", "--until", "ttft: p(95)<1s"], "give --by rate"),
        (["--over", "rate=1,x", "-n", 1], "load.rate"),
        (["chat", "--over", "rate=0"], "load.rate is 0"),
        (
            ["--over", "base_url=http://a,http://b", "--api-key-env", "HOME"],
            "--api-key-env would go to every",
        ),
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


def test_the_highest_that_meets_it_is_found(cli: Cli, truth: Believe) -> None:
    truth(lambda value: value <= 4)
    result = cli("sweep", *NOBODY, *SEARCH)
    assert result.exit_code == 0, result.output
    found = kept()
    assert [point["values"]["load.concurrency"] for point in found["points"]] == [2, 4, 8, 6, 5, 4, 5]
    assert [point["run"] for point in found["points"]][-1] == "07-concurrency-5"
    assert (found["answer"]["best"], found["answer"]["fails"]) == (4, 5)
    said = " ".join(result.stdout.split())
    assert said.startswith("4 requests at once is stable and meets ttft_sched: p(50)<10s, in 2 runs of 2; 5 ")
    again = cli("report", "out", "-f", "markdown").stdout
    assert "**4 requests at once is stable" in again
    assert cli("report", "out", "-f", "html").stdout == "out/sweep.html\n"
    assert "4 requests at once is stable" in Path("out/sweep.html").read_text()


def test_a_search_goes_on_where_it_stopped(cli: Cli, truth: Believe) -> None:
    ran = truth(lambda value: value <= 2)
    assert cli("sweep", *NOBODY, *SEARCH).exit_code == 0
    whole = list(ran)
    found = kept()
    del found["points"][3:]
    found["points"][2]["state"] = "cut"
    Path("out/sweep.json").write_text(json.dumps(found))
    for run in whole[2:]:
        (Path("out") / run).rename(f"gone-{run}")
    ran.clear()
    assert cli("sweep", *NOBODY, *SEARCH).exit_code == 0
    assert ran == whole[2:]
    assert [point["run"] for point in kept()["points"]] == whole
    assert "--confirm changed" in cli("sweep", *NOBODY, *SEARCH, "--confirm", 4).stderr


@pytest.mark.parametrize(
    ("meets", "code", "told"),
    [
        (lambda value: value < 2, 99, "is not met at the lowest: 2 requests at once fails in 2 runs of 2"),
        (lambda value: value < 99, 0, "it never failed up to --to 4, so the limit lies higher"),
        (lambda value: value < 4 or "too few", 98, "nobody can tell: too few"),
        (lambda value: value < 4 or "INVALID", 97, "is met at 2 requests at once at least"),
    ],
)
def test_searches_that_find_no_limit_say_so(
    cli: Cli, truth: Believe, meets: Callable[[float], bool | str], code: int, told: str
) -> None:
    truth(meets)
    result = cli("sweep", *NOBODY, *SEARCH, "--to", 4)
    assert result.exit_code == code, result.output
    assert told in " ".join(result.stdout.split())


def test_points_that_were_not_valid_can_be_run_again(cli: Cli, truth: Believe) -> None:
    ran = truth(lambda _: "INVALID")
    call = ["sweep", *NOBODY, *GRID]
    assert cli(*call).exit_code == 97  # no point of the curve was measured
    truth(lambda _: True)
    ran.clear()
    assert cli(*call).exit_code == 97
    assert ran == []
    again = cli(*call, "--redo-invalid")
    assert again.exit_code == 0, again.output
    assert "01-concurrency-1 is INVALID and now" in again.stderr
    assert len(list(Path("out").glob("01-*"))) == 2


# -- ends


def test_a_dead_target_ends_it(cli: Cli) -> None:
    result = cli("sweep", "--base-url", "http://127.0.0.1:9", "--model", "m", *GRID, "--requests", 200)
    assert result.exit_code == 1, result.output
    assert "the target is gone: " in result.stderr
    assert "-o out goes on from here" in result.stderr
    assert [state for _, state in states()] == ["cut", "planned"]


def test_ctrl_c_leaves_what_can_be_gone_on_with(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "1")
    slow = ["--over", "requests=4,4000", "-c", 2, *LENGTHS, "-o", "out"]
    child = spawn("sweep", *to(server), *slow)
    run = tmp_path / "out" / "02-requests-4000"
    until(lambda: run.exists() and bool(journal_of(run)), child)
    child.send_signal(signal.SIGINT)
    said, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert "finished by then" in told
    assert "1 of 2 points are not measured" in said
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["state"] for point in found["points"]] == ["done", "cut"]


@pytest.mark.parametrize(
    ("ended_by", "code"), [("interrupted", 130), ("terminated", 75), ("disk_full", 75), ("error", 1)]
)
def test_how_it_ended_is_the_exit_code(ended_by: str, code: int) -> None:
    from runner.commands.sweep_ending import code_of
    from runner.sweep import Sweep

    sweep = Sweep(created="", updated="", scenario="s", mode="over", settings={}, ended_by=ended_by)
    assert code_of(sweep) == code


def test_a_sweep_without_any_answer_is_no_curve() -> None:
    from runner.commands.sweep_ending import code_of
    from runner.sweep import Point, Sweep

    def ended(*validity: str) -> int:
        points = [Point(run="1", values={}, state="done", validity=one, meets=False) for one in validity]
        sweep = Sweep(created="", updated="", scenario="s", mode="over", settings={}, points=points)
        sweep.ended_by = "finished"
        return code_of(sweep)

    assert ended("INVALID", "INVALID") == 97
    assert ended("OK", "INVALID") == 0


def test_a_folder_that_a_sweep_runs_in_is_not_renamed(cli: Cli) -> None:
    from runner.sweep import held

    place = Path("out")
    place.mkdir()
    (place / "sweep.json").write_text("{}")
    with held(place):
        result = cli("sweep", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", *GRID, "--fresh")
    assert result.exit_code == 2
    assert (place / "sweep.json").exists()


def test_a_full_disk_leaves_what_can_be_gone_on_with(
    cli: Cli, truth: Believe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.commands.sweep_runs import Points

    truth(lambda _: True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Points, "_one", full)
    result = cli("sweep", *NOBODY, *GRID)
    assert result.exit_code == 75, result.output
    assert "the disk is full" in result.stderr
    assert [state for _, state in states()] == ["cut", "planned"]


@pytest.mark.parametrize(
    "command", [["run", "file"], ["bench"], ["sweep", "--over", "rate=1"], ["ab", "-c", 1]]
)
def test_where_nothing_can_be_kept_another_folder_is_proposed(cli: Cli, command: list[Any]) -> None:
    Path("file").write_text('{"prompt": "a"}')
    more = ["--input-format", "jsonl"] if command[0] == "run" else ["-n", 1]
    more += ["--base-url-b", "http://127.0.0.1:10"] if command[0] == "ab" else []
    result = cli(*command, "--base-url", "http://127.0.0.1:9", "--model", "m", *more, "-o", "file/run")
    assert result.exit_code == 1, result.output
    assert "(file/run" in result.stderr
    assert "choose another folder with -o" in result.stderr
