"""`streamgauge status`: how far a run is, while it runs or after."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import show, stop

if TYPE_CHECKING:
    from runner.store import Index, Manifest, Progress


@click.command("status")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def command(run: str | None, as_json: bool) -> None:
    """Say how far a run is: done, failed, in flight, rate, sessions; of a bench, what became of its load.

    RUN is the folder that `run` or `bench` printed; without one, the latest. What counts as done is safely
    on disk.
    """
    import msgspec

    from runner.commands import bench_status
    from runner.commands.report import shown
    from runner.store import StoreError, resolve_run

    try:
        told = look(shown(resolve_run(run)))
    except StoreError as exc:
        stop(str(exc), 2)
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
    else:
        text = bench_status.text(told) if told["kind"] == "bench" else _text(told)
    sys.exit(0 if show(f"{text}\n") else 1)


def look(path: Path) -> dict[str, Any]:
    """How a run stands, as plain data. Counts are of ids, one each, of the current prompt file."""
    from runner.commands import bench_status
    from runner.journal import is_locked
    from runner.store import (
        AGAIN,
        FAILED,
        JOURNAL,
        OK,
        build_index,
        current_ids,
        inside,
        journal_files,
        load_manifest,
    )

    manifest = load_manifest(path)
    if manifest.kind == "bench":
        return bench_status.look(path, manifest)
    last = manifest.sessions[-1] if manifest.sessions else None
    with_workers = last is not None and "workers" in last.options
    # Of several workers it is the command that runs: they outlive it by a moment.
    running = any(is_locked(file) for file in ([path / JOURNAL] if with_workers else journal_files(path)))
    progress = _progress(path) if running else None
    if progress is not None and progress.session != len(manifest.sessions):
        progress = None  # of the session before: this one has said nothing yet
    # While it runs, only what is known to be on disk counts.
    end = {JOURNAL: progress.synced_bytes, **progress.synced} if progress is not None else None
    stopped_on = {s.number: s.stopped_on for s in manifest.sessions if s.stopped_on is not None}
    index = build_index(path, end, stopped_on)
    current = current_ids(path)
    here = index.offset >= 0 if current is None else inside(index.digest, current)
    total = manifest.prompts.requests if manifest.prompts is not None else len(index)
    ok, failed, again = (int((here & (index.state == state)).sum()) for state in (OK, FAILED, AGAIN))
    return {
        "run": str(path),
        "kind": "run",
        "state": _state(manifest, progress, running, total - ok - failed, failed),
        "total": total,
        "answered": ok,
        "failed": failed,
        "to_send_again": again,
        "not_finished": total - ok - failed,
        "in_flight": progress.in_flight if progress is not None else 0,
        "left_out": int((~here).sum()),
        "bad_lines": index.bad_count,
        "rate_per_s": _rate(manifest, index, running),
        "sessions": [
            {"number": s.number, "started": s.started, "ended_by": s.ended_by, "counts": s.counts}
            for s in manifest.sessions
        ],
    }


def _progress(path: Path) -> Progress | None:
    import msgspec

    from runner.store import PROGRESS, Progress

    try:
        return msgspec.json.decode((path / PROGRESS).read_bytes(), type=Progress)
    except (OSError, msgspec.MsgspecError):
        return None


def _state(manifest: Manifest, progress: Progress | None, running: bool, left: int, failed: int) -> str:
    if running:
        return progress.state if progress is not None else "running"
    last = manifest.sessions[-1] if manifest.sessions else None
    if last is None:
        return "not begun"
    if left == 0:
        return "complete" if not failed else "finished, with failures"
    return last.ended_by or "killed"


def _rate(manifest: Manifest, index: Index, running: bool) -> float | None:
    """Records a second of the last session; `None` where it was killed (its end is unknown)."""
    import time

    last = manifest.sessions[-1] if manifest.sessions else None
    if last is None:
        return None
    if running:
        passed = time.monotonic_ns() - last.anchor_ns
    elif last.ended_at is not None:
        passed = last.ended_at
    else:
        return None
    count = int((index.session == last.number).sum())
    return round(count / (passed / 1e9), 3) if passed > 0 else None


_STATES = {
    "interrupted": "stopped by Ctrl-C",
    "terminated": "stopped by SIGTERM",
    "circuit_breaker": "stopped, because requests kept failing",
    "budget": "stopped by --max-cost",
    "pilot": "stopped after the pilot",
    "disk_full": "stopped, because the disk was full",
    "error": "stopped by an error",
}


def _text(told: dict[str, Any]) -> str:
    lines = [
        f"{told['run']}: {_STATES.get(told['state'], told['state'])}",
        f"  answered    {told['answered']:,} of {told['total']:,}",
        f"  failed      {told['failed']:,}",
    ]
    if told["not_finished"]:
        lines.append(f"  left        {told['not_finished']:,}")
    if told["in_flight"]:
        lines.append(f"  in flight   {told['in_flight']:,}")
    if told["to_send_again"]:
        lines.append(f"  of them     {told['to_send_again']:,} failed or were cut, and are sent again")
    if told["left_out"]:
        lines.append(f"  left out    {told['left_out']:,} (rows the prompt file no longer has)")
    if told["bad_lines"]:
        lines.append(f"  bad lines   {told['bad_lines']:,} in the journal, skipped")
    if told["rate_per_s"] is not None:
        lines.append(f"  rate        {told['rate_per_s']:,.1f} requests/s in the last session")
    for session in told["sessions"]:
        counts = ", ".join(f"{n:,} {name}" for name, n in session["counts"].items())
        ended = session["ended_by"] or "no end recorded"
        lines.append(f"  session {session['number']}   {session['started']}  {ended}  {counts}".rstrip())
    return "\n".join(lines)
