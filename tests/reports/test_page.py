"""The frame of the pages: escaping, tables without scripts, and what ships in the wheel."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports import page as page_module
from reports.page import (
    Absent,
    Bullets,
    Chart,
    Column,
    Disclosure,
    Facts,
    Link,
    Mark,
    Page,
    Paragraph,
    Part,
    Section,
    Table,
    Tile,
    Tiles,
    Verdict,
    plotly_text,
    render,
    script_json,
    told,
)
from reports.palette import LIGHT_TO_DARK, series

ROOT = Path(__file__).parents[2]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028"


@pytest.fixture
def small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without 5 MB of script: only one test needs them."""
    monkeypatch.setattr(page_module, "_plotly_script", lambda: "var Plotly = {};")


def _figure(name: str = "a") -> go.Figure:
    return go.Figure(go.Scatter(x=np.arange(3.0), y=np.array([1.0, np.nan, 3.0]), name=name))


def _page(*parts: Part, title: str = "t") -> Page:
    return Page(title=title, verdict=Verdict("OK", "fine", "good"), sections=[Section("S", "s", list(parts))])


class _Elements(HTMLParser):
    """The elements of a page, with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        self._inside = True

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (its name is the parser's)
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            tag, attrs, text = self.found[-1]
            self.found[-1] = (tag, attrs, text + data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for name, attrs, text in self.found if name == tag]


def _everything(text: str, key: str = "k") -> Page:
    return Page(
        title=text,
        verdict=Verdict(text, text, "bad", [text]),
        beside_verdict=[Bullets([text])],
        facts=[(text, text)],
        footer=text,
        sections=[
            Section(
                text,
                "s",
                [
                    Table(text, [Column(text, text), Column(text)], [[text, Mark(text, "bad")]], note=text),
                    Table(text, [Column(text)], [[Link(text, key)]]),
                    Paragraph(text),
                    Facts([(text, text)]),
                    Tiles([Tile(text, text, text, text)]),
                    Absent(text, text),
                    Disclosure(key, text, [(text, text)], [(text, text)], text),
                    Chart("c", text, _figure(text), text, text),
                ],
            )
        ],
    )


@pytest.mark.usefixtures("small_plotly")
class TestRender:
    def test_nothing_a_model_wrote_becomes_an_element(self) -> None:
        plain = [tag for tag, _, _ in _Elements(render(_everything("x"))).found]
        assert [tag for tag, _, _ in _Elements(render(_everything(EVIL))).found] == plain
        assert "alert(2)>" not in render(_everything(EVIL))

    def test_data_inside_scripts_reads_back_as_it_was(self) -> None:
        scripts = {a.get("id"): text for a, text in _Elements(render(_everything(EVIL))).of("script")}
        data = scripts["data-charts"]
        assert "<" not in data
        assert json.loads(data)["c"]["data"][0]["name"] == EVIL

    def test_the_policy_lets_only_the_pages_own_scripts_run(self) -> None:
        elements = _Elements(render(_everything(EVIL)))
        policy = _policy(elements)
        runs = [text for a, text in elements.of("script") if a.get("type") != "application/json"]
        wanted = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in runs}
        assert len(runs) == 2
        assert set(re.findall("'sha256-([^']+)'", policy)) == wanted
        assert "default-src 'none'" in policy

    def test_a_page_without_charts_has_no_script(self) -> None:
        elements = _Elements(render(_page(Paragraph("x"))))
        assert not elements.of("script")
        assert not elements.of("noscript")
        assert "script-src 'none'" in _policy(elements)

    def test_nothing_is_loaded(self) -> None:
        for _, attrs, _ in _Elements(render(_everything("x"))).found:
            assert "src" not in attrs
            assert (attrs.get("href") or "#").startswith(("#", "data:"))

    def test_tables_have_captions_and_scopes(self) -> None:
        table = Table("cap", [Column("a", align="left"), Column("b", "ms")], [["x", "1"], ["y", "2"]])
        elements = _Elements(render(_page(table)))
        assert [text for _, text in elements.of("caption")] == ["cap"]
        assert [a["scope"] for a, _ in elements.of("th")] == ["col", "col", "row", "row"]
        assert [text for _, text in elements.of("td")] == ["1", "2"]
        assert "ms" in [text for a, text in elements.of("span") if a.get("class") == "unit"]
        region = next(a for a, _ in elements.of("div") if a.get("role") == "region")
        assert region["aria-labelledby"] == elements.of("caption")[0][0]["id"]

    def test_a_chart_has_a_text_that_stands_for_it(self) -> None:
        text = render(_page(Chart("c", "Title", _figure(), "Half of them took 3 ms.")))
        image = next(a for a, _ in _Elements(text).of("div") if a.get("role") == "img")
        assert image["aria-label"] == "Title. Half of them took 3 ms."
        assert image["id"] == "c"

    def test_headings_are_in_order(self) -> None:
        levels = [int(tag[1]) for tag, _, _ in _Elements(render(_everything("x"))).found if tag in "h1h2h3h4"]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))

    def test_ids_are_unique_and_links_lead_somewhere(self) -> None:
        elements = _Elements(render(_everything("x")))
        ids = [a["id"] for _, a, _ in elements.found if "id" in a]
        assert len(ids) == len(set(ids))
        hrefs = [str(a["href"])[1:] for a, _ in elements.of("a")]
        assert set(hrefs) <= set(ids)

    @pytest.mark.parametrize("key", ["c", "s"])
    def test_two_parts_with_one_key_are_refused(self, key: str) -> None:
        chart = Chart(key, "a", _figure(), "a")
        with pytest.raises(ValueError, match="key"):
            render(_page(Chart("c", "b", _figure(), "b"), chart))

    def test_half_a_surrogate_pair_is_replaced(self) -> None:
        assert "a?b" in render(_page(Paragraph("a\ud800b")))

    def test_plotlys_own_theme_is_left_out(self) -> None:
        assert "template" not in _data(render(_page(Chart("c", "t", _figure(), "a"))))["c"]["layout"]


def _policy(elements: _Elements) -> str:
    return str(next(a["content"] for a, _ in elements.of("meta") if "http-equiv" in a))


def _data(text: str) -> Any:
    found = [text for a, text in _Elements(text).of("script") if a.get("id") == "data-charts"]
    return json.loads(found[0])


def test_plotlys_script_is_inside() -> None:
    text = render(_page(Chart("c", "t", _figure(), "a")))
    assert "plotly.js v" in text
    assert len(text) < 5_500_000


@given(st.text())
@example("<>&\u2028\u2029")
def test_json_inside_a_script_reads_back(text: str) -> None:
    inside = script_json(json.dumps({"a": text}, ensure_ascii=False))
    assert not set("<>&\u2028\u2029") & set(inside)
    assert json.loads(inside) == {"a": text}


@given(st.text())
def test_text_of_a_figure_holds_no_tag(text: str) -> None:
    found = plotly_text(text, 10)
    assert not set("<>\n\r\t") & set(found)


@given(st.text("`<&a "))
def test_a_sentence_has_no_element_but_code(text: str) -> None:
    assert re.sub("</?code>", "`", str(told(text))) == str(told(text.replace("`", "\x00"))).replace(
        "\x00", "`"
    )


def test_text_of_a_figure_is_cut() -> None:
    assert plotly_text("a <b>bold</b> word", 7) == "a &lt;b&gt;b…"
    assert plotly_text("x &amp; y") == "x &amp;amp; y"


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _themes() -> list[dict[str, str]]:
    css = (ROOT / "reports" / "templates" / "page.css").read_text()
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css[: css.index("@media")])), _dark(css)]


def _dark(css: str) -> dict[str, str]:
    block = css[css.index("@media (prefers-color-scheme: dark)") :]
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block[: block.index("}")]))


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_lines_can_be_read_in_both_themes(theme: int) -> None:
    colours = _themes()[theme]
    for text in ("text", "soft", "link"):
        for ground in ("ground", "raised"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for tone in ("good", "warn", "bad", "neutral"):
        for ground in ("ground", f"{tone}-ground"):
            assert _contrast(colours[tone], colours[ground]) >= 4.5, (tone, ground)
        assert _contrast(colours["text"], colours[f"{tone}-ground"]) >= 4.5
    for pair in [pair for pair in LIGHT_TO_DARK.items() if pair[0].startswith("#")]:
        assert _contrast(pair[theme], colours["ground"]) >= 3, pair


def test_lines_that_share_a_colour_differ_in_their_dash() -> None:
    assert len({series(n) for n in range(25)}) == 25


def test_a_wheel_holds_the_template(tmp_path: Path) -> None:
    # What `pip install` builds, without the network: the build backend itself.
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"reports/templates/page.{end}" for end in ("html", "css", "js")} <= names
