"""A slim copy: every number of the run, none of its texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports.compare import compare
from reports.expect import COUNTS, RESULTS, expectations
from reports.expect_changes import expectation_changes
from reports.export import export_dataset
from reports.metrics import summarize
from reports.slim import slim
from runner.record import ErrorKind, Record
from runner.store import PromptFile, StoreError, build_index, load_manifest, read_blocks
from tests.reports.compared import bench_of

SECRET = "a text of the caller's"
MS = 1_000_000


@pytest.fixture
def lines(record: Any, failed: Any, attempt: Any) -> list[Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    texts: dict[str, Any] = {
        "text": SECRET,
        "request": {"model": "m", "messages": [{"role": "user", "content": SECRET}]},
        "row": {"mine": SECRET, "expect": {"equals": SECRET}},
        "extra": {"logprobs": [SECRET]},
        "response": {"model": "m", "system_fingerprint": "fp", "headers": {"x": SECRET}},
    }
    call = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": SECRET}}]
    choice = {
        "finish_reason": "stop",
        "text": SECRET,
        "reasoning": SECRET,
        "refusal": None,
        "tool_calls": call,
    }
    out = [record(i, **texts, first_token_at=(13 + i) * MS) for i in range(5)]
    out += [
        record(10, **texts, reasoning=SECRET, usage=usage),  # reasoning that was streamed counts in tpot
        record(11, **texts, usage=usage),  # and here it was not
        record(12, **texts, choices=[{"index": i, **choice} for i in (0, 1)], tool_calls=call),
        record(13, **texts, refusal=SECRET, attempts=[attempt(ErrorKind.OVERLOADED, text=SECRET)]),
        failed(14, ErrorKind.TIMEOUT, row=texts["row"]),
        failed(15, ErrorKind.OVERLOADED, row=texts["row"]),
        record(15, **texts),  # the line that counts
        record(16, **texts, phase="warmup"),
        record(17, status="cancelled", cancelled_by="stop_rule", text=SECRET, chunk_tokens=[1, 2, 2]),
    ]
    return out


def numbers(run: Path) -> dict[str, Any]:
    """Everything of a summary but where it lies and what errors said."""
    found: dict[str, Any] = msgspec.to_builtins(summarize(run))
    for name in ("path", "slim"):
        del found[name]
    del found["requests"]["error_examples"]
    return found


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_every_number_is_the_run_s(request: Any, tmp_path: Path, lines: list[Any], kind: str) -> None:
    make = request.getfixturevalue("bench" if kind == "bench" else "write")
    run = make(lines, tags={"build": "7"})
    (run / "metrics.jsonl").write_text(
        json.dumps(
            {"at": 5, "status": 200, "text": f"# HELP {SECRET}\nvllm:num_requests_running 3\nother 1\n"}
        )
        + "\nnonsense\n"
    )
    expectations(run)
    result = slim(run, tmp_path / "out")
    assert numbers(tmp_path / "out") == numbers(run)
    assert (result.lines, result.bad) == (len(lines), 0)
    assert result.after_bytes < result.before_bytes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_no_text_is_left(write: Any, tmp_path: Path, lines: list[Any]) -> None:
    slim(write(lines), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert SECRET not in path.read_text(encoding="utf-8"), path.name


def test_its_lines_are_records(write: Any, tmp_path: Path, lines: list[Any]) -> None:
    slim(write(lines), tmp_path / "out")
    records = [one for block in read_blocks(build_index(tmp_path / "out"), Record) for one in block]
    assert len(records) == len({line.id for line in lines})
    first = records[0]
    assert (first.text, first.row, first.request) == ("", {}, msgspec.UNSET)
    assert first.response == {"model": "m", "system_fingerprint": "fp"}
    assert first.chunk_us == [0, 10_000, 40_000]


def test_results_of_expectations_go_along(write: Any, record: Any, tmp_path: Path) -> None:
    def run(name: str, *answers: str) -> Path:
        lines = [record(i, text=text, row={"expect": {"equals": "yes"}}) for i, text in enumerate(answers)]
        made: Path = write(lines, name=name)
        return made

    base, new = run("base", "yes", "yes"), run("new", "yes", "no")
    result = slim(base, tmp_path / "slim-base")
    slim(new, tmp_path / "slim-new")
    assert result.expect is not None
    assert (result.expect.judged, result.expect.passed) == (2, 2)
    assert expectations(tmp_path / "slim-new").passed == 1
    kept = [json.loads(line) for line in (tmp_path / "slim-new" / RESULTS).read_text().splitlines()]
    assert [line["failures"] for line in kept] == [{}, {"equals": ""}]
    found = expectation_changes(tmp_path / "slim-base", new)
    assert (found.both, found.broke) == (2, 1)
    assert (found.shown[0].before, found.shown[0].now) == (None, "no")  # the text was not kept


def test_a_copy_of_which_no_row_expected_anything_is_compared(
    bench: Any, record: Any, failed: Any, tmp_path: Path
) -> None:
    made = bench_of(bench, record, failed)("base", n=20)
    manifest = msgspec.structs.replace(
        load_manifest(made), prompts=PromptFile("p.jsonl", "0" * 64, 1000, 1000, expects=5)
    )
    (made / "run.json").write_bytes(msgspec.json.encode(manifest))
    copy = slim(made, tmp_path / "slim").path
    assert expectations(copy).judged == 0
    assert compare([made], [copy]).answers is not None
    # One that was made without results at all has its times still.
    (copy / COUNTS).unlink()
    found = compare([made], [copy])
    assert found.answers is None
    assert any("which answers changed cannot be said" in words for words in found.warnings)


def test_a_copy_without_results(write: Any, record: Any, tmp_path: Path) -> None:
    slim(write([record(1)]), tmp_path / "out")
    with pytest.raises(StoreError, match="its texts are gone"):
        expectations(tmp_path / "out")


def test_bad_lines_are_left_out_and_counted(write: Any, record: Any, tmp_path: Path) -> None:
    run = write([record(1), b"nonsense", b'{"id": 1, "row": 7}', b"[]", b'{"id": "x", "attempts": [1]}'])
    result = slim(run, tmp_path / "out")
    assert (result.lines, result.bad) == (1, 4)


def test_what_is_refused(write: Any, record: Any, tmp_path: Path) -> None:
    run, out = write([record(1)]), tmp_path / "out"
    slim(run, out)
    with pytest.raises(StoreError, match="is there already"):
        slim(run, out)
    with pytest.raises(StoreError, match="slim copy already"):
        slim(out, tmp_path / "again")
    with pytest.raises(StoreError, match="without texts"):
        export_dataset(out, tmp_path / "x.jsonl")
    with pytest.raises(StoreError, match="not a run directory"):
        slim(tmp_path / "nowhere", tmp_path / "again")


def test_a_copy_that_cannot_be_written_leaves_nothing(
    write: Any, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run = write([record(1)])
    monkeypatch.setattr("reports.slim._slim_line", full)
    with pytest.raises(StoreError, match="No space left on device"):
        slim(run, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
