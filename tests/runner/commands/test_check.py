"""`streamgauge check`, and what `bench`, `run` and `export` do for CI, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from click.testing import Result

from tests.conftest import Mock
from tests.reports.conftest import _failed, _record, bench, write

__all__ = ["bench", "write"]  # fixtures

Cli = Callable[..., Result]
Start = Callable[..., Mock]
MS = 1_000_000
YES = {"equals": "yes"}


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine is fast enough is not what these tests are about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        if name != "nothing_succeeded":
            monkeypatch.setitem(validity.LIMITS, name, tuple(0.0 if name == "sent" else 1e9 for _ in limits))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def timed(n: int, **changes: Any) -> list[Any]:
    """ttft of 1, 2, ... n ms."""
    return [_record(i, sent_at=3 * MS, first_token_at=(4 + i) * MS, **changes) for i in range(n)]


def test_the_scenario_s_own_thresholds(cli: Cli, bench: Any) -> None:
    run = bench(timed(100), scenario={"thresholds": {"ttft": ["p(50)<60ms", "p(50)<50ms"], "unserved": []}})
    result = cli("check", run)
    assert result.exit_code == 99
    assert result.stdout.startswith(f"FAIL: 3 verdicts, 1 FAIL, 2 PASS · {run}\n")
    assert "FAIL ttft: p(50)<50ms 50.50 ms" in " ".join(result.stdout.split())
    assert "errors: rate<1% (default)" in result.stdout


def test_those_given_and_no_others(cli: Cli, bench: Any) -> None:
    run = bench(timed(100), scenario={"thresholds": {"ttft": ["p(50)<1ms"]}})
    result = cli("check", run, "--threshold", "ttft: p(50)<60ms", "-t", "e2e: count>=100", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["verdict"], found["exit_code"]) == ("PASS", 0)
    assert [(row["name"], row["verdict"], row["value"], row["limit"]) for row in found["rows"]] == [
        ("ttft: p(50)<60ms", "PASS", 50.5, 60.0),
        ("e2e: count>=100", "PASS", 100.0, 100.0),
    ]


@pytest.mark.parametrize(("flag", "code"), [(None, 98), ("fail", 99), ("pass", 0)])
def test_what_cannot_be_said(cli: Cli, write: Any, flag: str | None, code: int) -> None:
    run = write(timed(50))
    more = [] if flag is None else ["--on-inconclusive", flag]
    result = cli("check", run, "-t", "ttft: p(99)<1s", *more)
    assert result.exit_code == code
    assert "p99 needs 100 values, and there are 50" in result.stdout


def test_a_client_that_was_not_fit(cli: Cli, bench: Any) -> None:
    run = bench([_failed(i) for i in range(3)])
    result = cli("check", run, "-t", "errors: rate<=100%", "--json")
    assert result.exit_code == 97
    rows = json.loads(result.stdout)["rows"]
    assert [(row["name"], row["verdict"]) for row in rows] == [
        ("validity", "INVALID"),
        ("errors: rate<=100%", "PASS"),
    ]
    assert rows[0]["notes"]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("goodput: rate>1%", "this run has no goodput, which only a bench measures"),
        ("output_throughput: value>1", "which only a bench measures"),
        ("connect: max<1s", "no request has a connect"),
        ("ttft{topic:math}: max<1s", "no answer with ttft{topic:math}"),
        ("expect: rate>1%", "no row expects anything"),
        ("cost: value<1", "nobody told"),
    ],
)
def test_what_was_not_measured_fails_and_says_so(cli: Cli, write: Any, metric: str, words: str) -> None:
    from runner.record import Connection

    result = cli("check", write(timed(3, connection=Connection(reused=True))), "-t", metric)
    assert result.exit_code == 99
    assert "no data: " in result.stdout
    assert words in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-t", "ttftt: p(95)<1s"], "did you mean ttft? There are ttft, ttft_sched"),
        (["-t", "ttft: p95<1s"], "of ttft there are p(N), med, avg"),
        (["-t", "p(95)<1s"], "names no metric"),
        (["-t", "errors{kind:timeuot}: count==0"], "There are connect, tls"),
        (["-t", "goodput{a:b}: rate>1%"], "selectors go with ttft"),
        ([], "has no thresholds of its own: give --threshold"),
        (["-t", "ttft: med<1s", "--junit", "no/folder/x.xml"], "there is no folder"),
        (["-t", "ttft: med<1s", "--markdown", "RUN/records.jsonl"], "belongs to a run itself"),
    ],
)
def test_usage_errors(cli: Cli, write: Any, arguments: list[str], words: str) -> None:
    run = write(timed(3))
    result = cli("check", run, *(a.replace("RUN", str(run)) for a in arguments))
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_folder_that_is_no_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("check", tmp_path, "-t", "ttft: med<1s").exit_code == 2
    assert cli("check", "nowhere").exit_code == 2
    assert "no RUN given" in cli("check").stderr


def test_expectations(cli: Cli, write: Any) -> None:
    lines = [
        _record(i, text="no" if i == 3 else "yes", row={"expect": YES, "t": "ab"[i % 2]}) for i in range(10)
    ]
    run = write(lines)
    strict = cli("check", run, "--expect")
    assert strict.exit_code == 99
    assert "FAIL expect: rate==100% 90.00%" in " ".join(strict.stdout.split())
    assert "9 of 10 answers are what their rows expect · did not hold: equals 1" in " ".join(
        strict.stdout.split()
    )
    result = cli(
        "check",
        run,
        "-t",
        "expect: rate>=90%",
        "-t",
        "expect{t:a}: rate==100%",
        "-t",
        "expect{t:b}: rate>80%",
    )
    assert result.exit_code == 99
    assert "FAIL expect{t:b}: rate>80% 80.00%" in " ".join(result.stdout.split())
    assert len((run / "expect.jsonl").read_text().splitlines()) == 10
    assert cli("check", run, "-t", "expect: rate>=90%").exit_code == 0
    assert cli("check", run, "-t", "ttft: med<1s", "--expect").exit_code == 99


def test_files_and_annotations(cli: Cli, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds = {"ttft": ["p(50)<1ms"], "e2e": ["p(99)<1s"], "unserved": []}
    run = bench(timed(30), scenario={"thresholds": thresholds})
    quiet = cli("check", run, "--junit", "j.xml", "--markdown", "m.md")
    assert "::" not in quiet.stderr
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    loud = cli("check", run, "--json")
    assert [line.partition("::")[2].partition("::")[0] for line in loud.stderr.splitlines()] == [
        "error title=FAIL%3A ttft%3A p(50)<1ms",
        "warning title=INCONCLUSIVE%3A e2e%3A p(99)<1s",
    ]
    json.loads(loud.stdout)  # nothing of it there
    root = Xml.fromstring(Path("j.xml").read_bytes())
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "1", "1")
    assert Path("m.md").read_text().startswith("## ❌ FAIL: 3 verdicts, 1 FAIL, 1 INCONCLUSIVE, 1 PASS\n")


# -- bench, run, export


def prompts() -> str:
    rows = [
        {"prompt": "yes", "expect": YES, "t": "a"},
        {"prompt": "no", "expect": YES, "t": "b"},
        {"prompt": "[1]", "expect": {"json_schema": {"type": "array"}}, "t": "a"},
        {"prompt": "free", "t": "a"},
    ]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "p.jsonl"


def to(server: Mock) -> list[str]:
    return ["--base-url", server.base_url, "--model", "m"]


def test_a_bench_judges_expectations_at_its_end(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    result = cli(
        *("bench", *to(server), "-c", 1, "-n", 8, "--prompts", prompts(), "-o", "out"),
        *("--set", "thresholds.expect=rate>=98%", "--set", 'thresholds."expect{t:a}"=rate>=98%'),
        *("--junit", "j.xml", "--markdown", "m.md"),
    )
    assert result.exit_code == 99, result.output
    summary = json.loads((Path("out") / "summary.json").read_text())
    assert (summary["expect"]["judged"], summary["expect"]["passed"]) == (6, 4)
    verdicts = {verdict["threshold"]: verdict["verdict"] for verdict in summary["bench"]["verdicts"]}
    assert verdicts == {
        "errors: rate<1%": "PASS",
        "unserved: rate<1%": "PASS",
        "expect: rate>=98%": "FAIL",
        "expect{t:a}: rate>=98%": "PASS",
    }
    assert "4 of 6 answers are what their rows expect" in " ".join(result.stdout.split())
    assert Xml.fromstring(Path("j.xml").read_bytes()).get("failures") == "1"
    markdown = Path("m.md").read_text()
    assert markdown.startswith("## ❌ FAIL")
    assert "### Thresholds" in markdown  # the report stands below
    assert cli("check", "out").exit_code == 99
    assert cli("report", "out").exit_code == 0


def test_a_run_says_how_many_held_and_does_not_judge(cli: Cli, mock: Start) -> None:
    result = cli("run", prompts(), *to(mock(echo=True)), "-o", "out")
    assert result.exit_code == 0, result.output
    assert "2 of 3 answers are what their rows expect" in " ".join(result.stdout.split())
    assert len((Path("out") / "expect.jsonl").read_text().splitlines()) == 3
    assert json.loads((Path("out") / "run.json").read_text())["prompts"]["expects"] == 3


@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_bad_expect_is_found_before_anything_is_sent(cli: Cli, mock: Start, command: str) -> None:
    server = mock()
    Path("p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "expect": {"regex": "("}}\n')
    where = ["p.jsonl"] if command == "run" else ["--prompts", "p.jsonl", "-n", 4]
    result = cli(command, *where, *to(server), "-o", "out")
    assert result.exit_code == 2
    assert "p.jsonl" in result.stderr
    assert "line 2: expect.regex is no regular expression" in result.stderr
    assert server.completions == 0


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        ("thresholds.expect=rate>=98%", "p.jsonl says what it expects; give rows an `expect` column"),
        ('thresholds."errors{kind:timeuot}"=count==0', "no kind of error 'timeuot'"),
    ],
)
def test_what_no_bench_could_measure_is_refused(cli: Cli, mock: Start, threshold: str, words: str) -> None:
    server = mock()
    Path("p.jsonl").write_text('{"prompt": "a"}\n')
    result = cli("bench", *to(server), "--prompts", "p.jsonl", "-n", 4, "--set", threshold, "-o", "out")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert server.completions == 0
    assert not Path("out").exists()


def test_a_slim_artefact(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    cli("bench", *to(server), "-c", 1, "-n", 8, "--prompts", prompts(), "-o", "out")
    result = cli("export", "out", "--slim", "-o", "slim")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("8 records -> slim (")
    assert cli("report", "slim").exit_code == 0
    assert cli("check", "slim", "-t", "errors: rate<1%").exit_code == 0
    assert "66.67%" in cli("check", "slim", "--expect").stdout
    columns = cli("check", "slim", "-t", "ttft{t:a}: max<1s")
    assert columns.exit_code == 99
    assert "a slim copy has no columns of yours" in " ".join(columns.stdout.split())
    again = cli("export", "slim")
    assert again.exit_code == 2
    assert "without texts. Export from the run it was made of." in again.stderr
    assert cli("run", "p.jsonl", *to(server), "-o", "slim").exit_code == 2


def test_a_slim_run_is_not_gone_on_with(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    cli("run", prompts(), *to(server), "-o", "out")
    cli("export", "out", "--slim", "-o", "slim")
    result = cli("run", "p.jsonl", *to(server), "-o", "slim")
    assert result.exit_code == 2
    assert "Go on in the run it was made of" in result.stderr


@pytest.mark.parametrize(
    "more", [[], ["-o", "-"], ["-o", "x", "--to", "csv"], ["-o", "x", "--all"], ["-o", "out"]]
)
def test_slim_needs_a_new_folder_and_nothing_else(cli: Cli, mock: Start, more: list[str]) -> None:
    cli("run", prompts(), *to(mock(echo=True)), "-o", "out")
    assert cli("export", "out", "--slim", *more).exit_code == 2
