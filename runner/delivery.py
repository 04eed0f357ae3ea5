"""One request to one record: attempts, the waits between them, and what is kept of it all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from runner.answer import BYTES_A_TOKEN
from runner.billed import attempt_cost, charged, may_be_billed, was_stale
from runner.chunks import clean
from runner.client import Outcome
from runner.fleet import Endpoint
from runner.gate import Ask, Gate
from runner.prices import Price, Prices, bound_of, worst_case
from runner.record import Attempt, CancelledBy, Connection, Phase, Record, tokens
from runner.retry import WaitFor
from runner.retrying import Course, Failure, Next, Retrying
from runner.stream import Stream
from scenarios.answer_limit import choices_asked, most_tokens
from scenarios.request import Request

_encode = msgspec.json.Encoder().encode
_A_WAIT_NS = 1_000_000  # what is shorter is our own work, and no wait


class Keep(msgspec.Struct, frozen=True):
    """What goes into a record beside the answer."""

    request: bool = True
    times: bool = True


class About(msgspec.Struct, frozen=True):
    """What a bench's load says of a request, for its record; and when its user leaves."""

    conversation: int | None = None
    turn: int | None = None
    asked_input_tokens: int | None = None
    asked_output_tokens: int | None = None
    leave_after_tokens: int | None = None
    patience_s: float | None = None  # from when it was due, until the first token


class Prepared(msgspec.Struct):
    """A request ready to go: its final body, and what it asks of the gate."""

    request: Request
    body: dict[str, Any]
    data: bytes
    ask: Ask
    price: Price | None
    choices: int
    endpoint: Endpoint | None = None  # where it may go now, once admitted
    about: About | None = None  # in a bench
    held_ns: int = 0  # in a bench: waited because no more may be in flight
    is_out: bool = False  # its bytes were handed to the socket
    due: int = 0  # when it should have gone


def added_fields(include_usage: bool) -> dict[str, Any]:
    """What goes over the wire beside a body's own fields."""
    return {"stream": True, **({"stream_options": {"include_usage": True}} if include_usage else {})}


def prepare(
    request: Request, add: dict[str, Any], prices: Prices | None, *, limited: bool = False
) -> Prepared:
    """Make the body that goes over the wire.

    Args:
        request: what to send.
        add: from `added_fields`.
        prices: what tokens cost, where it is known.
        limited: spending is.

    Raises:
        UnboundedError: spending is limited, and nobody can say what this request costs at most.
    """
    body = {**request.body, **add}
    data = _encode(body)
    ask, price = Ask(size=len(data), most_tokens=most_tokens(body), row=request.index), None
    if prices is not None:
        price = prices.of(body.get("model"))
        if limited:
            ask.worst = bound_of(body, len(data), prices)
        elif price is not None:
            ask.worst = worst_case(body, len(data), price) or 0.0
    return Prepared(request, body, data, ask, price, choices_asked(body))


class Hears(Protocol):
    """Lets a request go, and hears of its attempts: a `Gate`, or what stands for one in another process."""

    @property
    def limits_cost(self) -> bool: ...  # noqa: D102
    @property
    def counts_tokens(self) -> bool: ...  # noqa: D102
    async def pass_(self, ask: Ask) -> Endpoint | None: ...  # noqa: D102
    def may_go(self, ask: Ask, endpoint: Endpoint) -> bool: ...  # noqa: D102
    def head(self, ask: Ask, endpoint: Endpoint, status: int) -> None: ...  # noqa: D102
    def first_token(self, endpoint: Endpoint, sent_at: int, at: int) -> None: ...  # noqa: D102
    def ended(  # noqa: D102
        self, ask: Ask, endpoint: Endpoint, *, ok: bool, headless: bool, charge: float
    ) -> None: ...
    def used(self, ask: Ask, prompt: int, completion: int, *, whole: bool = True) -> None: ...  # noqa: D102
    def used_at_least(self, ask: Ask, tokens: float) -> None: ...  # noqa: D102
    def unused(self, ask: Ask, *, sent: bool = True) -> None: ...  # noqa: D102
    def written(self, ask: Ask) -> None: ...  # noqa: D102


class Decides(Protocol):
    """Says whether there is another attempt, when it may go (`runner/retrying.py`)."""

    def stop(self) -> None: ...  # noqa: D102
    async def again(  # noqa: D102
        self, ask: Ask, endpoint: Endpoint, failure: Failure, course: Course
    ) -> Next | None: ...
    async def held(self, ask: Ask, course: Course) -> Endpoint | None: ...  # noqa: D102


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
        retrying: decides on further attempts, where that is not for the gate's own process to do.
    """

    def __init__(
        self,
        gate: Hears,
        *,
        session: int,
        anchor_ns: int,
        retries: int,
        include_usage: bool = True,
        keep: Keep | None = None,
        prices: Prices | None = None,
        rng: random.Random | None = None,
        retrying: Decides | None = None,
    ) -> None:
        self._gate = gate
        self._session = session
        self.anchor_ns = anchor_ns  # that times of records are since
        self._keep = keep or Keep()
        self._prices = prices
        self.on_first_token: Callable[[], None] | None = None  # told of every answer's first token
        self._add = added_fields(include_usage)
        self._live: set[Stream] = set()
        self._cut_by: CancelledBy | None = None
        if retrying is None:
            assert isinstance(gate, Gate)  # what stands for one elsewhere decides there, too
            retrying = Retrying(gate, retries, rng)
        self._retrying = retrying

    def stop(self) -> None:
        """No attempt is begun any more: what waits for one fails with the error it had."""
        self._retrying.stop()

    def cut(self, by: CancelledBy) -> None:
        """Close every connection that is still being answered on."""
        self.stop()
        self._cut_by = by
        for stream in list(self._live):
            stream.cut(by=by)

    def heard_since(self, at: int) -> bool:
        """Whether a byte of an answer that is under way came since that instant."""
        return any(stream.last_byte_at >= at for stream in self._live)

    @property
    def streaming(self) -> int:
        """How many attempts are under way."""
        return len(self._live)

    def prepare(self, request: Request) -> Prepared:
        """Make the body that goes over the wire.

        Raises:
            UnboundedError: spending is limited, and nobody can say what this request costs at most.
        """
        return prepare(request, self._add, self._prices, limited=self._gate.limits_cost)

    async def admit(self, prepared: Prepared) -> bool:
        """Wait until the request may go for the first time. False: it must not (the run stops, or it costs
        more than is left)."""
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
        course = Course()
        prepared.due = scheduled_at
        endpoint = prepared.endpoint
        assert endpoint is not None
        while True:
            endpoint, stream, outcome = await self._sent(prepared, endpoint, course)
            error = outcome.error
            if error is None:
                break
            since, at = time.monotonic_ns(), stream.sent_at or stream.started_at
            failure = Failure(error, was_stale(stream, error), stream.headers, at)
            after = await self._retrying.again(prepared.ask, endpoint, failure, course)
            if after is None:
                break
            waited = time.monotonic_ns() - since
            waited = waited if waited >= _A_WAIT_NS else 0
            attempts.append(self._past(prepared, endpoint, stream, outcome, waited, after.wait_for))
            endpoint = after.endpoint
        return self._record(prepared, endpoint, stream, outcome, attempts, scheduled_at, phase)

    async def _sent(
        self, prepared: Prepared, endpoint: Endpoint, course: Course
    ) -> tuple[Endpoint, Stream, Outcome]:
        """One attempt that was sent. While it connected, a cool-down may have begun: then it waits again."""
        while True:
            stream, outcome = await self._attempt(prepared, endpoint, course.fresh)
            if not stream.held:
                return endpoint, stream, outcome
            after = await self._retrying.held(prepared.ask, course)
            if after is None:
                return endpoint, stream, outcome
            endpoint = after

    async def _attempt(self, prepared: Prepared, endpoint: Endpoint, fresh: bool) -> tuple[Stream, Outcome]:
        gate = self._gate
        opened: list[Stream] = []
        leaving: list[asyncio.TimerHandle] = []
        about = prepared.about

        def opened_one(stream: Stream) -> None:
            opened.append(stream)
            self._live.add(stream)
            stream.may_go = lambda: gate.may_go(prepared.ask, endpoint)
            stream.on_sent = lambda: setattr(prepared, "is_out", True)
            stream.on_head = lambda: gate.head(prepared.ask, endpoint, stream.status or 0)
            stream.on_first_token = lambda: self._begun(endpoint, stream)
            if self._cut_by is not None:
                stream.cut(by=self._cut_by)
            if about is not None and about.patience_s is not None:
                waited_s = (time.monotonic_ns() - prepared.due) / 1e9
                if waited_s < about.patience_s:
                    loop = asyncio.get_running_loop()
                    leaving.append(loop.call_later(about.patience_s - waited_s, _leave, stream))
                else:
                    _leave(stream)  # before it was sent

        ok, charge = False, prepared.ask.worst
        try:
            stream, outcome = await endpoint.client.attempt(
                prepared.request.api,
                prepared.data,
                opened_one,
                fresh=fresh,
                choices=prepared.choices,
                leave_after=None if about is None else about.leave_after_tokens,
            )
            ok = outcome.status == "ok"
            charge = charged(*attempt_cost(prepared.price, prepared.ask.worst, stream, outcome))
        finally:
            self._live.difference_update(opened)
            for handle in leaving:
                handle.cancel()  # else it keeps the answer for as long as the patience
            headless = not opened or opened[0].headers_at is None
            gate.ended(prepared.ask, endpoint, ok=ok, headless=headless, charge=charge)
        if ok and not stream.answer.streamed and stream.sent_at is not None and stream.ended_at is not None:
            gate.first_token(endpoint, stream.sent_at, stream.ended_at)
        if gate.counts_tokens and not stream.held:
            self._meter(prepared, stream, outcome)
        return stream, outcome

    def _begun(self, endpoint: Endpoint, stream: Stream) -> None:
        answer = stream.answer
        if stream.sent_at is not None and answer.first_token_at is not None:
            self._gate.first_token(endpoint, stream.sent_at, answer.first_token_at)
        if self.on_first_token is not None:
            self.on_first_token()

    def _meter(self, prepared: Prepared, stream: Stream, outcome: Outcome) -> None:
        """Tell the meter what an attempt used: on the server's word, or else by what was seen of it."""
        gate, ask, answer = self._gate, prepared.ask, stream.answer
        count = tokens(answer.usage)
        prompt = ask.size // BYTES_A_TOKEN if count.prompt is None else count.prompt
        completion = answer.tokens_seen() if count.completion is None else count.completion
        if count.total is not None:
            completion = max(completion, count.total - prompt)  # thinking may be counted beside it
        whole = outcome.status == "ok" or outcome.cancelled_by == "stop_rule"
        if whole or count.completion is not None:
            gate.used(ask, prompt, completion, whole=whole)
        elif not may_be_billed(stream, outcome):
            gate.unused(ask)
        else:
            gate.used_at_least(ask, prompt + completion)

    # -- the record

    def _at(self, instant: int | None) -> int | None:
        return None if instant is None else instant - self.anchor_ns

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
        cost, source, bound = attempt_cost(prepared.price, prepared.ask.worst, stream, outcome)
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
        cost, source, bound = attempt_cost(prepared.price, prepared.ask.worst, stream, outcome)
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
            scheduled_at=scheduled_at - self.anchor_ns,
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
        if prepared.held_ns:
            record.held_ns = prepared.held_ns
        if prepared.about is not None:
            _describe(record, prepared.about)
        return record


def _describe(record: Record, about: About) -> None:
    for name in ("conversation", "turn", "asked_input_tokens", "asked_output_tokens"):
        value = getattr(about, name)
        if value is not None:
            setattr(record, name, value)


def _leave(stream: Stream) -> None:
    """A user whose patience is over, and who has seen nothing yet, goes."""
    if stream.answer.first_token_at is None:
        stream.cut(by="abandon")


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
