from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from runner.live import Live, Screen, View
from runner.record import Record


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": "0",
        "prompt_id": "p",
        "index": 0,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        "scheduled_at": 0,
        "sent_at": 0,
        "headers_at": 1,
        "first_token_at": 50_000_000,
        "first_content_at": 1,
        "last_token_at": 2,
        "ended_at": 3,
        "status": "ok",
        **changes,
    }
    return Record(**values)


def view(**changes: Any) -> View:
    values: dict[str, Any] = {
        "started": 10,
        "done": 8,
        "failed": 1,
        "in_flight": 2,
        "tokens": 100,
        "asked_per_s": None,
        "ttft_p50_ms": None,
        "ttft_p95_ms": None,
        **changes,
    }
    return View(**values)


def test_it_counts_what_came_and_how_long_first_tokens_took() -> None:
    live = Live()
    assert live.ttft_ms(50) is None
    for took_ms in range(1, 101):
        live.add(record(first_token_at=took_ms * 1_000_000, usage={"completion_tokens": 3}))
    live.add(record(status="error", first_token_at=None, usage_partial={"completion_tokens": 2}))
    assert (live.done, live.failed, live.tokens) == (101, 1, 302)
    for p in (50, 95):
        assert live.ttft_ms(p) == pytest.approx(p, rel=0.06)


def test_plain_lines_tell_rate_asked_and_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("runner.live.time.monotonic", lambda: now)
    out = io.StringIO()
    screen = Screen(60.0, None, out)
    screen.show(view())  # not every half second
    now = 105.0
    screen.show(view(started=50, tokens=500, asked_per_s=12.0, ttft_p50_ms=51.2, ttft_p95_ms=80.0))
    screen.close(view())
    line, last = out.getvalue().splitlines()
    assert last.startswith("5.0 s")
    assert line.startswith("5 s, 8 done, 2 in flight, 10.0 of 12.0 req/s, TTFT p50/p95 51/80 ms, 100 tok/s")
    assert "1 failed" in line


def test_the_last_line_is_of_the_whole_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("runner.live.time.monotonic", lambda: now)
    out = io.StringIO()
    screen = Screen(None, 100, out)
    now = 20.0
    screen.close(view(started=100))
    assert out.getvalue().startswith("20.0 s, 8 done, 2 in flight, 5.0 req/s, TTFT p50/p95 -/- ms")


def test_a_terminal_shows_one_line_that_renews_itself() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    screen = Screen(10.0, None, out)
    screen.show(view(ttft_p50_ms=5.0))
    screen.say("a note")
    screen.close(view())
    assert "a note" in out.getvalue()
    assert "TTFT p50/p95 5/- ms" in out.getvalue()


def test_a_terminal_that_has_gone_away_stops_nothing() -> None:
    out = io.StringIO()
    screen = Screen(1.0, None, out)
    out.close()
    screen.say("nobody reads this")
    screen.show(view())
    screen.close(view())


def test_a_terminal_that_nobody_reads_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.live._LAST_WORDS_S", 0.01)
    stuck = threading.Event()

    class Stuck(io.StringIO):
        def write(self, _: str) -> int:
            stuck.wait(60)
            return 0

    screen = Screen(1.0, None, Stuck())
    screen.say("one")
    screen.say("two")
    screen.close(view())
    stuck.set()
