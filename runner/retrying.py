"""What comes after an attempt that failed: whether there is another, when, and where."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import msgspec

from runner.fleet import BUSY, Endpoint
from runner.gate import Ask, Gate
from runner.record import Error, ErrorKind
from runner.retry import HINT_CAP_S, WaitFor, attempts_left, backoff_s, hint_s, is_retryable, wait_s

_SHARED_STEPS = 4
_NOT_COUNTED = frozenset({"stale_connection", "other_endpoint"})  # as retries


class Course(msgspec.Struct):
    """How far a request has come."""

    made: int = 0  # retries
    fresh: bool = False  # it has met a stale connection
    since: int = 0  # when it failed first
    # Since the last retry that counted: where it was refused, and how. Each is asked once for nothing.
    tried: dict[Endpoint, Error] = msgspec.field(default_factory=dict)


class Failure(msgspec.Struct, frozen=True):
    """What a failed attempt says of when to try again."""

    error: Error
    stale: bool  # a kept connection had been closed before the request was on it
    headers: Mapping[str, str]  # of its response; names are looked up in lower case
    at: int  # when it was sent, or else begun


class Next(msgspec.Struct, frozen=True):
    """Another attempt goes now."""

    endpoint: Endpoint
    wait_for: WaitFor


class Retrying:
    """Decides on it, and waits until it may go.

    Args:
        gate: lets it go.
        retries: attempts after the first (a resend after a stale connection is not one of them).
        rng: jitter of the waits.
    """

    def __init__(self, gate: Gate, retries: int, rng: random.Random | None = None) -> None:
        self._gate = gate
        self._retries = retries
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """No attempt is begun any more: what waits for one fails with the error it had."""
        self._stopping.set()
        self._gate.stop()

    async def again(self, ask: Ask, endpoint: Endpoint, failure: Failure, course: Course) -> Next | None:
        """Wait until a request whose attempt failed may go once more. `None`: that was its last.

        Args:
            ask: as it passed.
            endpoint: where it went.
            failure: what became of it.
            course: of its request; kept up to date.
        """
        course.since = course.since or time.monotonic_ns()
        decided = self._decide(ask, endpoint, failure, course)
        if decided is None:
            return None
        seconds, wait_for = decided
        made, avoid = _count(course, wait_for)
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        if self._stopping.is_set():
            return None
        after = await self._gate.pass_(ask, retry=True, made=made, avoid=avoid)
        return None if after is None else Next(after, wait_for)

    async def held(self, ask: Ask, course: Course) -> Endpoint | None:
        """While it connected, a cool-down began: wait until it may go after all."""
        self._gate.unused(ask, sent=False)
        return await self._gate.pass_(ask, retry=True, made=course.made, avoid=frozenset(course.tried))

    def _decide(
        self, ask: Ask, endpoint: Endpoint, failure: Failure, course: Course
    ) -> tuple[float, WaitFor] | None:
        """How long a failed attempt is waited after, and why; `None` where it was the last."""
        error = failure.error
        if failure.stale and not course.fresh:
            # The server had closed this kept connection without saying so: the request was never read.
            return 0.0, "stale_connection"
        may_leave = self._gate.failed(ask, endpoint, error, course.tried)
        course.tried[endpoint] = error
        gone = error.kind is ErrorKind.CONNECT and endpoint.proven  # a server that restarts, say
        if error.kind in BUSY or gone:
            return self._busy(ask, endpoint, failure, course)
        if self._stopping.is_set():
            return None
        if error.kind is ErrorKind.CONNECT and self._gate.elsewhere(course.tried):
            return 0.0, "other_endpoint"
        if error.retryable and attempts_left(error.kind, self._retries, course.made):
            wait = wait_s(failure.headers, course.made, self._rng, time.time())
            # A hint that is too long is that endpoint's own.
            return wait or ((0.0, "other_endpoint") if self._gate.elsewhere(course.tried) else None)
        return (0.0, "other_endpoint") if may_leave and not is_retryable(error.kind) else None

    def _busy(
        self, ask: Ask, endpoint: Endpoint, failure: Failure, course: Course
    ) -> tuple[float, WaitFor] | None:
        """The refusal of one request is a word to all of them: the endpoint cools down, the gate waits."""
        gate, made, error = self._gate, course.made, failure.error
        hint = hint_s(failure.headers, time.time())
        # The run's refusals in a row count too, up to 8 s: whether the server is back, only asking tells.
        backoff = backoff_s(max(min(made, _SHARED_STEPS), min(endpoint.refusals, _SHARED_STEPS)), self._rng)
        seconds, wait_for = hint or (backoff, "backoff")
        seconds = seconds or backoff  # "at once", said by one that refuses, would be a storm
        why = f"{endpoint.base_url} " + (
            "cannot be reached"
            if error.kind is ErrorKind.CONNECT
            else "asks for less"
            if hint is not None
            else f"refuses ({error.kind})"
        )
        gate.busy(ask, endpoint, failure.at, int(seconds * 1e9), why)
        if self._stopping.is_set():
            return None
        if gate.elsewhere(course.tried):
            return 0.0, "other_endpoint"
        if gate.shut() or (seconds > HINT_CAP_S and not gate.cools):
            return None
        # A refusal is seldom the request's own fault: what has answered before gets time, not attempts.
        patient = self._retries > 0 and gate.patient(endpoint, course.since)
        return (0.0, wait_for) if patient or attempts_left(error.kind, self._retries, made) else None


def _count(course: Course, wait_for: WaitFor) -> tuple[int, frozenset[Endpoint]]:
    """Count the next attempt: the retries made with it, and which endpoints it should not go to."""
    if wait_for == "stale_connection":
        course.fresh = True
        return course.made, frozenset()
    avoid = frozenset(course.tried)
    if wait_for not in _NOT_COUNTED:
        course.made += 1
        course.tried.clear()
    return course.made, avoid
