"""The search for the highest load that meets an SLO."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.search import Found, Next, Search, Tried, next_point, rehearse, tried_at_most

RATES = Search(first=1, most=1024)
MET: st.SearchStrategy[bool | None] = st.sampled_from([True, True, True, False, False, None])


def found(history: list[Tried], search: Search) -> Found:
    step = next_point(history, search)
    assert isinstance(step, Found)
    return step


def searches(whole: bool) -> st.SearchStrategy[Search]:
    ends = st.tuples(st.floats(0.01, 100), st.floats(1, 5000))
    return st.builds(
        lambda ends, tolerance, confirm: Search(
            first=math.ceil(ends[0]) if whole else ends[0],
            most=math.ceil(ends[0] * ends[1]) if whole else ends[0] * ends[1],
            tolerance=tolerance,
            confirm=confirm,
            whole=whole,
        ),
        ends,
        st.floats(0.005, 1),
        st.integers(0, 5),
    )


ANY = st.booleans().flatmap(searches)


def test_it_doubles_then_halves_then_looks_again() -> None:
    history = rehearse(RATES, lambda value: value <= 10)
    assert [one.value for one in history][:5] == [1, 2, 4, 8, 16]
    assert [one.value for one in history][5:8] == [11.3, 9.51, 10.4]
    end = found(history, RATES)
    assert (end.outcome, end.best, end.fails) == ("found", 9.95, 10.4)
    # Both ends were run twice, the one that was found first.
    assert [one.value for one in history][-2:] == [9.95, 10.4]
    assert (end.best_runs, end.fails_runs, end.fails_met) == (2, 2, 0)


@given(ANY, st.floats(0, 1))
def test_a_sharp_limit_is_found_within_the_tolerance(search: Search, place: float) -> None:
    limit = search.first * (2 * search.most / search.first) ** place * 0.9
    history = rehearse(search, lambda value: value <= limit)
    end = found(history, search)
    assert len(history) <= 60
    if limit < search.first:
        assert (end.outcome, end.best, end.fails) == ("fails_at_lowest", None, search.first)
    elif limit >= search.most:
        assert (end.outcome, end.best, end.fails) == ("never_fails", search.most, None)
    else:
        assert end.outcome == "found"
        assert end.best is not None
        assert end.fails is not None
        assert end.best <= limit < end.fails
        apart = end.fails <= end.best * (1 + search.tolerance) * (1 + 1e-6)
        assert apart or (search.whole and end.fails - end.best == 1)
        assert end.best_runs == 1 + math.ceil(search.confirm / 2)
        assert end.fails_runs == 1 + search.confirm // 2
    for one in history:
        assert search.first <= one.value <= search.most
        assert not search.whole or one.value == int(one.value)


@given(ANY, st.data())
def test_it_ends_whatever_the_runs_say(search: Search, data: st.DataObject) -> None:
    history: list[Tried] = []
    while isinstance(step := next_point(history, search), Next):
        history.append(Tried(step.value, data.draw(MET)))
        assert len(history) < 3000
    assert isinstance(step, Found)
    if step.best is not None:
        assert all(one.met for one in history if one.value == step.best)
        assert step.best_runs == 1 + math.ceil(search.confirm / 2) or step.outcome == "unknown"
    if step.fails is not None:
        assert any(one.met is False for one in history if one.value == step.fails)
    if step.outcome == "unknown":
        assert any(one.met is None for one in history if one.value == step.unknown)


def test_what_fails_when_it_is_run_again_is_the_upper_end() -> None:
    search = Search(first=1, most=64, tolerance=0.5, confirm=2)
    history = [Tried(1, True), Tried(2, True), Tried(4, False), Tried(2.83, False)]
    assert next_point(history, search) == Next(2, "confirm")
    history.append(Tried(2, False))
    assert next_point(history, search) == Next(1.41, "bisect")
    history += [Tried(1.41, True), Tried(1.41, True), Tried(2, True)]
    end = found(history, search)
    assert (end.best, end.fails, end.fails_met) == (1.41, 2, 2)


def test_what_nobody_can_tell_ends_it_where_the_answer_depends_on_it() -> None:
    end = found([Tried(1, True), Tried(2, None)], RATES)
    assert (end.outcome, end.best, end.fails, end.unknown) == ("unknown", 1, None, 2)
    end = found([Tried(1, None)], RATES)
    assert (end.outcome, end.best, end.unknown) == ("unknown", None, 1)
    history = [Tried(1, True), Tried(1.04, False), Tried(1, True)]
    assert next_point(history, RATES) == Next(1.04, "confirm")
    # That the upper end fails was seen already.
    end = found([*history, Tried(1.04, None)], RATES)
    assert (end.outcome, end.best, end.fails) == ("found", 1, 1.04)
    # That the lower one holds, is asked again.
    end = found([*history[:2], Tried(1, None)], RATES)
    assert (end.outcome, end.best, end.unknown) == ("unknown", None, 1)


def test_a_whole_number_is_never_tried_in_between() -> None:
    search = Search(first=1, most=100, whole=True, confirm=0)
    history = rehearse(search, lambda value: value <= 37)
    assert [one.value for one in history] == [1, 2, 4, 8, 16, 32, 64, 45, 38, 35, 36, 37]
    assert found(history, search).best == 37


@pytest.mark.parametrize(("most", "points"), [(1, 2), (2, 8), (1000, 17)])
def test_the_most_a_search_takes_is_known_beforehand(most: float, points: int) -> None:
    assert len(tried_at_most(Search(first=1, most=most))) == points
