"""What the user sees while a run goes on: a line that renews itself, or plain lines without a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

if TYPE_CHECKING:
    from tqdm import tqdm

PLAIN_EVERY_S = 5.0
_WINDOW_S = 15.0


class Snapshot(msgspec.Struct, frozen=True):
    """Counts of this session at one moment."""

    done: int  # records known to be on disk, without those that were cancelled
    failed: int
    in_flight: int
    tokens: int
    state: str = ""
    cancelled: int = 0  # to be asked again


class Progress:
    """Shows snapshots on a text stream (stderr). Its methods may wait for the terminal: not for the loop.

    Args:
        total: requests of the run.
        before: of them, done in earlier sessions.
        unit_tokens: what `tokens` counts (`tokens`, or `chunks` where the server tells no usage).
    """

    def __init__(self, total: int, before: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._before = before
        self._started = time.monotonic()
        self._next_line = self._started + PLAIN_EVERY_S
        self._recent: deque[tuple[float, int, int]] = deque([(self._started, 0, 0)])
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=before, file=self._stream, unit="req", dynamic_ncols=True, smoothing=0.1
            )

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand. A terminal that has gone away stops nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._show(snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        self._recent.append((now, snapshot.done, snapshot.tokens))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.set_postfix_str(self._rates(snapshot), refresh=False)
            self._bar.update(self._before + snapshot.done - int(self._bar.n))
            self._bar.refresh()
        elif now >= self._next_line:
            self._next_line = now + PLAIN_EVERY_S
            self.say(self._line(snapshot))

    def say(self, text: str) -> None:
        """Show one line of its own, where anybody can see it."""
        with contextlib.suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.write(text, file=self._stream)
            else:
                print(text, file=self._stream, flush=True)

    def close(self, snapshot: Snapshot) -> None:
        """Show the last state and leave it standing."""
        if self._bar is not None:
            self.show(snapshot)
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
        else:
            self._recent = deque([(self._started, 0, 0), (time.monotonic(), snapshot.done, snapshot.tokens)])
            self.say(self._line(snapshot))

    def _speed(self) -> tuple[float, float]:
        (then, done, tokens), (now, done_now, tokens_now) = self._recent[0], self._recent[-1]
        passed = max(now - then, 1e-3)
        return (done_now - done) / passed, (tokens_now - tokens) / passed

    def _rates(self, snapshot: Snapshot) -> str:
        tokens = self._speed()[1]
        parts = [f"{tokens:,.0f} tok/s", f"{snapshot.in_flight} in flight", f"{snapshot.failed} failed"]
        parts += [f"{snapshot.cancelled} cancelled"] if snapshot.cancelled else []
        return ", ".join([*parts, snapshot.state] if snapshot.state else parts)

    def _line(self, snapshot: Snapshot) -> str:
        rate = self._speed()[0]
        done = self._before + snapshot.done
        going_on = rate > 0 and done < self._total and snapshot.state != "stopping"
        left = f", {_duration((self._total - done) / rate)} left" if going_on else ""
        return f"{done:,}/{self._total:,} done, {rate:,.1f} req/s, {self._rates(snapshot)}{left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
