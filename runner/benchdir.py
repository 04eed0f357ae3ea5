"""The run directory of a bench: made new, never resumed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner.journal import Journal
from runner.rundir import new_session, now_text, sync_directory, write_manifest
from runner.store import JOURNAL, MANIFEST, RUNS, Manifest, PromptFile, Session, StoreError, own_name


class OpenedBench(msgspec.Struct):
    """A run directory this process holds the lock of."""

    path: Path
    journal: Journal
    manifest: Manifest
    session: Session
    made: list[Path] = []  # folders that were made for it, the innermost first
    shards: list[Path] = []  # the journal of each worker; this process's own stays empty then
    unsafe: str | None = None  # why what was written may not last


def bench_place(scenario: str, output: str | None) -> Path:
    """Where a bench goes: `runs/<scenario>-<UTC time>`, or where the user says."""
    if output is not None:
        return Path(output)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    first = RUNS / f"{scenario}-{stamp}"
    turns = (RUNS / f"{scenario}-{stamp}-{turn}" for turn in range(2, 100))
    return next((place for place in (first, *turns) if not place.exists()), first)


def open_bench(
    path: Path,
    scenario: dict[str, Any],
    *,
    seed: int,
    tags: dict[str, str],
    prompts: PromptFile | None,
    options: dict[str, Any],
    workers: int = 1,
) -> OpenedBench:
    """Make the run directory of a bench and begin its one session.

    Raises:
        StoreError: there is something there already, or another process writes it.
    """
    check_free(path)
    made = _make(path)
    try:
        journal = Journal(path / JOURNAL)
    except BaseException:
        _unmake(made)
        raise
    manifest = Manifest(
        kind="bench", created=now_text(), scenario=scenario, prompts=prompts, seed=seed, tags=tags
    )
    session = new_session(1, options)
    manifest.sessions.append(session)
    shards = [path / own_name(JOURNAL, worker) for worker in range(workers)] if workers > 1 else []
    opened = OpenedBench(path, journal, manifest, session, made, shards)
    try:
        write_manifest(path, manifest)
        sync_directory(path)
    except BaseException:
        discard(opened)
        raise
    return opened


def discard(opened: OpenedBench) -> None:
    """Take back a directory that was opened, and in which nothing was written yet."""
    opened.journal.close()
    with suppress(OSError):
        if (opened.path / JOURNAL).stat().st_size == 0:
            (opened.path / MANIFEST).unlink(missing_ok=True)
            (opened.path / JOURNAL).unlink()
    _unmake(opened.made)


def _make(path: Path) -> list[Path]:
    """Make the folder; return those that there were none of before, the innermost first."""
    made = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return made


def _unmake(made: list[Path]) -> None:
    with suppress(OSError):  # another's file is in it by now
        for place in made:
            place.rmdir()


def check_free(path: Path) -> None:
    """Refuse a place that a bench cannot go to.

    Raises:
        StoreError: there is something there already.
    """
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file, not a folder for a run. Choose another place with -o.")
    if not path.is_dir():
        return
    if (path / MANIFEST).exists() or (path / JOURNAL).exists():
        raise StoreError(
            f"{path} holds a run already, and a bench is never added to one. Choose another folder with -o, "
            "or --fresh, which renames the run that is there."
        )
    others = sorted(place.name for place in path.iterdir() if not place.name.startswith("."))
    if others:
        raise StoreError(
            f"{path} holds other files ({', '.join(others[:3])}). Choose a new or empty folder with -o."
        )
