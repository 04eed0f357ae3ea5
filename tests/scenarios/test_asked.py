"""How many tokens a second a load asks for."""

from __future__ import annotations

import pytest

from scenarios.asked import events_per_s, most_streams
from scenarios.scenario import Lengths, Load, Prompts, Scenario, Stage
from scenarios.trace import TraceRow

RATE = Load(executor="constant-arrival-rate", rate=8.0)
RAMP = Load(
    executor="ramping-arrival-rate",
    start=2,
    stages=[Stage(duration=1, target=5), Stage(duration=1, target=0)],
)
TRACE = Load(executor="trace", trace="x", speed=2.0)
ROWS = [TraceRow(at_s=float(at), output_tokens=tokens) for at, tokens in ((0, 10), (1, 20), (4, 30))]


@pytest.mark.parametrize(
    ("load", "prompts", "request_", "rows", "found"),
    [
        (RATE, Prompts(output_tokens=100), {}, None, 800.0),
        (RATE, Prompts(output_tokens=Lengths(mean=50.0, stdev=9)), {}, None, 400.0),
        (RATE, Prompts(), {"max_tokens": 10}, None, 80.0),
        (RATE, Prompts(), {"temperature": 0}, None, None),  # an answer of any length
        (RAMP, Prompts(output_tokens=10), {}, None, 50.0),  # at its highest
        (Load(concurrency=64), Prompts(output_tokens=100), {}, None, None),  # as fast as the server is
        (TRACE, Prompts(), {}, ROWS, 3 / 4 * 2 * 20.0),
        (TRACE, Prompts(), {}, ROWS[:1], None),
    ],
)
def test_as_far_as_the_scenario_says_it(
    load: Load,
    prompts: Prompts,
    request_: dict[str, int],
    rows: list[TraceRow] | None,
    found: float | None,
) -> None:
    asked = events_per_s(Scenario(load=load, prompts=prompts, request=request_), rows)
    assert asked == (None if found is None else pytest.approx(found))


def test_streams_at_once_are_known_of_closed_loops_alone() -> None:
    ramp = Load(executor="ramping-concurrency", start=4, stages=[Stage(duration=1, target=9)])
    assert most_streams(Load(concurrency=64)) == 64
    assert most_streams(ramp) == 9
    assert most_streams(RATE) is most_streams(TRACE) is None
