"""How `run` ends: its summary, what to do next, its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.commands.judged import expects_something
from runner.commands.options import plural, say, show, stop

if TYPE_CHECKING:
    from runner.engine import Engine
    from runner.record import Error
    from runner.rundir import Opened
    from runner.store import Session
    from scenarios.prompts import Plan

# A process that is busy this much is what limits the load; or, where its loop comes late too, that much.
_BUSY, _BUSY_AND_LATE, _LATE_MS = 0.85, 0.6, 20.0
_LONG_S = 2.0  # what is shorter was mostly start-up


def finish(
    opened: Opened,
    plan: Plan,
    engine: Engine | None,
    dataset: Path | None,
    failure: str | None,
    *,
    page: bool = False,
) -> int:
    """Print how it ended; return the exit code. `page`: write the HTML page as well."""
    from reports.expect import expectations
    from reports.metrics import summarize
    from reports.text import render
    from runner.store import StoreError

    path, session = opened.path, opened.session
    _let_go(opened, plan)
    try:
        if expects_something(opened.manifest):
            expectations(path)
        summary = summarize(path)
    except StoreError as exc:
        stop(f"the run is over and its answers are in {path}, but they could not be summed up: {exc}", 1)
    shown = show(render([summary]))
    shards = summary.shards
    complete = session.ended_by == "finished" and (shards is None or not (shards.missing or shards.open))
    hints = [] if opened.part is not None else _more_workers(session, _cores())
    for note in [*_of_workers(session), *hints]:
        say(f"note: {note}")
    if dataset is not None and complete:
        _write_dataset(path, dataset)
    if page:
        from runner.commands.report import write_page

        shown = write_page(path) and shown
    if failure is not None:
        say(f"streamgauge: {failure}")
        return 1
    if engine is not None and engine.tally.unwritten:
        lost = f"{engine.tally.unwritten} finished answers {_unwritten(session)}"
        say(f"streamgauge: {lost} and will be asked again")
    broken = opened.journal.failure
    if broken is not None and not opened.journal.full:
        say(f"streamgauge: the journal could not be made safe on the disk: {broken.strerror}")
        return 130 if session.ended_by == "interrupted" else 1
    again = f"Run the same command again{', without --fresh,' if '--fresh' in sys.argv else ''} to go on."
    messages = {
        "interrupted": f"interrupted. {again}",
        "terminated": f"stopped by SIGTERM. {again}",
        "budget": f"stopped by --max-cost: {session.reason}. Raise it and run the command again to go on.",
        "pilot": "the pilot is over. Run the same command again, without --pilot, to send the rest.",
        "no_nodes": f"stopped: {session.reason}. Nothing that was answered is lost. {again}",
        "error": f"stopped: {session.reason}. {again}",
        "disk_full": f"stopped: {session.reason} ({path}). Make room. {again}",
        "circuit_breaker": f"stopped, because requests kept failing: {session.reason}\n"
        f"{advice(engine.tripped if engine is not None else None)} {again}",
    }
    if session.ended_by == "pilot":
        _show_pilot(opened, plan)
    if session.ended_by in messages:
        say(f"streamgauge: {messages[session.ended_by]}")
    codes = {"interrupted": 130, "error": 1}
    resumable = {"terminated", "disk_full", "circuit_breaker", "budget", "pilot", "no_nodes"}
    answered = summary.requests.answered if opened.part is None else _answered(opened, plan)
    code = 3 if answered < plan.requests else 0
    if session.ended_by in codes or session.ended_by in resumable:
        code = codes.get(session.ended_by, 75)
    return code if shown or code == 130 else 1


def _unwritten(session: Session) -> str:
    """What became of answers that are not in the journal."""
    if _died(session) and session.ended_by != "disk_full":
        return "were lost with a worker that died"
    return "found no room on the disk"


def _died(session: Session) -> list[dict[str, Any]]:
    return [worker for worker in session.gauge.get("workers", []) if "died" in worker]


def _of_workers(session: Session) -> list[str]:
    """What became of the workers that died."""
    return [
        f"worker {worker['shard']} {worker['died']}. What it had written is kept, {_left_by(worker)}; "
        f"{'another' if worker['replaced'] else 'none'} took its place"
        for worker in _died(session)
    ]


def _left_by(worker: dict[str, Any]) -> str:
    had = plural(worker["open"], "open prompt")
    return f"{had} went to others" if worker["sent_again"] == worker["open"] else f"{had} will be sent again"


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _more_workers(session: Session, cores: int) -> list[str]:
    """Whether the load was more than this client's processes could carry, and more of them could."""
    gauge = session.gauge
    if "lag" not in gauge:
        return []
    workers = [worker for worker in gauge.get("workers", []) if "cpu" in worker] or [gauge]
    wanted = min(max(2, 2 * len(workers)), cores)
    busiest = max(workers, key=_busy)
    lag_ms = busiest["lag"]["p99_ms"] or 0.0
    slow = _busy(busiest) >= _BUSY or (_busy(busiest) >= _BUSY_AND_LATE and lag_ms >= _LATE_MS)
    if wanted <= len(workers) or not slow or busiest["cpu"]["wall_s"] < _LONG_S:
        return []
    what = "busiest worker" if "workers" in gauge else "one process"
    late = f"its event loop was {lag_ms:.0f} ms late at p99"
    return [
        f"this client's {what} used {_busy(busiest):.0%} of a core, {late}: --workers {wanted} carries more"
    ]


def _busy(measured: dict[str, Any]) -> float:
    cpu = measured["cpu"]
    return float((cpu["user_s"] + cpu["system_s"]) / cpu["wall_s"]) if cpu["wall_s"] else 0.0


def _let_go(opened: Opened, plan: Plan) -> None:
    """Give up what tells the rows: the report needs as much for itself."""
    opened.settled = opened.settled[:0].copy()
    # A pilot wants to know how many are left, a shard how many of its own.
    if opened.session.ended_by != "pilot" and opened.part is None:
        plan.forget_ids()


def _show_pilot(opened: Opened, plan: Plan) -> None:
    from reports.pilot import estimate, render_pilot
    from runner.store import StoreError

    try:
        answered = _answered(opened, plan)
        concurrency = int(opened.session.options["concurrency"])
        told = estimate(opened.path, opened.session.number, plan.requests - answered, concurrency)
    except StoreError as exc:
        say(f"what the rest will take cannot be told: {exc}")
        return
    show(render_pilot(told))


def _answered(opened: Opened, plan: Plan) -> int:
    """How many of the plan's requests are answered; of a shard, its own."""
    from runner.store import OK, build_index, inside

    index = build_index(opened.path, files=None if opened.part is None else [opened.journal.path])
    return int((inside(index.digest, plan.digests) & (index.state == OK)).sum())


def advice(error: Error | None) -> str:
    """What to check where requests kept failing with this, or with nobody knows what."""
    if error is not None and ("stream_options" in error.message or "include_usage" in error.message):
        return "This server refuses to be asked for usage: --no-usage leaves that out."
    return {
        "auth": "Check the key (OPENAI_API_KEY, --api-key-env or --api-key-file) and what it may do.",
        "quota": "Check the account's credit.",
        "connect": "Check that the server runs, and --base-url.",
        "tls": "Check --base-url (https?), or name the server's certificates with --ca-file.",
        "redirect": "Name that URL with --base-url.",
        "bad_request": "Check --model and --base-url (with or without /v1), and the parameters.",
        "bad_content_type": "Check --base-url: is it the API's?",
        "rate_limit": "The endpoint limits the rate: use --rpm or --tpm, --adaptive, or a smaller -c.",
        "overloaded": "The endpoint has too much to do: use --adaptive, or a smaller -c.",
        "timeout": "Check the server, or give it more time.",
    }.get("" if error is None else str(error.kind), "Check the server.")


def _write_dataset(path: Path, dataset: Path) -> None:
    from reports.export import export_dataset
    from runner.commands.export import describe
    from runner.store import StoreError

    try:
        result = export_dataset(path, dataset)
    except StoreError as exc:
        stop(f"the dataset was not written: {exc} The answers are safe in {path}", 1)
    for line in describe(result):
        say(line)
