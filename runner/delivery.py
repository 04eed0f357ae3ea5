"""One request to one record: attempts, the waits between them, and what is kept of it all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from runner.chunks import clean
from runner.client import Outcome
from runner.fleet import BUSY, Endpoint
from runner.gate import Ask, Gate
from runner.prices import Price, Prices, cost_of, most_tokens, worst_case
from runner.record import (
    Attempt,
    CancelledBy,
    Connection,
    CostSource,
    Error,
    ErrorKind,
    Phase,
    Record,
    tokens,
)
from runner.retry import HINT_CAP_S, WaitFor, attempts_left, backoff_s, hint_s, is_retryable, wait_s
from runner.stream import Stream
from scenarios.request import Request

_encode = msgspec.json.Encoder().encode
_A_WAIT_NS = 1_000_000  # what is shorter is our own work, and no wait
_SHARED_STEPS = 4
_NOT_COUNTED = frozenset({"stale_connection", "other_endpoint"})  # as retries


class Keep(msgspec.Struct, frozen=True):
    """What goes into a record beside the answer."""

    request: bool = True
    times: bool = True


class Prepared(msgspec.Struct):
    """A request ready to go: its final body, and what it asks of the gate."""

    request: Request
    body: dict[str, Any]
    data: bytes
    ask: Ask
    price: Price | None
    choices: int
    endpoint: Endpoint | None = None  # where it may go now, once admitted


class Delivery:
    """Sends requests until each is answered, or will not be.

    Args:
        gate: lets attempts go, and says where.
        session: number of the session, for the record.
        anchor_ns: the session's anchor; every instant of a record is counted from it.
        retries: attempts after the first (a resend after a stale connection is not one of them).
        include_usage: ask for `stream_options.include_usage`.
        keep: what records hold.
        prices: what tokens cost, where it is known.
        rng: jitter of the waits.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        session: int,
        anchor_ns: int,
        retries: int,
        include_usage: bool = True,
        keep: Keep | None = None,
        prices: Prices | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._gate = gate
        self._session = session
        self._anchor = anchor_ns
        self._retries = retries
        self._keep = keep or Keep()
        self._prices = prices
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self.on_first_token: Callable[[], None] | None = None  # told of every answer's first token
        self._add: dict[str, Any] = {"stream": True}
        if include_usage:
            self._add["stream_options"] = {"include_usage": True}
        self._live: set[Stream] = set()
        self._cut_by: CancelledBy | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """No attempt is begun any more: what waits for one fails with the error it had."""
        self._stopping.set()
        self._gate.stop()

    def cut(self, by: CancelledBy) -> None:
        """Close every connection that is still being answered on."""
        self.stop()
        self._cut_by = by
        for stream in list(self._live):
            stream.cut(by=by)

    @property
    def streaming(self) -> int:
        """How many attempts are under way."""
        return len(self._live)

    def prepare(self, request: Request) -> Prepared:
        """Make the body that goes over the wire."""
        body = {**request.body, **self._add}
        data = _encode(body)
        asked = body.get("n")
        ask, price = Ask(size=len(data), most_tokens=most_tokens(body)), None
        if self._prices is not None:
            price = self._prices.of(body.get("model"))
            ask.worst = (worst_case(body, len(data), price) or 0.0) if price is not None else 0.0
        return Prepared(request, body, data, ask, price, asked if type(asked) is int and asked > 0 else 1)

    async def admit(self, prepared: Prepared) -> bool:
        """Wait until the request may go for the first time. False: the run stops, and it must not."""
        prepared.endpoint = await self._gate.pass_(prepared.ask)
        return prepared.endpoint is not None

    def withdraw(self, prepared: Prepared) -> None:
        """It was admitted, and is not sent after all."""
        if prepared.endpoint is not None:
            self._gate.ended(prepared.ask, prepared.endpoint, ok=False, headless=True, charge=0.0)
            prepared.endpoint = None

    def written(self, prepared: Prepared) -> None:
        """Its record is in the journal."""
        self._gate.written(prepared.ask)

    async def send(self, prepared: Prepared, scheduled_at: int, phase: Phase = "measure") -> Record:
        """Send an admitted request until there is a record to keep. `scheduled_at` is `monotonic_ns`."""
        attempts: list[Attempt] = []
        made, fresh, refused_at = 0, False, 0
        endpoint = prepared.endpoint
        assert endpoint is not None
        while True:
            stream, outcome = await self._attempt(prepared, endpoint, fresh)
            error = outcome.error
            if error is None:
                break
            refused_at = refused_at or time.monotonic_ns()
            again = self._again(endpoint, stream, error, made, fresh, refused_at)
            if again is None:
                break
            wait_s, wait_for = again
            fresh = fresh or wait_for == "stale_connection"
            made += wait_for not in _NOT_COUNTED
            since = time.monotonic_ns()
            avoid = None if wait_for == "stale_connection" else endpoint
            after = await self._after(prepared, wait_s, made, avoid)
            if after is None:
                break
            waited = time.monotonic_ns() - since
            waited = waited if waited >= _A_WAIT_NS else 0
            attempts.append(self._past(prepared, endpoint, stream, outcome, waited, wait_for))
            endpoint = after
        return self._record(prepared, endpoint, stream, outcome, attempts, scheduled_at, phase)

    async def _attempt(self, prepared: Prepared, endpoint: Endpoint, fresh: bool) -> tuple[Stream, Outcome]:
        gate = self._gate
        opened: list[Stream] = []

        def opened_one(stream: Stream) -> None:
            opened.append(stream)
            self._live.add(stream)
            stream.on_head = lambda: gate.head(endpoint, stream.status or 0)
            stream.on_first_token = lambda: self._begun(endpoint, stream)
            if self._cut_by is not None:
                stream.cut(by=self._cut_by)

        ok, charge = False, prepared.ask.worst
        try:
            stream, outcome = await endpoint.client.attempt(
                prepared.request.api, prepared.data, opened_one, fresh=fresh, choices=prepared.choices
            )
            ok = outcome.status == "ok"
            charge = charged(*_cost(prepared, stream, outcome))
        finally:
            self._live.difference_update(opened)
            headless = not opened or opened[0].headers_at is None
            gate.ended(prepared.ask, endpoint, ok=ok, headless=headless, charge=charge)
        if ok:
            self._learn(prepared, endpoint, stream)
        return stream, outcome

    def _begun(self, endpoint: Endpoint, stream: Stream) -> None:
        answer = stream.answer
        if stream.sent_at is not None and answer.first_token_at is not None:
            self._gate.first_token(endpoint, stream.sent_at, answer.first_token_at)
        if self.on_first_token is not None:
            self.on_first_token()

    def _learn(self, prepared: Prepared, endpoint: Endpoint, stream: Stream) -> None:
        if not stream.answer.streamed and stream.sent_at is not None and stream.ended_at is not None:
            self._gate.first_token(endpoint, stream.sent_at, stream.ended_at)
        if stream.answer.usage is not None:
            count = tokens(stream.answer.usage)
            self._gate.used(prepared.ask, count.prompt, count.completion)

    # -- again

    def _again(
        self, endpoint: Endpoint, stream: Stream, error: Error, made: int, fresh: bool, since: int
    ) -> tuple[float, WaitFor] | None:
        """How long a failed attempt is waited after, and why; `None` where it was the last."""
        if error.kind is ErrorKind.DISCONNECTED and stream.reused and not fresh:
            # The server had closed this kept connection without saying so: the request was never read.
            return 0.0, "stale_connection"
        elsewhere = self._gate.failed(endpoint, error)
        gone = error.kind is ErrorKind.CONNECT and endpoint.proven  # a server that restarts, say
        if error.kind in BUSY or gone:
            return self._busy(endpoint, stream, error, made, since)
        if self._stopping.is_set():
            return None
        if error.retryable and attempts_left(error.kind, self._retries, made):
            return wait_s(stream.headers, made, self._rng, time.time())
        return (0.0, "other_endpoint") if elsewhere and not is_retryable(error.kind) else None

    def _busy(
        self, endpoint: Endpoint, stream: Stream, error: Error, made: int, since: int
    ) -> tuple[float, WaitFor] | None:
        """The refusal of one request is a word to all of them: the endpoint cools down, the gate waits."""
        hint = hint_s(stream.headers, time.time())
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
        self._gate.busy(endpoint, stream.sent_at or stream.started_at, int(seconds * 1e9), why)
        if seconds > HINT_CAP_S or self._stopping.is_set():
            return None
        # A refusal is seldom the request's own fault: what has answered before gets time, not attempts.
        patient = self._retries > 0 and self._gate.patient(endpoint, since)
        return (0.0, wait_for) if patient or attempts_left(error.kind, self._retries, made) else None

    async def _after(
        self, prepared: Prepared, seconds: float, made: int, avoid: Endpoint | None
    ) -> Endpoint | None:
        """Wait, and pass the gate once more. `None`: the run stopped meanwhile."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        if self._stopping.is_set():
            return None
        return await self._gate.pass_(prepared.ask, retry=True, made=made, avoid=avoid)

    # -- the record

    def _at(self, instant: int | None) -> int | None:
        return None if instant is None else instant - self._anchor

    def _past(
        self,
        prepared: Prepared,
        endpoint: Endpoint,
        stream: Stream,
        outcome: Outcome,
        waited_ns: int,
        wait_for: WaitFor,
    ) -> Attempt:
        """An attempt that is followed by another, which goes now."""
        answer, error = stream.answer, outcome.error
        assert error is not None
        cost, source, bound = _cost(prepared, stream, outcome)
        return Attempt(
            sent_at=self._at(stream.sent_at),
            first_token_at=self._at(answer.first_token_at),
            ended_at=self._at(stream.ended_at),
            error=error,
            text=answer.text(),
            usage_partial=answer.usage,
            wait_ns=waited_ns,
            wait_for=wait_for,
            base_url=endpoint.base_url,
            cost=cost,
            cost_source=source,
            cost_bound=bound,
        )

    def _record(
        self,
        prepared: Prepared,
        endpoint: Endpoint,
        stream: Stream,
        outcome: Outcome,
        attempts: list[Attempt],
        scheduled_at: int,
        phase: Phase,
    ) -> Record:
        answer, request = stream.answer, prepared.request
        cost, source, bound = _cost(prepared, stream, outcome)
        main = answer.main_choice()
        ok = outcome.status == "ok"
        record = Record(
            id=request.id,
            prompt_id=request.prompt_id,
            index=request.index,
            custom_id=request.custom_id,
            sample=request.sample,
            session=self._session,
            phase=phase,
            scheduled_at=scheduled_at - self._anchor,
            sent_at=self._at(stream.sent_at),
            headers_at=self._at(stream.headers_at),
            first_token_at=self._at(answer.first_token_at),
            first_content_at=self._at(answer.first_content_at),
            last_token_at=self._at(answer.last_token_at),
            ended_at=self._at(stream.ended_at),
            status=outcome.status,
            cancelled_by=outcome.cancelled_by,
            error=outcome.error,
            streamed=answer.streamed,
            finish_reason=main["finish_reason"],
            text=main["text"],
            reasoning=main["reasoning"],
            refusal=main["refusal"],
            tool_calls=main["tool_calls"],
            usage=answer.usage if ok else None,
            usage_source="server" if ok and answer.usage is not None else "none",
            usage_partial=None if ok else answer.usage,
            cost=cost,
            cost_source=source,
            cost_bound=bound,
            response=endpoint.client.response_of(stream),
            extra=endpoint.client.extra_of(stream, outcome),
            attempts=attempts,
            connection=Connection(stream.reused, stream.connect_ns, endpoint.base_url),
            row=request.row,
        )
        choices = answer.all_choices()
        if choices is not None:
            record.choices = choices
        if self._keep.times:
            first = answer.first_token_at or 0
            record.chunk_us = [(at - first) // 1000 for at in answer.token_at]
        tokens = answer.chunk_tokens()
        if tokens is not None:
            record.chunk_tokens = tokens
        if self._keep.request:
            record.request = prepared.body
        return record


def _cost(
    prepared: Prepared, stream: Stream, outcome: Outcome
) -> tuple[float | None, CostSource, float | UnsetType]:
    """What an attempt cost, on whose word, and the most it can have cost where that is not the last word."""
    cost, source = cost_of(stream.answer.usage, prepared.price)
    if outcome.status == "ok" and cost is not None:
        return cost, source, UNSET
    if not prepared.ask.worst or not _may_be_billed(stream, outcome):
        return cost, source, UNSET
    return cost, source, max(prepared.ask.worst, cost or 0.0)


def _may_be_billed(stream: Stream, outcome: Outcome) -> bool:
    """Whether a server may have worked for it: it had the request, and did not refuse it."""
    if stream.sent_at is None or stream.mode == "refusal":
        return False
    stale = outcome.error is not None and outcome.error.kind is ErrorKind.DISCONNECTED and stream.reused
    return not stale


def charged(cost: float | None, _source: CostSource, bound: float | UnsetType) -> float:
    """What an attempt counts for against `--max-cost`."""
    return (cost or 0.0) if isinstance(bound, UnsetType) else bound


def encode_line(record: Record) -> bytes:
    """The record as a line of the journal: strict UTF-8 JSON and its end."""
    try:
        return _written(record)
    except RecursionError:
        # Nested too deeply to write. What the server said around its answer goes, the answer stays.
        record.extra, record.response = {}, {}
        record.usage = _flat(record.usage)
        record.usage_partial = _flat(record.usage_partial)
        return _written(record)


def _written(record: Record) -> bytes:
    try:
        return _encode(record) + b"\n"
    except UnicodeEncodeError:
        # A server sent half a surrogate pair. It is no text, and nothing else of the answer is lost for it.
        return _encode(clean(msgspec.to_builtins(record))) + b"\n"


def _flat(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if usage is None else {k: v for k, v in usage.items() if not isinstance(v, dict | list)}
