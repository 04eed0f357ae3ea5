"""What `bench` refuses before anything is sent, which key goes where, and room for all targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from runner.commands import bench_setup
from runner.commands.room import most_connections
from runner.drive import Settings
from scenarios.flags import Flags, scenario_from_flags
from tests.conftest import Mock, journal_of

Cli = Callable[..., Result]
Start = Callable[..., Mock]

KEY = "sesame-open-1234"


def targets(*names: str, url: str = "http://127.0.0.1:9/v1") -> Path:
    path = Path("targets.toml")
    path.write_text("".join(f'["{name}"]\nbase_url = "{url}"\nmodel = "m"\n' for name in names))
    return path


def prompts(folder: Path, count: int = 2) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(count)))
    return path


def records(run: str) -> list[dict[str, Any]]:
    return journal_of(run)


# -- several targets


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--api-key", KEY], "--api-key would go to every one"),
        (["--api-key-env", "X"], "--api-key-env would go to every one"),
        (["--api-key-file", "x"], "--api-key-file would go to every one"),
        (["--header", f"X-Key: {KEY}"], "--header would go to every one"),
        (["--base-url", "http://h/v1"], "leave --base-url out"),
    ],
)
def test_what_is_for_one_host_does_not_go_to_several(
    cli: Cli, here: Path, arguments: list[str], says: str
) -> None:
    result = cli("bench", "--targets", targets("a", "b"), "-c", 1, "-n", 1, *arguments, "-o", "out")
    assert result.exit_code == 2
    assert says in result.stderr
    assert KEY not in result.output
    assert not (here / "out").exists()


def test_a_name_that_leads_elsewhere_is_refused(cli: Cli, here: Path) -> None:
    result = cli("bench", "--targets", targets("a", "../esc"), "-c", 1, "-n", 1, "-o", "out")
    assert result.exit_code == 2
    assert "targets.toml" in result.stderr
    assert "../esc" in result.stderr
    assert [path.name for path in here.iterdir()] == ["targets.toml"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_second_target_that_has_no_place_leaves_nothing_behind(cli: Cli, here: Path, fresh: bool) -> None:
    first, second = here / "out" / "a", here / "out" / "b"
    second.parent.mkdir()
    second.write_text("a file")
    if fresh:
        first.mkdir()
        (first / "kept").write_text("")
    more = ["--fresh"] if fresh else []
    result = cli("bench", "--targets", targets("a", "b"), "-c", 1, "-n", 1, "-o", "out", *more)
    assert result.exit_code == 2
    assert "is a file" in result.stderr
    left = {path.relative_to(here).as_posix() for path in here.rglob("*")}
    assert left == {"targets.toml", "out", "out/b", *(["out/a", "out/a/kept"] if fresh else [])}


def test_one_that_cannot_be_opened_takes_the_others_back(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.rundir import write_manifest

    made = list[Path]()

    def write(path: Path, *rest: Any) -> None:
        made.append(path)
        if len(made) == 3:
            raise OSError(28, "No space left on device")
        write_manifest(path, *rest)

    monkeypatch.setattr("runner.benchdir.write_manifest", write)
    result = cli("bench", "--targets", targets("a", "b", "c"), "-c", 1, "-n", 1, "-o", "out")
    assert result.exit_code == 1
    assert [path.name for path in here.iterdir()] == ["targets.toml"]


class Limit:
    """How many files may be open, as `resource` knows it."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, hard: int) -> None:
        self.hard = hard
        self.set: list[tuple[int, int]] = []

    def getrlimit(self, _: int) -> tuple[int, int]:
        return 256, self.hard

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        self.set.append(limits)


def test_files_are_counted_for_all_targets(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(1200)
    monkeypatch.setitem(__import__("sys").modules, "resource", limit)
    call = ["bench", "-n", 10_000, "-o", "out", "--workers", 1]
    for load in (["-c", 600], ["--rate", 5, "--set", "load.max_in_flight=600"]):
        result = cli(*call, *load, "--targets", targets("a", "b"))
        assert result.exit_code == 2
        assert "600 for each of 2 targets needs 1268 open files and this shell allows 1200" in result.stderr
    stages = ["--set", "load.executor=ramping-concurrency", "--set", "load.start=600"]
    stages += ["--set", 'load.stages=[{duration="1s",target=1}]']
    result = cli("bench", "-o", "out", *stages, "--targets", targets("a", "b"), "--workers", 1)
    assert "load.stages 600 for each of 2 targets" in result.stderr
    assert not (here / "out").exists()
    assert (most_connections(4096, 1), most_connections(4096, 2), most_connections(4096, 2, 2)) == (
        1136,
        566,
        565,
    )
    assert most_connections(500, 2) == 500
    assert limit.set[-1] == (1068, 1200)


@pytest.mark.parametrize(("count", "scraped", "limit"), [(1, False, 1136), (2, False, 566), (2, True, 565)])
def test_an_open_loop_has_room_for_what_all_targets_may_have_in_flight(
    monkeypatch: pytest.MonkeyPatch, count: int, scraped: bool, limit: int
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resource", Limit(1200))
    scenario = scenario_from_flags(Flags(model="m", rate=5.0, requests=10))
    settings = Settings(metrics_url="http://h/metrics" if scraped else None)
    assert bench_setup._course(scenario, None, count, settings).max_in_flight == limit


def test_the_limit_of_files_is_one_of_each_worker(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resource", Limit(1200))
    call = ["bench", "--model", "m", "-c", 3000, "-n", 10_000, "-o", "out", "--workers"]
    result = cli(*call, 2)
    assert result.exit_code == 2
    assert (
        "load.concurrency 3000 needs 1564 open files in each of 2 workers and this shell allows 1200 (ulimit "
        "-Hn). Raise that limit (ulimit -n 1564, as root or by limits.conf), use load.concurrency 2272, or "
        "--workers 3."
    ) in result.stderr
    assert not (here / "out").exists()
    scenario = scenario_from_flags(Flags(model="m", rate=5.0, requests=10))
    assert bench_setup._course(scenario, None, 1, Settings(workers=3)).max_in_flight == 3 * 1136
    assert bench_setup._course(scenario, None, 1, Settings(workers=4)).max_in_flight == 4096


@pytest.mark.parametrize(
    ("flags", "workers"),
    [
        (Flags(model="m", concurrency=3, requests=10), 3),
        (Flags(model="m", concurrency=30, requests=2), 2),
        (Flags(model="m", concurrency=30, requests=20), 4),
        (Flags(model="m", rate=5.0, duration="60s"), 4),
        (Flags(model="m", rate=5.0, requests=1), 1),
    ],
)
def test_no_worker_is_started_for_nothing(flags: Flags, workers: int) -> None:
    settings = Settings(workers=4)
    course = bench_setup._course(scenario_from_flags(flags), None, 1, settings)
    assert bench_setup.workers_of(settings, course) == workers


def test_a_load_beyond_what_one_process_carries_is_announced(cli: Cli, mock: Callable[..., Mock]) -> None:
    call = [
        "bench",
        "--base-url",
        mock().base_url,
        "--model",
        "m",
        "-n",
        1,
        "--output-tokens",
        100,
        "--no-usage",
    ]
    heavy = cli(*call, "--rate", 1e6, "-o", "heavy")
    assert "note: this load asks for about 100,000,000 token events/s, and one process here" in heavy.stderr
    light = cli(*call, "--rate", 10, "-o", "light")
    assert "token events/s" not in light.stderr
    crowd = cli(*call, "-c", 10_000, "-o", "crowd")
    assert "where each of 10,000 streams brings more than" in crowd.stderr


# -- keys


def test_the_key_of_a_file_s_host_does_not_go_to_another(
    cli: Cli, mock: Start, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = mock(api_key=KEY)  # takes what it should never be given
    monkeypatch.setenv("A_KEY", KEY)
    path = Path("a.toml")
    path.write_text(
        '[target]\nbase_url = "http://a.example/v1"\nmodel = "m"\napi_key_env = "A_KEY"\n'
        '[prompts]\nfile = "prompts.jsonl"\n[load]\nconcurrency = 1\nrequests = 1\n'
    )
    prompts(here)
    for number, moved in enumerate(
        (["--base-url", other.base_url], ["--set", f"target.base_url={other.base_url}"])
    ):
        result = cli("bench", path, *moved, "-o", f"{number}")
        assert "note: target.api_key_env of a.toml is for the host it names" in result.stderr
        assert records(f"{number}")[0]["error"]["kind"] == "auth"
    moved = ["--base-url", other.base_url, "--api-key-env", "A_KEY"]
    cli("bench", path, *moved, "-o", "meant")
    assert records("meant")[0]["status"] == "ok"


def test_a_query_in_a_url_takes_it_no_key(
    cli: Cli, mock: Start, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mock(api_key=KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    call = ["bench", "--model", "m", "-c", 1, "-n", 1, "--prompts", prompts(here)]
    url = f"{server.base_url}?version=1"
    cli(*call, "--base-url", url, "-o", "flag")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    cli(*call, "-o", "environment")
    for run in ("flag", "environment"):
        assert [record["status"] for record in records(run)] == ["ok"]
        named = json.loads((here / run / "run.json").read_text())["scenario"]["target"]["base_url"]
        assert named == server.base_url


# -- lengths


def test_a_server_that_is_asked_for_no_usage_is_sent_no_probes(cli: Cli, mock: Start) -> None:
    server = mock()
    result = cli(
        *("bench", "--base-url", server.base_url, "--model", "m", "-c", 1, "-n", 4, "--no-usage"),
        *("--input-tokens", 20, "--output-tokens", 4, "-o", "out"),
    )
    assert server.completions == 4
    assert "note: the lengths of prompts are a guess, a word a token: --no-usage" in result.stderr
