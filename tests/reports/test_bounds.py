"""Numbers of which only a bound is known: said so everywhere, and judged as such."""

import csv
import io
from typing import Any

import pytest

from reports.bench import Bench
from reports.cells import share
from reports.distribution import name_of
from reports.formats import RENDERERS
from reports.metrics import summarize

MS = 1_000_000
SILENT = {"usage": None, "usage_source": "none"}


def of(run: Any) -> Bench:
    found = summarize(run).bench
    assert found is not None
    return found


def judged(run: Any) -> dict[str, str]:
    return {v.threshold: v.verdict for v in of(run).verdicts if not v.default}


def test_a_throughput_that_some_answers_are_missing_from(bench: Any, record: Any) -> None:
    """5 tokens in 10 s are known of, at least."""
    texts = ["value<1", "value<0.4", "value>0.4", "value>1", "value==0.5", "value==0.1", "value!=0.1"]
    lines = [record(0), record(1, **SILENT)]
    run = bench(lines, scenario={"thresholds": {"output_throughput": texts}})
    assert judged(run) == {
        "output_throughput: value<1": "INCONCLUSIVE",
        "output_throughput: value<0.4": "FAIL",
        "output_throughput: value>0.4": "PASS",
        "output_throughput: value>1": "INCONCLUSIVE",
        "output_throughput: value==0.5": "INCONCLUSIVE",
        "output_throughput: value==0.1": "FAIL",
        "output_throughput: value!=0.1": "PASS",
    }
    summary = summarize(run)
    text = RENDERERS["text"]([summary])
    assert ">=0.500 tokens/s" in text.splitlines()[2]
    assert "at least 0.500/s" in text
    assert ">=0.500" in RENDERERS["text"]([summary, summary]).partition("output tokens/s, steady")[2]
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(RENDERERS["csv"]([summary])))}
    assert rows["steady.output_throughput"]["lower_bound"] == "True"
    assert rows["steady.request_throughput"]["lower_bound"] == "False"


def test_prompts_without_usage_are_counted_apart(bench: Any, record: Any) -> None:
    lines = [record(0), record(1, usage={"completion_tokens": 5})]
    steady = of(bench(lines)).steady
    assert (steady.without_usage, steady.without_input) == (0, 1)
    assert (steady.at_least("output_throughput"), steady.at_least("input_throughput")) == (False, True)
    # A prompt counts where its first token came, and not where a part of its answer did.
    outside = [record(0), record(1, **SILENT)]
    window = {"steady_begin_ns": 20 * MS, "schedule_begin_ns": 20 * MS}
    steady = of(bench(outside, load=window, name="outside")).steady
    assert (steady.without_usage, steady.without_input) == (1, 0)


def test_a_throughput_without_a_window_cannot_be_judged(bench: Any, record: Any) -> None:
    load = {"executor": "ramping-concurrency", "steady_begin_ns": None, "steady_end_ns": None}
    scenario = {"thresholds": {"request_throughput": ["value>1"]}}
    (found,) = (v for v in of(bench([record(0)], load=load, scenario=scenario)).verdicts if not v.default)
    assert found.verdict == "INCONCLUSIVE"
    assert found.words == "the steady window is not known: a changing number at once has none"


def test_goodput_of_which_most_is_unknown(bench: Any, record: Any) -> None:
    """15 misses and 45 that nobody can judge: anything up to three quarters."""
    missed = [record(i, last_token_at=900 * MS, ended_at=901 * MS) for i in range(15)]
    unknown = [record(15 + i, **SILENT) for i in range(45)]
    texts = ["rate>50%", "rate>80%", "rate<80%", "count>10", "count>50"]
    run = bench(missed + unknown, scenario={"slo": {"tpot": "15ms"}, "thresholds": {"goodput": texts}})
    good = of(run).goodput
    assert (good.share, good.low, good.high) == (None, 0.0, 0.75)
    assert judged(run) == {
        "goodput: rate>50%": "INCONCLUSIVE",
        "goodput: rate>80%": "FAIL",
        "goodput: rate<80%": "PASS",
        "goodput: count>10": "INCONCLUSIVE",
        "goodput: count>50": "FAIL",
    }
    summary = summarize(run)
    flat = " ".join(RENDERERS["text"]([summary]).split())
    assert "goodput 0.00% to 75.00% 0 of 15 judged, 45 unknown: met tpot <= 15.00 ms" in flat
    assert "goodput 0.00% to 75.00%" in " ".join(RENDERERS["text"]([summary, summary]).split())


@pytest.mark.parametrize("agg", ["p(50)", "med", "avg", "min", "max"])
def test_no_number_of_withheld_gaps_is_judged(bench: Any, record: Any, agg: str) -> None:
    lines = [record(i, chunk_us=[0, 0, 0, 10]) for i in range(50)]
    assert judged(bench(lines, scenario={"thresholds": {"itl": [f"{agg}<1s"]}})) == {
        f"itl: {agg}<1s": "INCONCLUSIVE"
    }


def test_selected_metrics_have_their_unit_and_itl_its_gaps(bench: Any, record: Any) -> None:
    lines = [record(i, turn=i % 2) for i in range(4)]
    texts = {"output_rate{turn:1}": ["med>1"], "itl{turn:1}": ["max<31"], "ttft{trun:1}": ["med<1s"]}
    run = bench(lines, scenario={"thresholds": texts})
    found, selected = of(run), summarize(run).selected
    assert {name: d.unit for name, d in selected.items()} == {
        "output_rate{turn:1}": "tokens/s",
        "itl{turn:1}": "ms",
    }
    assert selected["itl{turn:1}"].n == 4
    said = {v.threshold: (v.verdict, v.words) for v in found.verdicts if not v.default}
    assert said["itl{turn:1}: max<31"][0] == "PASS"
    assert said["ttft{trun:1}: med<1s"] == ("FAIL", "no data: no answer with ttft{trun:1}")


@pytest.mark.parametrize(
    ("p", "name"), [(99.99999, "p99.99999"), (99.9, "p99.9"), (50, "p50"), (100.0, "p100")]
)
def test_a_percentile_keeps_its_name(p: float, name: str) -> None:
    assert name_of(p) == name


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00%"), (0.00004, "<0.01%"), (0.00006, "0.01%"), (None, "-")]
)
def test_a_share_that_is_not_0_does_not_read_as_0(value: float | None, text: str) -> None:
    assert share(value) == text
