"""`streamgauge bench` as a user meets it: what is sent and when, what is left behind, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import Mock, journal_of
from tests.docs.pages import DOCS, read

Cli = Callable[..., Result]
Start = Callable[..., Mock]
Spawn = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what these tests are about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        if name not in {"nothing_succeeded"}:
            monkeypatch.setitem(validity.LIMITS, name, tuple(0.0 if name == "sent" else 1e9 for _ in limits))


def to(mock: Mock) -> list[str]:
    return ["--base-url", mock.base_url, "--model", "m"]


def records(run: str | Path) -> list[dict[str, Any]]:
    return sorted(journal_of(run), key=lambda record: int(record["index"]))


def manifest(run: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())
    return found


SHORT = ["--input-tokens", 20, "--output-tokens", 4]


# -- the load


def test_a_closed_loop_from_flags(cli: Cli, mock: Start, here: Path) -> None:
    server = mock(ttft_ms=5, itl_ms=1)
    result = cli("bench", *to(server), "-c", 4, "-n", 30, *SHORT, "-o", "out", "--tag", "build=7")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("run directory: out\n")
    found = records("out")
    assert len(found) == 30
    assert len({record["id"] for record in found}) == 30
    assert {record["phase"] for record in found} == {"measure"}
    assert all(record["scheduled_at"] <= record["sent_at"] for record in found)
    assert {record["request"]["max_tokens"] for record in found} == {4}
    assert {record["usage"]["prompt_tokens"] for record in found} == {20}
    assert {record["asked_input_tokens"] for record in found} == {20}
    made = manifest("out")
    assert (made["kind"], made["tags"], made["seed"]) == ("bench", {"build": "7"}, 0)
    assert made["scenario"]["load"]["executor"] == "constant-concurrency"
    load = made["sessions"][0]["gauge"]["load"]
    assert (load["scheduled"], load["sent"], load["unsent"], load["peak_in_flight"]) == (30, 30, 0, 4)
    assert made["sessions"][0]["gauge"]["lag"]["n"] > 0
    assert server.completions == 33  # and three that measured how long prompts are
    summary = json.loads((Path("out") / "summary.json").read_text())
    assert summary["tags"] == {"build": "7"}
    assert "build=7" in result.stdout
    assert (here / "runs" / "latest").resolve() == (here / "out").resolve()


def test_an_open_loop_sends_what_its_schedule_says(cli: Cli, mock: Start) -> None:
    from scenarios.arrivals import schedule
    from scenarios.scenario import Load

    server = mock(ttft_ms=2)
    result = cli("bench", *to(server), "--rate", 200, "-n", 40, "--seed", 5, *SHORT, "-o", "out")
    assert result.exit_code == 0, result.output
    found = records("out")
    expected = schedule(Load(executor="constant-arrival-rate", rate=200.0, requests=40), 5).offsets_ns
    begin = found[0]["scheduled_at"] - expected[0]
    assert [record["scheduled_at"] - begin for record in found] == list(expected)
    assert all(record["sent_at"] >= record["scheduled_at"] for record in found)


def test_warm_up_comes_on_top(cli: Cli, mock: Start) -> None:
    server = mock()
    done = cli("bench", *to(server), "-c", 2, "-n", 6, *SHORT, "--set", "load.warmup_requests=3", "-o", "out")
    assert done.exit_code == 0, done.output
    assert [record["phase"] for record in records("out")] == ["warmup"] * 3 + ["measure"] * 6


def test_a_file_is_asked_in_order_and_from_the_start_again(cli: Cli, mock: Start) -> None:
    Path("p.jsonl").write_text('{"prompt": "one", "mine": 1}\n{"prompt": "two"}\n')
    server = mock(echo=True)
    result = cli("bench", *to(server), "-c", 1, "-n", 5, "--prompts", "p.jsonl", "-o", "out")
    assert result.exit_code == 0, result.output
    found = records("out")
    assert [record["text"] for record in found] == ["one", "two", "one", "two", "one"]
    assert len({record["id"] for record in found}) == 5
    assert len({record["prompt_id"] for record in found}) == 2
    assert found[0]["row"] == {"mine": 1}
    assert manifest("out")["prompts"]["rows"] == 2
    assert server.completions == 5  # nothing that the scenario did not ask for


def test_conversations_hold_their_place_turn_by_turn(cli: Cli, mock: Start) -> None:
    Path("p.jsonl").write_text('{"turns": ["one", "two two"]}\n{"turns": ["three", "four four"]}\n')
    server = mock(echo=True)
    result = cli(
        *("bench", *to(server), "-c", 1, "-n", 2, "--prompts", "p.jsonl", "-o", "out"),
        *("--set", "prompts.multi_turn=true", "--set", "load.think_time=10ms"),
    )
    assert result.exit_code == 0, result.output
    found = sorted(records("out"), key=lambda record: int(record["sent_at"]))
    assert [(record["conversation"], record["turn"]) for record in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    second = found[1]
    assert second["request"]["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "two two"},
    ]
    assert second["scheduled_at"] >= found[0]["ended_at"] + 10_000_000
    assert second["sent_at"] >= second["scheduled_at"]


def test_users_who_leave_are_cancelled_and_no_failures(cli: Cli, mock: Start) -> None:
    server = mock(itl_ms=2)
    cancel = "load.cancel={share=1.0,tokens=3}"
    result = cli(
        *("bench", *to(server), "-c", 2, "-n", 4, "--input-tokens", 20, "--output-tokens", 500),
        *("--set", cancel, "--set", "thresholds.errors=[]", "-o", "out"),
    )
    assert {record["cancelled_by"] for record in records("out")} == {"abandon"}
    assert all(3 <= len(record["chunk_us"]) < 500 for record in records("out"))
    assert result.exit_code in {0, 97}, result.output


def test_users_without_patience_leave_before_the_first_token(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=60_000)
    result = cli(
        *("bench", *to(server), "-c", 2, "-n", 2, "--prompts", prompts(2), "-o", "out"),
        *("--set", "load.cancel={share=1.0,patience='50ms'}"),
    )
    assert {record["cancelled_by"] for record in records("out")} == {"abandon"}
    assert {record["first_token_at"] for record in records("out")} == {None}
    assert result.exit_code != 0


def test_a_run_is_replayed(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    assert (
        cli("bench", *to(server), "--rate", 100, "--prompts", prompts(6), "-n", 6, "-o", "a").exit_code == 0
    )
    again = cli("bench", "replay", *to(server), "--set", "load.trace=a", "--set", "load.speed=2", "-o", "b")
    assert again.exit_code == 0, again.output
    first, second = records("a"), records("b")
    assert [record["text"] for record in second] == [record["text"] for record in first]
    gaps = [[b["scheduled_at"] - a["scheduled_at"] for a, b in pairwise(found)] for found in (first, second)]
    for slow, fast in zip(*gaps, strict=True):
        assert fast == pytest.approx(slow / 2, abs=10)


def test_several_targets_get_the_same_prompts_each_in_a_run_of_its_own(cli: Cli, mock: Start) -> None:
    one, two = mock(), mock()
    Path("targets.toml").write_text(
        f'[a]\nbase_url = "{one.base_url}"\nmodel = "x"\nprice = {{input = 1.0, output = 2.0}}\n'
        f'[b]\nbase_url = "{two.base_url}"\nmodel = "y"\n'
    )
    result = cli("bench", "--targets", "targets.toml", "-c", 2, "-n", 8, *SHORT, "-o", "out")
    assert result.exit_code == 0, result.output
    a, b = records("out/a"), records("out/b")
    assert [record["prompt_id"] for record in a] == [record["prompt_id"] for record in b]
    assert {record["request"]["model"] for record in a} == {"x"}
    assert {record["request"]["model"] for record in b} == {"y"}
    assert a[0]["cost"] is not None
    assert b[0]["cost"] is None
    assert manifest("out/a")["tags"] == {"target": "a"}
    assert (one.completions, two.completions) == (11, 8)


# -- verdicts and exit codes


def prompts(count: int) -> Path:
    path = Path("prompts.jsonl")
    path.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(count)))
    return path


def test_a_threshold_that_fails(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=30)
    result = cli(
        *("bench", *to(server), "-c", 2, "-n", 4, "--prompts", prompts(4), "-o", "out"),
        *("--set", 'thresholds.ttft=["p(50)<1ms"]'),
    )
    assert result.exit_code == 99, result.output
    assert "FAIL" in result.stdout


def test_a_percentile_of_too_few_answers_is_inconclusive(cli: Cli, mock: Start) -> None:
    server = mock()
    call = ["bench", *to(server), "-c", 2, "-n", 4, "--prompts", prompts(4)]
    call += ["--set", 'thresholds.ttft=["p(99)<10s"]', "-o"]
    assert cli(*call, "one").exit_code == 98
    assert cli(*call, "two", "--on-inconclusive", "pass").exit_code == 0
    assert cli(*call, "three", "--on-inconclusive", "fail").exit_code == 99


def test_a_client_that_was_not_fit(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import validity

    monkeypatch.setitem(validity.LIMITS, "late_sends", (-2.0, -1.0))
    server = mock()
    call = ["bench", *to(server), "--rate", 500, "-n", 30, "--prompts", prompts(30)]
    for form in ("text", "markdown", "csv", "json"):
        result = cli(*call, "-o", form, "--format", form)
        assert result.exit_code == 97, result.output
        assert "INVALID" in result.stdout


def test_refusals_are_a_result_and_not_retried(cli: Cli, mock: Start) -> None:
    server = mock(faults={"429": 0.5}, retry_after_s=30)
    result = cli("bench", *to(server), "-c", 4, "-n", 40, "--prompts", prompts(40), "-o", "out")
    assert result.exit_code == 99, result.output  # errors: rate<1%, a threshold of every bench
    found = records("out")
    assert len(found) == 40
    assert server.completions == 40
    assert not any(record["attempts"] for record in found)
    assert {record["error"]["kind"] for record in found if record["error"]} == {"rate_limit"}


def test_a_target_that_is_not_there(cli: Cli) -> None:
    result = cli("bench", "--base-url", "http://127.0.0.1:9", "--model", "m", "-c", 2, "-n", 1000, *SHORT)
    assert result.exit_code == 97
    assert "cannot connect to 127.0.0.1:9" in result.stderr
    assert "Check that the server runs, and --base-url.\n" in result.stderr
    judged = cli("check")
    assert judged.exit_code == 97
    assert "nothing succeeded" in judged.stdout
    assert "not fit" not in judged.stdout


def test_a_target_that_dies_half_way(tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until) -> None:
    server = mock_process("--ttft", "5", "--itl", "2", "--tokens", "10")
    child = spawn(
        *("bench", "--base-url", server.base_url, "--model", "m", "--rate", 100, "--duration", "3s"),
        *("--input-tokens", 20, "--output-tokens", 5, "-o", "out"),
    )
    until(lambda: server.stats()["tokens_sent"] > 100, child)
    server.stop()
    out, err = child.communicate(timeout=60)
    assert child.returncode in {97, 99}, err  # 97: on a machine this busy
    assert "connect" in out
    found = records(tmp_path / "out")
    assert {record["status"] for record in found} == {"ok", "error"}


def test_ctrl_c_ends_with_a_report_of_what_there_is(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--itl", "2", "--tokens", "10")
    child = spawn(
        *("bench", "--base-url", server.base_url, "--model", "m", "--rate", 50, "--duration", "10m"),
        *("--input-tokens", 20, "--output-tokens", 5, "-o", "out"),
    )
    until(lambda: server.stats()["tokens_sent"] > 100, child)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "ttft" in out
    made = manifest(tmp_path / "out")
    load = made["sessions"][0]["gauge"]["load"]
    assert load["scheduled"] == load["sent"] == len(records(tmp_path / "out"))
    assert load["unsent"] == 0


# -- what is refused before anything is sent


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", 'thresholds.speed=["p(95)<1s"]', "-c", 1], "no metric 'speed'"),
        (["-c", 1, "--rate", 2], "-c and --rate"),
        (["-n", 5, "--duration", "5s"], "-n and --duration"),
        (["--set", "load.duration=0s"], "duration above 0"),
        (["--set", "load.rat=3"], "rate"),
        (["--prompts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--tag", "x"], "KEY=VALUE"),
        (["--metrics-url", "nonsense"], "--metrics-url"),
        (["--targets", "nowhere.toml"], "nowhere.toml"),
        (["nowhere.toml"], "nowhere.toml"),
        (["replay"], "load.trace"),
    ],
)
def test_usage_errors_send_nothing(
    cli: Cli, mock: Start, here: Path, arguments: list[Any], says: str
) -> None:
    server = mock()
    named = [] if "--targets" in arguments else to(server)
    result = cli("bench", *arguments, *named)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert server.completions == 0
    assert not (here / "runs").exists()


def test_a_directory_with_a_run_is_refused_unless_it_is_set_aside(cli: Cli, mock: Start, here: Path) -> None:
    server = mock()
    call = ["bench", *to(server), "-c", 1, "-n", 2, "--prompts", prompts(2), "-o", "out"]
    assert cli(*call).exit_code == 0
    again = cli(*call)
    assert again.exit_code == 2
    assert "holds a run already" in again.stderr
    assert cli(*call, "--fresh").exit_code == 0
    assert len([path for path in here.iterdir() if path.name.startswith("out")]) == 2


def test_print_scenario_is_what_it_stands_for_and_sends_nothing(cli: Cli, mock: Start, here: Path) -> None:
    server = mock()
    flags = [*to(server), "--rate", 20, "-n", 8, *SHORT]
    printed = cli("bench", *flags, "--print-scenario")
    assert printed.exit_code == 0
    assert server.completions == 0
    assert not (here / "runs").exists()
    Path("mine.toml").write_text(printed.stdout)
    assert cli("bench", "mine.toml", "-o", "a").exit_code == 0
    assert cli("bench", *flags, "-o", "b").exit_code == 0
    a, b = records("a"), records("b")
    assert [record["id"] for record in a] == [record["id"] for record in b]
    assert [record["scheduled_at"] - a[0]["scheduled_at"] for record in a] == [
        record["scheduled_at"] - b[0]["scheduled_at"] for record in b
    ]


# -- keys


def scenario(mock: Mock, more: str = "") -> Path:
    path = Path("s.toml")
    path.write_text(
        f'[target]\nbase_url = "{mock.base_url}"\nmodel = "m"\n{more}\n'
        '[prompts]\nfile = "prompts.jsonl"\n[load]\nconcurrency = 1\nrequests = 2\n'
    )
    prompts(2)
    return path


def test_a_key_of_the_environment_goes_only_where_it_was_meant_to(
    cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mock(api_key="sesame-open-1234")
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-open-1234")
    monkeypatch.setenv("OTHER", "sesame-open-1234")
    # A file that names a host does not get the key of another.
    result = cli("bench", scenario(server), "-o", "a")
    assert result.exit_code == 97
    assert records("a")[0]["error"]["kind"] == "auth"
    start, end = (line for line in result.stderr.splitlines() if "OPENAI_API_KEY" in line)
    why = "the URL stands in the scenario. If the server wants it, name it there with target.api_key_env"
    assert start.startswith("note: ")
    assert end.startswith("streamgauge: ended early: HTTP 401: ")
    assert all(f"{why}, or give --base-url" in line for line in (start, end))
    # One that names the variable does; so does a host named by flag or environment.
    result = cli("bench", scenario(server, 'api_key_env = "OTHER"'), "-o", "b")
    assert result.exit_code == 0
    assert "OPENAI_API_KEY" not in result.stderr
    assert cli("bench", scenario(server), "--base-url", server.base_url, "-o", "c").exit_code == 0
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    assert cli("bench", "--model", "m", "-c", 1, "-n", 2, "--prompts", prompts(2), "-o", "d").exit_code == 0
    for run in "abcd":
        for path in Path(run).iterdir():
            assert b"sesame" not in path.read_bytes()


def test_a_bench_that_ends_on_a_key_says_what_to_check(cli: Cli, mock: Start) -> None:
    server = mock(api_key="sesame-open-1234")
    result = cli("bench", *to(server), "-c", 1, "-n", 2, "--prompts", prompts(2), "-o", "out")
    assert result.exit_code == 97
    (line,) = (line for line in result.stderr.splitlines() if "ended early" in line)
    assert line.endswith(
        ". Check the key (OPENAI_API_KEY, --api-key-env or --api-key-file) and what it may do."
    )
    assert ".." not in line


def test_a_variable_that_is_not_set_is_named(cli: Cli, mock: Start) -> None:
    result = cli("bench", scenario(mock(), 'api_key_env = "NOT_THERE"'))
    assert result.exit_code == 2
    assert "NOT_THERE" in result.stderr


# -- beside the load


def test_the_server_s_own_metrics_are_kept(cli: Cli, mock: Start) -> None:
    server = mock(itl_ms=1)
    url = server.base_url.removesuffix("/v1") + "/stats"
    result = cli(
        "bench", *to(server), "-c", 2, "-n", 4, "--prompts", prompts(4), "--metrics-url", url, "-o", "out"
    )
    assert result.exit_code == 0, result.output
    pages = [json.loads(line) for line in (Path("out") / "metrics.jsonl").read_text().splitlines()]
    assert {page["status"] for page in pages} == {200}
    gauge = manifest("out")["sessions"][0]["gauge"]
    assert gauge["metrics"] == {"scrapes": len(pages), "failed": 0, "last_error": None}
    keys = {*gauge, *(key for value in gauge.values() if isinstance(value, dict) for key in value)}
    documented = read(DOCS / "run-directory.md")
    assert not [key for key in keys if f"`{key}`" not in documented]
    assert "requests" in pages[0]["text"]


def test_metrics_that_do_not_come_are_told_with_the_reason(cli: Cli, mock: Start) -> None:
    server = mock(itl_ms=1)
    url = server.base_url.removesuffix("/v1") + "/nowhere"
    run = ("bench", *to(server), "-c", 2, "-n", 4, "--prompts", prompts(4), "-o", "out")
    result = cli(*run, "--metrics-url", url)
    assert result.exit_code == 0, result.output
    told = manifest("out")["sessions"][0]["gauge"]["metrics"]
    assert told["failed"] == told["scrapes"] > 0
    assert f"{told['scrapes']} of {told['scrapes']} pages did not come: HTTP 404" in result.stderr


def test_a_server_that_is_still_starting_is_waited_for(cli: Cli, mock: Start) -> None:
    server = mock()
    result = cli(
        "bench", *to(server), "-c", 1, "-n", 2, "--prompts", prompts(2), "--wait-ready", "30s", "-o", "out"
    )
    assert result.exit_code == 0, result.output
    assert len(records("out")) == 2
    assert server.completions == 3
    assert manifest("out")["sessions"][0]["gauge"]["ready"]["requests"] == 1


def test_one_that_never_is_ends_it(cli: Cli) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "x"}\n')
    result = cli(
        *("bench", "--base-url", "http://127.0.0.1:9", "--model", "m", "-c", 1, "-n", 2),
        *("--prompts", "prompts.jsonl", "--wait-ready", "300ms", "-o", "out"),
    )
    assert result.exit_code in {1, 97}
    assert "not ready after" in result.stderr


def test_arrivals_that_never_got_a_place_are_told(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=3_600_000)
    cli(
        *("bench", *to(server), "--rate", 200, "-n", 5, "--prompts", prompts(5), "-o", "out"),
        *("--set", "load.max_in_flight=1", "--set", "load.graceful_stop=100ms"),
    )
    load = manifest("out")["sessions"][0]["gauge"]["load"]
    assert (load["scheduled"], load["arrived"], load["unsent"]) == (5, 1, 4)
    assert [record["cancelled_by"] for record in records("out")] == ["deadline"]


def test_ctrl_c_waits_for_what_is_in_flight_no_longer_than_the_grace(
    tmp_path: Path, mock_process: Start, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "3600000")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    child = spawn(
        *("bench", "--base-url", server.base_url, "--model", "m", "--rate", 100, "--duration", "10m"),
        *("--prompts", "p.jsonl", "--set", "load.graceful_stop=200ms", "-o", "out"),
    )
    until(lambda: server.stats()["in_flight"] > 0, child)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert {record["cancelled_by"] for record in records(tmp_path / "out")} == {"user"}
