"""What `run` and `bench` make of the flags they share: timers, certificates, prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runner.prices import Prices
    from runner.timeouts import Timeouts


def timeouts_of(given: dict[str, Any]) -> Timeouts:
    """The five timers."""
    from runner.timeouts import Timeouts

    return Timeouts(
        connect=given["connect_timeout"],
        first_token=given["first_token_timeout"],
        token_gap=given["token_timeout"],
        byte_idle=given["idle_timeout"],
        total=given["timeout"],
    )


def check_ca_file(path: str | None) -> None:
    """A usage error where `--ca-file` cannot be used."""
    if path is None:
        return
    import ssl

    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        reason = "it holds no certificate" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise click.UsageError(f"--ca-file {path}: {reason}") from None


def prices_given(price: str | None) -> Prices | None:
    """What `--price` says."""
    from runner.prices import PriceError, read_prices

    if price is None:
        return None
    try:
        return read_prices(price)
    except PriceError as exc:
        raise click.UsageError(str(exc)) from None
