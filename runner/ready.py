"""`--wait-ready`: one real request, repeated and not measured, until an endpoint answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from runner.billed import attempt_cost, charged
from runner.client import Outcome
from runner.fleet import Endpoint
from runner.gate import Ask, Gate
from runner.prices import Price
from runner.record import Error, ErrorKind
from runner.stream import Stream
from scenarios.answer_limit import ASK_FOR_MORE, LIMITS
from scenarios.request import Request

_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)  # the last again and again
_SAY_EVERY_S = 10.0
_GRACE_S = 1.0  # once one has answered, for others that may be just as ready
# What a server that is only starting does not say.
_FINAL = frozenset(
    {ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.BAD_REQUEST, ErrorKind.TLS, ErrorKind.REDIRECT}
)


class Readiness(msgspec.Struct):
    """How the waiting ended.

    `error` is what the last attempt said, where no endpoint answered; `over`: one attempt more does not fit
    into the budget.
    """

    error: Error | None
    over: bool = False


class Purse:
    """What the requests cost, against `--max-cost` where it is given.

    No record tells of them, so what they are charged stays held: the session's `reserved_cost` covers it.

    Args:
        gate: reserves.
        price: of the model, where there is one.
        worst: the most one request can cost; 0 where nobody knows.
    """

    def __init__(self, gate: Gate, price: Price | None, worst: float) -> None:
        self.requests = 0
        self.total = 0.0  # charged
        self._gate, self._price, self._worst = gate, price, worst

    @property
    def over(self) -> bool:
        """Not one request more will ever fit."""
        budget = self._gate.budget
        return budget is not None and not budget.fits(self._worst) and budget.is_over(self._worst)

    @property
    def priced(self) -> bool:
        """`total` means something."""
        return self._worst > 0

    async def take(self) -> Ask | None:
        """Reserve for one request; `None`: it does not fit now."""
        ask = Ask(worst=self._worst)
        if self._gate.budget is not None and not await self._gate.reserve(ask):
            return None
        self.requests += 1
        return ask

    def charge(self, ask: Ask, stream: Stream, outcome: Outcome) -> None:
        """It is over."""
        amount = charged(*attempt_cost(self._price, self._worst, stream, outcome))
        self.total += amount
        if self._gate.budget is not None:
            self._gate.budget.charge(ask.hold, amount)


def ready_body(request: Request) -> dict[str, Any]:
    """The body that is sent: a request of the run, with an answer of one token."""
    body = {key: value for key, value in request.body.items() if key not in ASK_FOR_MORE}
    limits = [name for name in LIMITS if body.get(name) is not None] or ["max_tokens"]
    return {**body, **dict.fromkeys(limits, 1), "stream": True}


async def wait_ready(
    endpoints: list[Endpoint],
    api: str,
    body: bytes,
    limit_s: float | None,
    tell: Callable[[str], None],
    purse: Purse,
) -> Readiness:
    """Ask all endpoints until one answers, or none of them will. The others rest, as after a failure.

    Args:
        endpoints: where to ask.
        api: endpoint family.
        body: from `ready_body`, encoded.
        limit_s: give up after so long; `None`: never.
        tell: shows one line to the user.
        purse: pays.
    """
    limit = "" if limit_s is None else f", for at most {limit_s:g} s"
    tell(f"--wait-ready: asking {' and '.join(e.base_url for e in endpoints)} for one token{limit}")
    asked = [_Asked(endpoint, api, body, tell, purse) for endpoint in endpoints]
    tasks = [asyncio.create_task(one.until_ready()) for one in asked]
    try:
        async with asyncio.timeout(limit_s):
            await _first_answer(tasks, asked)
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return _told(asked, limit_s, tell)


async def _first_answer(tasks: list[asyncio.Task[None]], asked: list[_Asked]) -> None:
    pending = set(tasks)
    while pending and not any(one.ready for one in asked):
        done, pending = await asyncio.wait(pending, timeout=_SAY_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # an error of our own is not to be lost
        if not done:
            for one in asked:
                one.say()
    untold = {task for task, one in zip(tasks, asked, strict=True) if task in pending and one.error is None}
    if untold:
        await asyncio.wait(untold, timeout=_GRACE_S)


def _told(asked: list[_Asked], limit_s: float | None, tell: Callable[[str], None]) -> Readiness:
    if not any(one.ready for one in asked):
        over = any(one.over for one in asked)
        error = next((one.error for one in asked if one.error is not None), None)
        if error is None and not over:
            error = Error(ErrorKind.TIMEOUT, f"no answer within {limit_s:g} s (--wait-ready)", timer="total")
        return Readiness(error, over)
    for one in asked:
        if not one.ready:
            one.endpoint.fell_ill(one.endpoint.epoch, time.monotonic_ns())
            tell(f"{one.endpoint.base_url} is not ready yet ({one.why}): the run begins without it")
    return Readiness(None)


class _Asked:
    def __init__(
        self, endpoint: Endpoint, api: str, body: bytes, tell: Callable[[str], None], purse: Purse
    ) -> None:
        self.endpoint = endpoint
        self.ready = False
        self.over = False
        self.error: Error | None = None
        self._began = time.monotonic()
        self._silent = True  # nothing was told yet of what it answers
        self._api, self._body, self._tell, self._purse = api, body, tell, purse

    @property
    def why(self) -> str:
        """What it said last."""
        return "no answer yet" if self.error is None else self.error.message

    def say(self) -> None:
        """Tell the user how it stands."""
        if not self.ready:
            waited_s = time.monotonic() - self._began
            waited = f" after {waited_s:.0f} s" if waited_s >= 1 else ""
            self._tell(f"{self.endpoint.base_url} is not ready{waited}: {self.why}")

    async def until_ready(self) -> None:
        for made in count():
            ask = await self._purse.take()
            if ask is None:
                self.over = self._purse.over  # else another endpoint's request may leave some
            if self.over or (ask is not None and await self._answers(ask)):
                return
            await asyncio.sleep(_PAUSES_S[min(made, len(_PAUSES_S) - 1)])

    async def _answers(self, ask: Ask) -> bool:
        """One request. Returns whether there is no need of another."""
        opened: list[Stream] = []
        outcome = Outcome("cancelled", cancelled_by="user")
        try:
            _, outcome = await self.endpoint.client.attempt(self._api, self._body, opened.append, fresh=True)
        finally:
            self._purse.charge(ask, opened[0], outcome)
        error = self.error = outcome.error
        # A 404 may pass: its route, or its model, is not there yet.
        missing = error is not None and error.http_status in {404, 405}
        if error is not None and error.kind is ErrorKind.BAD_REQUEST and not missing:
            self._tell(f"{self.endpoint.base_url} answers, so it is ready: {error.message}")
            error = None  # some models take no limit of one token; that is no word on the run's own requests
        self.ready = error is None
        if error is not None and self._silent:
            self._silent = False
            self.say()
        return error is None or (error.kind in _FINAL and error.http_status != 404)
