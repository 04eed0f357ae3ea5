"""What `ab` says of its plan: `--dry-run`, and the lines it begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.forecast_words import cost_words, time_words

if TYPE_CHECKING:
    from runner.ab import Ab
    from runner.commands.ab_setup import Sides
    from runner.forecast import Forecast, RunForecast


def forecast_of(ab: Ab, sides: Sides) -> Forecast:
    """What the comparison will take."""
    from runner.fit import needs_probes
    from runner.forecast import forecast, forecast_run

    a, b = (
        forecast_run(side.scenario, _asked(side.workload, sides.salt), side.course, side.prices)
        for side in (sides.checked["a"], sides.checked["b"])
    )
    usage = sides.settings.include_usage
    probed = any(needs_probes(side.scenario, usage) for side in sides.checked.values())
    return forecast(a, b, ab.pairs, probed=probed)


def plan_text(ab: Ab, sides: Sides) -> str:
    """The plan for people."""
    found = forecast_of(ab, sides)
    lines = [f"{found.runs} runs in {ab.pairs} pairs, one after the other ({ab.order}): {_order(ab)}"]
    for name, told in ab.sides.items():
        lines.append(f"  {name}: {told.model or 'the models of the rows'} at {told.base_url}: {told.load}")
    lines += [f"differs on purpose: {_declared(ab)}"] if ab.declared else []
    lines += [f"requests: {_requests(found)}", f"time: {time_words(found, 'pair')}"]
    why_not = found.a.why_no_cost or found.b.why_no_cost
    lines += [f"cost: {cost_words(found, why_not)}"]
    return "\n".join([*lines, "nothing was sent"]) + "\n"


def plan_json(ab: Ab, sides: Sides) -> str:
    """The same for programs."""
    found: dict[str, Any] = {
        "plan": msgspec.to_builtins(ab),
        "forecast": msgspec.to_builtins(forecast_of(ab, sides)),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


def _asked(workload: Any, salt: str | None) -> Any:
    return workload if salt is None else workload.salted(salt)


def _order(ab: Ab) -> str:
    pairs = [f"{one.side} {other.side}" for one, other in zip(ab.runs[::2], ab.runs[1::2], strict=True)]
    return ", ".join(pairs[:4]) + (", ..." if len(pairs) > 4 else "")


def _declared(ab: Ab) -> str:
    return ", ".join(ab.declared)


def _requests(found: Forecast) -> str:
    def each(side: RunForecast) -> str:
        if side.requests is None:
            return "as many as are answered in its time"
        return f"{side.requests:,}, {side.warmup or 0:,} of them warm-up"

    a, b = each(found.a), each(found.b)
    per_run = f"each run {a}" if a == b else f"a run of a {a}; of b {b}"
    return per_run if found.requests is None else f"{found.requests:,} ({per_run})"
