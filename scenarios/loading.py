"""A scenario from a TOML file or the library, with what the command line changes in it.

    load_scenario("chat", ["load.rate=8", "load.duration=30s"])
    load_scenario("scenarios/mine.toml")

Paths in a file are relative to the file, those on the command line to the working directory.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from scenarios.changes import Change, left_behind, merged, parse_set
from scenarios.checks import check, check_target
from scenarios.scenario import Scenario, ScenarioError, Synthetic, Target
from scenarios.shape import dotted, shaped

LIBRARY = Path(__file__).parent / "library"
_ORDER = (
    "smoke",
    "chat",
    "bursty",
    "ramp",
    "rag",
    "long-context",
    "code-completion",
    "reasoning",
    "batch",
    "replay",
)
_PATHS = (("prompts", "file"), ("prompts", "tokenizer"), ("load", "trace"))
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_FOLLOWS = (("rate", "constant-arrival-rate"), ("concurrency", "constant-concurrency"), ("trace", "trace"))


class Origin(msgspec.Struct, frozen=True):
    """Where a scenario's data comes from."""

    name: str
    data: dict[str, Any]
    place: str | None
    """For messages; `None` where there is no file."""


def load_scenario(name_or_path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Scenario:
    """The scenario of a file, or of the library, with `--set` overrides made.

    Args:
        name_or_path: a name of the library, or the path of a TOML file.
        overrides: texts like `load.rate=8`.

    Raises:
        ScenarioError: it cannot be used.
    """
    return build(read(name_or_path), [parse_set(text) for text in overrides])


def library() -> list[str]:
    """Names of the scenarios that are shipped, the ones to begin with first."""
    found = {path.stem for path in LIBRARY.glob("*.toml")}
    return [name for name in _ORDER if name in found] + sorted(found.difference(_ORDER))


def library_text(name: str) -> str:
    """The TOML of a shipped scenario.

    Raises:
        ScenarioError: there is none of that name.
    """
    if name not in library():
        raise _no_scenario(name)
    return (LIBRARY / f"{name}.toml").read_text(encoding="utf-8")


def read(name_or_path: str | os.PathLike[str]) -> Origin:
    """A scenario's data, its paths made absolute; nothing checked yet.

    Raises:
        ScenarioError: it cannot be read.
    """
    given = os.fspath(name_or_path)
    path = Path(given)
    if given in library():
        return Origin(given, _toml(library_text(given), f"{given} (library)"), f"{given} (library)")
    if path.suffix.lower() != ".toml" and len(path.parts) <= 1 and not path.is_file():
        raise _no_scenario(given)
    data = _toml(_text(path, given), given)
    return Origin(path.stem, _absolute(data, Path(os.path.abspath(path)).parent), given)  # noqa: PTH100


def build(origin: Origin, changes: list[Change], tell: Callable[[str], None] = lambda _: None) -> Scenario:
    """The scenario of data and changes, checked.

    Args:
        origin: from `read`.
        changes: to be made in it.
        tell: is given what was left out that the user may not expect.

    Raises:
        ScenarioError: it cannot be used.
    """
    here = Path.cwd()
    resolved = [_resolved(change, here) for change in changes]
    left = left_behind(origin.data, resolved)
    if left:
        tell(
            f"{', '.join(map(dotted, left))} of {origin.place} is for the host it names, and is left out: "
            "requests go to another one"
        )
    try:
        data = _with_executor(merged(origin.data, resolved))
        if "name" in data:
            raise ScenarioError("is no key: a scenario is called as its file is", key="name")
        scenario = shaped(data, Scenario)
        scenario.name = origin.name
        if scenario.prompts.file is None and scenario.load.executor != "trace":
            # Said, so that the scenario as run names its prompts.
            scenario.prompts.synthetic = scenario.prompts.synthetic or Synthetic()
        check(data, scenario)
    except ScenarioError as exc:
        place = _flag_of(exc, changes) or origin.place
        raise (exc if place is None else exc.at(place)) from None
    return scenario


def load_targets(path: str | os.PathLike[str]) -> dict[str, Target]:
    """The named targets of a TOML file: a table each, with the keys of `[target]`.

    Raises:
        ScenarioError: they cannot be used.
    """
    place = os.fspath(path)
    data = _toml(_text(Path(place), place), place)
    targets: dict[str, Target] = {}
    try:
        for name, table in data.items():
            if not isinstance(table, dict):
                raise ScenarioError(
                    "is no table", key=dotted((name,)), hint="a table a target: [NAME] and its keys"
                )
            if not _NAME.fullmatch(name):
                raise ScenarioError(
                    "is no name for a target, which is one of a folder, too",
                    key=dotted((name,)),
                    hint="letters, digits and . _ -, the first of them no dot",
                )
            targets[name] = shaped(table, Target, (name,))
            check_target(targets[name], dotted((name,)))
            if targets[name].base_url is None:
                raise ScenarioError(
                    "is missing", key=dotted((name, "base_url")), hint="where its requests go"
                )
    except ScenarioError as exc:
        raise exc.at(place) from None
    if not targets:
        raise ScenarioError("names no target", hint="a table a target: [NAME] and its keys", place=place)
    return targets


def header_values(target: Target, environ: Mapping[str, str]) -> dict[str, str]:
    """A target's headers with their values, read from the environment.

    Raises:
        ScenarioError: a variable is not set.
    """
    values = {}
    for name, reference in target.headers.items():
        variable = reference.removeprefix("env:")
        if not environ.get(variable):
            raise ScenarioError(f"names {variable}, which is not set", key=f"target.headers.{name}")
        values[name] = environ[variable]
    return values


def _text(path: Path, given: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise ScenarioError(f"cannot be read: {exc.strerror or exc}", place=given) from None
    except UnicodeDecodeError:
        raise ScenarioError("is not UTF-8 text", place=given) from None


def _toml(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(exc), re.S)
        if found is None:
            raise ScenarioError(f"is not TOML: {exc}", place=place) from None
        line = found[2] or str(len(text.splitlines()))
        column = f", column {found[3]}" if found[3] else ""
        raise ScenarioError(f"is not TOML: {found[1]}", place=f"{place}, line {line}{column}") from None


def _absolute(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The data with paths that do not depend on where one stands."""
    for section, name in _PATHS:
        table = data.get(section)
        if isinstance(table, dict) and isinstance(table.get(name), str) and table[name].strip():
            table[name] = os.path.abspath(folder / table[name])  # noqa: PTH100 (links stay as they are)
    return data


def _resolved(change: Change, folder: Path) -> Change:
    value = change.value
    if change.key in _PATHS and isinstance(value, str) and value.strip():
        value = os.path.abspath(folder / value)  # noqa: PTH100
    elif len(change.key) == 1 and isinstance(value, dict):
        value = _absolute({change.key[0]: dict(value)}, folder)[change.key[0]]
    return msgspec.structs.replace(change, value=value)


def _with_executor(data: dict[str, Any]) -> dict[str, Any]:
    """The data with the executor that follows from rate, concurrency or trace, where none is given."""
    load = data.get("load", {})
    if not isinstance(load, dict) or "executor" in load:
        return data
    if "stages" in load:
        raise ScenarioError(
            "is missing, and stages may be of two kinds",
            key="load.executor",
            hint='"ramping-arrival-rate" (requests a second) or "ramping-concurrency" (requests at once)',
        )
    executor = next((executor for key, executor in _FOLLOWS if key in load), None)
    return data if executor is None else {**data, "load": {"executor": executor, **load}}


def _flag_of(error: ScenarioError, changes: list[Change]) -> str | None:
    """The flag that brought the key of an error, or a part of it."""
    names = [(dotted(change.key), change.flag) for change in reversed(changes)]
    for wanted in (error.key, *error.others):
        for name, flag in names:
            if wanted == name or wanted.startswith((f"{name}.", f"{name}[")):
                return flag
    return next((flag for name, flag in names if error.key and name.startswith(f"{error.key}.")), None)


def _no_scenario(name: str) -> ScenarioError:
    names = library()
    near = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return ScenarioError(
        f"is neither a file nor a scenario of the library: {meant}There are {', '.join(names)}",
        place=name or "the scenario",
    )
