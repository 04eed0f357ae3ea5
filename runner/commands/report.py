"""`streamgauge report`: what happened, from the run directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.commands.options import say, show, stop

if TYPE_CHECKING:
    from reports.summary import Summary

FORMATS = ("text", "json", "csv", "markdown", "html")
PAGE, SWEEP_PAGE = "report.html", "sweep.html"
TOOLS = ("vllm", "aiperf", "guidellm")


def shown(run: Path) -> Path:
    """A run's path as short as it can be typed here."""
    absolute = run.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else run


def write_file(path: Path, text: str) -> None:
    """Write beside, then rename: a reader sees the old text or the new one."""
    from reports.files import replacing

    with replacing(path) as out:
        out.write(text.encode())


def refresh(run: Path, summary: Summary) -> None:
    """Keep the summary beside the run, where that can be written."""
    from reports.formats import to_json

    try:
        write_file(run / "summary.json", to_json([summary]))
    except OSError as exc:
        click.echo(f"note: {run / 'summary.json'} was not written: {exc.strerror}", err=True)


def write_page(run: Path) -> bool:
    """Write a run's page into its folder, at the end of the command that made it, and say where it is.

    Returns whether it was written: what was measured is safe either way.
    """
    from reports.columns import observe
    from reports.html import page_of
    from runner.store import StoreError

    page = run / PAGE
    try:
        write_file(page, page_of([observe(run)]))
    except StoreError as exc:
        say(f"streamgauge: {page} was not written: {exc}")
        return False
    except OSError as exc:
        say(f"streamgauge: cannot write {page}: {exc.strerror or exc}")
        return False
    say(f"report: {page}")
    return True


def _as_other(tool: str, form: str, summaries: list[Summary]) -> str:
    """The same runs in another tool's definitions."""
    from reports.others import TOOLS, as_other
    from reports.others_formats import RENDERERS

    named = next(name for name in TOOLS if name == tool)
    return RENDERERS[form]([(as_other(Path(summary.path), named), summary) for summary in summaries])


def _text_of_sweep(folder: Path, form: str) -> str:
    """The report of all points of a sweep."""
    from reports.sweep_formats import RENDERERS
    from runner.commands.sweep_ending import curve_of_folder
    from runner.sweep import load

    return RENDERERS[form](curve_of_folder(folder, load(folder)))


@click.command("report")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--as",
    "tool",
    type=click.Choice(TOOLS),
    help="Print the run in that tool's definitions, and how each differs from ours.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to this file; - is stdout. [default: stdout; html: report.html (sweep.html) in its folder]",
)
def command(runs: tuple[str, ...], form: str, tool: str | None, output: Path | None) -> None:
    """What happened in a run: counts, times, tokens, sessions; of a bench, whether it can be trusted.

    RUN is the folder that `run`, `bench` or `sweep` printed; without one, the latest run. Several stand side
    by side and are never pooled. Of a sweep: its curve.
    """
    from reports.files import refuse_own
    from runner.store import StoreError, load_manifest, resolve_run
    from runner.sweep import SWEEP

    if form == "html" and tool is not None:
        raise click.UsageError("--as has no HTML page: leave out --format html, or --as")
    if form == "html" and len(runs) > 1 and output is None:
        raise click.UsageError("a page of several runs belongs to none of them: say where with -o FILE")
    try:
        found = [shown(resolve_run(name)) for name in runs or (None,)]
        is_sweep = len(found) == 1 and (found[0] / SWEEP).exists()
        if is_sweep and tool is not None:
            raise click.UsageError(f"--as is of single runs, and {found[0]} is a sweep: name runs in it")
        for run in () if is_sweep else found:
            load_manifest(run)
        output = _place(output, form, found[0] / (SWEEP_PAGE if is_sweep else PAGE))
        if output is not None:
            refuse_own(output)
    except StoreError as exc:
        stop(str(exc), 2)
    try:
        text = _text_of_sweep(found[0], form) if is_sweep else _text(found, form, tool)
        if output is None:
            written = show(text)
        else:
            write_file(output, text)
            written = form != "html" or show(f"{output}\n")
        if not written:
            raise SystemExit(1)
    except StoreError as exc:
        stop(str(exc), 1)
    except OSError as exc:
        stop(f"cannot write {output or exc.filename or 'the report'}: {exc.strerror or exc}", 1)


def _place(output: Path | None, form: str, page: Path) -> Path | None:
    """The file to write; `None` for stdout. `page`: where one goes that nobody said a place for."""
    if output is None:
        return page if form == "html" else None
    return None if str(output) == "-" else output


def _text(runs: list[Path], form: str, tool: str | None) -> str:
    """The report of these runs; their summaries are kept beside them."""
    if form == "html":
        from reports.columns import observe
        from reports.html import page_of

        observed = []
        for run in runs:
            observed.append(observe(run))
            refresh(run, observed[-1][0])
        return page_of(observed)
    from reports.formats import RENDERERS
    from reports.metrics import summarize

    summaries = []
    for run in runs:
        summaries.append(summarize(run))
        refresh(run, summaries[-1])
    return RENDERERS[form](summaries) if tool is None else _as_other(tool, form, summaries)
