"""`streamgauge compare`: did it get worse? A verdict per metric, from run directories alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from runner.commands.judged import check_files, inconclusive, put_comparison, put_page, verdict_files
from runner.commands.options import say, show, stop

if TYPE_CHECKING:
    from reports.compare import Compared
    from reports.comparison import Comparison

FORMATS = ("text", "json", "markdown")


class _TwoSides(click.Command):
    """What follows a `--` is NEW."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            after = args[at + 1 :]
            args = [*args[:at], *(word for path in after for word in ("--new", path))]
        return super().parse_args(ctx, args)


@click.command("compare", cls=_TwoSides)
@click.argument("runs", metavar="BASE... [--] NEW...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--new",
    "new",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A run of NEW, or a folder of them (repeatable); all others are BASE. As behind a --.",
)
@click.option(
    "--max-regression",
    "max_regression",
    multiple=True,
    metavar="LIMIT",
    help="How much worse is allowed: 10% for all but shares, or ttft=5% (repeatable).  [default: 10%, and 1 "
    "point of errors]",
)
@click.option(
    "--max-added",
    "max_added",
    multiple=True,
    metavar="METRIC=TIME",
    help="Judge the time added instead of the ratio: ttft=20ms (repeatable).",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Judge these (repeatable), as ttft, ttft:p95 or goodput.  [default: ttft, tpot, e2e, errors]",
)
@click.option(
    "--paired/--unpaired",
    "paired",
    default=None,
    help="Whether the n-th runs of both sides belong together.  [default: as their tags `pair` say]",
)
@click.option(
    "--declare",
    "declared",
    multiple=True,
    metavar="FIELD",
    help="A setting that is meant to differ, as request.temperature, or request for all (repeatable).",
)
@click.option(
    "--noise",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Stored runs of one thing: how it differs from run to run (repeatable).",
)
@inconclusive("INCONCLUSIVE")
@verdict_files
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with charts as well: one file that needs no network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: as --format json.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to print.",
)
def command(**given: Any) -> None:
    """Judge the runs of NEW by those of BASE: PASS, FAIL, or INCONCLUSIVE and what would settle it.

    A side is one or more run directories, or folders of them. Two paths are BASE and NEW; of more, those
    of one folder are one side (baselines/main/* new/*), or a -- stands between the sides. The folder of an
    `ab` alone holds both. The exit code is 99 for FAIL, 98 for INCONCLUSIVE, 97 where too few runs are
    valid.
    """
    from reports.comparison import exit_code

    found = _compare(given)
    comparison = found.comparison
    try:
        put_comparison(comparison, "compare", given)
        if given["html"] is not None:
            put_page(found, "compare", given["html"])
    except OSError as exc:
        stop(f"cannot write {exc.filename}: {exc.strerror}", 1)
    form = "json" if given["as_json"] else given["form"]
    on: Literal["fail", "pass"] | None = given["on_inconclusive"]
    sys.exit(exit_code(comparison, on) if tell(comparison, form) else 1)


def _compare(given: dict[str, Any]) -> Compared:
    from reports.compare import compared
    from reports.comparison import CompareError
    from reports.gates import max_added, max_regressions
    from reports.groups import group
    from runner.store import StoreError

    try:
        check_files(given)
        groups = group(given["runs"], given["new"])
        for note in groups.notes:
            say(f"note: {note}")
        return compared(
            groups.base,
            groups.new,
            max_regression=max_regressions(given["max_regression"]),
            max_added_ms=max_added(given["max_added"]),
            metrics=given["metrics"] or None,
            paired=given["paired"],
            declared=frozenset(given["declared"]),
            noise=given["noise"],
        )
    except (CompareError, StoreError) as exc:
        stop(str(exc), 2)


def tell(comparison: Comparison, form: str) -> bool:
    """Print it; whether that went well."""
    from reports.comparison_formats import RENDERERS

    return show(RENDERERS[form](comparison))
