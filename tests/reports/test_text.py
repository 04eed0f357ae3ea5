"""What a reader sees, in each format, for no run, one, and several."""

import csv
import io
import json
from typing import Any

import pytest

from reports.cells import duration, number, percentile
from reports.distribution import Distribution
from reports.formats import COLUMNS, RENDERERS
from reports.metrics import summarize
from reports.text import WIDTH
from runner.record import ErrorKind

SCENARIO = {
    "target": {"base_url": "http://127.0.0.1:8080/v1", "model": "smol", "api": "chat"},
    "params": {"temperature": 0},
    "max_tokens": 16,
    "system": "Be brief.\nBe kind.",
    "samples": 2,
}


def test_a_finished_run(write: Any, record: Any) -> None:
    run = write([record(i) for i in range(200)], scenario=SCENARIO, prompts=200)
    lines = RENDERERS["text"]([summarize(run)]).splitlines()
    assert lines[0] == "200 of 200 answered · 0 failed · 2.0 s · 500.0 tokens/s"
    text = "\n".join(lines)
    assert "smol at http://127.0.0.1:8080/v1 (chat)" in text
    assert "max_tokens=16 temperature=0" in text
    assert "Be brief. Be kind." in text
    row = next(line for line in lines if line.split()[:1] == ["ttft"])
    assert row.split() == ["ttft", "200", "10.00", "10.00", "10.00", "~10.00", "10.00", "10.00"]
    assert f"streamgauge export {run}" in text
    assert "next" not in text
    assert "inf" not in text


def test_a_run_with_everything_wrong_fits_the_width(
    write: Any, record: Any, failed: Any, session: Any
) -> None:
    run = write(
        [
            record(0, usage=None, usage_source="none"),
            record(1, chunk_us=[0, 0, 0]),
            record(2, streamed=False, first_token_at=None, last_token_at=None),
            b"{",
            failed(3),
            failed(3),
            *(failed(10 + i, kind, retryable=False) for i, kind in enumerate(ErrorKind)),
            record(5, status="cancelled", cancelled_by="user", ended_at=None),
        ],
        scenario=SCENARIO,
        sessions=[session(1, ended_at=None, ended_by=None), session(2)],
        prompts=1_000,
    )
    text = RENDERERS["text"]([summarize(run)])
    flat = " ".join(text.split())
    assert text.startswith("3 of 1,000 answered · 20 failed · 1 cancelled · 976 not sent · ")
    assert "in 2 sessions" in text.splitlines()[0]
    for said in (
        "n/a (needs 100)",
        "itl percentiles are withheld",
        "came whole, not streamed",
        "token counts are of 2 of 3 answers",
        "1 bad line left out: records.jsonl at byte",
        "1 journal line: earlier results",
        "session 1 wrote no end",
        "the same command again sends the 978 that are missing",
        "19 failed for good: the same command with --retry-failed",
        "no answer as inf",
        "the bill may be larger",
    ):
        assert said in flat, said
    # The run's own path is as long as it is; nothing else may be wider.
    assert [line for line in text.splitlines() if len(line) > WIDTH and str(run) not in line] == []


def test_no_records_yet(write: Any) -> None:
    text = RENDERERS["text"]([summarize(write([], prompts=7))])
    assert text.startswith("no records yet · 7 requests to send\n")
    assert "Times" not in text
    assert "no records yet" in RENDERERS["markdown"]([summarize(write([], name="other"))])


@pytest.mark.parametrize("form", RENDERERS)
def test_no_runs(form: str) -> None:
    assert RENDERERS[form]([])


def test_runs_stand_side_by_side(write: Any, record: Any) -> None:
    runs = [write([record(i) for i in range(n)], name=f"run-{n}") for n in (3, 30)]
    summaries = [summarize(run) for run in runs]
    text = RENDERERS["text"](summaries)
    lines = text.splitlines()
    assert "run-3: 3 of 3 answered · 0 failed · 2.0 s · 7.50 tokens/s" in " ".join(text.split())
    assert ["run-3", "run-30"] in [line.split() for line in lines]
    assert next(line for line in lines if "ttft  p90" in line).split("  ")[-1].strip() == "~10.00"
    assert "n/a (needs 10)" in text
    markdown = RENDERERS["markdown"](summaries)
    assert "|  | run-3 | run-30 |" in markdown
    assert "| ttft  n | 3 | 30 |" in markdown


def test_many_runs_are_broken_into_tables_that_fit(write: Any, record: Any) -> None:
    summary = summarize(write([record()]))
    text = RENDERERS["text"]([summary] * 12)
    table = [line for line in text.splitlines() if str(summary.path) not in line]
    assert max(map(len, table)) <= WIDTH
    assert sum("answered  " in line for line in table) > 1
    assert "12: run" in text


def test_markdown_of_one_run(write: Any, record: Any, failed: Any) -> None:
    scenario = SCENARIO | {"system": "a | b <script>"}
    text = RENDERERS["markdown"]([summarize(write([record(0), failed(1)], scenario=scenario))])
    assert "**1 of 2 answered · 1 failed" in text
    assert r"a \| b &lt;script&gt;" in text
    assert "| ttft | 1 | 10.00 | n/a (needs 10) |" in text
    assert "| 1 | 2026-01-01T00:00:00Z | 2.0 s | 1 | 1 |" in text
    assert "### Next" in text


def test_csv_is_a_row_a_run_and_metric(write: Any, record: Any, failed: Any) -> None:
    summaries = [
        summarize(write([*(record(i) for i in range(10)), *(failed(20 + i) for i in range(10))], name="a")),
        summarize(write([record(0)], name="b")),
    ]
    rows = list(csv.DictReader(io.StringIO(RENDERERS["csv"](summaries))))
    assert tuple(rows[0]) == COLUMNS
    by = {(row["run"].rsplit("/", 1)[-1], row["metric"]): row for row in rows}
    assert len(by) == len(rows)
    ttft = by["a", "ttft"]
    assert (ttft["n"], ttft["p50"], ttft["p90"], ttft["p95"]) == ("10", "10.0", "10.0", "")
    assert (ttft["n_with_failures"], ttft["p50_with_failures"], ttft["p90_with_failures"]) == (
        "20",
        "10.0",
        "inf",
    )
    assert (by["a", "errors"]["value"], by["b", "errors"]["value"]) == ("0.5", "0.0")
    assert by["a", "completion_tokens"]["value"] == "50"
    assert by["b", "reasoning_tokens"]["value"] == ""


def test_json_is_the_summary_or_a_list(write: Any, record: Any) -> None:
    summary = summarize(write([record()]))
    one = json.loads(RENDERERS["json"]([summary]))
    assert one["summary_version"] == 3
    assert one["metrics"]["ttft"]["percentiles"] == {"p50": 10.0, "p90": None, "p95": None, "p99": None}
    assert json.loads(RENDERERS["json"]([summary, summary])) == [one, one]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.000"),
        (0.00042, "0.00042"),
        (0.0421, "0.042"),
        (1.5, "1.50"),
        (123.456, "123.5"),
        (98_765.4, "98,765"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_percentile_says_why_it_is_missing() -> None:
    def of(n: int, value: float | None, withheld: str | None = None) -> Distribution:
        return Distribution(
            unit="ms", n=n, exact=True, resolution=None, mean=1, stdev=1, min=1, max=1,
            percentiles={"p99": value}, withheld=withheld,
        )  # fmt: skip

    assert percentile(of(99, None), 99) == "n/a (needs 100)"
    assert percentile(of(100, 1.0), 99) == "~1.00"
    assert percentile(of(662, 1.0), 99) == "1.00"
    assert percentile(of(662, None, "why"), 99) == "withheld"
    assert percentile(of(0, None), 99) == "-"
