"""What `run` and `bench` make of the flags they share: timers, certificates, prices, room for connections."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runner.prices import Prices
    from runner.timeouts import Timeouts

_TARGET_FDS = 4  # journal, its reserve and folder, of each target after the first
_ROOM_FDS = 64  # files, pipes and threads of our own beside the sockets


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


def need_connections(count: int, name: str, targets: int = 1, more: int = 0) -> None:
    """Have so many open at once, or a usage error that names what asked for them.

    Args:
        count: of each target.
        name: of the flag or key.
        targets: how many there are.
        more: files beside their connections.
    """
    most = most_connections(count, targets, more)
    if most < count:
        of = f" for each of {targets} targets" if targets > 1 else ""
        needed, allowed = (_files(connections, targets, more) for connections in (count, most))
        raise click.UsageError(
            f"{name} {count}{of} needs {needed} open files and this shell allows {allowed} "
            f"(ulimit -Hn). Raise that limit, or use {name} {max(most, 1)}."
        )


def _files(connections: int, targets: int, more: int) -> int:
    return targets * connections + (targets - 1) * _TARGET_FDS + more + _ROOM_FDS


def most_connections(wanted: int, targets: int = 1, more: int = 0) -> int:
    """How many of the wanted connections to each target can be open at once.

    The process's own limit is raised for them.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = _files(wanted, targets, more)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return wanted
    if hard == resource.RLIM_INFINITY or hard >= need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max((hard - _files(0, targets, more)) // targets, 1)
