"""`streamgauge scenarios`: the library that is shipped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runner.commands.options import show, stop

if TYPE_CHECKING:
    from scenarios.scenario import Scenario


@click.group("scenarios", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List and show the scenarios that are shipped, for `bench`.

    Save one with `scenarios show chat > mine.toml` to make it your own, or change single keys: `bench
    chat --set load.rate=8`.
    """
    if ctx.invoked_subcommand is None:
        _list()


@command.command("list")
def list_command() -> None:
    """Name, description and load of each."""
    _list()


@command.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """The TOML of the scenario NAME."""
    from scenarios.loading import library_text
    from scenarios.scenario import ScenarioError

    try:
        text = library_text(name)
    except ScenarioError as exc:
        stop(str(exc), 2)
    sys.exit(0 if show(text) else 1)


def _list() -> None:
    from scenarios.loading import library
    from scenarios.sentence import load_sentence

    names = library()
    width = max(map(len, names))
    for name in names:
        scenario = _example(name)
        click.echo(f"{name:<{width}}  {scenario.description}")
        click.echo(f"{'':<{width}}  {load_sentence(scenario)}")


def _example(name: str) -> Scenario:
    """A scenario of the library; one that replays a trace, of any trace."""
    from scenarios.loading import load_scenario
    from scenarios.scenario import ScenarioError

    try:
        return load_scenario(name)
    except ScenarioError:
        return load_scenario(name, ["load.trace=TRACE"])
