"""The run directory of a bench: made new, never resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner.journal import Journal
from runner.rundir import new_session, now_text, sync_directory, write_manifest
from runner.store import JOURNAL, MANIFEST, RUNS, Manifest, PromptFile, Session, StoreError


class OpenedBench(msgspec.Struct):
    """A run directory this process holds the lock of."""

    path: Path
    journal: Journal
    manifest: Manifest
    session: Session


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
) -> OpenedBench:
    """Make the run directory of a bench and begin its one session.

    Raises:
        StoreError: there is something there already, or another process writes it.
    """
    _check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    journal = Journal(path / JOURNAL)
    try:
        manifest = Manifest(
            kind="bench", created=now_text(), scenario=scenario, prompts=prompts, seed=seed, tags=tags
        )
        session = new_session(1, options)
        manifest.sessions.append(session)
        write_manifest(path, manifest)
        sync_directory(path)
    except BaseException:
        journal.close()
        raise
    return OpenedBench(path, journal, manifest, session)


def _check_free(path: Path) -> None:
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
