"""docs/records.md and docs/run-directory.md against the structs they describe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from runner.record import (
    SCHEMA_VERSION,
    Attempt,
    CancelledBy,
    Connection,
    Error,
    Phase,
    Record,
    Status,
    Timer,
    UsageSource,
)
from runner.retry import WaitFor
from runner.store import JOURNAL, MANIFEST, PROGRESS, EndedBy, Manifest, PromptFile, Session
from scenarios.request import Request
from tests.docs.pages import DOCS, README, code, part, read, table

RECORDS, RUN = DOCS / "records.md", DOCS / "run-directory.md"


@pytest.mark.parametrize(
    ("page", "struct"),
    [
        (RECORDS, Record),
        (RECORDS, Error),
        (RECORDS, Attempt),
        (RECORDS, Connection),
        (RUN, Manifest),
        (RUN, PromptFile),
        (RUN, Session),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_field_is_documented_and_no_other(page: Path, struct: type[msgspec.Struct]) -> None:
    rows = table(part(page, struct.__name__))
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    assert [code(row[0]) for row in rows] == list(fields)
    for row in rows:
        assert all(row), f"{row[0]} has an empty cell"
        absent = fields[code(row[0])].default is msgspec.UNSET
        assert absent == ("absent" in row[-1]), f"{row[0]}: left out, or null?"


@pytest.mark.parametrize("values", [Status, Phase, CancelledBy, UsageSource, Timer, WaitFor])
def test_every_value_is_named(values: Any) -> None:
    assert not [value for value in get_args(values) if f"`{value}`" not in read(RECORDS)]


def test_how_a_session_ends_is_named() -> None:
    assert not [value for value in get_args(EndedBy) if f"`{value}`" not in read(RUN)]


def test_files_are_named() -> None:
    assert not [name for name in (MANIFEST, JOURNAL, PROGRESS) if f"`{name}`" not in read(RUN)]


def test_the_schema_version_is_the_code_s() -> None:
    assert f"schema version is {SCHEMA_VERSION}." in read(RECORDS)


def test_the_record_in_the_readme_is_a_record() -> None:
    shown = re.findall(r'^  "(\w+)":', part(README, "record"), re.M)
    assert len(shown) > 20
    assert shown == [name for name in Record.__struct_fields__ if name in shown]


def test_what_identity_is_made_of_is_said() -> None:
    page = read(RECORDS)
    assert all(f"`{name}`" in page for name in Request.__struct_fields__ if name not in {"api", "body"})
