"""Runs compared: verdicts, what differs, what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from reports.compare import compare
from reports.comparison import CompareError, Comparison, MetricVerdict, exit_code
from reports.comparison_formats import RENDERERS
from reports.metric_verdicts import amount_of
from runner.store import Session
from tests.reports.compared import Bench, bench_of, sides
from tests.reports.conftest import Make, Write

# Medians of runs, 1 to 2 % apart.
STEADY = [100.0, 101.0, 99.5, 100.5, 99.0, 100.2]
SLOWER = [116.0, 115.0, 117.5, 114.0, 116.2, 115.1]
UNFIT = {"gauge": {"lag": {"n": 1000, "p50_ms": 0.1, "p99_ms": 500.0, "max_ms": 900.0, "missed": 9}}}


@pytest.fixture
def make(bench: Write, record: Make, failed: Make) -> Bench:
    return bench_of(bench, record, failed)


def of(comparison: Comparison, metric: str) -> MetricVerdict:
    return next(one for one in comparison.verdicts if one.metric == metric)


# -- verdicts


def test_slower_fails_and_the_rest_passes(make: Bench) -> None:
    found = compare(*sides(make, STEADY, SLOWER))
    assert found.paired
    assert (found.verdict, exit_code(found)) == ("FAIL", 99)
    assert [one.verdict for one in found.verdicts] == ["FAIL", "PASS", "PASS", "PASS"]
    ttft = of(found, "ttft")
    d = np.log(np.divide(ttft.new_values, ttft.base_values))
    low, high = (float(d.mean() + t.ppf(q, 5) * d.std(ddof=1) / 6**0.5) for q in (0.025, 0.95))
    assert ttft.effect == pytest.approx(math.expm1(d.mean()))
    assert ttft.low == pytest.approx(math.expm1(low))
    assert ttft.high == pytest.approx(math.expm1(high))
    assert ttft.p_holm == pytest.approx(4 * (ttft.p or 0))
    assert "proven smaller than the allowed one" in of(found, "e2e").words


def test_nothing_changed_passes(make: Bench) -> None:
    found = compare(*sides(make, STEADY, STEADY[::-1]))
    assert (found.verdict, exit_code(found)) == ("PASS", 0)
    assert found.fingerprints == []
    assert found.noise["ttft"].spread == pytest.approx(
        math.expm1(np.std(np.log(of(found, "ttft").base_values), ddof=1))
    )


def test_between_is_inconclusive_and_says_how_many_more(make: Bench) -> None:
    noisy = [100.0, 108.0, 94.0, 104.0, 97.0, 101.0]
    found = compare(*sides(make, noisy, [106.0, 100.0, 103.0, 109.0, 105.0, 110.0]), metrics=["ttft"])
    one = of(found, "ttft")
    assert (found.verdict, exit_code(found)) == ("INCONCLUSIVE", 98)
    assert one.more is not None
    assert f"{one.more} more pairs would settle it" in found.words
    assert [exit_code(found, "pass"), exit_code(found, "fail")] == [0, 99]


def test_without_tags_runs_are_no_pairs(make: Bench) -> None:
    base, new = sides(make, STEADY, SLOWER[:4], tagged=False)
    found = compare(base, new)
    assert not found.paired
    one = of(found, "ttft")
    told = ttest_ind(np.log(one.new_values), np.log(one.base_values), equal_var=False, alternative="greater")
    assert one.p == pytest.approx(told.pvalue)
    assert one.verdict == "FAIL"
    with pytest.raises(CompareError, match="6 runs cannot be paired with 4"):
        compare(base, new, paired=True)
    assert compare(base[:4], new, paired=True).pairs[0] == (str(base[0]), str(new[0]))


def test_limits_of_one_metric(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], SLOWER[:3])
    assert compare(base, new, max_regression={"ttft": 0.2}).verdict == "PASS"
    assert compare(base, new, max_regression={"": 0.2}).verdict == "PASS"
    assert of(compare(base, new, max_regression={"e2e": 0.03}), "e2e").verdict == "FAIL"
    assert [one.metric for one in compare(base, new, metrics=["e2e", "tpot"]).verdicts] == ["e2e", "tpot"]


def test_milliseconds_added_are_judged_instead(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], SLOWER[:3])
    added = of(compare(base, new, max_added_ms={"ttft": 20.0}), "ttft")
    assert (added.scale, added.verdict) == ("added", "PASS")
    assert added.effect == pytest.approx(np.mean(np.subtract(added.new_values, added.base_values)))
    assert of(compare(base, new, max_added_ms={"ttft": 10.0}), "ttft").verdict == "FAIL"
    with pytest.raises(CompareError, match="two limits"):
        compare(base, new, max_added_ms={"ttft": 20.0}, max_regression={"ttft": 0.1})
    with pytest.raises(CompareError, match="only times"):
        compare(base, new, max_added_ms={"errors": 20.0})


def test_more_is_better_of_a_throughput(make: Bench) -> None:
    """An output rate is tokens over the same time as tpot: what slows one slows the other."""
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"tpot_ms": 13.0})
    found = compare(base, new, metrics=["output_rate"])
    one = of(found, "output_rate")
    assert one.higher_is_better
    assert one.verdict == "FAIL"
    assert one.change == pytest.approx(1 / 1.3 - 1)
    assert one.effect == pytest.approx(0.3)
    assert compare(new, base, metrics=["output_rate"]).verdict == "PASS"


def test_errors_are_a_difference_of_shares(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"errors": 12})
    one = of(compare(base, new), "errors")
    assert (one.verdict, one.base) == ("FAIL", 0.0)
    assert one.new == pytest.approx(0.2)
    assert of(compare(new, base), "errors").verdict == "PASS"  # none failed


def test_a_server_that_hangs_is_no_pass(make: Bench) -> None:
    # What was answered is as fast as ever, and nothing failed.
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"hung": 20})
    found = compare(base, new)
    assert [(one.metric, one.verdict) for one in found.verdicts if one.verdict != "PASS"] == [
        ("unserved", "FAIL")
    ]
    assert exit_code(found) == 99
    assert any("NEW: 60 of 180 arrivals were left unserved" in words for words in found.warnings)
    # Who names metrics gets those, and is told.
    named = compare(base, new, metrics=["ttft"])
    assert (named.verdict, len(named.verdicts)) == ("PASS", 1)
    assert any("left unserved" in words for words in named.warnings)
    # Both sides alike, it is the load that ended: said, and not judged.
    assert len(compare(new, new).verdicts) == 4
    asked = compare(base, new, max_regression={"unserved": 0.5})
    assert [(one.metric, one.verdict) for one in asked.verdicts][4:] == [("unserved", "PASS")]


def test_a_number_that_is_known_in_part_is_none(make: Bench) -> None:
    slo: dict[str, Any] = {"scenario": {"slo": {"tpot": "1s"}}}
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"untold": 10}, **slo)
    told = {"cost": "10 attempts", "output_throughput": "did not tell their", "goodput": "10 answers met"}
    found = compare(base, new, metrics=list(told))
    assert [one.verdict for one in found.verdicts] == ["INCONCLUSIVE"] * 3
    for one in found.verdicts:
        assert told[one.metric] in one.words
        assert one.new is None
    assert compare(base, base, metrics=list(told)).verdict == "PASS"


def test_a_failure_here_and_there_is_no_regression(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3])
    new[2] = make("new/odd", ttft_ms=99.5, errors=1, tags={"pair": "3", "side": "b"})
    one = of(compare(base, new), "errors")
    assert one.verdict == "INCONCLUSIVE"
    assert one.high is not None
    assert one.high >= 0.01


# -- one run a side


def test_one_run_a_side_is_inconclusive(make: Bench) -> None:
    found = compare(*sides(make, [100.0], [120.0]))
    assert of(found, "ttft").verdict == "INCONCLUSIVE"
    assert "--noise" in of(found, "ttft").words
    assert found.unfit is None


def test_one_run_a_side_and_an_overwhelming_effect(make: Bench) -> None:
    base, new = sides(make, [100.0], [250.0])
    assert of(compare(base, new), "ttft").verdict == "FAIL"
    assert of(compare(new, base), "ttft").verdict == "PASS"


def test_too_few_requests_for_batches(make: Bench) -> None:
    found = compare(*sides(make, [100.0], [250.0], n=40))
    assert of(found, "ttft").verdict == "INCONCLUSIVE"
    assert "too few requests" in of(found, "ttft").words


def test_one_run_a_side_with_stored_noise(make: Bench, tmp_path: Path) -> None:
    base, new = sides(make, [100.0], [116.0])
    for k, level in enumerate(STEADY):
        make(f"stored/{k}", ttft_ms=level)
    found = compare(base, new, noise=[tmp_path / "stored"])
    one = of(found, "ttft")
    spread = np.std(np.log(STEADY), ddof=1)
    assert one.method == "t on stored noise"
    # Its own requests spread by 5 %: their batches' median is the least doubt there is.
    assert (one.low or 0) <= math.expm1(math.log(1.16) - t.ppf(0.975, 5) * spread * 2**0.5) + 1e-9
    assert one.verdict == "FAIL"


def test_one_new_run_against_a_baseline_of_several(make: Bench) -> None:
    base, new = sides(make, STEADY, [116.0], tagged=False)
    assert of(compare(base, new), "ttft").method == "t on stored noise"
    assert of(compare(base, new), "ttft").verdict == "FAIL"


def test_runs_of_a_side_are_no_further_noise(make: Bench, tmp_path: Path) -> None:
    base, new = sides(make, STEADY[:3], [104.0], tagged=False)
    alone, again = compare(base, new), compare(base, new, noise=[tmp_path / "base", tmp_path / "base"])
    assert of(again, "ttft").p == pytest.approx(of(alone, "ttft").p)
    assert again.noise["ttft"].runs == 3
    assert again.noise_runs == []


def test_an_invalid_run_is_no_noise(make: Bench, tmp_path: Path) -> None:
    base, new = sides(make, [100.0], [116.0])
    for k, level in enumerate(STEADY[:3]):
        make(f"stored/{k}", ttft_ms=level)
    before = of(compare(base, new, noise=[tmp_path / "stored"]), "ttft")
    make("stored/unfit", ttft_ms=300.0, **UNFIT)
    found = compare(base, new, noise=[tmp_path / "stored"])
    assert of(found, "ttft").p == pytest.approx(before.p)
    assert any("stored/unfit is INVALID, and in no noise" in words for words in found.warnings)


# -- what differs


@pytest.mark.parametrize(
    ("own", "named", "part"),
    [
        ({"scenario": {"request": {"temperature": 1.0}}}, "request.temperature", "request"),
        (
            {"scenario": {"load": {"executor": "constant-arrival-rate", "rate": 20.0}}},
            "load.rate",
            "schedule",
        ),
        (
            {
                "scenario": {
                    "load": {
                        "executor": "constant-arrival-rate",
                        "rate": 10.0,
                        "duration": "10s",
                        "max_in_flight": 3,
                    }
                }
            },
            "load.max_in_flight",
            "limits",
        ),
        ({"scenario": {"prompts": {"output_tokens": 9}}}, "prompts.output_tokens", "request"),
        ({"prompts": "others"}, "prompts", "prompts"),
        ({"load": {"schedule_begin_ns": 5_000_000_000}}, "arrivals", "schedule"),
    ],
)
def test_what_nobody_declared_is_named(make: Bench, own: dict[str, Any], named: str, part: str) -> None:
    base, new = sides(make, STEADY[:2], SLOWER[:2], new=own, tagged=False)
    found = compare(base, new)
    assert named in [one.field for one in found.fingerprints if not one.declared and one.part == part]
    assert {one.verdict for one in found.verdicts} == {"INCONCLUSIVE"}
    assert named in found.words


def test_another_slo_is_another_goodput(make: Bench) -> None:
    own = [{"scenario": {"slo": {"ttft": limit}}} for limit in ("200ms", "95ms")]
    runs = sides(make, STEADY[:3], STEADY[:3], base=own[0], new=own[1])
    found = compare(*runs, metrics=["goodput"])
    assert [(one.field, one.declared) for one in found.fingerprints] == [("slo.ttft", False)]
    assert found.verdict == "INCONCLUSIVE"
    assert compare(*runs, metrics=["goodput"], declared=["slo"]).verdict == "FAIL"
    assert compare(*runs, metrics=["ttft"]).fingerprints == []


def test_what_was_declared_is_under_test(make: Bench) -> None:
    own = {"scenario": {"request": {"temperature": 1.0, "top_p": 0.5}}}
    base, new = sides(make, STEADY[:3], SLOWER[:3], new=own)
    assert compare(base, new, declared={"request.top_p"}).verdict == "INCONCLUSIVE"
    found = compare(base, new, declared={"request"})
    assert of(found, "ttft").verdict == "FAIL"
    assert [one.declared for one in found.fingerprints] == [True, True]


def test_the_target_is_what_is_under_test(make: Bench) -> None:
    target = {"target": {"base_url": "http://new/v1", "model": "m"}}
    found = compare(*sides(make, STEADY[:3], STEADY[:3], new={"scenario": target}))
    assert {one.field for one in found.fingerprints} == {"target.base_url", "target.model"}
    assert found.verdict == "PASS"


def test_a_server_that_got_further_by_the_clock_was_asked_the_same(make: Bench) -> None:
    """Prompts are matched place by place; the faster side's last ones have no partner."""
    base, new = sides(make, STEADY[:3], STEADY[:3], base={"n": 60}, new={"n": 80})
    assert compare(base, new).fingerprints == []


def test_other_clients_and_lengths_are_warnings(make: Bench, session: Callable[..., Session]) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"tokens": 30})
    path = new[0] / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"host":"here"', b'"host":"there"'))
    path.write_bytes(path.read_bytes().replace(b'"versions":{}', b'"versions":{"streamgauge":"9"}'))
    found = compare(base, new)
    told = " ".join(found.warnings)
    assert "other hosts: here for BASE, here, there for NEW" in told
    assert "another streamgauge: unknown for BASE, 9 for NEW" in told
    assert "20.0 tokens on average for BASE, 30.0 for NEW" in told
    assert found.verdict != "INCONCLUSIVE"


# -- what is left out


def test_an_invalid_run_drops_its_pair(make: Bench) -> None:
    base, new = sides(make, STEADY, SLOWER)
    new[1] = make("new/bad", ttft_ms=300.0, tags={"pair": "2", "side": "b"}, **UNFIT)
    found = compare(base, new)
    assert [(one.run, one.pair, one.side) for one in found.dropped] == [(str(new[1]), "2", "new")]
    assert of(found, "ttft").pairs == 5
    assert of(found, "ttft").verdict == "FAIL"


def test_a_server_that_was_down_in_some_runs_does_not_pass(make: Bench) -> None:
    base, new = sides(make, STEADY[:4], STEADY[:4], n=10)
    new[0] = make("new/down", n=10, errors=10, tags={"pair": "1", "side": "b"})
    found = compare(base, new)
    assert found.dropped == []  # its failures are in `errors`
    assert {one.verdict for one in found.verdicts} == {"INCONCLUSIVE"}
    assert exit_code(found) == 98
    assert "nothing succeeded in 1 run of NEW (0 of BASE)" in of(found, "ttft").words
    timed = compare(base, new, metrics=["ttft"])
    assert [one.answered for one in timed.dropped] == [False]
    assert exit_code(timed) == 98
    # Where BASE was down, that says nothing of NEW.
    assert compare(new, base).verdict == "PASS"


def test_under_three_valid_pairs_there_is_no_verdict(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], SLOWER[:3])
    new[1] = make("new/bad", tags={"pair": "2", "side": "b"}, **UNFIT)
    found = compare(base, new)
    assert exit_code(found) == exit_code(found, "pass") == 97
    assert "2 of 3 pairs are valid" in (found.unfit or "")
    assert RENDERERS["text"](found).startswith("INVALID: 2 of 3")


def test_no_valid_run_on_a_side(make: Bench) -> None:
    base, new = sides(make, [100.0], [100.0], new=UNFIT)
    assert exit_code(compare(base, new)) == 97


# -- a side that fails everything

DEAD: dict[str, Any] = {"errors": 60}


def test_a_new_side_that_fails_everything_fails(make: Bench) -> None:
    base, new = sides(make, STEADY, STEADY, new=DEAD)
    found = compare(base, new)
    assert (found.verdict, found.unfit, found.dropped) == ("FAIL", None, [])
    assert (of(found, "errors").verdict, of(found, "errors").change) == ("FAIL", 1.0)
    assert {of(found, name).verdict for name in ("ttft", "tpot", "e2e")} == {"INCONCLUSIVE"}
    assert exit_code(found) == exit_code(found, "pass") == 99
    one_each = compare(base[:1], new[:1])
    assert (one_each.verdict, of(one_each, "errors").verdict) == ("FAIL", "FAIL")
    assert compare(base, new, metrics=["ttft", "errors"]).verdict == "FAIL"
    for form in RENDERERS.values():
        form(found)


def test_that_says_nothing_where_base_fails_everything_too(make: Bench) -> None:
    base, new = sides(make, STEADY, STEADY, base=DEAD)
    found = compare(base, new)
    assert exit_code(found) == 97
    assert found.unfit == "0 of 6 pairs are valid, and a verdict takes 3: every request of BASE failed"
    single = compare(base[:1], new[:1])
    assert single.unfit == "no run of BASE is valid: every request failed"
    assert exit_code(compare(base, base)) == 97


def test_a_client_that_was_not_fit_says_nothing_of_failures(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3], new=DEAD | UNFIT)
    found = compare(base, new)
    assert exit_code(found) == 97
    assert found.unfit == "0 of 3 pairs are valid, and a verdict takes 3"
    assert any("calibrate" in step for step in found.dropped[0].next_steps)


def test_failures_that_nobody_judges_are_no_pass(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3], new=DEAD)
    found = compare(base, new, metrics=["ttft"])
    assert exit_code(found, "pass") == 97
    assert (found.unfit or "").endswith("every request of NEW failed")


def test_one_run_that_failed_is_no_pass_any_more(make: Bench) -> None:
    base, new = sides(make, STEADY, STEADY)
    new[2] = make("new/dead", tags={"pair": "3", "side": "b"}, **DEAD)
    found = compare(base, new)
    assert of(found, "errors").verdict == "INCONCLUSIVE"
    assert of(found, "ttft").pairs == 5
    assert any("new/dead" in warning for warning in found.warnings)


# -- what cannot be compared


def test_runs_of_different_schema_versions(make: Bench) -> None:
    base, new = sides(make, STEADY[:2], STEADY[:2])
    path = base[1] / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"schema_version":3', b'"schema_version":2'))
    with pytest.raises(CompareError, match=r"schema version 2, .* has 3"):
        compare(base, new)


def test_an_empty_run(make: Bench) -> None:
    base, new = sides(make, [100.0], [100.0])
    (new[0] / "records.jsonl").write_bytes(b"")
    with pytest.raises(CompareError, match="no measured request"):
        compare(base, new)


def test_no_metric_in_common(make: Bench, write: Write, failed: Make) -> None:
    runs = [write([failed(k) for k in range(3)], name=name) for name in ("one", "two")]
    with pytest.raises(CompareError, match="no metric in common"):
        compare(runs[:1], runs[1:])
    base, new = sides(make, [100.0], [100.0])
    with pytest.raises(CompareError, match="goodput was not measured"):
        compare(base, new, metrics=["goodput"])


def test_a_tail_takes_its_samples(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], SLOWER[:3])
    one = of(compare(base, new, metrics=["ttft"]), "ttft")
    assert one.verdict == "FAIL"
    with pytest.raises(CompareError, match=r"p95 takes 130 values a run, and there are 60"):
        compare(base, new, metrics=["ttft:p95"])


def test_a_metric_one_side_lacks_is_never_passed(make: Bench) -> None:
    base, new = sides(make, STEADY[:3], STEADY[:3], new={"tokens": 1})
    one = of(compare(base, new), "tpot")
    assert one.verdict == "INCONCLUSIVE"
    assert "not measured in NEW" in one.words


def test_a_metric_some_runs_lack_is_of_the_others(make: Bench) -> None:
    base, new = sides(make, STEADY, STEADY)
    new[2] = make("new/odd", ttft_ms=99.5, tokens=1, tags={"pair": "3", "side": "b"})
    found = compare(base, new)
    assert of(found, "tpot").pairs == 5
    assert "tpot is of fewer runs" in found.warnings[0]


# -- how it reads


def test_amounts() -> None:
    assert amount_of("ratio", 0.1234) == "+12.3 %"
    assert amount_of("ratio", -0.0001) == "0 %"
    assert amount_of("share", -0.0123) == "-1.23 points"
    assert amount_of("added", 12.5) == "+12.50 ms"
    assert amount_of("ratio", 0.1, sign=False) == "10.0 %"


def test_every_format_begins_with_the_verdict(make: Bench) -> None:
    found = compare(*sides(make, STEADY, SLOWER))
    text = RENDERERS["text"](found)
    assert text.startswith("FAIL: ttft (+15.6 %) got worse\n")
    assert max(map(len, text.splitlines())) <= 100
    assert RENDERERS["markdown"](found).startswith("## FAIL: ttft")
    assert msgspec.json.decode(RENDERERS["json"](found), type=Comparison) == found
    for word in ("p10", "p90", "Noise from run to run", "stop 360", "allowed"):
        assert word in text
