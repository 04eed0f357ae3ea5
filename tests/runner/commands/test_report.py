"""`report` as a user types it."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from runner.cli import group
from runner.commands.report import FORMATS, write_page
from runner.record import Record
from runner.store import Manifest


def make(run: Path, records: int) -> Path:
    run.mkdir(parents=True)
    (run / "run.json").write_bytes(msgspec.json.encode(Manifest("run", "2026-01-01T00:00:00Z", {})))
    lines = [
        msgspec.json.encode(
            Record(
                id=sha256(str(i).encode()).hexdigest()[:32],
                prompt_id="p",
                index=i,
                custom_id=None,
                sample=0,
                session=1,
                phase="measure",
                scheduled_at=0,
                sent_at=0,
                headers_at=1,
                first_token_at=5_000_000,
                first_content_at=5_000_000,
                last_token_at=6_000_000,
                ended_at=7_000_000,
                status="ok",
                text="hello",
            )
        )
        for i in range(records)
    ]
    (run / "records.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "one", 3)
    (tmp_path / "runs" / "latest").symlink_to("one")
    return tmp_path


def call(*args: str) -> Result:
    return CliRunner().invoke(group, ["report", *args])


def test_the_latest_run_and_its_summary(here: Path) -> None:
    result = call()
    assert result.exit_code == 0
    assert result.stdout.startswith("3 of 3 answered · 0 failed · 7 ms")
    # A path as short as it can be typed here, though `latest` was followed.
    assert "runs/one/records.jsonl" in result.stdout
    assert str(here) not in result.stdout
    assert json.loads((here / "runs/one/summary.json").read_text())["requests"]["ok"] == 3


def test_formats_are_those_of_reports(here: Path) -> None:
    from reports.formats import RENDERERS

    assert tuple(RENDERERS) == FORMATS
    for name in FORMATS:
        assert call("runs/one", "--format", name).exit_code == 0
    assert json.loads(call("one", "-f", "json").stdout)["journal"]["ids"] == 3


def test_several_runs(here: Path) -> None:
    make(here / "runs" / "two", 5)
    result = call("runs/one", "runs/two", "-f", "json")
    assert [summary["requests"]["ok"] for summary in json.loads(result.stdout)] == [3, 5]


def test_to_a_file(here: Path) -> None:
    result = call("-f", "markdown", "-o", "report.md")
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("report.md").read_text().startswith("## runs/one")


def test_an_empty_run(here: Path) -> None:
    make(here / "empty", 0)
    result = call("empty")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "no records yet")


def test_no_such_run(here: Path) -> None:
    result = call("nowhere")
    assert result.exit_code == 2
    assert "no run directory nowhere" in result.stderr
    (here / "folder").mkdir()
    assert call("folder").exit_code == 2
    (here / "runs" / "latest").unlink()
    assert "Name a run directory" in call().stderr


def test_a_damaged_manifest(here: Path) -> None:
    (here / "runs/one/run.json").write_text("{")
    result = call()
    assert result.exit_code == 2
    assert "is not a manifest" in result.stderr


def test_no_report_replaces_a_part_of_a_run(here: Path) -> None:
    before = (here / "runs/one/records.jsonl").read_bytes()
    result = call("-o", "runs/one/records.jsonl")
    assert result.exit_code == 2
    assert (here / "runs/one/records.jsonl").read_bytes() == before


def test_a_report_that_cannot_be_written(here: Path) -> None:
    result = call("-o", "no/such/report.txt")
    assert result.exit_code == 1
    assert "cannot write no/such/report.txt: there is no folder" in result.stderr
    assert "no/such: make it, or name another" in result.stderr


def test_a_summary_that_cannot_be_written_is_a_note(here: Path) -> None:
    (here / "runs/one/summary.json").mkdir()
    result = call()
    assert result.exit_code == 0
    assert "summary.json was not written" in result.stderr
    assert result.stdout.startswith("3 of 3")


@pytest.mark.parametrize("module", ["runner.commands.report", "runner.commands.export"])
def test_a_command_is_cheap_to_import(module: str) -> None:
    code = (
        f"import sys, {module}; print(sorted({{'pandas', 'numpy', 'pyarrow', 'msgspec'}} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert out.stdout.strip() == "[]"


@pytest.fixture
def small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import page

    monkeypatch.setattr(page, "_plotly_script", lambda: "var Plotly = {};")


@pytest.mark.usefixtures("here", "small_plotly")
class TestHtml:
    def test_it_stands_in_the_run_and_its_path_is_printed(self) -> None:
        result = call("-f", "html")
        assert (result.exit_code, result.stdout) == (0, "runs/one/report.html\n")
        assert Path("runs/one/report.html").read_text().startswith("<!DOCTYPE html>")
        assert json.loads(Path("runs/one/summary.json").read_text())["requests"]["ok"] == 3

    def test_to_stdout(self) -> None:
        result = call("one", "-f", "html", "-o", "-")
        assert result.stdout.startswith("<!DOCTYPE html>")
        assert not Path("runs/one/report.html").exists()
        assert not Path("-").exists()

    def test_to_a_file(self) -> None:
        assert call("one", "-f", "html", "-o", "page.html").stdout == "page.html\n"
        assert Path("page.html").read_text().startswith("<!DOCTYPE html>")

    def test_several_runs_need_a_place(self, here: Path) -> None:
        make(here / "runs" / "two", 5)
        result = call("one", "two", "-f", "html")
        assert result.exit_code == 2
        assert "say where with -o FILE" in result.stderr
        assert call("one", "two", "-f", "html", "-o", "both.html").exit_code == 0
        assert "side by side" in Path("both.html").read_text()

    def test_other_tools_have_no_page(self) -> None:
        result = call("one", "-f", "html", "--as", "vllm")
        assert result.exit_code == 2
        assert "leave out" in result.stderr

    def test_at_the_end_of_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert write_page(Path("runs/one"))
        assert capsys.readouterr() == ("", "report: runs/one/report.html\n")
        Path("runs/one/report.html").unlink()
        Path("runs/one/report.html").mkdir()
        assert not write_page(Path("runs/one"))
        assert "cannot write runs/one/report.html" in capsys.readouterr().err
        assert not write_page(Path("runs/none"))


def test_dash_is_stdout_for_every_format(here: Path) -> None:
    assert call("one", "-o", "-").stdout.startswith("3 of 3")
    assert not Path("-").exists()
