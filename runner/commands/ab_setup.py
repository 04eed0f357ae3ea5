"""What `ab` does before anything is sent: both sides, checked as `bench` checks one, and how they differ."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from runner.commands.options import OPENAI
from runner.commands.salt import is_salted, salt_notes

if TYPE_CHECKING:
    from runner.ab import Ab, Side
    from runner.commands.bench_setup import Checked
    from runner.drive import Settings
    from scenarios.scenario import Scenario

# They are about who is asked, and never both sides' at once.
_TREATMENT = ("target.base_url", "target.model")
_KEYS = ("api_key", "api_key_env", "api_key_file")


class Sides(msgspec.Struct):
    """Both sides ready to go."""

    checked: dict[Any, Checked]  # by side
    settings: Any  # runner.drive.Settings
    redact: Any  # runner.redact.Redactor
    declared: dict[str, dict[Any, Any]]
    salt: str | None
    notes: list[str]


def make_sides(given: dict[str, Any]) -> Sides:
    """Everything that can be wrong is found here; nothing is sent or written.

    Raises:
        ScenarioError, StoreError, PromptError, TargetError, PriceError, SideError: with what to do.
    """
    from runner.commands.bench_setup import check_targets, scenario_of, settings_of
    from runner.redact import Redactor

    given_a = {**given, "targets": None, "metrics_url": None}
    notes: list[str] = []
    one = scenario_of(given_a, notes.append)
    with _saying_b():
        given_b = _of_b(given_a, one)
        other = scenario_of(given_b, lambda text: None if text in notes else notes.append(f"side b: {text}"))
    notes += _same_seed(one, other)
    _warm_both(one, other)
    settings = settings_of(given_a)
    (a,) = check_targets(one, given_a, settings)
    with _saying_b():
        (b,) = check_targets(other, given_b, settings)
    declared = _declared(one, other)
    salted = is_salted(given["salt"], a, b)
    notes += [*_notes(a, b, declared, settings), *salt_notes(given["salt"], "run", a, b)]
    return Sides(
        checked={"a": a, "b": b},
        settings=settings,
        redact=Redactor([*a.secrets, *b.secrets]),
        declared=declared,
        salt=secrets.token_hex(4) if salted else None,
        notes=notes,
    )


# -- side b


class SideError(ValueError):
    """What is wrong with side b alone. Its text says what to do."""


@contextmanager
def _saying_b() -> Iterator[None]:
    """Where the flags that a message names are those of b."""
    from runner.prices import PriceError
    from runner.target import TargetError
    from scenarios.scenario import ScenarioError
    from scenarios.source import PromptError

    try:
        yield
    except (ScenarioError, PromptError, TargetError, PriceError) as exc:
        raise SideError(f"side b: {exc}") from None
    except click.UsageError as exc:
        raise click.UsageError(f"side b: {exc.message}") from None


def _of_b(given: dict[str, Any], one: Scenario) -> dict[str, Any]:
    """The command line as side b reads it: what it names for b, else what it says for both."""
    changed = {
        "scenario": given["scenario_b"] or given["scenario"],
        "model": given["model_b"] or given["model"],
        "overrides": (*given["overrides"], *given["overrides_b"]),
    }
    if given["base_url_b"] is not None:
        changed |= {"base_url": given["base_url_b"], "base_url_flag": given["base_url_b"]}
    there = given | changed
    same_host = _host(_url(given, one)) == _host(_url(there, _read(there)))
    if not same_host:
        # What is secret goes where it was meant to: a's key and headers are no business of b's host.
        there |= {**dict.fromkeys(_KEYS), "headers": ()}
    there["headers"] = (*there["headers"], *given["headers_b"])
    if given["api_key_env_b"] is not None:
        there |= {**dict.fromkeys(_KEYS), "api_key_env": given["api_key_env_b"]}
    return there


def _read(given: dict[str, Any]) -> Scenario:
    from runner.commands.bench_setup import scenario_of

    return scenario_of(given | dict.fromkeys(_KEYS), lambda _: None)


def _url(given: dict[str, Any], scenario: Scenario) -> str:
    # The scenario's comes first: --base-url is in it already, and --set-b target.base_url overrules that.
    return scenario.target.base_url or given["base_url"] or OPENAI


def _host(url: str) -> tuple[str, str | None, int | None] | str:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return url  # refused later on, by whoever makes a target of it


# -- what the sides have in common, and what not


def _same_seed(one: Scenario, other: Scenario) -> list[str]:
    """Both sides ask the same prompts at the same moments: a's seed is b's."""
    if one.seed == other.seed:
        return []
    told = (
        f"b's seed is {other.seed} and a's {one.seed}: both use {one.seed}, or they would ask other prompts"
    )
    other.seed = one.seed
    return [told]


def _warm_both(one: Scenario, other: Scenario) -> None:
    """Loads that name no warm-up get one: the longer one of both, so that both measure the same prompts."""
    from runner.replay import trace_rows
    from scenarios.warm_up import longer, with_warm_up

    if one.load == other.load:
        one.load = other.load = with_warm_up(one.load, len(trace_rows(one) or ()))
        return
    unnamed = all(side.load.warmup is None and side.load.warmup_requests is None for side in (one, other))
    one.load, other.load = (with_warm_up(side.load, len(trace_rows(side) or ())) for side in (one, other))
    if unnamed:
        one.load, other.load = longer(one.load, other.load)


def _declared(one: Scenario, other: Scenario) -> dict[str, dict[Any, Any]]:
    from scenarios.differences import differences

    return {key: {"a": a, "b": b} for key, (a, b) in differences(one, other).items()}


def _notes(a: Checked, b: Checked, declared: dict[str, Any], settings: Settings) -> list[str]:
    from runner.commands.bench_notes import notes_on

    notes = list(dict.fromkeys([*notes_on(a, settings), *notes_on(b, settings)]))
    if not declared and a.target == b.target:
        notes.append("both sides are the same: what is found is noise")
    unlike = [key for key in declared if key.startswith(("load.", "prompts.", "request."))]
    if unlike:
        notes.append(f"the sides differ in {', '.join(unlike)}: that is part of what is compared")
    return [*notes, *_key_notes(a, b)]


def _key_notes(a: Checked, b: Checked) -> list[str]:
    """What key goes nowhere, although somebody may expect it to."""
    from runner.commands.bench_setup import withheld_key

    withheld = {name: withheld_key(side.target, "") for name, side in (("a", a), ("b", b))}
    notes = [f"side {name}: {note}" for name, note in withheld.items() if note is not None]
    if _has_key(a) and not _has_key(b) and withheld["b"] is None:
        notes.append("side b gets no key: a's is for a's host. Name b's own with --api-key-env-b")
    return notes


def _has_key(side: Checked) -> bool:
    return any(name.lower() == "authorization" for name in side.target.headers)


# -- the folder


def new_ab(given: dict[str, Any], sides: Sides) -> Ab:
    """What is planned."""
    from runner.ab import Ab, SideTold, slots
    from runner.rundir import now_text
    from scenarios.sentence import load_sentence

    told: dict[Side, SideTold] = {
        name: SideTold(
            scenario=side.scenario.name,
            base_url=side.scenario.target.base_url,
            model=side.scenario.target.model,
            load=load_sentence(side.scenario),
        )
        for name, side in sides.checked.items()
    }
    return Ab(
        created=now_text(),
        updated=now_text(),
        pairs=given["pairs"],
        order=given["order"],
        seed=sides.checked["a"].scenario.seed,
        sides=told,
        declared=sides.declared,
        runs=slots(given["pairs"], given["order"], sides.salt),
    )


def open_folder(given: dict[str, Any], sides: Sides, ab: Ab) -> Path:
    """Make the folder of a comparison: `runs/<name>-ab-<UTC time>`, or where the user says.

    Raises:
        StoreError: there is something there already.
    """
    from runner.ab import begin
    from runner.benchdir import bench_place
    from runner.rundir import set_aside

    folder = bench_place(f"{sides.checked['a'].scenario.name}-ab", given["output"])
    if given["fresh"] and folder.is_dir() and any(folder.iterdir()):
        set_aside(folder)
    begin(folder, ab)
    return folder


def declared_fields(declared: dict[str, Any]) -> frozenset[str]:
    """What a comparison may find different, by name: what was declared, and what follows from that."""
    follows = {
        "load.": ("arrivals", "limits.concurrency", "limits.max_in_flight"),
        "prompts.": ("prompts",),
        "target.api": ("prompts",),
    }
    names = [name for start, names in follows.items() if _any_below(declared, start) for name in names]
    return frozenset((*_TREATMENT, *declared, *names))


def _any_below(declared: dict[str, Any], start: str) -> bool:
    return any(key.startswith(start) for key in declared)
