"""The frame of every page: one HTML file that asks no network, with tables for readers without scripts.

Whatever stands in a page may have been written by a model: the template escapes it, data inside scripts has
no `<`, and the page's own policy lets no script run but the two it came with. Text inside a plotly figure
goes through `plotly_text` first, for plotly reads tags in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from reports.palette import LIGHT_TO_DARK

if TYPE_CHECKING:
    import jinja2
    import plotly.graph_objects as go
    from markupsafe import Markup

Tone = Literal["good", "warn", "bad", "neutral"]
FOOTER = "Made by Streamgauge. This file holds all it needs and asks no network."


class Link(Struct):
    """A cell that leads to another place of the page."""

    text: str
    to: str  # the key of a disclosure, chart or section


class Mark(Struct):
    """A cell with a tone: PASS, FAIL. The word says it, the colour only helps."""

    text: str
    tone: Tone


class Measured(Struct):
    """A number, and its interval in small print below it."""

    text: str
    beside: str


Cell = str | Link | Mark | Measured


class Column(Struct):
    """A column's heading. `long` is text that may be broken anywhere."""

    name: str
    unit: str = ""
    align: Literal["left", "right", "long"] = "right"


class Table(Struct):
    """A table; the first cell of a row is its heading."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    note: str = ""


class Chart(Struct):
    """A chart, and one sentence with numbers that says what is seen, for those who do not see it."""

    key: str  # unique in the page
    title: str
    figure: go.Figure
    alt: str
    note: str = ""
    height_px: int = 380


class Absent(Struct):
    """A chart that there is no data for, and why."""

    title: str
    why: str


class Paragraph(Struct):
    """A paragraph."""

    text: str
    soft: bool = False


class Bullets(Struct):
    """A list of sentences."""

    items: list[str]
    title: str = ""


class Facts(Struct):
    """Names and values."""

    pairs: list[tuple[str, str]]
    title: str = ""


class Tile(Struct):
    """One large number."""

    label: str
    value: str
    unit: str = ""
    beside: str = ""  # n, interval


class Tiles(Struct):
    """The few numbers that are looked for first."""

    tiles: list[Tile]


class Disclosure(Struct):
    """Something long, folded up; links to its key open it."""

    key: str  # unique in the page
    summary: str
    facts: list[tuple[str, str]] = []
    texts: list[tuple[str, str]] = []  # heading, text as it was written
    note: str = ""
    side_by_side: bool = False  # the texts, where there is room


Part = Table | Chart | Absent | Paragraph | Bullets | Facts | Tiles | Disclosure


class Section(Struct):
    """A heading and what stands below it."""

    heading: str
    key: str  # unique in the page
    parts: list[Part]


class Verdict(Struct):
    """What the page says in one breath."""

    word: str
    sentence: str
    tone: Tone
    reasons: list[str] = []


class Page(Struct):
    """A whole page, in the order it is read."""

    title: str
    verdict: Verdict
    beside_verdict: list[Part] = []  # thresholds, labels: no charts
    facts: list[tuple[str, str]] = []  # what was run
    sections: list[Section] = []
    footer: str = FOOTER


def plotly_text(text: str, width: int = 80) -> str:
    """Text from data for a title, tick, legend or hover of a figure: cut, on one line, and without tags."""
    line = " ".join(text.split())
    line = line if len(line) <= width else line[: width - 1] + "…"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def script_json(text: str) -> str:
    """JSON that can stand inside a script element: whatever it says, it does not end it."""
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def told(text: str) -> Markup:
    """A sentence, with what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:
        return Markup("`").join(map(Markup, parts))
    shown = (f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
    return Markup("".join(shown))  # noqa: S704 (every part is escaped)


def render(page: Page) -> str:
    """The page as one HTML file.

    Raises:
        ValueError: two parts share a key.
    """
    from markupsafe import Markup

    charts = _charts(page)
    plotly, script = (_plotly_script(), _asset("page.js")) if charts else ("", "")
    text = _template().render(
        page=page,
        has_charts=bool(charts),
        kind=_kind,
        in_runs=_in_runs,
        policy=_policy([plotly, script] if charts else []),
        # Ours: the style, the scripts and what `script_json` let through.
        style=Markup(_asset("page.css")),  # noqa: S704
        palette=Markup(_json(LIGHT_TO_DARK)),  # noqa: S704
        charts=Markup(_figures_json(charts)) if charts else "",  # noqa: S704
        plotly=Markup(plotly),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )
    # A lone surrogate is valid in JSON, and nowhere in a file.
    return text.encode("utf-8", "replace").decode("utf-8")


def _charts(page: Page) -> dict[str, Chart]:
    seen = {section.key for section in page.sections}
    if len(seen) < len(page.sections):
        raise ValueError("two sections of the page share a key")
    charts = {}
    for part in (part for section in page.sections for part in section.parts):
        if not isinstance(part, Chart | Disclosure):
            continue
        if part.key in seen:
            raise ValueError(f"two parts of the page have the key {part.key!r}")
        seen.add(part.key)
        if isinstance(part, Chart):
            charts[part.key] = part
    return charts


class _Run(Struct):
    """Parts that stand together: charts in a grid, all else in the flow of the text."""

    drawn: bool
    parts: list[Part]


def _in_runs(parts: Iterable[Part]) -> list[_Run]:
    grouped = groupby(parts, key=lambda part: isinstance(part, Chart | Absent))
    return [_Run(drawn, list(run)) for drawn, run in grouped]


def _kind(part: Struct) -> str:
    return type(part).__name__.lower()


def _policy(scripts: list[str]) -> str:
    """Nothing is loaded, and no script runs but these; plotly writes styles, and makes images to save."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    import msgspec

    return script_json(msgspec.json.encode(value).decode())


def _figures_json(charts: dict[str, Chart]) -> str:
    from plotly.io.json import to_json_plotly

    return script_json(to_json_plotly({key: _bare(chart.figure) for key, chart in charts.items()}))


def _bare(figure: go.Figure) -> dict[str, Any]:
    """The figure without plotly's own theme: the page has one."""
    found: dict[str, Any] = figure.to_dict()
    found["layout"].pop("template", None)
    return found


@cache
def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    if "</script" in script or "<!--" in script:
        raise ValueError("this version of plotly.js cannot stand inside a page")
    return script


@cache
def _asset(name: str) -> str:
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["told"] = told
    return environment.from_string(_asset("page.html"))
