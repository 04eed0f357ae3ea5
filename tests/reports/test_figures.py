"""The charts of a run, against numbers that can be checked on paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import streamgauge as sg
from reports.answers import request_parts
from reports.columns import observe
from reports.distribution import Values
from reports.figures import CHARTS, charts
from reports.page import Absent, Chart
from reports.summary import WITH_FAILURES
from runner.record import ErrorKind
from tests.reports.conftest import MS
from tests.reports.golden_bench import PLACE

S = 1000 * MS


def _series(chart: Chart | Absent, name: str) -> Any:
    assert isinstance(chart, Chart), chart
    return next(trace for trace in chart.figure.data if (trace.name or "").startswith(name))


@pytest.fixture
def at(record: Callable[..., Any]) -> Callable[..., Any]:
    """A record due at so many ms, with its first token so many ms later, and so long."""

    def make(name: int, due: int, ttft: int, length: int = 100, **changes: Any) -> Any:
        values = {
            "index": name,
            "scheduled_at": due * MS,
            "sent_at": due * MS,
            "headers_at": due * MS,
            "first_token_at": (due + ttft) * MS,
            "first_content_at": (due + ttft) * MS,
            "last_token_at": (due + ttft + length) * MS,
            "ended_at": (due + ttft + length) * MS,
            "chunk_us": [0, 1000 * length],
        }
        return record(name, **{**values, **changes})

    return make


class TestPercentiles:
    def test_a_curve_reaches_every_value_and_the_last_at_the_far_end(self, bench: Any, at: Any) -> None:
        run = bench([at(i, 10 * i, i + 1) for i in range(10)])
        ttft = _series(charts(*observe(run))["percentiles"], "TTFT (")
        assert list(ttft.y) == [float(i) for i in range(1, 11)]
        # The middle of the step of each of ten: 5 %, 15 %, ... 95 %.
        assert np.allclose(1 - 1 / np.array(ttft.x), np.arange(0.05, 1, 0.1))

    def test_failures_end_the_curve(self, bench: Any, at: Any, failed: Any) -> None:
        run = bench([at(i, 10 * i, i + 1) for i in range(9)] + [failed(9)])
        drawn = charts(*observe(run))
        ttft, end = _series(drawn["percentiles"], "TTFT ("), _series(drawn["percentiles"], "beyond")
        assert max(1 - 1 / np.array(ttft.x)) == pytest.approx(0.85)
        assert end.x[0] == pytest.approx(10)  # 90 %
        assert end.name == "beyond: no answer (1)"
        ecdf = _series(drawn["ecdf"], "TTFT (")
        assert ecdf.y[-1] == pytest.approx(90)
        assert isinstance(drawn["percentiles"], Chart)
        assert "1 of 10 requests got no answer" in drawn["percentiles"].alt

    def test_arrivals_never_sent_count_as_failures(self, bench: Any, at: Any) -> None:
        run = bench(
            [at(i, 10 * i, 5) for i in range(9)], load={"scheduled": 10, "unsent": 1, "arrived": 9, "sent": 9}
        )
        assert _series(charts(*observe(run))["ecdf"], "TTFT (").y[-1] == pytest.approx(90)

    def test_pooled_gaps_have_no_failures(self, bench: Any, at: Any, failed: Any) -> None:
        run = bench([at(0, 0, 5), failed(1)])
        assert "itl" not in WITH_FAILURES
        assert _series(charts(*observe(run))["ecdf"], "ITL").y[-1] == pytest.approx(100)

    def test_withheld_gaps_are_not_drawn(self, bench: Any, at: Any) -> None:
        run = bench([at(i, 0, 5, chunk_us=[0, 0, 0, 100_000]) for i in range(30)])
        chart = charts(*observe(run))["percentiles"]
        assert isinstance(chart, Chart)
        assert not [trace for trace in chart.figure.data if trace.name.startswith("ITL")]

    @pytest.mark.parametrize("n", [100, 60_000])
    def test_quantiles_lie_where_percentiles_do(self, n: int) -> None:
        values = Values()
        values.add(np.random.default_rng(1).lognormal(size=n))
        found = values.quantiles(np.array([0.0, 0.5, 0.99]))
        assert found[1:] == pytest.approx([values.percentile(50), values.percentile(99)])


class TestOverTime:
    def test_in_flight_counts_every_step(self, bench: Any, at: Any) -> None:
        run = bench([at(0, 0, 10, 990), at(1, 500, 10, 990), at(2, 700, 10, 90)])
        line = _series(charts(*observe(run))["in_flight"], "sent and not ended")
        assert list(zip(line.x, line.y, strict=True)) == [
            (0.0, 1),
            (0.5, 2),
            (0.7, 3),
            (0.8, 2),
            (1.0, 1),
            (1.5, 0),
        ]

    def test_many_steps_become_means_between_the_least_and_the_most(self, bench: Any, at: Any) -> None:
        run = bench([at(i, 2 * i, 1, 2) for i in range(2000)])
        chart = charts(*observe(run))["in_flight"]
        mean = _series(chart, "sent and not ended")
        assert isinstance(chart, Chart)
        # Each lasts 3 ms and there is one every 2: one or two at once, 1.5 on average.
        assert np.allclose(mean.y[1:-1], 1.5, atol=0.05)
        bands = [trace for trace in chart.figure.data if trace.fill == "tonexty"]
        assert {float(y) for trace in bands for y in trace.y[1:-1]} == {1.0}

    def test_tokens_add_up(self, bench: Any, at: Any) -> None:
        run = bench([at(i, 37 * i, 10, 500) for i in range(100)])
        chart = charts(*observe(run))["throughput"]
        rate = _series(chart, "output tokens")
        width = rate.x[1] - rate.x[0]
        assert float(np.sum(rate.y[:-1]) * width) == pytest.approx(100 * 5)
        answered = _series(chart, "answered")
        assert float(np.sum(answered.y[:-1]) * width) == pytest.approx(100)

    def test_an_answer_that_came_whole_brings_its_tokens_at_its_end(self, bench: Any, at: Any) -> None:
        whole = {"streamed": False, "first_token_at": None, "first_content_at": None, "last_token_at": None}
        run = bench([at(0, 0, 10, 90), at(1, 0, 10, 990, **whole)])
        rate = _series(charts(*observe(run))["throughput"], "output tokens")
        assert rate.y[-1] > 0

    def test_failures_are_marked_where_they_were_due_with_their_kind(
        self, bench: Any, at: Any, failed: Any
    ) -> None:
        bad = failed(1, ErrorKind.OVERLOADED, scheduled_at=500 * MS, ended_at=700 * MS)
        marks = _series(charts(*observe(bench([at(0, 0, 10), bad])))["latency"], "no answer")
        assert (marks.x[0], marks.y[0], marks.text[0]) == (0.5, 200.0, "overloaded")

    def test_sessions_stand_one_after_the_other(self, write: Any, at: Any, session: Any) -> None:
        sessions = [session(1, ended_at=2 * S), session(2, ended_at=3 * S)]
        run = write([at(0, 0, 10), at(1, 500, 10, session=2)], sessions=sessions)
        _, columns = observe(run)
        assert [(s.begin_s, s.end_s) for s in columns.sessions] == [(0, 2), (2, 5)]
        assert columns.at_s["sent"].tolist() == [0.0, 2.5]

    def test_a_bench_is_drawn_from_the_session_it_is_reported_of(self, bench: Any, at: Any) -> None:
        _, columns = observe(bench([at(0, 0, 10), at(1, 500, 10, session=7)]))
        assert len(columns) == 1

    def test_long_runs_are_drawn_with_few_points(self, bench: Any, at: Any) -> None:
        run = bench([at(i, i, 5 + (i == 777) * 1000) for i in range(3000)])
        chart = charts(*observe(run))["latency"]
        ttft = _series(chart, "TTFT")
        assert len(ttft.x) < 1300
        assert max(ttft.y) == 1005
        assert isinstance(chart, Chart)
        assert "of 3,000 points are drawn" in chart.note


class TestBreakdowns:
    def test_the_slowest_come_first_part_by_part(self, bench: Any, at: Any) -> None:
        run = bench([at(i, 0, 10, 10 * i, sent_at=2 * MS) for i in range(20)])
        chart = charts(*observe(run))["slowest"]
        wait, first, stream = (_series(chart, name) for name in ("due to sent", "sent to first", "first to"))
        assert first.y[0].strip() == "19"
        assert len(first.y) == 15
        assert (wait.x[0], first.base[0], first.x[0], stream.base[0], stream.x[0]) == (2, 2, 8, 10, 190)

    def test_lengths_that_are_all_the_same_are_no_chart(self, bench: Any, at: Any) -> None:
        absent = charts(*observe(bench([at(0, 0, 10), at(1, 0, 10)])))["prompt_length"]
        assert absent == Absent(
            "TTFT against prompt length", "Every prompt had 7 tokens: there is no length to compare by."
        )

    def test_lengths_asked_for_stand_in_for_what_no_server_counted(self, bench: Any, at: Any) -> None:
        rows = [at(i, 0, 10 + i, usage=None, usage_source="none", asked_input_tokens=100 * i) for i in (1, 2)]
        chart = charts(*observe(bench(rows)))["prompt_length"]
        assert list(_series(chart, "request").x) == [100, 200]

    def test_kinds_are_counted(self, bench: Any, failed: Any, at: Any) -> None:
        run = bench([failed(0), failed(1), failed(2, ErrorKind.TLS), at(3, 0, 10)])
        chart = charts(*observe(run))["errors"]
        assert isinstance(chart, Chart)
        [bars] = chart.figure.data
        assert [(y.strip(), x) for y, x in zip(bars.y, bars.x, strict=True)] == [("timeout", 2), ("tls", 1)]


class TestHealth:
    def test_who_waited_for_a_place_or_a_connection_was_not_sent_late(self, bench: Any, at: Any) -> None:
        rows = [
            at(0, 0, 10, sent_at=3 * MS),  # 1.5 of it were its connection
            at(1, 0, 10, sent_at=8 * MS, held_ns=8 * MS),
        ]
        late = charts(*observe(bench(rows)))["late_sends"]
        assert isinstance(late, Chart)
        assert list(late.figure.data[0].y) == [1.5]

    def test_the_servers_pages_are_drawn(self, bench: Any, at: Any) -> None:
        run = bench([at(0, 0, 10)])
        text = "vllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"
        pages = [{"at": t * S, "status": 200, "text": text} for t in range(3)] + [
            {"at": 3 * S, "status": 500}
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages) + "no json\n")
        chart = charts(*observe(run))["server"]
        assert list(_series(chart, "running").x) == [0, 1, 2]
        assert list(_series(chart, "KV cache").y) == [50, 50, 50]
        assert isinstance(chart, Chart)
        assert chart.alt == "Over 3 pages: running 3.00 at most, KV cache in use 50.00 % at most."


_NEVER = dict.fromkeys(("sent_at", "headers_at", "first_token_at", "last_token_at", "ended_at"))
EMPTY: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "no records": [],
    "one": [("at", {})],
    "only failures": [("failed", {}), ("failed", {})],
    "never sent": [("failed", _NEVER)],
    "cut by the user": [("at", {"status": "cancelled", "cancelled_by": "user"})],
    "only warm-up": [("at", {"phase": "warmup"})],
}


@pytest.mark.parametrize("what", EMPTY)
@pytest.mark.parametrize("kind", ["run", "bench"])
def test_every_chart_is_drawn_or_says_why_not(
    what: str, kind: str, at: Any, failed: Any, write: Any, bench: Any
) -> None:
    rows = [
        at(i, 0, 10, **changes) if how == "at" else failed(i, **changes)
        for i, (how, changes) in enumerate(EMPTY[what])
    ]
    run = (write if kind == "run" else bench)(rows)
    found = charts(*observe(run))
    assert list(found) == list(CHARTS)
    for chart in found.values():
        if isinstance(chart, Absent):
            assert chart.why.endswith((".", ")"))
            continue
        assert chart.alt.endswith(".")
        assert "nan" not in chart.alt
        assert chart.figure.data


def test_names_from_data_are_escaped_in_figures(bench: Any, failed: Any) -> None:
    run = bench([failed(0)])
    journal = run / "records.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"kind":"timeout"', b'"kind":"<b>bold</b>"'))
    for name in ("errors", "latency"):
        chart = charts(*observe(run))[name]
        assert isinstance(chart, Chart)
        assert "<b>bold" not in chart.figure.to_json()
        assert "&lt;b&gt;bold" in json.dumps(chart.figure.to_dict(), default=list)


def test_figures_are_public() -> None:
    found = sg.figures(PLACE)
    assert list(found)[:2] == ["percentiles", "ecdf"]
    assert set(found) <= set(CHARTS)
    assert all(figure.data for figure in found.values())


class TestWhoGotNoAnswer:
    def test_cancelled_requests_are_not_called_answered(self, bench: Any, at: Any, failed: Any) -> None:
        stopped = at(1, 10, 10, status="cancelled", cancelled_by="user")
        latency = charts(*observe(bench([at(0, 0, 10), stopped], name="stopped")))["latency"]
        assert isinstance(latency, Chart)
        assert latency.alt.endswith("1 request cancelled.")
        both = bench([at(0, 0, 10), stopped, failed(2)], load={"unsent": 3})
        latency = charts(*observe(both))["latency"]
        assert isinstance(latency, Chart)
        assert latency.alt.endswith("1 request got no answer, 1 more cancelled, 3 never sent.")

    def test_what_was_cut_on_purpose_is_an_answer(self, write: Any, at: Any) -> None:
        run = write([at(0, 0, 10), at(1, 10, 10, status="cancelled", cancelled_by="stop_rule")])
        found = charts(*observe(run))
        assert isinstance(found["errors"], Absent)
        latency = found["latency"]
        assert isinstance(latency, Chart)
        assert latency.alt.endswith("Every request was answered.")
        assert not [part for part in request_parts(*observe(run)) if "without an answer" in repr(part)]

    def test_arrivals_without_a_record_are_told_where_no_line_shows_them(self, bench: Any, at: Any) -> None:
        found = charts(*observe(bench([at(0, 0, 10), at(1, 10, 10)], load={"unsent": 3})))
        for name in ("in_flight", "throughput"):
            chart = found[name]
            assert isinstance(chart, Chart)
            assert "3 arrivals never sent: in no line here." in chart.note

    def test_a_failure_that_never_ended_is_inside_a_log_axis(self, bench: Any, at: Any, failed: Any) -> None:
        rows = [at(i, 10 * i, 1000 if i == 9 else 10, 10) for i in range(10)] + [failed(10, ended_at=None)]
        chart = charts(*observe(bench(rows)))["latency"]
        assert isinstance(chart, Chart)
        axis = chart.figure.layout.yaxis
        assert axis.type == "log"
        assert 10 ** axis.range[0] <= min(_series(chart, "no answer").y)

    def test_kinds_that_are_not_drawn_are_counted(self, bench: Any, failed: Any) -> None:
        run = bench([failed(i) for i in range(22)])
        journal = run / "records.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        kinds = [b'"kind":"kind-%d"' % n for n in range(22)]
        odd = [line.replace(b'"kind":"timeout"', kind) for line, kind in zip(lines, kinds, strict=True)]
        journal.write_bytes(b"".join(odd))
        chart = charts(*observe(run))["errors"]
        assert isinstance(chart, Chart)
        assert chart.note == "2 rarer kinds left out."


def test_late_sends_of_a_closed_loop_are_those_of_its_window(bench: Any, at: Any) -> None:
    rows = [at(0, 0, 10, sent_at=90 * MS), *(at(i, 100 * i, 10) for i in range(1, 4))]
    load = {"executor": "constant-concurrency", "steady_begin_ns": 50 * MS, "steady_end_ns": 250 * MS}
    chart = charts(*observe(bench(rows, load=load)))["late_sends"]
    assert isinstance(chart, Chart)
    assert list(chart.figure.data[0].y) == [0, 0]
    assert "of 2 sends" in chart.alt
