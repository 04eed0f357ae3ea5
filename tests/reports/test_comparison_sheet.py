"""A comparison as the rows that JUnit XML and annotations are made of."""

from __future__ import annotations

from typing import Any

from reports.bench import Outcome
from reports.comparison import Comparison, Dropped, MetricVerdict, Side
from reports.comparison_sheet import sheet_of
from reports.junit import to_junit


def verdict(metric: str, outcome: Outcome) -> MetricVerdict:
    return MetricVerdict(
        metric=metric,
        scale="ratio",
        verdict=outcome,
        words=f"{metric} in words",
        unit="ms",
        higher_is_better=False,
        base=100.0,
        new=120.0,
        change=0.2,
        effect=0.2,
        low=0.1,
        high=0.3,
        limit=0.1,
        p=0.01,
        p_holm=0.02,
        method="paired t",
        pairs=3,
        base_runs=3,
        new_runs=3,
    )


def compared(*verdicts: MetricVerdict, runs: int = 3, **more: Any) -> Comparison:
    sides = [
        Side(
            runs=[f"out/0{n}-{side}" for n in range(1, runs + 1)],
            requests=9,
            finish_reasons={},
            output_tokens_mean=4.0,
        )
        for side in "ab"
    ]
    return Comparison(
        verdict="FAIL", words="", verdicts=list(verdicts), base=sides[0], new=sides[1], paired=True, **more
    )


def test_a_row_a_metric() -> None:
    sheet = sheet_of(compared(verdict("ttft", "FAIL"), verdict("e2e", "PASS")), "ab")
    assert sheet.title == "ab: out/01-a ... -> out/01-b ..."
    assert [(row.name, row.verdict, row.value, row.limit) for row in sheet.rows] == [
        ("ttft", "FAIL", 0.2, 0.1),
        ("e2e", "PASS", 0.2, 0.1),
    ]
    assert sheet.verdict == "FAIL"


def test_too_few_valid_pairs_come_first_with_the_runs_that_were_dropped() -> None:
    dropped = [Dropped(run="out/01-b", side="new", pair="1", words="the loop was late.")]
    sheet = sheet_of(compared(runs=0, unfit="2 of 3 pairs are valid", dropped=dropped), "compare")
    assert sheet.verdict == "INVALID"
    assert sheet.title == "compare: no run -> no run"
    assert "out/01-b is INVALID: the loop was late." in to_junit([sheet])
