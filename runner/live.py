"""What is seen of a bench while it runs: one line that renews itself, or plain lines without a terminal."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from runner.record import Record, tokens

if TYPE_CHECKING:
    from tqdm import tqdm

PLAIN_EVERY_S = 5.0
_WINDOW_S = 10.0
_LAST_WORDS_S = 2.0
_BUCKETS_A_DECADE = 200  # 1 % wide: enough to look at


class Live:
    """Counts while the load runs. A quick look, not the report: its percentiles come from coarse buckets."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.tokens = 0
        self._ttft: dict[int, int] = {}
        self._given: dict[int, int] = {}
        self._timed = 0

    def add(self, record: Record) -> None:
        """Count a record."""
        self.done += 1
        self.failed += record.status == "error"
        self.tokens += tokens(record.usage or record.usage_partial).completion or 0
        if record.status == "ok" and record.sent_at is not None and record.first_token_at is not None:
            took_ms = max((record.first_token_at - record.sent_at) / 1e6, 1e-3)
            bucket = round(math.log10(took_ms) * _BUCKETS_A_DECADE)
            self._ttft[bucket] = self._ttft.get(bucket, 0) + 1
            self._timed += 1

    def taken(self) -> dict[int, int]:
        """The counts of TTFT since they were taken last, for `give` elsewhere."""
        fresh = {bucket: n - self._given.get(bucket, 0) for bucket, n in self._ttft.items()}
        self._given = dict(self._ttft)
        return {bucket: n for bucket, n in fresh.items() if n}

    def give(self, ttft: dict[int, int]) -> None:
        """Count what another one has `taken`."""
        for bucket, n in ttft.items():
            self._ttft[bucket] = self._ttft.get(bucket, 0) + n
            self._timed += n

    def ttft_ms(self, p: float) -> float | None:
        """A percentile of TTFT so far."""
        if not self._timed:
            return None
        rank, seen = max(1, math.ceil(self._timed * p / 100)), 0
        for bucket in sorted(self._ttft):
            seen += self._ttft[bucket]
            if seen >= rank:
                return float(10 ** (bucket / _BUCKETS_A_DECADE))
        return None


class View(msgspec.Struct, frozen=True):
    """How things stand at one moment."""

    started: int
    done: int
    failed: int
    in_flight: int
    tokens: int
    asked_per_s: float | None  # requests a second, where the load asks for a rate
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    state: str = ""


class Screen:
    """Shows views on a text stream (stderr). Nothing here waits for the terminal: a thread of its own does.

    Args:
        total_s: how long the load lasts, where that is known.
        total: how many requests it has, where that is.
    """

    def __init__(self, total_s: float | None, total: int | None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total_s, self._total = total_s, total
        self._by_time = total is None and total_s is not None
        self._started = time.monotonic()
        self._next_line = self._started + PLAIN_EVERY_S
        self._recent: deque[tuple[float, int, int]] = deque([(self._started, 0, 0)])
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            self._bar = self._make_bar()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: a terminal that nobody reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._write, name="screen", daemon=True)
        self._thread.start()

    def show(self, view: View) -> None:
        """Show how things stand."""
        now = time.monotonic()
        self._recent.append((now, view.started, view.tokens))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        words = self._words(view)
        if self._bar is not None:
            place = now - self._started if self._by_time else view.done
            self._queue.put(partial(self._move_bar, words, place))
        elif now >= self._next_line:
            self._next_line = now + PLAIN_EVERY_S
            self.say(f"{now - self._started:.0f} s, {words}")

    def say(self, text: str) -> None:
        """Show one line of its own."""
        self._queue.put(partial(self._print, text))

    def close(self, view: View) -> None:
        """Show the last state, leave it standing, and wait a moment until all is shown."""
        if self._bar is not None:
            self.show(view)
            self._queue.put(self._bar.close)
        else:
            now = time.monotonic()
            self._recent = deque([(self._started, 0, 0), (now, view.started, view.tokens)])
            self.say(f"{now - self._started:.1f} s, {self._words(view)}")
        self._queue.put(None)
        self._thread.join(_LAST_WORDS_S)

    # -- the thread

    def _write(self) -> None:
        while (what := self._queue.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # a terminal that has gone away stops nothing
                what()

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def _move_bar(self, words: str, place: float) -> None:
        bar = self._bar
        assert bar is not None
        bar.set_postfix_str(words, refresh=False)
        bar.update(min(place, bar.total or place) - bar.n)
        bar.refresh()

    def _make_bar(self) -> tqdm[Any]:
        from tqdm import tqdm

        total, total_s = self._total, self._total_s
        return tqdm(
            total=round(total_s or 0) if self._by_time else total,
            file=self._stream,
            unit="s" if self._by_time else "req",
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}{postfix}" if total or total_s else None,
        )

    def _words(self, view: View) -> str:
        (then, started, made), (now, started_now, made_now) = self._recent[0], self._recent[-1]
        passed = max(now - then, 1e-3)
        rate = f"{(started_now - started) / passed:,.1f}"
        if view.asked_per_s is not None:
            rate += f" of {view.asked_per_s:,.1f}"
        ttft = "/".join("-" if at is None else f"{at:,.0f}" for at in (view.ttft_p50_ms, view.ttft_p95_ms))
        parts = [
            f"{view.done:,} done",
            f"{view.in_flight:,} in flight",
            f"{rate} req/s",
            f"TTFT p50/p95 {ttft} ms",
            f"{(made_now - made) / passed:,.0f} tok/s",
            f"{view.failed:,} failed",
        ]
        return ", ".join([*parts, view.state] if view.state else parts)
