"""How much may be under way: concurrency, and when to stop because nothing succeeds."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns

from runner.record import Error, ErrorKind


class Slots:
    """The places of a closed load: a semaphore of changing size that knows since when each place is free.

    It opens with one place, so that a wrong URL, key or model costs one request; `open_all` adds the rest.

    Args:
        concurrency: places, once open.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.opened = False
        self._limit = 1
        self._taken = 0
        self._free_since: deque[int] = deque([monotonic_ns()])
        self._waiting: deque[asyncio.Future[None]] = deque()

    def begin(self) -> None:
        """The load begins only now: so far, no place was free for a request."""
        self._free_since = deque(monotonic_ns() for _ in self._free_since)

    async def take(self) -> int:
        """Wait for a place. Returns the instant (`monotonic_ns`) it became free."""
        while not self._free_since:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if self._free_since:
                    self._wake()  # what it was woken for is another's
                raise
        self._taken += 1
        return self._free_since.popleft()

    def release(self) -> None:
        """Give a place back."""
        self._taken -= 1
        if self._taken + len(self._free_since) < self._limit:
            self._add()

    def resize(self, concurrency: int) -> None:
        """Have so many places from now on. What is taken beyond them goes on to its end."""
        self.concurrency = concurrency
        if self.opened:
            self._set(concurrency)

    def open_all(self) -> None:
        """Make all places available (once)."""
        if not self.opened:
            self.opened = True
            self._set(self.concurrency)

    def wake(self) -> None:
        """Let whoever waits for a place have one, so that it can see that the run stops."""
        self._add()

    def _set(self, limit: int) -> None:
        self._limit = limit
        while self._free_since and self._taken + len(self._free_since) > limit:
            self._free_since.pop()
        while self._taken + len(self._free_since) < limit:
            self._add()

    def _add(self) -> None:
        self._free_since.append(monotonic_ns())
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                break


# Kinds that say something of the target or the settings, never of one prompt.
_TARGET = frozenset(
    {
        ErrorKind.AUTH,
        ErrorKind.QUOTA,
        ErrorKind.REDIRECT,
        ErrorKind.TLS,
        ErrorKind.CONNECT,
    }
)
_UNPROVEN_ROWS = 3  # failures in a row, at the start, of kinds that may be the prompts' own fault
_REFUSED = 3  # refusals of the key or the account in a row, later on
_NOTHING_WORKS = 50  # failures in a row of any kind but bad_request, later on


class Breaker:
    """Ends a run in which nothing succeeds, instead of spending every prompt on finding out.

    Before the first token of any answer, one failure that is the target's (or a 404: a wrong URL or model) is
    enough, and three in a row of any kind. After it, three refusals of the key, the account or the model in a
    row, or fifty failures of any kind but `bad_request`, which is about one prompt. A token is a sign of
    life: failures that had none are counted from the last one on, so that quick refusals do not outrun slow
    answers.

    Args:
        answered: an earlier session of the run has answers, so the settings were right once.
    """

    def __init__(self, *, answered: bool = False) -> None:
        self.proven = answered
        self.tripped: Error | None = None
        self._silent = 0  # failures without a token since the last token
        self._broken = 0  # failures after a token since the last good answer
        self._refused = 0

    def token(self) -> None:
        """Take the first token of any answer."""
        self.proven = True
        self._silent = self._refused = 0

    def note(self, error: Error | None, *, begun: bool = False) -> bool:
        """Take the end of one request. Returns whether to stop.

        Args:
            error: what ended it; `None`: it is ok.
            begun: a token of its answer had come.
        """
        if error is None:
            self.token()
            self._broken = 0
            return self.tripped is not None
        missing = error.http_status in {404, 405}
        if self.proven and error.kind is ErrorKind.BAD_REQUEST and not missing:
            return self.tripped is not None
        self._broken += begun
        self._silent += not begun
        refused = missing or error.kind in {ErrorKind.AUTH, ErrorKind.QUOTA}
        self._refused = self._refused + 1 if refused else 0
        if self.tripped is None and self._is_over(error):
            self.tripped = error
        return self.tripped is not None

    def _is_over(self, error: Error) -> bool:
        in_a_row = max(self._silent, self._broken)
        if self.proven:
            return self._refused >= _REFUSED or in_a_row >= _NOTHING_WORKS
        misdirected = error.kind in _TARGET or error.http_status in {404, 405}
        return misdirected or in_a_row >= _UNPROVEN_ROWS


# Nobody was there to answer; a key or an account that is refused is as good as nobody.
_REFUSED_KINDS = frozenset({ErrorKind.AUTH, ErrorKind.QUOTA})
_GONE = _REFUSED_KINDS | {ErrorKind.CONNECT, ErrorKind.DISCONNECTED}
GONE_NS = 10_000_000_000


class LoadBreaker:
    """Ends a bench whose target is not there, or is the wrong one. One that fails under load is a result.

    Before the first token of any answer, one failure that is the target's (or a 404) ends it, and so do three
    bad requests in a row. After it, only ten seconds and fifty requests in which nobody was there to answer.

    Args:
        proven: it has answered before.
        workers: how many see a part of the load each: the fifty are of all of them.
    """

    def __init__(self, *, proven: bool = False, workers: int = 1) -> None:
        self.tripped: Error | None = None
        self.proven = proven
        self._most_gone = -(-_NOTHING_WORKS // workers)
        self._bad = 0
        self._gone = 0
        self._gone_since = 0

    def token(self) -> None:
        """Take the first token of any answer."""
        self.prove()
        self._gone = 0

    def prove(self) -> None:
        """Take that it has answered somebody."""
        self.proven = True

    def note(self, error: Error | None, now: int, *, heard: bool = False) -> bool:
        """Take the end of one request at the instant `now` (ns). Returns whether to stop.

        `heard`: it had a response, or a byte of another's came within the last ten seconds.
        """
        if error is None:
            self.token()
        elif not self.proven:
            self._bad += error.kind is ErrorKind.BAD_REQUEST
            wrong = error.kind in _TARGET or error.http_status in {404, 405}
            self._trip(error, if_=wrong or self._bad >= _UNPROVEN_ROWS)
        if error is not None:
            self._count(error, now, heard)
        return self.tripped is not None

    def _count(self, error: Error, now: int, heard: bool) -> None:
        if heard and error.kind not in _REFUSED_KINDS:
            self._gone = 0
        elif error.kind in _GONE:
            self._gone_since = self._gone_since if self._gone else now
            self._gone += 1
            long = now - self._gone_since >= GONE_NS
            self._trip(error, if_=long and self._gone >= self._most_gone)

    def _trip(self, error: Error, *, if_: bool) -> None:
        if if_ and self.tripped is None:
            self.tripped = error
