"""How much a load asks for in all, as far as the scenario says it."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.bodies import CAPS
from scenarios.scenario import Lengths, Load, Scenario
from scenarios.trace import TraceRow


def events_per_s(scenario: Scenario, rows: Sequence[TraceRow] | None = None) -> float | None:
    """Tokens a second that a server which keeps up would send at the load's highest rate.

    `None` where nothing says it: how fast a closed loop goes is the server's affair, and an answer without a
    limit has any length.

    Args:
        scenario: with its load.
        rows: of the trace, where it replays one.
    """
    rate, tokens = highest_rate(scenario.load, rows), _tokens(scenario, rows)
    return None if rate is None or tokens is None else rate * tokens


def highest_rate(load: Load, rows: Sequence[TraceRow] | None = None) -> float | None:
    """Requests a second of an open loop, at most; `None` where nobody can tell. Of a trace it is the mean."""
    if load.executor == "constant-arrival-rate":
        return load.rate
    if load.executor == "ramping-arrival-rate":
        return max([load.start, *(stage.target for stage in load.stages)])
    if load.executor == "trace" and rows and rows[-1].at_s > rows[0].at_s:
        return len(rows) / (rows[-1].at_s - rows[0].at_s) * load.speed
    return None


def most_streams(load: Load) -> float | None:
    """Requests at once of a closed loop, at most; `None` of an open one, whose server decides that."""
    if load.executor == "constant-concurrency":
        return load.concurrency
    if load.executor == "ramping-concurrency":
        return max([load.start, *(stage.target for stage in load.stages)])
    return None


def _tokens(scenario: Scenario, rows: Sequence[TraceRow] | None) -> float | None:
    known = [row.output_tokens for row in rows or () if row.output_tokens is not None]
    if known:
        return sum(known) / len(known)
    drawn = scenario.prompts.output_tokens
    if drawn is not None:
        return drawn.mean if isinstance(drawn, Lengths) else drawn
    return next((cap for name in CAPS if type(cap := scenario.request.get(name)) is int), None)
