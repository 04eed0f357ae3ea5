"""Run directories of schema 1 (before costs and endpoints) and 2 (before benches) are read as they are."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reports.export import export_dataset
from reports.formats import RENDERERS
from reports.frame import load
from reports.metrics import summarize
from reports.pilot import estimate, render_pilot
from runner.record import Record
from runner.store import build_index, load_manifest, read_blocks, read_superseded


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "schema-1", tmp_path / "old"))


def test_it_is_what_it_says(old: Path) -> None:
    text = (old / "records.jsonl").read_text()
    assert load_manifest(old).schema_version == 1
    assert not any(name in text for name in ("cost", "base_url"))


def test_records(old: Path) -> None:
    index = build_index(old)
    winners = [record for block in read_blocks(index, Record) for record in block]
    lost = [record for block in read_superseded(index, Record) for record in block]
    assert {record.index: (record.status, record.session) for record in winners} == {
        0: ("ok", 1),
        1: ("ok", 1),
        2: ("ok", 2),
        3: ("error", 1),
        4: ("ok", 2),
    }
    assert [(record.index, record.status) for record in lost] == [(2, "error"), (4, "cancelled")]
    retried = next(record for record in winners if record.index == 1)
    assert [(attempt.error.kind, attempt.cost) for attempt in retried.attempts] == [
        ("rate_limit", None),
        ("truncated", None),
    ]
    assert (retried.cost, retried.cost_source, retried.connection.base_url) == (None, "none", None)


def test_summary(old: Path) -> None:
    summary = summarize(old)
    requests, tokens, cost = summary.requests, summary.tokens, summary.cost
    assert (requests.ok, requests.error, requests.cancelled, requests.answered) == (4, 1, 0, 4)
    assert (tokens.answers, tokens.prompt, tokens.completion, tokens.cached) == (4, 70, 27, 8)
    # Two attempts, a refusal, and the two results that session 2 replaced.
    assert (tokens.lost_attempts, tokens.lost_prompt, tokens.lost_completion) == (5, 35, 4)
    assert (cost.priced, cost.accepted, cost.lost, cost.total, cost.at_most) == (
        False,
        None,
        None,
        None,
        None,
    )
    assert (cost.lost_unknown, cost.broken_off) == (3, 2)
    assert (summary.endpoints, summary.proxies, summary.metrics["ttft"].n) == ([], {}, 4)


def test_reports(old: Path) -> None:
    summary = summarize(old)
    text = RENDERERS["text"]([summary])
    assert text.startswith("4 of 5 answered · 1 failed · 2 min 10 s in 2 sessions · 27 tokens\n")
    assert "1 failed for good: the same command with --retry-failed" in " ".join(text.split())
    assert "  cost " not in text
    for form in RENDERERS:
        assert RENDERERS[form]([summary, summary])


def test_frame(old: Path) -> None:
    table = load(old)
    assert table["status"].tolist() == ["ok", "ok", "ok", "error", "ok"]
    assert table["attempts"].tolist() == [1, 3, 1, 1, 1]
    assert table["cost"].isna().all()


def test_exports(old: Path) -> None:
    result = export_dataset(old)
    assert (result.rows, result.skipped) == (4, {"error": 1})
    assert result.path is not None
    rows = [json.loads(line) for line in result.path.read_text().splitlines()]
    assert [row["answer"] for row in rows] == [
        "A low dam.",
        "The Severn.",
        "The water level.",
        "Groundwater that keeps a",
    ]
    assert "cost" not in rows[0]
    parquet = export_dataset(old, to="parquet").path
    assert parquet is not None
    assert pd.read_parquet(parquet)["question"].tolist()[0] == "What is a weir?"
    batch = export_dataset(old, to="openai-batch")
    assert (batch.rows, batch.error_rows) == (4, 1)
    assert export_dataset(old, status="error").rows == 1


def test_pilot(old: Path) -> None:
    found = estimate(old, 1, 100, 4)
    assert (found.requests, found.failed, found.cost.total) == (4, 2, None)
    assert "cost unknown time" in " ".join(render_pilot(found).split())


def test_schema_2_is_read_with_its_costs_and_endpoints() -> None:
    run = Path(__file__).parent / "schema-2"
    assert load_manifest(run).schema_version == 2
    assert "held_ns" not in (run / "records.jsonl").read_text()
    summary = summarize(run)
    assert (summary.requests.ok, summary.attempts.earlier, summary.bench) == (4, 1, None)
    assert summary.cost.total == pytest.approx(19e-6)  # 9 tokens in, 5 out
    assert [endpoint.ok for endpoint in summary.endpoints] == [4]
    assert load(run)["status"].tolist() == ["ok"] * 4
    for form in RENDERERS:
        assert RENDERERS[form]([summary])
