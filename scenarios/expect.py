"""What a row expects of its answer: its `expect` column, read and checked. Reports judge it.

    {"equals": "Paris"}                 the whole answer, white space at its ends apart
    {"contains": ["Paris", "France"]}   all of these stand in it
    {"regex": "^\\d+$"}                 found somewhere in it
    {"json": true}                      the whole answer is JSON
    {"json_schema": {...}}              it is JSON, and fits
    {"max_tokens": 50}                  no more completion tokens
    {"finish_reason": "stop"}           or one of a list

All that is given has to hold. The cell of a table holds the same as JSON.
"""

import re
import warnings
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from scenarios.formats import Columns, RowError, json_kind

COLUMN = "expect"
"""Its name in a row, and in the `row` of a record."""


class ExpectError(RowError):
    """A column that cannot be judged. The text says which key, and what is allowed."""


class Expect(msgspec.Struct, frozen=True):
    """What one answer has to be. `None`: nothing is expected of that."""

    equals: str | None = None
    contains: tuple[str, ...] | None = None
    regex: str | None = None
    json: bool | None = None
    json_schema: Any = None
    max_tokens: int | None = None
    finish_reason: tuple[str, ...] | None = None


CHECKS = Expect.__struct_fields__
"""Every key there is."""

_EXAMPLE = 'as in {"contains": "Paris"}'


def read_expect(value: Any) -> Expect | None:
    """The expectation of a row's column, or of a record's; `None` where there is none.

    Raises:
        ExpectError: it cannot be judged.
    """
    given = _table(value)
    if given is None:
        return None
    unknown = [name for name in given if name not in CHECKS]
    if unknown:
        _refuse(f"{COLUMN} has no key {unknown[0]!r}; there are {', '.join(CHECKS)}")
    # The struct of a Parquet file fills up with nulls what a row does not say.
    said = {name: inner for name, inner in given.items() if inner is not None}
    if not said:
        _refuse(f"{COLUMN} expects nothing; give one of {', '.join(CHECKS)}, or null")
    expect = Expect(
        equals=_text(said, "equals"),
        contains=_texts(said, "contains"),
        regex=_text(said, "regex"),
        json=said.get("json"),
        json_schema=said.get("json_schema"),
        max_tokens=said.get("max_tokens"),
        finish_reason=_texts(said, "finish_reason"),
    )
    if expect.json is not None and expect.json is not True:
        _refuse(f"{COLUMN}.json is {msgspec.json.encode(expect.json).decode()}; write true, or leave it out")
    if expect.max_tokens is not None and (type(expect.max_tokens) is not int or expect.max_tokens < 1):
        _refuse(f"{COLUMN}.max_tokens is not a whole number from 1 on")
    return expect


def check_expect(columns: Columns) -> bool:
    """Whether a row expects something; everything that can be wrong with it is found here.

    Raises:
        ExpectError: it cannot be judged.
    """
    expect = read_expect(columns.get(COLUMN))
    if expect is None:
        return False
    if expect.regex is not None:
        why = _regex_error(expect.regex)
        if why is not None:
            _refuse(f"{COLUMN}.regex is no regular expression: {why}")
    if expect.json_schema is not None:
        why = schema_error(expect.json_schema)
        if why is not None:
            _refuse(f"{COLUMN}.json_schema {why}")
    return True


def schema_error(schema: Any) -> str | None:
    """Why a JSON Schema cannot be used; `None` where it can."""
    if not isinstance(schema, dict | bool):
        return f"is {json_kind(schema)}, not a schema"
    return _schema_error(msgspec.json.encode(schema, order="deterministic"))


@lru_cache(maxsize=256)
def _schema_error(encoded: bytes) -> str | None:
    from jsonschema.exceptions import SchemaError

    schema = msgspec.json.decode(encoded)
    try:
        kind = _dialect(schema)
        kind.check_schema(schema)
        missing = _missing(schema, kind.ID_OF(kind.META_SCHEMA))
    except SchemaError as error:
        return f"is no schema: {error.json_path}: {error.message[:200]}"
    except RecursionError:
        return "is nested too deep"
    except Exception as error:  # noqa: BLE001 (whatever a library makes of an odd schema, the row is a bad one)
        return f"cannot be used: {str(error)[:200]}"
    return None if missing is None else f"refers to {missing!r}, which is not in it; nothing is fetched"


def schema_validator(schema: Any) -> Any:
    """A validator that fetches nothing: what a schema refers to has to stand in it."""
    from referencing.jsonschema import EMPTY_REGISTRY

    return _dialect(schema)(schema, registry=EMPTY_REGISTRY)


def _dialect(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def _missing(schema: Any, dialect: str) -> str | None:
    """The first reference that leads nowhere."""
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY, specification_with

    whole = specification_with(dialect).create_resource(schema)
    waiting = [(EMPTY_REGISTRY.resolver_with_root(whole), whole)]
    while waiting:
        resolver, part = waiting.pop()
        for key in ("$ref", "$dynamicRef") if isinstance(part.contents, dict) else ():
            reference = part.contents.get(key)
            if isinstance(reference, str):
                try:
                    resolver.lookup(reference)
                except Unresolvable:
                    return reference
        waiting += [(resolver.in_subresource(inner), inner) for inner in part.subresources()]
    return None


@lru_cache(maxsize=256)
def _regex_error(pattern: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns that a later Python reads otherwise
            re.compile(pattern)
    except re.error as error:
        return str(error)
    except (RecursionError, OverflowError):
        return "it is too large"
    return None


def _table(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):  # the cell of a table
        if not value.strip():
            return None
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            _refuse(f"{COLUMN} is text and no JSON, {value[:40]!r}; write an object, {_EXAMPLE}")
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse(f"{COLUMN} is {json_kind(value)}, not an object, {_EXAMPLE}")
    return value


def _text(said: dict[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        _refuse(f"{COLUMN}.{key} is {json_kind(value)}, not text")
    return value


def _texts(said: dict[str, Any], key: str) -> tuple[str, ...] | None:
    value = said.get(key)
    if value is None:
        return None
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        _refuse(f"{COLUMN}.{key} is no text, and no list of texts")
    return tuple(texts)


def _refuse(reason: str) -> NoReturn:
    raise ExpectError(reason)
