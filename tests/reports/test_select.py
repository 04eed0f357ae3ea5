"""Selectors: where a key is looked for, what values are alike, and the numbers of those records."""

from __future__ import annotations

from typing import Any

import pytest

from reports.judge import judge
from reports.metrics import summarize
from runner.record import ErrorKind
from scenarios.thresholds import parse_line

MS = 1_000_000


def found(run: Any, *lines: str) -> list[tuple[str, float | None]]:
    thresholds = [parse_line(line) for line in lines]
    return [(v.verdict, v.value) for v in judge(summarize(run, thresholds), thresholds)]


@pytest.mark.parametrize(
    ("selector", "values"),
    [
        ("topic:math", [1.0, 3.0]),
        ("topic:geo", [2.0]),
        ("topic:none", []),
        ("level:1", [1.0]),
        ("level:1.5", [2.0]),
        ("level:true", [3.0]),
        ("topic:math,level:1", [1.0]),
        ("finish_reason:length", [2.0]),
        ("turn:1", [3.0]),
        ("sample:0", [1.0, 2.0, 3.0]),
        ("session:1", [1.0, 2.0, 3.0]),
        ("base_url:http://a/v1", [1.0]),
        ("scenario:chat", [1.0, 2.0, 3.0]),
        ("scenario:other", []),
        ("build:7", [1.0, 2.0]),  # the tag, but where a row has a column of that name
        ("build:9", [3.0]),
        ("tag.build:7", [1.0, 2.0, 3.0]),
        ("row.build:9", [3.0]),
        ("row.turn:x", [2.0]),  # the caller's own, which the record's shadows
        ("turn:x", []),
        ("missing:1", []),
    ],
)
def test_which_records_are_meant(write: Any, record: Any, selector: str, values: list[float]) -> None:
    from runner.record import Connection

    at = {i: {"sent_at": 3 * MS, "first_token_at": (3 + i) * MS} for i in (1, 2, 3)}
    lines = [
        record(1, **at[1], row={"topic": "math", "level": 1}, connection=Connection(base_url="http://a/v1")),
        record(2, **at[2], row={"topic": "geo", "level": 1.5, "turn": "x"}, finish_reason="length"),
        record(3, **at[3], row={"topic": "math", "level": True, "build": 9}, turn=1),
        record(4, phase="warmup", row={"topic": "math"}),
    ]
    run = write(lines, tags={"build": "7"}, scenario={"name": "chat"})
    name = f"ttft{{{selector}}}"
    wanted = [parse_line(f"{name}: {agg}>0") for agg in ("count", "min", "max", "avg")]
    d = summarize(run, wanted).selected.get(name)
    if not values:
        assert d is None
        assert found(run, f"{name}: max<1s") == [("FAIL", None)]
    else:
        assert d is not None
        assert (d.n, d.min, d.max) == (len(values), min(values), max(values))


def test_null_is_no_value(write: Any, record: Any) -> None:
    run = write([record(1, row={"topic": None})])
    assert found(run, "ttft{topic:null}: max<1s", "ttft{topic:None}: max<1s") == [("FAIL", None)] * 2


def test_errors_of_chosen_records(write: Any, record: Any, failed: Any) -> None:
    lines = [
        record(1, row={"topic": "math"}),
        failed(2, ErrorKind.TIMEOUT, row={"topic": "math"}),
        failed(3, ErrorKind.OVERLOADED, row={"topic": "geo", "kind": "timeout"}),
        record(4, row={"topic": "geo"}),
        record(5, status="cancelled", cancelled_by="user", row={"topic": "math"}),
    ]
    run = write(lines)
    assert found(
        run,
        "errors{topic:math}: rate<1%",
        "errors{kind:timeout}: rate<=25%",  # the error's kind, whatever column a row has
        "errors{kind:timeout,topic:math}: count==1",
        "errors{kind:tls}: count==0",
        "errors{topic:nope}: count==0",
        "errors{topic:math}: ucb(rate)<1",
    ) == [
        ("FAIL", 0.5),
        ("PASS", 0.25),
        ("PASS", 1.0),
        ("PASS", 0.0),
        ("FAIL", None),
        ("PASS", pytest.approx(0.9975, abs=1e-3)),
    ]


def test_pooled_gaps_and_rates_of_chosen_records(write: Any, record: Any) -> None:
    lines = [record(1, row={"t": "a"}), record(2, row={"t": "b"}, chunk_us=[0, 5_000, 12_000])]
    got = found(
        write(lines), "itl{t:a}: max<1s", "itl{t:b}: max<1s", "itl{t:b}: count==2", "output_rate{t:a}: med>1"
    )
    assert got == [("PASS", 30.0), ("PASS", 7.0), ("PASS", 2.0), ("PASS", 125.0)]


def test_several_percentiles_of_one_selector(write: Any, record: Any) -> None:
    lines = [record(i, sent_at=3 * MS, first_token_at=(4 + i) * MS, row={"t": "a"}) for i in range(100)]
    got = found(
        write(lines),
        "ttft{t:a}: p(97.5)<1s",
        "ttft{t:a}: p(42)<1s",
        "ttft: p(42)<1s",
        "ttft{t:a}: ucb(med)<1s",
    )
    assert got == [
        ("PASS", pytest.approx(1 + 0.975 * 99)),
        ("PASS", pytest.approx(1 + 0.42 * 99)),
        ("PASS", pytest.approx(1 + 0.42 * 99)),
        ("PASS", 64.0),
    ]


def test_a_selector_judges_what_a_run_without_it_would(bench: Any, record: Any) -> None:
    """A bench's own thresholds with a selector, in its one pass."""
    lines = [record(i, row={"t": "ab"[i % 2]}, first_token_at=(4 + i) * MS) for i in range(10)]
    made = summarize(
        bench(lines, scenario={"thresholds": {"ttft{t:b}": ["max<=10"], "ttft{t:a}": ["max<=8"]}})
    )
    assert made.bench is not None
    assert [(v.metric, v.verdict, v.value) for v in made.bench.verdicts if "ttft" in v.metric] == [
        ("ttft{t:b}", "PASS", 10.0),
        ("ttft{t:a}", "FAIL", 9.0),
    ]


def test_columns_are_decoded_only_for_selectors() -> None:
    from reports.rows import Row
    from reports.select import SelectedRow, Selections
    from runner.store import Manifest

    manifest = Manifest(kind="run", created="", scenario={})
    assert Selections([parse_line("ttft: max<1")], manifest).row_type is Row
    assert Selections([parse_line("ttft{a:b}: max<1")], manifest).row_type is SelectedRow
