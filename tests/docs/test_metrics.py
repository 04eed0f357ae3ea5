"""docs/metrics.md against the reports."""

from __future__ import annotations

import re

import msgspec

from reports.distribution import EXACT_UP_TO, NEEDS, PERCENTILES, RELIABLE, RESOLUTION
from reports.frame import frame
from reports.summary import RATES, TIMES, WITH_FAILURES, Summary
from reports.validity import COALESCED_LIMIT
from tests.docs.pages import DOCS, code, part, read, table

PAGE = DOCS / "metrics.md"


def test_every_metric_is_defined_and_no_other() -> None:
    rows = table(part(PAGE, "metrics"))
    assert [code(row[0]) for row in rows] == [*TIMES, *RATES]
    for name, definition, unit, population, _ in rows:
        assert definition
        assert population
        assert unit == ("tokens/s" if code(name) in RATES else "ms")


def test_the_second_reading_is_said_of_the_right_ones() -> None:
    assert tuple(code(row[0]) for row in table(part(PAGE, "metrics")) if row[-1] == "yes") == WITH_FAILURES


def test_samples_that_percentiles_need() -> None:
    rows = [[f"p{p}", str(NEEDS[p]), str(RELIABLE[p])] for p in PERCENTILES]
    assert table(part(PAGE, "samples")) == rows


def test_limits() -> None:
    page = read(PAGE)
    assert f"{COALESCED_LIMIT:.0%}".replace("%", " %") in page
    assert f"{EXACT_UP_TO:,}" in page
    assert f"{RESOLUTION * 100:g} %" in page


def test_every_number_of_a_summary_is_named() -> None:
    named = set(re.findall(r"`([\w.]+)`", part(PAGE, "summary")))
    for field in msgspec.structs.fields(Summary):
        inner = (
            field.type if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) else None
        )
        names = [f"{field.name}.{f.name}" for f in msgspec.structs.fields(inner)] if inner else [field.name]
        assert not [name for name in names if name not in named]


def test_every_column_of_load_is_named() -> None:
    assert sorted(re.findall(r"`(\w+)`", part(PAGE, "columns"))) == sorted(frame([]).columns)
