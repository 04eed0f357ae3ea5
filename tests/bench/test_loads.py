"""What `make loads` reads of a bench."""

from __future__ import annotations

from pathlib import Path

from bench.loads import word_of
from reports.formats import to_json
from reports.metrics import summarize

GOLDEN = Path(__file__).parent.parent / "reports" / "schema-3"


def test_the_bench_s_own_word_is_that_of_its_summary(tmp_path: Path) -> None:
    summary = summarize(GOLDEN)
    assert summary.bench is not None
    summary.bench.validity.level = "WARN"  # which its exit code does not tell
    (tmp_path / "summary.json").write_text(to_json([summary]), encoding="utf-8")
    assert word_of(tmp_path) == "WARN"
