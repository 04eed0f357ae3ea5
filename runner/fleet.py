"""The endpoints of a run, each with its own health: which one the next attempt goes to, and from when on.

Nothing here waits or looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
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
# So said, or by nobody in particular, `auth` is about the key. Any other status may be about one row.
_KEY = frozenset({401, 407, None})
_MISSING = frozenset({404, 405})
_IN_A_ROW = 3  # refusals of single rows, until they are the endpoint's fault
_NOTHING: Mapping[Endpoint, Error] = MappingProxyType({})
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

    A cool-down or a rest begins an epoch. What went in an earlier one says nothing of the present: its
    answers let nobody follow, and its failures are of a burst that was counted already.
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
        self.epoch = 0
        self.refused_rows = 0  # in a row, with what may be a row's own fault
        self.on_epoch: Callable[[], None] = lambda: None  # told when another begins
        self._cooled = 0  # the epoch its last cool-down began
        self._rested = 0  # the epoch its last rest began
        self._failures = 0  # in a row, of kinds that speak of its health
        self._unanswered = 0  # sent in this epoch, and no head yet
        self._window: int | None = None  # as many of them at most; None: any number

    @property
    def open(self) -> bool:
        """Whether one more request may go unanswered."""
        return self._window is None or self._unanswered < self._window

    def sent(self) -> int:
        """An attempt goes there. Returns its epoch."""
        self.in_flight += 1
        self._unanswered += 1
        return self.epoch

    def answered(self, accepted: bool, epoch: int) -> None:
        """The head of an answer came, or the attempt of that epoch ended without one."""
        if epoch != self.epoch:
            return
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
        self.refusals = self._failures = self.refused_rows = 0
        self.sick_until = 0

    def is_well(self, now: int) -> bool:
        """Whether it neither cools down nor rests."""
        return max(self.cool_until, self.sick_until) <= now

    def cool(self, epoch: int, now: int, wait_ns: int) -> bool:
        """It was refused: nothing goes before the wait is over. Returns whether this is a new cool-down.

        Args:
            epoch: of the attempt that was refused; one of a burst already refused says nothing new.
            now: the instant.
            wait_ns: what the server asked for, or what we think fit.
        """
        if self.down_since is None:
            self.down_since = now
        news = epoch >= self._cooled
        self.refusals += news
        if news or self.cool_until <= now:
            self._cooled = self._begin()
        self.cool_until = max(self.cool_until, now + wait_ns)
        return news

    def fell_ill(self, epoch: int, now: int) -> None:
        """An attempt failed in a way that speaks of its health: it rests, and then one request goes ahead.

        The connections of one blip all break at once: they are one failure, and one rest.
        """
        if epoch < self._rested:
            return
        self._failures += 1
        wait_s = min(_CAP_S, _BASE_S * 2 ** min(self._failures, 10))
        self.sick_until = now + int(wait_s * _S)
        self._rested = self._begin()

    def _begin(self) -> int:
        self.epoch += 1
        self._unanswered = 0
        self._window = 1
        self.on_epoch()
        return self.epoch


class Fleet:
    """All endpoints of a run. Identical replicas, as far as the caller knows."""

    def __init__(self, endpoints: list[Endpoint], tell: Callable[[str], None] = lambda _: None) -> None:
        self.endpoints = endpoints
        self._tell = tell
        self._turn = 0

    def pick(self, now: int, avoid: Container[Endpoint] = ()) -> Endpoint | None:
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
        ready = [e for e in ready if e not in avoid] or ready
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

    def elsewhere(self, now: int, tried: Container[Endpoint]) -> bool:
        """Whether an endpoint is well that the request has not tried yet."""
        return any(e.is_well(now) for e in self._alive() if e not in tried)

    def failed(
        self,
        endpoint: Endpoint,
        error: Error,
        now: int,
        epoch: int,
        tried: Mapping[Endpoint, Error] = _NOTHING,
    ) -> bool:
        """Take the failure of an attempt. Returns whether the request may go elsewhere, though it is not one
        that passes: the endpoint was wrong, and there are others.

        Args:
            endpoint: where.
            error: what it was.
            now: the instant.
            epoch: of the attempt.
            tried: where the request was refused just before, and how.
        """
        if len(self.endpoints) == 1:
            return False
        if _may_be_the_row_s(error):
            return self._refused_row(
                endpoint,
                error,
                [e for e, said in tried.items() if e is not endpoint and _may_be_the_row_s(said)],
            )
        if error.kind in _WRONG:
            return self._leave_out(endpoint, error)
        if error.kind in _SICK:
            endpoint.fell_ill(epoch, now)
        return False

    def _refused_row(self, endpoint: Endpoint, error: Error, others: list[Endpoint]) -> bool:
        """A 403, 404 or 405: is it the row, or the endpoint? Another endpoint knows."""
        if others and endpoint.out is None:
            for other in others:
                other.refused_rows = 0
            return False  # two of them say the same: it is the row
        endpoint.refused_rows += 1
        if endpoint.proven and endpoint.refused_rows < _IN_A_ROW and endpoint.out is None:
            return any(e is not endpoint for e in self._alive())
        return self._leave_out(endpoint, error)

    def _leave_out(self, endpoint: Endpoint, error: Error) -> bool:
        if endpoint.out is None and len(self._alive()) > 1:
            endpoint.out = error
            self._tell(f"{endpoint.base_url} is used no more: {error.message}")
        return endpoint.out is not None

    def _alive(self) -> list[Endpoint]:
        return [e for e in self.endpoints if e.out is None]


def _may_be_the_row_s(error: Error) -> bool:
    """Whether a refusal that speaks of the endpoint may be about this one row after all."""
    return error.http_status in _MISSING or (error.kind is ErrorKind.AUTH and error.http_status not in _KEY)
