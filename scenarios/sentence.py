"""A load in one sentence."""

from __future__ import annotations

from pathlib import Path

from scenarios.scenario import Load, Scenario, Time


def load_sentence(scenario: Scenario) -> str:
    """How hard, and for how long: `4 requests/s (poisson) for 60 s, at most 256 in flight`."""
    load = scenario.load
    what = "conversation" if scenario.prompts.multi_turn else "request"
    parts = [_shape(load, what) + _end(load, what) + _warm_up(load)]
    if load.max_in_flight is not None:
        parts.append(f"at most {load.max_in_flight:,} in flight")
    if load.cancel is not None and load.cancel.share > 0:
        leaves = (
            f"after {_count(load.cancel.tokens, 'token')}"
            if load.cancel.tokens is not None
            else f"without a token within {_time(load.cancel.patience)}"
        )
        parts.append(f"{load.cancel.share * 100:g} % leave {leaves}")
    return ", ".join(parts)


def _shape(load: Load, what: str) -> str:
    match load.executor:
        case "constant-concurrency":
            return f"{_count(load.concurrency, what)} at once"
        case "constant-arrival-rate":
            return f"{load.rate:g} {what}{'' if load.rate == 1 else 's'}/s ({_arrival(load)})"
        case "trace":
            kind = f" ({load.trace_format})" if load.trace_format is not None else ""
            speed = f" at {load.speed:g} times its speed" if load.speed != 1 else ""
            return f"a replay of {Path(load.trace or '').name}{kind}{speed}"
    unit = f"{what}s at once" if load.executor == "ramping-concurrency" else f"{what}s/s ({_arrival(load)})"
    steps = ", ".join(f"to {stage.target:g} in {_time(stage.duration)}" for stage in load.stages)
    return f"{unit} from {load.start:g} {steps}"


def _arrival(load: Load) -> str:
    return f"gamma, burstiness {load.burstiness:g}" if load.arrival == "gamma" else load.arrival


def _end(load: Load, what: str) -> str:
    if load.duration is not None:
        return f" for {_time(load.duration)}"
    if load.requests is None:
        return ""
    is_count = load.executor == "constant-concurrency"
    return f", {_count(load.requests, what)} in all" if is_count else f" for {_count(load.requests, what)}"


def _warm_up(load: Load) -> str:
    if load.warmup is not None and load.warmup_s:
        return f" after {_time(load.warmup)} of warm-up"
    return f" after {_count(load.warmup_requests, 'request')} of warm-up" if load.warmup_requests else ""


def _count(n: int | None, noun: str) -> str:
    return f"{n or 0:,} {noun}" if n == 1 else f"{n or 0:,} {noun}s"


def _time(value: Time | None) -> str:
    """As it was written, with a space before the unit; a plain number is of seconds."""
    text = str(value).strip()
    number = text.rstrip("hms ")
    unit = text[len(number) :].strip() or "s"
    return f"{number} {'min' if unit == 'm' else unit}"
