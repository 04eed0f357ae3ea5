"""`streamgauge run`: every prompt once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.check_prompts import keep_spooled, show_plan, spool
from runner.commands.ending import finish
from runner.commands.options import (
    Amount,
    Duration,
    Kind,
    Param,
    Redo,
    ends_on_sigterm,
    kept,
    no_folder,
    say,
    several_endpoints,
    stop,
    timers,
    waits_until_ready,
    writes_page,
)
from runner.commands.spread import cluster_of, of_shard, part_of, spreads

if TYPE_CHECKING:
    from runner.engine import Engine
    from runner.on_ray import Cluster
    from runner.rundir import Opened
    from runner.settings import Settings
    from runner.target import Target
    from scenarios.prompts import Plan


@click.command("run")
@click.argument("prompts")
@several_endpoints
@click.option(
    "--concurrency", "-c", type=click.IntRange(1), default=32, show_default=True, help="Streams at once."
)
@spreads
@click.option(
    "--output",
    "-o",
    metavar="DIR|FILE",
    help="Run directory (default runs/<stem of PROMPTS>), or a dataset to write when done: "
    "a .jsonl, .csv or .parquet file.",
)
@click.option(
    "--api",
    type=click.Choice(["chat", "completions"]),
    default="chat",
    show_default=True,
    help="Endpoint family.",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), metavar="N", help="Limit of every answer; a row's own wins."
)
@click.option(
    "--param",
    "params",
    multiple=True,
    type=Param(),
    help="A body field, as temperature=0.2; a row's own wins.",
)
@click.option("--system", metavar="TEXT", help="System message where a row has none (@FILE: from a file).")
@click.option(
    "--template",
    metavar="T",
    help="Jinja template of the prompt over a row's columns: text with {{ }}, or a file.",
)
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Answers a prompt.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option(
    "--input-format",
    type=click.Choice(["jsonl", "csv", "tsv", "parquet", "txt", "openai-batch"]),
    help="Format of PROMPTS where its name does not tell.",
)
@click.option(
    "--skip-bad-rows", is_flag=True, help="Count rows that cannot be read, instead of refusing the file."
)
@click.option("--dry-run", is_flag=True, help="Check every row, show what would be sent, send nothing.")
@click.option("--fresh", is_flag=True, help="Begin anew; the earlier run is renamed, not deleted.")
@click.option("--retry-failed", is_flag=True, help="Also send what failed for good in an earlier session.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=Kind(),
    help="With --retry-failed: only errors of this kind (repeatable).",
)
@click.option(
    "--redo",
    "redo",
    multiple=True,
    type=Redo(),
    help="Also send rows whose good answer is unwanted, as finish_reason=length (repeatable). "
    "Old answers stay; an export takes the last.",
)
@click.option("--rpm", type=Amount(), metavar="N", help="At most N requests a minute.")
@click.option(
    "--tpm",
    type=Amount(),
    metavar="N",
    help="At most N tokens a minute, in and out; guessed beforehand, put right by usage or by what came.",
)
@click.option(
    "--adaptive", is_flag=True, help="Find the concurrency the server bears, from a few streams up to -c."
)
@click.option(
    "--price",
    metavar="P",
    help="Per million tokens, as input=0.15,cached_input=0.075,output=0.6, or a TOML file with a table a "
    "model. The provider's own number (usage.cost) comes first.",
)
@click.option(
    "--max-cost",
    type=Amount(),
    metavar="AMOUNT",
    help="Never spend more, over all sessions and attempts. Needs --price and a limit of tokens.",
)
@click.option(
    "--pilot",
    type=click.IntRange(1),
    metavar="N",
    help="Send N rows spread over the file, say what the rest will take, and stop.",
)
@click.option(
    "--stop-after-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="Cut each answer on purpose after N pieces of text; it counts as done.",
)
@waits_until_ready
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Further attempts after failures that pass.",
)
@timers
@click.option(
    "--grace",
    type=Duration(),
    default="25",
    show_default=True,
    help="What SIGTERM leaves to streams in flight.",
)
@kept
@writes_page
def command(prompts: str, **given: Any) -> None:
    """Send every prompt of PROMPTS once and keep every answer.

    PROMPTS is a .jsonl, .csv, .parquet or .txt file, an OpenAI Batch input file, or - for standard input.
    Rows give `prompt`, `messages` or `body`, or any columns with --template. The same command again sends
    what has no answer yet.
    """
    with ends_on_sigterm("Run the same command again to go on."):
        sys.exit(_command(prompts, given))


def _command(prompts: str, given: dict[str, Any]) -> int:
    from msgspec.structs import replace

    from runner.commands.run_setup import (
        check_dataset,
        open_directory,
        plan_of,
        settings_of,
        targets_of,
        worst_cases_of,
    )
    from runner.on_ray import ClusterError
    from runner.rundir import place_for
    from runner.store import StoreError
    from runner.target import TargetError
    from scenarios.source import PromptError

    spooled: Path | None = None
    try:
        path, dataset = (Path(), None) if given["dry_run"] else place_for(prompts, given["output"])
        if dataset is not None:
            check_dataset(dataset)
        targets, redact = targets_of(given)
        settings = settings_of(given)
        part = part_of(prompts, given)
        if part is not None:
            settings = of_shard(settings, part)
        if prompts == "-":
            spooled, given["input_format"] = spool(path, given["input_format"], dry_run=given["dry_run"])
        worst = worst_cases_of(settings)
        plan = plan_of(spooled or prompts, given, worst)
        if given["dry_run"]:
            show_plan(plan)
            return 2 if plan.bad_count and not given["skip_bad_rows"] else 0
        if worst is not None:
            settings = replace(settings, least_cost=worst.least)
        cluster, settings = cluster_of(settings, given)
        opened = open_directory(path, plan, targets, prompts, given, settings, part)
        if part is not None:
            plan = part.of_plan(plan)
        if spooled is not None:
            plan = keep_spooled(plan, opened.path)
    except (StoreError, PromptError, TargetError, ClusterError) as exc:
        message = str(exc)
        stop(message.replace(str(spooled), "standard input") if spooled is not None else message, 2)
    except BrokenPipeError:
        raise
    except OSError as exc:
        no_folder("run directory", exc)
    finally:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
    _announce(opened, plan)
    return _run(opened, plan, targets, redact, settings, dataset, cluster, page=given["html"])


def _announce(opened: Opened, plan: Plan) -> None:
    from runner.rundir import link_latest

    link_latest(opened.path)
    say(f"run directory: {opened.path}")
    for note in opened.notes:
        say(f"note: {note}")
    if plan.bad_count:
        say(f"note: {plan.bad_count:,} bad rows are left out, the first: {plan.source.path}: {plan.bad[0]}")
    if plan.fields:
        say(f"note: these columns go into the requests: {', '.join(plan.fields)}")
    if plan.model_overridden:
        say(f"note: --model replaces another model in {plan.model_overridden:,} rows")
    if plan.duplicate_custom_ids:
        say(f"note: {plan.duplicate_custom_ids:,} rows repeat a custom_id")
    options = opened.session.options
    if len(opened.manifest.sessions) > 1:
        to_send = plan.requests - len(opened.settled)
        parts = [f"{opened.answered:,} of {plan.requests:,} are answered", f"{to_send:,} to send"]
        if opened.failed:
            again = "other kinds: --retry-failed alone" if options.get("kinds") else "--retry-failed"
            parts.append(f"{opened.failed:,} failed for good ({again} sends them again)")
        if opened.left_out:
            parts.append(f"{opened.left_out:,} answers outside these rows are kept")
        say("resumed: " + ", ".join(parts))


# -- the run, and after


def _run(
    opened: Opened,
    plan: Plan,
    targets: list[Target],
    redact: Any,
    settings: Settings,
    dataset: Path | None,
    cluster: Cluster | None,
    *,
    page: bool,
) -> int:
    from runner.bulk import run_bulk
    from runner.rundir import close_run
    from runner.shards import WorkerError
    from scenarios.source import PromptError

    failure: str | None = None
    engine: Engine | None = None
    try:
        engine = run_bulk(opened, plan, targets, redact, settings, cluster)
    except (PromptError, WorkerError) as exc:
        failure = redact(str(exc))
        opened.session.ended_by, opened.session.reason = "error", failure
    finally:
        try:
            close_run(opened)
        except OSError as exc:
            say(f"warning: run.json could not be written: {exc.strerror}")
        if cluster is not None:
            cluster.close()
    return finish(opened, plan, engine, dataset, failure, page=page)
