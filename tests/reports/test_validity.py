"""The table of METRICS, a row and a side at a time."""

from typing import Any

import pytest

from reports.bench import Client, Lag, Load, Validity, Worker
from reports.distribution import Distribution
from reports.metrics import summarize
from reports.summary import Requests
from reports.validity import assess
from runner.record import OWN_FAULT, Error, ErrorKind

OPEN = Load(executor="constant-arrival-rate", is_open=True)
CLOSED = Load(executor="constant-concurrency")


class _Summary:
    """What `assess` reads of a summary."""

    def __init__(self, ttft_p50_ms: float | None, requests: Requests) -> None:
        n = 0 if ttft_p50_ms is None else 100
        self.metrics = {
            "ttft": Distribution(
                unit="ms", n=n, exact=True, resolution=None, mean=None, stdev=None, min=None, max=None,
                percentiles={"p50": ttft_p50_ms},
            )
        }  # fmt: skip
        self.requests = requests


def judged(
    load: Load = OPEN, ttft_p50_ms: float | None = 50.0, requests: Requests | None = None, **changes: Any
) -> Validity:
    values: dict[str, Any] = {
        "sends": 100,
        "late": 0,
        "late_share": 0.0,
        "late_over_ms": 5.0,
        "delay_free_n": 100,
        "delay_free_p50_ms": 0.1,
        "delay_free_p99_ms": 1.0,
        "sent_share": 1.0,
        "coalesced_share": 0.0,
        "lag": lag(0.5),
    }
    summary: Any = _Summary(ttft_p50_ms, requests or Requests(ok=100))
    return assess(summary, Client(**{**values, **changes}), load)


def lag(p99_ms: float) -> Lag:
    return Lag(n=100, p50_ms=0.1, p99_ms=p99_ms, max_ms=p99_ms, missed=0)


@pytest.mark.parametrize(
    ("check", "changes", "level"),
    [
        ("late_sends", {"late_share": 0.01}, "OK"),
        ("late_sends", {"late_share": 0.0101}, "WARN"),
        ("late_sends", {"late_share": 0.05}, "WARN"),
        ("late_sends", {"late_share": 0.0501}, "INVALID"),
        ("delay_p50_ms", {"delay_free_p50_ms": 2.0}, "OK"),
        ("delay_p50_ms", {"delay_free_p50_ms": 2.1}, "WARN"),
        ("delay_p50_ms", {"delay_free_p50_ms": 10.1}, "INVALID"),
        ("delay_p99_ms", {"delay_free_p99_ms": 20.0}, "OK"),
        ("delay_p99_ms", {"delay_free_p99_ms": 20.1}, "WARN"),
        ("delay_p99_ms", {"delay_free_p99_ms": 100.1}, "INVALID"),
        ("sent", {"sent_share": 0.99}, "OK"),
        ("sent", {"sent_share": 0.989}, "WARN"),
        ("sent", {"sent_share": 0.97}, "WARN"),
        ("sent", {"sent_share": 0.969}, "INVALID"),
        ("loop_lag_p99_ms", {"lag": lag(5.0)}, "OK"),
        ("loop_lag_p99_ms", {"lag": lag(5.1)}, "WARN"),
        ("loop_lag_p99_ms", {"lag": lag(20.1)}, "INVALID"),
        # 2 % and 10 % of a ttft of 1,000 ms are more than 5 and 20 ms.
        ("loop_lag_p99_ms", {"lag": lag(20.0), "ttft_p50_ms": 1000.0}, "OK"),
        ("loop_lag_p99_ms", {"lag": lag(20.1), "ttft_p50_ms": 1000.0}, "WARN"),
        ("loop_lag_p99_ms", {"lag": lag(100.1), "ttft_p50_ms": 1000.0}, "INVALID"),
        ("loop_lag_p99_ms", {"lag": lag(5.1), "ttft_p50_ms": None}, "WARN"),
        ("coalesced", {"coalesced_share": 0.05}, "OK"),
        ("coalesced", {"coalesced_share": 0.051}, "WARN"),
        # itl is withheld; the rest stands.
        ("coalesced", {"coalesced_share": 0.9}, "WARN"),
        ("own_errors", {"own_errors": 0}, "OK"),
        ("own_errors", {"own_errors": 1}, "WARN"),  # of 100
        ("own_errors", {"own_errors": 2}, "INVALID"),
        ("nothing_succeeded", {"requests": Requests(error=3)}, "INVALID"),
        ("nothing_succeeded", {"requests": Requests()}, "INVALID"),
        ("nothing_succeeded", {"requests": Requests(cancelled=1, cancelled_by={"abandon": 1})}, "OK"),
    ],
)
def test_a_check(check: str, changes: dict[str, Any], level: str) -> None:
    found = judged(**changes)
    assert found.level == level
    assert [(reason.check, reason.level) for reason in found.reasons] == (
        [] if level == "OK" else [(check, level)]
    )
    assert all(reason.words and reason.next_step for reason in found.reasons)


@pytest.mark.parametrize(("n", "level"), [(19, "WARN"), (20, "INVALID")])
def test_a_handful_of_sends_never_condemns_a_run(n: int, level: str) -> None:
    assert judged(late_share=0.2, sends=n).level == level
    assert judged(delay_free_p50_ms=50.0, delay_free_n=n).level == level


@pytest.mark.parametrize(("n", "given"), [(99, False), (100, True)])
def test_p99_of_the_delay_takes_a_hundred_sends(bench: Any, record: Any, n: int, given: bool) -> None:
    found = summarize(bench([record(i) for i in range(n)])).bench
    assert found is not None
    assert (found.client.delay_free_p99_ms is not None) is given


def test_the_worst_counts_and_comes_first() -> None:
    found = judged(late_share=0.02, lag=lag(30.0))
    assert [reason.level for reason in found.reasons] == ["INVALID", "WARN"]
    assert found.level == "INVALID"


def test_what_was_not_measured_is_never_fine() -> None:
    assert [reason.check for reason in judged(lag=None).reasons] == ["loop_lag_p99_ms"]
    assert judged(lag=None).level == "WARN"
    assert [reason.check for reason in judged(sent_share=None).reasons] == ["sent"]
    assert judged(CLOSED, sent_share=None).level == "OK"


@pytest.mark.parametrize("ended_early", ["interrupted", "circuit_breaker"])
def test_who_was_stopped_need_not_have_sent_all(ended_early: str) -> None:
    load = Load(executor="constant-arrival-rate", is_open=True, ended_early=ended_early)
    assert judged(load, sent_share=0.5).level == "OK"


def level_of(run: Any) -> tuple[str, list[str]]:
    bench = summarize(run).bench
    assert bench is not None
    return bench.validity.level, [reason.check for reason in bench.validity.reasons]


def test_a_fit_client(bench: Any, record: Any) -> None:
    assert level_of(bench([record(i) for i in range(20)])) == ("OK", [])


def test_a_killed_bench(bench: Any, write: Any, record: Any, session: Any) -> None:
    killed = session(gauge={}, ended_at=None, ended_by=None)
    run = write(
        [record(0)],
        kind="bench",
        sessions=[killed],
        scenario={"load": {"executor": "constant-arrival-rate"}},
    )
    assert level_of(run) == ("WARN", ["sent", "loop_lag_p99_ms"])
    assert level_of(write([record(0)], kind="bench", sessions=[], name="none"))[0] == "WARN"


def test_a_drowning_server_is_no_unfit_client(bench: Any, record: Any, failed: Any) -> None:
    """Half never found a place, and the rest could not connect: the server's doing."""
    refused = [
        failed(i, ErrorKind.CONNECT, sent_at=None, headers_at=None, first_token_at=None) for i in range(1, 50)
    ]
    run = bench(
        [record(0, held_ns=5 * 10**9, sent_at=5 * 10**9), *refused],
        load={"scheduled": 100, "sent": 1, "unsent": 50, "held": 51, "peak_in_flight": 100},
    )
    assert level_of(run) == ("OK", [])


def test_a_client_that_sent_too_little(bench: Any, record: Any) -> None:
    run = bench([record(i) for i in range(10)], load={"scheduled": 20, "sent": 10, "unsent": 10})
    assert level_of(run) == ("INVALID", ["sent"])


def test_a_run_is_not_judged(write: Any, record: Any) -> None:
    assert summarize(write([record(0)])).bench is None


def test_whose_fault_a_connection_is(bench: Any, record: Any, failed: Any) -> None:
    never = {"sent_at": None, "headers_at": None, "first_token_at": None}
    own = Error(ErrorKind.CONNECT, f"{OWN_FAULT}too many open files")
    said = Error(ErrorKind.STREAM_ERROR, f"{OWN_FAULT}too many open files")  # the target of its own
    records = [record(i) for i in range(50)]
    load = {"scheduled": 51, "sent": 51}
    run = bench([*records, failed(50, error=own, **never)], load=load, name="own")
    assert level_of(run) == ("INVALID", ["own_errors"])
    run = bench([*records, failed(50, error=said)], load=load, name="target")
    assert level_of(run) == ("OK", [])


@pytest.mark.parametrize(
    ("p99_ms", "level"),
    [(1.0, "WARN"), (5.1, "INVALID")],  # lock-step streams on a loop that keeps up; one that does not
)
def test_late_sends_of_a_closed_loop_condemn_it_only_where_its_loop_lags_too(
    p99_ms: float, level: str
) -> None:
    assert judged(CLOSED, late_share=0.5, lag=lag(p99_ms)).level == level


def test_a_lag_nobody_measured_is_no_evidence() -> None:
    assert judged(CLOSED, late_share=0.5, lag=None).level == "WARN"


def test_a_bench_without_one_of_its_workers_is_invalid() -> None:
    workers = [Worker(number=0), Worker(number=1, died="was killed by signal 9 (SIGKILL)", in_flight=3)]
    found = judged(workers=workers)
    assert found.level == "INVALID"
    (reason,) = found.reasons
    assert reason.check == "workers"
    assert reason.words.startswith("worker 1 was killed by signal 9 (SIGKILL): its part of the load was not")
    assert "about 3 requests that it had under way" in reason.words
    assert judged(workers=[Worker(number=0), Worker(number=1)]).level == "OK"


def test_a_client_that_does_not_keep_up_is_told_of_workers() -> None:
    alone, both = (judged(lag=lag(21.0), workers=[Worker(number=n) for n in range(many)]) for many in (0, 2))
    assert "Use --workers 2 or more, " in alone.reasons[0].next_step
    assert "Use more --workers than 2, as far as there are cores, " in both.reasons[0].next_step
