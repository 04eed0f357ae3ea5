"""What `run` says of a prompt file before anything is sent."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.commands.options import plural

if TYPE_CHECKING:
    from scenarios.prompts import Plan


def spool(path: Path, input_format: str | None, *, dry_run: bool) -> tuple[Path, str]:
    """Standard input as a file beside the run directory (it is read twice), and its format."""
    from scenarios.source import sniff

    stream = sys.stdin.buffer
    chosen = input_format or sniff(stream.peek(1 << 16) if isinstance(stream, io.BufferedReader) else b"")
    place = Path(tempfile.gettempdir()) if dry_run else path.absolute().parent
    place.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".streamgauge-stdin-", suffix=f".{chosen}", dir=place)
    try:
        with os.fdopen(handle, "wb") as out:
            shutil.copyfileobj(stream, out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), chosen


def keep_spooled(plan: Plan, path: Path) -> Plan:
    """Move what standard input gave into the run directory, now that it is ours."""
    import msgspec

    source = plan.source
    kept = path / f"stdin.{source.format}"
    Path(source.path).replace(kept)
    return msgspec.structs.replace(plan, source=msgspec.structs.replace(source, path=str(kept)))


def bad_rows(plan: Plan, name: str) -> str:
    """The message that refuses the file, with the first bad rows."""
    shown = "\n".join(f"  {name}: {bad}" for bad in plan.bad)
    more = f"\n  ... and {plan.bad_count - len(plan.bad):,} more" if plan.bad_count > len(plan.bad) else ""
    return (
        f"{plan.bad_count:,} of {plural(plan.rows, 'row')} cannot be sent, so nothing was:\n{shown}{more}\n"
        "Mend them, or leave them out with --skip-bad-rows."
    )


def show_plan(plan: Plan) -> None:
    """What `--dry-run` prints."""
    from pprint import pformat

    import msgspec

    say = click.echo
    say(f"{plural(plan.rows, 'row')}, {plural(plan.requests, 'request')}; nothing was sent")
    if plan.bad_count:
        say(f"\n{plural(plan.bad_count, 'bad row')}:")
        for bad in plan.bad:
            say(f"  {plan.source.path}: {bad}")
    for title, counts in (
        ("columns missing for the template, rows", plan.missing_columns),
        ("models, rows", plan.models),
        ("columns sent as body fields, rows", plan.fields),
        ("your own columns, rows", plan.columns),
    ):
        if counts:
            say(f"\n{title}: " + ", ".join(f"{name} ({count:,})" for name, count in counts.items()))
    if plan.model_overridden:
        say(f"\n--model replaces another model in {plan.model_overridden:,} rows")
    if plan.repeated:
        say(f"\n{plan.repeated:,} rows repeat an earlier request; each is sent")
    if plan.duplicate_custom_ids:
        say(f"\n{plan.duplicate_custom_ids:,} rows repeat a custom_id:")
        for one in plan.duplicates:
            say(f"  {plan.source.path}:{one.line}: {one.custom_id!r} (first in line {one.first_line})")
    for number, body in enumerate(plan.bodies):
        say(f"\nbody {number + 1}:")
        try:
            say(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
        except UnicodeDecodeError:
            say(pformat(body))
