"""One attempt as it is read: bytes to answer, under five timers.

A `Stream` is the transport's sink. It parses as bytes arrive, so that memory and the work of one loop turn
stay small, and keeps one loop timer, set to its nearest deadline and looked at again only when it fires.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Literal

from aiohttp.http import RawResponseMessage

from runner.answer import Answer
from runner.chunks import is_json
from runner.record import CancelledBy, ErrorKind, Timer
from runner.sse import Parser, TooLarge
from runner.steady import Steady
from runner.timeouts import Timeouts
from runner.transport import CURRENT, Handler, HeldBackError

_S = 1_000_000_000
# After `[DONE]` the last chunk of the body follows at once; waiting for it keeps the connection for the next.
LINGER_NS = 200_000_000
# After a finish reason there may still be usage and `[DONE]`, or an end of body; none of them takes long.
_AFTER_FINISH_NS = 10 * _S
_ERROR_BODY_NS = 5 * _S
_ERROR_BODY_BYTES = 64 << 10
_DOCUMENT_BYTES = 64 << 20
# More than this in one read is parsed over several loop turns (about 0.4 ms each).
_SLICE = 32 << 10
# So many events of a read are read one by one, to learn what the others are like.
_SINGLY = 4

_BOM = b"\xef\xbb\xbf"
Mode = Literal["unknown", "sse", "document", "refusal"]


class Stream:
    """One attempt. Instants are `monotonic_ns`, `None` where the thing did not happen."""

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        fresh: bool = False,
        choices: int = 1,
        stop_after: int | None = None,
        stop_by: CancelledBy = "stop_rule",
    ) -> None:
        self.fresh = fresh
        self.answer = Answer()
        self.started_at = monotonic_ns()
        self.sent_at: int | None = None
        self.headers_at: int | None = None
        self.ended_at: int | None = None
        self.status: int | None = None
        self.headers: Any = {}
        self.reused: bool | None = None
        self.connect_ns: int | None = None
        self.mode: Mode = "unknown"
        self.document: list[bytes] = []
        self.broken: BaseException | None = None  # what broke the transport, if anything did
        self.timer: Timer | None = None  # which of our timers ended it
        self.cancelled_by: CancelledBy | None = None
        self.too_large = False
        self.held = False  # it was not sent: something forbade it while it connected
        self.may_go: Callable[[], bool] = lambda: True  # asked at the last moment
        self.on_sent: Any = None  # called without arguments, as the next two are
        self.on_head: Any = None
        self.on_first_token: Any = None
        self._stop_after = stop_after  # token-bearing chunks after which it is cut on purpose
        self._stop_by = stop_by
        self._timeouts = timeouts
        self._choices = choices  # asked for: one that starts late is waited for
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._handler: Handler | None = None
        self._parser = Parser()
        self._steady = Steady()
        self._steady_id: Any = None
        self._idle = False  # the last event was plain text, and nothing is half-read
        self._last_byte_at = 0
        self._before = 0  # stamp of the read before
        self._document_size = 0
        self._is_page = False  # the document is a web page: it can hold no answer
        self._backlog: deque[tuple[bytes, int]] = deque()
        self._parsed = 0  # bytes of the first of those that are parsed
        self._end: tuple[BaseException | None, int] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0

    @property
    def was_cut(self) -> bool:
        """We ended it ourselves: by a timer, or because somebody asked."""
        return self.timer is not None or self.cancelled_by is not None

    @property
    def last_byte_at(self) -> int:
        """When the last byte of the response came; 0: none has."""
        return self._last_byte_at

    @property
    def got_bytes(self) -> bool:
        """Some of the answer came, be it half a status line."""
        return self.headers_at is not None or (self._handler is not None and self._handler.half_head)

    @property
    def _finished(self) -> bool:
        return self.answer.finished and len(self.answer.choices) >= self._choices

    async def run(self, post: Any) -> None:
        """Send with `post` (a request context of aiohttp) and read until there is nothing more to read.

        Returns however the attempt ended; what became of it stands in the attributes. Exceptions of the
        transport before the response began are raised as they are.
        """
        cut_before = self.was_cut
        if cut_before:
            post.close()
            return
        self._task = asyncio.current_task()
        assert self._task is not None
        CURRENT.set(self)
        self._arm()
        response = None
        try:
            response = await post
            self._task = None
            await self._over
        except HeldBackError:
            self.held = True
        except asyncio.CancelledError:
            task, self._task = self._task, None
            if not self.was_cut:
                self.cut(by="user")
                raise
            if task is not None:
                task.uncancel()
        finally:
            if self._handle is not None:
                self._handle.cancel()
            # Without these it goes as soon as its record is made. With them it would wait for the garbage
            # collector, and that would stop the loop for all the streams since it last looked.
            self._handle = self._task = None
            self.on_sent = self.on_head = self.on_first_token = None
            if self.ended_at is None:
                self.ended_at = monotonic_ns()
            if response is not None:
                response.close()  # gives a body read to its end back to the pool, and closes any other

    def cut(self, *, by: CancelledBy | None = None, timer: Timer | None = None) -> None:
        """Close the connection now: the only cancel there is."""
        if self._handler is not None:
            self._handler.flush()
        if self._over.done() or self.was_cut:
            return
        self._parse_backlog()
        if self._end is not None:
            self._pause(False)  # the connection is kept: the next answer on it has to be read
            self._finish(*self._end)  # it had ended, and was only not read through yet
            return
        if self.answer.done_at is not None or self._finished or self._is_whole_document():
            self._drop()  # all of it is here: there is nothing left to cut
            self._finish(None, self._last_byte_at)
            return
        self.cancelled_by, self.timer = by, timer
        self._drop()
        if self._task is not None:
            self._task.cancel()
        self._finish(None, monotonic_ns())

    # -- the sink

    def connected(self, handler: Handler, connect_ns: int | None) -> None:
        """A connection is there."""
        self._handler = handler
        self.reused = connect_ns is None
        self.connect_ns = connect_ns
        self._arm()

    def sent(self, at: int) -> None:
        """The request is out."""
        if self.headers_at is None:  # else the server did not wait for all of it
            self.sent_at = at
            self._arm()
            if self.on_sent is not None:
                self.on_sent()

    def head(self, message: RawResponseMessage, at: int) -> None:
        """Status and headers are here."""
        self.headers_at = self._last_byte_at = self._before = at
        self.status = message.code
        self.headers = message.headers
        if not 200 <= message.code < 300:
            self.mode = "refusal"
        self._arm()
        if self.on_head is not None:
            self.on_head()

    def body(self, data: bytes, at: int) -> None:
        """Some of the body is here."""
        self._last_byte_at = at
        if self._idle and not self._backlog:
            text = self._steady.text_of(data)
            if text is not None:
                self._before = at
                self.answer.more(text, at)
                if self._stop_after is not None:
                    self._stop_if_enough()
                return
        if self._backlog:
            self._backlog.append((data, at))
        elif self.mode == "sse" and len(data) <= _SLICE:
            self._parse(data, at)
        elif len(data) > _SLICE and self.mode in {"sse", "unknown"}:
            self._backlog.append((data, at))
            self._pause(True)
            self._loop.call_soon(self._parse_slice)
        else:
            self._take(data, at)

    def ended(self, exc: BaseException | None, at: int) -> None:
        """The body is whole, or broken."""
        if self._backlog:
            self._end = (exc, at)
        else:
            self._finish(exc, at)

    # -- parsing

    def _take(self, data: bytes, at: int) -> None:
        if self.mode == "sse":
            self._parse(data, at)
        elif self.mode == "unknown":
            self._sniff(data, at)
        else:
            self._gather(data, at)

    def _parse(self, data: bytes, at: int) -> None:
        answer = self.answer
        begun, closing = answer.first_token_at, answer.closing_at
        try:
            self._feed(data, at)
        except TooLarge:
            self._overflow(at)
            return
        if answer.done_at is not None or answer.closing_at != closing:
            self._arm()
        if begun is None and answer.first_token_at is not None:
            self._arm()
            if self.on_first_token is not None:
                self.on_first_token()
        if self._stop_after is not None:
            self._stop_if_enough()

    def _feed(self, data: bytes, at: int) -> None:
        """A read: its first event alone, what is like it at once, the rest in full."""
        begin, end = 0, data.find(b"\n\n") + 2
        for _ in range(_SINGLY):
            if not 1 < end < len(data):
                break
            self._feed_part(data[begin:end], at)
            begin = end
            if self._idle and self._steady.known:
                texts, begin = self._steady.texts_of(data, begin)
                if texts:
                    self.answer.more_of(texts, at)
                break
            end = data.find(b"\n\n", begin) + 2
        if begin < len(data):
            self._feed_part(data[begin:] if begin else data, at)

    def _feed_part(self, data: bytes, at: int) -> None:
        answer, parser = self.answer, self._parser
        whole = parser.idle
        events = parser.feed(data, at, self._before)
        for event in events:
            answer.feed(event)
        self._before = at
        # The steady way is open while nothing can be pending: no half event, no end, no error.
        plain = answer.plain
        self._idle = plain is not None and parser.idle
        if plain is not None and self._idle and whole and len(events) == 1:
            self._steady.learn(data, plain)
            self._steady_id = answer.chunk_id
        elif answer.chunk_id != self._steady_id:
            self._steady.forget()

    def _stop_if_enough(self) -> None:
        if len(self.answer.token_at) >= (self._stop_after or 0):
            self.cut(by=self._stop_by)

    def _sniff(self, data: bytes, at: int) -> None:
        # The first byte tells more than Content-Type: errors come labelled as streams, and streams as text.
        body = b"".join([*self.document, data])
        bom = _BOM if body.startswith(_BOM) else b""
        start = body.removeprefix(bom).lstrip()
        if not start or _BOM.startswith(body):
            # Of white space its last byte says all that matters: whether a line has begun.
            self.document = [body] if _BOM.startswith(body) else [bom, body[-1:]]
            return
        whole = start[:1] in {b"{", b"[", b"<"}
        if not whole and not self._is_stream():
            like = _like_sse(start)
            if like is None:
                self.document = [body]
                return
            whole = not like
        self.document = []
        self.mode = "document" if whole else "sse"
        self._is_page = start.startswith(b"<")
        self._take(start if whole else body, at)
        self._arm()

    def _is_stream(self) -> bool:
        return "event-stream" in self.headers.get("content-type", "").lower()

    def _gather(self, data: bytes, at: int) -> None:
        self.document.append(data)
        self._document_size += len(data)
        if (self.mode == "refusal" or self._is_page) and self._document_size >= _ERROR_BODY_BYTES:
            self._drop()
            self._finish(None, at)
        elif self._document_size > _DOCUMENT_BYTES:
            self._overflow(at)

    def _overflow(self, at: int) -> None:
        self.too_large = True
        self._drop()
        self._finish(None, at)

    def _parse_slice(self) -> None:
        if not self._backlog or self._over.done():
            return
        data, at = self._backlog[0]
        begin, self._parsed = self._parsed, self._parsed + _SLICE  # first: what it says may lead to a cut
        self._take(data[begin : self._parsed], at)
        if not self._backlog:
            return
        if self._parsed >= len(data):
            self._backlog.popleft()
            self._parsed = 0
        if self._backlog:
            self._loop.call_soon(self._parse_slice)
            return
        self._pause(False)
        if self._end is not None:
            self._finish(*self._end)

    def _parse_backlog(self) -> None:
        while self._backlog:
            data, at = self._backlog.popleft()
            begin, self._parsed = self._parsed, 0
            self._take(data[begin:], at)

    def _pause(self, pause: bool) -> None:
        transport = self._handler.transport if self._handler is not None else None
        if transport is not None and not transport.is_closing():
            if pause:
                transport.pause_reading()
            else:
                transport.resume_reading()

    # -- the end

    def _drop(self) -> None:
        if self._handler is not None:
            self._handler.drop()

    def _is_whole_document(self) -> bool:
        return self.mode == "document" and is_json(b"".join(self.document))

    def _finish(self, exc: BaseException | None, at: int) -> None:
        if self._over.done():
            return
        self._backlog.clear()
        if self.mode == "unknown" and b"".join(self.document).removeprefix(_BOM).strip():
            self.mode = "document"
        if self.mode == "sse":
            for event in self._parser.finish(self._before):
                self.answer.tail(event)
        self.broken = exc
        done_at = self.answer.done_at
        self.ended_at = done_at if done_at is not None else at
        self._over.set_result(None)

    # -- time

    def _nearest(self) -> tuple[int, str] | None:
        """The deadline that comes first, and whose it is."""
        limits, answer = self._timeouts, self.answer
        out: list[tuple[int, str]] = []
        if limits.total is not None:
            out.append((self.started_at + int(limits.total * _S), "total"))
        if self._handler is None:
            if limits.connect is not None:
                out.append((self.started_at + int(limits.connect * _S), "connect"))
        elif answer.done_at is not None:
            out.append((answer.done_at + LINGER_NS, "linger"))
        elif answer.error is not None and answer.closing_at is not None:
            out.append((answer.closing_at + LINGER_NS, "linger"))
        elif (self.mode == "refusal" or self._is_page) and self.headers_at is not None:
            out.append((self.headers_at + _ERROR_BODY_NS, "error_body"))
        else:
            self._while_answering(out)
        # Of two at the same instant the first named says more: silence after a token is a gap between tokens.
        return min(out, key=_due_at, default=None)

    def _while_answering(self, out: list[tuple[int, str]]) -> None:
        limits, answer = self._timeouts, self.answer
        if self._finished and answer.closing_at is not None:
            out.append((answer.closing_at + _AFTER_FINISH_NS, "linger"))
        elif answer.last_token_at is not None:
            if limits.token_gap is not None:
                out.append((answer.last_token_at + int(limits.token_gap * _S), "token_gap"))
        elif self.mode != "document" and limits.first_token is not None:
            out.append(((self.sent_at or self.started_at) + int(limits.first_token * _S), "first_token"))
        if self.headers_at is not None and limits.byte_idle is not None:
            out.append((self._last_byte_at + int(limits.byte_idle * _S), "byte_idle"))

    def _arm(self) -> None:
        first = self._nearest()
        if first is None or self._over.done():
            return
        nearest = first[0]
        if self._handle is not None:
            if self._armed_for <= nearest:
                return  # it fires earlier and looks again then
            self._handle.cancel()
        self._armed_for = nearest
        self._handle = self._loop.call_later(max(nearest - monotonic_ns(), 1_000_000) / _S, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._handler is not None:
            self._handler.flush()
        if self._over.done():
            return
        now = monotonic_ns()
        due = self._nearest()
        if due is None or due[0] > now or self._backlog:
            self._arm()
            return
        name: Any = due[1]
        answer = self.answer
        settled = answer.done_at is not None or answer.error is not None or self._finished
        if settled or self.mode == "refusal" or self._is_page:
            self._drop()
            self._finish(None, self._last_byte_at)
        else:
            self.cut(timer=name)


def _due_at(deadline: tuple[int, str]) -> int:
    return deadline[0]


def _like_sse(start: bytes) -> bool | None:
    """Whether a body begins as an event stream does; `None` where more of it has to come to tell."""
    if start.startswith(b":"):
        return True
    for field in (b"data", b"event", b"id", b"retry"):
        if field.startswith(start):
            return None
        if start.startswith(field) and start[len(field) : len(field) + 1] in {b":", b"\r", b"\n"}:
            return True
    return False


def truncated_kind(stream: Stream) -> ErrorKind:
    """What a transport that broke under an attempt is called."""
    return ErrorKind.TRUNCATED if stream.got_bytes else ErrorKind.DISCONNECTED
