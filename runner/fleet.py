"""The endpoints of a run, each with its own health: which one the next attempt goes to, and from when on.

Nothing here waits or looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.record import Error, ErrorKind

if TYPE_CHECKING:
    from runner.client import Client

_S = 1_000_000_000
_BASE_S, _CAP_S = 0.5, 60.0
_WHOLE = 64  # so many unanswered at once after a cool-down: as good as no limit

# Refusals that say "later": the endpoint as a whole is asked less.
BUSY = frozenset({ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED})
# What speaks of the endpoint and will not pass: it is used no more while there are others.
_WRONG = frozenset({ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.TLS, ErrorKind.REDIRECT})
_SICK = frozenset(
    {
        ErrorKind.CONNECT,
        ErrorKind.DISCONNECTED,
        ErrorKind.SERVER_ERROR,
        ErrorKind.TIMEOUT,
        ErrorKind.EMPTY_STREAM,
    }
)


class Endpoint:
    """One base URL and how it does.

    After a refusal it cools down; then one request goes ahead, and the others follow, twice as many at a
    time, as long as heads of answers come back: a full burst would only be refused once more.
    """

    def __init__(self, client: Client, base_url: str) -> None:
        self.client = client
        self.base_url = base_url
        self.in_flight = 0
        self.cool_until = 0
        self.sick_until = 0
        self.out: Error | None = None  # why it is used no more
        self.refusals = 0  # in a row, one for a burst
        self.proven = False  # it has answered once
        self.down_since: int | None = None  # nothing but refusals since
        self._cooled_at = 0
        self._failures = 0  # in a row, of kinds that speak of its health
        self._unanswered = 0  # sent, and no head yet
        self._window: int | None = None  # as many of them at most; None: any number

    @property
    def open(self) -> bool:
        """Whether one more request may go unanswered."""
        return self._window is None or self._unanswered < self._window

    def sent(self) -> None:
        """An attempt goes there."""
        self.in_flight += 1
        self._unanswered += 1

    def answered(self, accepted: bool) -> None:
        """The head of an answer came, or the attempt ended without one."""
        self._unanswered -= 1
        if accepted and self._window is not None:
            self._window *= 2
            if self._window > _WHOLE:
                self._window = None

    def ended(self) -> None:
        """An attempt is over."""
        self.in_flight -= 1

    def accepted(self) -> None:
        """It answers."""
        self.proven = True
        self.down_since = None
        self.refusals = self._failures = 0
        self.sick_until = 0

    def cool(self, sent_at: int, now: int, wait_ns: int) -> bool:
        """It was refused: nothing goes before the wait is over. Returns whether this is a new cool-down.

        Args:
            sent_at: of the attempt that was refused; one of a burst already refused says nothing new.
            now: the instant.
            wait_ns: what the server asked for, or what we think fit.
        """
        if self.down_since is None:
            self.down_since = now
        news = sent_at >= self._cooled_at
        if news:
            self.refusals += 1
            self._cooled_at = now
        self._window = 1
        self.cool_until = max(self.cool_until, now + wait_ns)
        return news

    def fell_ill(self, now: int) -> None:
        """An attempt failed in a way that speaks of its health: it rests, and then one request goes ahead."""
        self._failures += 1
        wait_s = min(_CAP_S, _BASE_S * 2 ** min(self._failures, 10))
        self.sick_until = now + int(wait_s * _S)
        self._window = 1


class Fleet:
    """All endpoints of a run. Identical replicas, as far as the caller knows."""

    def __init__(self, endpoints: list[Endpoint], tell: Callable[[str], None] = lambda _: None) -> None:
        self.endpoints = endpoints
        self._tell = tell
        self._turn = 0

    def pick(self, now: int, avoid: Endpoint | None = None) -> Endpoint | None:
        """The endpoint for an attempt now, least in flight first; `None` where all are busy.

        Args:
            now: the instant.
            avoid: where the same request just failed: another one, if any will do.
        """
        if len(self.endpoints) == 1:
            only = self.endpoints[0]
            return only if only.cool_until <= now and only.open else None
        alive = self._alive()
        healthy = [e for e in alive if e.sick_until <= now] or alive
        ready = [e for e in healthy if e.cool_until <= now and e.open]
        if avoid in ready and len(ready) > 1:
            ready.remove(avoid)
        if not ready:
            return None
        self._turn += 1
        count = len(self.endpoints)
        # Of equals, each in turn.
        return min(ready, key=lambda e: (e.in_flight, (self.endpoints.index(e) - self._turn) % count))

    def next_at(self, now: int) -> int | None:
        """The instant from which `pick` may say otherwise without anything having happened."""
        ahead = [at for e in self._alive() for at in (e.cool_until, e.sick_until) if at > now]
        return min(ahead, default=None)

    def cool_until(self) -> int:
        """The instant at which the first of them has cooled down."""
        return min(e.cool_until for e in self._alive())

    def down_ns(self, now: int) -> int:
        """For how long every one of them has done nothing but refuse."""
        return min(now - (now if e.down_since is None else e.down_since) for e in self._alive())

    def failed(self, endpoint: Endpoint, error: Error, now: int) -> bool:
        """Take the failure of an attempt. Returns whether the request may go elsewhere, though it is not one
        that passes: the endpoint was wrong, and there are others.
        """
        if len(self.endpoints) == 1:
            return False
        if error.kind in _WRONG or error.http_status in {404, 405}:
            return self._leave_out(endpoint, error)
        if error.kind in _SICK:
            endpoint.fell_ill(now)
        return False

    def _leave_out(self, endpoint: Endpoint, error: Error) -> bool:
        if endpoint.out is None and len(self._alive()) > 1:
            endpoint.out = error
            self._tell(f"{endpoint.base_url} is used no more: {error.message}")
        return endpoint.out is not None

    def _alive(self) -> list[Endpoint]:
        return [e for e in self.endpoints if e.out is None]
