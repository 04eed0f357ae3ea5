"""Every metric against records whose numbers were worked out by hand."""

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest

from reports.metrics import summarize
from reports.paid import STALE
from reports.summary import RATES, TIMES, Summary
from runner.record import Connection, ErrorKind
from runner.store import CURRENT

MS = 1_000_000


def mean(summary: Summary, name: str) -> float | None:
    return summary.metrics[name].mean


def test_every_metric_of_one_answer(write: Any, record: Any) -> None:
    summary = summarize(write([record()]))
    assert {name: mean(summary, name) for name in (*TIMES, *RATES)} == {
        "ttft": 10.0,
        "ttft_sched": 12.0,
        "ttfc": 20.0,
        "ttfb": 7.0,
        "itl": 20.0,
        "tpot": 10.0,
        "e2e": 51.0,
        "e2e_sched": 53.0,
        "delay": 2.0,
        "connect": 1.5,
        "stall": 30.0,
        "output_rate": 125.0,
    }
    itl = summary.metrics["itl"]
    assert (itl.n, itl.min, itl.max, itl.unit, itl.exact) == (2, 10.0, 30.0, "ms", True)
    assert summary.metrics["output_rate"].unit == "tokens/s"


def test_gaps_are_pooled_within_streams_and_never_across(write: Any, record: Any) -> None:
    run = write(
        [
            record(0, chunk_us=[0, 5_000]),
            record(1, chunk_us=[0]),
            record(2, chunk_us=msgspec.UNSET),
            record(3, chunk_us=[]),
            record(4, chunk_us=[0, 1_000, 8_000]),
        ]
    )
    summary = summarize(run)
    itl, stall = summary.metrics["itl"], summary.metrics["stall"]
    assert (itl.n, itl.min, itl.max) == (3, 1.0, 7.0)
    assert itl.mean == pytest.approx(13 / 3)
    assert (stall.n, stall.min, stall.max) == (2, 5.0, 7.0)
    assert summary.chunks.total == 6


@pytest.mark.parametrize(
    ("changes", "tpot", "rate"),
    [
        ({"usage": None, "usage_source": "none"}, None, None),
        ({"usage": {"completion_tokens": 5}, "usage_source": "none"}, None, None),
        ({"usage": {"completion_tokens": 5}, "usage_source": "tokenizer"}, 10.0, 125.0),
        ({"usage": {"completion_tokens": 1}}, None, 25.0),
        ({"usage": {"completion_tokens": 0}}, None, None),
        ({"usage": {"completion_tokens": "5"}}, None, None),
        ({"usage": {"completion_tokens": True}}, None, None),
        ({"usage": {"prompt_tokens": 5}}, None, None),
        ({"choices": [{"index": 0}, {"index": 1}]}, None, None),
        # 9 tokens, 4 of them reasoning: without reasoning text the stream showed 5, with it 9.
        (
            {"usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}},
            10.0,
            125.0,
        ),
        (
            {
                "usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}},
                "reasoning": "hm",
            },
            5.0,
            225.0,
        ),
        # A server whose reasoning count is beside, not inside, the completion: no count to trust.
        (
            {"usage": {"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}}},
            None,
            None,
        ),
        ({"last_token_at": 13 * MS}, None, None),
    ],
)
def test_tokens_of_a_stream(
    write: Any, record: Any, changes: dict[str, Any], tpot: float | None, rate: float | None
) -> None:
    summary = summarize(write([record(**changes)]))
    assert (mean(summary, "tpot"), mean(summary, "output_rate")) == (tpot, rate)


def test_latencies_are_of_measured_streamed_answers(write: Any, record: Any, failed: Any) -> None:
    run = write(
        [
            record(0),
            record(1, streamed=False, first_token_at=None, last_token_at=None, chunk_us=msgspec.UNSET),
            record(2, phase="warmup", first_token_at=500 * MS),
            failed(3),
            record(4, status="cancelled", cancelled_by="user"),
        ]
    )
    summary = summarize(run)
    assert {summary.metrics[name].n for name in ("ttft", "e2e", "delay", "connect", "stall")} == {1}
    requests = summary.requests
    assert (requests.total, requests.ok, requests.error, requests.cancelled) == (4, 2, 1, 1)
    assert (requests.warmup, requests.not_streamed) == (1, 1)
    assert requests.errors_share == pytest.approx(1 / 3)


def test_failures_count_as_infinity_in_the_second_reading(write: Any, record: Any, failed: Any) -> None:
    answers = [record(i, first_token_at=(4 + i) * MS) for i in range(8)]  # ttft 1..8 ms
    others = [
        failed(100),
        record(101, status="cancelled", cancelled_by="deadline"),
        record(102, status="cancelled", cancelled_by="user"),
    ]
    summary = summarize(write([*answers, *others]))
    second = summary.metrics["ttft"].with_failures
    assert second is not None
    # 8 values and 2 failures: the user's own cancel is neither. Nearest rank: p50 is the 5th, p90 the 9th.
    assert (second.n, second.failures) == (10, 2)
    assert second.percentiles == {"p50": 5.0, "p90": "inf", "p95": None, "p99": None}
    assert summary.metrics["ttft"].percentiles["p50"] == 4.5
    assert summary.metrics["delay"].with_failures is None
    assert summary.metrics["itl"].with_failures is None


def test_counts(write: Any, record: Any, failed: Any) -> None:
    run = write(
        [
            record(0),
            record(1, finish_reason="length", connection=Connection(reused=True)),
            record(2, finish_reason=None, connection=Connection()),
            failed(3, ErrorKind.RATE_LIMIT),
            failed(4, ErrorKind.AUTH, retryable=False),
            record(5, status="cancelled", cancelled_by="user"),
            record(6, status="cancelled", cancelled_by="stop_rule"),
        ],
        prompts=9,
    )
    requests = summarize(run).requests
    assert requests.error_kinds == {"rate_limit": 1, "auth": 1}
    # The user's cancel and the retryable error go again; the stop rule settled its own.
    assert (requests.again, requests.failed_for_good) == (2, 1)
    assert requests.cancelled_by == {"user": 1, "stop_rule": 1}
    assert requests.finish_reasons == {"stop": 1, "length": 1, "none": 1}
    assert (requests.expected, requests.unsent, requests.outside) == (9, 2, None)
    connections = summarize(run).connections
    assert (connections.opened, connections.reused, connections.reused_share) == (5, 1, 1 / 6)


def test_attempts_and_what_they_cost(write: Any, record: Any, failed: Any, attempt: Any) -> None:
    run = write(
        [
            record(0, attempts=[attempt(ErrorKind.RATE_LIMIT), attempt(ErrorKind.OVERLOADED)]),
            record(1, attempts=[attempt(ErrorKind.DISCONNECTED, STALE)]),
            record(2, attempts=[attempt(ErrorKind.TRUNCATED, usage_partial={"completion_tokens": 3})]),
            failed(3, usage_partial={"prompt_tokens": 7, "completion_tokens": 2}),
        ]
    )
    summary = summarize(run)
    attempts, tokens = summary.attempts, summary.tokens
    assert (attempts.requests, attempts.earlier, attempts.stale_connection) == (3, 3, 1)
    assert attempts.error_kinds == {"rate_limit": 1, "overloaded": 1, "truncated": 1}
    assert (tokens.lost_attempts, tokens.lost_with_usage) == (5, 2)
    assert (tokens.lost_prompt, tokens.lost_completion) == (7, 5)
    assert tokens.completion == 15


def test_delay_is_of_the_first_attempt(write: Any, record: Any, attempt: Any) -> None:
    run = write([record(sent_at=900 * MS, attempts=[attempt(ErrorKind.OVERLOADED)])])
    assert mean(summarize(run), "delay") == 1.0


def test_token_totals_say_what_they_are_of(write: Any, record: Any) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4.0,
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    run = write(
        [record(0), record(1, usage=usage), record(2, usage=None, usage_source="none")],
        sessions=[],
    )
    tokens = summarize(run).tokens
    assert (tokens.answers, tokens.with_usage) == (3, 2)
    assert (tokens.prompt, tokens.completion, tokens.reasoning, tokens.cached) == (17, 9, 3, 8)
    assert tokens.sources == {"server": 2, "none": 1}


def test_missing_is_none(write: Any, record: Any) -> None:
    run = write([record(usage=None, usage_source="none", scheduled_at=None, connection=Connection())])
    summary = summarize(run)
    for name in ("ttft_sched", "e2e_sched", "delay", "connect", "tpot", "output_rate"):
        d = summary.metrics[name]
        assert (d.n, d.mean, d.min, d.max, d.stdev) == (0, None, None, None, None)
        assert set(d.percentiles.values()) == {None}
    assert (summary.tokens.prompt, summary.tokens.completion, summary.tokens.lost_prompt) == (
        None,
        None,
        None,
    )
    assert summary.sessions[0].output_tokens_per_s is None


def test_coalesced_chunks_withhold_itl(write: Any, record: Any) -> None:
    few = summarize(write([record(i, chunk_us=[0, 0, 9, 19, 29]) for i in range(9)], name="few"))
    assert (few.chunks.coalesced, few.chunks.gaps) == (9, 36)
    assert few.metrics["itl"].withheld is None
    many = summarize(write([record(i, chunk_us=[0, 0, 9]) for i in range(9)], name="many"))
    assert set(many.metrics["itl"].percentiles.values()) == {None}
    assert "same read" in (many.metrics["itl"].withheld or "")
    assert many.metrics["itl"].mean is not None
    assert many.metrics["tpot"].percentiles["p50"] == 10.0


def test_multi_token_chunks_are_counted(write: Any, record: Any) -> None:
    chunks = summarize(write([record(0, chunk_tokens=[1, 3, 1]), record(1)])).chunks
    assert (chunks.with_token_count, chunks.multi_token, chunks.total) == (3, 1, 6)


def test_sessions_are_apart(write: Any, record: Any, failed: Any, session: Any) -> None:
    run = write(
        [
            record(0),
            failed(1),
            record(2, session=2, ended_at=500 * MS),
            record(3, session=2, ended_at=400 * MS, usage=None, usage_source="none"),
        ],
        sessions=[session(1), session(2, ended_at=None, ended_by=None), session(3)],
    )
    first, second, third = summarize(run).sessions
    assert (first.wall_s, first.ok, first.error, first.ended_by) == (2.0, 1, 1, "finished")
    assert (first.requests_per_s, first.output_tokens_per_s, first.concurrency) == (0.5, 2.5, 8)
    assert not first.wall_to_last_record
    # Killed: up to its last record.
    assert (second.wall_s, second.wall_to_last_record, second.ended_by) == (0.5, True, None)
    assert (second.requests_per_s, second.output_tokens_per_s, second.with_usage) == (4.0, 10.0, 1)
    assert (third.requests, third.requests_per_s, third.output_tokens_per_s) == (0, 0.0, None)


def test_an_id_counts_once_and_bad_lines_are_named(write: Any, record: Any, failed: Any) -> None:
    run = write([failed(0), b'{"id": "torn', record(0), record(1), failed(1), b'{"id":"00000000000000aa"}'])
    summary = summarize(run)
    assert (summary.requests.total, summary.requests.ok) == (2, 2)
    journal = summary.journal
    assert (journal.lines, journal.ids, journal.bad_count) == (4, 2, 2)
    first = len(msgspec.json.encode(failed(0))) + 1
    assert journal.bad_lines[0] == ("records.jsonl", first)


def test_a_line_with_a_damaged_field_is_left_out(write: Any, record: Any) -> None:
    damaged = msgspec.json.decode(msgspec.json.encode(record(1))) | {"chunk_us": "what"}
    summary = summarize(write([record(0), msgspec.json.encode(damaged)]))
    assert (summary.requests.total, summary.journal.bad_count) == (1, 1)
    assert summary.journal.damaged_ids == [damaged["id"]]


def test_rows_no_longer_in_the_file(write: Any, record: Any) -> None:
    records = [record(i) for i in range(3)]
    run = write(records, prompts=4)
    current = sorted([int(records[0].id[:16], 16), int(records[2].id[:16], 16), 1, 2])
    (run / CURRENT).write_bytes(np.array(current, dtype="<u8").tobytes())
    requests = summarize(run).requests
    assert (requests.total, requests.outside, requests.unsent) == (3, 1, 2)


def test_no_records(write: Any) -> None:
    run = write([], prompts=5)
    summary = summarize(run)
    assert (summary.requests.total, summary.requests.unsent, summary.requests.errors_share) == (0, 5, None)
    (run / "records.jsonl").unlink()
    assert summarize(run).journal.files == []


def test_a_summary_survives_json(write: Any, record: Any, failed: Any) -> None:
    summary = summarize(write([record(0), failed(1)]))
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


@pytest.mark.parametrize(("kind", "most"), [("run", 20_000), ("bench", 8_000)])
def test_memory_does_not_grow_with_the_records(
    write: Any, bench: Any, record: Any, kind: str, most: int
) -> None:
    def peak(n: int) -> int:
        lines = [msgspec.json.encode(record(i, chunk_us=[0, i % 977, 9000])) for i in range(n)]
        run = (write if kind == "run" else bench)(lines, name=f"run{n}")
        lines.clear()
        tracemalloc.start()
        summarize(run)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)  # what is imported and cached on first use
    few, many = peak(2_000), peak(most)
    # What grows: the index (about 100 bytes an id while it is sorted); each metric, up to 50,000 values, of
    # which a bench has some more.
    assert many - few < (most - 2_000) * (200 if kind == "run" else 300)
