"""What one attempt may be billed: what it cost, on whose word, and the most it can have cost."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from runner.client import Outcome
from runner.prices import Price, cost_of
from runner.record import STALE_NS, CostSource, Error, ErrorKind, refused_unworked
from runner.stream import Stream

Cost = tuple[float | None, CostSource, float | UnsetType]
"""The cost (`None`: unknown), its source, and a bound where the cost is not the last word."""


def attempt_cost(price: Price | None, worst: float, stream: Stream, outcome: Outcome) -> Cost:
    """What an attempt cost.

    Args:
        price: of its model, where there is one.
        worst: the most such a request can cost; 0 where nobody knows.
        stream: the attempt.
        outcome: how it ended.
    """
    cost, source = cost_of(stream.answer.usage, price)
    if outcome.status == "ok" and cost is not None:
        return cost, source, UNSET
    if not worst or not may_be_billed(stream, outcome):
        return cost, source, UNSET
    return cost, source, max(worst, cost or 0.0)


def charged(cost: float | None, _source: CostSource, bound: float | UnsetType) -> float:
    """What an attempt counts for against `--max-cost`."""
    return (cost or 0.0) if isinstance(bound, UnsetType) else bound


def was_stale(stream: Stream, error: Error | None) -> bool:
    """Whether a kept connection had been closed before the request was on it: the server never read it.

    That is known as soon as the bytes are there. A connection that dies later died under work, and the work
    may be billed.
    """
    if error is None or error.kind is not ErrorKind.DISCONNECTED or not stream.reused:
        return False
    if stream.sent_at is None or stream.ended_at is None:
        return True
    return stream.ended_at - stream.sent_at <= STALE_NS


def may_be_billed(stream: Stream, outcome: Outcome) -> bool:
    """Whether a server may have worked for it: it had the request, and did not refuse it beforehand."""
    if stream.sent_at is None:
        return False
    if stream.mode == "refusal" and refused_unworked(stream.status):
        return False
    return not was_stale(stream, outcome.error)
