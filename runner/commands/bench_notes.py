"""What a bench says of its load before anything of it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.commands.room import caution_of_ports

if TYPE_CHECKING:
    from runner.commands.bench_setup import Checked
    from runner.drive import Settings
    from scenarios.scenario import Scenario
    from scenarios.workload import Workload


def notes_on(checked: Checked, settings: Settings, targets: int = 1) -> list[str]:
    """What to tell before anything is sent to so many targets."""
    from runner.carried import carried, crowded, heavy
    from runner.commands.bench_setup import workers_of
    from scenarios.asked import events_per_s, highest_rate, most_streams
    from scenarios.cautions import warnings

    scenario = checked.scenario
    asked, workers = events_per_s(scenario, checked.rows), workers_of(settings, checked.course)
    streams = most_streams(scenario.load)
    idle = f"--workers {settings.workers}: this load has work for {workers}, and so many are used"
    ports = caution_of_ports(highest_rate(scenario.load, checked.rows) or 0.0, checked.target.host)
    return [
        *warnings(scenario),
        *([idle] if workers < settings.workers else []),
        *_left_out(checked.workload),
        *_unfitted(scenario, settings),
        *([] if ports is None else [ports]),
        *([] if asked is None else heavy(asked * targets, workers, carried())),
        *([] if streams is None else crowded(streams * targets, workers, carried())),
    ]


def _left_out(workload: Workload) -> list[str]:
    count = workload.describe().left_out
    return [f"{count:,} rows of the file cannot be sent and are left out"] if count else []


def _unfitted(scenario: Scenario, settings: Settings) -> list[str]:
    from runner.fit import is_fitted

    if settings.include_usage or not is_fitted(scenario):
        return []
    return ["the lengths of prompts are a guess, a word a token: --no-usage asks the server for no counts"]
