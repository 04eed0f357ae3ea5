"""Prompts that begin with words of a run's own, against prefix caches: what `ab` and `sweep` ask and say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runner.commands.bench_setup import Checked
    from runner.commands.options import F


def salts(each: str) -> Callable[[F], F]:
    """Add `--salt`. `each`: what a run is to the command."""
    return click.option(
        "--salt/--no-salt",
        default=None,
        help=f"Have each {each}'s prompts begin with words of its own, of equal length, against prefix "
        "caches (default: yes, unless rows say what they expect).",
    )


def is_salted(asked: bool | None, *targets: Checked) -> bool:
    """Whether prompts are salted: unless answers are judged, for then the question is to stay as it is."""
    return asked if asked is not None else not _expecting(targets)


def salt_notes(asked: bool | None, each: str, *targets: Checked) -> list[str]:
    """What is to be said of that, where nobody asked for either."""
    if asked is not None:
        return []
    if _expecting(targets):
        words = (
            f"rows say what they expect, so prompts are sent as they are: a prefix cache may know them from "
            f"the {each} before (--salt makes those of each {each} its own)"
        )
        return [words]
    if any(one.workload.describe().kind == "file" for one in targets):
        words = (
            f"each prompt of the file begins with a line of six words that is the {each}'s own, against "
            "prefix caches (--no-salt leaves it out)"
        )
        return [words]
    return []


def _expecting(targets: tuple[Checked, ...]) -> bool:
    return any(one.workload.describe().expects for one in targets)
