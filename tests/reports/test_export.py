"""Datasets read back with the tools people use, and what an export leaves alone."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from reports import export
from reports.export import ExportResult, errors_path, export_dataset, format_of
from reports.frame import load
from runner.record import ErrorKind
from runner.store import CURRENT, StoreError

ODD = 'a\u2028b\u2029c\x85d "quoted", \r\n\t\x00 ü 漢 🌊 \\'


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def saved(result: ExportResult) -> Path:
    assert result.path is not None
    return result.path


CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
REQUEST = {
    "model": "asked",
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": ODD}],
}


@pytest.fixture
def run(write: Any, record: Any, failed: Any) -> Path:
    """Out of order, one failed, one cancelled; caller's columns of every kind."""
    made = write(
        [
            record(
                2,
                text=ODD,
                row={
                    "whole": 2,
                    "mixed": "x",
                    "nested": {"a": [1, None]},
                    "list": ["p", ODD],
                    "text": "",
                    "only": 1.5,
                },
                request=REQUEST,
                tool_calls=CALLS,
            ),
            record(
                0, row={"whole": -1, "mixed": 7, "nested": None, "list": [], "text": ODD}, request=REQUEST
            ),
            failed(1, ErrorKind.BAD_REQUEST, row={"whole": 3}, http_status=400),
            record(3, status="cancelled", cancelled_by="user", row={"whole": 4}),
        ]
    )
    assert isinstance(made, Path)
    return made


def test_jsonl(run: Path) -> None:
    result = export_dataset(run)
    assert (saved(result), result.rows) == (run / "dataset.jsonl", 2)
    assert result.skipped == {"error": 1, "cancelled": 1}
    # `splitlines` breaks at U+2028 and friends, as many readers do: no line may hold one.
    first, second = jsonl(saved(result))
    assert (first["index"], second["index"]) == (0, 2)
    assert second["answer"] == ODD
    assert second["prompt"] == ODD
    assert second["nested"] == {"a": [1, None]}
    assert second["tool_calls"] == CALLS
    assert list(first)[:5] == ["whole", "mixed", "nested", "list", "text"]
    assert (first["prompt_tokens"], first["ttft_ms"], first["e2e_ms"]) == (7, 10.0, 51.0)
    assert (first["model"], first["reasoning"], first["error_kind"]) == ("asked", None, None)
    assert "only" not in first
    assert not {"messages", "choices", "extra", "custom_id"} & set(first)


def test_csv(run: Path) -> None:
    result = export_dataset(run, run / "out.csv")
    text = (run / "out.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert (result.to, len(rows)) == ("csv", 2)
    assert rows[1]["answer"] == ODD
    assert rows[1]["nested"] == '{"a":[1,null]}'
    assert json.loads(rows[1]["tool_calls"]) == CALLS
    assert (rows[0]["mixed"], rows[1]["mixed"], rows[0]["only"], rows[0]["nested"]) == ("7", "x", "", "")
    assert pd.read_csv(run / "out.csv")["whole"].tolist() == [-1, 2]


def test_parquet(run: Path) -> None:
    result = export_dataset(run, run / "out.parquet")
    frame = pd.read_parquet(saved(result))
    assert frame["whole"].tolist() == [-1, 2]
    assert frame["mixed"].tolist() == ["7", '"x"']
    assert frame["text"].tolist() == [ODD, ""]
    assert [list(value) for value in frame["list"]] == [[], ["p", ODD]]
    assert json.loads(frame["nested"][1]) == {"a": [1, None]}
    assert frame["answer"].tolist() == ["so be it", ODD]
    assert [str(frame[name].dtype) for name in ("completion_tokens", "ttft_ms")] == ["int64", "float64"]
    about = json.loads(pq.read_schema(saved(result)).metadata[b"streamgauge"])
    assert about == {"json_columns": ["mixed", "nested", "tool_calls"], "renamed": {}}


@pytest.mark.parametrize("to", ["jsonl", "csv", "parquet", "openai-batch"])
def test_nothing_to_export_is_an_empty_file(write: Any, to: str) -> None:
    result = export_dataset(write([]), None, to)
    assert result.rows == 0
    assert saved(result).exists()
    if to == "parquet":
        assert len(pd.read_parquet(saved(result))) == 0


def test_parquet_in_several_row_groups(write: Any, record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import parquet

    monkeypatch.setattr(parquet, "_BATCH_ROWS", 10)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 2_000)
    run = write([record(i, row={"n": i}) for i in range(95)])
    path = saved(export_dataset(run, to="parquet"))
    assert pq.ParquetFile(path).num_row_groups > 2
    assert pd.read_parquet(path)["n"].tolist() == list(range(95))


def test_answer_columns_give_way_to_the_callers(write: Any, record: Any) -> None:
    row = {"answer": "mine", "id": 17, "streamgauge_id": "mine too", "custom_id": "mine three"}
    run = write([record(0, row=row, custom_id="mine three"), record(1)])
    for to in ("jsonl", "csv", "parquet"):
        result = export_dataset(run, None, to)
        assert result.renamed == {"id": "streamgauge_streamgauge_id", "answer": "streamgauge_answer"}
    first, second = jsonl(run / "dataset.jsonl")
    assert {name: first[name] for name in row} == row
    assert first["streamgauge_answer"] == "so be it"
    assert len(first["streamgauge_streamgauge_id"]) == 32
    # The same names in every row, also where the caller has no such column.
    assert second["streamgauge_answer"] == "so be it"
    assert "answer" not in second
    assert pd.read_parquet(run / "dataset.parquet")["answer"].fillna("-").tolist() == ["mine", "-"]


def test_the_callers_numbers_are_not_touched(write: Any, record: Any) -> None:
    line = msgspec.json.encode(record()).replace(
        b'"row":{}', b'"row":{"big":123456789012345678901234567890,"f":1.50,"e":1E5}'
    )
    run = write([line])
    text = saved(export_dataset(run)).read_text()
    assert '{"big":123456789012345678901234567890,"f":1.50,"e":1E5,' in text
    assert saved(export_dataset(run, to="csv")).read_text().splitlines()[1].startswith("1234567890")
    frame = pd.read_parquet(saved(export_dataset(run, to="parquet")))
    assert (frame["big"][0], frame["f"][0]) == ("123456789012345678901234567890", 1.5)


def test_conversations_samples_choices_and_extras(write: Any, record: Any) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    choices = [{"index": 0, "text": "x"}, {"index": 1, "text": "y"}]
    run = write(
        [
            record("one", sample=1, request={"model": "m", "messages": turns}, custom_id="k"),
            record(
                "two",
                sample=0,
                request={"model": "m", "prompt": "p"},
                choices=choices,
                extra={"logprobs": [1]},
            ),
        ]
    )
    first, second = jsonl(saved(export_dataset(run)))
    assert (first["sample"], first["prompt"], first["custom_id"], first["choices"]) == (0, "p", None, choices)
    assert first["extra"] == {"logprobs": [1]}
    assert (second["sample"], second["prompt"], second["messages"]) == (1, None, turns)


def test_order_and_status(run: Path) -> None:
    def indices(**options: Any) -> list[int]:
        return [row["index"] for row in jsonl(saved(export_dataset(run, **options)))]

    assert indices() == [0, 2]
    assert indices(order="completion") == [2, 0]
    assert indices(status="all") == [0, 1, 2, 3]
    assert indices(status="error") == [1]
    assert indices(status="cancelled") == [3]
    assert jsonl(saved(export_dataset(run, status="error")))[0]["error_kind"] == "bad_request"


def test_only_the_current_prompt_file(run: Path) -> None:
    digests = load(run)["id"].map(lambda name: int(str(name)[:16], 16)).tolist()  # in input order
    (run / CURRENT).write_bytes(np.array(sorted([*digests[1:], 5]), dtype="<u8").tobytes())
    result = export_dataset(run)
    assert (result.rows, result.left_out) == (1, 1)
    assert jsonl(saved(result))[0]["index"] == 2
    assert export_dataset(run, every=True).rows == 2
    chosen = np.array([digests[0]], dtype=np.uint64)
    assert export_dataset(run, keep=chosen).left_out == 3
    assert export_dataset(run, keep=np.array([], dtype=np.uint64)).rows == 0
    (run / CURRENT).write_bytes(b"torn")
    with pytest.raises(StoreError, match="cut short"):
        export_dataset(run)


def test_a_carriage_return_alone_does_not_break_a_row(write: Any, record: Any) -> None:
    run = write([record(0, text="a\rb"), record(1, text="c\nd")])
    text = saved(export_dataset(run, to="csv")).read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["answer"] for row in rows] == ["a\rb", "c\nd"]
    assert text.endswith("\n")
    assert not text.endswith("\r\n")


def test_one_row_an_id(write: Any, record: Any, failed: Any) -> None:
    run = write([failed(0), record(0, text="first"), b"{oops", record(0, text="last"), failed(0)])
    result = export_dataset(run)
    assert [row["answer"] for row in jsonl(saved(result))] == ["last"]
    assert result.bad == 1


CUT = {
    "status": "cancelled",
    "cancelled_by": "stop_rule",
    "finish_reason": None,
    "usage": None,
    "usage_source": "none",
    "usage_partial": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}


def test_an_answer_cut_on_purpose_is_an_answer(write: Any, record: Any, failed: Any) -> None:
    run = write(
        [
            record(0, **CUT, text="so be"),
            record(1),
            record(2, status="cancelled", cancelled_by="user"),
            failed(3),
        ]
    )
    for to in ("jsonl", "csv", "parquet"):
        result = export_dataset(run, to=to)
        assert (result.rows, result.skipped) == (2, {"cancelled": 1, "error": 1})
    first = jsonl(run / "dataset.jsonl")[0]
    assert (first["status"], first["answer"], first["finish_reason"]) == ("cancelled", "so be", None)
    assert first["completion_tokens"] == 2
    assert [row["index"] for row in jsonl(saved(export_dataset(run, status="cancelled")))] == [2]
    assert export_dataset(run, status="all").rows == 4

    result = export_dataset(run, to="openai-batch")
    assert (result.rows, result.error_rows) == (2, 2)
    answer = jsonl(run / "batch_output.jsonl")[0]["response"]
    assert (answer["status_code"], answer["body"]["usage"]["completion_tokens"]) == (200, 2)
    choice = answer["body"]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so be", "length")
    failures = jsonl(errors_path(run / "batch_output.jsonl"))
    assert [line["custom_id"] for line in failures] == ["row-2", "row-3"]


@pytest.mark.parametrize(
    ("then", "text"),
    [
        ({"finish_reason": "stop", "text": "new"}, "new"),
        ({**CUT, "text": "cut"}, "cut"),
        ({"status": "cancelled", "cancelled_by": "user", "text": "half"}, "old"),
        ({"status": "error", "text": "half"}, "old"),
    ],
)
def test_after_a_redo_the_last_accepted_answer_is_exported(
    write: Any, record: Any, then: dict[str, Any], text: str
) -> None:
    run = write([record(0, finish_reason="length", text="old"), record(0, session=2, **then)])
    assert [row["answer"] for row in jsonl(saved(export_dataset(run)))] == [text]


def test_failures_alone(write: Any, record: Any, failed: Any) -> None:
    late = failed(1, text="as far as", usage_partial={"completion_tokens": 3}, row={"mine": 1})
    run = write([record(0), late, failed(2, ErrorKind.BAD_REQUEST, retryable=False)])
    result = export_dataset(run, status="error")
    assert (result.rows, result.skipped) == (2, {"ok": 1})
    first, second = jsonl(saved(result))
    assert (first["mine"], first["answer"], first["error_kind"]) == (1, "as far as", "timeout")
    assert (first["error_message"], first["completion_tokens"]) == ("timeout!", 3)
    assert second["error_kind"] == "bad_request"


def test_costs_are_columns_where_some_are_known(write: Any, record: Any) -> None:
    known = {"cost": 0.25, "cost_source": "provider"}
    run = write([record(0, **known, row={"cost": "mine"}), record(1)])
    first, second = jsonl(saved(export_dataset(run)))
    assert (first["cost"], first["streamgauge_cost"], first["cost_source"]) == ("mine", 0.25, "provider")
    assert (second["streamgauge_cost"], second["cost_source"]) == (None, "none")
    frame = pd.read_parquet(saved(export_dataset(run, to="parquet")))
    assert str(frame["streamgauge_cost"].dtype) == "float64"
    assert frame["streamgauge_cost"].tolist()[0] == 0.25
    table = io.StringIO(saved(export_dataset(run, to="csv")).read_text())
    assert [row["streamgauge_cost"] for row in csv.DictReader(table)] == ["0.25", ""]
    silent = jsonl(saved(export_dataset(write([record(0)], name="silent"))))[0]
    assert not {"cost", "cost_source"} & set(silent)


def test_openai_batch(write: Any, record: Any, failed: Any) -> None:
    run = write(
        [
            record(
                0,
                custom_id="mine",
                text="",
                tool_calls=CALLS,
                response={"id": "chatcmpl-1", "model": "m", "created": 3, "headers": {"X-Request-Id": "r1"}},
            ),
            record(1, request={"model": "m", "prompt": "p"}, extra={"logprobs": {"tokens": []}}),
            record("1b", index=1, sample=1, choices=[{"index": i, "text": f"t{i}"} for i in range(2)]),
            failed(2, ErrorKind.BAD_REQUEST, http_status=400),
            failed(3, ErrorKind.TIMEOUT),
            record(4, status="cancelled", cancelled_by="deadline"),
        ]
    )
    result = export_dataset(run, to="openai-batch")
    assert (result.rows, result.error_rows, result.skipped) == (3, 3, {})
    tool, text, choices = jsonl(run / "batch_output.jsonl")
    assert tool["custom_id"] == "mine"
    assert tool["error"] is None
    assert (tool["response"]["status_code"], tool["response"]["request_id"]) == (200, "r1")
    body = tool["response"]["body"]
    assert {key: body[key] for key in ("id", "object", "created", "model")} == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 3,
        "model": "m",
    }
    assert body["usage"]["total_tokens"] == 12
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": CALLS}
    assert body["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert text["response"]["body"]["object"] == "text_completion"
    assert text["response"]["body"]["choices"][0] == {
        "index": 0,
        "text": "so be it",
        "logprobs": {"tokens": []},
        "finish_reason": "stop",
    }
    assert (text["custom_id"], choices["custom_id"]) == ("row-1", "row-1-1")
    assert [c["message"]["content"] for c in choices["response"]["body"]["choices"]] == ["t0", "t1"]

    refused, timed_out, cancelled = jsonl(errors_path(run / "batch_output.jsonl"))
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["code"] == "bad_request"
    assert refused["error"] is None
    assert (timed_out["response"], timed_out["error"]["code"]) == (None, "timeout")
    assert cancelled["error"] == {"code": "cancelled", "message": "cancelled by deadline"}


def test_a_batch_answer_is_what_the_sdk_parses(write: Any, record: Any) -> None:
    from openai.types.chat import ChatCompletion

    run = write([record(response={"id": "x", "model": "m", "created": 1})])
    (line,) = jsonl(saved(export_dataset(run, to="openai-batch")))
    completion = ChatCompletion.model_validate(line["response"]["body"])
    assert completion.choices[0].message.content == "so be it"
    cut = write([record(response={"id": "x", "model": "m", "created": 1}, **CUT)], name="cut")
    (line,) = jsonl(saved(export_dataset(cut, to="openai-batch")))
    assert ChatCompletion.model_validate(line["response"]["body"]).choices[0].finish_reason == "length"


def test_an_older_error_file_does_not_stay_beside_new_answers(write: Any, record: Any, failed: Any) -> None:
    bad = write([failed(0)], name="bad")
    out = bad.parent / "out.jsonl"
    assert export_dataset(bad, out, "openai-batch").error_rows == 1
    export_dataset(write([record(0)], name="good"), out, "openai-batch")
    assert errors_path(out).read_bytes() == b""


def test_a_failing_export_leaves_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = run / "mine.jsonl"
    target.write_text("old")

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_json_line", full)
    with pytest.raises(StoreError, match="No space left on device"):
        export_dataset(run, target)
    assert target.read_text() == "old"
    assert [path.name for path in run.iterdir() if path.name.endswith(".part")] == []


def test_an_export_goes_through_a_link_and_spares_devices(run: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    link = tmp_path / "link.jsonl"
    link.symlink_to(real)
    export_dataset(run, link)
    assert link.is_symlink()
    assert len(jsonl(real)) == 2
    assert export_dataset(run, Path(os.devnull), "csv").rows == 2
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("name", ["records.jsonl", "records-2.jsonl", "run.json", "current.u64"])
def test_no_export_replaces_a_part_of_a_run(run: Path, name: str) -> None:
    with pytest.raises(StoreError, match="belongs to a run"):
        export_dataset(run, run / name, "jsonl")
    link = run.parent / "innocent.jsonl"
    link.symlink_to(run / name)
    with pytest.raises(StoreError, match="belongs to a run"):
        export_dataset(run, link)


def test_a_journal_that_cannot_be_read(run: Path) -> None:
    (run / "records.jsonl").unlink()
    (run / "records.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*records.jsonl: Is a directory"):
        export_dataset(run)


def test_formats() -> None:
    assert format_of(None) == "jsonl"
    assert format_of(Path("A.CSV")) == "csv"
    with pytest.raises(StoreError, match="--to"):
        format_of(Path("answers.xlsx"))


def test_an_unknown_format(run: Path) -> None:
    with pytest.raises(StoreError, match="no format 'xml'"):
        export_dataset(run, None, "xml")


def test_to_a_stream(run: Path) -> None:
    out = io.BytesIO()
    result = export_dataset(run, out, "openai-batch")
    assert (result.path, result.rows, result.skipped) == (None, 2, {"error": 1, "cancelled": 1})
    assert len(out.getvalue().splitlines()) == 2
    table = io.BytesIO()
    export_dataset(run, table, "parquet")
    assert len(pd.read_parquet(io.BytesIO(table.getvalue()))) == 2
    sheet = io.BytesIO()
    export_dataset(run, sheet, "csv")
    assert sheet.getvalue().startswith(b"whole,mixed,")
