"""One completion while it is being answered: sends each token at its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from runner.mock.answers import MAX_RUN, Answer
from runner.mock.fault import Fault
from runner.mock.log import Entry
from runner.mock.staging import Ending
from runner.mock.stats import Stats


class Line(Protocol):
    """What an exchange needs of its connection."""

    paused: bool  # the peer does not read fast enough: nothing more may be written now

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, at once where it takes them."""

    def reset(self) -> None:
        """Break the connection with an RST."""

    def close(self) -> None:
        """Close the connection in order, after what was written."""

    def answered(self) -> None:
        """The exchange is over, its answer sent."""


class Exchange:
    """A step (see `wheel.Step`) that sends what is due and says when it wants to go on."""

    __slots__ = (
        "_answer",
        "_at_once",
        "_due",
        "_ending",
        "_line",
        "_on_end",
        "_over",
        "_pending",
        "_role",
        "_sent",
        "_stamped",
        "_stats",
        "_stop_at",
        "_streamed",
        "_times",
        "blocked",
        "entry",
    )

    def __init__(
        self,
        line: Line,
        entry: Entry,
        answer: Answer,
        times: Iterator[int],
        fault: Fault | None,
        *,
        stats: Stats,
        head: Callable[[int], bytes],
        role: bytes,
        at_once: bool,
        stamped: bool,
        on_end: Callable[[Entry], None],
    ) -> None:
        """`head` makes the response head for a body of so many bytes; of a stream for -1.

        `role` goes before the first token, in the same write. `at_once`: all tokens are due with the first.
        `stamped`: the entry keeps the time of every token.
        """
        self.entry = entry
        self.blocked = False  # waits for the peer to read, not for the clock
        self._line = line
        self._answer = answer
        self._times = times
        self._due = next(times)
        self._ending = fault.ending if fault else Ending.FINISH
        self._stop_at = answer.tokens if fault is None else int(answer.tokens * fault.after)
        self._at_once = at_once
        self._stamped = stamped
        self._stats = stats
        self._on_end = on_end
        self._streamed = entry.stream
        self._pending: Callable[[int], bytes] | None = head
        self._role = role
        self._sent = 0
        self._over = False

    def start(self, now: int, opening: bytes) -> int:
        """Send the head and `opening` of a stream, with the tokens already due. Returns as a step does."""
        if self._streamed:
            head = self._head(now, -1) + opening
            if self._due > now:
                self._line.write(head)
                return self._due
            self._role = head + self._role
        return self.step(now)

    def step(self, now: int) -> int:
        """Send all tokens due at `now`, never one before its time; the end goes with the last one."""
        if self._over:
            return 0
        if self._line.paused:
            self.blocked = True
            return 0
        start = self._sent
        limit = min(self._stop_at, start + MAX_RUN)
        place, due = start, self._due
        if self._at_once:
            if due <= now:
                place = limit
        else:
            times = self._times
            while due <= now and place < limit:
                place += 1
                due = next(times)
            self._due = due
        self._sent = place
        # a good end goes with the last token, a bad one when the next token would have gone
        finished = self._ending is Ending.FINISH and (place > start or due <= now)
        ends = place == self._stop_at and (finished or due <= now)
        if self._streamed:
            if place > start or ends:
                self._send(now, start, place, ends=ends)
        elif ends and self._ending is Ending.FINISH:
            self._send_whole(now)
        if ends:
            self._end()
            return 0
        return due  # where the peer does not keep up, the next step finds the line paused

    def leave(self, now: int) -> None:
        """The peer has gone: nothing more is sent."""
        if not self._over:
            self.entry.peer_left_ns = now
            self.drop()

    def drop(self) -> None:
        """End without an end, as when the server stops."""
        if not self._over:
            self._over = True
            self._on_end(self.entry)

    def _send(self, now: int, start: int, stop: int, *, ends: bool) -> None:
        answer, entry = self._answer, self.entry
        after = b""
        if ends and self._ending is Ending.FINISH:
            after = answer.closing()
            entry.done_sent_ns = now
        data = answer.frames(start, stop, self._role, after)
        self._role = b""
        if stop > start:
            first = entry.first_token_sent_ns
            if first is None:
                first = entry.first_token_sent_ns = now
            tokens = (stop - start) * answer.choices
            entry.tokens_sent += tokens
            self._stats.tokens_sent += tokens
            if self._stamped:
                offset_us = (now - first) // 1000
                if tokens == 1:
                    entry.token_us.append(offset_us)
                else:
                    entry.token_us += [offset_us] * tokens
        if data:
            self._line.write(data)

    def _send_whole(self, now: int) -> None:
        body = self._answer.whole()
        tokens = self.entry.tokens_sent = self._answer.tokens * self._answer.choices
        self._stats.tokens_sent += tokens
        self.entry.done_sent_ns = now
        self._line.write(self._head(now, len(body)) + body)

    def _head(self, now: int, length: int) -> bytes:
        assert self._pending is not None
        head = self._pending(length)
        self._pending = None
        self.entry.headers_sent_ns = now
        self.entry.status = 200
        return head

    def _end(self) -> None:
        if self._ending is Ending.STALL:
            return  # held until the peer leaves
        self._over = True
        line = self._line
        self._on_end(self.entry)
        if self._ending is Ending.RESET:
            line.reset()
        else:
            line.answered()
