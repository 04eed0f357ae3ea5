"""What a bench counts: tokens by when they arrived, goodput, lateness."""

from typing import Any

import msgspec
import pytest

from reports.bench import Bench
from reports.frame import chunk_times, frame
from reports.metrics import summarize
from reports.rows import Row
from reports.windows import arrived
from runner.record import Connection

MS = 1_000_000


def of(run: Any) -> Bench:
    found = summarize(run).bench
    assert found is not None
    return found


def row(record: Any) -> Row:
    return msgspec.json.decode(msgspec.json.encode(record), type=Row)


@pytest.mark.parametrize(
    ("changes", "begin", "end", "share"),
    [
        # Chunks at 13, 23 and 53 ms.
        ({}, 0, 100, 1),
        ({}, 13, 53, 2 / 3),  # the end is outside
        ({}, 14, 100, 2 / 3),
        ({}, 60, 100, 0),
        # Without the times of chunks, evenly from 13 to 53 ms.
        ({"chunk_us": msgspec.UNSET}, 33, 100, 0.5),
        ({"chunk_us": msgspec.UNSET, "last_token_at": 13 * MS}, 13, 14, 1),
        ({"chunk_us": []}, 23, 33, 0.25),
        # An answer that came whole: at its end, 54 ms.
        ({"first_token_at": None, "last_token_at": None, "chunk_us": msgspec.UNSET}, 54, 60, 1),
        ({"first_token_at": None, "last_token_at": None, "chunk_us": msgspec.UNSET}, 13, 54, 0),
    ],
)
def test_share_of_tokens(record: Any, changes: dict[str, Any], begin: int, end: int, share: float) -> None:
    rows = [row(record(0)), row(record(1, **changes)), row(record(2))]
    found = arrived(frame(rows), chunk_times(rows), begin * MS, end * MS)
    assert found[1] == pytest.approx(share)
    assert found[0] == found[2]


def test_a_bench_without_a_window_has_the_whole_run(bench: Any, record: Any) -> None:
    run = bench(
        [record(0)],
        load={"steady_begin_ns": None, "steady_end_ns": None, "executor": "constant-concurrency"},
    )
    found = of(run)
    assert (found.steady.seconds, found.steady.output_throughput, found.in_flight_mean) == (None, None, None)
    # From 1 ms to 54 ms: 5 tokens.
    assert found.whole.output_throughput == pytest.approx(5 / 0.053)


@pytest.mark.parametrize("odd", [None, "x", -1, 1.5, True, 1 << 70, [], {"a": 1}])
def test_odd_values_of_the_gauge_are_absent(bench: Any, record: Any, odd: Any) -> None:
    keys = ("scheduled", "sent", "unsent", "held", "mean_gap_ms", "steady_begin_ns", "schedule_begin_ns")
    gauge = {"lag": odd, "gc": odd, "cpu": {"user_s": odd}, "fit": odd, "calibration": odd}
    found = of(bench([record(0)], load=dict.fromkeys(keys, odd), gauge=gauge))
    assert (found.load.scheduled, found.steady.seconds, found.client.lag) == (None, None, None)
    assert found.validity.level == "WARN"


def test_an_open_loop_falls_back_on_its_schedule(bench: Any, record: Any) -> None:
    found = of(bench([record(0)], load={"steady_begin_ns": None}))
    assert found.steady.seconds == 10.0


def test_tokens_without_usage_are_named_and_not_guessed(bench: Any, record: Any) -> None:
    found = of(bench([record(0), record(1, usage=None, usage_source="none")]))
    assert (found.steady.output_tokens, found.steady.without_usage) == (5, 1)
    found = of(bench([record(1, usage=None, usage_source="none")], name="none"))
    assert (found.steady.output_throughput, found.steady.request_throughput) == (None, 0.1)


SLO = {"slo": {"ttft": "10ms", "tpot": 0.01}}  # record(): ttft 10, tpot 10


@pytest.mark.parametrize(
    ("changes", "met", "of_", "unknown"),
    [
        ({}, 1, 1, 0),
        ({"first_token_at": 14 * MS}, 0, 1, 0),
        ({"last_token_at": 54 * MS}, 0, 1, 0),
        # One token has no time a token; neither have several at one instant.
        ({"usage": {"completion_tokens": 1}}, 1, 1, 0),
        ({"last_token_at": 13 * MS}, 1, 1, 0),
        # No usage: nobody knows.
        ({"usage": None, "usage_source": "none"}, 0, 0, 1),
        # But one miss is a miss.
        ({"usage": None, "usage_source": "none", "first_token_at": 14 * MS}, 0, 1, 0),
        ({"streamed": False, "first_token_at": None, "last_token_at": None}, 0, 0, 1),
        ({"status": "cancelled", "cancelled_by": "deadline"}, 0, 1, 0),
        ({"status": "cancelled", "cancelled_by": "user"}, 0, 0, 0),
        ({"status": "cancelled", "cancelled_by": "abandon"}, 0, 0, 0),
        ({"phase": "warmup"}, 0, 0, 0),
    ],
)
def test_goodput(bench: Any, record: Any, changes: dict[str, Any], met: int, of_: int, unknown: int) -> None:
    good = of(bench([record(0, **changes)], scenario=SLO)).goodput
    assert (good.met, good.of, good.unknown) == (met, of_, unknown)


def test_goodput_of_failed_and_unsent(bench: Any, record: Any, failed: Any) -> None:
    lines = [record(0), failed(1)]
    assert of(bench(lines, scenario=SLO, load={"unsent": 2})).goodput.share == 1 / 4
    # Who stopped the run did not see what would have come.
    stopped = bench(lines, scenario=SLO, load={"unsent": 2}, ended_by="interrupted", name="stopped")
    found = of(stopped)
    assert (found.goodput.share, found.missed) == (1 / 2, 0)


def test_an_unsent_arrival_with_a_record_is_no_second_miss(bench: Any, record: Any) -> None:
    waiting = record(1, sent_at=None, first_token_at=None, status="cancelled", cancelled_by="deadline")
    found = of(bench([record(0), waiting], scenario=SLO, load={"unsent": 1}))
    assert (found.missed, found.goodput.of) == (0, 2)
    second = (
        summarize(bench([record(0), waiting], load={"unsent": 1}, name="b")).metrics["ttft"].with_failures
    )
    assert second is not None
    assert second.failures == 1


@pytest.mark.parametrize("slo", [{"itl": "10ms"}, {"ttft": "soon"}, {"ttft": None}])
def test_goodput_without_an_slo_that_can_be_judged(bench: Any, record: Any, slo: dict[str, Any]) -> None:
    found = of(bench([record(0)], scenario={"slo": slo}))
    assert found.goodput.share is None
    assert "goodput" in found.unjudged
    assert of(bench([record(0)], name="none")).goodput.share is None


def test_lateness_is_without_connecting_and_with_a_place_free(bench: Any, record: Any) -> None:
    opened = Connection(reused=False, connect_ns=90 * MS)
    kept = Connection(reused=True)
    run = bench(
        [
            record(0, sent_at=101 * MS, connection=opened),  # 100 late, 90 of it connecting
            record(1, sent_at=101 * MS, connection=kept, held_ns=99 * MS),
            record(2, sent_at=3 * MS, connection=kept),
            record(3, sent_at=None, connection=kept),
        ]
    )
    client = of(run).client
    assert (client.sends, client.late, client.delay_free_n) == (2, 1, 2)
    assert client.delay_free_p50_ms == pytest.approx((10 + 2) / 2)


@pytest.mark.parametrize(("gap", "limit"), [(None, 5.0), (100.0, 5.0), (2000.0, 20.0)])
def test_late_is_beyond_5_ms_or_a_hundredth_of_the_gap(
    bench: Any, record: Any, gap: float | None, limit: float
) -> None:
    lines = [
        record(i, sent_at=int((1 + late) * MS), connection=Connection(reused=True))
        for i, late in enumerate((limit, limit + 0.1))
    ]
    client = of(bench(lines, load={"mean_gap_ms": gap})).client
    assert (client.late_over_ms, client.sends, client.late) == (limit, 2, 1)


def test_a_closed_loop_is_judged_once_its_places_are_filled(bench: Any, record: Any) -> None:
    load = {"executor": "constant-concurrency", "steady_begin_ns": 100 * MS, "mean_gap_ms": None}
    kept = Connection(reused=True)
    run = bench(
        [
            record(0, scheduled_at=0, sent_at=40 * MS, connection=kept),  # the places are filled one by one
            record(1, scheduled_at=200 * MS, sent_at=201 * MS, connection=kept),
            record(2, scheduled_at=300 * MS, sent_at=310 * MS, connection=kept),
        ],
        load=load,
    )
    client = of(run).client
    assert (client.sends, client.late, client.delay_free_n, client.sent_share) == (2, 1, 0, None)


def test_in_flight_is_littles_law(bench: Any, record: Any) -> None:
    lines = [record(i, scheduled_at=i * 2 * MS, ended_at=(i * 2 + 50) * MS) for i in range(2500)]
    found = of(bench(lines))
    # Little's law: 2,500 arrivals of 50 ms each in 10 s.
    assert found.in_flight_mean == pytest.approx(2500 * 0.05 / 10)
