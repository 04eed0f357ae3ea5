"""`--wait-ready`: one real request, repeated and not measured, until it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from runner.fleet import Endpoint
from runner.record import Error, ErrorKind
from scenarios.request import Request

_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)  # the last again and again
_SAY_EVERY_S = 10.0
# What a server that is only starting does not say. A 404 it may: its route, or its model, is not there yet.
_FINAL = frozenset(
    {ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.BAD_REQUEST, ErrorKind.TLS, ErrorKind.REDIRECT}
)


class Readiness(msgspec.Struct):
    """How the waiting ended: `error` is what the last attempt said, where no endpoint answered."""

    error: Error | None
    waited_s: float
    requests: int


def ready_body(request: Request, add: dict[str, Any]) -> bytes:
    """The body that is sent: a request of the run, with an answer of one token."""
    limit = "max_completion_tokens" if "max_completion_tokens" in request.body else "max_tokens"
    body = {key: value for key, value in request.body.items() if key not in {"n", "best_of"}}
    return msgspec.json.encode({**body, limit: 1, **add})


async def wait_ready(
    endpoints: list[Endpoint],
    api: str,
    body: bytes,
    limit_s: float | None,
    tell: Callable[[str], None],
) -> Readiness:
    """Ask every endpoint until it answers, or will not. One that answers is enough.

    Args:
        endpoints: where to ask.
        api: endpoint family.
        body: from `ready_body`.
        limit_s: give up after so long; `None`: never.
        tell: shows one line to the user.
    """
    started = time.monotonic()
    asked = [_Asked(endpoint, api, body, tell) for endpoint in endpoints]
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.gather(*(one.until_ready(started) for one in asked))
    except TimeoutError:
        pass
    waited_s = time.monotonic() - started
    answered = any(one.ready for one in asked)
    error = None if answered else next((one.error for one in asked if one.error is not None), None)
    if not answered and error is None:
        error = Error(ErrorKind.TIMEOUT, f"no answer within {limit_s:g} s (--wait-ready)", timer="total")
    return Readiness(error, round(waited_s, 3), sum(one.requests for one in asked))


class _Asked:
    def __init__(self, endpoint: Endpoint, api: str, body: bytes, tell: Callable[[str], None]) -> None:
        self.ready = False
        self.error: Error | None = None
        self.requests = 0
        self._endpoint, self._api, self._body, self._tell = endpoint, api, body, tell

    async def until_ready(self, started: float) -> None:
        told_at = started
        while True:
            self.requests += 1
            _, outcome = await self._endpoint.client.attempt(
                self._api, self._body, lambda _: None, fresh=True
            )
            self.error = outcome.error
            self.ready = outcome.error is None
            if self.error is None or (self.error.kind in _FINAL and self.error.http_status != 404):
                return
            now = time.monotonic()
            if self.requests == 1 or now - told_at > _SAY_EVERY_S:
                told_at = now
                self._tell(f"not ready for {now - started:.0f} s: {self.error.message}")
            await asyncio.sleep(_PAUSES_S[min(self.requests, len(_PAUSES_S)) - 1])
