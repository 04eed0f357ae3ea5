"""`streamgauge calibrate`: this machine's own noise floor, and the largest load it can carry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runner.commands.options import say, show

if TYPE_CHECKING:
    from runner.accuracy import Off
    from runner.calibrate import Calibration, Largest


@click.command("calibrate")
@click.option(
    "--streams", type=click.IntRange(1), default=100, show_default=True, help="Answers streamed at once."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=100.0,
    show_default=True,
    help="Tokens a second, of each.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    help="How long the noise floor is measured.",
)
@click.option(
    "--limit",
    "limit_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long all of it may take, search included.",
)
@click.option("--no-search", is_flag=True, help="The noise floor only, not the largest load.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, streams: int, rate: float, seconds: float, limit_s: float, no_search: bool, as_json: bool
) -> None:
    """Measure what this machine adds to every time, before it is blamed on a server.

    The mock server runs in a process of its own and logs when it sends each token; the client that `run` and
    `bench` use stamps their arrival. The difference is the noise floor. Then the load is doubled, halved and
    narrowed down to the largest whose tokens are stamped within 1 ms and within 5 ms of being sent, at p99.
    Nothing leaves this machine.
    """
    from runner.calibrate import CalibrationError, calibrate

    say(f"calibrating at {streams:,} streams x {rate:g} tokens/s, at most about {limit_s + seconds:.0f} s")
    try:
        found = calibrate(
            streams, rate, seconds, search=not no_search, total_s=limit_s, tell=lambda text: say(f"  {text}")
        )
    except CalibrationError as exc:
        raise click.ClickException(str(exc)) from None
    _keep(found)
    if as_json:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    else:
        text = "\n".join(lines(found))
    sys.exit(0 if show(f"{text}\n") else 1)


def _keep(found: Calibration) -> None:
    """Keep what this machine carries, for `bench` to warn by."""
    from runner.carried import keep

    # What the mock could not send in time says nothing of the client.
    last = found.largest[-1] if found.largest else None
    if last is not None and last.streams and not any("bounded" in note for note in found.notes):
        keep(last.events_per_s)


def lines(found: Calibration) -> list[str]:
    """The result for people."""
    floor = found.floor
    seen = floor.accuracy
    out = [f"NOTE {note}." for note in found.notes]
    load = f"{floor.streams:,} streams x {floor.rate:g} tokens/s ({floor.events_per_s:,.0f} tokens/s)"
    out += [
        f"noise floor at {load}, {seen.first.n:,} answers",
        f"  {'':<48}{'p50':>10}{'p99':>10}",
        _row("first token, stamped after it was sent", seen.first),
        _row("any token, stamped after it was sent", seen.token),
        _row("gap between tokens (ITL), off by", seen.gap),
        _row("TTFT, off by (the request's way is in it)", seen.ttft),
        f"  {'lag of the client loop':<48}{'':>10}{_ms(floor.lag_p99_ms):>10}",
        _row("the mock itself sent late by (not in the above)", floor.mock_late),
        f"  client CPU: {floor.cpu_us:.0f} us a token, {floor.cpu_share:.0%} of a core",
    ]
    if found.largest:
        out.append(f"largest load, at {floor.rate:g} tokens/s a stream, by p99 of receipt minus send")
        out += [_largest(entry) for entry in found.largest]
    return out


def _row(what: str, off: Off) -> str:
    return f"  {what:<48}{_ms(off.p50_ms):>10}{_ms(off.p99_ms):>10}"


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f} ms"


def _largest(entry: Largest) -> str:
    more = " or more" if entry.at_least else ""
    if entry.streams == 0:
        return f"  within {entry.error_ms:g} ms: none{', as far as was searched' if entry.at_least else ''}"
    return (
        f"  within {entry.error_ms:g} ms: {entry.streams:,} streams, {entry.events_per_s:,.0f} tokens/s{more}"
    )
