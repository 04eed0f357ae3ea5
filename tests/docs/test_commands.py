"""docs/commands.md holds what `--help` says."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from runner.cli import COMMANDS, group
from tests.docs.pages import DOCS, check_part

PAGE = DOCS / "commands.md"


@pytest.mark.parametrize("name", ["streamgauge", *COMMANDS])
def test_help_is_shown_as_it_is(name: str) -> None:
    arguments = ["--help"] if name == "streamgauge" else [name, "--help"]
    result = CliRunner().invoke(group, arguments, prog_name="streamgauge", terminal_width=100)
    assert result.exit_code == 0
    check_part(PAGE, name, f"```text\n{result.output.rstrip()}\n```")
