"""The frame people analyse: a row a request, units in the names, nothing invented."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from reports.frame import chunk_times, frame, gaps_us, load
from reports.metrics import summarize
from reports.rows import Row, block_rows
from runner.record import Connection, ErrorKind, Record, tokens
from runner.store import StoreError, build_index

MS = 1_000_000


def rows(*records: Record) -> list[Row]:
    return [msgspec.json.decode(msgspec.json.encode(record), type=Row) for record in records]


def test_load(write: Any, record: Any, failed: Any) -> None:
    run = write([record(2, custom_id="c"), failed(0, ErrorKind.OVERLOADED, http_status=503), record(1)])
    frame = load(str(run))
    assert frame["index"].tolist() == [0, 1, 2]
    assert frame["status"].tolist() == ["error", "ok", "ok"]
    assert frame["error_kind"].tolist()[0] == "overloaded"
    assert frame["http_status"].tolist() == [503, pd.NA, pd.NA]
    assert frame["custom_id"].tolist()[2] == "c"
    assert frame["prompt_tokens"].tolist() == [pd.NA, 7, 7]
    assert frame["chunks"].tolist() == [3, 3, 3]
    assert frame["cost"].isna().all()
    assert frame["cost_source"].tolist() == ["none"] * 3
    assert frame.loc[1, "tpot_ms"] == 10.0
    assert math.isnan(frame.loc[0, "tpot_ms"])  # type: ignore[arg-type]


def test_costs_and_endpoints(record: Any) -> None:
    priced = record(0, cost=0.5, cost_source="prices", connection=Connection(base_url="http://a/v1"))
    table = frame(rows(priced, record(1)))
    assert table["cost"].tolist()[0] == 0.5
    assert math.isnan(table["cost"].tolist()[1])
    assert table["cost_source"].tolist() == ["prices", "none"]
    assert table["base_url"].isna().tolist() == [False, True]


def test_long_sessions_keep_every_nanosecond(record: Any) -> None:
    late = 200 * 86_400 * 10**9 + 1
    table = frame(rows(record(ended_at=late, sent_at=late - 1)))
    assert table["ended_at_ns"].tolist() == [late]
    assert table["e2e_ms"].tolist() == [1e-6]


def test_an_empty_run_has_the_same_columns(write: Any, record: Any) -> None:
    empty, one = load(write([], name="empty")), load(write([record()], name="one"))
    assert len(empty) == 0
    assert empty.columns.tolist() == one.columns.tolist()
    assert empty.dtypes.tolist() == one.dtypes.tolist()


def test_no_such_run() -> None:
    with pytest.raises(StoreError, match="no run directory nowhere"):
        load("nowhere")


def test_a_bare_name_is_looked_for_among_the_runs(
    write: Any, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    write([record()], name="one").rename(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    assert len(load("one")) == 1
    assert summarize("one").requests.ok == 1


def test_gaps_on_request(record: Any) -> None:
    assert gaps_us(rows(record(0, chunk_us=[0, 7, 9]), record(1, chunk_us=[0]), record(2))).tolist() == [
        7,
        2,
        10_000,
        30_000,
    ]
    assert gaps_us([]).dtype == np.int64


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (None, None, None, None)),
        ({}, (None, None, None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, None, None)),
        ({"prompt_tokens": -1, "completion_tokens": "4"}, (None, None, None, None)),
        ({"completion_tokens": 4.0, "completion_tokens_details": None}, (None, 4, None, None)),
        ({"completion_tokens": float("inf")}, (None, None, None, None)),
        ({"prompt_cache_hit_tokens": 3, "reasoning_tokens": 2}, (None, None, 2, 3)),
    ],
)
def test_odd_usage(usage: dict[str, Any] | None, counts: tuple[int | None, ...]) -> None:
    found = tokens(usage)
    assert (found.prompt, found.completion, found.reasoning, found.cached) == counts


def test_blocks_are_smaller_where_lines_are_long(write: Any, record: Any) -> None:
    short = build_index(write([record(i) for i in range(5)], name="short"))
    long = build_index(write([record(i, text="x" * 400_000) for i in range(5)], name="long"))
    assert block_rows(short) == 1000
    assert 1 <= block_rows(long) < 30


def test_chunks_of_some_rows(record: Any) -> None:
    found = chunk_times(
        rows(record(0, chunk_us=[0, 7, 9]), record(1, chunk_us=msgspec.UNSET), record(2, chunk_us=[0, 4]))
    )
    assert found.lengths.tolist() == [3, -1, 2]
    some = found.of(np.array([False, True, True]))
    assert (some.lengths.tolist(), some.us.tolist(), some.gaps_us().tolist()) == ([-1, 2], [0, 4], [4])
    assert np.isnan(some.stall_ms()).tolist() == [True, False]
