"""What two scenarios differ in, key by key."""

from __future__ import annotations

from typing import Any

import msgspec

from scenarios.scenario import Scenario
from scenarios.shape import dotted

_ABSENT = object()


def differences(one: Scenario, other: Scenario) -> dict[str, tuple[Any, Any]]:
    """The keys that differ, dotted, with both values; `None` where one of them has no such key."""
    found: dict[str, tuple[Any, Any]] = {}
    _compare(msgspec.to_builtins(one), msgspec.to_builtins(other), (), found)
    return found


def _compare(one: Any, other: Any, key: tuple[str, ...], found: dict[str, tuple[Any, Any]]) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            _compare(one.get(name, _ABSENT), other.get(name, _ABSENT), (*key, name), found)
    elif one is _ABSENT or other is _ABSENT or one != other:
        found[dotted(key)] = (None if one is _ABSENT else one, None if other is _ABSENT else other)
