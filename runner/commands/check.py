"""`streamgauge check`: thresholds and expectations against a recorded run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.judged import check_files, expects_something, inconclusive, verdict_files, write_files
from runner.commands.options import show, stop

if TYPE_CHECKING:
    from reports.verdicts import Sheet
    from runner.store import Manifest
    from scenarios.thresholds import Threshold

ALL_EXPECTED = "expect: rate==100%"
"""What `--expect` judges where no threshold says how many have to pass."""


@click.command("check")
@click.argument("run", required=False)
@click.option(
    "--threshold",
    "-t",
    "lines",
    multiple=True,
    metavar="T",
    help="What must hold, as 'ttft: p(95)<800ms' (repeatable): these, and not the scenario's own.",
)
@click.option(
    "--expect",
    is_flag=True,
    help="Hold every answer against what its row expects, again. All have to pass, unless a threshold "
    "on expect says otherwise.",
)
@inconclusive("an INCONCLUSIVE threshold")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verdict_files
def command(run: str | None, **given: Any) -> None:
    """Judge a recorded run: its scenario's own thresholds, or those given.

    RUN is the folder that `bench` or `run` printed; without one, the latest. The exit code is 99 where a
    threshold fails, 98 where one cannot be judged (INCONCLUSIVE), 97 where the client was not fit to
    measure, else 0.
    """
    sys.exit(_command(run, given))


def _command(name: str | None, given: dict[str, Any]) -> int:
    from reports.verdicts import exit_code
    from runner.commands.report import shown
    from runner.store import StoreError, load_manifest, resolve_run
    from scenarios.thresholds import ThresholdError

    try:
        run = shown(resolve_run(name))
        manifest = load_manifest(run)
        check_files(given)
        thresholds = _thresholds(run, manifest, given)
    except (StoreError, ThresholdError) as exc:
        stop(str(exc), 2)
    try:
        sheet = _judged(run, manifest, thresholds, given)
    except StoreError as exc:
        stop(str(exc), 1)
    code = exit_code([sheet], given["on_inconclusive"])
    write_files([sheet], given)  # first: whoever reads the rest may have enough before its end
    return code if show(_shown(sheet, code, given)) else 1


def _thresholds(run: Path, manifest: Manifest, given: dict[str, Any]) -> list[Threshold]:
    from reports.bench_part import own_thresholds
    from scenarios.thresholds import parse_line

    if given["lines"]:
        found = [parse_line(line) for line in given["lines"]]
    elif manifest.kind == "bench":
        found = own_thresholds(manifest)
    elif given["expect"]:
        found = []
    else:
        raise click.UsageError(
            f"{run} was made by `run`, which has no thresholds of its own: give --threshold "
            "'ttft: p(95)<800ms', or --expect"
        )
    if given["expect"] and not any(threshold.metric == "expect" for threshold in found):
        found.append(parse_line(ALL_EXPECTED))
    return found


def _judged(run: Path, manifest: Manifest, thresholds: list[Threshold], given: dict[str, Any]) -> Sheet:
    from reports.expect import expectations
    from reports.judge import judge
    from reports.metrics import summarize
    from reports.verdicts import sheet_of

    asked = any(threshold.metric == "expect" for threshold in thresholds)
    expect = expectations(run, thresholds) if given["expect"] or asked else None
    summary = summarize(run, thresholds)
    summary.expect = expect or (summary.expect if expects_something(manifest) else None)
    return sheet_of(summary, judge(summary, thresholds))


def _shown(sheet: Sheet, code: int, given: dict[str, Any]) -> str:
    import msgspec

    from reports.verdicts import to_text

    if not given["as_json"]:
        return to_text([sheet])
    told = {"verdict": sheet.verdict, "exit_code": code, **msgspec.to_builtins(sheet)}
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n"
