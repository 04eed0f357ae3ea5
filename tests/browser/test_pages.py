"""Every page as people open it: from disk, without a network, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Opened
from tests.browser.pages import PAGES

Open = Callable[..., Opened]
WITHOUT_CHARTS = {"no-records", "compare-nothing"}
LARGEST_BYTES = 6_000_000

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=list(PAGES), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_it_is_no_larger_than_a_mail_takes(name: str, page_file: Callable[[str], Path]) -> None:
    assert page_file(name).stat().st_size <= LARGEST_BYTES


def test_every_chart_is_drawn_and_nothing_goes_wrong(name: str, open_page: Open) -> None:
    opened = open_page(name)
    drawn = opened.js(
        """() => [...document.querySelectorAll('.chart')].map((div) => [div.id,
          div.dataset.drawn === 'yes' && div.querySelectorAll(
            '.main-svg .scatterlayer .trace path, .main-svg .barlayer .point path').length > 0])"""
    )
    assert bool(drawn) is (name not in WITHOUT_CHARTS)
    assert [key for key, is_drawn in drawn if not is_drawn] == []
    assert opened.wrong == []


# Where a chart's points are on the screen. Of each trace that has a hover, some in the middle of it.
POINTS = """(id) => {
  const div = document.getElementById(id);
  const found = [];
  const box = div.getBoundingClientRect();
  for (const trace of div._fullData) {
    if (trace.visible !== true || trace.hoverinfo === 'skip') continue;
    const axis = (letter) => div._fullLayout[trace[letter + 'axis'].replace(letter, letter + 'axis')];
    const [xa, ya] = [axis('x'), axis('y')];
    const n = Math.min(trace.x.length, trace.y.length);
    for (const share of [0.5, 0.3, 0.7, 0, 1]) {
      const i = Math.min(n - 1, Math.floor(share * n));
      if (i < 0) continue;
      const x = xa.c2p(xa.d2c(trace.x[i])), y = ya.c2p(ya.d2c(trace.y[i]));
      if (!(x >= 0 && x <= xa._length && y >= 0 && y <= ya._length)) continue;
      const inside = trace.type === 'bar' ? -3 : 0;
      const across = trace.orientation === 'h' ? [inside, 0] : [0, -inside];
      found.push([box.left + xa._offset + x + across[0], box.top + ya._offset + y + across[1]]);
    }
  }
  return found;
}"""


def test_pointing_at_a_chart_shows_its_values(name: str, open_page: Open) -> None:
    opened = open_page(name)
    silent = []
    for key in opened.js("() => [...document.querySelectorAll('.chart')].map((div) => div.id)"):
        opened.js("(id) => document.getElementById(id).scrollIntoView({block: 'center'})", key)
        if not any(_hover(opened, key, place) for place in opened.js(POINTS, key)):
            silent.append(key)
    assert silent == []


def _hover(opened: Opened, key: str, place: list[float]) -> bool:
    opened.tab.mouse.move(place[0] + 1, place[1] + 40)
    opened.tab.mouse.move(*place, steps=3)
    said = opened.tab.locator(f"[id='{key}'] .hoverlayer .hovertext")
    for _ in range(30):
        if said.count():
            break
        opened.tab.wait_for_timeout(50)
    else:
        return False
    text = said.first.text_content() or ""
    assert "undefined" not in text
    assert "NaN" not in text
    assert "%{" not in text, text
    return any(char.isdigit() for char in text)


THEME = """() => {
  const ground = getComputedStyle(document.body).backgroundColor;
  const chart = document.querySelector('.chart');
  if (!chart) return [ground];
  const line = chart.querySelector('.scatterlayer path[style], .barlayer path[style]');
  const text = chart.querySelector('.xtick text, .ytick text');
  return [ground, chart.querySelector('.main-svg').style.background,
          line.style.stroke + line.style.fill, getComputedStyle(text).fill];
}"""


def test_the_dark_theme_is_another_one_for_page_and_charts(name: str, open_page: Open) -> None:
    opened = open_page(name)
    light = opened.js(THEME)
    opened.tab.emulate_media(color_scheme="dark")
    try:
        opened.until(f"before => JSON.stringify(({THEME})()) !== before", _json(light))
        _redrawn(opened)
        dark = opened.js(THEME)
        assert [n for n, both in enumerate(zip(light, dark, strict=True)) if both[0] == both[1]] == []
        assert opened.js(CONTRAST) == []
        assert opened.wrong == []
    finally:
        opened.tab.emulate_media(color_scheme="light")
        _redrawn(opened)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _redrawn(opened: Opened) -> None:
    """All charts have the ground of the page."""
    opened.until(
        """() => { const ground = getComputedStyle(document.body).backgroundColor;
          return [...document.querySelectorAll('.chart > .plot-container .main-svg:first-child')]
            .every((svg) => svg.style.background === ground); }"""
    )


# Text whose colour is nearer to what lies behind it than WCAG AA lets it be.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const shine = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ratio = (one, other) => {
    const [low, high] = [shine(one), shine(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const drawn = walker.currentNode.textContent.trim();
    if (!drawn || element.closest('script, noscript, style, .hoverlayer, .modebar')) continue;
    const style = getComputedStyle(element);
    const svg = element instanceof SVGElement;
    const bar = svg && element.closest('.bars');
    if (bar) continue;
    const colour = parse(svg ? style.fill : style.color);
    const found = ratio(colour, behind(element));
    if (found < 4.5) bad.add(`${element.tagName}.${element.getAttribute('class')} ${found.toFixed(2)}: `
      + drawn.slice(0, 40));
  }
  return [...bad];
}"""


def test_text_can_be_read(name: str, open_page: Open) -> None:
    assert open_page(name).js(CONTRAST) == []


def test_a_phone_needs_no_sideways_scrolling(name: str, open_page: Open) -> None:
    opened = open_page(name, phone=True)
    widths = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    have, room = opened.js(widths)
    assert have <= room == 390
    too_wide = opened.js(
        """() => [...document.querySelectorAll('.chart .main-svg')]
          .filter((svg) => svg.getBoundingClientRect().right > innerWidth + 1)
          .map((svg) => svg.closest('.chart').id)"""
    )
    assert too_wide == []
    opened.js("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    have, room = opened.js(widths)
    assert have <= room
    assert opened.wrong == []


def test_without_scripts_the_tables_are_there(name: str, open_page: Open) -> None:
    opened = open_page(name, scripts=False)
    with_scripts = open_page(name)
    cells = "table tbody :is(th, td)"
    assert opened.tab.locator(cells).count() == with_scripts.tab.locator(cells).count()
    assert opened.tab.locator(".verdict").is_visible()
    tables = opened.tab.locator("table")
    assert [n for n in range(tables.count()) if not tables.nth(n).is_visible()] == []
    if name not in WITHOUT_CHARTS:
        assert "need JavaScript" in opened.tab.locator("noscript").inner_text()
        assert opened.tab.locator("figcaption").first.is_visible()


def test_headings_are_in_order(name: str, open_page: Open) -> None:
    levels = open_page(name).js(
        "() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_table_has_a_caption_and_every_chart_a_name(name: str, open_page: Open) -> None:
    opened = open_page(name)
    assert (
        opened.js(
            """() => [...document.querySelectorAll('table')]
          .filter((table) => !table.caption || !table.caption.textContent.trim()
            || !table.querySelector('thead th[scope=col]')).map((table) => table.innerText.slice(0, 80))"""
        )
        == []
    )
    names = opened.js(
        """() => [...document.querySelectorAll('.chart')]
          .map((div) => [div.getAttribute('role'), div.getAttribute('aria-label') || ''])"""
    )
    assert all(role == "img" and any(char.isdigit() for char in label) for role, label in names)
    assert opened.js("() => document.documentElement.lang && document.title") != ""


def test_links_lead_somewhere_and_open_what_they_lead_to(name: str, open_page: Open) -> None:
    opened = open_page(name)
    dead = opened.js(
        """() => [...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))
          .filter((to) => !to.startsWith('#') || !document.getElementById(decodeURIComponent(to.slice(1))))"""
    )
    assert dead == []
    folded = opened.js(
        """() => [...document.querySelectorAll('a[href]')].map((a) => a.hash.slice(1))
          .find((id) => document.getElementById(id).tagName === 'DETAILS') || null"""
    )
    if folded is not None:
        opened.tab.locator(f"a[href='#{folded}']").first.click()
        opened.until("id => document.getElementById(id).open", folded)


@pytest.mark.parametrize("name", ["planted", "compare"], scope="module")
def test_script_that_others_wrote_is_text(name: str, open_page: Open) -> None:
    opened = open_page(name)
    opened.js("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for key in opened.js("() => [...document.querySelectorAll('.chart')].map((div) => div.id)"):
        opened.js("(id) => document.getElementById(id).scrollIntoView({block: 'center'})", key)
        for place in opened.js(POINTS, key)[:3]:
            _hover(opened, key, place)
    assert opened.js("() => window.__planted === undefined")
    assert opened.js("() => document.body.innerText.includes('<script>window.__planted')")
    assert opened.js("() => document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert opened.wrong == []
