"""The order of a comparison's runs, and the file that keeps it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.ab import (
    AB,
    Ab,
    Order,
    Progress,
    SideTold,
    Slot,
    begin,
    can_reach,
    complete,
    completes_pair,
    keep,
    slots,
)
from runner.store import StoreError

ORDERS: st.SearchStrategy[Order] = st.sampled_from(["abba", "abab"])


def names(runs: list[Slot]) -> list[str]:
    return [slot.run for slot in runs]


def test_the_sides_take_turns_at_going_first() -> None:
    assert names(slots(3, "abba", None)) == ["01-a", "01-b", "02-b", "02-a", "03-a", "03-b"]
    assert names(slots(2, "abab", None)) == ["01-a", "01-b", "02-a", "02-b"]


@given(st.integers(1, 200), ORDERS)
def test_every_pair_has_both_sides_next_to_each_other(pairs: int, order: Order) -> None:
    runs = slots(pairs, order, "s")
    assert len({slot.run for slot in runs}) == len({slot.salt for slot in runs}) == 2 * pairs
    assert len({len(slot.run) for slot in runs}) == 1
    for one, other in zip(runs[::2], runs[1::2], strict=True):
        assert one.pair == other.pair
        assert {one.side, other.side} == {"a", "b"}


def test_a_pair_is_complete_with_both_runs() -> None:
    runs = slots(3, "abba", None)
    assert complete(runs) == []
    for slot in runs[:3]:
        slot.state = "done"
    runs[3].state = "cut"
    assert complete(runs) == [1]
    assert [completes_pair(runs, slot) for slot in runs] == [True, True, False, True, False, False]


def test_an_invalid_run_drops_its_pair() -> None:
    runs = slots(4, "abba", None)
    assert can_reach(runs)
    for slot in runs[:2]:
        slot.state = "done"
    runs[0].validity = "INVALID"
    assert can_reach(runs)  # three are left
    runs[2].state, runs[2].validity = "done", "INVALID"
    assert not can_reach(runs)


def test_what_is_left_is_told_by_the_runs_so_far() -> None:
    runs = slots(2, "abba", None)
    progress = Progress(runs, {"a": 10.0, "b": None})
    assert progress.left_s() is None
    runs[0].state, runs[0].wall_s = "done", 12.0
    assert progress.left_s() == 36.0  # b as long as a, for want of better
    runs[1].state, runs[1].wall_s = "done", 20.0
    assert progress.left_s() == 32.0


def test_a_schedule_tells_it_before_the_first_run() -> None:
    assert Progress(slots(2, "abba", None), {"a": 10.0, "b": 5.0}).left_s() == 30.0


def plan() -> Ab:
    side = SideTold(scenario="s", base_url="http://x/v1", model="m", load="1 request at once")
    return Ab(
        created="then",
        updated="then",
        pairs=3,
        order="abba",
        seed=0,
        sides={"a": side, "b": side},
        declared={"target.model": {"a": "x", "b": "y"}},
        runs=slots(3, "abba", "s"),
    )


def test_the_plan_is_on_the_disk_before_the_first_run_and_again_after_each(tmp_path: Path) -> None:
    ab = plan()
    begin(tmp_path / "new" / "one", ab)
    place = tmp_path / "new" / "one" / AB
    assert msgspec.json.decode(place.read_bytes(), type=Ab) == ab
    assert ab.updated != "then"
    ab.runs[0].state = "done"
    keep(place.parent, ab)
    assert msgspec.json.decode(place.read_bytes(), type=Ab).runs[0].state == "done"


def test_a_run_that_failed_altogether_counts_on_b_s_side_alone() -> None:
    one = Slot(run="01-b", pair=1, side="b", state="done", validity="INVALID", only_failed=True)
    assert one.counts
    assert not msgspec.structs.replace(one, side="a").counts
    assert not msgspec.structs.replace(one, only_failed=False).counts
    assert not msgspec.structs.replace(one, state="cut").counts


def test_what_is_there_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match=r"holds files \(mine.txt\)"):
        begin(tmp_path, plan())
    with pytest.raises(StoreError, match="is a file"):
        begin(tmp_path / "mine.txt", plan())
    begin(tmp_path / "ab", plan())
    with pytest.raises(StoreError, match="holds a comparison already"):
        begin(tmp_path / "ab", plan())
