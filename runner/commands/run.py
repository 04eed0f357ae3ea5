"""`streamgauge run`: every prompt once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.check_prompts import bad_rows, keep_spooled, show_plan, spool
from runner.commands.ending import finish
from runner.commands.options import (
    OPENAI,
    Duration,
    Param,
    ends_on_sigterm,
    read_key,
    say,
    stop,
    target_options,
)

if TYPE_CHECKING:
    from runner.bulk import Settings
    from runner.engine import Engine
    from runner.rundir import Opened
    from runner.target import Target
    from scenarios.prompts import Plan

_ROOM_FDS = 64  # files, pipes and threads of our own beside the sockets


@click.command("run")
@click.argument("prompts")
@target_options
@click.option(
    "--concurrency", "-c", type=click.IntRange(1), default=32, show_default=True, help="Streams at once."
)
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
    "--retries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Further attempts after failures that pass.",
)
@click.option(
    "--connect-timeout", type=Duration(), default="10", show_default=True, help="Until a connection is there."
)
@click.option(
    "--first-token-timeout", type=Duration(), default="600", show_default=True, help="Until the first token."
)
@click.option("--token-timeout", type=Duration(), default="120", show_default=True, help="Between tokens.")
@click.option(
    "--idle-timeout",
    type=Duration(),
    default="120",
    show_default=True,
    help="Without a single byte, once the response has begun.",
)
@click.option("--timeout", type=Duration(), default="none", show_default=True, help="One attempt as a whole.")
@click.option(
    "--grace",
    type=Duration(),
    default="25",
    show_default=True,
    help="What SIGTERM leaves to streams in flight.",
)
@click.option(
    "--no-usage", is_flag=True, help="Do not ask for usage (for servers that refuse stream_options)."
)
@click.option("--no-request", is_flag=True, help="Leave request bodies out of the records.")
@click.option("--no-times", is_flag=True, help="Leave per-token times out of the records.")
@click.option(
    "--keep-header", "keep_headers", multiple=True, metavar="NAME", help="Keep this response header too."
)
def command(prompts: str, **given: Any) -> None:
    """Send every prompt of PROMPTS once and keep every answer.

    PROMPTS is a .jsonl, .csv, .parquet or .txt file, an OpenAI Batch input file, or - for standard input.
    Rows give `prompt`, `messages` or `body`, or any columns with --template. The same command again sends
    what has no answer yet.
    """
    with ends_on_sigterm():
        sys.exit(_command(prompts, given))


def _command(prompts: str, given: dict[str, Any]) -> int:
    from runner.rundir import place_for
    from runner.store import StoreError
    from runner.target import Redactor, TargetError, make_target, secrets_of
    from scenarios.source import PromptError

    spooled: Path | None = None
    try:
        path, dataset = (Path(), None) if given["dry_run"] else place_for(prompts, given["output"])
        if dataset is not None:
            _check_dataset(dataset)
        key = read_key(given["api_key"], given["api_key_env"], given["api_key_file"])
        base_url = OPENAI if given["base_url"] is None else given["base_url"]
        headers = dict(given["headers"])
        target = make_target(base_url, key, headers)
        redact = Redactor(secrets_of(target, base_url, key, headers))
        settings = _settings(given)
        _check_descriptors(settings.concurrency)
        if prompts == "-":
            spooled, given["input_format"] = spool(path, given["input_format"], dry_run=given["dry_run"])
        plan = _plan(spooled or prompts, given)
        if given["dry_run"]:
            show_plan(plan)
            return 2 if plan.bad_count and not given["skip_bad_rows"] else 0
        opened = _open(path, plan, target, prompts, given, settings)
        if spooled is not None:
            plan = keep_spooled(plan, opened.path)
    except (StoreError, PromptError, TargetError) as exc:
        message = str(exc)
        stop(message.replace(str(spooled), "standard input") if spooled is not None else message, 2)
    except BrokenPipeError:
        raise
    except OSError as exc:
        where = f" ({exc.filename})" if exc.filename else ""
        stop(f"cannot write the run directory: {exc.strerror}{where}", 1)
    finally:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
    _announce(opened, plan)
    return _run(opened, plan, target, redact, settings, dataset)


# -- before anything is sent


def _settings(given: dict[str, Any]) -> Settings:
    from runner.bulk import Settings
    from runner.delivery import Keep
    from runner.timeouts import Timeouts

    if given["ca_file"] is not None:
        import ssl

        try:
            ssl.create_default_context(cafile=given["ca_file"])
        except OSError as exc:
            reason = "it holds no certificate" if isinstance(exc, ssl.SSLError) else exc.strerror
            raise click.UsageError(f"--ca-file {given['ca_file']}: {reason}") from None
    return Settings(
        concurrency=given["concurrency"],
        retries=given["retries"],
        timeouts=Timeouts(
            connect=given["connect_timeout"],
            first_token=given["first_token_timeout"],
            token_gap=given["token_timeout"],
            byte_idle=given["idle_timeout"],
            total=given["timeout"],
        ),
        include_usage=not given["no_usage"],
        keep=Keep(request=not given["no_request"], times=not given["no_times"]),
        keep_headers=tuple(given["keep_headers"]),
        grace_s=given["grace"],
        verify=not given["insecure"],
        ca_file=given["ca_file"],
    )


def _check_dataset(dataset: Path) -> None:
    from reports.export import format_of, require

    require(format_of(dataset))


def _check_descriptors(concurrency: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = concurrency + _ROOM_FDS
    if soft == resource.RLIM_INFINITY or soft >= need:
        return
    if hard == resource.RLIM_INFINITY or hard >= need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
        return
    raise click.UsageError(
        f"-c {concurrency} needs {need} open files and this shell allows {hard} (ulimit -Hn). "
        f"Raise that limit, or use -c {max(hard - _ROOM_FDS, 1)}."
    )


def _plan(prompts: str | Path, given: dict[str, Any]) -> Plan:
    from scenarios.bodies import Settings as Bodies
    from scenarios.prompts import scan
    from scenarios.source import open_source
    from scenarios.template import load_template

    template = load_template(given["template"]) if given["template"] is not None else None
    bodies = Bodies(
        api=given["api"],
        model=given["model"],
        params=dict(given["params"]),
        max_tokens=given["max_tokens"],
        system=_text_or_file(given["system"]),
        template=template,
        samples=given["samples"],
    )
    source = open_source(prompts, given["input_format"])
    plan = scan(
        source, bodies, skip_bad_rows=given["skip_bad_rows"] or given["dry_run"], limit=given["limit"]
    )
    if plan.bad_count and not (given["skip_bad_rows"] or given["dry_run"]):
        stop(bad_rows(plan, "standard input" if isinstance(prompts, Path) else str(prompts)), 2)
    return plan


def _text_or_file(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"--system {text}: cannot be read ({exc})") from None


def _open(
    path: Path, plan: Plan, target: Target, prompts: str, given: dict[str, Any], settings: Settings
) -> Opened:
    import msgspec

    from runner.rundir import open_run, scenario_of

    options = {
        "concurrency": settings.concurrency,
        "retries": settings.retries,
        "timeouts_s": msgspec.to_builtins(settings.timeouts),
        "include_usage": settings.include_usage,
        "verify_tls": settings.verify,
    }
    return open_run(
        path,
        plan,
        scenario_of(plan, target.base_url),
        source_name="standard input" if prompts == "-" else prompts,
        options=options,
        fresh=given["fresh"],
        retry_failed=given["retry_failed"],
    )


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
    if len(opened.manifest.sessions) > 1:
        to_send = plan.requests - len(opened.settled)
        parts = [f"{opened.answered:,} of {plan.requests:,} are answered", f"{to_send:,} to send"]
        if opened.failed:
            parts.append(f"{opened.failed:,} failed for good (--retry-failed sends them again)")
        if opened.left_out:
            parts.append(f"{opened.left_out:,} answers outside these rows are kept")
        say("resumed: " + ", ".join(parts))


# -- the run, and after


def _run(
    opened: Opened, plan: Plan, target: Target, redact: Any, settings: Settings, dataset: Path | None
) -> int:
    from runner.bulk import run_bulk
    from runner.rundir import close_run
    from scenarios.source import PromptError

    failure: str | None = None
    engine: Engine | None = None
    try:
        engine = run_bulk(opened, plan, target, redact, settings)
    except PromptError as exc:
        failure = str(exc)
        opened.session.ended_by, opened.session.reason = "error", failure
    finally:
        try:
            close_run(opened)
        except OSError as exc:
            say(f"warning: run.json could not be written: {exc.strerror}")
    return finish(opened, plan, engine, dataset, failure)
