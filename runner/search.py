"""The search for the highest load that still meets an SLO. Pure: what was tried in, what to try next out.

From a lowest value it doubles until one fails, halves the bracket (its logarithm) until both ends are within
the tolerance, and then runs both ends again. A value is met only where all of its runs met it: chance never
makes the answer better. A value that met it once and fails when it is run again becomes the upper end, and
the search goes on below it, so that it ends whatever the runs say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

Stage = Literal["bracket", "bisect", "confirm"]
Outcome = Literal["found", "never_fails", "fails_at_lowest", "unknown"]
_DIGITS = 3


class Search(Struct, frozen=True, kw_only=True):
    """What is searched, and how closely."""

    first: float
    most: float
    tolerance: float = 0.05
    """As a share: the highest that meets it and the lowest that does not are no further apart."""
    whole: bool = False
    """Only whole numbers make sense."""
    confirm: int = 2
    """Runs at the end, of both ends in turns, the found value first."""


class Tried(Struct, frozen=True):
    """One run."""

    value: float
    met: bool | None
    """`None`: nobody can tell."""


class Next(Struct, frozen=True):
    """What to run now."""

    value: float
    stage: Stage


class Found(Struct, frozen=True, kw_only=True):
    """How the search ended."""

    outcome: Outcome
    best: float | None = None
    """The highest that met it, in all of its runs; `None`: none did."""
    fails: float | None = None
    """The lowest above it that did not; `None`: none was found."""
    best_runs: int = 0
    fails_runs: int = 0
    fails_met: int = 0
    """Of them, those that met it all the same: the limit is not sharp."""
    unknown: float | None = None
    """The value of which nobody can tell, and on which the answer depends."""


def next_point(history: Sequence[Tried], search: Search) -> Next | Found:
    """What to run next, or what was found.

    Args:
        history: every run that is over, in order.
        search: from where to where, and how closely.
    """
    if not history:
        return Next(search.first, "bracket")
    runs: dict[float, list[bool | None]] = {}
    for one in history:
        runs.setdefault(one.value, []).append(one.met)
    fails = min((value for value, met in runs.items() if False in met), default=None)
    best = max(
        (value for value, met in runs.items() if set(met) == {True} and (fails is None or value < fails)),
        default=None,
    )
    for value, met in runs.items():
        if None in met and (fails is None or value < fails) and (best is None or value > best):
            return _found("unknown", runs, best, fails, unknown=value)
    return _on(runs, best, fails, search)


def _on(
    runs: dict[float, list[bool | None]], best: float | None, fails: float | None, search: Search
) -> Next | Found:
    if best is not None and fails is None and best < search.most:
        return Next(_doubled(best, search), "bracket")
    if best is not None and fails is not None and not _close(best, fails, search):
        return Next(_between(best, fails, search), "bisect")
    again = _to_confirm(runs, best, fails, search)
    if again is not None:
        return Next(again, "confirm")
    outcome: Outcome = "fails_at_lowest" if best is None else "never_fails" if fails is None else "found"
    return _found(outcome, runs, best, fails)


def tried_at_most(search: Search) -> list[float]:
    """What a search tries whose answer lies as far up as it can: about the most that any takes."""
    return [one.value for one in rehearse(search, lambda value: value < search.most)]


def rehearse(search: Search, truth: Callable[[float], bool | None]) -> list[Tried]:
    """The runs of a search in a world where the truth is known."""
    history: list[Tried] = []
    while isinstance(step := next_point(history, search), Next):
        history.append(Tried(step.value, truth(step.value)))
    return history


def _found(
    outcome: Outcome,
    runs: dict[float, list[bool | None]],
    best: float | None,
    fails: float | None,
    unknown: float | None = None,
) -> Found:
    of_fails = runs[fails] if fails is not None else []
    return Found(
        outcome=outcome,
        best=best,
        fails=fails,
        best_runs=0 if best is None else len(runs[best]),
        fails_runs=len(of_fails),
        fails_met=sum(met is True for met in of_fails),
        unknown=unknown,
    )


def _to_confirm(
    runs: dict[float, list[bool | None]], best: float | None, fails: float | None, search: Search
) -> float | None:
    """The end to run again; `None` where both have been often enough."""
    wanted = {best: math.ceil(search.confirm / 2), fails: search.confirm // 2}
    done = {value: len(runs[value]) - 1 for value in wanted if value is not None}
    left = [value for value, count in done.items() if count < wanted[value]]
    return min(left, key=lambda value: done[value], default=None)  # the first of two that are even: best


def _close(best: float, fails: float, search: Search) -> bool:
    if search.whole and fails - best <= 1:
        return True
    return fails <= best * (1 + search.tolerance) * (1 + 1e-9)


def _doubled(best: float, search: Search) -> float:
    return min(2 * best, search.most)


def _between(best: float, fails: float, search: Search) -> float:
    middle = math.sqrt(best * fails)
    if search.whole:
        return float(min(max(round(middle), best + 1), fails - 1))
    # As people would write it, where that lies inside.
    short = float(f"{middle:.{_DIGITS}g}")
    return short if best < short < fails else middle
