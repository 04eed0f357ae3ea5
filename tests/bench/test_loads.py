"""What `make loads` reads of a bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.loads import main, word_of
from reports.formats import to_json
from reports.metrics import summarize

GOLDEN = Path(__file__).parent.parent / "reports" / "schema-3"


def test_the_bench_s_own_word_is_that_of_its_summary(tmp_path: Path) -> None:
    summary = summarize(GOLDEN)
    assert summary.bench is not None
    summary.bench.validity.level = "WARN"  # which its exit code does not tell
    (tmp_path / "summary.json").write_text(to_json([summary]), encoding="utf-8")
    assert word_of(tmp_path) == "WARN"


def test_a_name_that_no_load_has_is_no_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--only", "256 lock"])
    assert left.value.code == 2
    assert "256 streams x 40/s, lock-step" in capsys.readouterr().err
