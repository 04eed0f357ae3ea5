"""Plain data against the types of a scenario: every key known, every value of its type.

msgspec checks this as well, but does not name keys of free tables, nor what is near or allowed.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator
from datetime import date, time
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from scenarios.scenario import ScenarioError

T = TypeVar("T", bound=msgspec.Struct)
Key = tuple[str | int, ...]

_LARGEST = 2**63 - 1
_SECRET_NAMES = {
    "key",
    "apikey",
    "token",
    "authorization",
    "auth",
    "password",
    "secret",
    "bearer",
    "accesstoken",
}
_NAME_IT = 'name the variable that holds it: target.api_key_env = "MY_KEY"'
_SECRET_TEXT = re.compile(r"Bearer\s+\S|\b(sk-|gsk_|xai-|nvapi-|pplx-)[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}")


def shaped(data: Any, type_: type[T], root: Key = ()) -> T:
    """Data as the type.

    Args:
        data: what TOML gives.
        type_: a struct.
        root: where the data stands, for messages.

    Raises:
        ScenarioError: a key is not known, a value is of another type, or looks like a secret.
    """
    refuse_secrets(data, root)
    _fits(data, info(type_), root)
    try:
        return msgspec.convert(data, type_)
    except msgspec.ValidationError as exc:  # what the walk above let through
        raise ScenarioError(f"is not usable: {exc}", key=dotted(root)) from None


def dotted(key: Key) -> str:
    """A key as it is written: `load.stages[0].target`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}..."


def type_at(type_: type, key: Key) -> inspect.Type | None:
    """The type of the value at a key; `None` where there is no such key."""
    found: inspect.Type = info(type_)
    for part in key:
        inner = next((t for t in (_inside(t, part) for t in _members(found)) if t is not None), None)
        if inner is None:
            return None
        found = inner
    return found


def fits(value: Any, type_: inspect.Type) -> bool:
    """Whether a value is of a type."""
    try:
        _fits(value, type_, ())
    except ScenarioError:
        return False
    return True


def leaves(type_: inspect.Type, root: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key there is below a type, tables before what is in them."""
    for one in _members(type_):
        if isinstance(one, inspect.StructType):
            for field in one.fields:
                yield (*root, field.name)
                yield from leaves(field.type, (*root, field.name))


def refuse_secrets(data: Any, root: Key = ()) -> None:
    """Refuse what is named or looks like a key, without showing it.

    Raises:
        ScenarioError: there is one.
    """
    if isinstance(data, dict):
        for name, value in data.items():
            if _named_like_one(name, root) and not isinstance(value, dict | list):
                raise ScenarioError(
                    "is refused: a scenario file never holds a key", key=dotted((*root, name)), hint=_NAME_IT
                )
            refuse_secrets(value, (*root, name))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            refuse_secrets(value, (*root, place))
    elif isinstance(data, str) and _SECRET_TEXT.search(data):
        raise ScenarioError(
            "looks like a key, and a scenario file never holds one",
            key=dotted(root),
            hint=_NAME_IT,
        )


def _named_like_one(name: str, root: Key) -> bool:
    # Header values have a rule of their own; a tool's parameters may be called anything.
    if "headers" in root or (root[:1] == ("request",) and len(root) > 1):
        return False
    plain = re.sub(r"[^a-z]", "", name.lower())
    return plain in _SECRET_NAMES or plain.endswith("apikey")


@cache
def info(type_: Any) -> inspect.Type:
    """A type as msgspec describes it."""
    return inspect.type_info(type_)


def _members(type_: inspect.Type) -> tuple[inspect.Type, ...]:
    return tuple(type_.types) if isinstance(type_, inspect.UnionType) else (type_,)


def _inside(type_: inspect.Type, part: str | int) -> inspect.Type | None:
    if isinstance(type_, inspect.StructType):
        return next((field.type for field in type_.fields if field.name == part), None)
    if isinstance(type_, inspect.DictType):
        return type_.value_type
    if isinstance(type_, inspect.ListType) and isinstance(part, int):
        return type_.item_type
    return type_ if isinstance(type_, inspect.AnyType) else None


def _fits(value: Any, type_: inspect.Type, key: Key) -> None:
    for one in _members(type_):
        if isinstance(value, dict) and isinstance(one, inspect.StructType):
            return _struct(value, one, key)
        if isinstance(value, dict) and isinstance(one, inspect.DictType):
            return _each(list(value.items()), one.value_type, key)
        if isinstance(value, list) and isinstance(one, inspect.ListType):
            return _each(list(enumerate(value)), one.item_type, key)
        if isinstance(one, inspect.AnyType):
            return _plain(value, key)
        if _is(value, one):
            return None
    raise _mismatch(value, type_, key)


def _struct(value: dict[str, Any], type_: inspect.StructType, key: Key) -> None:
    known = {field.name: field for field in type_.fields}
    for name, inner in value.items():
        if name not in known:
            raise _unknown(name, list(known), key)
        _fits(inner, known[name].type, (*key, name))
    for field in type_.fields:
        if field.required and field.name not in value:
            allowed = described(field.type)
            raise ScenarioError("is missing", key=dotted((*key, field.name)), hint=f"give {allowed}")


def _each(items: list[tuple[Any, Any]], type_: inspect.Type, key: Key) -> None:
    for part, value in items:
        _fits(value, type_, (*key, part))


def _plain(value: Any, key: Key) -> None:
    """A value of a body: what JSON can say."""
    if isinstance(value, dict):
        return _each(list(value.items()), inspect.AnyType(), key)
    if isinstance(value, list):
        return _each(list(enumerate(value)), inspect.AnyType(), key)
    if isinstance(value, date | time):
        raise ScenarioError(
            f"is a date or time ({value}), which JSON has not", key=dotted(key), hint="write it as text"
        )
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ScenarioError("is too large a number", key=dotted(key), hint=f"up to {_LARGEST}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"is {value}, which JSON has not", key=dotted(key), hint="a finite number")
    return None


def _is(value: Any, type_: inspect.Type) -> bool:
    match type_:
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.LiteralType():
            return isinstance(value, str) and value in type_.values
    return False


def _mismatch(value: Any, type_: inspect.Type, key: Key) -> ScenarioError:
    secret = "headers" in key or key[-1:] == ("api_key_env",)
    choices = [name for one in _members(type_) if isinstance(one, inspect.LiteralType) for name in one.values]
    near = difflib.get_close_matches(str(value), map(str, choices), 1) if choices else []
    what = "of another type" if secret else shown(value)
    meant = f"did you mean {near[0]}? " if near else ""
    return ScenarioError(f"is {what}", key=dotted(key), hint=f"{meant}it has to be {described(type_)}")


def _unknown(name: str, known: list[str], key: Key) -> ScenarioError:
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    where = f"[{dotted(key)}]" if key else "a scenario"
    return ScenarioError(
        "is no key there is", key=dotted((*key, name)), hint=f"{meant}{where} has {', '.join(known)}"
    )


def described(type_: inspect.Type) -> str:
    """What a value of a type is, in words."""
    members = [one for one in _members(type_) if not isinstance(one, inspect.NoneType)]
    kinds = {type(one) for one in members}
    words = []
    if {inspect.StrType, inspect.FloatType} <= kinds:
        words.append('a duration like "30s", "500ms" or "10m", or a number of seconds')
        members = [one for one in members if isinstance(one, inspect.StructType)]
    return " or ".join([*words, *map(_word, members)])


def _word(type_: inspect.Type) -> str:
    match type_:
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, type_.values))
        case inspect.StructType():
            return f"a table of {', '.join(field.name for field in type_.fields)}"
        case inspect.DictType():
            return "a table"
        case inspect.ListType():
            return f"a list, each {described(type_.item_type)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
    return "text in quotes"
