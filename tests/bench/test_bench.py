from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.children import BenchError, mock, run, script
from bench.clients import write_prompts
from bench.loads import Load, _run
from bench.table import Row, markdown_table, quantity, text_table
from bench.times import our_times, percentile, script_times

ROWS = [
    Row(measure="cpu", unit="us", ours=10, script=118, reference=5, reference_is="floor", ratio_goal=1 / 6),
    Row(measure="slow", unit="us", ours=30, script=118, ratio_goal=1 / 6),
    Row(measure="help", unit="s", ours=0.1, goal=0.25),
    Row(measure="lag", unit="ms", ours=0.2),
]


def test_a_goal_is_met_or_missed_and_no_goal_is_neither() -> None:
    assert [row.met for row in ROWS] == [True, False, True, None]


def test_the_text_table_has_a_line_a_row_in_columns() -> None:
    lines = text_table(ROWS).splitlines()
    assert len(lines) == 5
    assert lines[1].split("  ")[-1].strip() == "yes"
    assert "1/11.8" in lines[1]
    assert "5.00 us (floor)" in lines[1]
    assert lines[2].endswith("missed")
    assert lines[1].index("1/11.8") + len("1/11.8") == lines[2].index("1/3.9") + len("1/3.9")


def test_the_markdown_table_has_as_many_cells_in_every_line() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert len(lines) == 6
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123, "0.12 s"), (12.34, "12.3 s"), (1234.5, "1,234 s"), (-0.5, "-0.50 s"), (float("nan"), "n/a")],
)
def test_quantities(value: float, shown: str) -> None:
    assert quantity(value, "s") == shown


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50, 99, 7)


def test_what_a_child_says_is_shown_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"exit code 3\nout of order"):
        run([sys.executable, "-c", "print('out of order'); raise SystemExit(3)"], tmp_path)


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not finished"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, timeout_s=0.2)


def test_the_clients_read_what_the_mock_sends(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path, 6)
    log = tmp_path / "log.jsonl"
    with mock(tmp_path / "mock", "--ttft", "5", "--itl", "1", "--log", str(log)) as url:
        spent = run([*script("openai_script.py"), str(prompts), url, "answers.jsonl", "3", "8"], tmp_path)
        run([*script("floor.py"), str(prompts), url, "3", "8"], tmp_path)
    assert spent.cpu_s > 0
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 6
    assert all(answer["text"] and answer["usage"]["completion_tokens"] == 8 for answer in answers)
    printed = [path.read_text().strip() for path in sorted(tmp_path.glob("output-*.txt"))]
    assert printed == ["", str(6 * (8 + 3))]  # role, finish reason and usage have events of their own
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    times = script_times(tmp_path / "answers.jsonl", entries[:6])
    assert min(times["first_lag"]) > 0
    assert min(times["ttft"]) > 5


def test_our_times_are_joined_by_request_id(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"sessions": [{"anchor_ns": 1_000_000}]}))
    record = {
        "response": {"headers": {"x-request-id": "b"}},
        "sent_at": 0,
        "first_token_at": 9_000_000,
        "chunk_us": [0, 1000, 3000],
    }
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    wanted: dict[str, Any] = {"request_id": "b", "received_ns": 2_000_000, "first_token_sent_ns": 9_500_000}
    times = our_times(tmp_path, [{"request_id": "a"}, wanted | {"token_us": [0, 1000, 2000]}])
    assert times == {
        "first_lag": [0.5],
        "lag": [0.5, 0.5, 1.5],
        "ttft": [9.0],
        "true_ttft": [7.5],
        "itl": [1.0, 2.0],
        "true_itl": [1.0, 1.0],
    }


def test_a_load_says_how_many_events_and_how_late_their_times_are(tmp_path: Path) -> None:
    load = Load("tiny", streams=4, gap_ms=1, tokens=20, requests=1)
    result = _run(tmp_path, load, workers=1, tokens=20)
    assert result.events == 4 * 20
    assert result.lag_p50 is not None
    assert result.lag_p50 >= 0  # no token is seen before it was sent
    assert result.peak_mb > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert result.word == summary["bench"]["validity"]["level"]
