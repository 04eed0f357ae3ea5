"""docs/workloads.md against the code: its scenarios, samples and tables."""

from __future__ import annotations

import json
import re
import tomllib

import msgspec
import pytest

from scenarios.dialogue import of_row
from scenarios.draws import tokens
from scenarios.scenario import Lengths, Scenario
from scenarios.synthetic import _PROBE_WORDS, Fit, Maker
from scenarios.trace import _COLUMNS, BLOCK_TOKENS
from tests.docs.pages import DOCS, check_part, part, read

PAGE = DOCS / "workloads.md"
TOML = re.findall(r"^```toml\n(.*?)^```", read(PAGE), re.S | re.M)


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_its_scenarios_are_scenarios(text: str) -> None:
    msgspec.convert(tomllib.loads(text), Scenario)


def test_the_sample_of_a_prompt() -> None:
    check_part(PAGE, "sample", f"```text\n{Maker(42, Fit(), 16).prompt(0, 16).content}\n```")


def test_the_lengths() -> None:
    rows = ["| distribution | p5 | p50 | p95 |", "| --- | --- | --- | --- |"]
    for lengths in (
        Lengths(mean=512, stdev=64),
        Lengths(mean=512, stdev=256, min=32, max=2048),
        Lengths(mean=512, stdev=256, min=400, max=600),
    ):
        shown = ", ".join(
            f"{name} = {value:g}"
            for name in ("mean", "stdev", "min", "max")
            if (value := getattr(lengths, name)) is not None
        )
        rows.append(f"| `{{ {shown} }}` | {' | '.join(str(tokens(lengths, p)) for p in (0.05, 0.5, 0.95))} |")
    check_part(PAGE, "lengths", "\n".join(rows))


def test_the_formats_of_traces() -> None:
    rows = ["| format | columns that are read |", "| --- | --- |"]
    for name, columns in _COLUMNS.items():
        more = (*columns, "hash_ids") if name == "mooncake" else columns
        rows.append(f"| `{name}` | {', '.join(f'`{column}`' for column in more)} |")
    check_part(PAGE, "traces", "\n".join(rows))


def test_the_rows_of_conversations() -> None:
    lines = part(PAGE, "dialogues").splitlines()[1:-1]
    assert [len(of_row(json.loads(line)).turns) for line in lines] == [2, 2, 1]


def test_the_numbers_it_names() -> None:
    page = read(PAGE)
    assert f"blocks of {BLOCK_TOKENS} tokens" in page
    assert "probes of {}, {} and {} words".format(*_PROBE_WORDS) in page
