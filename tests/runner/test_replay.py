"""A run as a trace: what of its records is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.record import Record
from runner.replay import rows_of_run
from runner.store import Manifest, StoreError


def save(run: Path, *changes: dict[str, Any]) -> Path:
    manifest = Manifest(kind="bench", created="2026-01-01T00:00:00Z", scenario={})
    (run / "run.json").write_bytes(msgspec.json.encode(manifest))
    lines = []
    for number, change in enumerate(changes):
        values: dict[str, Any] = {
            "id": f"{number:016x}" * 2,
            "prompt_id": f"{number + 100:032x}", "index": number, "custom_id": None,
            "sample": 0, "session": 1, "phase": "measure", "scheduled_at": number * 10**9, "sent_at": 1,
            "headers_at": 1, "first_token_at": 1, "first_content_at": 1, "last_token_at": 1, "ended_at": 1,
            "status": "ok", "usage": {"prompt_tokens": 9, "completion_tokens": 4},
        }  # fmt: skip
        lines.append(msgspec.json.encode(Record(**{**values, **change})) + b"\n")
    (run / "records.jsonl").write_bytes(b"".join(lines))
    return run


BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}


def test_a_body_that_was_kept_pairs_with_its_record(tmp_path: Path) -> None:
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    run = save(
        tmp_path, {"request": body, "asked_input_tokens": 12, "asked_output_tokens": 7}, {"request": body}
    )
    first, second = rows_of_run(run)
    assert (first.body, first.prompt_id) == (BODY, f"{100:032x}")
    assert (first.asked_input_tokens, first.asked_output_tokens) == (12, 7)
    assert (second.at_s, second.prompt_id) == (1.0, f"{101:032x}")
    assert (second.asked_input_tokens, second.asked_output_tokens) == (None, None)


def test_other_prompts_of_the_same_lengths_do_not_pair(tmp_path: Path) -> None:
    (row,) = rows_of_run(save(tmp_path, {"asked_input_tokens": 12}))
    assert (row.input_tokens, row.output_tokens, row.prompt_id) == (12, 4, None)


def test_a_run_that_kept_nothing_of_what_it_asked(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is nothing to replay it by"):
        rows_of_run(save(tmp_path, {"usage": None}))
