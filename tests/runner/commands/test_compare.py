"""`compare` as a user meets it: which paths are which side, what is printed, exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from runner.cli import group
from tests.conftest import Mock
from tests.reports.compared import Bench, bench_of, sides
from tests.reports.conftest import Write, _failed, _record, bench, write  # noqa: F401  (fixtures)

Cli = Callable[..., Result]
Start = Callable[..., Mock]
STEADY, SLOWER = [100.0, 101.0, 99.5], [116.0, 115.0, 117.5]


@pytest.fixture
def make(bench: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return bench_of(bench, _record, _failed)


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["compare", *arguments], prog_name="streamgauge")


def globbed(*folders: str) -> list[str]:
    """As a shell expands FOLDER/*."""
    return [str(path) for folder in folders for path in sorted(Path(folder).iterdir())]


def test_two_globs(make: Bench) -> None:
    sides(make, STEADY, SLOWER)
    Path("base/notes.txt").write_text("mine")
    found = compare(*globbed("base", "new"))
    assert found.exit_code == 99
    assert found.stdout.startswith("FAIL: ttft")
    assert "note: base/notes.txt is no run directory and is left out" in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["base", "new"],
        [*[f"base/{k}" for k in (1, 2, 3)], "--", *[f"new/{k}" for k in (1, 2, 3)]],
        ["--new", "new", "base"],
        ["base", "--", "new"],
    ],
)
def test_other_ways_to_name_the_sides(make: Bench, arguments: list[str]) -> None:
    sides(make, STEADY, SLOWER)
    told = json.loads(compare(*arguments, "--json").stdout) if "--" not in arguments else None
    if told is None:
        told = json.loads(compare("--json", *arguments).stdout)
    assert told["base"]["runs"] == ["base/1", "base/2", "base/3"]
    assert told["new"]["runs"] == ["new/1", "new/2", "new/3"]
    assert told["verdict"] == "FAIL"


def test_the_folder_of_an_ab_holds_both_sides(make: Bench) -> None:
    for k, (one, other) in enumerate(zip(STEADY, STEADY, strict=True), 1):
        make(f"ab/{k}-a", ttft_ms=one, tags={"pair": str(k), "side": "a"})
        make(f"ab/{k}-b", ttft_ms=other, tags={"pair": str(k), "side": "b"})
    for arguments in (["ab"], globbed("ab")):
        found = compare(*arguments, "--json")
        assert found.exit_code == 0
        assert json.loads(found.stdout)["pairs"] == [[f"ab/{k}-a", f"ab/{k}-b"] for k in (1, 2, 3)]


def test_a_link_to_the_latest_is_no_run_of_its_own(make: Bench) -> None:
    sides(make, STEADY, STEADY)
    Path("base/latest").symlink_to("3")
    assert json.loads(compare("base", "new", "--json").stdout)["base"]["runs"] == [
        "base/1",
        "base/2",
        "base/3",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to compare"),
        (["base/1"], "with what should it be compared"),
        (["base"], "not tagged side=a and side=b"),
        (["base", "missing"], "missing does not exist"),
        (["baselines/main/*", "new"], "the pattern matched no run directory"),
        (["base", "plain"], "holds none"),
        (["base/1", "base/2", "base/3"], "which are BASE and which are NEW"),
        (["base/1", "new/1", "plain/x"], "3 paths in 3 folders"),
        (["base", "new", "--metric", "tftt"], "did you mean ttft"),
        (["base", "new", "--metric", "goodput"], "was not measured"),
        (["base", "new", "--max-regression", "10"], "no limit like 10%"),
        (["base", "new", "--max-added", "ttft=5%"], "no limit like ttft=20ms"),
        (["base", "new", "--noise", "missing"], "missing does not exist"),
    ],
)
def test_what_cannot_be_compared(make: Bench, arguments: list[str], words: str) -> None:
    sides(make, STEADY[:1] * 2, STEADY[:1] * 2, tagged=False)
    Path("plain").mkdir()
    found = compare(*arguments)
    assert found.exit_code == 2
    assert words in found.stderr
    assert found.stdout == ""


def test_inconclusive_has_a_code_of_its_own(make: Bench) -> None:
    sides(make, [100.0], [104.0])
    assert compare("base", "new").exit_code == 98
    assert compare("base", "new", "--on-inconclusive", "pass").exit_code == 0
    assert compare("base", "new", "--on-inconclusive", "fail").exit_code == 99


def test_a_comment_for_the_pull_request(make: Bench) -> None:
    sides(make, STEADY, SLOWER)
    found = compare("base", "new", "--markdown", "comment.md")
    assert found.exit_code == 99
    assert Path("comment.md").read_text().startswith("## FAIL: ttft (+16.0 %) got worse\n")


def test_files_for_ci_systems_and_annotations(make: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sides(make, STEADY, SLOWER)
    quiet = compare("base", "new", "--junit", "gate.xml")
    assert quiet.exit_code == 99
    assert "::error" not in quiet.output
    suite = ElementTree.parse("gate.xml").getroot()[0]
    assert suite.get("name") == "compare: base/1 ... -> new/1 ..."
    assert {case.get("name"): [child.tag for child in case] for case in suite}["ttft"] == ["failure"]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    told = compare("base", "new", "--json")
    assert told.stderr.startswith("::error title=FAIL%3A ttft::worse by at least ")
    assert json.loads(told.stdout)["verdict"] == "FAIL"  # what is printed stays what it was
    one_each = compare("base/1", "new/2", "--on-inconclusive", "fail", "--metric", "tpot")
    assert one_each.stderr.startswith("::error title=INCONCLUSIVE%3A tpot::")


@pytest.mark.parametrize("flag", ["--markdown", "--junit", "--html"])
def test_a_file_that_cannot_be_written_is_found_before_anything_is_read(make: Bench, flag: str) -> None:
    sides(make, STEADY, SLOWER)
    found = compare("base", "new", flag, "no/such/file")
    assert found.exit_code == 2
    assert "there is no folder" in found.stderr
    assert found.stdout == ""
    assert compare("base", "new", flag, "base/1/records.jsonl").exit_code == 2


def test_a_folder_that_may_not_be_written_in_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/base").mkdir()
    monkeypatch.setattr("os.access", lambda _, mode, **__: mode != os.W_OK)
    found = compare("there", "there/base", "--markdown", "there/gate.md")
    assert found.exit_code == 2
    assert "there cannot be written in: name another" in " ".join(found.stderr.split())


def test_prompts_whose_answers_held_before_are_named_with_both_answers(cli: Cli, mock: Start) -> None:
    # A command to a CI system in an answer is not carried out by printing it.
    rows = [{"prompt": f"say {n} ##[error]x", "expect": {"contains": f"say {n}"}} for n in range(3)]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, server in (("old", mock(echo=True)), ("new", mock(tokens=4))):
        done = cli("run", "q.jsonl", "--base-url", server.base_url, "--model", "m", "-o", name)
        assert done.exit_code == 0, done.output
    for form in ([], ["--json"]):
        found = cli("compare", "old", "new", "--metric", "ttft", *form)
        assert found.exit_code in {98, 99, 0}, found.output
        assert "say 1" in found.stdout
        assert "##[" not in found.stdout
    told = json.loads(found.stdout)["answers"]
    assert (told["both"], told["broke"], told["mended"]) == (3, 3, 0)
    assert told["shown"][0]["before"] == "say 0 ##[error]x"
    text = cli("compare", "old", "new", "--metric", "ttft").stdout
    assert "3 held before and do not now" in text
    assert "Before: 'say 0 ## [error]x'" in text


def test_a_page_is_written_and_named(make: Bench) -> None:
    sides(make, STEADY, SLOWER)
    found = compare("base", "new", "--html", "compare.html")
    assert found.exit_code == 99
    assert "page: compare.html" in found.stderr
    assert found.stdout.startswith("FAIL: ttft")
    assert "<h1>compare: " in Path("compare.html").read_text()
