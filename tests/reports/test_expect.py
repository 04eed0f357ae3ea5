"""The pass over a journal that holds answers against what was expected, and the prompts that broke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.expect import COUNTS, RESULTS, expectations, results, stored
from reports.expect_changes import MOST, expectation_changes
from reports.metrics import summarize
from runner.record import ErrorKind
from runner.store import StoreError
from scenarios.thresholds import parse_line


def asked(record: Any, i: int, text: str, expect: Any = None, **changes: Any) -> Any:
    row = {"topic": "ab"[i % 2], **({} if expect is None else {"expect": expect})}
    return record(i, text=text, row=row, **changes)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


YES = {"equals": "yes"}


@pytest.fixture
def run(write: Any, record: Any, failed: Any) -> Path:
    made: Path = write(
        [
            asked(record, 0, "yes", YES),
            asked(record, 1, "no", YES),
            asked(record, 2, "no", {"equals": "yes", "regex": "x"}),
            asked(record, 3, "whatever"),
            failed(4, ErrorKind.TIMEOUT, row={"topic": "a", "expect": YES}),
            asked(record, 5, "", YES, status="cancelled", cancelled_by="user"),
            asked(record, 6, "", YES, status="cancelled", cancelled_by="deadline"),
            asked(record, 7, "no", YES, phase="warmup"),
            b"nonsense",
        ]
    )
    return made


def test_counts_and_results(run: Path) -> None:
    found = expectations(run)
    assert (found.judged, found.passed, found.left_out) == (5, 1, 1)
    assert found.failed == {"equals": 2, "regex": 1, "answer": 2}
    written = lines(run / RESULTS)
    assert [(line["index"], line["passed"]) for line in written] == [
        (0, True),
        (1, False),
        (2, False),
        (4, False),
        (6, False),
    ]
    assert written[2]["failures"]["equals"] == '"no", not "yes"'
    assert written[3]["failures"] == {"answer": "there is none: timeout"}
    assert not [path for path in run.iterdir() if path.name.endswith(".part")]


def test_it_can_be_made_again(run: Path) -> None:
    first = expectations(run)
    before = (run / RESULTS).read_bytes()
    assert expectations(run) == first
    assert (run / RESULTS).read_bytes() == before


def test_the_last_good_answer_counts(write: Any, record: Any, failed: Any) -> None:
    made = write([failed(1, row={"expect": YES}), asked(record, 1, "yes", YES)])
    assert expectations(made).passed == 1


def test_a_report_shows_them_until_the_journal_grows(run: Path) -> None:
    assert summarize(run).expect is None
    found = expectations(run)
    assert summarize(run).expect == found == stored(run)
    with (run / "records.jsonl").open("ab") as journal:
        journal.write(b"{}\n")
    assert summarize(run).expect is None
    assert stored(run) is None
    assert sum(result.passed for result in results(run)) == 1  # judged anew, nothing written


@pytest.mark.parametrize("data", [b"", b"nonsense", b'{"expect_version": 9}', b"\xff"])
def test_damaged_counts_are_none(run: Path, data: bytes) -> None:
    expectations(run)
    (run / COUNTS).write_bytes(data)
    assert stored(run) is None


def test_selected_counts(run: Path) -> None:
    names = ("expect{topic:a}", "expect{topic:b}", "expect{topic:c}")
    found = expectations(run, [parse_line(f"{name}: rate>1%") for name in names])
    assert [(found.selected[name].hits, found.selected[name].n) for name in names] == [(1, 4), (0, 1), (0, 0)]


def test_the_scenario_s_own_thresholds_are_counted_as_well(bench: Any, record: Any) -> None:
    """A report judges them again, whatever `check` was asked in between."""
    made = bench(
        [asked(record, i, "yes", YES) for i in range(4)],
        scenario={"thresholds": {"expect{topic:a}": ["rate>=98%"], "expect": ["rate>=98%"]}},
    )
    expectations(made, [parse_line("expect{topic:b}: rate>1%")])
    found = summarize(made).bench
    assert found is not None
    assert {v.metric: v.verdict for v in found.verdicts if "expect" in v.metric} == {
        "expect{topic:a}": "PASS",
        "expect": "PASS",
    }


def test_nothing_expected(write: Any, record: Any) -> None:
    made = write([record(1)])
    assert expectations(made).judged == 0
    assert (made / RESULTS).read_bytes() == b""


def test_a_folder_that_cannot_be_written_is_judged_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert expectations(run).judged == 5
    assert not (run / RESULTS).exists()


# -- two runs


def two(write: Any, record: Any, before: list[str], now: list[str]) -> tuple[Path, Path]:
    def lines(answers: list[str]) -> list[Any]:
        return [asked(record, i, text, YES) for i, text in enumerate(answers)]

    return write(lines(before), name="before"), write(lines(now), name="now")


def test_prompts_that_broke(write: Any, record: Any) -> None:
    base, new = two(write, record, ["yes", "yes", "no", "no"], ["yes", "no " * 300, "yes", "no"])
    found = expectation_changes(base, new)
    assert (found.both, found.broke, found.mended) == (4, 1, 1)
    [change] = found.shown
    assert (change.index, change.before, change.before_n, change.now_passed, change.now_n) == (
        1,
        "yes",
        1,
        0,
        1,
    )
    assert change.now is not None
    assert change.now.startswith("no no no")
    assert len(change.now) == 400
    assert list(change.failures) == ["equals"]
    assert not (base / RESULTS).exists()


def test_a_prompt_asked_often_breaks_where_one_answer_fails(write: Any, record: Any) -> None:
    def lines(*answers: str) -> list[Any]:
        return [asked(record, i, text, YES, prompt_id="p") for i, text in enumerate(answers)]

    base = write(lines("yes", "yes"), name="before")
    found = expectation_changes(base, write(lines("yes", "yes", "no"), name="now"))
    assert (found.both, found.broke) == (1, 1)
    assert (found.shown[0].now_passed, found.shown[0].now_n, found.shown[0].now) == (2, 3, "no")
    flaky = write(lines("yes", "no"), name="flaky")
    assert expectation_changes(flaky, base).mended == 1
    assert expectation_changes(flaky, flaky).broke == 0


def test_only_so_many_are_shown(write: Any, record: Any) -> None:
    n = MOST + 5
    found = expectation_changes(*two(write, record, ["yes"] * n, ["no"] * n))
    assert (found.broke, len(found.shown)) == (n, MOST)
    assert [change.index for change in found.shown] == list(range(MOST))


def test_runs_without_expectations_differ_in_nothing(write: Any, record: Any) -> None:
    made = write([record(1)])
    assert expectation_changes(made, made).both == 0


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        expectations(tmp_path)
