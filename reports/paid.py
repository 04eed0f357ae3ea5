"""What was paid for: tokens and cost of accepted answers and, apart from them, of everything else.

Accepted is an answer that is ok or was cut on purpose. The rest ("lost") are failed and cancelled requests,
earlier attempts, and results that a later line of the same request took the place of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct, UnsetType, field

from reports.rows import Row, RowAttempt, accepted
from reports.summary import Cost, TokenTotals
from runner.record import STALE_NS, refused_unworked, tokens

STALE = "stale_connection"  # `Attempt.wait_for` of a resend that is no retry

Billed: TypeAlias = Row | RowAttempt


class Paid(Struct):
    """Both sums while they grow, and what decides whether they have an upper bound."""

    tokens: TokenTotals = field(default_factory=TokenTotals)
    cost: Cost = field(default_factory=Cost)
    accepted_bound: float | None = None
    lost_bound: float | None = None
    accepted_unbounded: int = 0
    lost_unbounded: int = 0

    def finish(self) -> None:
        """Work out the totals."""
        cost = self.cost
        cost.total = plus(cost.accepted, cost.lost)
        if not self.lost_unbounded:
            cost.lost_at_most = self.lost_bound
            if not self.accepted_unbounded:
                cost.at_most = plus(self.accepted_bound, self.lost_bound)


def plus(total: float | None, more: float | None) -> float | None:
    """A sum in which `None` is "nobody said", not 0."""
    if more is None:
        return total
    return more if total is None else total + more


def plus_count(total: int | None, more: int | None) -> int | None:
    """The same of whole numbers."""
    if more is None:
        return total
    return more if total is None else total + more


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [n for n in counts if n is not None]
    return sum(known) if known else None


def bound(paid: Billed) -> float | None:
    """The most an attempt can have cost; `None` where nobody can say, or it cost nothing.

    Without a bound of its own the cost of a good answer is final; of another one it is what was told so far.
    """
    if not isinstance(paid.cost_bound, UnsetType):
        return paid.cost_bound
    good = isinstance(paid, Row) and paid.status == "ok"
    return paid.cost if good or not may_be_billed(paid) else None


def may_be_billed(paid: Billed) -> bool:
    """Whether a server may have worked for it: it had the request, and did not refuse it beforehand."""
    error = paid.error
    if paid.sent_at is None:
        return False
    if error is None:
        return True
    if refused_unworked(error.http_status):
        return False
    # A kept connection that the server had closed already: the request was never read.
    if isinstance(paid, RowAttempt):
        return paid.wait_for != STALE
    stale = error.kind == "disconnected" and paid.connection.reused
    return not (stale and (paid.ended_at or paid.sent_at) - paid.sent_at <= STALE_NS)


def _broken_off(paid: Billed) -> bool:
    """Whether this side closed the connection on an answer that may have been under way."""
    if paid.sent_at is None:
        return False
    if isinstance(paid, Row) and paid.status == "cancelled":
        return True
    error = paid.error
    return error is not None and error.kind == "timeout" and error.timer not in {"connect", "server"}


def count_accepted(to: Paid, rows: Sequence[Row]) -> None:
    """Take the accepted answers of a block of winning records."""
    sums, cost = to.tokens, to.cost
    answers = [row for row in rows if accepted(row.status, row.cancelled_by)]
    counts = [tokens(row.usage or row.usage_partial) for row in answers]
    sums.answers += len(answers)
    sums.with_usage += sum(count.completion is not None for count in counts)
    for row, count in zip(answers, counts, strict=True):
        told = count.prompt is not None or count.completion is not None
        # What a cut stream told on its way is the server's word as well.
        source = row.usage_source if row.status == "ok" else "server" if told else "none"
        sums.sources[source] = sums.sources.get(source, 0) + 1
    sums.prompt = plus_count(sums.prompt, _sum(count.prompt for count in counts))
    sums.completion = plus_count(sums.completion, _sum(count.completion for count in counts))
    sums.reasoning = plus_count(sums.reasoning, _sum(count.reasoning for count in counts))
    sums.cached = plus_count(sums.cached, _sum(count.cached for count in counts))
    cost.answers += len(answers)
    for source, n in Counter(row.cost_source for row in answers if row.cost is not None).items():
        cost.sources[source] = cost.sources.get(source, 0) + n
    for row in answers:
        cost.answers_known += row.cost is not None
        cost.accepted = plus(cost.accepted, row.cost)
        most = bound(row)
        to.accepted_bound = plus(to.accepted_bound, most)
        to.accepted_unbounded += most is None
        cost.broken_off += row.status != "ok" and _broken_off(row)


def _lost(rows: Iterable[Row], superseded: bool) -> Iterator[Billed]:
    for row in rows:
        yield from row.attempts
        if superseded or not accepted(row.status, row.cancelled_by):
            yield row


def count_lost(to: Paid, rows: Iterable[Row], *, superseded: bool = False) -> None:
    """Take everything else: of superseded records all, of winning ones what is no accepted answer."""
    sums, cost = to.tokens, to.cost
    for paid in _lost(rows, superseded):
        usage = paid.usage_partial or (paid.usage if isinstance(paid, Row) else None)
        count = tokens(usage)
        sums.lost_attempts += 1
        sums.lost_with_usage += count.prompt is not None or count.completion is not None
        sums.lost_prompt = plus_count(sums.lost_prompt, count.prompt)
        sums.lost_completion = plus_count(sums.lost_completion, count.completion)
        most = bound(paid)
        unbounded = most is None and may_be_billed(paid)
        cost.lost_attempts += 1
        cost.lost_known += paid.cost is not None
        cost.lost_unknown += unbounded and paid.cost is None
        cost.lost = plus(cost.lost, paid.cost)
        cost.broken_off += _broken_off(paid)
        to.lost_bound = plus(to.lost_bound, most)
        to.lost_unbounded += unbounded
