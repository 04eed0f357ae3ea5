"""`streamgauge status`: how far a run is, while it runs or after."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import show, stop

if TYPE_CHECKING:
    from runner.store import Index, Manifest, Progress, Session


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
    files = [path / JOURNAL] if with_workers else journal_files(path)
    locked = [file.name for file in files if is_locked(file)]
    told = _told(path, manifest, locked)
    running = bool(locked)
    # While it runs, only what is known to be on disk counts.
    end: dict[str, int] = {}
    for name, progress in told.items():
        end |= {name: progress.synced_bytes, **progress.synced}
    stopped_on = {s.number: s.stopped_on for s in manifest.sessions if s.stopped_on is not None}
    index = build_index(path, end, stopped_on)
    current = current_ids(path)
    here = index.offset >= 0 if current is None else inside(index.digest, current)
    total = manifest.prompts.requests if manifest.prompts is not None else len(index)
    ok, failed, again = (int((here & (index.state == state)).sum()) for state in (OK, FAILED, AGAIN))
    return {
        "run": str(path),
        "kind": "run",
        "state": _state(manifest, list(told.values()), running, total - ok - failed, failed),
        "total": total,
        "answered": ok,
        "failed": failed,
        "to_send_again": again,
        "not_finished": total - ok - failed,
        "in_flight": sum(progress.in_flight for progress in told.values()),
        "left_out": int((~here).sum()),
        "bad_lines": index.bad_count,
        "rate_per_s": _rates(manifest, index, locked),
        "shards": _shards(manifest, locked),
        "sessions": [
            {"number": s.number, "started": s.started, "ended_by": s.ended_by, "counts": s.counts}
            | ({} if s.shard is None else {"shard": s.shard})
            for s in manifest.sessions
        ],
    }


def _told(path: Path, manifest: Manifest, locked: list[str]) -> dict[str, Progress]:
    """What the processes that run say of themselves, by their journal."""
    from runner.store import JOURNAL, own_name

    last = {session.shard: session.number for session in manifest.sessions}
    if manifest.shards is None:
        own: dict[str, int | None] = {JOURNAL: None} if locked else {}
    else:
        names = {own_name(JOURNAL, number): number for number in range(manifest.shards)}
        own = {name: names[name] for name in locked if name in names}
    told = {name: _progress(path, shard) for name, shard in own.items()}
    # One of the session before: this one has said nothing yet.
    return {n: p for n, p in told.items() if p is not None and p.session == last.get(own[n])}


def _shards(manifest: Manifest, locked: list[str]) -> dict[str, Any] | None:
    """Of how many shards which have not begun, are running, have stopped on their way, are complete."""
    from runner.store import JOURNAL, own_name, standing

    found = standing(manifest)
    if found is None:
        return None
    running = [number for number in range(found.of) if own_name(JOURNAL, number) in locked]
    rest = {*found.missing, *found.open, *running}
    return {
        "of": found.of,
        "complete": [number for number in range(found.of) if number not in rest],
        "running": running,
        "stopped": [number for number in found.open if number not in running],
        "not_begun": [number for number in found.missing if number not in running],
    }


def _progress(path: Path, shard: int | None) -> Progress | None:
    import msgspec

    from runner.store import PROGRESS, Progress, own_name

    try:
        return msgspec.json.decode((path / own_name(PROGRESS, shard)).read_bytes(), type=Progress)
    except (OSError, msgspec.MsgspecError):
        return None


def _state(manifest: Manifest, told: list[Progress], running: bool, left: int, failed: int) -> str:
    if running:
        states = {progress.state for progress in told}
        return states.pop() if len(states) == 1 else "running"
    last = manifest.sessions[-1] if manifest.sessions else None
    if last is None:
        return "not begun"
    if left == 0:
        return "complete" if not failed else "finished, with failures"
    if manifest.shards is not None:
        return "not complete"  # each shard has an end of its own
    return last.ended_by or "killed"


def _rates(manifest: Manifest, index: Index, locked: list[str]) -> float | None:
    """Records a second of the last session, or those of every shard's last added up."""
    from runner.store import JOURNAL, own_name

    last = {session.shard: session for session in manifest.sessions}
    if manifest.shards is None:
        rates = [_rate(session, index, bool(locked)) for session in last.values()]
    else:
        rates = [_rate(one, index, own_name(JOURNAL, shard) in locked) for shard, one in last.items()]
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 3) if known else None


def _rate(last: Session, index: Index, running: bool) -> float | None:
    """Records a second of a session; `None` where it was killed (its end is unknown)."""
    import time

    if running and last.ended_by is None:
        passed = time.monotonic_ns() - last.anchor_ns
    elif last.ended_at is not None:
        passed = last.ended_at
    else:
        return None
    count = int((index.session == last.number).sum())
    return count / (passed / 1e9) if passed > 0 else None


_STATES = {
    "interrupted": "stopped by Ctrl-C",
    "terminated": "stopped by SIGTERM",
    "circuit_breaker": "stopped, because requests kept failing",
    "budget": "stopped by --max-cost",
    "pilot": "stopped after the pilot",
    "disk_full": "stopped, because the disk was full",
    "no_nodes": "stopped, because no node of the cluster was left",
    "error": "stopped by an error",
}


_UNDONE = {"stopped", "not_begun"}


def _which(shards: list[int]) -> str:
    return f" ({', '.join(map(str, shards[:8]))}{', ...' if len(shards) > 8 else ''})"


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
        of = "session" if told["shards"] is None else "session of each shard, added up"
        lines.append(f"  rate        {told['rate_per_s']:,.1f} requests/s in the last {of}")
    if told["shards"] is not None:
        stages = [(name, told["shards"][name]) for name in ("complete", "running", "stopped", "not_begun")]
        parts = [
            f"{len(which):,} {name.replace('_', ' ')}{_which(which) if name in _UNDONE else ''}"
            for name, which in stages
            if which
        ]
        lines.append(f"  shards      of {told['shards']['of']:,}: {', '.join(parts)}")
    for session in told["sessions"]:
        counts = ", ".join(f"{n:,} {name}" for name, n in session["counts"].items())
        ended = session["ended_by"] or "no end recorded"
        name = (
            session["number"] if "shard" not in session else f"{session['number']} (shard {session['shard']})"
        )
        lines.append(f"  session {name}   {session['started']}  {ended}  {counts}".rstrip())
    return "\n".join(lines)
