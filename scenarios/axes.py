"""What a sweep varies: `--over load.rate=1,2,4`, or keys that change together as in
`--over input_tokens:output_tokens=1024:128,8192:1024`.

A key is one that `--set` takes, or the name of a flag that sets one (`rate`, `concurrency`, `input_tokens`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from scenarios.changes import Change, Path, parse_set
from scenarios.flags import NAMES
from scenarios.scenario import ScenarioError
from scenarios.shape import dotted

MOST_POINTS = 1000
EXECUTORS: dict[Path, str] = {
    ("load", "rate"): "constant-arrival-rate",
    ("load", "concurrency"): "constant-concurrency",
}
"""What a key that says how hard makes of the load."""
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_PLACE = "--over"


class Axis(Struct, frozen=True):
    """Keys, and the values they go through together."""

    keys: tuple[Path, ...]
    points: tuple[tuple[Change, ...], ...]
    """A change a key, at each point."""

    @property
    def names(self) -> tuple[str, ...]:
        """The keys, dotted."""
        return tuple(dotted(key) for key in self.keys)


def parse_over(text: str) -> Axis:
    """The axis of one `--over`.

    Raises:
        ScenarioError: there is no such key, or a value cannot be read.
    """
    names, equals, rest = text.partition("=")
    if not equals or not names.strip() or not rest.strip():
        raise ScenarioError("has to be KEY=VALUE,VALUE, as in load.rate=1,2,4", place=_PLACE)
    keys = [_full(name.strip()) for name in _split(names, ":")]
    points = [_point(keys, value.strip()) for value in _split(rest, ",")]
    axis = Axis(tuple(change.key for change in points[0]), tuple(points))
    seen: list[list[Any]] = []
    for point in points:
        values = [change.value for change in point]
        if values in seen:
            shown = ":".join(str(value) for value in values)
            raise ScenarioError(f"names {shown} twice", place=f"{_PLACE} {':'.join(axis.names)}")
        seen.append(values)
    if len(set(axis.keys)) < len(axis.keys):
        raise ScenarioError("names a key twice", place=f"{_PLACE} {':'.join(axis.names)}")
    return axis


def grid(axes: Sequence[Axis]) -> list[tuple[Change, ...]]:
    """Every combination, the last axis fastest; each with the executor that its load needs.

    Raises:
        ScenarioError: axes share a key, or there are more than a sweep can be meant to have.
    """
    names = [name for axis in axes for name in axis.names]
    for name in names:
        if names.count(name) > 1:
            raise ScenarioError(
                "is given twice",
                place=f"{_PLACE} {name}",
                hint="write one --over with all its values, or pairs",
            )
    if {"load.rate", "load.concurrency"} <= set(names):
        raise ScenarioError(
            "names load.rate and load.concurrency", place=_PLACE, hint="a load has one of them"
        )
    count = 1
    for axis in axes:
        count *= len(axis.points)
    if count > MOST_POINTS:
        raise ScenarioError(f"makes {count:,} points", place=_PLACE, hint=f"{MOST_POINTS:,} at most")
    found = itertools.product(*(axis.points for axis in axes))
    return [with_executor(itertools.chain.from_iterable(points)) for points in found]


def load_change(key: Path, value: float, flag: str) -> tuple[Change, ...]:
    """A load of so many requests a second, or so many at once."""
    return with_executor([Change(key, int(value) if key[-1] == "concurrency" else value, flag)])


def with_executor(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes, and the executor that follows from a rate or a concurrency among them."""
    found = list(changes)
    more = [
        Change(("load", "executor"), EXECUTORS[change.key], change.flag)
        for change in found
        if change.key in EXECUTORS
    ]
    return (*found, *more)


def values_of(changes: Iterable[Change]) -> dict[str, Any]:
    """What a point sets, by dotted key, without the executor that follows."""
    return {dotted(change.key): change.value for change in changes if change.key != ("load", "executor")}


def _full(name: str) -> str:
    return dotted(NAMES[name][1]) if name in NAMES else name


def _point(keys: list[str], text: str) -> tuple[Change, ...]:
    values = [text] if len(keys) == 1 else _split(text, ":")
    where = f"{_PLACE} {':'.join(keys)}"
    if len(values) != len(keys):
        raise ScenarioError(
            f"has {len(values)} values in {text!r}, and {len(keys)} keys",
            place=where,
            hint="a value a key, as in input_tokens:output_tokens=1024:128,8192:1024",
        )
    changes = []
    for key, value in zip(keys, values, strict=True):
        if not value.strip():
            raise ScenarioError("has an empty value", place=where)
        try:
            change = parse_set(f"{key}={value.strip()}")
        except ScenarioError as exc:
            raise exc.at(_PLACE) from None
        changes.append(msgspec.structs.replace(change, flag=f"{_PLACE} {dotted(change.key)}"))
    return tuple(changes)


def _split(text: str, mark: str) -> list[str]:
    """Parts between the marks that stand outside of quotes and brackets."""
    parts, open_, quote = [""], [], ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _PAIRS:
            open_.append(_PAIRS[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
        elif letter == mark and not open_:
            parts.append("")
            continue
        parts[-1] += letter
    return parts
