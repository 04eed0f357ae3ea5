"""`export` as a user types it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from runner.cli import group
from runner.commands.export import FORMATS
from runner.record import Error, ErrorKind, Record
from runner.store import Manifest


def record(i: int, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "id": sha256(str(i).encode()).hexdigest()[:32],
        "prompt_id": "p",
        "index": i,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        **dict.fromkeys(("scheduled_at", "sent_at", "headers_at", "first_token_at", "first_content_at"), 0),
        "last_token_at": 1,
        "ended_at": 2,
        "status": "ok",
        "text": f"answer {i}",
        "row": {"answer": "mine"},
    }
    return msgspec.json.encode(Record(**{**values, **changes})) + b"\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_bytes(msgspec.json.encode(Manifest("run", "2026-01-01T00:00:00Z", {})))
    bad = record(1, status="error", error=Error(ErrorKind.TIMEOUT, "late"))
    (run / "records.jsonl").write_bytes(record(2) + bad + record(0))
    (tmp_path / "runs" / "latest").symlink_to("one")
    return tmp_path


def call(*args: str) -> Result:
    return CliRunner().invoke(group, ["export", *args])


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_latest_run(here: Path) -> None:
    result = call()
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "2 rows -> runs/one/dataset.jsonl",
        "left out: 1 error (--status all takes them in)",
        "your column `answer` stays; ours is `streamgauge_answer`",
    ]
    assert [row["index"] for row in rows(Path("runs/one/dataset.jsonl").read_text())] == [0, 2]


def test_to_stdout(here: Path) -> None:
    result = call("one", "-o", "-", "--status", "all", "--order", "completion")
    assert [row["index"] for row in rows(result.stdout)] == [2, 1, 0]
    assert "3 rows -> stdout" in result.stderr


def test_formats_are_those_of_reports(here: Path) -> None:
    from reports.export import Format

    assert get_args(Format) == FORMATS
    for name in FORMATS:
        assert call("--to", name).exit_code == 0
    assert "1 failure -> runs/one/batch_output_errors.jsonl" in call("--to", "openai-batch").stderr


def test_the_format_of_a_file_name(here: Path) -> None:
    assert call("-o", "out.csv").exit_code == 0
    assert Path("out.csv").read_text().startswith("answer,id,index,")
    result = call("-o", "out.xlsx")
    assert result.exit_code == 2
    assert "add --to" in result.stderr


def test_rows_that_left_the_prompt_file(here: Path) -> None:
    digest = int(sha256(b"0").hexdigest()[:16], 16)
    Path("runs/one/current.u64").write_bytes(np.array([digest], dtype="<u8").tobytes())
    assert "left out: 2 records of rows no longer in the prompt file (--all" in call().stderr
    assert "2 rows ->" in call("--all").stderr


def test_usage_mistakes(here: Path) -> None:
    assert call("nowhere").exit_code == 2
    assert call("--to", "xml").exit_code == 2
    (here / "runs" / "latest").unlink()
    assert call().exit_code == 2


@pytest.mark.parametrize(
    ("name", "to", "code"),
    [
        ("a.csv", "jsonl", 2),
        ("a.jsonl", "csv", 2),
        ("a.csv", "openai-batch", 2),
        ("a.csv", "csv", 0),
        ("a.ndjson", "jsonl", 0),
        ("a.jsonl", "openai-batch", 0),
        ("a.dat", "csv", 0),
    ],
)
def test_a_name_that_says_another_format(here: Path, name: str, to: str, code: int) -> None:
    result = call("-o", name, "--to", to)
    assert result.exit_code == code
    assert Path(name).exists() == (code == 0)
    assert ("leave one of them out" in result.stderr) == (code == 2)


def test_parquet_without_pyarrow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    result = call("--to", "parquet")
    assert result.exit_code == 2
    assert "pip install pyarrow" in result.stderr


def test_a_dataset_that_cannot_be_written(here: Path) -> None:
    result = call("-o", "no/such/dataset.jsonl")
    assert result.exit_code == 1
    assert "cannot write no/such/dataset.jsonl: there is no folder" in result.stderr
    assert call("-o", "runs/one/records.jsonl").exit_code == 2
