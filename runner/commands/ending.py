"""How `run` ends: its summary, what to do next, its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.commands.options import stop

if TYPE_CHECKING:
    from runner.engine import Engine
    from runner.rundir import Opened
    from scenarios.prompts import Plan


def finish(
    opened: Opened, plan: Plan, engine: Engine | None, dataset: Path | None, failure: str | None
) -> int:
    """Print how it ended; return the exit code."""
    from reports.metrics import summarize
    from reports.text import render
    from runner.store import StoreError

    path, session = opened.path, opened.session
    try:
        summary = summarize(path)
    except StoreError as exc:
        stop(f"the run is over and its answers are in {path}, but they could not be summed up: {exc}", 1)
    click.echo(render([summary]), nl=False)
    complete = session.ended_by == "finished"
    if dataset is not None and complete:
        _write_dataset(path, dataset)
    if failure is not None:
        click.echo(f"streamgauge: {failure}", err=True)
        return 1
    if engine is not None and engine.tally.unwritten:
        click.echo(
            f"streamgauge: {engine.tally.unwritten} finished answers found no room on the disk "
            "and will be asked again",
            err=True,
        )
    broken = opened.journal.failure
    if broken is not None and not opened.journal.full:
        click.echo(
            f"streamgauge: the journal could not be made safe on the disk: {broken.strerror}", err=True
        )
        return 1
    again = f"Run the same command again{', without --fresh,' if '--fresh' in sys.argv else ''} to go on."
    messages = {
        "interrupted": f"interrupted. {again}",
        "terminated": f"stopped by SIGTERM. {again}",
        "disk_full": f"stopped: {session.reason} ({path}). Make room. {again}",
        "circuit_breaker": f"stopped, because nothing succeeds: {session.reason}\n"
        f"{_advice(session.stopped_on)} {again}",
    }
    if session.ended_by in messages:
        click.echo(f"streamgauge: {messages[session.ended_by]}", err=True)
    codes = {"interrupted": 130, "error": 1, "terminated": 75, "disk_full": 75, "circuit_breaker": 75}
    if session.ended_by in codes:
        return codes[session.ended_by]
    return 3 if summary.requests.answered < plan.requests else 0


def _advice(kind: str | None) -> str:
    return {
        "auth": "Check the key (OPENAI_API_KEY, --api-key-env or --api-key-file) and what it may do.",
        "quota": "Check the account's credit.",
        "connect": "Check that the server runs, and --base-url.",
        "tls": "Check --base-url (https?), or name the server's certificates with --ca-file.",
        "redirect": "Name that URL with --base-url.",
        "bad_request": "Check --model and --base-url (with or without /v1), and the parameters.",
        "bad_content_type": "Check --base-url: is it the API's?",
        "timeout": "Check the server, or give it more time.",
    }.get(kind or "", "Check the server.")


def _write_dataset(path: Path, dataset: Path) -> None:
    from reports.export import export_dataset
    from runner.commands.export import describe
    from runner.store import StoreError

    try:
        result = export_dataset(path, dataset)
    except StoreError as exc:
        stop(f"the dataset was not written: {exc} The answers are safe in {path}", 1)
    for line in describe(result):
        click.echo(line, err=True)
