"""`scenarios` as a user types it."""

from __future__ import annotations

import tomllib

import pytest
from click.testing import CliRunner, Result

from runner.cli import group
from scenarios.loading import library, library_text


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["scenarios", *arguments])


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_every_scenario_is_listed_with_its_load(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[::2]] == library()
    chat = lines.index(next(line for line in lines if line.startswith("chat ")))
    assert lines[chat].endswith("  chat at a steady rate: medium prompts, medium answers")
    assert lines[chat + 1].strip().startswith("2 requests/s (poisson) for 2 min after 10 s of warm-up")
    assert lines[-1].strip().startswith("a replay of TRACE")
    assert all(len(line) <= 140 for line in lines)


@pytest.mark.parametrize("name", library())
def test_one_is_shown_as_it_is(name: str) -> None:
    result = invoke("show", name)
    assert result.exit_code == 0
    assert result.output == library_text(name)
    assert tomllib.loads(result.output)


def test_one_that_there_is_not() -> None:
    result = invoke("show", "chatt")
    assert result.exit_code == 2
    assert "chatt: is neither a file nor a scenario of the library: did you mean chat?" in result.output
