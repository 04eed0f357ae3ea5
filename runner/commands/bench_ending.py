"""How `bench` ends: its report, what became of it, its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import stop

if TYPE_CHECKING:
    from runner.commands.bench_setup import Made
    from runner.load import Load


def finish(made: Made, loads: list[Load], given: dict[str, Any]) -> int:
    """Print how it ended; return the exit code."""
    from reports.formats import RENDERERS
    from reports.metrics import summarize
    from runner.commands.report import refresh
    from runner.store import StoreError

    summaries = []
    try:
        for aim in made.aims:
            summaries.append(summarize(aim.opened.path))
            refresh(aim.opened.path, summaries[-1])
    except StoreError as exc:
        stop(f"the bench is over and its records are kept, but they could not be summed up: {exc}", 1)
    try:
        click.echo(RENDERERS[given["form"]](summaries), nl=False)
    except BrokenPipeError:
        # Whoever read the results has gone; what is left to do does not depend on them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return max(_code(aim.opened.session.ended_by) for aim in made.aims)


def _code(ended_by: str | None) -> int:
    return {"interrupted": 130, "error": 1, None: 1}.get(ended_by, 0)
