"""docs/probe.md: what it shows is what happens, and it names every line."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.docs.console import missing, shell, steps
from tests.docs.pages import DOCS, ROOT, part, table

PAGE = DOCS / "probe.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the page's commands are for sh")
def test_the_example(tmp_path: Path) -> None:
    with shell(tmp_path) as opened:
        mock, probe = steps(PAGE)
        opened.run(mock)
        said = opened.run(probe)
    assert said is not None
    assert not missing(probe, said), said


def test_every_line_is_named() -> None:
    source = ast.parse((ROOT / "runner" / "probe_findings.py").read_text(encoding="utf-8"))
    named = {
        node.args[0].value
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"Finding", "_mistake"}
        and isinstance(node.args[0], ast.Constant)
    }
    assert {row[0] for row in table(part(PAGE, "lines"))} == named
