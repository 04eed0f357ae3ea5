"""A scenario as TOML: what `--print-scenario` shows."""

from __future__ import annotations

from typing import Any

import msgspec
import tomli_w

from scenarios.scenario import Load, Scenario, Synthetic

_ALWAYS = {
    Scenario: {"seed"},
    Synthetic: {"input_tokens"},
    Load: {"executor"},
}
"""Keys that say something also at their default."""
_WITH_ARRIVAL = {"constant-arrival-rate", "ramping-arrival-rate"}


def to_toml(scenario: Scenario) -> str:
    """The TOML that stands for a scenario. Loaded from a file of its name, it gives the same scenario."""
    return tomli_w.dumps(_plain(scenario))


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        always = set(_ALWAYS.get(type(value), ()))
        if isinstance(value, Load) and value.executor in _WITH_ARRIVAL:
            always.add("arrival")
        return {
            field.name: _plain(getattr(value, field.name))
            for field in msgspec.structs.fields(value)
            if _says_something(value, field, always)
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _says_something(owner: msgspec.Struct, field: msgspec.structs.FieldInfo, always: set[str]) -> bool:
    value = getattr(owner, field.name)
    if value is None or (isinstance(owner, Scenario) and field.name == "name"):
        return False
    if field.name in always or field.required:
        return True
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return bool(value != default)
