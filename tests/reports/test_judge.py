"""Thresholds on a summary: what passes, fails, or cannot be said; and the exit code."""

from typing import Any

import pytest

from reports.bench import Reason, Validity, Verdict
from reports.judge import exit_code
from reports.metrics import summarize
from runner.record import ErrorKind

MS = 1_000_000


def verdicts(run: Any) -> dict[str, Verdict]:
    bench = summarize(run).bench
    assert bench is not None
    return {verdict.threshold: verdict for verdict in bench.verdicts}


def timed(record: Any, n: int) -> list[Any]:
    """ttft of 1, 2, ... n ms."""
    return [record(i, sent_at=3 * MS, first_token_at=(4 + i) * MS) for i in range(n)]


def one(bench: Any, lines: list[Any], metric: str, text: str, **more: Any) -> Verdict:
    scenario = {"thresholds": {metric: [text]}, **more.pop("scenario", {})}
    return verdicts(bench(lines, scenario=scenario, **more))[f"{metric}: {text}"]


@pytest.mark.parametrize(
    ("metric", "text", "value", "verdict"),
    [
        ("ttft", "p(50)<51ms", 50.5, "PASS"),
        ("ttft", "p(50)<50.5ms", 50.5, "FAIL"),
        ("ttft", "p(50)<=50.5ms", 50.5, "PASS"),
        ("ttft", "med<1s", 50.5, "PASS"),
        ("ttft", "avg<50ms", 50.5, "FAIL"),
        ("ttft", "min>=1", 1.0, "PASS"),
        ("ttft", "max<100ms", 100.0, "FAIL"),
        ("ttft", "count>=100", 100.0, "PASS"),
        ("ttft", "p(99)<1s", 99.01, "PASS"),
        # Any percentile that has its samples: 97.5 of 100 values is 1 + 0.975 * 99.
        ("ttft", "p(97.5)<1s", 1 + 0.975 * 99, "PASS"),
        # B(100, 0.5): the median lies between the 37th and the 64th value.
        ("ttft", "ucb(med)<64ms", 64.0, "FAIL"),
        ("ttft", "lcb(med)<38ms", 37.0, "PASS"),
        ("request_throughput", "value>9", 10.0, "PASS"),
        ("errors", "rate<1%", 0.0, "PASS"),
        ("errors", "count<1", 0.0, "PASS"),
    ],
)
def test_a_threshold(bench: Any, record: Any, metric: str, text: str, value: float, verdict: str) -> None:
    found = one(bench, timed(record, 100), metric, text)
    assert found.verdict == verdict
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p(99)<1s", "p99 needs 100 values, and there are 99"),
        ("p(99.9)<1s", "p99.9 needs 1,000 values, and there are 99"),
        ("ucb(p(95))<1s", "the ucb of p95 needs 104 values, and there are 99"),
    ],
)
def test_too_few_values_are_inconclusive(bench: Any, record: Any, text: str, words: str) -> None:
    found = one(bench, timed(record, 99), "ttft", text)
    assert (found.verdict, found.value, found.words) == ("INCONCLUSIVE", None, words)


@pytest.mark.parametrize(
    ("metric", "text", "words"),
    [
        ("connect", "p(50)<1s", "no request has a connect"),
        ("goodput", "rate>50%", "no [slo]"),
        ("cost", "value<5", "nobody told"),
        ("expect", "rate>50%", "(check --expect does)"),
        ("output_throughput", "value>1", "its tokens"),
        ("ttft{turn:3}", "p(50)<1s", "no answer with ttft{turn:3}"),
        ("errors{who:me}", "count==0", "no request with errors{who:me}"),
        ("errors{who:me}", "rate<1%", "no request with errors{who:me}"),
    ],
)
def test_no_data_fails_and_says_so(bench: Any, record: Any, metric: str, text: str, words: str) -> None:
    from runner.record import Connection

    lines = [record(0, usage=None, usage_source="none", connection=Connection(reused=True))]
    found = one(bench, lines, metric, text)
    assert (found.verdict, found.value) == ("FAIL", None)
    assert "no data" in found.words
    assert words in found.words


def test_withheld_gaps_are_inconclusive(bench: Any, record: Any) -> None:
    lines = [record(i, chunk_us=[0, 0, 0, 10]) for i in range(50)]
    found = one(bench, lines, "itl", "p(50)<1s")
    assert found.verdict == "INCONCLUSIVE"
    assert "same read" in found.words
    assert one(bench, timed(record, 50), "itl", "ucb(med)<1s", name="b").verdict == "INCONCLUSIVE"


def test_errors_have_a_default(bench: Any, record: Any, failed: Any) -> None:
    lines = [*timed(record, 99), failed(200)]
    found = verdicts(bench(lines))["errors: rate<1%"]
    assert (found.verdict, found.default, found.value) == ("FAIL", True, 0.01)
    own = verdicts(bench(lines, scenario={"thresholds": {"errors": ["rate<=1%"]}}, name="own"))
    assert [(v.threshold, v.verdict, v.default) for v in own.values()] == [
        ("unserved: rate<1%", "PASS", True),
        ("errors: rate<=1%", "PASS", False),
    ]
    none = verdicts(bench([], name="none"))["errors: rate<1%"]
    assert (none.verdict, none.words) == ("FAIL", "no data: no request was answered or failed")


def test_errors_of_a_kind(bench: Any, record: Any, failed: Any) -> None:
    lines = [*timed(record, 8), failed(200, ErrorKind.TIMEOUT), failed(201, ErrorKind.OVERLOADED)]
    found = one(bench, lines, "errors{kind:timeout}", "rate<10%")
    assert (found.verdict, found.value) == ("FAIL", 0.1)


def test_a_metric_of_chosen_records(bench: Any, record: Any) -> None:
    lines = [record(i, first_token_at=(4 + i) * MS, turn=i % 2) for i in range(10)]
    found = one(bench, lines, "ttft{turn:1}", "max<=10")
    assert (found.verdict, found.value) == ("PASS", 10.0)  # 2, 4, ... 10
    assert one(bench, lines, "ttft{turn:0}", "max<=8", name="b").value == 9.0


def test_the_second_reading_is_a_warning_beside_a_pass(bench: Any, record: Any, failed: Any) -> None:
    """60 answers and 40 failures: the median of all is 50 ms, p90 lies among the failures."""
    lines = [*timed(record, 60), *(failed(100 + i) for i in range(40))]
    found = one(bench, lines, "ttft_sched", "p(90)<1s")
    assert found.verdict == "PASS"
    assert any(
        "with 40 requests that got no answer as infinitely slow it is infinite" in warning
        for warning in found.warnings
    )
    assert not any("infinite" in w for w in one(bench, lines, "ttft_sched", "med<1s", name="b").warnings)


def test_few_samples_are_a_warning(bench: Any, record: Any) -> None:
    found = one(bench, timed(record, 100), "e2e_sched", "p(95)<1s")
    assert found.warnings == ["p95 of 100 values is a guess: it takes 130 to trust it."]
    assert one(bench, timed(record, 130), "e2e_sched", "p(95)<1s", name="b").warnings == []


@pytest.mark.parametrize("metric", ["ttft", "e2e"])
def test_an_open_loop_has_a_better_one(bench: Any, record: Any, metric: str) -> None:
    warnings = one(bench, timed(record, 10), metric, "med<1s").warnings
    assert any(f"{metric}_sched does" in warning for warning in warnings)


def test_a_closed_loop_waits_for_nobody(bench: Any, record: Any) -> None:
    closed = one(
        bench, timed(record, 10), "ttft", "med<1s", name="b", load={"executor": "constant-concurrency"}
    )
    assert closed.warnings == []


def test_a_cost_that_is_not_known_of_all(bench: Any, record: Any) -> None:
    lines = [record(0, cost=0.5, cost_source="prices"), record(1)]
    found = one(bench, lines, "cost", "value<1")
    assert (found.verdict, found.value) == ("PASS", 0.5)
    assert "1 attempts cost" in found.warnings[0]


def test_thresholds_that_cannot_be_read_are_told(bench: Any, record: Any) -> None:
    found = summarize(bench([record(0)], scenario={"thresholds": {"speed": ["p(50)<1s"]}})).bench
    assert found is not None
    assert found.verdicts == []
    assert "there is no metric 'speed'" in found.unjudged["thresholds"]


def verdict(outcome: Any) -> Verdict:
    return Verdict(threshold="t", metric="m", value=None, limit=1, verdict=outcome, words="")


def validity(level: Any) -> Validity:
    reason = Reason(check="c", level=level, measured=None, limit=None, words="", next_step="")
    return Validity(level=level, reasons=[reason])


@pytest.mark.parametrize(
    ("level", "outcomes", "on_inconclusive", "code"),
    [
        ("OK", [], None, 0),
        ("WARN", ["PASS"], None, 0),
        ("INVALID", ["FAIL"], None, 97),
        ("INVALID", [], "pass", 97),
        ("OK", ["PASS", "FAIL", "INCONCLUSIVE"], None, 99),
        ("OK", ["FAIL"], "pass", 99),
        ("OK", ["PASS", "INCONCLUSIVE"], None, 98),
        ("OK", ["INCONCLUSIVE"], "pass", 0),
        ("OK", ["INCONCLUSIVE"], "fail", 99),
    ],
)
def test_exit_code(level: str, outcomes: list[str], on_inconclusive: Any, code: int) -> None:
    assert exit_code(validity(level), [verdict(outcome) for outcome in outcomes], on_inconclusive) == code
