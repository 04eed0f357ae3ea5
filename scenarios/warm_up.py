"""The warm-up of a load that names none, for whoever cannot do without one."""

from __future__ import annotations

import math

import msgspec

from scenarios.arrivals import measured_s
from scenarios.scenario import Load

SHARE = 10
"""One part in so many of the load, on top of it."""
MOST_REQUESTS = 200
MOST_S = 10.0


def with_warm_up(load: Load, rows: int = 0) -> Load:
    """A load with a warm-up: its own where it names one (`warmup_requests = 0` is one: none).

    Else a tenth of it: of its requests (all places once at least, at most 200) or of its time (at most 10 s).
    A trace's is its first rows.

    Args:
        load: as checked.
        rows: of the trace, where it replays one.
    """
    if load.warmup is not None or load.warmup_requests is not None:
        return load
    requests = load.requests or (rows if load.executor == "trace" and load.duration is None else 0)
    if requests:
        least = load.concurrency or 1
        tenth = min(MOST_REQUESTS, math.ceil(requests / SHARE))
        return msgspec.structs.replace(load, warmup_requests=max(least, tenth))
    length_s = measured_s(load) or 0.0
    return msgspec.structs.replace(load, warmup=round(min(MOST_S, length_s / SHARE), 3))


def longer(one: Load, other: Load) -> tuple[Load, Load]:
    """Both loads with the longer one of their warm-ups, where those are of one kind; else as they are."""
    if one.warmup_requests is not None and other.warmup_requests is not None:
        most = max(one.warmup_requests, other.warmup_requests)
        return (
            msgspec.structs.replace(one, warmup_requests=most),
            msgspec.structs.replace(other, warmup_requests=most),
        )
    if one.warmup_s is not None and other.warmup_s is not None:
        longest = one.warmup if one.warmup_s >= other.warmup_s else other.warmup
        return msgspec.structs.replace(one, warmup=longest), msgspec.structs.replace(other, warmup=longest)
    return one, other
