"""`streamgauge probe`: a handful of requests that say how an endpoint behaves."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import OPENAI, Duration, one_endpoint, plural, read_key, read_proxy, say, stop
from runner.commands.sending import check_ca_file

if TYPE_CHECKING:
    from runner.probe import Cost, Report
    from runner.prober import Settings
    from runner.redact import Redactor
    from runner.target import Target


@click.command("probe")
@one_endpoint
@click.option(
    "--api",
    type=click.Choice(["chat", "completions"]),
    default="chat",
    show_default=True,
    help="Endpoint family.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Limit of every answer but the one that is cut (256).",
)
@click.option("--prompt", metavar="TEXT", help="What to ask, instead of numbers in words (about 150 tokens).")
@click.option("--timeout", type=Duration(), default="120", show_default=True, help="One request as a whole.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def command(**given: Any) -> None:
    """Say how an endpoint behaves, and which flags to set.

    Sends at most 12 requests, with short answers: the URL, the models, streaming, usage, cached tokens,
    reasoning, the token limit, errors, and whether closing a stream stops the server. What could not be seen
    is not guessed.
    """
    sys.exit(_command(given))


def _command(given: dict[str, Any]) -> int:
    import asyncio

    from runner.target import TargetError

    if given["prompt"] is not None and not given["prompt"].strip():
        raise click.UsageError("--prompt is empty")
    if given["model"] is not None and not given["model"].strip():
        raise click.UsageError("--model is empty: name one, or leave it out to take the only one there is")
    try:
        target, redact, proxy = _target(given)
    except TargetError as exc:
        stop(str(exc), 2)
    check_ca_file(given["ca_file"])
    settings = _settings(given)
    say(
        f"at most 12 requests: answers of at most {plural(settings.max_tokens, 'token')}, "
        f"and one of at most {settings.long_tokens:,} that is closed early"
    )
    report = asyncio.run(_probe(target, redact, settings, proxy, given))
    suggested = redact(_suggested(report, given)) if report.failure is None else None
    if given["as_json"]:
        _write_json(report, suggested)
    elif suggested is not None:
        click.echo(_text(report, suggested))
    if report.failure is not None:
        say(f"{_cost(report.cost)}.")
        stop(report.failure.message, 2 if report.failure.usage else 1)
    return 0


# -- before anything is sent


def _target(given: dict[str, Any]) -> tuple[Target, Redactor, str | None]:
    """The endpoint that was named, what keeps its secrets out of texts, and the proxy to go through."""
    from runner.redact import Redactor, proxy_secrets, secrets_of
    from runner.target import make_target

    key = read_key(given["api_key"], given["api_key_env"], given["api_key_file"])
    base_url = OPENAI if given["base_url"] is None else given["base_url"]
    headers = dict(given["headers"])
    target = make_target(base_url, key, headers)
    proxy = read_proxy(given["proxy"], target.base_url)
    secrets = [*secrets_of(target, base_url, key, headers), *proxy_secrets(proxy)]
    return target, Redactor(secrets), proxy


def _settings(given: dict[str, Any]) -> Settings:
    from runner.prober import PROMPT, Settings

    return Settings(
        api=given["api"],
        model=given["model"],
        max_tokens=given["max_tokens"],
        prompt=PROMPT if given["prompt"] is None else given["prompt"],
        timeout_s=given["timeout"],
        long_tokens=max(256, given["max_tokens"]),
    )


async def _probe(
    target: Target, redact: Redactor, settings: Settings, proxy: str | None, given: dict[str, Any]
) -> Report:
    from runner.probe import probe
    from runner.transport import open_session

    verify = not given["insecure"]
    session = open_session(target.headers, verify=verify, ca_file=given["ca_file"], proxy=proxy)
    async with session:
        return await probe(
            session, target, redact, settings, verified=verify, tell=lambda line: say(f"  {line}")
        )


# -- after


def _suggested(report: Report, given: dict[str, Any]) -> str:
    """The command line that follows from it. Capitals stand where something is to be filled in."""
    words = [
        "streamgauge",
        "run",
        "PROMPTS",
        "--base-url",
        report.base_url,
        "--model",
        report.model or "NAME",
    ]
    if report.api != "chat":
        words += ["--api", report.api]
    if given["api_key"] is not None:
        words += ["--api-key-env", "VARIABLE"]
    for name in ("api_key_env", "api_key_file", "ca_file"):
        if given[name] is not None:
            words += [f"--{name.replace('_', '-')}", given[name]]
    for name, _ in given["headers"]:
        words += ["--header", f"{name}:VALUE"]
    if given["proxy"] is not None:
        words += ["--proxy", "PROXY" if "@" in given["proxy"] else given["proxy"]]
    if given["insecure"]:
        words.append("--insecure")
    for flag in report.flags:
        words += flag.split(" ", 1)
    return shlex.join(words)


def _cost(cost: Cost) -> str:
    text = f"{plural(cost.requests, 'request')}, {cost.answers:,} of them for an answer: "
    text += f"{cost.prompt_tokens:,} prompt and {cost.completion_tokens:,} completion tokens told"
    if cost.without_usage:
        cut = f", {cost.cut:,} of them closed early" if cost.cut else ""
        text += f"; {plural(cost.without_usage, 'answer')} without usage{cut}"
    if cost.cost is not None:
        from runner.prices import amount

        text += f"; usage.cost {amount(cost.cost)} in all"
    return text


def _text(report: Report, suggested: str) -> str:
    wide = max(len(finding.name) for finding in report.findings)
    lines = [f"{report.base_url}, model {report.model}", ""]
    for finding in report.findings:
        flag = f"  -> {finding.flag}" if finding.flag is not None else ""
        lines.append(f"  {finding.name:<{wide}}  {finding.verdict:<7}  {finding.seen}{flag}")
    problems = sum(finding.verdict == "problem" for finding in report.findings)
    notes = sum(finding.verdict == "note" for finding in report.findings)
    lines += ["", f"{plural(problems, 'problem')}, {plural(notes, 'note')}. To run:", f"  {suggested}"]
    return "\n".join([*lines, "", f"{_cost(report.cost)}."])


def _write_json(report: Report, suggested: str | None) -> None:
    import msgspec

    told = {**msgspec.to_builtins(report), "flags": report.flags, "command": suggested}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n")
