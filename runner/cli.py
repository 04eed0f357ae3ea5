"""The command line. One module a command, imported when it is asked for: start-up is part of the product."""

from __future__ import annotations

import importlib
import signal
import sys

import click

# In the order `--help` shows them.
COMMANDS = {
    "run": "Every prompt once: concurrent, retried, durable, resumable.",
    "export": "The dataset out of a run: jsonl, csv, parquet, OpenAI batch.",
    "status": "How far a run is, while it runs or after.",
    "bench": "A load, and how long tokens took under it; judged, and whether to trust it.",
    "sweep": "The same over a range, or the highest load that still meets an SLO.",
    "report": "A run's numbers: text, JSON, CSV, Markdown, HTML.",
    "check": "Thresholds and expected answers against a recorded run; exit code for CI.",
    "compare": "Did it get worse? Two sets of runs, a verdict per metric.",
    "ab": "Two targets in turns, same prompts, and a verdict on the pairs.",
    "probe": "A handful of requests that say how an endpoint behaves, and which flags to set.",
    "scenarios": "List and show the scenarios that are shipped, for bench.",
    "calibrate": "This machine's own noise floor, and the largest load it can carry.",
    "mock": "Serve known streams: for demos, tests and CI without a key.",
}

_FILTERS = {"export", "status", "report", "check", "compare", "scenarios"}  # write results, hold no socket


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"runner.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # The texts stand above, so that `--help` need not import a single command.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"streamgauge {version('streamgauge')}")
        ctx.exit()


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    callback=_version,
    expose_value=False,
    is_eager=True,
    help="Show the version.",
)
def group() -> None:
    """Send many prompts to any OpenAI-compatible endpoint, keep every streamed answer, time every token."""


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] and sys.argv[1] in _FILTERS and hasattr(signal, "SIGPIPE"):
        # `streamgauge report | head`: the reader has enough, and we end as other filters do.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(group.main(prog_name="streamgauge", standalone_mode=False) or 0)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
