"""The options that shape a load: what `bench` and `ab` make a scenario of."""

from __future__ import annotations

import click

from runner.commands.options import Amount, F


def load_flags(command: F) -> F:
    """Add them."""
    for option in reversed(_FLAGS):
        command = option(command)
    return command


_FLAGS = (
    click.option(
        "--concurrency", "-c", type=click.IntRange(1), metavar="N", help="A closed loop: N streams at once."
    ),
    click.option("--rate", type=Amount(), metavar="R", help="An open loop: R requests a second (Poisson)."),
    click.option("--requests", "-n", type=click.IntRange(1), metavar="N", help="Measure N requests."),
    click.option("--duration", metavar="T", help="Measure for so long, as 60s or 10m."),
    click.option(
        "--input-tokens", type=click.IntRange(1), metavar="N", help="Length of the prompts that are made up."
    ),
    click.option("--output-tokens", type=click.IntRange(1), metavar="N", help="Limit of every answer."),
    click.option("--prompts", metavar="FILE", help="Ask what stands in this file: anything `run` reads."),
    click.option("--api", type=click.Choice(["chat", "completions"]), help="Endpoint family."),
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="Processes to spread the load over, where one core is not enough: one schedule, one clock.",
    ),
    click.option("--seed", type=int, metavar="N", help="Draws arrivals, prompts and lengths."),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key of the scenario, as load.rate=8 (repeatable).",
    ),
)
