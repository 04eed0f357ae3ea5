"""How long made-up prompts really are: a few requests of one answer token, and what the server counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from runner.client import Client
from runner.record import tokens
from scenarios.scenario import Scenario
from scenarios.synthetic import Fit, fit, probe_bodies


def is_fitted(scenario: Scenario) -> bool:
    """Whether prompts are made up, and nothing local says how long they are."""
    prompts = scenario.prompts
    return prompts.file is None and prompts.tokenizer is None


def needs_probes(scenario: Scenario, include_usage: bool = True) -> bool:
    """Whether the server is to be asked how long made-up prompts are: it says so in the usage only."""
    return include_usage and is_fitted(scenario)


async def fit_lengths(scenario: Scenario, client: Client, tell: Callable[[str], None]) -> Fit:
    """Ask the server how many tokens its prompts have. These requests are in no record.

    Args:
        scenario: whose prompts are made up.
        client: of the target.
        tell: shows one line to the user.
    """
    points: list[tuple[int, int]] = []
    failed: str | None = None
    for words, body in probe_bodies(scenario):
        asked: dict[str, Any] = {**body, "stream": True, "stream_options": {"include_usage": True}}
        stream, outcome = await client.attempt(
            scenario.target.api, msgspec.json.encode(asked), lambda _: None
        )
        if outcome.error is not None:
            failed = outcome.error.message
            break  # what is wrong there is the load's to find out, and to record
        counted = tokens(stream.answer.usage).prompt
        if counted is not None:
            points.append((words, counted))
    found = fit(points)
    if failed is not None:
        tell(f"the lengths of prompts are a guess, a word a token: a probe failed ({failed})")
    elif found.source == "none":
        tell("the lengths of prompts are a guess, a word a token: the server counts none (no usage)")
    return found
