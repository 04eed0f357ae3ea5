"""One completion that goes wrong on purpose: put together beforehand, sent piece by piece.

It costs more than an honest answer (3 to 30 µs a token, all when the request comes), and only it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from runner.mock.answers import MAX_RUN, Answer
from runner.mock.config import RoleChunk
from runner.mock.events import DONE, Event, Piece, Source
from runner.mock.exchange import Line
from runner.mock.framing import COMMENT, until_close
from runner.mock.http import chunk
from runner.mock.log import Entry
from runner.mock.refusals import Headers
from runner.mock.staging import Ending, Stage
from runner.mock.stats import Stats

# Between the last bytes and a connection that breaks: a reader that is not slow has them by then.
_BREAK_NS = 10_000_000
COMMENT_NS = 50_000_000
_BREAKS = frozenset({Ending.CLOSE, Ending.RESET})


def events_of(answer: Answer, when: RoleChunk) -> list[Event]:
    """The events of an honest answer, made without chunks of HTTP."""
    role = _chunks(answer.opening()) if when is not RoleChunk.NEVER else []
    out = [Event(chunk, beat=n == 0 and when is RoleChunk.WITH_FIRST) for n, chunk in enumerate(role)]
    begun = any(event.beat for event in out)
    for start in range(0, answer.tokens, MAX_RUN):
        run = _chunks(answer.frames(start, min(start + MAX_RUN, answer.tokens)))
        out += [
            Event(chunk, tokens=1, beat=n % answer.choices == 0 and not (begun and start + n == 0))
            for n, chunk in enumerate(run)
        ]
    closing = answer.closing().removesuffix(b"data: [DONE]\n\n")
    return [*out, *map(Event, _chunks(closing)), DONE]


def _chunks(data: bytes) -> list[dict[str, object]]:
    decode = msgspec.json.decode
    return [decode(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-1]]


def pieces_of(stage: Stage, answer: Answer, when: RoleChunk, *, chunked: bool) -> tuple[Headers, list[Piece]]:
    """What is sent, with the headers that say how. A client of HTTP 1.0 gets no chunks."""
    events = events_of(answer, when) if answer.streamed else []
    pieces = stage.body(Source(events, answer.whole))
    if not stage.head:
        return (), pieces
    headers, carried = stage.carry(pieces)
    if not chunked and ("transfer-encoding", "chunked") in headers:
        headers, carried = until_close(pieces)
    if stage.content_type is not None:
        headers = (("content-type", stage.content_type), *headers)
    return (*headers, *stage.headers), carried


class StagedExchange:
    """A step, and to its connection the same as an `Exchange`."""

    def __init__(
        self,
        line: Line,
        entry: Entry,
        pieces: list[Piece],
        times: Iterator[int],
        ending: Ending,
        *,
        stats: Stats,
        head: Callable[[], bytes] | None,
        stamped: bool,
        on_end: Callable[[Entry], None],
    ) -> None:
        """`head` makes the response head (None: there is none); the rest is as in `Exchange`."""
        self.entry = entry
        self.blocked = False
        self._line = line
        self._pieces = pieces
        self._times = times
        self._due = next(times)  # of the next piece that waits for a token's time
        self._ending = ending
        self._stats = stats
        self._head = head
        self._stamped = stamped
        self._on_end = on_end
        self._next = 0
        self._last_ns = 0  # when bytes were sent last
        self._over = False

    def start(self, now: int, _opening: bytes) -> int:
        """Send what does not wait for a token. Returns as a step does."""
        if self._head is not None:
            self._write(now, self._head())
            self.entry.headers_sent_ns, self.entry.status = now, 200
        return self.step(now)

    def step(self, now: int) -> int:
        """Send all that is due at `now`; the ending goes when the next token would have gone."""
        if self._over:
            return 0
        if self._line.paused:
            self.blocked = True
            return 0
        ready = self._send(now)
        return ready or self._end(now)

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

    def _send(self, now: int) -> int:
        """Send the pieces that are due. Returns when the next one is, 0 where all are sent."""
        data: list[bytes] = []
        ready = 0
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            ready = self._due if piece.beat else 0
            if piece.apart_ns:
                ready = max(ready, (now if data else self._last_ns) + piece.apart_ns)
            if ready > now:
                break
            if piece.beat:
                self._due = next(self._times)
            self._next += 1
            ready = 0
            data.append(piece.data)
            self._count(now, piece.tokens)
        if data:
            if self._next == len(self._pieces) and self._ending is Ending.FINISH:
                self.entry.done_sent_ns = now
            self._write(now, b"".join(data))
        return ready

    def _count(self, now: int, tokens: int) -> None:
        entry = self.entry
        if not tokens:
            return
        if entry.first_token_sent_ns is None:
            entry.first_token_sent_ns = now
        entry.tokens_sent += tokens
        self._stats.tokens_sent += tokens
        if self._stamped:
            entry.token_us += [(now - entry.first_token_sent_ns) // 1000] * tokens

    def _write(self, now: int, data: bytes) -> None:
        self._last_ns = now
        if data:
            self._line.write(data)

    def _end(self, now: int) -> int:
        ending = self._ending
        if ending is Ending.STALL:
            return 0  # held until the peer leaves
        if ending is Ending.COMMENTS:
            self._write(now, chunk(COMMENT))
            return now + COMMENT_NS
        if ending in _BREAKS and self._last_ns:
            breaks_at = max(self._due, self._last_ns + _BREAK_NS)
            if breaks_at > now:
                return breaks_at
        self.drop()
        if ending is Ending.RESET:
            self._line.reset()
        elif ending is Ending.CLOSE:
            self._line.close()
        else:
            self._line.answered()
        return 0
