"""What was paid for: of accepted answers, and apart from them of everything else. All sums on paper."""

from typing import Any

import pytest

from reports.metrics import summarize
from reports.paid import STALE
from runner.record import Connection, Error, ErrorKind

MS = 1_000_000
PRICES = {"prices": {"*": {"input": 1.0, "output": 2.0}}}
CUT = {
    "status": "cancelled",
    "cancelled_by": "stop_rule",
    "finish_reason": None,
    "usage": None,
    "usage_source": "none",
}


def test_costs_of_good_answers(write: Any, record: Any) -> None:
    cost = summarize(
        write(
            [
                record(0, cost=0.5, cost_source="provider"),
                record(1, cost=0.25, cost_source="prices"),
                record(2, cost=0.0, cost_source="prices"),
                record(3),
                record(4, phase="warmup", cost=100.0, cost_source="prices"),
            ]
        )
    ).cost
    assert (cost.answers, cost.answers_known, cost.accepted) == (4, 3, 0.75)
    assert cost.sources == {"provider": 1, "prices": 2}
    assert (cost.lost_attempts, cost.lost, cost.lost_at_most, cost.total) == (0, None, None, 0.75)
    assert cost.at_most is None  # of one answer nothing is known
    assert not cost.priced


def test_nobody_said(write: Any, record: Any, session: Any) -> None:
    cost = summarize(write([record(0)], sessions=[session(options=PRICES)])).cost
    assert (cost.accepted, cost.lost, cost.total, cost.at_most) == (None, None, None, None)
    assert cost.priced
    empty = summarize(write([], name="empty")).cost
    assert (empty.answers, empty.total, empty.at_most) == (0, None, None)


def test_what_else_was_paid_for(write: Any, record: Any, failed: Any, attempt: Any) -> None:
    run = write(
        [
            record(
                0,
                cost=1.0,
                cost_source="prices",
                attempts=[
                    attempt(ErrorKind.TRUNCATED, cost=0.25, cost_source="prices", cost_bound=0.5),
                    attempt(ErrorKind.TIMEOUT, cost_bound=0.5),
                    # These cost nothing: a refusal, a dead connection, no connection.
                    attempt(ErrorKind.RATE_LIMIT, error=Error(ErrorKind.RATE_LIMIT, "no", http_status=429)),
                    attempt(ErrorKind.DISCONNECTED, STALE),
                    attempt(ErrorKind.CONNECT, sent_at=None),
                ],
            ),
            failed(1, ErrorKind.TRUNCATED, cost=0.125, cost_source="prices", cost_bound=2.0),
            failed(2, ErrorKind.BAD_REQUEST, http_status=400),
            failed(3, ErrorKind.DISCONNECTED, connection=Connection(reused=True)),
            record(4, status="cancelled", cancelled_by="user", cost_bound=0.75, usage=None),
        ]
    )
    cost = summarize(run).cost
    assert (cost.answers, cost.accepted) == (1, 1.0)
    assert (cost.lost_attempts, cost.lost_known, cost.lost_unknown) == (9, 2, 0)
    assert (cost.lost, cost.lost_at_most) == (0.375, 3.75)
    assert (cost.total, cost.at_most) == (1.375, 4.75)
    assert cost.broken_off == 2


def test_what_may_have_been_worked_for_is_not_free(write: Any, record: Any, failed: Any) -> None:
    slow = {"sent_at": 1000 * MS, "ended_at": 3000 * MS}
    lines = [
        record(0, cost=1.0, cost_source="prices"),
        failed(1, ErrorKind.SERVER_ERROR, http_status=504),
        failed(2, ErrorKind.TIMEOUT, http_status=408),
        failed(3, ErrorKind.DISCONNECTED, connection=Connection(reused=True), **slow),
        failed(4, ErrorKind.OVERLOADED, http_status=503),
    ]
    cost = summarize(write(lines)).cost
    assert (cost.lost_attempts, cost.lost_unknown, cost.at_most) == (4, 3, None)


def test_without_a_bound_nobody_knows_the_most(write: Any, record: Any, failed: Any) -> None:
    told = failed(1, ErrorKind.TRUNCATED, cost=0.125, cost_source="provider")
    cost = summarize(write([record(0, cost=1.0, cost_source="provider"), told])).cost
    # The stream told a cost before it broke: the bill may be higher, and no price says by how much.
    assert (cost.lost, cost.lost_unknown, cost.lost_at_most, cost.at_most) == (0.125, 0, None, None)
    silent = summarize(write([failed(0, ErrorKind.TRUNCATED)], name="silent")).cost
    assert (silent.lost, silent.lost_unknown, silent.total) == (None, 1, None)


def test_superseded_results_are_counted_with_what_failed(
    write: Any, record: Any, failed: Any, attempt: Any
) -> None:
    run = write(
        [
            record(0, cost=1.0, cost_source="prices", finish_reason="length"),
            failed(1, cost_bound=0.5, usage_partial={"prompt_tokens": 3}),
            record(2, cost=4.0, cost_source="prices"),
            record(
                0,
                session=2,
                cost=2.0,
                cost_source="prices",
                attempts=[attempt(ErrorKind.TRUNCATED, cost=0.25, cost_source="prices", cost_bound=0.25)],
            ),
            record(1, session=2, cost=8.0, cost_source="prices"),
            # The answer that was there wins over the failure to get another one.
            failed(2, session=2, kind=ErrorKind.BAD_REQUEST, http_status=400),
        ]
    )
    summary = summarize(run)
    cost, tokens = summary.cost, summary.tokens
    assert (summary.requests.ok, summary.requests.error, summary.journal.lines) == (3, 0, 6)
    assert (cost.answers, cost.answers_known, cost.accepted) == (3, 3, 14.0)
    assert (cost.lost_attempts, cost.lost_known, cost.lost_unknown) == (4, 2, 0)
    assert (cost.lost, cost.lost_at_most, cost.total, cost.at_most) == (1.25, 1.75, 15.25, 15.75)
    assert (tokens.answers, tokens.prompt, tokens.completion) == (3, 21, 15)
    assert (tokens.lost_attempts, tokens.lost_with_usage) == (4, 2)
    assert (tokens.lost_prompt, tokens.lost_completion) == (10, 5)
    assert cost.broken_off == 1


def test_warm_up_and_damage_among_superseded_lines(write: Any, record: Any) -> None:
    damaged = b'{"id":"%s","index":0,"sample":0,"session":1,"status":"ok","cost":"free"}'
    first = record(0, phase="warmup", cost=1.0, cost_source="prices")
    run = write([first, damaged % first.id.encode(), record(0, session=2)])
    summary = summarize(run)
    assert (summary.cost.lost_attempts, summary.tokens.lost_attempts) == (0, 0)
    assert (summary.journal.bad_count, summary.journal.damaged_ids) == (1, [first.id])


def test_an_answer_cut_on_purpose_is_accepted(write: Any, record: Any) -> None:
    partial = {"prompt_tokens": 7, "completion_tokens": 2}
    run = write(
        [
            record(0, cost=1.0, cost_source="prices"),
            record(1, **CUT, usage_partial=partial, cost=0.5, cost_source="prices", cost_bound=2.0),
            record(2, **CUT, cost_bound=4.0),
        ],
        prompts=3,
    )
    summary = summarize(run)
    cost, tokens, requests = summary.cost, summary.tokens, summary.requests
    assert (requests.ok, requests.cancelled, requests.cut, requests.answered) == (1, 2, 2, 3)
    assert (cost.answers, cost.answers_known, cost.accepted) == (3, 2, 1.5)
    assert (cost.lost_attempts, cost.lost, cost.total, cost.at_most) == (0, None, 1.5, 7.0)
    assert cost.broken_off == 2
    assert (tokens.answers, tokens.with_usage, tokens.completion) == (3, 2, 7)
    assert tokens.sources == {"server": 2, "none": 1}
    assert tokens.lost_attempts == 0
    assert summary.metrics["ttft"].n == 1
    assert (summary.sessions[0].cancelled, summary.sessions[0].cut) == (2, 2)


@pytest.mark.parametrize(
    ("timer", "ours"), [("total", 1), ("first_token", 1), (None, 1), ("server", 0), ("connect", 0)]
)
def test_who_ended_a_stream_that_timed_out(write: Any, record: Any, timer: Any, ours: int) -> None:
    late = record(
        0, status="error", error=Error(ErrorKind.TIMEOUT, "late", timer=timer), finish_reason=None, usage=None
    )
    assert summarize(write([late])).cost.broken_off == ours
