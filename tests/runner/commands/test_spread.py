"""`run --shard` and `run --ray` as commands: what is sent, what is said, what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import Mock, journal_of

Cli = Callable[..., Result]
Start = Callable[..., Mock]


@pytest.fixture
def run(cli: Cli, mock: Start) -> Callable[..., Result]:
    """`run p.jsonl ...` of 30 rows, in one process a call."""
    url = mock(echo=True).base_url
    rows = [{"prompt": f"row {i}"} for i in range(30)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(*more: object) -> Result:
        given = () if "--workers" in more else ("--workers", 1)
        return cli("run", "p.jsonl", "--base-url", url, "--model", "m", *given, *more)

    return call


def told(cli: Cli, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("status", run, "--json").stdout)
    return found


def test_shards_make_one_dataset_whoever_comes_last(cli: Cli, run: Callable[..., Result]) -> None:
    for number in (2, 0):
        result = run("--shard", f"{number}/3", "-o", "out.jsonl", "--rpm", 60000)
        assert result.exit_code == 0, result.output
        assert "note: of --rpm this shard takes 1/3: it is the limit of all 3" in result.stderr
        assert not Path("out.jsonl").exists()
        begun = "1 of 3 shards" if number == 2 else "2 of 3 shards"
        assert f" in {begun}" in result.stdout
    assert "of 3 shards, number 1 has not begun: this is what there is so far." in result.stdout
    found = told(cli, "out.run")
    assert (found["state"], found["shards"]) == (
        "not complete",
        {"of": 3, "complete": [0, 2], "running": [], "stopped": [], "not_begun": [1]},
    )
    assert "  shards      of 3: 2 complete, 1 not begun (1)" in cli("status", "out.run").stdout
    assert "number 1 has not begun" in cli("export", "out.run", "-o", "some.jsonl").stderr
    checked = cli("check", "out.run", "--threshold", "errors: rate<5%")
    assert "number 1 has not begun" in checked.stdout

    result = run("--shard", "1/3", "-o", "out.jsonl")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [f"row {i}" for i in range(30)]
    assert told(cli, "out.run")["state"] == "complete"
    lines = journal_of("out.run")
    assert len({line["id"] for line in lines}) == len(lines) == 30
    options = json.loads(Path("out.run/run-2.json").read_text())["sessions"][0]["options"]
    assert (options["shard"], options["rpm"]) == ("2/3", 20000.0)

    again = run("--shard", "1/3", "-o", "out.jsonl")
    assert again.exit_code == 0
    assert "0 to send" in again.stderr
    assert len(journal_of("out.run")) == 30


def test_a_shard_s_exit_code_is_that_of_its_own_rows(
    cli: Cli, mock: Start, run: Callable[..., Result]
) -> None:
    refuses = mock(faults={"400": 1.0}).base_url
    bad = cli(
        *("run", "p.jsonl", "--base-url", refuses, "--model", "m", "--workers", 1),
        *("--shard", "0/2", "-o", "out", "-c", 1),
    )
    assert bad.exit_code == 75, bad.output  # nothing succeeds
    result = run("--shard", "1/2", "-o", "other")
    assert result.exit_code == 0, result.output


def test_the_task_of_a_slurm_array_is_a_shard(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ID": "5", "MIN": "4", "COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    result = run("-o", "out")
    assert result.exit_code == 0, result.output
    assert "note: shard 1/2 of the rows, as SLURM_ARRAY_TASK_ID says" in result.stderr
    assert Path("out/records-1.jsonl").exists()
    whole = run("-o", "whole", "--shard", "none")
    assert len(journal_of("whole")) == 30, whole.output
    refused = run("-o", "fresh", "--fresh")
    assert refused.exit_code == 2
    assert "--shard 1/2: --fresh would set aside what other shards write" in refused.stderr


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--shard", "3/3"], "--shard: '3/3': shards are counted from 0, the last is 2/3"),
        (["--shard", "0/0"], "--shard: '0/0': N is how many shards there are, at least 1"),
        (["--shard", "one"], "--shard: 'one' is not I/N"),
        (["--shard", "slurm"], "SLURM_ARRAY_TASK_ID is not set"),
        (["--shard", "0/2", "--workers", 2], "--workers is for one process that has all rows"),
        (["--shard", "0/2", "--ray", "auto"], "--ray spreads all rows over its cluster"),
    ],
)
def test_what_cannot_be_is_refused(run: Callable[..., Result], given: list[Any], why: str) -> None:
    result = run(*given)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())
    assert not Path("runs").exists()


def test_standard_input_has_no_shards(cli: Cli) -> None:
    result = cli("run", "-", "--shard", "0/2", "-o", "out", "--model", "m", "--workers", 1, stdin=b"")
    assert result.exit_code == 2
    assert "standard input is one process's alone" in " ".join(result.stderr.split())


def test_without_the_extra_ray_is_asked_for_and_never_otherwise(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("-o", "one").exit_code == 0
    result = run("-o", "far", "--ray", "auto")
    assert result.exit_code == 2
    assert "pip install 'streamgauge[ray]'" in result.stderr
    assert not Path("far").exists()
