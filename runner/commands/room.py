"""Room for connections: open files and ports, looked at before anything is sent.

Files are this process's: its soft limit is raised as far as the hard one goes. Ports are this machine's: each
connection to one host and port takes one of its own, and keeps it for a while after it is closed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

_TARGET_FDS = 4  # journal, its reserve and folder, of each target after the first
_ROOM_FDS = 64  # files, pipes and threads of our own beside the sockets
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MOST_FILES = 10_240  # what macOS gives at most, where the hard limit says infinity
_WORKERS_A_CORE, _FEW_WORKERS = 4, 16
TIME_WAIT_S = 60  # how long Linux keeps the port of a connection that this side closed


def need_workers(count: int, cores: int | None = None) -> None:
    """Have so many processes, or a usage error.

    Args:
        count: of them; 1 is none beside this one.
        cores: of this machine, where they are known already.
    """
    if count == 1:
        return
    if sys.platform == "win32":
        raise click.UsageError("--workers needs socket pairs, which Windows has not: leave it out")
    cores = cores or os.cpu_count() or 1
    most = max(_FEW_WORKERS, _WORKERS_A_CORE * cores)
    if count > most:  # each takes 50 MB and half a second of a core, and they would take turns
        raise click.UsageError(
            f"--workers {count} is more than this machine can start: it has {cores} "
            f"core{'s' * (cores > 1)}, and one worker a core is enough. At most {most} are taken here."
        )


def need_connections(
    count: int, name: str, targets: int = 1, more: int = 0, endpoints: int = 1, workers: int = 1
) -> None:
    """Have so many open at once, or a usage error that names what asked for them.

    Args:
        count: of each target.
        name: of the flag or key.
        targets: how many there are.
        more: files beside their connections.
        endpoints: of each target, which share its connections.
        workers: processes that share them, each with a limit of files of its own. Ports are the machine's.
    """
    ports = free_ports()
    if ports is not None and ports * endpoints < count:
        raise click.UsageError(
            f"{name} {count} needs as many ports, and this machine has {ports} for connections to one host "
            f"and port ({_PORT_RANGE}). Widen that range "
            f"(sysctl -w net.ipv4.ip_local_port_range='1024 65535'), or use {name} {ports * endpoints}."
        )
    share = -(-count // workers)
    most = most_connections(share, targets, more)
    if most < share:
        of = f" for each of {targets} targets" if targets > 1 else ""
        over = f" in each of {workers} workers" if workers > 1 else ""
        needed, allowed = (_files(connections, targets, more) for connections in (share, most))
        less = f"use {name} {max(most, 1) * workers}"
        less = f"or {less}" if workers == 1 else f"{less}, or --workers {-(-count // max(most, 1))}"
        raise click.UsageError(
            f"{name} {count}{of} needs {needed} open files{over} and this shell allows {allowed} (ulimit "
            f"-Hn). Raise that limit (ulimit -n {needed}, as root or by limits.conf), {less}."
        )


def caution_of_ports(opens_per_s: float, target: str) -> str | None:
    """What to know before so many requests a second go to one host and port; `None` where it is nothing.

    Whether the server keeps connections nobody can tell beforehand. If it does not, each request opens one.
    """
    ports = free_ports()
    if ports is None or opens_per_s * TIME_WAIT_S <= ports:
        return None
    return (
        f"{opens_per_s:,.0f} requests/s to {target}, and this machine can open {ports / TIME_WAIT_S:,.0f} "
        f"connections/s to one host and port for long ({ports:,} ports, each kept {TIME_WAIT_S} s after it "
        "is closed): the server has to keep connections. The report's line `connections` says if it does"
    )


def free_ports() -> int | None:
    """How many connections to one host and port this machine can have; `None` where it does not say."""
    try:
        first, last = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    return max(last - first + 1, 0)


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


def raise_file_limit() -> None:
    """As many open files as this process may have: for a server, which others connect to."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in {resource.RLIM_INFINITY, hard}:
        most = hard if hard != resource.RLIM_INFINITY else _MOST_FILES
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
