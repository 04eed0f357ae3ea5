"""How `run` is spread: over processes of one machine, over shards that know nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from runner.commands.options import plural, say

if TYPE_CHECKING:
    from runner.on_ray import Cluster
    from runner.part import Part
    from runner.settings import Settings


def spreads(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        show_default="1; with --ray one a node",
        help="Processes to spread the streams over, where one core is not enough. Every limit holds over all "
        "of them together.",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Have the workers on a Ray cluster: auto (the one of this machine), HOST:6379 or "
        "ray://HOST:10001. Needs the extra `ray`, here and on every node.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        help="Send only part I (from 0) of N of the rows, by their ids; other processes send the others "
        "into the same run directory. Each takes 1/N of --rpm, --tpm and --max-cost. In a task of a Slurm "
        "array this is the default (slurm); none: all rows.",
    ),
]


def part_of(prompts: str, given: dict[str, Any]) -> Part | None:
    """The part of the rows this process sends, as asked for or as the task of a Slurm array says.

    Raises:
        click.UsageError: there is no such part, or not of such a run.
    """
    from runner.part import SLURM, PartError, part_of_slurm, read_part

    text = given["shard"]
    if text == "none" or given["dry_run"]:
        return None
    try:
        part = read_part(text) if text not in {None, "slurm"} else part_of_slurm(os.environ)
    except PartError as exc:
        end = " (--shard I/N says it by hand, --shard none sends all rows)" if text in {None, "slurm"} else ""
        raise click.UsageError(f"--shard: {exc}{end}") from None
    if part is None:
        if text == "slurm":
            raise click.UsageError(
                f"--shard slurm: {SLURM}ID is not set, so this is no task of a Slurm array"
            )
        return None
    if text in {None, "slurm"}:
        if part.of == 1 and text is None:
            return None  # an array of one task: nothing is shared
        say(f"note: shard {part} of the rows, as {SLURM}ID says (--shard none sends all)")
    _check(part, prompts, given)
    return part


def cluster_of(settings: Settings, given: dict[str, Any]) -> tuple[Cluster | None, Settings]:
    """The cluster asked for, connected, and the settings with as many workers as there shall be.

    Raises:
        ClusterError: it cannot be used.
    """
    if given["ray"] is None or given["dry_run"]:
        return None, settings
    from msgspec.structs import replace

    from runner.on_ray import connect

    cluster = connect(given["ray"], say)
    places = cluster.places()
    workers = given["workers"] or len(places)
    room = sum(place.cpus for place in places)
    if workers > room:
        cluster.close()
        raise click.UsageError(
            f"--workers {workers}: the {len(places)} nodes of that cluster have {room} CPUs, and a worker "
            "takes one"
        )
    hosts = {place.ip for place in places}
    say(f"note: {plural(workers, 'worker')} on {plural(len(places), 'node')} of a Ray cluster")
    if len(hosts) > 1 and any(_is_local(url) for url in given["base_urls"]):
        say("note: --base-url is this machine's own name for itself: every node takes it for its own")
    return cluster, replace(settings, workers=workers)


def _is_local(url: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _check(part: Part, prompts: str, given: dict[str, Any]) -> None:
    why = None
    if prompts == "-":
        why = "standard input is one process's alone: name a file that all of them can read"
    elif given["fresh"]:
        why = "--fresh would set aside what other shards write: rename the run directory, or choose -o OTHER"
    elif given["ray"] is not None:
        why = "--ray spreads all rows over its cluster: give one of the two"
    elif (given["workers"] or 1) > 1:
        why = "--workers is for one process that has all rows: start more shards instead"
    if why is not None:
        raise click.UsageError(f"--shard {part}: {why}")


def of_shard(settings: Settings, part: Part) -> Settings:
    """What each of several processes may do of what all of them may: limits hold over all shards together."""
    from msgspec.structs import replace

    shares = {"rpm": settings.rpm, "tpm": settings.tpm, "max_cost": settings.max_cost}
    flags = ["--" + name.replace("_", "-") for name, value in shares.items() if value is not None]
    if flags:
        say(f"note: of {' and '.join(flags)} this shard takes 1/{part.of}: it is the limit of all {part.of}")
    return replace(settings, **{name: value and value / part.of for name, value in shares.items()})
