"""Which run directories stand on which side: what a command line means, once a shell has expanded it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from reports.comparison import CompareError
from runner.store import MANIFEST, StoreError, load_manifest

HOW = (
    "Name two run directories or folders of them (compare BASE NEW), two globs of different folders "
    "(compare baselines/main/* new/*), or put -- between the sides (compare runs/a runs/b -- runs/c)"
)


class Groups(Struct):
    """The runs of both sides, in the order they were named."""

    base: list[Path]
    new: list[Path]
    notes: list[str]


def runs_of(path: Path) -> list[Path]:
    """The run directories a path stands for: itself, or those it holds.

    Raises:
        CompareError: it is neither.
    """
    if (path / MANIFEST).is_file():
        return [path]
    if not path.is_dir():
        if any(sign in path.name for sign in "*?["):
            raise CompareError(f"nothing is named {path}: the pattern matched no run directory")
        what = "is a file, not a run directory" if path.exists() else "does not exist"
        raise CompareError(f"{path} {what}. Name a run directory, or a folder of run directories.")
    found = _once(sorted(inner for inner in path.iterdir() if (inner / MANIFEST).is_file()))
    if not found:
        raise CompareError(
            f"{path} is no run directory (no {MANIFEST}), and holds none. Name the one that `bench` printed."
        )
    return found


def group(named: Sequence[Path], new: Sequence[Path] = ()) -> Groups:
    """Tell base from new.

    Args:
        named: what stands on the command line; BASE alone, where NEW is named apart.
        new: what was named as NEW.

    Raises:
        CompareError: there are not exactly two sides.
    """
    if new:
        return _sided(named, new, [])
    if not named:
        raise CompareError(f"nothing to compare. {HOW}.")
    if len(named) == 1:
        return _of_one(named[0])
    if len(named) == 2:
        return _sided(named[:1], named[1:], [])
    files = [path for path in named if path.is_file()]
    by_parent: dict[Path, list[Path]] = {}
    for path in named:
        if path not in files:
            by_parent.setdefault(path.absolute().parent, []).append(path)
    if len(by_parent) == 1 and (tagged := _by_tag(_once(path for path in named if path not in files))):
        return tagged
    if len(by_parent) != 2:
        parents = ", ".join(str(paths[0].parent) for paths in list(by_parent.values())[:4])
        raise CompareError(
            f"{len(named)} paths in {len(by_parent)} folders ({parents}): which are BASE and which are NEW? "
            f"{HOW}."
        )
    notes = [f"{path} is no run directory and is left out" for path in files]
    first, second = by_parent.values()
    return _sided(first, second, notes)


def _sided(base: Iterable[Path], new: Iterable[Path], notes: list[str]) -> Groups:
    sides = [_once(run for path in side for run in runs_of(path)) for side in (base, new)]
    both = {run.resolve() for run in sides[0]} & {run.resolve() for run in sides[1]}
    notes = [*notes, *(f"{run} stands on both sides" for run in sorted(both))]
    return Groups(sides[0], sides[1], notes)


def _once(runs: Iterable[Path]) -> list[Path]:
    """Without the same directory by another name, as `runs/latest` is."""
    found: dict[Path, Path] = {}
    for run in runs:
        known = found.setdefault(run.resolve(), run)
        if known.is_symlink() and not run.is_symlink():
            found[run.resolve()] = run
    return list(found.values())


def _of_one(folder: Path) -> Groups:
    """Both sides out of one folder, as `ab` writes it."""
    runs = runs_of(folder)
    if runs == [folder]:
        raise CompareError(f"{folder} is one run: with what should it be compared? {HOW}.")
    found = _by_tag(runs)
    if found is None:
        raise CompareError(
            f"the runs in {folder} are not tagged side=a and side=b, as those of `ab` are. {HOW}."
        )
    return found


def _by_tag(runs: Sequence[Path]) -> Groups | None:
    """By the tag `side`; `None` where they do not all have it."""
    if not all((run / MANIFEST).is_file() for run in runs):
        return None
    sides: dict[str | None, list[Path]] = {}
    for run in runs:
        try:
            side = load_manifest(run).tags.get("side")
        except StoreError as exc:
            raise CompareError(str(exc)) from None
        sides.setdefault(side, []).append(run)
    return Groups(sides["a"], sides["b"], []) if set(sides) == {"a", "b"} else None
