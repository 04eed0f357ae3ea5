"""`streamgauge mock`: an OpenAI-compatible server with known timings and faults."""

from __future__ import annotations

import math

import click

SHARE = click.FloatRange(0, 1)
MS = click.FloatRange(0, 1e9)
SPREAD = click.Choice(["fixed", "normal", "lognormal"])


def _list_faults(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from runner.mock.faults import GROUPS

    heading = ("NAME", "WHAT HAPPENS", "RECORDED", "RETRIED")
    rows = [(f.name, f.what, f.recorded.words, f.recorded.retried) for g in GROUPS.values() for f in g]
    widths = [max(len(cell) for cell in column) for column in zip(heading, *rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    click.echo(line(heading))
    for title, faults in GROUPS.items():
        click.echo(f"\n{title}")
        for fault in faults:
            click.echo(line((fault.name, fault.what, fault.recorded.words, fault.recorded.retried)))
    context.exit()


@click.command("mock")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Length of a reply whose request names no max_tokens.",
)
@click.option("--echo", is_flag=True, help="Reply with the words of the prompt.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of words, times and faults.")
@click.option(
    "--ttft",
    type=MS,
    default=0.0,
    show_default=True,
    metavar="MS",
    help="Mean time to the first token, in ms.",
)
@click.option("--ttft-dist", type=SPREAD, default="fixed", show_default=True, help="How that time is drawn.")
@click.option("--ttft-sd", type=MS, default=0.0, metavar="MS", help="Its standard deviation, in ms.")
@click.option(
    "--itl", type=MS, default=0.0, show_default=True, metavar="MS", help="Mean gap between two tokens, in ms."
)
@click.option("--itl-dist", type=SPREAD, default="fixed", show_default=True, help="How each gap is drawn.")
@click.option("--itl-sd", type=MS, default=0.0, metavar="MS", help="Its standard deviation, in ms.")
@click.option(
    "--lockstep", is_flag=True, help="All streams send their tokens at the same moments, --itl apart."
)
@click.option(
    "--role-chunk",
    type=click.Choice(["early", "with-first", "never"]),
    default="early",
    show_default=True,
    help="When a chat stream names its role: with the headers, with the first token, or not at all.",
)
@click.option("--api-key", metavar="KEY", help="Refuse requests that do not bear this key (401).")
@click.option("--models", metavar="A,B", help="The only models there are; others are a 404. Default: any.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=SHARE]",
    help="Go wrong in this way, with every request or with this share of them (0 to 1). Can be repeated.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="Print the names, what happens and what `streamgauge run` records for it, and exit.",
)
@click.option(
    "--fault-first",
    type=click.IntRange(0),
    metavar="N",
    help="Only the first N requests can have a fault. Default: all.",
)
@click.option(
    "--fault-429", type=SHARE, default=0.0, metavar="SHARE", help="Share of requests refused with 429."
)
@click.option(
    "--retry-after",
    type=click.FloatRange(0, 1e9),
    default=1,
    show_default=True,
    metavar="S",
    help="Seconds in the Retry-After header of a 429, and in other hints of its kind.",
)
@click.option(
    "--fault-500", type=SHARE, default=0.0, metavar="SHARE", help="Share of requests answered with 500."
)
@click.option(
    "--fault-reset",
    type=SHARE,
    default=0.0,
    metavar="SHARE",
    help="Share of requests whose connection is reset after half of the tokens.",
)
@click.option(
    "--fault-stall",
    type=SHARE,
    default=0.0,
    metavar="SHARE",
    help="Share of requests that fall silent after half of the tokens, connection open.",
)
@click.option(
    "--keep-alive",
    type=click.FloatRange(0),
    metavar="S",
    help="Close connections idle for so long; 0: after each answer, without saying so. Default: never.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Append a JSON line a request: when it came, when each token was sent, when the peer left.",
)
def command(
    *,
    host: str,
    port: int,
    tokens: int,
    echo: bool,
    seed: int,
    ttft: float,
    ttft_dist: str,
    ttft_sd: float,
    itl: float,
    itl_dist: str,
    itl_sd: float,
    lockstep: bool,
    role_chunk: str,
    api_key: str | None,
    models: str | None,
    faults: tuple[str, ...],
    fault_first: int | None,
    fault_429: float,
    retry_after: float,
    fault_500: float,
    fault_reset: float,
    fault_stall: float,
    keep_alive: float | None,
    log: str | None,
) -> None:
    """Serve streamed answers with known times, for demos, tests and CI without a key.

    Speaks the chat and text completions of the OpenAI API, streamed and not. The words of an answer follow
    from the prompt and --seed; max_tokens decides their number. GET /stats counts what was served.

    \b
    streamgauge mock --ttft 200 --itl 20
    streamgauge mock --itl 20 --itl-dist lognormal --itl-sd 8 --fault-429 0.05
    streamgauge mock --fault 503 --fault-first 3
    """
    from pathlib import Path

    from runner.commands.room import raise_file_limit
    from runner.mock.config import MockConfig, RoleChunk, Spread
    from runner.mock.server import run_forever

    flags = {"429": fault_429, "500": fault_500, "reset": fault_reset, "stall": fault_stall}
    try:
        config = MockConfig(
            ttft_ms=ttft,
            ttft_dist=Spread(ttft_dist),
            ttft_sd_ms=ttft_sd,
            itl_ms=itl,
            itl_dist=Spread(itl_dist),
            itl_sd_ms=itl_sd,
            lockstep=lockstep,
            tokens=tokens,
            echo=echo,
            seed=seed,
            role_chunk=RoleChunk(role_chunk),
            api_key=api_key,
            models=tuple(name.strip() for name in (models or "").split(",") if name.strip()),
            faults=_shares(faults, {name: share for name, share in flags.items() if share > 0}),
            fault_first=fault_first,
            retry_after_s=retry_after,
            keep_alive_s=keep_alive,
            log=Path(log) if log else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    raise_file_limit()  # a connection is a file
    try:
        run_forever(config, host, port, _ready)
    except OSError as error:
        raise click.ClickException(_explain(error, host, port, log)) from None


def _shares(given: tuple[str, ...], flags: dict[str, float]) -> dict[str, float]:
    """Names of faults and their shares of the requests, from both ways to ask for them."""
    shares = dict(flags)
    for text in given:
        name, equals, share = text.partition("=")
        if name in shares:
            also = f" (--fault-{name} is the same as --fault {name})" if name in flags else ""
            raise ValueError(f"--fault {name} is given twice{also}: leave one out")
        try:
            shares[name] = float(share) if equals else 1.0
        except ValueError:
            shares[name] = math.nan
        if not 0 <= shares[name] <= 1:
            raise ValueError(f"--fault {text}: the share must be a number from 0 to 1, as in {name}=0.2")
    return shares


def _ready(base_url: str) -> None:
    click.echo(f"listening on {base_url}")
    click.echo(f"try: streamgauge run PROMPTS --base-url {base_url} --model mock", err=True)
    click.echo(
        f'or:  curl {base_url}/completions -d \'{{"model":"mock","prompt":"hi","stream":true}}\'', err=True
    )
    click.echo("Ctrl-C stops it.", err=True)


def _explain(error: OSError, host: str, port: int, log: str | None) -> str:
    import errno
    import os
    import socket

    if log is not None and error.filename is not None:
        return f"cannot write the log {log}: {error.strerror}. Give --log a file that can be written."
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program. Stop that one, or choose another port with "
            "--port (0 picks a free one)."
        )
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {host}: it is no address of this machine. Choose another --host."
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"not allowed to listen on port {port} of {host}: choose a --port above 1023."
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return f"cannot listen on {host}:{port}: {reason}. Choose another --host or --port."
