"""Arrivals that nobody served: counted, judged, and in no number as if they had been."""

from typing import Any

import pytest

from reports.bench import Bench
from reports.formats import RENDERERS
from reports.judge import exit_code
from reports.metrics import summarize
from reports.summary import Summary

MS = 1_000_000
SLO = {"slo": {"ttft": "10ms"}}
CLOSED = {"executor": "constant-concurrency", "schedule_begin_ns": None, "schedule_end_ns": None}


def of(run: Any) -> tuple[Summary, Bench]:
    summary = summarize(run)
    assert summary.bench is not None
    return summary, summary.bench


def hanging(record: Any, name: int, **changes: Any) -> Any:
    """A request that no byte ever came for."""
    nothing = {"headers_at": None, "first_token_at": None, "first_content_at": None, "last_token_at": None}
    cut = {"status": "cancelled", "cancelled_by": "deadline", "usage": None, "usage_source": "none"}
    return record(name, **{**nothing, **cut, "chunk_us": [], **changes})


def test_a_server_that_hangs_fails_the_bench(bench: Any, record: Any) -> None:
    lines = [record(i) for i in range(90)] + [hanging(record, 90 + i) for i in range(10)]
    summary, found = of(bench(lines))
    assert summary.requests.errors_share == 0.0
    assert (found.unserved.n, found.unserved.cut, found.unserved.share) == (10, 10, 0.1)
    assert {v.threshold: v.verdict for v in found.verdicts} == {
        "errors: rate<1%": "PASS",
        "unserved: rate<1%": "FAIL",
    }
    assert exit_code(found.validity, found.verdicts) == 99
    flat = " ".join(RENDERERS["text"]([summary]).split())
    assert "not served 10 of 100 (10.00%) 10 cut when the run ended" in flat
    assert "10 failures" not in flat


def test_so_does_one_that_drowns(bench: Any, record: Any) -> None:
    load = {"scheduled": 100, "sent": 90, "arrived": 90, "unsent": 10, "peak_in_flight": 100}
    _, found = of(bench([record(i) for i in range(90)], load=load))
    assert (found.unserved.never_sent, found.unserved.share) == (10, 0.1)
    assert found.validity.level == "OK"
    assert exit_code(found.validity, found.verdicts) == 99
    off: dict[str, Any] = {"thresholds": {"unserved": []}}
    assert [v.metric for v in of(bench([record(0)], load=load, scenario=off, name="off"))[1].verdicts] == [
        "errors"
    ]


def test_whoever_stopped_the_run_left_nobody_unserved(bench: Any, record: Any) -> None:
    load = {"scheduled": 100, "sent": 90, "arrived": 90, "unsent": 10}
    lines = [record(i) for i in range(89)] + [hanging(record, 89, cancelled_by="user")]
    assert of(bench(lines, load=load, ended_by="interrupted"))[1].unserved.n == 0


def test_where_arrivals_are_counted_a_waiting_one_with_a_record_is_another(bench: Any, record: Any) -> None:
    """One was started and never got a connection; another one was never started."""
    load = {"scheduled": 3, "sent": 1, "arrived": 2, "unsent": 1}
    _, found = of(bench([record(0), hanging(record, 1, sent_at=None)], load=load))
    assert (found.missed, found.unserved.n, found.unserved.of) == (1, 2, 3)


def test_the_wait_of_who_was_never_sent_is_in_flight(bench: Any, record: Any) -> None:
    load = {"scheduled": 3, "sent": 1, "arrived": 1, "unsent": 2, "unsent_wait_s": 4.0}
    summary, found = of(bench([record(0)], load=load))
    assert found.in_flight_mean == pytest.approx((0.053 + 4.0) / 10)
    assert not found.in_flight_at_least
    assert ">=" not in RENDERERS["text"]([summary])
    summary, found = of(bench([record(0)], load={**load, "unsent_wait_s": None}, name="unsaid"))
    assert found.in_flight_at_least
    assert ">=0.0053 sent or waiting" in RENDERERS["text"]([summary])


# -- users who left


@pytest.mark.parametrize(("first_token", "failures", "of_"), [(None, 1, 2), (13 * MS, 0, 1)])
def test_who_left_before_any_token_was_never_served(
    bench: Any, record: Any, first_token: int | None, failures: int, of_: int
) -> None:
    left = hanging(record, 1, cancelled_by="abandon", first_token_at=first_token)
    summary, found = of(bench([record(0), left], scenario=SLO))
    second = summary.metrics["ttft"].with_failures
    assert second is not None
    assert (second.failures, found.goodput.of, summary.requests.left_unserved) == (failures, of_, failures)
    assert found.unserved.n == 0
    assert ("1 before any token" in RENDERERS["text"]([summary])) is bool(failures)


@pytest.mark.parametrize(("first_token", "level"), [(None, "INVALID"), (13 * MS, "OK")])
def test_users_who_all_left(bench: Any, record: Any, first_token: int | None, level: str) -> None:
    lines = [hanging(record, i, cancelled_by="abandon", first_token_at=first_token) for i in range(30)]
    summary, found = of(bench(lines))
    assert found.validity.level == level
    nothing = "INVALID: nothing succeeded, so there is nothing to measure"
    assert RENDERERS["text"]([summary]).startswith(nothing) is (level == "INVALID")


# -- conversations


def turns(record: Any, talk: int, n: int) -> list[Any]:
    return [record(f"{talk}.{turn}", conversation=talk, turn=turn) for turn in range(n)]


def test_conversations_are_not_turns(bench: Any, record: Any) -> None:
    lines = [line for talk in range(73) for line in turns(record, talk, 2)]
    lines[-1] = hanging(record, 999, conversation=72, turn=1)
    load = {"scheduled": 74, "arrived": 73, "sent": 146, "unsent": 1}
    summary, found = of(bench(lines, load=load, scenario={"prompts": {"multi_turn": True}}))
    assert found.conversations is not None
    assert (found.conversations.begun, found.conversations.cut_short, found.conversations.of) == (73, 1, 74)
    assert (found.unserved.n, found.unserved.of) == (2, 74)
    assert found.client.sent_share == 73 / 74
    assert summary.requests.expected is None
    text = RENDERERS["text"]([summary])
    assert "145 turns answered · 0 failed" in text
    assert "73 of 74 conversations begun" in text
    assert "145 of" not in text


@pytest.mark.parametrize(("arrived", "share"), [(60, 0.6), (None, 0.6), (100, 1.0)])
def test_many_turns_do_not_hide_conversations_that_never_began(
    bench: Any, record: Any, arrived: int | None, share: float
) -> None:
    lines = [line for talk in range(60) for line in turns(record, talk, 2)]
    load = {"scheduled": 100, "arrived": arrived, "sent": 120, "unsent": 40}
    found = of(bench(lines, load=load, scenario={"prompts": {"multi_turn": True}}))[1]
    assert found.client.sent_share == share
    assert ("sent" in {reason.check for reason in found.validity.reasons}) is (share < 1)


def test_a_killed_bench_owes_no_rows_of_a_file(write: Any, record: Any, session: Any) -> None:
    killed = session(gauge={}, ended_at=None, ended_by=None)
    run = write([record(i) for i in range(19)], kind="bench", sessions=[killed], prompts=60)
    text = RENDERERS["text"]([summarize(run)])
    assert "19 answered · 0 failed" in text
    assert "of 60" not in text


def test_warm_up_of_another_session_is_not_of_this_one(write: Any, record: Any, session: Any) -> None:
    load = {"executor": "constant-concurrency", "steady_begin_ns": 0, "steady_end_ns": 100 * MS}
    sessions = [session(1), session(2, gauge={"load": load})]
    lines = [record(0, session=2), record(1, session=1, phase="warmup"), record(2, session=2, phase="warmup")]
    found = of(write(lines, kind="bench", sessions=sessions))[1]
    assert found.steady.output_tokens == 10


@pytest.mark.parametrize(
    ("ended_by", "words"),
    [
        ("circuit_breaker", "nobody answered"),
        ("interrupted", "Ctrl-C"),
        (None, "it was killed, or still runs"),
    ],
)
def test_how_it_ended_early_is_said_in_words(
    bench: Any, record: Any, ended_by: str | None, words: str
) -> None:
    text = RENDERERS["text"]([summarize(bench([record(0)], ended_by=ended_by))])
    assert f"ended early: {words}" in " ".join(text.split())


def test_connections_that_others_opened(bench: Any, record: Any) -> None:
    from runner.record import Connection

    text = RENDERERS["text"]([summarize(bench([record(0, connection=Connection(reused=True))]))])
    assert "none opened by them · 1 reused" in text
