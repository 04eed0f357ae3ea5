"""`streamgauge run`: every prompt once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import OPENAI, Duration, Param, read_key, stop, target_options

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
    help="Run directory (default runs/<prompt file's stem>), or a .jsonl, .csv or .parquet file to write when done.",
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

    PROMPTS is a .jsonl, .csv, .parquet or .txt file, an OpenAI Batch input file, or - for standard input. Rows
    give `prompt`, `messages` or `body`, or any columns with --template. The same command again sends what has
    no answer yet.
    """
    from runner.rundir import place_for
    from runner.store import StoreError
    from runner.target import Redactor, TargetError, make_target, secrets_of
    from scenarios.source import PromptError

    try:
        path, dataset = place_for(prompts, given["output"])
        key = read_key(given["api_key"], given["api_key_env"], given["api_key_file"])
        base_url = OPENAI if given["base_url"] is None else given["base_url"]
        headers = dict(given["headers"])
        target = make_target(base_url, key, headers)
        redact = Redactor(secrets_of(target, base_url, key, headers))
        settings = _settings(given)
        _check_descriptors(settings.concurrency)
        plan = _plan(prompts, path, given)
        if given["dry_run"]:
            _show_plan(plan)
            return
        opened = _open(path, plan, target, prompts, given, settings)
    except (StoreError, PromptError, TargetError) as exc:
        stop(str(exc), 2)
    except OSError as exc:
        stop(f"cannot write the run directory: {exc.strerror} ({exc.filename})", 1)
    _announce(opened, plan)
    sys.exit(_run(opened, plan, target, redact, settings, dataset))


# -- before anything is sent


def _settings(given: dict[str, Any]) -> Settings:
    from runner.bulk import Settings
    from runner.delivery import Keep
    from runner.stream import Timeouts

    if given["ca_file"] is not None and not Path(given["ca_file"]).is_file():
        raise click.UsageError(f"--ca-file {given['ca_file']}: no such file")
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
        grace_s=given["grace"] or 0.0,
        verify=not given["insecure"],
        ca_file=given["ca_file"],
    )


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


def _plan(prompts: str, path: Path, given: dict[str, Any]) -> Plan:
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
    file = _spool(path, given) if prompts == "-" else None
    source = open_source(file or prompts, given["input_format"])
    plan = scan(
        source, bodies, skip_bad_rows=given["skip_bad_rows"] or given["dry_run"], limit=given["limit"]
    )
    if plan.bad_count and not (given["skip_bad_rows"] or given["dry_run"]):
        stop(_bad_rows(plan), 2)
    return plan


def _text_or_file(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"--system {text}: cannot be read ({exc})") from None


def _spool(path: Path, given: dict[str, Any]) -> Path:
    """Standard input as a file: it is read twice, and again by whoever resumes."""
    import tempfile

    from scenarios.source import sniff

    stream = sys.stdin.buffer
    head = stream.peek(1 << 16) if hasattr(stream, "peek") else b""
    suffix = given["input_format"] or sniff(head)
    given["input_format"] = suffix
    if given["dry_run"]:
        place = Path(tempfile.mkdtemp(prefix="streamgauge-"))
    else:
        place = path
        place.mkdir(parents=True, exist_ok=True)
    file = place / f".stdin.{suffix}"
    with file.open("wb") as out:
        shutil.copyfileobj(stream, out)
    return file


def _bad_rows(plan: Plan) -> str:
    shown = "\n".join(f"  {plan.source.path}: {bad}" for bad in plan.bad)
    more = f"\n  ... and {plan.bad_count - len(plan.bad):,} more" if plan.bad_count > len(plan.bad) else ""
    return (
        f"{plan.bad_count:,} of {plan.rows:,} rows cannot be sent, so nothing was:\n{shown}{more}\n"
        "Mend them, or leave them out with --skip-bad-rows."
    )


def _show_plan(plan: Plan) -> None:
    from pprint import pformat

    import msgspec

    say = click.echo
    say(f"{plan.rows:,} rows, {plan.requests:,} requests; nothing was sent")
    if plan.bad_count:
        say(f"\n{plan.bad_count:,} bad rows:")
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

    def say(text: str) -> None:
        click.echo(text, err=True)

    link_latest(opened.path)
    say(f"run directory: {opened.path}")
    for note in opened.notes:
        say(f"note: {note}")
    if plan.bad_count:
        say(f"note: {plan.bad_count:,} bad rows are left out, the first: {plan.source.path}: {plan.bad[0]}")
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
            parts.append(f"{opened.left_out:,} answers to rows the file no longer has are kept aside")
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
            click.echo(f"warning: run.json could not be written: {exc.strerror}", err=True)
    return _finish(opened, plan, engine, dataset, failure)


def _finish(
    opened: Opened, plan: Plan, engine: Engine | None, dataset: Path | None, failure: str | None
) -> int:
    from reports.metrics import summarize
    from reports.text import render

    path, session = opened.path, opened.session
    click.echo(render([summarize(path)]))
    failed = _failed(opened, plan)
    complete = session.ended_by == "finished"
    if dataset is not None and complete:
        _write_dataset(path, dataset)
    if failure is not None:
        click.echo(f"streamgauge: {failure}", err=True)
        return 1
    if engine is not None and engine.tally.unwritten:
        click.echo(
            f"streamgauge: {engine.tally.unwritten} finished answers found no room on the disk "
            "and will be asked again",
            err=True,
        )
    again = "Run the same command again to go on."
    messages = {
        "interrupted": f"interrupted. {again}",
        "terminated": f"stopped by SIGTERM. {again}",
        "disk_full": f"stopped: the disk is full. Make room, then run the same command again to go on: {path}",
        "circuit_breaker": f"stopped, because nothing succeeds: {session.reason}\n"
        f"{_advice(session.stopped_on)} Then run the same command again to go on.",
    }
    if session.ended_by in messages:
        click.echo(f"streamgauge: {messages[session.ended_by]}", err=True)
    codes = {"interrupted": 130, "error": 1, "terminated": 75, "disk_full": 75, "circuit_breaker": 75}
    if session.ended_by in codes:
        return codes[session.ended_by]
    return 3 if failed else 0


def _advice(kind: str | None) -> str:
    return {
        "auth": "Check the key (OPENAI_API_KEY, --api-key-env or --api-key-file) and what it may do.",
        "quota": "Check the account's credit.",
        "connect": "Check that the server runs, and --base-url.",
        "tls": "Check --base-url (https?), or name the server's certificates with --ca-file.",
        "redirect": "Name that URL with --base-url.",
        "bad_request": "Check --model and --base-url (with or without /v1), and the parameters.",
        "bad_content_type": "Check --base-url: is it the API's?",
        "timeout": "Check the server, or give it more time.",
    }.get(kind or "", "Check the server.")


def _failed(opened: Opened, plan: Plan) -> int:
    """Requests of this prompt file that have no answer, failed ones of earlier sessions included."""
    from runner.rundir import inside
    from runner.store import OK, build_index

    index = build_index(opened.path)
    return int((inside(index.digest, plan.digests) & (index.state != OK)).sum())


def _write_dataset(path: Path, dataset: Path) -> None:
    from reports.export import export_dataset

    try:
        export_dataset(path, dataset, dataset.suffix.lstrip("."))
    except OSError as exc:
        stop(
            f"the dataset could not be written to {dataset}: {exc.strerror}. The answers are safe in {path}",
            1,
        )
    click.echo(f"dataset: {dataset}")
