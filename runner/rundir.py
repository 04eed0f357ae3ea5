"""A run directory opened for writing: whose it is, what it already holds, its manifest and sessions."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runner.again import Again, wanted_again
from runner.journal import Journal, mend, sync
from runner.mismatch import mismatch
from runner.part import Part
from runner.record import SCHEMA_VERSION
from runner.session_facts import boot_id, versions
from runner.store import (
    AGAIN,
    CURRENT,
    JOURNAL,
    LATEST,
    MANIFEST,
    OK,
    RUNS,
    Index,
    Manifest,
    PromptFile,
    Session,
    StoreError,
    build_index,
    inside,
    journal_files,
    load_manifest,
    own_name,
)
from runner.target import without_query
from scenarios.prompts import Plan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DATASETS = {".jsonl", ".csv", ".parquet"}
_OURS = re.compile(r"(records(-\d+)?\.(jsonl|torn)|(run|progress)(-\d+)?\.json)\Z")


class Opened(msgspec.Struct):
    """A run directory this process holds the lock of."""

    path: Path
    journal: Journal
    manifest: Manifest
    session: Session
    settled: npt.NDArray[np.uint64]  # sorted id digests of what needs no sending any more
    answered: int  # of the plan's requests, before this session
    failed: int  # of them, failed for good and not sent again
    left_out: int  # ids in the journal that the prompt file no longer gives
    notes: list[str]
    part: Part | None = None  # of the plan, where other processes send the rest
    others: npt.NDArray[np.uint64] | None = None  # digests of that rest, until they are asked for

    def not_needed(self) -> npt.NDArray[np.uint64]:
        """Sorted id digests of all that this process has not to send. Once: they are not kept."""
        import numpy as np

        others, self.others = self.others, None
        return self.settled if others is None else np.sort(np.concatenate([self.settled, others]))


def place_for(prompts: str, output: str | None) -> tuple[Path, Path | None]:
    """The run directory for a prompt file, and the dataset to write at the end, where one was asked for.

    Raises:
        StoreError: standard input without a place to spool it to, or the prompt file as the dataset.
    """
    if output is None:
        if prompts == "-":
            raise StoreError("prompts from standard input need a place for their answers: -o DIR")
        return RUNS / Path(prompts).stem, None
    path = Path(output)
    if path.suffix.lower() in DATASETS and not path.is_dir():
        if prompts != "-" and path.exists() and Path(prompts).exists() and path.samefile(prompts):
            raise StoreError(f"-o {output} is the prompt file itself, which answers must not replace.")
        return path.with_suffix(".run"), path
    return path, None


def scenario_of(plan: Plan, base_urls: list[str]) -> dict[str, Any]:
    """The settings of a run as its manifest keeps them."""
    settings = plan.settings
    return {
        "target": {**_place(base_urls), "model": settings.model, "api": settings.api},
        "models": plan.models,
        "params": settings.params,
        "max_tokens": settings.max_tokens,
        "system": settings.system,
        "template": settings.template,
        "samples": settings.samples,
    }


def _place(base_urls: list[str]) -> dict[str, Any]:
    shown = [without_query(url) for url in base_urls]
    return {"base_url": shown[0], **({"base_urls": shown} if len(shown) > 1 else {})}


def open_run(
    path: Path,
    plan: Plan,
    scenario: dict[str, Any],
    *,
    source_name: str,
    options: dict[str, Any],
    fresh: bool,
    again: Again | None = None,
) -> Opened:
    """Take a run directory for one session: made, or resumed, or set aside and made anew.

    Raises:
        StoreError: it is no run directory, another process writes it, or it is another run's.
    """
    notes: list[str] = []
    check_place(path, shared=fresh)
    made = [place for place in (path, *path.parents) if not place.exists()]
    with naming(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            journal = Journal(path / JOURNAL)
        except BaseException:
            _take_back(made)
            raise
        return _open(
            path, journal, made, plan, scenario, source_name, options, fresh, again or Again(), notes
        )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write that fails does not say where: let its error."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or str(path)
        raise


def _take_back(made: list[Path], ours: tuple[str, ...] = ()) -> None:
    """Remove what a run that could not begin has made: nothing was asked yet.

    Args:
        made: folders, the innermost first.
        ours: files of the innermost; none where another process may have made it its own.
    """
    with contextlib.suppress(OSError):
        for name in ours if made else ():
            (made[0] / name).unlink(missing_ok=True)
        for place in made:  # as long as they are empty
            place.rmdir()


def _open(
    path: Path,
    journal: Journal,
    made: list[Path],
    plan: Plan,
    scenario: dict[str, Any],
    source_name: str,
    options: dict[str, Any],
    fresh: bool,
    again: Again,
    notes: list[str],
) -> Opened:
    try:
        for shard in journal_files(path):
            if shard != journal.path:
                mend(shard)  # its worker may be dead, as may be its parent
        manifest, index = _earlier(path)
        why = mismatch(path, manifest, index, scenario, plan, again)
        if fresh or (why is not None and index is not None and not (index.state == OK).any()):
            if manifest is not None or (index is not None and len(index)):
                journal.close()
                aside = set_aside(path)
                reason = "" if fresh else " (its settings differ, and it holds no answer)"
                notes.append(f"the earlier run is now {aside}{reason}")
                path.mkdir(parents=True)
                journal = Journal(path / JOURNAL)
            manifest = index = None
        elif why is not None:
            raise StoreError(why)
        return _begin(path, journal, manifest, index, plan, scenario, source_name, options, again, notes)
    except BaseException:
        _take_back(made, (CURRENT, MANIFEST, JOURNAL))  # while the lock is held: it is nobody else's
        journal.close()
        raise


def close_run(opened: Opened) -> None:
    """Close the journal and keep the session's end. Blocks."""
    opened.journal.close()
    write_manifest(opened.path, opened.manifest)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace `run.json`, or a shard's own, as a whole: written beside, renamed, all of it fsynced."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    replace_file(path / own_name(MANIFEST, manifest.shard), data)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of a file, or leave the file as it is."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def link_latest(path: Path) -> None:
    """Point `runs/latest` at a run, wherever that is."""
    below = RUNS.resolve() == path.resolve().parent
    link = RUNS / LATEST
    beside = RUNS / f".{LATEST}.{os.getpid()}"
    with contextlib.suppress(OSError):
        RUNS.mkdir(exist_ok=True)
        beside.symlink_to(path.name if below else path.resolve())
        beside.replace(link)
    with contextlib.suppress(OSError):
        beside.unlink()  # still there where a run itself is called `latest`


# -- what is there


def check_place(path: Path, *, shared: bool = False) -> None:
    """Check that a path is no other thing than a run, or nothing yet.

    Args:
        path: the run directory.
        shared: shards of several processes may be in it.

    Raises:
        StoreError: it is.
    """
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file, not a folder for a run. Choose another place with -o.")
    if (path / MANIFEST).exists():
        # Before its journal is opened, and mended: a newer version's, or a bench's, is not ours to touch.
        manifest = load_manifest(path)
        if manifest.kind != "run":
            raise StoreError(f"{path} belongs to a `{manifest.kind}`. Choose another folder with -o.")
        if manifest.slim:
            raise StoreError(f"{path} is a slim copy, without its texts. Go on in the run it was made of.")
        if manifest.shards is not None and not shared:
            raise StoreError(
                f"{path} is shared by {manifest.shards} shards: give --shard I/{manifest.shards}, I from 0 "
                f"to {manifest.shards - 1}, or choose another folder with -o."
            )
    elif path.is_dir():
        others = [p.name for p in path.iterdir() if not _is_ours(p.name)]
        if others:
            raise StoreError(
                f"{path} holds other files ({', '.join(sorted(others)[:3])}) and no {MANIFEST}: "
                "it is not a run directory. Choose a new or empty folder with -o."
            )


def _is_ours(name: str) -> bool:
    """Whether a file may be of a run that was killed before it had a manifest."""
    # A shard's may come between two looks at the folder.
    return name.startswith(".") or name == CURRENT or _OURS.match(name) is not None


def _earlier(path: Path) -> tuple[Manifest | None, Index | None]:
    if not (path / MANIFEST).exists():
        return None, build_index(path)
    manifest = load_manifest(path)
    stopped_on = {s.number: s.stopped_on for s in manifest.sessions if s.stopped_on is not None}
    return manifest, build_index(path, stopped_on=stopped_on)


def set_aside(path: Path) -> Path:
    """Rename an earlier run, and return its new place. Nothing is deleted.

    Raises:
        StoreError: that cannot be.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise StoreError(f"cannot set {path} aside: this command runs in it. Start elsewhere, or choose -o.")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # `answers.run` keeps its ending; what stands behind the dot of `rate-4.5` is none.
    stem, suffix = (path.name, "") if path.suffix[1:].isdigit() else (path.stem, path.suffix)
    for turn in range(100):
        aside = path.with_name(f"{stem}-{stamp}{f'-{turn}' if turn else ''}{suffix}")
        if not aside.exists():
            path.rename(aside)
            sync_directory(path.parent)
            return aside
    raise StoreError(f"cannot set {path} aside: too many earlier runs of this second.")


# -- the session


def _begin(
    path: Path,
    journal: Journal,
    manifest: Manifest | None,
    index: Index | None,
    plan: Plan,
    scenario: dict[str, Any],
    source_name: str,
    options: dict[str, Any],
    again: Again,
    notes: list[str],
) -> Opened:
    import numpy as np

    prompts = PromptFile(
        name=source_name,
        sha256=plan.sha256,
        rows=plan.rows,
        requests=plan.requests,
        expects=plan.expects,
    )
    if manifest is None:
        manifest = Manifest(kind="run", created=now_text(), scenario=scenario)
    manifest.scenario, manifest.prompts = scenario, prompts
    manifest.schema_version = SCHEMA_VERSION
    before = list(manifest.sessions)
    session = new_session(len(before) + 1, {**options, **again.told()})
    manifest.sessions.append(session)
    settled = np.zeros(0, dtype=np.uint64)
    answered = failed = left_out = 0
    if index is not None and len(index):
        if index.bad_count:
            notes.append(f"{index.bad_count} lines of the journal cannot be read and are skipped")
        here = inside(index.digest, plan.digests)
        answered = int((here & (index.state == OK)).sum())
        left_out = int((~here).sum())
        done = index.state != AGAIN
        if again.retry_failed or again.redo:
            done &= ~wanted_again(index, again, before)
        failed = int((here & done & (index.state != OK)).sum())
        settled = np.sort(index.digest[here & done])
    replace_file(path / CURRENT, plan.digests.astype("<u8").tobytes())
    write_manifest(path, manifest)
    sync_directory(path)
    return Opened(path, journal, manifest, session, settled, answered, failed, left_out, notes)


def new_session(number: int, options: dict[str, Any]) -> Session:
    """A session that begins now."""
    return Session(
        number=number,
        started=now_text(),
        anchor_ns=time.monotonic_ns(),
        wall_ns=time.time_ns(),
        boot_id=boot_id(),
        host=socket.gethostname(),
        pid=os.getpid(),
        versions=versions(),
        options=options,
    )


def now_text() -> str:
    """The wall clock, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
