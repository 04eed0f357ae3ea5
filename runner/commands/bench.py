"""`streamgauge bench`: a load, and how long tokens took under it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runner.commands.judged import inconclusive, verdict_files
from runner.commands.load_options import load_flags
from runner.commands.options import (
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
    writes_page,
)

if TYPE_CHECKING:
    from runner.commands.bench_setup import Made


@click.command("bench")
@click.argument("scenario", required=False)
@one_endpoint
@load_flags
@click.option(
    "--targets",
    metavar="FILE",
    help="Several targets side by side, prompt by prompt: a TOML file with a table each.",
)
@click.option(
    "--tag", "tags", multiple=True, type=Tag(), help="Kept with the run and in every report (repeatable)."
)
@click.option("--output", "-o", metavar="DIR", help="Run directory (default runs/<scenario>-<UTC time>).")
@click.option("--fresh", is_flag=True, help="With -o: a run that is there is renamed, not deleted.")
@click.option(
    "--print-scenario", is_flag=True, help="Print the scenario this stands for as TOML, send nothing."
)
@waits_until_ready
@click.option(
    "--metrics-url",
    metavar="URL",
    help="The server's Prometheus page: kept every second, shown beside the client's view.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Then measure this machine's own noise at the load that was, on the mock server.",
)
@inconclusive("an INCONCLUSIVE threshold")
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
@verdict_files
@writes_page
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Put a load on an endpoint, time every token, and say whether the numbers can be trusted.

    SCENARIO is a TOML file or a name of the library (`streamgauge scenarios`); flags beat it. Without
    one, flags are enough: --base-url, --model, -c or --rate, -n or --duration. Nothing is retried. The
    exit code is 97 where this client was not fit to measure, 99 where a threshold fails.
    """
    source = context.get_parameter_source("base_url")
    given["base_url_flag"] = given["base_url"] if source is click.core.ParameterSource.COMMANDLINE else None
    with ends_on_sigterm():
        sys.exit(_command(given))


def _command(given: dict[str, Any]) -> int:
    from runner.commands.bench_setup import make, scenario_of
    from runner.commands.judged import check_files
    from runner.prices import PriceError
    from runner.store import StoreError
    from runner.target import TargetError
    from scenarios.scenario import ScenarioError
    from scenarios.source import PromptError

    notes: list[str] = []
    try:
        scenario = scenario_of(given, notes.append)
        if given["print_scenario"]:
            from scenarios.as_toml import to_toml

            _note(notes)
            return 0 if show(to_toml(scenario)) else 1
        check_files(given)
        made = make(scenario, given)
    except (ScenarioError, StoreError, PromptError, TargetError, PriceError) as exc:
        stop(str(exc), 2)
    except OSError as exc:
        no_folder("run directory", exc)
    for aim in made.aims:
        say(f"run directory: {aim.opened.path}")
    _note([*notes, *made.notes])
    return _run(made, given)


def _note(notes: list[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def _run(made: Made, given: dict[str, Any]) -> int:
    from runner.bench import run_bench
    from runner.commands.bench_ending import close, finish
    from runner.rundir import link_latest

    link_latest(made.aims[0].opened.path)
    try:
        run_bench(made.aims, made.redact, made.settings)
    finally:
        for aim in made.aims:
            close(aim)
    return finish(made, given)
