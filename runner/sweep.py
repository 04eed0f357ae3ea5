"""A sweep: which points there are, and the file that says how far they are.

DIR/sweep.json           this module's: what is varied, and what has become of each point
DIR/01-rate-4, ...       a run directory each, as `bench` makes them
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from runner.journal import lock
from runner.rundir import now_text, replace_file
from runner.search import Stage, Tried
from runner.store import MANIFEST, StoreError, load_manifest

SWEEP = "sweep.json"
VERSION = 1
# 1: the first.
_LOCK = ".lock"
_NAME = 60

Mode = Literal["over", "until"]
State = Literal["planned", "running", "done", "cut"]


class Point(msgspec.Struct, kw_only=True):
    """One run: what it is at, and what became of it."""

    run: str  # name of its directory
    values: dict[str, Any]  # by dotted key
    stage: Stage | None = None  # of a search
    salt: str | None = None
    state: State = "planned"
    ended_by: str | None = None  # as the run's own session says
    validity: str | None = None  # OK, WARN, INVALID
    meets: bool | None = None  # stable, and all thresholds hold; `None`: not known
    why: str = ""  # it does not, or is not known
    wall_s: float | None = None


class Over(msgspec.Struct, kw_only=True):
    """One axis of a grid: keys that change together."""

    keys: list[str]
    values: list[list[Any]]


class Until(msgspec.Struct, kw_only=True):
    """What a search is for."""

    key: str  # load.rate, load.concurrency
    thresholds: list[str]
    first: float
    most: float
    tolerance: float
    confirm: int


class Answer(msgspec.Struct, kw_only=True):
    """What a search found; `runner/search.py` says what the fields mean."""

    outcome: str
    best: float | None = None
    fails: float | None = None
    best_runs: int = 0
    fails_runs: int = 0
    fails_met: int = 0
    unknown: float | None = None


class Sweep(msgspec.Struct, kw_only=True):
    """The whole of `sweep.json`. It holds no key and no header's value."""

    version: int = VERSION
    created: str
    updated: str
    scenario: str
    mode: Mode
    over: list[Over] = []
    until: Until | None = None
    settings: dict[str, Any]  # what all points share, by dotted key: nothing of it changes in a resume
    salt: str | None = None
    points: list[Point] = []
    answer: Answer | None = None
    ended_by: str | None = None  # finished, interrupted, terminated, target_gone, disk_full, ...
    exit_code: int | None = None


def point_name(number: int, values: Mapping[str, Any], width: int = 2) -> str:
    """A folder's name that says what is in it: `03-rate-4.5`."""
    parts = [f"{key.rpartition('.')[2]}-{_shown(value)}" for key, value in values.items()]
    text = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))[:_NAME].strip("._-")
    return f"{number:0{width}d}-{text}"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def history(sweep: Sweep) -> list[Tried]:
    """The runs of a search that are over."""
    assert sweep.until is not None
    key = sweep.until.key
    return [Tried(float(one.values[key]), one.meets) for one in sweep.points if one.state == "done"]


def settings_of(tables: Mapping[str, Any], without: set[str]) -> dict[str, Any]:
    """Settings as they are compared: flat, by dotted key, without what is swept or not set."""
    found = dict(_flat(tables, ""))
    return {
        key: value
        for key, value in found.items()
        if not any(key == one or key.startswith(f"{one}.") for one in without)
    }


def _flat(tables: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif value is not None and value != []:
            yield f"{before}{key}", value


def changed(old: Sweep, new: Sweep) -> list[str]:
    """What a command asks for otherwise than the sweep that is there, by name."""
    found = [
        name
        for name in dict.fromkeys((*old.settings, *new.settings))
        if old.settings.get(name) != new.settings.get(name)
    ]
    if old.mode != new.mode:
        return [*found, "--over" if new.mode == "over" else "--until"]
    if old.over != new.over:
        found.append("--over")
    if old.until is not None and new.until is not None and old.until != new.until:
        before, after = (msgspec.to_builtins(one) for one in (old.until, new.until))
        names = {"key": "--by", "thresholds": "--until", "first": "--from", "most": "--to"}
        found += [names.get(key, f"--{key}") for key in before if before[key] != after[key]]
    return found


# -- the folder


def load(folder: Path) -> Sweep:
    """Read `sweep.json`.

    Raises:
        StoreError: there is none, it is none, or a newer Streamgauge wrote it.
    """
    path = folder / SWEEP
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{folder} holds no sweep: there is no {SWEEP} in it.") from None
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror}") from None
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("version")
        if isinstance(version, int) and version > VERSION:
            raise StoreError(
                f"{path} has version {version}; this Streamgauge reads up to {VERSION}. Upgrade it."
            )
        return msgspec.json.decode(data, type=Sweep)
    except msgspec.MsgspecError as exc:
        raise StoreError(f"{path} is not a sweep: {exc}. Restore it, or choose another folder.") from None


def keep(folder: Path, sweep: Sweep) -> None:
    """Write the file anew, as a whole."""
    sweep.updated = now_text()
    replace_file(folder / SWEEP, msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")


def check_free(folder: Path) -> None:
    """Refuse a place that a sweep cannot be made in.

    Raises:
        StoreError: there is something there already.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file, not a folder. Choose another place with -o.")
    if folder.is_dir():
        others = sorted(place.name for place in folder.iterdir() if not place.name.startswith("."))
        if others:
            raise StoreError(
                f"{folder} holds files ({', '.join(others[:3])}) and no {SWEEP}: it is no sweep to go on "
                "with. Choose a new or empty folder with -o, or --fresh, which renames the one that is there."
            )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have the folder alone, as long as this lasts.

    Raises:
        StoreError: another process runs a sweep in it.
    """
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        lock(fd, folder)
        yield
    finally:
        os.close(fd)


def ended_by(run: Path) -> str | None:
    """How a point's run ended, by its own word: one that was killed has none."""
    if not (run / MANIFEST).exists():
        return None
    sessions = load_manifest(run).sessions
    return sessions[-1].ended_by if sessions else None
