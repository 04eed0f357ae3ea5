"""A sweep's points, curve, knee and the formats it is shown in."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports.bench import Label, Reason, Verdict, Window
from reports.bench_tables import gpu_facts
from reports.gpu import gpu_of
from reports.metrics import summarize
from reports.page import Absent, Chart
from reports.summary import Summary
from reports.sweep import Answer, Curve, Planned, curve_of, standing
from reports.sweep_formats import RENDERERS
from reports.sweep_page import page_of
from reports.sweep_tables import bar, curves, sentences, table

GOLDEN = Path(__file__).parent / "schema-3"


@pytest.fixture(scope="module")
def golden() -> Summary:
    return summarize(GOLDEN)


def made(golden: Summary, rate: float, p95_ms: float, **changes: Any) -> Summary:
    """A bench at a rate whose first tokens took that long."""
    found = msgspec.json.decode(msgspec.json.encode(golden), type=Summary)
    bench = found.bench
    assert bench is not None
    found.scenario = {**found.scenario, "load": {"rate": rate}}
    found.metrics["ttft_sched"].percentiles["p95"] = p95_ms
    bench.steady.output_throughput = 10.0 * rate
    bench.steady.without_usage = 0
    bench.goodput.share = 1.0
    bench.validity.level, bench.validity.reasons = "OK", []
    bench.labels = [Label(name=name, value=1.0, words="growing") for name in changes.get("labels", ())]
    bench.verdicts = [
        Verdict(
            threshold="ttft_sched: p(95)<100ms",
            metric="ttft_sched",
            value=p95_ms,
            limit=100.0,
            verdict=changes.get("verdict", "PASS"),
            words=f"{p95_ms} ms",
        )
    ]
    if "invalid" in changes:
        check = changes["invalid"]
        reason = Reason(check=check, level="INVALID", measured=1, limit=0, words="Too late.", next_step="")
        bench.validity.level, bench.validity.reasons = "INVALID", [reason]
    return found


def swept(*summaries: Summary, keys: tuple[str, ...] = ("load.rate",), **more: Any) -> Curve:
    planned = [
        Planned(
            run=f"{n:02d}",
            values={key: one.scenario["load"]["rate"] if key == "load.rate" else n % 2 for key in keys},
            summary=one,
        )
        for n, one in enumerate(summaries, 1)
    ]
    return curve_of(planned, path="out", scenario="chat", mode="over", keys=keys, **more)


@pytest.fixture
def curve(golden: Summary) -> Curve:
    return swept(
        made(golden, 8, 400.125, labels=["UNSTABLE", "DRIFT"]),
        made(golden, 2, 60),
        made(golden, 4, 90.5),
        made(golden, 6, 777.25, invalid="late_sends"),
    )


def test_what_a_run_is_worth(golden: Summary) -> None:
    told = [
        standing(made(golden, 1, 50)),
        standing(made(golden, 1, 50, labels=["UNSTABLE"])),
        standing(made(golden, 1, 50, verdict="FAIL")),
        standing(made(golden, 1, 50, verdict="INCONCLUSIVE")),
        standing(made(golden, 1, 50, invalid="late_sends")),
        # The target's doing, and no fault of the client.
        standing(made(golden, 1, 50, invalid="nothing_succeeded")),
    ]
    assert [(one.fit, one.stable, one.meets) for one in told] == [
        (True, True, True),
        (True, False, False),
        (True, True, False),
        (True, True, None),
        (False, False, None),
        (False, False, False),
    ]
    assert told[2].why == "FAIL: ttft_sched: p(95)<100ms is 50 ms"


def test_the_knee_is_the_highest_that_can_be_quoted_and_meets_all(curve: Curve) -> None:
    assert [point.values["load.rate"] for point in curve.points] == [2, 4, 6, 8]
    assert [point.quotable for point in curve.points] == [True, True, False, False]
    (knee,) = curve.knees
    assert knee.run == "03"
    (told,) = sentences(curve)
    assert told.startswith("knee at load.rate 4: the highest that is stable and meets the thresholds; 40.00 ")
    assert told.endswith("; 6 could not be measured")


def test_what_is_saturated_is_never_quoted(curve: Curve) -> None:
    pages = [RENDERERS["text"](curve), RENDERERS["markdown"](curve), repr(page_of(curve))]
    for told in pages:
        assert "90.5" in told
        assert "unstable" in told
        assert not [number for number in ("400.1", "777.2") if number in told]
    rows = [row for row in table(curve)[0].rows if row[0] == "8"]
    assert rows[0][3:7] == ["unstable"] * 4
    assert rows[0][2] == "80.00"  # what the server can do at most
    assert rows[0][-1] == "UNSTABLE DRIFT"
    kept = json.loads(RENDERERS["json"](curve))["points"]
    assert [(one["quotable"], one["ttft_sched_p95_ms"]) for one in kept][-1] == (False, 400.125)
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](curve))))
    assert [line["stable"] for line in lines] == ["True", "True", "False", "False"]
    assert lines[0]["load.rate"] == "2"


def test_sparklines_leave_out_what_is_not_quoted(curve: Curve) -> None:
    ((caption, lines),) = curves(curve)
    assert caption == "Curves, load.rate 2 to 8"
    drawn = {row[0]: row[1:] for row in lines.rows}
    assert drawn["output tokens/s"] == ["▂▄×█", "20.00", "80.00"]  # noqa: RUF001
    assert drawn["ttft_sched p95, ms"] == ["▆█××", "60.00", "90.50"]  # noqa: RUF001
    assert [bar(value, 8) for value in (0, 1, 2, 8)] == ["▁", "▁", "▂", "█"]


def test_the_page_draws_every_curve(curve: Curve, golden: Summary) -> None:
    parts = page_of(curve).sections[0].parts
    assert [type(part) for part in parts] == [Chart] * 4
    assert isinstance(parts[0], Chart)
    assert "60.00 and 90.50 ms" in parts[0].alt
    assert "not quoted: load.rate 8" in parts[0].alt
    marks = {trace.name: list(trace.x) for trace in parts[0].figure.data}
    assert marks == {"measured": [20, 40], "unstable: not quoted": [80]}
    nothing = page_of(swept(made(golden, 1, 1, invalid="late_sends")))
    assert [type(part) for part in nothing.sections[0].parts] == [Absent] * 4
    assert nothing.verdict.word == "NO KNEE"
    assert "could be measured: INVALID" in nothing.verdict.sentence
    # From 1 to 16 the axis is a log one, on which words are placed otherwise.
    wide = page_of(swept(made(golden, 1, 1), made(golden, 16, 2))).sections[0].parts[2]
    assert isinstance(wide, Chart)
    assert wide.figure.layout.xaxis.type == "log"
    [knee] = wide.figure.layout.annotations
    assert (knee.text, knee.x) == ("knee: 16", pytest.approx(math.log10(16)))
    assert wide.figure.layout.shapes[-1].x0 == 16


def test_each_curve_of_a_grid_has_its_knee(golden: Summary) -> None:
    runs = [
        made(golden, 2, 50),
        made(golden, 2, 50),
        made(golden, 4, 500, verdict="FAIL"),
        made(golden, 4, 60),
    ]
    found = swept(*runs, keys=("load.rate", "seed"))
    assert [(knee.where, knee.run) for knee in found.knees] == [({"seed": 0}, "04"), ({"seed": 1}, "01")]
    assert sentences(found)[1].startswith("seed 1: knee at load.rate 2")
    assert sentences(found)[1].endswith("4 does not meet them")
    assert RENDERERS["html"](found).count("seed 1") > 2
    without = swept(*runs[:2], keys=("seed",))
    assert "most output tokens/s" in sentences(without)[0]
    assert all(isinstance(part, Chart) for part in page_of(without).sections[0].parts)


def test_a_lower_point_that_fails_is_named(golden: Summary) -> None:
    told = sentences(swept(made(golden, 1, 500, verdict="FAIL"), made(golden, 2, 50)))[0]
    assert told.endswith("nothing above it was measured; but of those below it, 1 does not meet them")


def test_points_that_were_not_run_are_counted(golden: Summary) -> None:
    planned = [
        Planned(run="01", values={"load.rate": 1}, summary=made(golden, 1, 50)),
        Planned(run="02", values={"load.rate": 2}, state="planned"),
    ]
    answer = Answer(key="load.rate", outcome="unfinished", best=None, fails=None, words="it is not over")
    found = curve_of(planned, path="out", scenario="s", mode="until", keys=["load.rate"], answer=answer)
    assert RENDERERS["text"](found).startswith("it is not over\n")
    assert "1 of 2 points are not measured" in RENDERERS["text"](found)
    assert "not run" in RENDERERS["text"](found)
    assert curve_of([], path="out", scenario="s", mode="over", keys=["load.rate"]).knees == []


def test_throughput_by_gpu_and_by_money(golden: Summary) -> None:
    steady = Window(output_throughput=1000.0, seconds=10.0)
    told = gpu_of({"target": {"gpus": 4, "gpu_hour_usd": 3.6}}, steady)
    assert told is not None
    assert told.output_tokens_per_s == 250
    # 4 GPUs at 3.60 an hour are 0.004 a second, and 1000 s make a million tokens.
    assert told.usd_per_million_output_tokens == pytest.approx(4.0)
    assert gpu_of({"target": {}}, steady) is None
    unpriced = gpu_of({"target": {"gpus": 4}}, steady)
    assert unpriced is not None
    assert unpriced.usd_per_million_output_tokens is None
    least = gpu_of(
        {"target": {"gpus": 4, "gpu_hour_usd": 1.0}}, msgspec.structs.replace(steady, without_usage=1)
    )
    assert least is not None
    assert (least.output_tokens_per_s, least.usd_per_million_output_tokens) == (None, None)
    one = made(golden, 2, 50)
    assert one.bench is not None
    one.bench.gpu = told
    text = RENDERERS["text"](swept(one, made(golden, 4, 60)))
    assert "$4.00" in text
    (name, words) = gpu_facts(one.bench)[0]
    assert name == "per GPU"
    assert words.startswith("250.0 output tokens/s on each of 4 GPUs")
    assert words.endswith("$4.000 a million output tokens at $3.600 a GPU hour")


def test_a_target_that_answered_nothing_is_no_fault_of_the_client(golden: Summary) -> None:
    silent = made(golden, 4, 50, invalid="nothing_succeeded")
    silent.requests.errors_share = 1.0
    found = swept(made(golden, 2, 60), silent)
    assert sentences(found)[0].endswith("; 4 got no answer at all")
    assert table(found)[0].rows[-1][-2:] == ["100.00%", "fails"]
    assert "INVALID" not in RENDERERS["text"](found)
    assert sentences(swept(silent)) == ["no point is stable and meets the thresholds"]


def test_points_with_long_names_have_places_of_their_own(golden: Summary) -> None:
    models = [f"a-company-with-a-long-name/a-model-of-a-long-name-{size}b" for size in (8, 70)]
    planned = [
        Planned(run=f"0{n}-model", values={"target.model": model}, summary=made(golden, n, 50 + n))
        for n, model in enumerate(models, 1)
    ]
    found = curve_of(planned, path="out", scenario="s", mode="over", keys=["target.model"])
    chart = page_of(found).sections[0].parts[2]
    assert isinstance(chart, Chart)
    assert len(set(chart.figure.data[0].x)) == 2
