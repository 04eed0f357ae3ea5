"""`streamgauge status` of a bench: it owes its schedule, and sends nothing again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from runner.store import Manifest

_STATES = {
    "finished": "complete",
    "interrupted": "interrupted by Ctrl-C",
    "terminated": "stopped by SIGTERM",
    "circuit_breaker": "ended early, because the target was gone",
    "disk_full": "stopped, because the disk was full",
    "error": "stopped by an error",
    "worker_lost": "ended early, because a worker died",
}


class _Ended(msgspec.Struct):
    phase: str
    status: str


def look(path: Path, manifest: Manifest) -> dict[str, Any]:
    """How a bench stands, as plain data. Counts are of what is measured, by the records there are."""
    from runner.journal import is_locked
    from runner.store import JOURNAL, build_index, journal_files, read_blocks

    session = manifest.sessions[-1] if manifest.sessions else None
    with_workers = session is not None and "workers" in session.options
    # Of several workers it is the command that runs: they outlive it by a moment.
    running = any(is_locked(file) for file in ([path / JOURNAL] if with_workers else journal_files(path)))
    index = build_index(path)
    counts: dict[tuple[str, str], int] = {}
    for block in read_blocks(index, _Ended):
        for record in block:
            key = record.phase, record.status
            counts[key] = counts.get(key, 0) + 1
    measured = {status: n for (phase, status), n in counts.items() if phase == "measure"}
    load: Any = session.gauge.get("load") if session is not None else None
    load = load if isinstance(load, dict) else {}
    ended_by = "not begun" if session is None else session.ended_by or "killed"
    return {
        "run": str(path),
        "kind": "bench",
        "state": "running" if running else "complete" if ended_by == "finished" else ended_by,
        # Of a load that time ends, what was due is known only in the end.
        "scheduled": load.get("scheduled", session.options.get("scheduled") if session is not None else None),
        "sent": load.get("sent"),
        "answered": measured.get("ok", 0),
        "failed": measured.get("error", 0),
        "cancelled": measured.get("cancelled", 0),
        "warmup": sum(counts.values()) - sum(measured.values()),
        "bad_lines": index.bad_count,
        "sessions": [
            {"number": s.number, "started": s.started, "ended_by": s.ended_by, "counts": s.counts}
            for s in manifest.sessions
        ],
    }


def text(told: dict[str, Any]) -> str:
    """The same for people."""
    of = "" if told["scheduled"] is None else f" of {told['scheduled']:,} scheduled"
    lines = [f"{told['run']}: bench, {_STATES.get(told['state'], told['state'])}"]
    if told["sent"] is not None:
        lines.append(f"  sent        {told['sent']:,}{of}")
        of = ""
    lines += [f"  answered    {told['answered']:,}{of}", f"  failed      {told['failed']:,}"]
    for name, words in (("cancelled", "cancelled"), ("warmup", "warm-up"), ("bad_lines", "bad lines")):
        if told[name]:
            lines.append(f"  {words:<11} {told[name]:,}")
    if told["state"] not in {"running", "not begun"}:
        lines.append(f"  `streamgauge report {told['run']}` has its numbers")
    return "\n".join(lines)
