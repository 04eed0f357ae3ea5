"""`streamgauge sweep`: the same load at several points, or a search for the highest that meets an SLO."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.load_options import load_flags
from runner.commands.options import (
    Amount,
    Tag,
    ends_on_sigterm,
    kept,
    no_folder,
    one_endpoint,
    say,
    show,
    stop,
    timers,
    waits_until_ready,
)
from runner.commands.salt import salts

if TYPE_CHECKING:
    from runner.commands.sweep_runs import Points
    from runner.commands.sweep_setup import Plan


@click.command("sweep")
@click.argument("scenario", required=False)
@click.option(
    "--over",
    multiple=True,
    metavar="KEY=V,V",
    help="A key of the scenario and its values, as load.rate=1,2,4 or input_tokens:output_tokens=1024:128,"
    "8192:1024 (repeatable: a grid).",
)
@click.option(
    "--until",
    multiple=True,
    metavar="THRESHOLD",
    help="Search for the highest load that meets it, as 'ttft_sched: p(95)<500ms' (repeatable).",
)
@click.option(
    "--by",
    type=click.Choice(["rate", "concurrency"]),
    help="What --until searches (default: as the scenario's load is; rate without one).",
)
@click.option("--from", "first", type=Amount(), metavar="N", help="Where --until begins (default 1).")
@click.option("--to", "most", type=Amount(), metavar="N", help="Where --until ends (default 1024).")
@click.option(
    "--tolerance",
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="How far apart the highest that meets it and the lowest that does not may be.",
)
@click.option(
    "--confirm",
    type=click.IntRange(0, 20),
    default=2,
    show_default=True,
    help="Runs at the end of a search: what was found once more, then what failed above it, and so on.",
)
@one_endpoint
@load_flags
@salts("point")
@click.option(
    "--dry-run", is_flag=True, help="Say how many points, how long, what it may cost; send nothing."
)
@click.option("--tag", "tags", multiple=True, type=Tag(), help="Kept with every run (repeatable).")
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    help="Folder of all runs (default runs/<scenario>-sweep-<UTC time>). One that is there is gone on with.",
)
@click.option("--resume", is_flag=True, help="Without -o: go on with the scenario's latest sweep.")
@click.option("--redo-invalid", is_flag=True, help="Run points again that were INVALID.")
@click.option("--fresh", is_flag=True, help="With -o: what is there is renamed, not deleted.")
@waits_until_ready
@click.option("--metrics-url", metavar="URL", help="The server's Prometheus page: kept with every run.")
@click.option(
    "--price",
    metavar="P",
    help="Per million tokens, as input=0.15,output=0.6, or a TOML file with a table a model.",
)
@timers
@kept
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["text", "json", "csv", "markdown"]),
    default="text",
    show_default=True,
    help="What to print at the end.",
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it as Markdown as well.",
)
@click.option("--html", is_flag=True, help="Write sweep.html into the folder as well: one page, with charts.")
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Measure a scenario at several points, or search for the highest load that still meets an SLO.

    SCENARIO is a TOML file or a name of the library; flags and --set beat it, and --over and --until beat
    those. Every point is a bench of its own, with a warm-up that is in no number. What is saturated is
    marked unstable, and its latencies are not quoted. The same command with -o DIR goes on where it was
    stopped. The exit code is 99 where --until fails at its lowest, 97 where this client was not fit to
    measure what the answer depends on; thresholds that fail at points of --over are part of the curve.
    """
    source = context.get_parameter_source("base_url")
    given["base_url_flag"] = given["base_url"] if source is click.core.ParameterSource.COMMANDLINE else None
    with ends_on_sigterm("The same command with -o goes on."):
        sys.exit(_command(given))


def _command(given: dict[str, Any]) -> int:
    from runner.commands.judged import check_files
    from runner.commands.sweep_setup import SweepError, go_on, make_plan, open_folder
    from runner.prices import PriceError
    from runner.store import StoreError
    from runner.sweep import held
    from runner.target import TargetError
    from scenarios.scenario import ScenarioError
    from scenarios.source import PromptError

    try:
        check_files({**given, "junit": None})
        plan = make_plan(given)
        if given["dry_run"]:
            return _tell_plan(plan, given)
        folder = open_folder(plan)
        say(f"folder of the runs: {folder}")
        with held(folder):
            for note in (*go_on(plan, folder), *(f"note: {note}" for note in plan.notes)):
                say(note)
            return _run(folder, plan, given)
    except (ScenarioError, StoreError, PromptError, TargetError, PriceError, SweepError) as exc:
        stop(str(exc), 2)
    except OSError as exc:
        no_folder("folder of the runs", exc)


def _tell_plan(plan: Plan, given: dict[str, Any]) -> int:
    from runner.commands.sweep_plan import plan_json, plan_text

    for note in plan.notes:
        say(f"note: {note}")
    return 0 if show((plan_json if given["form"] == "json" else plan_text)(plan)) else 1


def _run(folder: Path, plan: Plan, given: dict[str, Any]) -> int:
    from runner.commands.sweep_ending import finish
    from runner.commands.sweep_runs import Points
    from runner.store import StoreError

    points = Points(folder, plan)
    _make(points, plan)
    try:
        code = plan.sweep.exit_code = finish(folder, plan.sweep, points.summaries, given)
    except StoreError as exc:
        stop(f"the runs are kept in {folder}, but they could not be summed up: {exc}", 1)
    _keep(folder, plan)
    return code


def _make(points: Points, plan: Plan) -> None:
    """Run the points; whatever ends them, what there is is shown."""
    from runner.journal import NO_ROOM

    try:
        points.run()
    except KeyboardInterrupt:
        plan.sweep.ended_by = "interrupted"
    except SystemExit:  # SIGTERM between two points, which has said so; during one, the run sees to it
        plan.sweep.ended_by = "terminated"
    except OSError as exc:
        plan.sweep.ended_by = "disk_full" if exc.errno in NO_ROOM else "error"
        where = f" ({exc.filename})" if exc.filename else ""
        say(f"streamgauge: the next point could not be written: {exc.strerror or exc}{where}")


def _keep(folder: Path, plan: Plan) -> None:
    from runner.sweep import SWEEP, keep

    try:
        keep(folder, plan.sweep)
    except OSError as exc:
        say(f"warning: {folder / SWEEP} could not be written: {exc.strerror or exc}")
