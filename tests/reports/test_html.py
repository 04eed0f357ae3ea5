"""The page of a run: its order, its verdict, its answers, and that nothing a model wrote runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports import page as page_module
from reports.columns import observe
from reports.html import judged, page_of, render
from reports.metrics import summarize
from reports.slim import slim
from runner.record import ErrorKind
from tests.reports.golden_bench import PLACE

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_plotly_script", lambda: "var Plotly = {};")


class _Text(HTMLParser):
    """What a reader without scripts sees, and the ids that links lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.text = ""
        self._skip = ""
        self._heading = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.ids += [str(known["id"])] if "id" in known else []
        self.links += [str(known["href"])[1:]] if tag == "a" else []
        self._skip = tag if tag in {"script", "style"} else self._skip
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append((tag, ""))
            self._heading = tag

    def handle_endtag(self, tag: str) -> None:
        self._skip = "" if tag == self._skip else self._skip
        self._heading = "" if tag == self._heading else self._heading

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        self.text += data
        if self._heading:
            self.headings[-1] = (self._heading, self.headings[-1][1] + data.strip())


def _page(run: Path) -> _Text:
    return _Text(page_of([observe(run)]))


class TestOrder:
    def test_the_verdict_then_what_was_run_then_numbers_then_charts_then_requests(self) -> None:
        page = _page(PLACE)
        assert [text for tag, text in page.headings if tag == "h2"] == [
            "What was run",
            "The numbers",
            "Latency",
            "Load and throughput",
            "Where the time goes",
            "What went wrong",
            "The client and the server",
            "The slowest and the failed requests",
            "Notes",
        ]
        assert page.text.index("FAIL: ") < page.text.index("What was run")
        for fact in ("river-1 at http://127.0.0.1:8000/v1", "10 requests/s, constant arrivals, for 2.4s"):
            assert fact in page.text

    def test_headings_links_and_ids(self) -> None:
        page = _page(PLACE)
        levels = [int(tag[1]) for tag, _ in page.headings]
        assert max(after - before for before, after in pairwise(levels)) == 1
        assert len(page.ids) == len(set(page.ids))
        assert set(page.links) <= set(page.ids)

    def test_numbers_are_those_of_the_summary_with_n_and_interval(self) -> None:
        summary = summarize(PLACE)
        ttft = summary.metrics["ttft"]
        low, high = ttft.ci["p50"]
        assert low is not None
        assert high is not None
        page = re.sub(r"\s+", " ", _page(PLACE).text)
        assert f"ttftsent to first token{ttft.n}{ttft.percentiles['p50']:.2f}" in page.replace(
            " ", ""
        ).replace("senttofirsttoken", "sent to first token")
        assert f"{low:.2f} to {high:.2f}" in page


class TestVerdict:
    def test_a_fit_client_and_kept_thresholds(self, bench: Any, record: Any) -> None:
        verdict = judged(summarize(bench([record(i) for i in range(200)])))
        assert (verdict.word, verdict.tone) == ("OK: fit to be quoted", "good")

    def test_a_broken_threshold(self, bench: Any, record: Any) -> None:
        run = bench([record(i) for i in range(200)], scenario={"thresholds": {"ttft": ["p(50)<1ms"]}})
        verdict = judged(summarize(run))
        assert (verdict.word, verdict.tone) == ("FAIL: 1 of 3 thresholds broken", "bad")

    def test_an_unfit_client_comes_before_thresholds(self, bench: Any, record: Any) -> None:
        run = bench(
            [record(i) for i in range(200)],
            gauge={"lag": {"n": 1000, "p50_ms": 0.1, "p99_ms": 500.0, "max_ms": 600.0, "missed": 9}},
            scenario={"thresholds": {"ttft": ["p(50)<1ms"]}},
        )
        verdict = judged(summarize(run))
        assert (verdict.word, verdict.tone) == ("INVALID: not to be quoted", "bad")
        assert any(reason.startswith("INVALID: ") for reason in verdict.reasons)

    def test_a_client_that_was_nearly_unfit(self, bench: Any, record: Any) -> None:
        run = bench(
            [record(i) for i in range(200)],
            gauge={"lag": {"n": 1000, "p50_ms": 0.1, "p99_ms": 6.0, "max_ms": 7.0, "missed": 0}},
        )
        assert judged(summarize(run)).word == "WARN: to be quoted with care"

    @pytest.mark.parametrize(
        ("rows", "due", "word", "tone"),
        [
            (2, 2, "Complete: every request was answered", "good"),
            (2, 3, "1 of 3 requests without an answer", "warn"),
            (0, 3, "No records yet", "warn"),
        ],
    )
    def test_a_dataset(self, write: Any, record: Any, rows: int, due: int, word: str, tone: str) -> None:
        verdict = judged(summarize(write([record(i) for i in range(rows)], prompts=due)))
        assert (verdict.word, verdict.tone) == (word, tone)

    def test_a_dataset_of_failures(self, write: Any, failed: Any) -> None:
        verdict = judged(summarize(write([failed(0)], prompts=1)))
        assert (verdict.word, verdict.tone) == ("Nothing was answered", "bad")


class TestAnswers:
    def test_whatever_is_planted_stays_text(self, bench: Any, record: Any, failed: Any) -> None:
        message = {"messages": [{"role": "user", "content": EVIL}]}
        rows = [
            record(0, text=EVIL, reasoning=EVIL, custom_id=EVIL, request=message, finish_reason=EVIL),
            failed(1),
        ]
        run = bench(rows, tags={"t": EVIL}, scenario={"target": {"model": EVIL, "base_url": EVIL}})
        journal = run / "records.jsonl"
        journal.write_bytes(journal.read_bytes().replace(b"timeout!", msgspec.json.encode(EVIL)[1:-1]))
        text = page_of([observe(run)])
        page = _Text(text)
        assert page.tags.count("script") == 4
        assert "img" not in page.tags
        assert page.text.count(EVIL) >= 6
        data = text.split('id="data-charts">')[1].split("</script>")[0]
        assert "<" not in data

    def test_links_lead_to_answers(self, bench: Any, record: Any, failed: Any) -> None:
        request = {"messages": [{"role": "user", "content": "How deep?"}]}
        page = _page(bench([record(0, text="Six feet.", request=request), failed(1, ErrorKind.TLS)]))
        assert len([link for link in page.links if link.startswith("answer-")]) == 2
        assert "[user]\nHow deep?" in page.text
        assert "Six feet." in page.text
        assert "tls: tls!" in page.text

    def test_a_long_answer_is_cut_and_says_where_all_of_it_is(self, bench: Any, record: Any) -> None:
        run = bench([record(0, text="a" * 5000 + "END")])
        page = _page(run)
        assert "END" not in page.text
        assert "Cut after 4,000 of up to 5,003 characters" in page.text
        assert f"{record(0).id} {run}/records*.jsonl" in page.text

    def test_the_latest_result_of_an_id_is_shown(self, write: Any, record: Any, failed: Any) -> None:
        page = _page(write([failed(0), record(0, text="at last")]))
        assert "at last" in page.text
        assert "timeout!" not in page.text

    def test_many_failures_are_not_all_listed(self, bench: Any, failed: Any) -> None:
        page = _page(bench([failed(i) for i in range(40)]))
        assert len([link for link in page.links if link.startswith("answer-")]) == 25
        assert "15 more are not shown" in page.text

    def test_other_shapes_of_answers(self, write: Any, record: Any) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": "{}"}}
        rows = [
            record(0, text="", tool_calls=[call], request={"prompt": "Say rain"}),
            record(1, text="", refusal="No.", choices=[{"index": 0, "text": "x"}, {"index": 1, "text": "y"}]),
        ]
        page = _page(write(rows))
        for part in ('"rain"', "Say rain", "No.", "Choice 2", "the request was not kept"):
            assert part in page.text

    def test_a_slim_copy_has_no_answers(self, write: Any, record: Any, tmp_path: Path) -> None:
        slim(write([record(0)]), tmp_path / "slim")
        page = _page(tmp_path / "slim")
        assert "This is a slim copy" in page.text
        assert not [link for link in page.links if link.startswith("answer-")]


def test_no_records_give_a_page_without_charts(bench: Any) -> None:
    page = _page(bench([]))
    assert "script" not in page.tags
    assert "INVALID: not to be quoted" in page.text


def test_several_runs_stand_side_by_side(bench: Any, record: Any) -> None:
    runs = [bench([record(i) for i in range(n)], name=f"side-{n}") for n in (3, 4)]
    page = _Text(page_of([observe(run) for run in runs]))
    assert "Nothing is pooled" in page.text
    for name in ("side-3", "side-4"):
        assert name in page.text
    titles = [text for tag, text in page.headings if tag == "h3"]
    assert "TTFT by percentile, run by run" in titles


def test_no_runs() -> None:
    assert "No runs" in _Text(render([])).text


@pytest.mark.parametrize("place", ["schema-1", "schema-2", "schema-3"])
def test_runs_of_earlier_versions(place: str) -> None:
    assert "Latency by percentile" in _page(PLACE.parent / place).text


def test_a_render_reads_the_run_again(bench: Callable[..., Path], record: Any) -> None:
    run = bench([record(0)])
    assert render([summarize(run)]) == page_of([observe(run)])
