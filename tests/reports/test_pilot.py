"""What a pilot says of the rest: totals and intervals worked out by hand, and nothing made up."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from reports.pilot import Amount, estimate, render_pilot
from runner.record import Error, ErrorKind

S = 1_000_000_000
PRICED = {"cost_source": "prices"}


def timed(seconds: float) -> dict[str, Any]:
    return {"scheduled_at": 0, "ended_at": int(seconds * S)}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def interval(amount: Amount) -> tuple[float, float, float]:
    assert amount.total is not None
    assert amount.low is not None
    assert amount.high is not None
    return amount.total, amount.low, amount.high


def test_totals_and_intervals(write: Any, record: Any) -> None:
    values = [10, 20, 30, 40]
    run = write(
        [record(i, **timed(n / 10), **usage(n, 2 * n), cost=n / 100, **PRICED) for i, n in enumerate(values)]
    )
    found = estimate(run, 1, 96, 8)
    assert (found.requests, found.failed, found.rows_left) == (4, 0, 96)
    # t(3, 97.5 %) = 3.182446; s = 12.909944; s * sqrt(96 * 100 / 4) = 632.4555
    half = 3.182446 * 632.4555
    assert interval(found.prompt_tokens) == pytest.approx((2400, 2400 - half, 2400 + half))
    assert interval(found.completion_tokens) == pytest.approx((4800, 4800 - 2 * half, 4800 + 2 * half))
    assert interval(found.cost) == pytest.approx((24, 24 - half / 100, 24 + half / 100))
    # 2.5 s a request in 8 places: 96 * 2.5 / 8 = 30 s.
    assert interval(found.hours) == pytest.approx(
        (30 / 3600, (30 - half / 80) / 3600, (30 + half / 80) / 3600)
    )
    size = (run / "records.jsonl").stat().st_size
    assert found.disk_bytes.total == pytest.approx(96 * size / 4)


def test_the_interval_holds_the_truth_as_often_as_it_says(write: Any, record: Any) -> None:
    rng = np.random.default_rng(1)
    hits, turns = 0, 60
    for turn in range(turns):
        rows = rng.integers(50, 150, size=60).tolist()
        run = write([record(i, **usage(n, n)) for i, n in enumerate(rows[:12])], name=f"run{turn}")
        _, low, high = interval(estimate(run, 1, 48, 4).prompt_tokens)
        hits += low <= sum(rows[12:]) <= high
    assert 0.88 <= hits / turns <= 1


def test_few_requests_have_no_interval(write: Any, record: Any) -> None:
    one = estimate(write([record(0, **timed(2), cost=0.5, **PRICED)]), 1, 10, 1)
    assert (one.cost.total, one.cost.low, one.cost.high) == (5.0, None, None)
    text = render_pilot(one)
    assert "n/a (needs 2)" in text
    assert "judged by 1 request of this session" in text
    none = estimate(write([], name="none"), 1, 10, 1)
    assert (none.requests, none.cost.total, none.hours.total) == (0, None, None)
    assert "no request has ended" in render_pilot(none)


def test_nothing_left(write: Any, record: Any) -> None:
    found = estimate(write([record(0), record(1)]), 1, 0, 4)
    assert interval(found.disk_bytes) == (0, 0, 0)
    assert render_pilot(found) == "Nothing is left to send.\n"


def test_unknown_stays_unknown(write: Any, record: Any) -> None:
    run = write(
        [
            record(0, cost=0.5, **PRICED),
            record(1, usage=None, usage_source="none"),
            record(2, cost=0.5, **PRICED),
        ]
    )
    found = estimate(run, 1, 30, 1)
    assert (found.cost.total, found.cost.missing) == (None, 1)
    assert (found.prompt_tokens.n, found.prompt_tokens.missing, found.prompt_tokens.total) == (2, 1, 210)
    text = render_pilot(found)
    assert "cost unknown time" in " ".join(text.split())
    assert "cost: what 1 of 3 requests cost is not known" in text
    assert "1 answer came without usage: not in the tokens" in text
    silent = render_pilot(estimate(write([record(0, usage=None)] * 1, name="silent"), 1, 30, 1))
    assert "prompt tokens unknown completion tokens unknown cost unknown" in " ".join(silent.split())
    assert "what 1 of 1 request cost is not known" in silent


def test_a_request_costs_what_all_its_attempts_cost(
    write: Any, record: Any, failed: Any, attempt: Any
) -> None:
    refused = Error(ErrorKind.RATE_LIMIT, "no", http_status=429)
    run = write(
        [
            record(
                0,
                cost=1.0,
                attempts=[
                    attempt(ErrorKind.RATE_LIMIT, error=refused),
                    attempt(ErrorKind.TRUNCATED, cost=0.5, cost_bound=3.0),
                    attempt(ErrorKind.TIMEOUT, cost_bound=0.25),
                ],
                **PRICED,
            ),
            failed(1, ErrorKind.BAD_REQUEST, http_status=400),
        ]
    )
    found = estimate(run, 1, 4, 1)
    # 1.75 and 0, so 0.875 a row; the attempt nobody knows the cost of counts with the most it can be.
    assert (found.cost.total, found.cost_bounded, found.failed) == (3.5, 1, 1)
    text = render_pilot(found)
    assert "1 request failed: in time, cost and disk, not in the tokens" in text
    assert "cost: 1 request of unknown cost count with the most it can be" in text


def test_only_that_session_and_all_of_it(write: Any, record: Any, failed: Any, session: Any) -> None:
    run = write(
        [
            record(0, **timed(100)),
            record(1, **timed(1)),
            # Sent again in vain: the answer of session 1 wins, and the request took its time all the same.
            failed(0, session=2, **timed(4)),
            record(2, session=2, **timed(2)),
            record(3, session=2, status="cancelled", cancelled_by="user", **timed(50)),
            record(4, session=2, status="cancelled", cancelled_by="stop_rule", **timed(3)),
            record(5, session=2, phase="warmup", **timed(50)),
            b"{",
        ],
        sessions=[session(1), session(2)],
    )
    found = estimate(run, 2, 1200, 1)
    assert (found.requests, found.failed) == (3, 1)
    assert found.hours.total == pytest.approx(1)


def test_limits_a_minute_hold_the_rest_as_well(write: Any, record: Any, session: Any) -> None:
    options = {"rpm": 60.0, "tpm": 120}
    run = write(
        [record(i, **timed(0.5), **usage(7, 5)) for i in range(3)], sessions=[session(options=options)]
    )
    found = estimate(run, 1, 600, 4)
    assert found.paced_hours == 1.0  # 600 * 12 tokens at 120 a minute; 10 minutes by requests
    text = render_pilot(found)
    assert "time: --rpm and --tpm allow no less than 1 h 00 min" in text
    assert "fewer requests than that, so it may take longer" in text
    slow = write(
        [record(i, **timed(900)) for i in range(4)], name="slow", sessions=[session(options={"rpm": 60})]
    )
    assert "--rpm" not in render_pilot(estimate(slow, 1, 600, 4))


def test_what_is_printed(write: Any, record: Any) -> None:
    run = write(
        [
            record(i, **timed(2 + i % 2), **usage(100, 50), cost=0.001 * (1 + i % 2), **PRICED)
            for i in range(50)
        ]
    )
    lines = render_pilot(estimate(run, 1, 9_950, 4)).splitlines()
    assert lines[0] == "The rest: 9,950 rows, judged by 50 requests of this session"
    assert lines[1].split() == ["total", "95", "%", "interval"]
    assert lines[2] == "  prompt tokens         995,000  995,000 to 995,000"
    assert lines[4] == "  cost                    14.93  13.49 to 16.36"
    assert lines[5] == "  time               1 h 43 min  1 h 37 min to 1 h 49 min"
    assert lines[6].startswith("  disk")
    assert "MB to " in lines[6]
    assert lines[-2:] == [
        "  - time: with 4 at once, retries included",
        "  - disk: the journal; what `export` writes comes on top",
    ]
    assert not any(math.isnan(value) for value in interval(estimate(run, 1, 9_950, 4).cost))


def test_damaged_lines_are_left_out(write: Any, record: Any) -> None:
    damaged = msgspec.json.decode(msgspec.json.encode(record(1))) | {"chunk_us": "what"}
    run: Path = write([record(0), msgspec.json.encode(damaged)])
    assert estimate(run, 1, 10, 1).requests == 1
