"""The flags of `bench` as a scenario, or as changes to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from scenarios.changes import Change, merged, parse_set
from scenarios.loading import Origin, build, read
from scenarios.scenario import Scenario, ScenarioError

LEAST_REQUESTS = 100
"""Of a closed loop that nobody gave an end: p99 needs as many."""
ROUNDS = 10
"""And so many for each place, so that the start is not most of it."""
DURATION = "60s"
"""Of an open loop that nobody gave an end."""
INPUT_TOKENS, OUTPUT_TOKENS = 512, 128


class Flags(Struct, kw_only=True, frozen=True):
    """What was given on the command line; `None` where it was not."""

    base_url: str | None = None
    """A login in it, and a query, stay out of the scenario: connect to what was given."""
    model: str | None = None
    api: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    requests: int | None = None
    duration: str | float | None = None
    """As it was written."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompts: str | None = None
    seed: int | None = None


NAMES = {
    "base_url": ("--base-url", ("target", "base_url")),
    "model": ("--model", ("target", "model")),
    "api": ("--api", ("target", "api")),
    "api_key_env": ("--api-key-env", ("target", "api_key_env")),
    "concurrency": ("-c", ("load", "concurrency")),
    "rate": ("--rate", ("load", "rate")),
    "requests": ("-n", ("load", "requests")),
    "duration": ("--duration", ("load", "duration")),
    "input_tokens": ("--input-tokens", ("prompts", "synthetic", "input_tokens")),
    "output_tokens": ("--output-tokens", ("prompts", "output_tokens")),
    "prompts": ("--prompts", ("prompts", "file")),
    "seed": ("--seed", ("seed",)),
}
"""The flag of each, and the key it sets."""


def scenario_from_flags(
    flags: Flags,
    name_or_path: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    tell: Callable[[str], None] = lambda _: None,
    more: Iterable[Change] = (),
) -> Scenario:
    """The scenario that a command line stands for.

    Without a file: synthetic prompts of 512 tokens in and 128 out, one request at a time. The executor
    follows from `-c` or `--rate`. `--set` wins over a flag that sets the same key.

    Args:
        flags: those given.
        name_or_path: a scenario to change; `None` for the default.
        overrides: of `--set`.
        tell: is given what was left out that the user may not expect.
        more: changes that win over all others: a point of a sweep.

    Raises:
        ScenarioError: it cannot be used.
    """
    _refuse_both(flags, "concurrency", "rate", "a closed loop or an open one")
    _refuse_both(flags, "requests", "duration", "either ends the load")
    _refuse_both(flags, "prompts", "input_tokens", "a file's prompts are as long as they are")
    changes = _without([*_changes(flags), *(parse_set(text) for text in overrides)], more := [*more])
    changes += more
    origin = _default(changes) if name_or_path is None else read(name_or_path)
    return build(origin, changes, tell)


def _without(changes: list[Change], more: list[Change]) -> list[Change]:
    """Those that `more` does not set itself: a rate that is swept takes the place of one that is named."""
    keys = {change.key for change in more}
    return [change for change in changes if change.key not in keys]


def _refuse_both(flags: Flags, one: str, other: str, why: str) -> None:
    if getattr(flags, one) is not None and getattr(flags, other) is not None:
        names = f"{NAMES[one][0]} and {NAMES[other][0]}"
        raise ScenarioError(f"are both given: {why}", hint="give one of them", place=names)


def _changes(flags: Flags) -> list[Change]:
    changes = []
    for name, (flag, key) in NAMES.items():
        value = getattr(flags, name)
        if value is not None:
            changes.append(Change(key, bare_url(value) if name == "base_url" else value, flag))
    for executor, name in (("constant-concurrency", "concurrency"), ("constant-arrival-rate", "rate")):
        if getattr(flags, name) is not None:
            changes.append(Change(("load", "executor"), executor, NAMES[name][0]))
    return changes


def bare_url(url: str) -> str:
    """A URL as a scenario may name it: without what may be secret in it."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url  # refused by the checks, which do not show it
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _default(changes: list[Change]) -> Origin:
    """What there is without a file; whatever is not said follows from what is."""
    data: dict[str, Any] = {"prompts": {"synthetic": {"input_tokens": INPUT_TOKENS}}}
    said = merged({}, changes)
    if "file" not in _table(said, "prompts"):  # a file's rows may have limits of their own
        data["prompts"]["output_tokens"] = OUTPUT_TOKENS
    load = _table(said, "load")
    if not {"executor", "rate", "concurrency", "stages", "trace"} & set(load):
        data["load"] = {"concurrency": 1}
        load = {**load, "concurrency": 1}
    if "concurrency" in load:
        places = load["concurrency"] if isinstance(load["concurrency"], int) else 1
        data.setdefault("load", {})["requests"] = max(LEAST_REQUESTS, ROUNDS * places)
    elif "rate" in load:
        data.setdefault("load", {})["duration"] = DURATION
    if "trace" in load:
        del data["prompts"]["synthetic"], data["prompts"]["output_tokens"]
    return Origin("bench", data, None)


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    table = data.get(name)
    return table if isinstance(table, dict) else {}
