"""`streamgauge ab` as a user meets it: what runs when, what is left behind, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import Mock, journal_of

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]

RUNS = ["01-a", "01-b", "02-b", "02-a", "03-a", "03-b"]
LENGTHS = ["--input-tokens", 20, "--output-tokens", 4]
SHORT = ["-c", 4, "-n", 4, *LENGTHS, "--pairs", 3, "-o", "out"]
QUICK_MS, SLOW_MS = 20.0, 300.0  # so far apart that no machine is busy enough to hide it


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what these tests are about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        if name not in {"nothing_succeeded"}:
            monkeypatch.setitem(validity.LIMITS, name, tuple(0.0 if name == "sent" else 1e9 for _ in limits))


def between(a: Mock, b: Mock) -> list[str]:
    return ["--base-url", a.base_url, "--base-url-b", b.base_url, "--model", "m"]


def records(run: str, folder: str = "out") -> list[dict[str, Any]]:
    return sorted(journal_of(Path(folder) / run), key=lambda record: int(record["index"]))


def manifest(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path("out") / run / "run.json").read_text())
    return found


def plan(folder: Path = Path("out")) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ab.json").read_text())
    return found


def asked(run: str) -> list[str]:
    return [str(record["request"]["messages"][0]["content"]) for record in records(run)]


# -- runs in turns


def test_a_slower_side_fails(cli: Cli, mock: Start) -> None:
    a, b = mock(ttft_ms=QUICK_MS), mock(ttft_ms=SLOW_MS)
    files = ["--markdown", "v.md", "--junit", "v.xml", "--html"]
    result = cli("ab", *between(a, b), *SHORT, "--tag", "build=7", *files, "--max-added", "ttft=20ms")
    assert result.exit_code == 99, result.output
    assert result.stdout.startswith("FAIL: ")
    assert " 20.00 ms\n" in result.stdout  # what ttft was allowed to add
    assert "## FAIL" in Path("v.md").read_text()
    assert '<failure type="FAIL"' in Path("v.xml").read_text()
    assert "page: out/compare.html\n" in result.stderr
    assert "<h1>ab: " in Path("out/compare.html").read_text()
    assert "pair 2 of 3, side b" in result.stderr
    assert "left" in result.stderr
    kept = plan()
    assert [run["run"] for run in kept["runs"]] == RUNS
    assert {run["state"] for run in kept["runs"]} == {"done"}
    assert (kept["ended_by"], kept["exit_code"]) == ("finished", 99)
    assert kept["declared"] == {"target.base_url": {"a": a.base_url, "b": b.base_url}}
    began = [manifest(run)["sessions"][0]["anchor_ns"] for run in RUNS]
    assert began == sorted(began)
    for run in RUNS:
        made = manifest(run)
        assert made["kind"] == "bench"
        assert made["tags"] == {"build": "7", "pair": str(int(run[:2])), "side": run[-1]}
        assert (Path("out") / run / "summary.json").exists()
        # A tenth, and each place once: warm-up that nobody asked for.
        assert [record["phase"] for record in records(run)] == ["warmup"] * 4 + ["measure"] * 4
    # Only the first run asks how long prompts are.
    assert (a.completions, b.completions) == (3 * 8 + 3, 3 * 8)
    _check_salts()


def _check_salts() -> None:
    """Each run asked the same prompts, behind a salt of its own."""
    by_run = {run: records(run) for run in RUNS}
    first = by_run["01-a"]
    assert len({record["prompt_id"] for record in first}) == 8
    for found in by_run.values():
        assert [record["prompt_id"] for record in found] == [record["prompt_id"] for record in first]
    assert len({record["id"] for found in by_run.values() for record in found}) == 6 * 8
    beginnings = {" ".join(text.split()[:6]) for run in RUNS for text in asked(run)}
    assert len(beginnings) == 6 * 8
    assert len({len(text) for run in RUNS for text in asked(run)}) == 1
    salts = [manifest(run)["sessions"][0]["options"]["salt"] for run in RUNS]
    assert salts == [run["salt"] for run in plan()["runs"]]
    assert len(set(salts)) == 6


def test_a_faster_side_passes_and_json_is_all_of_it(cli: Cli, mock: Start) -> None:
    a, b = mock(ttft_ms=SLOW_MS), mock(ttft_ms=QUICK_MS)
    result = cli("ab", *between(a, b), *SHORT, "--order", "abab", "--metric", "ttft", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["verdict"] == "PASS"
    assert [verdict["metric"] for verdict in found["verdicts"]] == ["ttft"]
    assert found["pairs"] == [[f"out/0{n}-a", f"out/0{n}-b"] for n in (1, 2, 3)]
    assert [run["run"][-1] for run in plan()["runs"]] == list("ababab")
    # What is on the disk says the same again.
    compared = cli("compare", "out", "--metric", "ttft")
    assert compared.exit_code == 0, compared.output
    # And is not written over.
    again = cli("ab", *between(a, b), *SHORT)
    assert again.exit_code == 2
    assert "holds a comparison already" in again.stderr


def test_two_files_and_what_they_differ_in(cli: Cli, mock: Start) -> None:
    a, b = mock(), mock()
    for name, server, seed, heat in (("a", a, 1, 0.1), ("b", b, 2, 0.9)):
        Path(f"{name}.toml").write_text(
            f'seed = {seed}\n[target]\nbase_url = "{server.base_url}"\nmodel = "m-{name}"\n'
            f"[request]\ntemperature = {heat}\n[prompts]\noutput_tokens = 4\n"
            "[prompts.synthetic]\ninput_tokens = 20\n"
            "[load]\nconcurrency = 2\nrequests = 6\nwarmup_requests = 1\n"
        )
    result = cli("ab", "a.toml", "b.toml", "--pairs", 3, "-o", "out")
    assert result.exit_code in {0, 98, 99}, result.output
    assert "not comparable" not in result.stdout
    assert set(plan()["declared"]) == {"name", "target.base_url", "target.model", "request.temperature"}
    assert "both use 1" in result.stderr
    assert "the sides differ in request.temperature" in result.stderr
    for side, heat in (("a", 0.1), ("b", 0.9)):
        found = records(f"02-{side}")
        assert [record["phase"] for record in found] == ["warmup"] + ["measure"] * 6
        assert {record["request"]["temperature"] for record in found} == {heat}
        assert {record["request"]["model"] for record in found} == {f"m-{side}"}
    assert [r["prompt_id"] for r in records("01-a")] == [r["prompt_id"] for r in records("01-b")]


def test_a_side_may_differ_in_its_load_alone(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=2)
    result = cli("ab", "--base-url", server.base_url, "--model", "m", *SHORT, "--set-b", "load.concurrency=5")
    assert result.exit_code in {0, 98, 99}, result.output
    assert "not comparable" not in result.stdout
    assert set(plan()["declared"]) == {"load.concurrency"}
    assert [record["phase"] for record in records("01-a")][:6] == ["warmup"] * 5 + ["measure"]


# -- prompts of a file


def prompts(rows: list[dict[str, Any]]) -> Path:
    path = Path("prompts.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_file(server: Mock, rows: list[dict[str, Any]]) -> list[Any]:
    return ["ab", *between(server, server), "-c", 1, "-n", 2, "--prompts", prompts(rows), "--pairs", 3]


def test_a_file_s_prompts_get_a_line_of_the_run_s_own(cli: Cli, mock: Start) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    result = cli(*of_file(mock(), [{"prompt": "one"}, {"prompt": "two"}]), "-o", "out", "--fresh")
    assert result.exit_code in {0, 98, 99}, result.output
    assert "both sides are the same" in result.stderr
    assert "line of six words" in result.stderr
    lines = {text.partition("\n")[0] for run in RUNS for text in asked(run)}
    assert len(lines) == 6
    assert len({len(line) for line in lines}) == 1
    assert {text.split("\n\n")[1] for text in asked("03-b")} == {"one", "two"}
    assert len(list(Path().glob("out*"))) == 2  # what was there is set aside


def test_prompts_stay_as_they_are_where_answers_are_judged(cli: Cli, mock: Start, here: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "one", "expect": {"contains": "o"}}, {"prompt": "two"}]
    result = cli(*of_file(mock(), rows))
    assert result.exit_code in {0, 98, 99}, result.output
    assert "rows say what they expect" in result.stderr
    (folder,) = (here / "runs").iterdir()
    assert folder.name.startswith("bench-ab-")
    found = [record for run in RUNS for record in records(run, str(folder))]
    assert {record["request"]["messages"][0]["content"] for record in found} == {"one", "two"}
    assert {run["salt"] for run in plan(folder)["runs"]} == {None}
    assert (folder / "01-a" / "expect.jsonl").exists()


# -- keys


def sent(call: list[Any]) -> dict[str, dict[str, str]]:
    """The headers each side's requests would have."""
    from runner.cli import group
    from runner.commands import ab, ab_setup

    found: dict[str, dict[str, str]] = {}

    def tell(_: object, sides: ab_setup.Sides, __: object) -> int:
        found.update({name: dict(side.target.headers) for name, side in sides.checked.items()})
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ab, "_tell_plan", tell)
        done = CliRunner().invoke(group, [str(one) for one in [*call, "--dry-run"]])
    assert done.exit_code == 0, done.output
    return found


def test_each_side_has_its_own_key(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = mock(api_key="sesame-of-a-123"), mock(api_key="sesame-of-b-456")
    monkeypatch.setenv("KEY_A", "sesame-of-a-123")
    monkeypatch.setenv("KEY_B", "sesame-of-b-456")
    keys = ["--api-key-env", "KEY_A", "--api-key-env-b", "KEY_B", "--header-b", "X-Team:sesame-team"]
    result = cli("ab", *between(a, b), *SHORT, *keys)
    assert result.exit_code in {0, 98, 99}, result.output
    assert {record["status"] for run in RUNS for record in records(run)} == {"ok"}
    kept = [path for path in Path("out").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"sesame" in path.read_bytes()]


def test_the_key_of_a_does_not_go_to_another_host(
    cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = mock(api_key="sesame-of-a-123"), mock(api_key="sesame-of-a-123")
    monkeypatch.setenv("KEY_A", "sesame-of-a-123")
    result = cli("ab", *between(a, b), *SHORT, "--api-key-env", "KEY_A")
    assert result.exit_code == 97, result.output
    assert "side b gets no key" in result.stderr
    assert "--api-key-env-b" in result.stderr
    assert records("01-a")[0]["status"] == "ok"
    assert {record["error"]["kind"] for record in records("01-b") if record["error"]} == {"auth"}
    # Another model on the same host is another matter.
    models = ["ab", "--base-url", a.base_url, "--model", "m", "--model-b", "n", "--api-key-env", "KEY_A"]
    assert cli(*models, *SHORT[:-1], "two").exit_code in {0, 98, 99}
    assert {record["status"] for record in records("01-b", "two")} == {"ok"}


def test_nor_does_it_where_a_key_of_the_scenario_names_that_host(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "sesame-of-a-123")
    asked = ["--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--api-key-env", "KEY_A", "--dry-run"]
    there = cli("ab", *asked, *SHORT, "--set-b", "target.base_url=http://127.0.0.1:2/v1")
    assert (there.exit_code, "side b gets no key" in there.stderr) == (0, True), there.output
    here = cli("ab", *asked, *SHORT, "--set-b", "target.base_url=http://127.0.0.1:1/v1")
    assert (here.exit_code, "side b gets no key" in here.stderr) == (0, False), here.output


@pytest.mark.parametrize("way", ["file", "flag", "header"])
def test_no_secret_of_a_goes_to_another_host(cli: Cli, mock: Start, way: str, here: Path) -> None:
    a, b = mock(api_key="sesame-of-a-123"), mock(ttft_ms=2)
    Path("key").write_text("sesame-of-a-123")
    given = {
        "file": ["--api-key-file", "key"],
        "flag": ["--api-key", "sesame-of-a-123"],
        "header": ["--header", "Authorization:Bearer sesame-of-a-123"],
    }[way]
    sides = sent(["ab", *between(a, b), *SHORT, *given])
    assert sides["a"]["Authorization"] == "Bearer sesame-of-a-123"
    assert not any("sesame" in value for value in sides["b"].values())


def test_a_key_of_the_environment_goes_where_flags_point(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-of-env-1")
    monkeypatch.setenv("KEY_A", "sesame-of-a-123")
    call = ["ab", "--base-url", "http://a.example", "--model", "m", *SHORT]
    # b's host is named by a flag, as with `bench`; a's own key is a's alone.
    sides = sent([*call, "--base-url-b", "http://b.example", "--api-key-env", "KEY_A"])
    assert sides["a"]["Authorization"] == "Bearer sesame-of-a-123"
    assert sides["b"]["Authorization"] == "Bearer sesame-of-env-1"
    # A scenario names a host: the environment's key is not for that.
    sides = sent([*call, "--set-b", "target.base_url=http://b.example"])
    assert not any("sesame" in value for value in sides["b"].values())


def test_a_variable_that_is_not_set_is_named(cli: Cli, mock: Start) -> None:
    server = mock()
    result = cli("ab", *between(server, server), *SHORT, "--api-key-env-b", "NOT_THERE")
    assert result.exit_code == 2
    assert "NOT_THERE" in result.stderr
    assert server.completions == 0


# -- ends


def test_a_dead_side_ends_it_with_what_to_do(cli: Cli, mock: Start) -> None:
    call = ["ab", "--base-url", mock().base_url, "--base-url-b", "http://127.0.0.1:9", "--model", "m", *SHORT]
    result = cli(*call, "--set", "load.requests=200", "--markdown", "v.md", "--junit", "v.xml")
    assert result.exit_code == 97, result.output
    assert "side b is gone: " in result.stderr
    assert "--base-url-b" in result.stderr
    assert plan()["ended_by"] == "target_gone"
    assert [run["state"] for run in plan()["runs"]] == ["done", "cut"] + ["planned"] * 4
    assert Path("v.md").read_text().startswith("## INVALID: no pair of runs is complete: side b is gone: ")
    assert "<error" in Path("v.xml").read_text()


def test_runs_that_are_not_valid_end_it_once_a_verdict_is_out_of_reach(
    cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports import validity

    monkeypatch.setitem(validity.LIMITS, "loop_lag_p99_ms", (-2.0, -1.0))
    monkeypatch.setattr(validity, "LAG_SHARES", (-1.0, -1.0))  # a loop that was never late is INVALID too
    server = mock()
    result = cli("ab", *between(server, server), "-c", 2, "-n", 24, *LENGTHS, "--pairs", 4, "-o", "out")
    assert result.exit_code == 97, result.output
    assert plan()["ended_by"] == "too_few_valid"
    states = [run["state"] for run in plan()["runs"]]
    assert states == ["done"] * 3 + ["planned"] * 5
    assert "INVALID" in result.stderr


def test_ctrl_c_ends_after_the_run_that_completes_its_pair(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "20", "--itl", "2", "--tokens", "10")
    # So many pairs that a machine too busy to be valid does not end it.
    child = spawn("ab", *between(server, server), "-c", 2, "-n", 40, *LENGTHS, "--pairs", 50, "-o", "out")
    out = tmp_path / "out"
    until(lambda: bool(journal_of(out / "02-a")), child)
    child.send_signal(signal.SIGINT)
    said, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert "ending after this run" in told
    assert "2 of 2 pairs are valid" in said or "INVALID" in told
    kept = plan(out)
    assert kept["ended_by"] == "interrupted"
    assert [run["state"] for run in kept["runs"]] == ["done"] * 4 + ["planned"] * 96
    assert not (out / "03-a").exists()


def test_ctrl_c_does_not_finish_a_run_that_completes_none(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "20", "--itl", "2", "--tokens", "10")
    child = spawn("ab", *between(server, server), "-c", 2, "--duration", "10m", *LENGTHS, "-o", "out")
    until(lambda: bool(journal_of(tmp_path / "out" / "01-a")), child)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert "no pair is complete" in told
    assert [run["state"] for run in plan(tmp_path / "out")["runs"]] == ["cut"] + ["planned"] * 11


# -- before anything is sent


def test_a_dry_run_says_what_it_takes_and_sends_nothing(cli: Cli, mock: Start, here: Path) -> None:
    server = mock()
    call = ["ab", *between(server, server), *SHORT, "--dry-run", "--price", "input=1,output=10"]
    result = cli(*call)
    assert result.exit_code == 0, result.output
    assert "6 runs in 3 pairs" in result.stdout
    assert "a b, b a, a b" in result.stdout
    assert "requests: 51 " in result.stdout
    assert "cost: at most " in result.stdout
    assert "12 answers one after the other" in result.stdout  # 6 runs, 8 requests each, 4 at once
    timed = cli("ab", *between(server, server), "--rate", 5, "--duration", "60s", "--dry-run", "--json")
    found = json.loads(timed.stdout)
    assert found["forecast"]["seconds"] == pytest.approx(12 * 66.0)
    assert found["forecast"]["most_cost"] is None
    assert server.completions == 0
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pairs", 2], "--pairs"),
        (["--order", "baab"], "--order"),
        (["--metric", "speed"], "speed"),
        (["--max-regression", "much"], "--max-regression"),
        (["--max-added", "tpot"], "--max-added"),
        (["--max-added", "errors=5ms"], "errors"),
        (["--metric", "goodput"], "--set slo.ttft"),
        (["--max-regression", "ttft:p95=10%", "-n", 129, *LENGTHS], "takes 130 answers a run"),
        (["--set-b", "load.rat=3"], "rat"),
        (["--markdown", "nowhere/v.md"], "nowhere"),
        (["--junit", "."], "--junit"),
        (["smoke", "nowhere.toml"], "nowhere.toml"),
        (["nowhere.toml"], "nowhere.toml"),
        (["--base-url-b", "nonsense"], "side b: --base-url"),
    ],
)
def test_usage_errors_send_nothing(
    cli: Cli, mock: Start, here: Path, arguments: list[Any], says: str
) -> None:
    server = mock()
    named = ["--base-url", server.base_url] if "--base-url-b" in arguments else between(server, server)
    result = cli("ab", *named, *([] if "--base-url-b" not in arguments else ["--model", "m"]), *arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert server.completions == 0
    assert not (here / "runs").exists()
