"""compare.html: what the page says, and what its charts are drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import page as page_module
from reports.compare import Compared, compared
from reports.comparison_charts import distribution, effects, run_by_run
from reports.comparison_html import page_of, to_html
from reports.page import Absent, Bullets, Chart, Disclosure, Mark, Page, Table
from tests.reports.compared import Bench, bench_of, sides
from tests.reports.conftest import Make, Write

STEADY = [100.0, 101.0, 99.5, 100.5]
SLOWER = [116.0, 115.0, 117.5, 114.0]
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture
def make(bench: Write, record: Make, failed: Make) -> Bench:
    return bench_of(bench, record, failed)


@pytest.fixture
def small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_plotly_script", lambda: "var Plotly = {};")


@pytest.fixture
def slower(make: Bench) -> Compared:
    """ttft is 16 % slower, all else as it was; NEW fails once a run."""
    return compared(*sides(make, STEADY, SLOWER, new={"errors": 1}))


def parts(page: Page, kind: type) -> list[Any]:
    return [part for section in page.sections for part in section.parts if isinstance(part, kind)]


def traces(chart: Chart | Absent) -> dict[str, Any]:
    assert isinstance(chart, Chart)
    return {trace.name: trace for trace in chart.figure.data}


def test_the_verdict_is_first_and_says_why(slower: Compared) -> None:
    page = page_of(slower, "ab")
    assert (page.verdict.word, page.verdict.tone) == ("FAIL", "bad")
    assert page.verdict.sentence.startswith("ttft (+")
    assert any(reason.startswith("ttft: worse by at least") for reason in page.verdict.reasons)
    assert page.title.startswith("ab: ")
    assert page.title.endswith("3 more (BASE)")


def test_the_table_has_a_row_a_metric(slower: Compared) -> None:
    [table] = [one for one in parts(page_of(slower), Table) if one.caption == "Verdict by metric"]
    assert [row[0] for row in table.rows] == ["ttft", "tpot", "e2e", "errors"]
    assert table.rows[0][1] == Mark("FAIL", "bad")
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][7] == "4"  # pairs


def test_effects_are_drawn_in_per_cent_of_their_limit(slower: Compared) -> None:
    drawn = traces(effects(slower.comparison.verdicts))
    ttft = next(one for one in slower.comparison.verdicts if one.metric == "ttft")
    assert ttft.effect is not None
    assert ttft.high is not None
    assert drawn["FAIL"].x[0] == pytest.approx(ttft.effect / 0.10 * 100)
    assert drawn["FAIL"].error_x.array[0] == pytest.approx((ttft.high - ttft.effect) * 1000)
    assert set(drawn["PASS"].y) == {"tpot", "e2e"}


def test_a_dot_is_a_run_and_stands_where_it_was_made(make: Bench) -> None:
    # ABBA: the second pair begins with b.
    base, new = sides(make, STEADY[:3], SLOWER[:3])
    for place, run in enumerate((base[0], new[0], new[1], base[1], base[2], new[2])):
        _start(run, place)
    found = compared(base, new)
    ttft = traces(run_by_run(found)[0])
    assert list(ttft["BASE"].x) == [1, 4, 5]
    assert list(ttft["NEW"].x) == [2, 3, 6]
    assert list(ttft["BASE"].y) == found.comparison.verdicts[0].base_values
    assert list(ttft["pair"].x) == [1, 2, None, 4, 3, None, 5, 6, None]


def _start(run: Path, place: int) -> None:
    import msgspec

    told = msgspec.json.decode((run / "run.json").read_bytes())
    told["sessions"][0]["wall_ns"] += place * 10**9
    (run / "run.json").write_bytes(msgspec.json.encode(told))


def test_names_of_runs_are_no_tags_where_one_hovers(slower: Compared) -> None:
    run = slower.sides.base[0]
    run.path, run.manifest.sessions[0].started = Path("<b>run</b>"), "<i>once</i>"
    for chart in run_by_run(slower):
        shown = [text for point in traces(chart)["BASE"].customdata for text in point]
        assert any("run" in text for text in shown)
        assert any("once" in text for text in shown)
        assert not any("<" in text for text in shown)


def test_a_share_that_never_changed_is_said_and_not_drawn(make: Bench) -> None:
    found = compared(*sides(make, STEADY, STEADY[::-1]))
    [absent] = [one for one in run_by_run(found) if isinstance(one, Absent)]
    assert absent.why == "errors is 0.00% in every one of 8 runs: nothing to draw."


def test_runs_without_pairs_are_not_joined(make: Bench) -> None:
    found = compared(*sides(make, STEADY, SLOWER, tagged=False))
    assert set(traces(run_by_run(found)[0])) == {"BASE", "NEW"}


def test_a_curve_is_the_mean_of_its_runs_and_ends_below_100_where_requests_failed(slower: Compared) -> None:
    shift = next(one for one in slower.comparison.shifts if one.metric == "ttft")
    drawn = traces(distribution(slower, shift))
    base, new = drawn["BASE"], drawn["NEW"]
    assert np.interp(shift.base[4] or 0, base.x, base.y) == pytest.approx(50, abs=2)
    assert base.y[-1] == pytest.approx(100)
    assert new.y[-1] == pytest.approx(100 * 59 / 60, abs=0.01)
    assert all(np.diff(new.y) >= 0)


def test_of_many_runs_only_some_are_drawn_thin(slower: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.comparison_charts._MOST_CURVES", 3)
    drawn = distribution(slower, slower.comparison.shifts[0])
    assert isinstance(drawn, Chart)
    thin = drawn.figure.data[0]
    assert np.isnan(thin.y).sum() == 3


def test_undeclared_differences_and_warnings_stand_above(make: Bench) -> None:
    found = compared(*sides(make, STEADY, SLOWER, new={"scenario": {"request": {"temperature": 1.0}}}))
    page = page_of(found)
    assert page.verdict.word == "INCONCLUSIVE"
    [table] = [part for part in page.beside_verdict if isinstance(part, Table)]
    assert "nobody declared" in table.caption
    assert table.rows[0][0] == "request.temperature"


def test_too_few_valid_runs_are_a_page_as_well(make: Bench) -> None:
    late = {"gauge": {"lag": {"n": 1000, "p50_ms": 1.0, "p99_ms": 500.0, "max_ms": 900.0, "missed": 0}}}
    found = compared(*sides(make, STEADY, SLOWER, new=late))
    page = page_of(found)
    assert (page.verdict.word, page.verdict.tone) == ("INVALID", "bad")
    [dropped] = [part for part in page.beside_verdict if isinstance(part, Bullets)]
    assert len(dropped.items) == 4
    assert not parts(page, Chart)


@pytest.mark.usefixtures("small_plotly")
def test_answers_that_changed_stand_side_by_side_and_are_text(make: Bench, record: Make) -> None:
    base, new = sides(make, STEADY, STEADY)
    for run, text in ((base[-1], f"yes {EVIL}"), (new[-1], f"no {EVIL}")):
        _expect(run, "yes", text)
    found = compared(base, new)
    assert found.comparison.answers is not None
    assert found.comparison.answers.broke == 60
    disclosures = parts(page_of(found), Disclosure)
    assert len(disclosures) == 20
    assert disclosures[0].side_by_side
    assert [text for _, text in disclosures[0].texts] == [f"yes {EVIL}", f"no {EVIL}"]
    assert EVIL not in to_html(found)
    assert "no &lt;/script&gt;" in to_html(found)


def _expect(run: Path, wanted: str, text: str) -> None:
    """Have every row of a run expect this, and every answer say that."""
    import msgspec

    lines = [msgspec.json.decode(line) for line in (run / "records.jsonl").read_bytes().splitlines()]
    for line in lines:
        line |= {"text": text, "row": {"expect": {"contains": wanted}}}
    (run / "records.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    told = msgspec.json.decode((run / "run.json").read_bytes())
    told["prompts"] = {"name": "p", "sha256": "0" * 64, "rows": 60, "requests": 60, "expects": 60}
    (run / "run.json").write_bytes(msgspec.json.encode(told))
