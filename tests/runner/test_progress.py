from __future__ import annotations

import io

import pytest

from runner import progress as module
from runner.progress import Progress, Snapshot


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)  # type: ignore[attr-defined]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def snapshot(done: int, *, failed: int = 0, in_flight: int = 8, tokens: int = 0, state: str = "") -> Snapshot:
    return Snapshot(done=done, failed=failed, in_flight=in_flight, tokens=tokens, state=state)


def test_plain_lines_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    shown = Progress(1000, 100, out)
    for second in range(1, 13):
        clock.now += 1
        shown.show(snapshot(10 * second, tokens=320 * second))
    first, second_line = out.getvalue().splitlines()
    assert first == "150/1,000 done, 10.0 req/s, 320 tok/s, 8 in flight, 0 failed, 85 s left"
    assert second_line == "200/1,000 done, 10.0 req/s, 320 tok/s, 8 in flight, 0 failed, 80 s left"
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_plain_the_last_line(clock: Clock) -> None:
    out = io.StringIO()
    shown = Progress(20, 0, out)
    clock.now += 2
    shown.say("a word")
    shown.close(snapshot(20, failed=3, in_flight=0, state="stopping"))
    first, last = out.getvalue().splitlines()
    assert first == "a word"
    assert last.startswith("20/20 done, ")
    assert last.endswith("0 in flight, 3 failed, stopping")
    assert "left" not in last


def test_cancelled_ones_stand_apart(clock: Clock) -> None:
    out = io.StringIO()
    shown = Progress(400, 0, out)
    clock.now += 2
    shown.close(Snapshot(done=12, failed=0, in_flight=0, tokens=0, cancelled=12, state="stopping"))
    assert (
        out.getvalue() == "12/400 done, 6.0 req/s, 0 tok/s, 0 in flight, 0 failed, 12 cancelled, stopping\n"
    )


@pytest.mark.parametrize(
    ("per_s", "left"), [(100, "10 s left"), (1, "17 min left"), (0.1, "2.8 h left"), (0, None)]
)
def test_time_left(clock: Clock, per_s: float, left: str | None) -> None:
    out = io.StringIO()
    shown = Progress(2000, 1000 - int(100 * per_s), out)
    clock.now += 100
    shown.show(snapshot(int(100 * per_s)))
    line = out.getvalue().strip()
    assert line.endswith(left) if left else "left" not in line


def test_the_rate_is_that_of_now(clock: Clock) -> None:
    """Of the last seconds: an hour of waiting at the start is not held against what comes after."""
    out = io.StringIO()
    shown = Progress(10_000, 0, out)
    clock.now += 3600
    shown.show(snapshot(0))
    for second in range(1, 31):
        clock.now += 1
        shown.show(snapshot(second * 5))
    assert " 5.0 req/s" in out.getvalue().splitlines()[-1]


def test_nothing_happened_yet(clock: Clock) -> None:
    out = io.StringIO()
    Progress(10, 0, out).close(snapshot(0, in_flight=0))
    assert out.getvalue() == "0/10 done, 0.0 req/s, 0 tok/s, 0 in flight, 0 failed\n"
    assert clock.now == 1000


def test_a_bar_on_a_terminal() -> None:
    out = Terminal()
    shown = Progress(10, 2, out)
    shown.show(snapshot(3, failed=1, in_flight=4))
    shown.say("a word")
    shown.close(snapshot(8, in_flight=0, state="stopping"))
    text = out.getvalue()
    assert "5/10" in text
    assert "4 in flight, 1 failed" in text
    assert "a word\n" in text
    assert "10/10" in text.rpartition("\r")[2]
    assert "stopping" in text.rpartition("\r")[2]
    assert text.endswith("\n")


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(1, 0).say("a word")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a word\n")
