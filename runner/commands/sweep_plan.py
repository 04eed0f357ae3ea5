"""What `sweep --dry-run` says: how many points, how long, what it may cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.forecast_words import cost_words, time_words
from runner.commands.options import plural

if TYPE_CHECKING:
    from runner.commands.sweep_setup import Plan
    from runner.forecast import RunForecast


class Forecast(msgspec.Struct, kw_only=True):
    """The whole sweep. `None` where only the runs can tell."""

    points: int  # of a search: about as many as any takes
    at_most: bool
    requests: int | None
    seconds: float | None  # without the answers that are still coming when each point's load ends
    most_s: float | None
    rounds: float | None  # answers one after the other, where nothing else says how long it takes
    most_cost: float | None
    likely_cost: float | None
    why_no_cost: str | None = None


def forecast_of(plan: Plan) -> Forecast:
    """What the sweep will take, warm-up and probes included."""
    from runner.forecast import total

    found = _of_points(plan)
    seconds = total([one.seconds for one in found])
    grace_s = sum(one.grace_s for one in found)
    requests = total([one.requests for one in found])
    return Forecast(
        points=len(found),
        at_most=plan.search is not None,
        requests=None if requests is None else int(requests),
        seconds=seconds,
        most_s=None if seconds is None else seconds + grace_s,
        rounds=total([one.rounds for one in found]),
        most_cost=total([one.most_cost for one in found]),
        likely_cost=total([one.likely_cost for one in found]),
        why_no_cost=next((one.why_no_cost for one in found if one.why_no_cost), None),
    )


def _of_points(plan: Plan) -> list[RunForecast]:
    from runner.commands.sweep_setup import changes_of, check_point, new_point
    from runner.forecast import forecast_run
    from runner.search import tried_at_most

    def one(point: Any) -> RunForecast:
        checked = check_point(plan, changes_of(plan, point))
        salt = plan.sweep.salt
        workload = checked.workload if salt is None else checked.workload.salted(salt)
        return forecast_run(checked.scenario, workload, checked.course, checked.prices)

    until = plan.sweep.until
    if until is None:
        return [one(point) for point in plan.sweep.points]
    tried = Counter(tried_at_most(plan.search))
    by_value = {value: one(new_point(plan.sweep, 1, {until.key: value})) for value in tried}
    return [by_value[value] for value, times in tried.items() for _ in range(times)]


def plan_text(plan: Plan) -> str:
    """The plan for people."""
    from runner.commands.sweep_setup import describe

    found = forecast_of(plan)
    points = f"at most about {plural(found.points, 'point')}" if found.at_most else None
    lines = [describe(plan), *([f"points: {points}, one after the other"] if points else [])]
    lines += [f"  {point.run}" for point in plan.sweep.points[:12]]
    if len(plan.sweep.points) > 12:
        lines.append(f"  and {len(plan.sweep.points) - 12} more")
    requests = "as many as are answered in the time" if found.requests is None else f"{found.requests:,}"
    lines += [f"requests: {requests}", f"time: {time_words(found, 'points', at_most=found.at_most)}"]
    lines += [f"cost: {cost_words(found, found.why_no_cost)}", "nothing was sent"]
    return "\n".join(lines) + "\n"


def plan_json(plan: Plan) -> str:
    """The same for programs."""
    found: dict[str, Any] = {
        "plan": msgspec.to_builtins(plan.sweep),
        "forecast": msgspec.to_builtins(forecast_of(plan)),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
