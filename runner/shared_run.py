"""A run directory that several processes share, on one machine or on many, with nothing between them but it.

What is common (settings, prompt file, number of shards) stands in `run.json`, which whoever comes first
writes, under a lock. Everything else is each shard's own: its journal, with the kernel's lock, its sessions,
its progress. So no process ever writes what another one writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runner.again import Again, wanted_again
from runner.journal import Journal, is_locked, lock
from runner.mismatch import changes
from runner.part import Part
from runner.record import SCHEMA_VERSION
from runner.rundir import (
    Opened,
    check_place,
    naming,
    new_session,
    now_text,
    replace_file,
    sync_directory,
    write_manifest,
)
from runner.store import (
    AGAIN,
    CURRENT,
    JOURNAL,
    MANIFEST,
    OK,
    Manifest,
    PromptFile,
    StoreError,
    build_index,
    inside,
    journal_files,
    own_name,
    read_manifest,
)
from scenarios.prompts import Plan

_LOCK = ".shards.lock"
_TRIES = 1200  # a minute: a thousand processes may begin at once, each with some milliseconds of it


def open_shard(
    path: Path,
    plan: Plan,
    scenario: dict[str, Any],
    part: Part,
    *,
    source_name: str,
    options: dict[str, Any],
    again: Again | None = None,
) -> Opened:
    """Take one shard of a run directory for one session; the directory is made by whoever comes first.

    Args:
        plan: of all shards together.

    Raises:
        StoreError: it is no run directory, another process writes that shard, or it is another run's.
    """
    check_place(path, shared=True)
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            _join(path, plan, scenario, part, source_name)
            journal = Journal(path / own_name(JOURNAL, part.number))
        try:
            return _begin(path, journal, plan, scenario, part, options, again or Again())
        except BaseException:
            journal.close()
            raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held while `run.json` is looked at and written."""
    place = path / _LOCK
    fd = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        lock(fd, place, _TRIES)
        yield
    finally:
        os.close(fd)


def _join(path: Path, plan: Plan, scenario: dict[str, Any], part: Part, source_name: str) -> None:
    """Make `run.json`, or find that this process may go on under the one that is there.

    Raises:
        StoreError: it may not.
    """
    prompts = PromptFile(
        name=source_name,
        sha256=plan.sha256,
        rows=plan.rows,
        requests=plan.requests,
        expects=plan.expects,
    )
    manifest = read_manifest(path) if (path / MANIFEST).exists() else None
    if manifest is None:
        held = [file for file in journal_files(path) if file.stat().st_size]
        if held:
            raise StoreError(
                f"{path} holds answers ({held[0].name}) but no {MANIFEST}. Choose another folder with -o."
            )
        manifest = Manifest(kind="run", created=now_text(), scenario=scenario, shards=part.of)
    else:
        _check(path, manifest, scenario, part)
    if _same_file(manifest.prompts, prompts) and manifest.scenario == scenario:
        return
    if manifest.prompts is not None and not _same_file(manifest.prompts, prompts):
        _check_alone(path, part, source_name)
    manifest.scenario, manifest.prompts = scenario, prompts
    manifest.schema_version = SCHEMA_VERSION
    replace_file(path / CURRENT, plan.digests.astype("<u8").tobytes())
    write_manifest(path, manifest)
    sync_directory(path)


def _check(path: Path, manifest: Manifest, scenario: dict[str, Any], part: Part) -> None:
    if manifest.shards is None:
        raise StoreError(
            f"{path} was begun as a whole, and --shard {part} would send what is sent already. Go on without "
            "--shard (--shard none), or choose another folder with -o."
        )
    if manifest.shards != part.of:
        raise StoreError(
            f"{path} was begun with {manifest.shards} shards, and --shard {part} says {part.of}: rows would "
            f"be sent twice or never. Give --shard I/{manifest.shards}, I from 0 to {manifest.shards - 1}, "
            "or choose another folder with -o."
        )
    changed = changes(manifest.scenario, scenario)
    if changed:
        told = "; ".join(f"{name}: {change}" for name, change in changed.items())
        raise StoreError(
            f"{path} was begun with other settings ({told}). Answers are not mixed. Choose: the old "
            "settings, -o OTHER, or rename that folder first."
        )


def _same_file(one: PromptFile | None, other: PromptFile) -> bool:
    return one is not None and (one.sha256, one.rows, one.requests) == (
        other.sha256,
        other.rows,
        other.requests,
    )


def _check_alone(path: Path, part: Part, source_name: str) -> None:
    """The prompt file has changed: no shard may still be sending the old one."""
    for number in range(part.of):
        if number != part.number and is_locked(path / own_name(JOURNAL, number)):
            raise StoreError(
                f"shard {number}/{part.of} of {path} is running, with another version of its prompts than "
                f"{source_name} is now. Wait for it, or choose another folder with -o."
            )


def _begin(
    path: Path,
    journal: Journal,
    whole: Plan,
    scenario: dict[str, Any],
    part: Part,
    options: dict[str, Any],
    again: Again,
) -> Opened:
    plan = part.of_plan(whole)
    if (path / own_name(MANIFEST, part.number)).exists():
        manifest = read_manifest(path, part.number)
    else:
        manifest = Manifest(
            kind="run", created=now_text(), scenario=scenario, shards=part.of, shard=part.number
        )
    manifest.scenario, manifest.schema_version = scenario, SCHEMA_VERSION
    before = list(manifest.sessions)
    # Numbers of its own: records say them, and no shard knows how many sessions the others had.
    session = new_session(len(before) * part.of + part.number + 1, {**options, **again.told()})
    session.shard = part.number
    manifest.sessions.append(session)
    stopped_on = {s.number: s.stopped_on for s in before if s.stopped_on is not None}
    index = build_index(path, stopped_on=stopped_on, files=[journal.path])
    notes = []
    if index.bad_count:
        notes.append(f"{index.bad_count} lines of {journal.path.name} cannot be read and are skipped")
    here = inside(index.digest, plan.digests)
    done = index.state != AGAIN
    if again.retry_failed or again.redo:
        done &= ~wanted_again(index, again, before)
    write_manifest(path, manifest)
    return Opened(
        path=path,
        journal=journal,
        manifest=manifest,
        session=session,
        settled=np.sort(index.digest[here & done]),
        answered=int((here & (index.state == OK)).sum()),
        failed=int((here & done & (index.state != OK)).sum()),
        left_out=int((~here).sum()),
        notes=notes,
        part=part,
        others=whole.digests[whole.digests % np.uint64(part.of) != part.number],
    )
