"""docs/ci.md, and what other pages say of expectations and selectors, against the code."""

from __future__ import annotations

import re

import msgspec

from reports.annotations import MOST
from reports.expect import COUNTS, RESULTS, Result
from reports.expectation import LIMIT_S, PATIENCE
from reports.select import OWN_KEYS
from reports.verdicts import _CODES, ORDER
from scenarios.expect import CHECKS, COLUMN
from scenarios.thresholds import METRICS, SELECTABLE
from tests.docs.pages import DOCS, code, part, read, table

CI, PROMPTS, SCENARIOS = DOCS / "ci.md", DOCS / "prompts.md", DOCS / "scenarios.md"


def test_every_expectation_is_described_and_no_other() -> None:
    assert [code(row[0]) for row in table(part(PROMPTS, "expect"))] == list(CHECKS)
    assert f"called `{COLUMN}`" in read(PROMPTS)


def test_the_limits_of_patterns() -> None:
    page = " ".join(read(PROMPTS).split())
    assert f"has {LIMIT_S:g} s of CPU time" in page
    assert f"after {PATIENCE} answers" in page


def test_keys_of_selectors() -> None:
    named = re.findall(r"`(\w+)`", part(SCENARIOS, "selectors"))
    assert set(OWN_KEYS) <= set(named)
    times = {name for name, metric in METRICS.items() if metric.kind == "time"}
    assert set(SELECTABLE) == times | {"output_rate", "errors", "expect"}  # what the page says


def test_results_and_their_files() -> None:
    page = read(CI)
    named = [f"`{name}`" for name in (RESULTS, COUNTS, *Result.__struct_fields__)]
    assert not [name for name in named if name not in page]
    assert msgspec.structs.fields(Result)[0].name == "id"


def test_exit_codes_and_verdicts() -> None:
    page = read(CI)
    first = re.findall(r"^\| (\d+) \| (\w+)", page, re.M)
    assert {(word, int(number)) for number, word in first} >= {(w, c) for w, c in _CODES.items() if c}
    assert all(re.search(rf"^\| {word} \|", page, re.M) for word in ORDER)


def test_how_many_annotations_a_runner_shows() -> None:
    assert MOST == 10
    assert "ten errors and ten warnings" in read(CI)
