"""`streamgauge ab`: two targets in one session, in turns, and a verdict on the pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.judged import inconclusive, verdict_files
from runner.commands.load_options import load_flags
from runner.commands.options import (
    Header,
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
    from runner.ab import Ab
    from runner.commands.ab_gate import Gate
    from runner.commands.ab_runs import Turns
    from runner.commands.ab_setup import Sides


@click.command("ab")
@click.argument("scenario", metavar="[A]", required=False)
@click.argument("scenario_b", metavar="[B]", required=False)
@one_endpoint
@click.option("--base-url-b", metavar="URL", help="Endpoint of side b.")
@click.option("--model-b", metavar="NAME", help="Model of side b.")
@click.option("--api-key-env-b", metavar="NAME", help="Environment variable that holds the key of side b.")
@click.option(
    "--header-b", "headers_b", multiple=True, type=Header(), help="A further header of side b (repeatable)."
)
@click.option(
    "--set-b",
    "overrides_b",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of the scenario, for side b alone (repeatable).",
)
@load_flags
@click.option(
    "--pairs",
    type=click.IntRange(3, 999),
    default=6,
    show_default=True,
    help="How often each side is measured. Fewer than 3 valid pairs carry no verdict.",
)
@click.option(
    "--order",
    type=click.Choice(["abba", "abab"]),
    default="abba",
    show_default=True,
    help="Who goes first: by turns, or always a.",
)
@salts("run")
@click.option("--dry-run", is_flag=True, help="Say how long it takes and what it may cost, send nothing.")
@click.option(
    "--max-regression",
    multiple=True,
    metavar="[METRIC=]SHARE",
    help="How much worse b may be, as 10% (the default) or ttft=5% (repeatable).",
)
@click.option(
    "--max-added",
    multiple=True,
    metavar="METRIC=MS",
    help="How much b may add, as ttft=20ms: what a gateway costs (repeatable).",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Judge this one and no others, as ttft or ttft:p95 (repeatable; default ttft, tpot, e2e, errors).",
)
@inconclusive("INCONCLUSIVE")
@verdict_files
@click.option(
    "--html",
    is_flag=True,
    help="Write compare.html into the folder of the runs as well: a page with charts that needs no network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--tag", "tags", multiple=True, type=Tag(), help="Kept with every run and in its report (repeatable)."
)
@click.option("--output", "-o", metavar="DIR", help="Folder of all runs (default runs/<name>-ab-<UTC time>).")
@click.option("--fresh", is_flag=True, help="With -o: what is there is renamed, not deleted.")
@waits_until_ready
@click.option(
    "--price",
    metavar="P",
    help="Per million tokens, as input=0.15,output=0.6, or a TOML file with a table a model.",
)
@timers
@kept
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Measure two targets in turns, with the same prompts at the same times, and judge b against a.

    A and B are TOML files or names of the library. With one of them, or with flags alone, side b is side a
    but for --base-url-b, --model-b, --set-b and the like. What the sides differ in by that is what is under
    test. Every run is a bench of its own in the folder; its warm-up is in no number. The exit code is 99
    where b is worse than it may be, 98 where nobody can tell, 97 where fewer than 3 pairs are valid.
    """
    source = context.get_parameter_source("base_url")
    given["base_url_flag"] = given["base_url"] if source is click.core.ParameterSource.COMMANDLINE else None
    with ends_on_sigterm():
        sys.exit(_command(given))


def _command(given: dict[str, Any]) -> int:
    from runner.commands.ab_gate import GateError, check_measurable, gate_of
    from runner.commands.ab_setup import SideError, make_sides, new_ab, open_folder
    from runner.commands.judged import check_files
    from runner.prices import PriceError
    from runner.store import StoreError
    from runner.target import TargetError
    from scenarios.scenario import ScenarioError
    from scenarios.source import PromptError

    try:
        gate = gate_of(given)
        check_files(given)
        sides = make_sides(given)
        ab = new_ab(given, sides)
        check_measurable(gate, ab, sides)
        if given["dry_run"]:
            return _tell_plan(ab, sides, given)
        folder = open_folder(given, sides, ab)
    except (ScenarioError, StoreError, PromptError, TargetError, PriceError, GateError, SideError) as exc:
        stop(str(exc), 2)
    except OSError as exc:
        no_folder("folder of the runs", exc)
    say(f"folder of the runs: {folder}")
    for note in sides.notes:
        say(f"note: {note}")
    return _run(folder, ab, sides, gate, given)


def _tell_plan(ab: Ab, sides: Sides, given: dict[str, Any]) -> int:
    from runner.commands.ab_plan import plan_json, plan_text

    for note in sides.notes:
        say(f"note: {note}")
    return 0 if show((plan_json if given["as_json"] else plan_text)(ab, sides)) else 1


def _run(folder: Path, ab: Ab, sides: Sides, gate: Gate, given: dict[str, Any]) -> int:
    from runner.ab import AB, keep
    from runner.commands.ab_gate import finish, judges_failures
    from runner.commands.ab_runs import Turns

    turns = Turns(folder, ab, sides, dict(given["tags"]), judges_failures=judges_failures(gate))
    _turn(turns, ab)
    try:
        ab.exit_code = finish(folder, ab, sides, gate)
    except OSError as exc:
        stop(f"the runs are kept in {folder}, but not all could be written: {exc.strerror or exc}", 1)
    try:
        keep(folder, ab)
    except OSError as exc:  # the verdict is there, and said
        say(f"warning: {folder / AB} could not be written: {exc.strerror or exc}")
    return ab.exit_code


def _turn(turns: Turns, ab: Ab) -> None:
    """Make the runs; whatever ends them, what there is gets its verdict."""
    from runner.journal import NO_ROOM
    from runner.store import StoreError

    try:
        turns.run()
    except KeyboardInterrupt:
        ab.ended_by = "interrupted"
    except SystemExit:  # SIGTERM between two runs, which has said so; during one, the run sees to it
        ab.ended_by = "terminated"
    except (OSError, StoreError) as exc:
        full = isinstance(exc, OSError) and exc.errno in NO_ROOM
        ab.ended_by = "disk_full" if full else "error"
        why = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
        where = getattr(exc, "filename", None)
        ab.reason = f"the next run could not be written: {why}{f' ({where})' if where else ''}"
        say(f"streamgauge: {ab.reason}")
