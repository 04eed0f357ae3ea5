"""docs/mock.md against the mock server."""

from __future__ import annotations

import msgspec
import pytest

from runner.mock.fault import Fault
from runner.mock.faults import GROUPS
from runner.mock.log import Entry
from runner.mock.stats import Stats
from tests.docs.pages import DOCS, check_part, code, markdown_table, part, table

PAGE = DOCS / "mock.md"


@pytest.mark.parametrize(("name", "struct"), [("log", Entry), ("stats", Stats)])
def test_every_field_is_documented(name: str, struct: type[msgspec.Struct]) -> None:
    assert [code(row[0]) for row in table(part(PAGE, name))] == list(struct.__struct_fields__)


def row(fault: Fault) -> list[str]:
    """A fault as a row of its table."""
    said = fault.recorded
    status = f"`error`, `{said.kind}`" if said.kind else "`ok`"
    told = f"{status}: {said.notes}" if said.notes else status
    return [f"`{fault.name}`", fault.what, told, said.retried]


def test_the_table_of_faults() -> None:
    header = ["`--fault`", "what happens", "recorded", "sent again"]
    parts = [
        f"### {title}\n\n{markdown_table(header, [row(fault) for fault in faults])}"
        for title, faults in GROUPS.items()
    ]
    check_part(PAGE, "faults", "\n" + "\n".join(parts))
