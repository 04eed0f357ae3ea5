"""docs/prompts.md, and what the README says of prompts, against the scenarios package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenarios.bodies import _NOT_PARAMS, _URLS, WAYS
from scenarios.request import CHAT_FIELDS, COMPLETION_FIELDS, TEXT_FIELDS
from scenarios.source import _BY_SUFFIX, FORMATS
from tests.docs.pages import DOCS, README, check_part, code, part, read, table

PAGE = DOCS / "prompts.md"


def listed(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) + "\n"


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_the_closed_list_of_body_fields(page: Path) -> None:
    both = CHAT_FIELDS & COMPLETION_FIELDS
    check_part(page, "fields-both", listed(both))
    check_part(page, "fields-chat", listed(CHAT_FIELDS - both))
    check_part(page, "fields-completions", listed(COMPLETION_FIELDS - both))


def test_fields_that_stay_text_in_a_table() -> None:
    check_part(PAGE, "fields-text", listed(TEXT_FIELDS))


def test_formats_and_their_endings() -> None:
    rows = {code(row[0]): set(re.findall(r"`(\.\w+)`", row[1])) for row in table(part(PAGE, "formats"))}
    known: dict[str, set[str]] = {name: set() for name in FORMATS}
    for suffix, name in {**_BY_SUFFIX, ".json": "jsonl"}.items():
        known[name].add(suffix)
    assert rows == {**known, "openai-batch": {".jsonl"}}


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_row_shapes(page: Path) -> None:
    shapes = " ".join(row[0] for row in table(part(page, "shapes")))
    assert all(f"`{way}`" in shapes for way in WAYS)
    assert "--template" in shapes
    assert "`custom_id`" in shapes


def test_what_cannot_be_a_parameter_and_batch_urls() -> None:
    page = read(PAGE)
    assert not [name for name in (*_NOT_PARAMS, *_URLS) if f"`{name}`" not in page]
