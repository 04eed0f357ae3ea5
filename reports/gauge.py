"""What a session says of its load and its own fitness. Anybody may have written it: odd values are absent."""

from __future__ import annotations

import math
from typing import Any

from reports.bench import Cpu, Lag, Load, Pauses, Worker
from reports.cells import several
from runner.store import Manifest, Session

OPEN = frozenset({"constant-arrival-rate", "ramping-arrival-rate", "trace"})

_COUNTS = (
    *("scheduled", "scheduled_warmup", "sent", "arrived", "unsent", "held", "max_in_flight", "concurrency"),
    *("peak_in_flight", "schedule_begin_ns", "schedule_end_ns", "steady_begin_ns", "steady_end_ns"),
)


def number(value: Any) -> float | None:
    """A finite number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def whole(value: Any) -> int | None:
    """A whole number from 0 on."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def table(value: Any) -> dict[str, Any]:
    """A mapping; an empty one for anything else."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def session_of(manifest: Manifest) -> Session | None:
    """The session whose load is reported: the last that says one, else the last."""
    told = [session for session in manifest.sessions if table(session.gauge.get("load"))]
    found = told or manifest.sessions
    return found[-1] if found else None


def read_load(manifest: Manifest, session: Session | None) -> Load:
    """The load of a session."""
    said = table(session.gauge.get("load")) if session else {}
    asked = table(manifest.scenario.get("load"))
    executor = said.get("executor", asked.get("executor"))
    load = Load(
        executor=executor if isinstance(executor, str) else None,
        mean_gap_ms=number(said.get("mean_gap_ms")),
        unsent_wait_s=number(said.get("unsent_wait_s")),
        multi_turn=table(manifest.scenario.get("prompts")).get("multi_turn") is True,
    )
    for name in _COUNTS:
        setattr(load, name, whole(said.get(name)))
    if load.arrived is None and load.multi_turn:
        known = load.scheduled is not None and load.unsent is not None
        load.arrived = max(0, (load.scheduled or 0) - (load.unsent or 0)) if known else None
    load.was_full = said.get("was_full") is True
    load.is_open = load.executor in OPEN
    load.sentence = sentence(manifest.scenario, load)
    if session is not None and session.ended_by != "finished":
        load.ended_early = session.ended_by or "killed"
    return load


def window(load: Load) -> tuple[int, int] | None:
    """The steady window: of an open loop its measured schedule, of a closed one what the load says."""
    spans = [(load.steady_begin_ns, load.steady_end_ns)]
    if load.is_open:
        spans.append((load.schedule_begin_ns, load.schedule_end_ns))
    for begin, end in spans:
        if begin is not None and end is not None and end > begin:
            return begin, end
    return None


def read_lag(gauge: dict[str, Any]) -> Lag | None:
    """How late the loop ran; `None` where it was not measured."""
    said = table(gauge.get("lag"))
    n, p99 = whole(said.get("n")), number(said.get("p99_ms"))
    if not n or p99 is None:
        return None
    return Lag(
        n=n,
        p50_ms=number(said.get("p50_ms")),
        p99_ms=p99,
        max_ms=number(said.get("max_ms")),
        missed=whole(said.get("missed")),
    )


def read_gc(gauge: dict[str, Any]) -> Pauses | None:
    """Garbage collection."""
    said = table(gauge.get("gc"))
    pauses = whole(said.get("pauses"))
    if pauses is None:
        return None
    return Pauses(pauses=pauses, total_ms=number(said.get("total_ms")), max_ms=number(said.get("max_ms")))


def read_cpu(gauge: dict[str, Any]) -> Cpu | None:
    """CPU of the client."""
    said = table(gauge.get("cpu"))
    user, system, wall = (number(said.get(name)) for name in ("user_s", "system_s", "wall_s"))
    if user is None or system is None:
        return None
    return Cpu(user_s=user, system_s=system, wall_s=wall, share=(user + system) / wall if wall else None)


def read_workers(gauge: dict[str, Any]) -> list[Worker]:
    """The processes a load was spread over; none where it was one."""
    told = gauge.get("workers")
    found = [table(one) for one in told] if isinstance(told, list) else []
    return [_worker(place, one) for place, one in enumerate(found)]


def _worker(place: int, said: dict[str, Any]) -> Worker:
    lag, cpu, number_, died = read_lag(said), read_cpu(said), whole(said.get("shard")), said.get("died")
    return Worker(
        number=place if number_ is None else number_,
        lag_p99_ms=None if lag is None else lag.p99_ms,
        cpu_share=None if cpu is None else cpu.share,
        died=died if isinstance(died, str) and died else None,
        in_flight=whole(said.get("in_flight")),
    )


_WORDS = {
    "constant-concurrency": "{concurrency} at once",
    "ramping-concurrency": "a changing number at once ({stages})",
    "constant-arrival-rate": "{rate:g} requests/s, {arrival} arrivals",
    "ramping-arrival-rate": "a changing rate ({stages}), {arrival} arrivals",
    "trace": "arrivals of {trace}",
}


def _stages(asked: dict[str, Any]) -> str:
    stages = [table(stage) for stage in asked.get("stages") or []]
    steps = [f"to {stage.get('target', '?'):g} in {_time(stage.get('duration'))}" for stage in stages]
    return ", ".join([f"from {asked.get('start') or 0:g}", *steps])


def _time(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g} s"


def sentence(scenario: dict[str, Any], load: Load) -> str | None:
    """The load in words: the scenario's own, else made from its keys."""
    own = scenario.get("sentence")
    if isinstance(own, str) and own:
        return own
    asked = table(scenario.get("load"))
    try:
        return _sentence(asked, load)
    except (KeyError, TypeError, ValueError, AttributeError):
        return load.executor  # hand-written: say what can be said


def _sentence(asked: dict[str, Any], load: Load) -> str | None:
    words = _WORDS.get(load.executor or "")
    if words is None:
        return load.executor
    concurrency = asked.get("concurrency") or load.concurrency or "?"
    parts = [
        words.format(
            concurrency=concurrency,
            rate=asked.get("rate") or math.nan,
            arrival=asked.get("arrival") or "poisson",
            stages=_stages(asked),
            trace=asked.get("trace") or "a trace",
        )
    ]
    if asked.get("duration") is not None:
        parts.append(f"for {_time(asked['duration'])}")
    if asked.get("requests") is not None:
        parts.append(several(asked["requests"], "request"))
    if asked.get("warmup") is not None:
        parts.append(f"after {_time(asked['warmup'])} of warm-up")
    elif asked.get("warmup_requests"):
        parts.append(f"after {asked['warmup_requests']:,} warm-up requests")
    if load.is_open and (asked.get("max_in_flight") or load.max_in_flight):
        parts.append(f"at most {asked.get('max_in_flight') or load.max_in_flight:,} in flight")
    return ", ".join(parts)
