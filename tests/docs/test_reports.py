"""docs/reports.md: its charts, its words, and its example, which is run."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest

from reports import html
from reports.figures import CHARTS, figures
from tests.docs.pages import DOCS, code, part, read, table
from tests.reports.golden_bench import PLACE

PAGE = DOCS / "reports.md"


def test_every_chart_is_named_and_no_other() -> None:
    assert [code(row[0]) for row in table(part(PAGE, "charts"))] == list(CHARTS)
    assert figures.__doc__ is not None
    listed = figures.__doc__.split("By name: ")[1].split(". Long")[0]
    assert re.sub(r"\s+", " ", listed).split(", ") == list(CHARTS)


def test_the_words_of_the_verdict_are_those_of_the_page() -> None:
    source = Path(html.__file__).read_text()
    for word in re.findall(r"^   \| ([A-Z]+) \|", read(PAGE), re.M):
        assert f'"{word}: ' in source, word


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PLACE, tmp_path / "runs" / "chat")
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"```pycon\n(.*?)```", read(PAGE), re.S)
    parsed = doctest.DocTestParser().get_doctest(example, {}, "reports.md", str(PAGE), 0)
    told: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        parsed, out=told.append
    )
    assert tried > 8
    assert not failed, "".join(told)
    assert "plotly.min.js" in Path("percentiles.html").read_text()
