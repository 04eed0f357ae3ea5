"""`streamgauge export`: the answers of a run as a dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import drop_stdout, plural, say, stop

if TYPE_CHECKING:
    from reports.export import ExportResult

FORMATS = ("jsonl", "csv", "parquet", "openai-batch")


def describe(result: ExportResult) -> list[str]:
    """What was written, and what was not and why: a line each."""
    where = "stdout" if result.path is None else str(result.path)
    out = [f"{plural(result.rows, 'row')} -> {where}"]
    if result.errors_path is not None:
        out.append(f"{plural(result.error_rows, 'failure')} -> {result.errors_path}")
    if result.skipped:
        skipped = ", ".join(f"{n:,} {status}" for status, n in sorted(result.skipped.items()))
        hint = "" if result.to == "openai-batch" else " (--status all takes them in)"
        out.append(f"left out: {skipped}{hint}")
    if result.left_out:
        rows = plural(result.left_out, "record")
        out.append(f"left out: {rows} of rows no longer in the prompt file (--all takes them in)")
    if result.bad:
        out.append(f"left out: {plural(result.bad, 'bad line')} of the journal (`report` says where)")
    out += result.notes
    out += [f"your column `{name}` stays; ours is `{ours}`" for name, ours in result.renamed.items()]
    return out


def to_stdout(output: Path) -> bool:
    """Whether `-` was asked for."""
    return str(output) == "-"


def _run(run: Path, output: Path | None, options: dict[str, Any]) -> None:
    from reports.export import export_dataset
    from runner.store import StoreError

    piped = output is not None and to_stdout(output)
    try:
        result = export_dataset(run, sys.stdout.buffer if piped else output, **options)
        if piped:
            sys.stdout.buffer.flush()
    except StoreError as exc:
        if piped:
            drop_stdout()
        stop(str(exc), 1)
    except OSError as exc:
        drop_stdout()
        stop(f"cannot write standard output: {exc.strerror or exc}", 1)
    for line in describe(result):
        click.echo(line, err=True)


def _refuse_other_name(file: Path, to: str) -> None:
    """A usage error for a file that is named as one format and shall hold another."""
    from reports.export import format_of
    from runner.store import StoreError

    try:
        named = format_of(file)
    except StoreError:
        return  # its name does not say
    if named != to and not (named == "jsonl" and to == "openai-batch"):
        raise click.UsageError(
            f"-o {file} names a {named} file and --to asks for {to}: leave one of them out"
        )


def _slim(run: Path, output: Path | None, to: str | None, status: str | None, every: bool) -> None:
    from reports.slim import slim

    if to is not None or status is not None or every:
        raise click.UsageError("--slim copies the run as it is: leave out --to, --status and --all")
    if output is None or to_stdout(output):
        raise click.UsageError("--slim needs a folder to write: -o DIR")
    result = slim(run, output)
    sizes = f"{result.after_bytes:,} of {result.before_bytes:,} bytes"
    say(f"{plural(result.lines, 'record')} -> {output} ({sizes})")
    if result.bad:
        say(f"left out: {plural(result.bad, 'bad line')} of the journal (`report` says where)")


@click.command("export")
@click.argument("run", required=False)
@click.option("--to", type=click.Choice(FORMATS), help="The format. [default: what -o says, else jsonl]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file, or - for stdout. [default: dataset.* in the run's folder]",
)
@click.option(
    "--status",
    type=click.Choice(["ok", "error", "cancelled", "all"]),
    help="Which records; ok takes in answers cut on purpose. [default: ok; openai-batch: all]",
)
@click.option(
    "--order",
    type=click.Choice(["input", "completion"]),
    default="input",
    show_default=True,
    help="Of the prompt file, or as they finished.",
)
@click.option(
    "--slim",
    is_flag=True,
    help="Instead, with -o DIR: a copy of the run without its texts, bodies and columns, small enough for "
    "a CI artefact. report, check and compare read it as the run.",
)
@click.option("--all", "every", is_flag=True, help="Also records of rows no longer in the prompt file.")
def command(
    run: str | None,
    to: str | None,
    output: Path | None,
    status: str | None,
    order: str,
    slim: bool,
    every: bool,
) -> None:
    """Write the answers of a run as a dataset.

    RUN is the folder that `run` printed; without one, the latest. Your own columns keep their names; an
    answer column of the same name gets the prefix `streamgauge_`. With openai-batch, failures go to
    `<name>_errors.jsonl` beside the output.
    """
    from reports.export import format_of, require
    from reports.files import refuse_own
    from runner.commands.report import shown
    from runner.store import StoreError, load_manifest, resolve_run

    try:
        found = shown(resolve_run(run))
        if load_manifest(found).slim and not slim:
            raise StoreError(f"{found} is a slim copy, without texts. Export from the run it was made of.")
        if slim:
            _slim(found, output, to, status, every)
            return
        file = None if output is None or to_stdout(output) else output
        if file is not None and to is not None:
            _refuse_other_name(file, to)
        chosen: Any = to or format_of(file)
        require(chosen)
        if file is not None:
            refuse_own(file)
    except StoreError as exc:
        stop(str(exc), 2)
    _run(found, output, {"to": chosen, "order": order, "status": status, "every": every})
