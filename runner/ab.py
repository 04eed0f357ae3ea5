"""A comparison of two targets: which run comes when, and the file that says how far it is.

DIR/ab.json        this module's: what is planned, and what has become of it
DIR/01-a, 01-b     a run directory each, as `bench` makes them
DIR/02-b, 02-a     the other way round, so that a drift of the server hits both sides alike
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from runner.rundir import now_text, replace_file
from runner.store import StoreError

AB = "ab.json"
VERSION = 1
# 1: the first.
LEAST_PAIRS = 3  # fewer valid ones carry no verdict (METRICS)

Side = Literal["a", "b"]
Order = Literal["abba", "abab"]
State = Literal["planned", "running", "done", "cut"]
SIDES: tuple[Side, ...] = ("a", "b")


class Slot(msgspec.Struct, kw_only=True):
    """One run: its place in the order, and what became of it."""

    run: str  # name of its directory
    pair: int  # from 1
    side: Side
    salt: str | None = None
    state: State = "planned"
    ended_by: str | None = None  # as the run's own session says
    validity: str | None = None  # OK, WARN, INVALID
    only_failed: bool = False  # INVALID only because every request failed: the client was fit
    wall_s: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it can be compared. That b fails everything is a result; a has to answer something."""
        fit = self.validity != "INVALID" or (self.only_failed and self.side == "b")
        return self.state == "done" and fit


class SideTold(msgspec.Struct, kw_only=True):
    """A side: where its requests go. The runs' own manifests say the rest."""

    scenario: str
    base_url: str | None
    model: str | None
    load: str  # in one sentence


class Ab(msgspec.Struct, kw_only=True):
    """The whole of `ab.json`. It holds no key and no header's value."""

    version: int = VERSION
    created: str
    updated: str
    pairs: int
    order: Order
    seed: int
    sides: dict[Side, SideTold]
    declared: dict[str, dict[Side, Any]]  # what the sides differ in on purpose: the key, and both values
    runs: list[Slot]
    ended_by: str | None = None  # finished, interrupted, terminated, target_gone, too_few_valid, ...
    reason: str | None = None  # which run or side ended it early, and why
    exit_code: int | None = None


def slots(pairs: int, order: Order, salt: str | None) -> list[Slot]:
    """The runs in the order in which they go.

    Args:
        pairs: how many.
        order: `abba`: every second pair begins with b; `abab`: none does.
        salt: of this session; each run's own is made of it.
    """
    width = max(2, len(str(pairs)))
    found = []
    for pair in range(1, pairs + 1):
        turned = order == "abba" and pair % 2 == 0
        for side in reversed(SIDES) if turned else SIDES:
            name = f"{pair:0{width}d}-{side}"
            found.append(
                Slot(run=name, pair=pair, side=side, salt=None if salt is None else f"{salt}/{name}")
            )
    return found


def complete(runs: Sequence[Slot]) -> list[int]:
    """The pairs of which both runs are over, valid or not."""
    done = {(slot.pair, slot.side) for slot in runs if slot.state == "done"}
    return sorted({pair for pair, _ in done if all((pair, side) in done for side in SIDES)})


def can_reach(runs: Sequence[Slot], least: int = LEAST_PAIRS) -> bool:
    """Whether as many pairs as a verdict needs can still become valid."""
    over = [slot for slot in runs if slot.state not in {"planned", "running"}]
    lost = {slot.pair for slot in over if not slot.counts}
    return len({slot.pair for slot in runs} - lost) >= least


def completes_pair(runs: Sequence[Slot], slot: Slot) -> bool:
    """Whether the other run of this one's pair is over already."""
    return any(one.pair == slot.pair and one.side != slot.side and one.state == "done" for one in runs)


class Progress:
    """How long what is left takes: by the runs so far, and by the schedule before there are any.

    Args:
        runs: of the comparison; their `wall_s` is read.
        planned_s: of a run of each side, where its schedule says it.
    """

    def __init__(self, runs: Sequence[Slot], planned_s: dict[Side, float | None]) -> None:
        self._runs, self._planned_s = runs, planned_s

    def left_s(self) -> float | None:
        """Seconds for the runs that are still to come; `None` where nobody can say yet."""
        spans = [self._run_s(slot.side) for slot in self._runs if slot.state == "planned"]
        known = [span for span in spans if span is not None]
        return sum(known) if len(known) == len(spans) else None

    def _run_s(self, side: Side) -> float | None:
        took = [slot.wall_s for slot in self._runs if slot.side == side and slot.wall_s is not None]
        others = [slot.wall_s for slot in self._runs if slot.wall_s is not None]
        measured = took or others
        return sum(measured) / len(measured) if measured else self._planned_s[side]


def begin(folder: Path, ab: Ab) -> None:
    """Make the folder of a comparison, with its file.

    Raises:
        StoreError: there is something there already.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file, not a folder. Choose another place with -o.")
    if folder.is_dir():
        others = sorted(place.name for place in folder.iterdir() if not place.name.startswith("."))
        if others:
            what = "holds a comparison already" if AB in others else f"holds files ({', '.join(others[:3])})"
            raise StoreError(
                f"{folder} {what}, and a comparison is made new. Choose another folder with -o, or --fresh."
            )
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder, ab)


def keep(folder: Path, ab: Ab) -> None:
    """Write the file anew, as a whole."""
    ab.updated = now_text()
    replace_file(folder / AB, msgspec.json.format(msgspec.json.encode(ab), indent=2) + b"\n")
