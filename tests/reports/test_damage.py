"""Lines with numbers that cannot be, and texts that would be markup, terminal codes or formulas."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.formats import RENDERERS
from reports.layout import apart, one_line
from reports.metrics import summarize
from reports.others import TOOLS, _Weighted, as_other
from reports.text import WIDTH
from runner.record import ErrorKind

MS = 1_000_000
YEAR_NS = 365 * 86_400 * 10**9


def with_field(record: Any, path: tuple[str | int, ...], value: Any) -> bytes:
    said = json.loads(msgspec.json.encode(record))
    at = said
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ended_at",), 1 << 63),
        (("ended_at",), 1 << 61),
        (("sent_at",), -1),
        (("scheduled_at",), 11 * YEAR_NS),
        (("ended_at",), 86_400 * 10**9 * 2),  # two days; its session ended after two seconds
        (("connection", "connect_ns"), 1 << 70),
        (("held_ns",), 1 << 70),
        (("turn",), 1 << 70),
        (("asked_output_tokens",), 1 << 62),
        (("chunk_us",), [0, 1 << 70]),
        (("chunk_tokens",), [1 << 70]),
        (("cost",), 1e300),
        (("phase",), "measuer"),
        (("status",), "okay"),
    ],
)
@pytest.mark.parametrize("kind", ["run", "bench"])
def test_one_absurd_field_is_one_bad_line(
    write: Any, bench: Any, record: Any, kind: str, path: tuple[str, ...], value: Any
) -> None:
    lines = [record(0), with_field(record(1), path, value), record(2)]
    run = (write if kind == "run" else bench)(lines)
    summary = summarize(run)
    assert (summary.journal.bad_count, summary.requests.ok) == (1, 2)
    assert summary.journal.damaged_ids == [record(1).id]
    for form in RENDERERS.values():
        assert "4e+09" not in form([summary])
    for tool in TOOLS:
        found = as_other(run, tool)
        assert found.requests == 2
        assert found.seconds is not None
        assert found.seconds < 1


def test_a_token_count_of_quadrillions_takes_no_memory(write: Any, record: Any) -> None:
    run = write([record(0, usage={"prompt_tokens": 7, "completion_tokens": (1 << 53) - 1}), record(1)])
    for tool in TOOLS:
        assert as_other(run, tool).requests == 2


weights = st.lists(st.tuples(st.floats(0.01, 1e4), st.integers(1, 50)), min_size=1, max_size=30)


@given(pairs=weights, p=st.sampled_from([0.0, 50.0, 95.0, 99.0, 100.0]))
def test_weighted_quantiles_are_those_of_values_repeated(pairs: list[tuple[float, int]], p: float) -> None:
    values, counts = np.array([v for v, _ in pairs]), np.array([n for _, n in pairs])
    found = _Weighted()
    for value, count in zip(values, counts, strict=True):
        found.add(np.array([value]), np.array([float(count)]))
    repeated = np.repeat(values, counts)
    assert found.percentile(p) == pytest.approx(np.percentile(repeated, p), rel=1e-9)
    assert found.mean == pytest.approx(repeated.mean(), rel=1e-9)


def test_many_weighted_values_are_put_together() -> None:
    found, rng = _Weighted(), np.random.default_rng(1)
    values = np.exp(rng.normal(3, 1, 120_000))
    for part in np.split(values, 12):
        found.add(part, np.full(len(part), 2.0))
    assert found.percentile(50) == pytest.approx(np.median(values), rel=0.002)


# -- text

EVIL = "x\x1b[31m\r\n# no\u2028![a](http://b) <b>*y*_z_</b> | `c`\u202e"


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_what_a_server_says_stays_on_its_line_and_is_no_markup(
    bench: Any, record: Any, failed: Any, form: str
) -> None:
    error = failed(1, ErrorKind.SERVER_ERROR)
    said = json.loads(msgspec.json.encode(error))
    said["error"]["message"] = EVIL
    said["finish_reason"] = None
    scenario = {"target": {"base_url": "http://h/v1", "model": EVIL}}
    lines = [record(0, finish_reason=EVIL), json.dumps(said).encode()]
    summary = summarize(bench(lines, scenario=scenario, tags={"t": EVIL}))
    for text in (RENDERERS[form]([summary]), RENDERERS[form]([summary, summary])):
        assert not any(ord(c) < 32 and c != "\n" for c in text)
        assert not set("\u2028\u202e") & set(text)
        assert not any(line.lstrip().startswith("# no") for line in text.splitlines())
        if form == "markdown":
            assert "![a]" not in text.replace(r"\!\[a\]", "")
            assert "<b>" not in text
            assert "*y*" not in text


def test_one_line_keeps_no_break_spaces() -> None:
    assert one_line("a\u00a0b\tc\x00d") == "a\u00a0b c d"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_text_of_a_csv_is_a_formula(bench: Any, record: Any, text: str) -> None:
    out = RENDERERS["csv"]([summarize(bench([record(0)], tags={"t": text}))])
    (row,) = (row for row in csv.DictReader(io.StringIO(out)) if row["metric"] == "tag.t")
    assert row["value"] == f"'{text}"


def test_the_name_of_a_run_is_no_formula(write: Any, record: Any, monkeypatch: Any) -> None:
    run: Path = write([record(0)], name="=cmd")
    monkeypatch.chdir(run.parent)
    rows = list(csv.DictReader(io.StringIO(RENDERERS["csv"]([summarize("=cmd")]))))
    assert {row["run"] for row in rows} == {"'=cmd"}
    assert rows[0]["value"] == "1"


# -- width and names


def test_long_texts_of_verdicts_wrap(bench: Any, record: Any) -> None:
    texts = {"ttft{a_rather_long_column_of_mine:a rather long value of it}": ["p(99)<800ms"]}
    slow = {"executor": "ramping-concurrency", "steady_begin_ns": None, "steady_end_ns": None}
    run = bench(
        [record(0)], scenario={"thresholds": {**texts, "output_throughput": ["value>100"]}}, load=slow
    )
    text = RENDERERS["text"]([summarize(run)])
    assert [line for line in text.splitlines() if len(line) > WIDTH and str(run) not in line] == []
    assert "no data: no answer with" in text


def test_names_that_differ_at_their_end_still_do() -> None:
    urls = [f"a-rather-long-host.example.org:80{n}/v1" for n in (1, 2)]
    found = apart(urls)
    assert len(set(found)) == 2
    assert all(len(name) == 22 for name in found)
    middle = apart([f"the same at both ends {n} the same at both ends" for n in "ab"])
    assert len(set(middle)) == 2


def test_labels_side_by_side_are_whole_or_none(bench: Any, record: Any) -> None:
    scenario = {"prompts": {"synthetic": {"unique": True}}}
    cached = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 7}}
    many = [record(0, usage=cached, asked_output_tokens=50, held_ns=5 * MS)]
    unsent = {"scheduled": 100, "sent": 1, "arrived": 1, "unsent": 99, "peak_in_flight": 100}
    runs = [bench(many, scenario=scenario, load=unsent), bench([record(0)], name="none")]
    text = RENDERERS["text"]([summarize(run) for run in runs])
    (line,) = (line for line in text.splitlines() if line.startswith("  labels"))
    assert line.split() == ["labels", "UNSTABLE", "HELD", "SHORT", "CACHED", "none"]
