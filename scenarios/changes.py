"""Changes to a scenario from the command line: `--set load.rate=8`, `--rate 8`.

A change wins over the file. Of keys that exclude each other, the file's goes when the other one is set. Two
changes that exclude each other both stay, and are refused by the checks. Where a change sends requests to
another host, what the file says for its own stays behind: its key, its headers and its price.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import Any, cast
from urllib.parse import urlsplit

from msgspec import Struct

from scenarios.checks import LIMITS, LOAD_KEYS
from scenarios.scenario import Executor, Scenario, ScenarioError
from scenarios.shape import described, dotted, fits, info, leaves, refuse_secrets, type_at

Path = tuple[str, ...]

_EXCLUSIVE: tuple[tuple[Path, ...], ...] = (
    (("load", "duration"), ("load", "requests")),
    (("load", "warmup"), ("load", "warmup_requests")),
    (("load", "cancel", "tokens"), ("load", "cancel", "patience")),
    (("load", "rate"), ("load", "concurrency"), ("load", "stages"), ("load", "trace")),
    (("prompts", "file"), ("prompts", "synthetic")),
    (("prompts", "output_tokens"), *(("request", name) for name in LIMITS)),
)
_GOES_WITH: dict[Path, tuple[Path, ...]] = {
    ("prompts", "file"): (("prompts", "format"), ("prompts", "multi_turn"), ("load", "think_time")),
    ("load", "stages"): (("load", "start"),),
    ("load", "trace"): (("load", "trace_format"), ("load", "speed")),
    ("target", "base_url"): tuple(
        ("target", name) for name in ("api_key_env", "headers", "price", "gpus", "gpu_hour_usd")
    ),
}
"""Keys that mean nothing without another one."""
_HOST: Path = ("target", "base_url")
_PORTS = {"http": 80, "https": 443}


class Change(Struct, frozen=True):
    """A key set from outside the file."""

    key: Path
    value: Any
    flag: str
    """For messages. It never holds the value, which may be a secret set by mistake."""


def parse_set(text: str) -> Change:
    """A change of `--set KEY=VALUE`. A value is one of TOML, or else text: `30s` needs no quotes.

    Raises:
        ScenarioError: there is no such key, or the value cannot be read.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ScenarioError("has to be KEY=VALUE, as in load.rate=8", place="--set")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ScenarioError("is not text", place=f"--set {name!r}") from None
    key = _key(name)
    return Change(key=key, value=_value(key, value.strip()), flag=f"--set {dotted(key)}")


def _key(name: str) -> Path:
    try:
        table: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        # A metric with a selector needs quotes in TOML, and loses them in a shell.
        section, dot, rest = name.partition(".")
        if dot and section in {"thresholds", "slo"}:
            return section, rest
        raise ScenarioError(
            "is no key",
            key=name,
            hint="dotted names, as in load.rate; a list is set as a whole",
            place="--set",
        ) from None
    key: list[str] = []
    while isinstance(table, dict):
        part, table = next(iter(table.items()))
        key.append(part)
    if (key[0] == "name" or type_at(Scenario, tuple(key)) is None) and not _is_secret(key):
        raise _no_key(tuple(key))
    return tuple(key)


def _is_secret(key: list[str]) -> bool:
    try:
        refuse_secrets({key[-1]: ""}, tuple(key[:-1]))
    except ScenarioError:
        return True
    return False


def _no_key(key: Path) -> ScenarioError:
    name = dotted(key)
    known = [dotted(one) for one in leaves(info(Scenario)) if one != ("name",)]
    same = [one for one in known if one.split(".")[-1] == key[-1]]
    near = same[:1] or difflib.get_close_matches(name, known, 1)
    parent = type_at(Scenario, key[:-1]) if key[:-1] else None
    if parent is not None:
        allowed = f"{dotted(key[:-1])} is {described(parent)}"
    else:
        allowed = f"there are {', '.join(one for one in known if '.' not in one)}"
    meant = f"did you mean {near[0]}? " if near else ""
    return ScenarioError("is no key there is", key=name, hint=f"{meant}{allowed}", place=f"--set {name}")


def _value(key: Path, text: str) -> Any:
    type_ = type_at(Scenario, key)
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as exc:
        if text[:1] in {"[", "{", '"', "'"}:
            raise ScenarioError(
                f"has a value that is not TOML: {exc}", key=dotted(key), place=f"--set {dotted(key)}"
            ) from None
        parsed = {"value": text}
    value = parsed["value"] if len(parsed) == 1 else text
    if type_ is None or fits(value, type_):
        return value
    # A model called 7, a threshold that is no list: what else can be meant?
    return next((other for other in (text, [value], [text]) if fits(other, type_)), value)


def merged(data: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """The file's data with the changes made. Neither is altered."""
    result: dict[str, Any] = _copy(data)
    kept = {change.key for change in changes}
    for change in changes:
        for group in _EXCLUSIVE:
            member = next((one for one in group if change.key[: len(one)] == one), None)
            for other in group if member is not None else ():
                if other != member:
                    _drop(result, other, kept)
        if change.key == ("load", "executor") and change.value in LOAD_KEYS:
            _fit_executor(result, cast("Executor", change.value), kept)
    for key in left_behind(data, changes):
        del result[key[0]][key[1]]  # also where one header is set: the others are the old host's
    for change in changes:
        _put(result, change.key, _copy(change.value))
    return result


def left_behind(data: dict[str, Any], changes: list[Change]) -> list[Path]:
    """Which of the file's keys are for a host that requests no longer go to."""
    target = data.get("target")
    chosen = [change.value for change in changes if change.key == _HOST]
    if not chosen or not isinstance(target, dict) or not isinstance(target.get("base_url"), str):
        return []
    if _origin(target["base_url"]) == _origin(chosen[-1]):
        return []
    return [key for key in _GOES_WITH[_HOST] if key[1] in target]


def _origin(url: Any) -> tuple[Any, ...]:
    """Whom a URL reaches: what is told them is told nobody else."""
    try:
        parts = urlsplit(str(url).strip())
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return (url,)


def _fit_executor(data: dict[str, Any], executor: Executor, kept: set[Path]) -> None:
    """Drop the file's keys that the new executor has no use for."""
    load = data.get("load")
    for name in list(load) if isinstance(load, dict) else ():
        if name not in LOAD_KEYS[executor]:
            _drop(data, ("load", name), kept)


def _drop(data: dict[str, Any], key: Path, kept: set[Path]) -> None:
    if any(one[: len(key)] == key for one in kept):
        return
    table: Any = data
    for part in key[:-1]:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or key[-1] not in table:
        return
    del table[key[-1]]
    for other in _GOES_WITH.get(key, ()):
        _drop(data, other, kept)


def _put(data: dict[str, Any], key: Path, value: Any) -> None:
    table = data
    for part in key[:-1]:
        inner = table.get(part)
        if not isinstance(inner, dict):
            inner = table[part] = {}
        table = inner
    table[key[-1]] = value


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
