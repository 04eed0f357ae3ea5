"""The pure parts of `make real`: what it reads in the server's texts, and what it refuses to call good."""

from __future__ import annotations

from typing import Any

import pytest

from bench.llama import Reading, reading
from bench.real import (
    BENCH_REQUESTS,
    LONG_TOKENS,
    Table,
    bench_problems,
    cancel_problems,
    count_attempts,
    excerpt,
    findings,
    problems,
    table_lines,
    token_problems,
)

METRICS = """\
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 1.2e+03
llamacpp:n_decode_total 137
llamacpp:requests_processing 1
"""
SLOTS: list[dict[str, Any]] = [
    {"id": 0, "is_processing": False},
    {"id": 1, "is_processing": False, "next_token": [{"n_decoded": 9}]},
    {"id": 2, "is_processing": True, "next_token": [{"n_decoded": 40}]},
]
ZERO = Reading(100, 500, 0, 0, 0)
STALE = {"wait_for": "stale_connection"}


def record(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"id{number}",
        "index": number,
        "status": "ok",
        "error": None,
        "streamed": True,
        "text": "Red.",
        "finish_reason": "stop",
        "sent_at": 1,
        "headers_at": 2,
        "first_token_at": 3,
        "last_token_at": 4,
        "ended_at": 4,
        "chunk_us": [0, 7],
        "usage": {"completion_tokens": 3},
        "response": {"timings": {"predicted_n": 3}},
        "attempts": [],
        "row": {"id": f"r{number}"},
    }
    return {**made, **changes}


def cut(**changes: Any) -> Table:
    moments = {
        "start": Reading(120, 500, 1, 1, 20),
        "later": Reading(180, 500, 1, 1, 80),
        "awaited": Reading(220, 500, 1, 1, 120),
        "closed": Reading(222, 622, 0, 0, 0),
        "last": Reading(222, 622, 0, 0, 0),
    }
    return list({**moments, **changes}.items())


CANCELLED = {"status": "cancelled", "cancelled_by": "user", "text": "Once"}


def test_reads_the_servers_texts() -> None:
    assert reading(METRICS, SLOTS) == Reading(
        decoded=137, predicted=1200, requests=1, busy_slots=1, slot_tokens=40
    )


def test_says_so_when_the_server_has_no_such_figures() -> None:
    with pytest.raises(KeyError, match="n_decode_total"):
        reading("", [])


def test_good_records_are_good() -> None:
    assert problems([record(0), record(1, chunk_us=[0])], 2) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "error", "error": {"message": "HTTP 500: no"}}, "error: HTTP 500: no"),
        ({"status": "cancelled"}, "cancelled: None"),
        ({"streamed": False}, "no streamed text"),
        ({"text": ""}, "no streamed text"),
        ({"finish_reason": None}, "finish reason None"),
        ({"headers_at": None}, "times missing"),
        ({"first_token_at": 5}, "out of order"),
        ({"chunk_us": [7, 0]}, "out of order"),
        ({"chunk_us": []}, "0 chunks for 3 tokens"),
        ({"chunk_us": [0, 1, 2, 3]}, "4 chunks for 3 tokens"),
        ({"usage": None}, "2 chunks for 0 tokens"),
        ({"response": {}}, "the server's timings None"),
    ],
)
def test_a_bad_record_is_named(changes: dict[str, Any], said: str) -> None:
    wrong = problems([record(0), record(1, **changes)], 2)
    assert any(line.startswith("r1: ") and said in line for line in wrong), wrong


def test_a_lost_and_a_doubled_answer_are_seen() -> None:
    assert problems([record(0)], 2) == ["1 lines with 1 ids for 2 prompts"]
    assert problems([record(0), record(0)], 2) == ["2 lines with 1 ids for 2 prompts"]


def test_tokens_must_agree_with_the_server_unless_a_request_was_retried() -> None:
    assert token_problems([record(0), record(1, attempts=[STALE])], 6) == []
    assert token_problems([record(0)], 4) == ["the server generated 4 tokens, the records hold 3"]
    assert token_problems([record(0, attempts=[{"wait_for": "backoff"}])], 4) == []


def pages(*counts: float) -> list[dict[str, Any]]:
    return [
        {"at": 0, "status": 200, "text": f"llamacpp:tokens_predicted_total {count}\n"} for count in counts
    ]


GOOD = [record(n) for n in range(BENCH_REQUESTS)]
MADE = 3 * BENCH_REQUESTS


def test_a_bench_that_agrees_with_the_server() -> None:
    assert bench_problems(GOOD, pages(100, 130, 100 + MADE), MADE, 0) == []
    assert bench_problems(GOOD, pages(100, 130), MADE, 97) == []


@pytest.mark.parametrize(
    ("records", "kept", "made", "code", "said"),
    [
        (GOOD, pages(100, 130), MADE, 1, "ended with code 1"),
        (GOOD[1:], pages(100, 130), MADE, 0, f"records for {BENCH_REQUESTS} requests"),
        ([*GOOD[1:], record(0, text="")], pages(100, 130), MADE, 0, "no streamed text"),
        (GOOD, pages(100, 130), MADE + 1, 0, "the records hold"),
        (GOOD, [*pages(100, 130), {"at": 1, "error": "HTTP 501"}], MADE, 0, "failed: HTTP 501"),
        (GOOD, [*pages(100), {"at": 1, "status": 200, "text": ""}], MADE, 0, "1 of 2 pages"),
        (GOOD, pages(100), MADE, 0, "1 of 1 pages"),
        (GOOD, pages(100, 100), MADE, 0, "from 100 to 100"),
        (GOOD, pages(100, 900), MADE, 0, "from 100 to 900"),
    ],
)
def test_a_bench_that_does_not(
    records: list[dict[str, Any]], kept: list[dict[str, Any]], made: int, code: int, said: str
) -> None:
    wrong = bench_problems(records, kept, made, code)
    assert any(said in line for line in wrong), wrong


def test_resends_and_retries_are_counted_apart() -> None:
    both = [STALE, {"wait_for": "backoff"}]
    records = [record(0), record(1, attempts=[STALE]), record(2, attempts=both)]
    assert count_attempts(records) == (2, 1)
    assert "resent    2 at once" in "\n".join(findings(records, 9))
    assert "resent    0\n" in "\n".join(findings([record(0)], 3))


def test_a_cancel_that_cancelled() -> None:
    assert cancel_problems(cut(), ZERO, CANCELLED, 130, 0.05) == []


@pytest.mark.parametrize(
    ("table", "changes", "code", "idle_s", "said"),
    [
        (cut(later=Reading(120, 500, 1, 1, 20)), {}, 130, 0.05, "did not generate while"),
        (cut(closed=Reading(230, 500, 1, 1, 130)), {}, 130, 10.0, "still at it 10.0 s after"),
        (cut(), {}, 130, 2.5, "still at it 2.5 s after"),
        (cut(last=Reading(260, 660, 0, 0, 0)), {}, 130, 0.05, "went on after the close"),
        (
            cut(last=Reading(222, 500 + LONG_TOKENS, 0, 0, 0)),
            {},
            130,
            0.05,
            f"{LONG_TOKENS} of {LONG_TOKENS}",
        ),
        (cut(), {"status": "ok", "cancelled_by": None}, 130, 0.05, "the record says ok"),
        (cut(), {"text": ""}, 130, 0.05, "holds 0 characters"),
        (cut(), {}, 0, 0.05, "code 0, not 130"),
    ],
)
def test_a_cancel_that_did_not(
    table: Table, changes: dict[str, Any], code: int, idle_s: float, said: str
) -> None:
    wrong = cancel_problems(table, ZERO, {**CANCELLED, **changes}, code, idle_s)
    assert any(said in line for line in wrong), wrong


def test_the_table_counts_from_before_the_request() -> None:
    rows = table_lines(cut(), ZERO)
    assert rows[1].split() == ["start", "20", "0", "1", "1"]
    assert rows[4].split() == ["closed", "122", "122", "0", "0"]
    assert len({len(row) for row in rows[:6]}) == 1


def test_excerpts_are_one_line() -> None:
    assert excerpt(" a\n\n b ", 10) == "a b"
    assert excerpt("abcdefghij", 8) == "abcde..."
