"""The bench of schema 3 (`schema-3/`): every number of it was worked out by hand from `golden_bench.py`."""

import json
import shutil
from pathlib import Path

import pytest

from reports.bench import Bench
from reports.formats import RENDERERS
from reports.frame import load
from reports.judge import exit_code
from reports.metrics import summarize
from reports.summary import Summary
from reports.text import WIDTH
from runner.store import load_manifest

MS = 1_000_000


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "schema-3", tmp_path / "golden"))


@pytest.fixture
def summary(golden: Path) -> Summary:
    return summarize(golden)


@pytest.fixture
def bench(summary: Summary) -> Bench:
    assert summary.bench is not None
    return summary.bench


def test_it_is_what_it_says(golden: Path) -> None:
    manifest = load_manifest(golden)
    assert (manifest.schema_version, manifest.kind, manifest.seed) == (3, "bench", 42)
    text = (golden / "records.jsonl").read_text() + (golden / "run.json").read_text()
    assert all(name in text for name in ("held_ns", "asked_output_tokens", "steady_begin_ns"))
    assert "/home/" not in text
    assert "/tmp/" not in text


def test_requests(summary: Summary) -> None:
    requests = summary.requests
    # 24 scheduled: 20 answered, one 503, one user left, one cut by the deadline, one never sent.
    assert (requests.ok, requests.error, requests.cancelled) == (20, 1, 2)
    assert summary.bench is not None
    assert (requests.expected, summary.bench.load.scheduled) == (None, 24)  # of a schedule, not of a file
    assert (requests.answered, requests.unsent, requests.warmup) == (20, 1, 4)
    assert requests.errors_share == 1 / 21
    assert summary.tags == {"build": "a1", "gpu": "none"}


def test_warm_up_is_in_no_latency(summary: Summary) -> None:
    assert {name: d.n for name, d in summary.metrics.items() if name != "itl"} == {
        **dict.fromkeys(
            ("ttft", "ttft_sched", "ttfc", "ttfb", "tpot", "e2e", "e2e_sched", "delay", "stall"), 20
        ),
        "connect": 0,  # only warm-up requests opened connections
        "output_rate": 20,
    }
    assert summary.metrics["itl"].n == 80
    assert summary.metrics["ttft"].mean == (19 * 50 + 250) / 20
    assert summary.metrics["delay"].max == 81.0


def test_windows(bench: Bench) -> None:
    steady, whole = bench.steady, bench.whole
    assert (steady.begin_ns, steady.end_ns, steady.seconds) == (1400 * MS, 3800 * MS, 2.4)
    # 19 whole answers; of the 20th and of the last warm-up request 3 tokens of 5 each came inside.
    assert steady.output_tokens == pytest.approx(19 * 5 + 3 + 3)
    assert steady.output_throughput == pytest.approx(101 / 2.4)
    # The 20th ended at 3832 ms, outside; the last warm-up request at 1472 ms, inside.
    assert steady.answers == 19 + 1
    assert steady.request_throughput == pytest.approx(20 / 2.4)
    # First tokens inside: all 20 measured ones; the last warm-up request's came at 1351 ms.
    assert steady.input_tokens == 400
    # From the first arrival at 1.4 s to the deadline's cut at 5.0 s.
    assert (whole.begin_ns, whole.end_ns, whole.seconds) == (1400 * MS, 5000 * MS, 3.6)
    assert (whole.answers, whole.output_tokens, whole.input_tokens) == (20, 100, 400)
    assert whole.output_throughput == pytest.approx(100 / 3.6)


def test_goodput(bench: Bench) -> None:
    good = bench.goodput
    # The one with a ttft of 250 ms misses. So do the 503, the cut and the unsent one; who left is out.
    assert (good.met, good.of, good.unknown) == (19, 23, 0)
    assert good.share == 19 / 23


def test_second_reading(summary: Summary, bench: Bench) -> None:
    second = summary.metrics["ttft"].with_failures
    assert second is not None
    # The 503, the cut one, the unsent one.
    assert (second.n, second.failures, bench.missed) == (23, 3, 1)
    # Nearest rank: p50 is the 12th of 23, p90 the 21st: one beyond the 20 values.
    assert (second.percentiles["p50"], second.percentiles["p90"]) == (50.0, "inf")


def test_intervals(summary: Summary) -> None:
    ci = summary.metrics["ttft"].ci
    # B(20, 0.5): ranks 4 and 17 hold the median 99 times in 100; B(20, 0.95) has no upper end.
    assert ci["p50"] == (50.0, 50.0)
    assert ci["p95"] == (50.0, None)
    assert "p99" not in ci
    assert summary.metrics["itl"].ci == {}


def test_asked_and_reached(bench: Bench) -> None:
    given, output = bench.input_tokens, bench.output_tokens
    assert (given.n, given.asked, given.reached, given.share) == (20, 400, 400, 1.0)
    assert (output.n, output.asked, output.reached, output.share) == (20, 120, 100, 100 / 120)


def test_client(bench: Bench) -> None:
    client = bench.client
    # 23 sent; the held one is out. One was 8 ms late, over max(5 ms, 1 % of 100 ms).
    assert (client.sends, client.late, client.late_over_ms) == (22, 1, 5.0)
    assert client.delay_free_p50_ms == 1.0
    assert client.delay_free_p99_ms is None  # needs 100 sends
    # 23 of the 23 that could be sent: the last one never found a place.
    assert client.sent_share == 1.0
    assert client.coalesced_share == 1 / 80
    assert client.lag is not None
    assert client.cpu is not None
    assert client.lag.p99_ms == 6.0
    assert client.cpu.share == pytest.approx(0.125)
    assert (client.opened, client.reused) == (0, 23)


def test_validity(bench: Bench) -> None:
    validity = bench.validity
    assert validity.level == "WARN"
    assert [(reason.check, reason.limit) for reason in validity.reasons] == [
        ("late_sends", 0.01),
        ("loop_lag_p99_ms", 5.0),
    ]
    assert all(reason.next_step for reason in validity.reasons)


def test_labels(bench: Bench) -> None:
    found = {label.name: label.value for label in bench.labels}
    assert found == {"HELD": 2 / 24, "SHORT": 100 / 120, "CACHED": 0.1}
    assert list(bench.unjudged) == ["DRIFT"]


def test_verdicts(bench: Bench) -> None:
    assert [(v.threshold, v.verdict) for v in bench.verdicts] == [
        ("errors: rate<1%", "FAIL"),
        ("unserved: rate<1%", "FAIL"),
        ("ttft_sched: p(95)<800ms", "PASS"),
        ("ttft_sched: p(99)<2s", "INCONCLUSIVE"),
        ("goodput: rate>80%", "PASS"),
    ]
    assert [v.default for v in bench.verdicts] == [True, True, False, False, False]
    assert exit_code(bench.validity, bench.verdicts) == 99


def test_server(bench: Bench) -> None:
    server = bench.server
    assert server is not None
    assert (server.kind, server.pages, server.inside, server.failed, server.bad_lines) == ("vllm", 5, 2, 1, 1)
    assert {name: (v.n, v.mean, v.max) for name, v in server.values.items()} == {
        "running": (2, 3.0, 4.0),
        "waiting": (2, 1.5, 3.0),
        "kv_cache": (2, 0.5, 0.75),
    }


def test_in_flight(bench: Bench) -> None:
    # Time inside the window, in ms: 17 usual answers (92), the one 8 ms late (99), the 503 (12),
    # the one whose user left (62), the held one (172), the slow one (300, to the window's end), the cut one
    # (200), the last warm-up request (72).
    stayed = 17 * 92 + 99 + 12 + 62 + 172 + 300 + 200 + 72
    assert bench.in_flight_mean == pytest.approx(stayed / 2400)
    assert bench.in_flight_at_least  # how long the unsent one had waited, this manifest does not say


def test_unserved(bench: Bench) -> None:
    # The cut one and the unsent one, of 24.
    found = bench.unserved
    assert (found.n, found.never_sent, found.cut, found.of, found.share) == (2, 1, 1, 24, 2 / 24)


def test_text(summary: Summary) -> None:
    text = RENDERERS["text"]([summary])
    lines = text.splitlines()
    flat = " ".join(text.split())
    assert lines[0] == "validity: WARN, read these numbers with care"
    for said in (
        "20 of 24 answered · 1 failed · 2 cancelled · 1 not sent",
        "2.4 s steady · 8.33 requests/s · 42.08 tokens/s",
        "10 requests/s, constant arrivals, for 2.4s, after 400ms of warm-up, at most 4 in flight",
        "build=a1 gpu=none",
        "errors: rate<1% (default) FAIL 4.76%",
        "unserved: rate<1% (default) FAIL 8.33%",
        "not served 2 of 24 (8.33%) 1 never sent · 1 cut when the run ended",
        "in flight >=",
        "1 waited for a place and were sent · 1 never were",
        "INCONCLUSIVE p99 needs 100 values, and there are 20",
        "HELD: 2 arrivals (8.3%) waited because max_in_flight was reached, the longest 80 ms (1 sent in",
        "goodput 82.61% 19 of 23 met ttft <= 200.0 ms, tpot <= 15.00 ms",
        "output asked 83.33% reached 100 of 120 tokens",
        "steady 1.40 2.4 s 20 8.33 42.08 166.7",
        "whole run 1.40 3.6 s 20 5.56 27.78 111.1",
        "p50 0.200 · p99 6.00 · max 9.00 ms · 1 missed tick",
        "KV-cache use 2 50.00% 75.00%",
        "ttft.p99_ms 1.10",
        "DRIFT: needs 5 answers",
    ):
        assert said in flat, said
    assert [line for line in lines if len(line) > WIDTH and summary.path not in line] == []
    assert lines.index("Thresholds") < lines.index("Requests") < lines.index("Throughput")


@pytest.mark.parametrize("form", RENDERERS)
def test_every_format_says_whether_the_client_was_fit(golden: Path, form: str) -> None:
    manifest = json.loads((golden / "run.json").read_text())
    manifest["sessions"][0]["gauge"]["lag"]["p99_ms"] = 25.0
    (golden / "run.json").write_text(json.dumps(manifest))
    summary = summarize(golden)
    assert summary.bench is not None
    assert summary.bench.validity.level == "INVALID"
    one = RENDERERS[form]([summary])
    assert "INVALID" in one
    if form in {"text", "markdown"}:
        assert one.index("INVALID") < one.index("20 of 24 answered")
    assert RENDERERS[form]([summary, summary]).count("INVALID") >= 2


def test_side_by_side(summary: Summary, golden: Path) -> None:
    other = Path(shutil.copytree(golden, golden.parent / "other"))
    manifest = json.loads((other / "run.json").read_text())
    manifest["tags"] = {"build": "b2"}
    (other / "run.json").write_text(json.dumps(manifest))
    text = RENDERERS["text"]([summary, summarize(other)])
    rows = {line[:27].strip(): line[27:].split() for line in text.splitlines() if line.startswith("  ")}
    assert rows["validity"] == ["WARN", "WARN"]
    assert rows["target"] == ["127.0.0.1:8000/v1", "127.0.0.1:8000/v1"]
    assert rows["labels"] == ["HELD", "SHORT", "CACHED"] * 2
    assert rows["tag build"] == ["a1", "b2"]
    assert rows["tag gpu"] == ["none", "n/a"]
    assert rows["ttft p50, ms"] == ["50.00", "50.00"]
    assert rows["output tokens/s, steady"] == ["42.08", "42.08"]
    assert rows["errors"] == ["4.76%", "4.76%"]
    assert rows["not served"] == ["2", "2"]
    assert rows["cost per 1,000 answers"] == ["0.2000", "0.2000"]
    markdown = RENDERERS["markdown"]([summary, summary])
    assert "| goodput | 82.61% | 82.61% |" in markdown


def test_json_and_csv(summary: Summary) -> None:
    one = json.loads(RENDERERS["json"]([summary]))
    assert one["bench"]["validity"]["level"] == "WARN"
    assert one["metrics"]["ttft"]["ci"]["p95"] == [50.0, None]
    lines = RENDERERS["csv"]([summary]).splitlines()
    assert lines[1].split(",")[1:5] == ["validity", "level", "", "WARN"]
    for said in (
        ",validity.late_sends,WARN,,0.0454",
        ",tag.build,text,,a1,",
        ",threshold.errors: rate<1%,FAIL,,0.0476",
        ",label.HELD,label,,0.0833",
        ",steady.output_throughput,1/s,20,42.08",
        ",goodput,share,23,0.826",
        ",unserved,share,24,0.0833",
        ",cost_per_1000_answers,currency,20,0.2",
        ",server.running,1,2,,3.0,",
    ):
        assert any(said in line for line in lines), said


def test_frame(golden: Path) -> None:
    table = load(golden)
    assert table["held_ms"].max() == 80.0
    assert table["asked_output_tokens"].tolist() == [6] * 27
    assert table["conversation"].isna().all()
    assert table["phase"].value_counts().to_dict() == {"measure": 23, "warmup": 4}
    assert table["streamed_tokens"].dropna().tolist() == [5] * 24
