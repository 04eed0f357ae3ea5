"""A comparison as rows of verdicts: what JUnit XML and annotations are made of."""

from __future__ import annotations

from reports.comparison import Comparison, MetricVerdict
from reports.verdicts import VALIDITY, Row, Sheet


def sheet_of(comparison: Comparison, name: str) -> Sheet:
    """One row a metric; above them, that there are too few valid runs to judge.

    Args:
        comparison: what was found.
        name: of the command, for the title.
    """
    rows = [_row(one) for one in comparison.verdicts]
    if comparison.unfit is not None:
        dropped = [f"{one.run} is INVALID: {one.words}" for one in comparison.dropped]
        dropped += dict.fromkeys(step for one in comparison.dropped for step in one.next_steps)
        rows.insert(0, Row(name=VALIDITY, verdict="INVALID", words=comparison.unfit, notes=dropped))
    return Sheet(title=_title(comparison, name), rows=rows)


def _title(comparison: Comparison, name: str) -> str:
    runs = [side.runs[0] if side.runs else "no run" for side in (comparison.base, comparison.new)]
    more = " ..." if len(comparison.base.runs) > 1 else ""
    return f"{name}: {runs[0]}{more} -> {runs[1]}{more}"


def _row(one: MetricVerdict) -> Row:
    return Row(name=one.metric, verdict=one.verdict, words=one.words, value=one.effect, limit=one.limit)
