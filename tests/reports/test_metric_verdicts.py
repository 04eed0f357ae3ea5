"""METRICS' steps from an estimate to a verdict, at their edges."""

from __future__ import annotations

import pytest

from reports.bench import Outcome
from reports.estimate import Counted, Estimate
from reports.evidence import Evidence
from reports.gates import gates
from reports.metric_verdicts import judge, verdicts


def estimate(mean: float, error: float, counted: Counted | None = None) -> Estimate:
    return Estimate(mean=mean, error=error, freedom=5, method="paired t", n=6, counted=counted)


WIDE = Counted(low=0.001, high=0.2, p=0.01)


@pytest.mark.parametrize(
    ("found", "p_holm", "outcome"),
    [
        (estimate(0.05, 0.01), 0.001, "PASS"),  # a regression, and smaller than the allowed one
        (estimate(0.15, 0.01), 0.025, "FAIL"),
        (estimate(0.15, 0.01), 0.026, "INCONCLUSIVE"),  # not among all metrics
        (estimate(0.15, 0.09), 0.001, "INCONCLUSIVE"),  # the lower bound is below 0
        (estimate(0.051, 0.001, WIDE), 0.01, "FAIL"),
        (estimate(0.049, 0.001, WIDE), 0.01, "INCONCLUSIVE"),  # above 0, and not half of the limit
    ],
)
def test_pass_then_fail_then_neither(found: Estimate, p_holm: float, outcome: Outcome) -> None:
    assert judge(found, 0.10, p_holm) == outcome


def test_more_pairs_are_said_to_be_needed_where_more_is_judged() -> None:
    """A FAIL is held against Holm's share of 2.5 %: a quarter of it for the first of four."""
    ttft, *others = (
        Evidence(gate=gate, base=[100.0], new=[100.0], base_counts=(1, 9), new_counts=(1, 9), pairs=6)
        for gate in gates(None, {}, {})
    )
    ttft.estimate = estimate(0.12, 0.06)
    for one in others:
        one.estimate = estimate(0.0, 0.06)
    [alone], among = verdicts([ttft]), verdicts([ttft, *others])
    assert alone.verdict == among[0].verdict == "INCONCLUSIVE"
    assert alone.more is not None
    assert among[0].more is not None
    assert among[0].more > alone.more
