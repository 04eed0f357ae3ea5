"""How many token events a second one process carries on this machine: measured once, or a cautious guess.

`streamgauge calibrate` keeps what it found in the user's cache folder, for `bench` to warn by. It is a hint
before the start; whether the client was fit to measure, the run's own records say.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import msgspec

CAUTIOUS_PER_S = 15_000.0
"""At 30 to 55 us of CPU a token event (docs/performance.md) this is half to four fifths of a core."""


STREAM_PER_S = 30.0
"""Tokens a second that a stream may well bring; many servers are faster while they have few of them."""


class Carried(msgspec.Struct, frozen=True):
    """What one process carries with tokens stamped within 5 ms of being sent, at p99."""

    events_per_s: float
    host: str = ""
    """Where it was measured; empty: it was not."""


def place() -> Path:
    """The file it is kept in."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "streamgauge" / "carried.json"


def carried() -> Carried:
    """What is known of this machine."""
    try:
        found = msgspec.json.decode(place().read_bytes(), type=Carried)
    except (OSError, RuntimeError, msgspec.MsgspecError):  # RuntimeError: nobody knows the home folder
        return Carried(CAUTIOUS_PER_S)
    here = found.host == platform.node() and found.events_per_s > 0
    return found if here else Carried(CAUTIOUS_PER_S)


def keep(events_per_s: float) -> None:
    """Keep what was measured here. A folder that cannot be written costs the hint, and nothing else."""
    with contextlib.suppress(OSError, RuntimeError):
        file = place()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(Carried(events_per_s, platform.node())))


def heavy(asked_per_s: float, workers: int, known: Carried, cores: int | None = None) -> list[str]:
    """What to say of a load before it starts; nothing where it is carried.

    Args:
        asked_per_s: token events a second.
        workers: processes it is spread over.
        known: of this machine.
        cores: of it.
    """
    cores = cores or _cores()
    if asked_per_s <= known.events_per_s * min(workers, cores):
        return []
    asks = f"this load asks for about {asked_per_s:,.0f} token events/s"
    what = _way_out(asked_per_s, known, cores, "rate")
    return [f"{asks}, and one process here carries about {_each(known, workers, cores)}: {what}"]


def crowded(streams: float, workers: int, known: Carried, cores: int | None = None) -> list[str]:
    """The same of a closed loop, whose server decides how much it is: from which speed on it is too much.

    Args:
        streams: at once.
        workers: processes they are spread over.
        known: of this machine.
        cores: of it.
    """
    cores = cores or _cores()
    most = known.events_per_s * min(workers, cores) / streams if streams else STREAM_PER_S
    if most >= STREAM_PER_S:
        return []
    carries = f"one process here carries about {_each(known, workers, cores, ' token events/s')}"
    too_fast = f"where each of {streams:,.0f} streams brings more than {most:,.3g} tokens/s, that is too much"
    what = _way_out(STREAM_PER_S * streams, known, cores, "concurrency")
    return [f"{carries}, and {too_fast}. For {STREAM_PER_S:g} tokens/s each, {what}"]


def _each(known: Carried, workers: int, cores: int, unit: str = "") -> str:
    each = known.events_per_s
    how = "as calibrated" if known.host else "a cautious figure; `streamgauge calibrate` measures it"
    over = f", and so {workers} of them {each * min(workers, cores):,.0f}" if workers > 1 else ""
    return f"{each:,.0f}{unit} ({how}){over}"


def _way_out(asked_per_s: float, known: Carried, cores: int, knob: str) -> str:
    more = -(-asked_per_s // known.events_per_s)
    if more <= cores:
        return f"use --workers {more:.0f}"
    these = f"its {cores} core{'s' if cores > 1 else ''} carry less than that with any --workers"
    return f"{these}: lower the {knob}, or use more machines"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
