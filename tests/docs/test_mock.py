"""docs/mock.md against the mock server."""

from __future__ import annotations

import msgspec
import pytest

from runner.mock.faults import FAULTS
from runner.mock.log import Entry
from runner.mock.stats import Stats
from tests.docs.pages import DOCS, code, part, table

PAGE = DOCS / "mock.md"


@pytest.mark.parametrize(("name", "struct"), [("log", Entry), ("stats", Stats)])
def test_every_field_is_documented(name: str, struct: type[msgspec.Struct]) -> None:
    assert [code(row[0]) for row in table(part(PAGE, name))] == list(struct.__struct_fields__)


def test_every_fault_is_documented() -> None:
    assert [code(row[0]) for row in table(part(PAGE, "faults"))] == [f"--fault-{name}" for name in FAULTS]
