"""One request to one record: attempts, the waits between them, and what is kept of it all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from runner.chunks import clean
from runner.client import Client, Outcome
from runner.record import Attempt, CancelledBy, Connection, Error, ErrorKind, Phase, Record
from runner.retry import attempts_left, wait_s
from runner.stream import Stream
from scenarios.request import Request

_encode = msgspec.json.Encoder().encode


class Keep(msgspec.Struct, frozen=True):
    """What goes into a record beside the answer."""

    request: bool = True
    times: bool = True


class Delivery:
    """Sends requests until each is answered, or will not be.

    Args:
        client: sends one attempt.
        session: number of the session, for the record.
        anchor_ns: the session's anchor; every instant of a record is counted from it.
        retries: attempts after the first (a resend after a stale connection is not one of them).
        include_usage: ask for `stream_options.include_usage`.
        keep: what records hold.
        rng: jitter of the waits.
    """

    def __init__(
        self,
        client: Client,
        *,
        session: int,
        anchor_ns: int,
        retries: int,
        include_usage: bool = True,
        keep: Keep | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._anchor = anchor_ns
        self._retries = retries
        self._keep = keep or Keep()
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

    async def send(self, request: Request, scheduled_at: int, phase: Phase = "measure") -> Record:
        """Send until there is a record to keep. `scheduled_at` is `monotonic_ns`."""
        body = {**request.body, **self._add}
        data = _encode(body)
        asked = body.get("n")
        choices = asked if type(asked) is int and asked > 0 else 1
        attempts: list[Attempt] = []
        made, fresh = 0, False
        while True:
            stream, outcome = await self._attempt(request.api, data, fresh, choices)
            error = outcome.error
            if error is None:
                break
            wait: tuple[float, str] | None
            if error.kind is ErrorKind.DISCONNECTED and stream.reused and not fresh:
                # The server had closed this kept connection without saying so: the request was never read.
                wait, fresh = (0.0, "stale_connection"), True
            elif self._stopping.is_set() or not attempts_left(error.kind, self._retries, made):
                break
            else:
                wait = wait_s(stream.headers, made, self._rng, time.time())
                made += 1
            if wait is None or not await self._pause(wait[0]):
                break
            attempts.append(self._past(stream, error, *wait))
        return self._record(request, body, stream, outcome, attempts, scheduled_at, phase)

    async def _attempt(self, api: str, data: bytes, fresh: bool, choices: int) -> tuple[Stream, Outcome]:
        opened: list[Stream] = []

        def opened_one(stream: Stream) -> None:
            opened.append(stream)
            self._live.add(stream)
            stream.on_first_token = self.on_first_token
            if self._cut_by is not None:
                stream.cut(by=self._cut_by)

        try:
            return await self._client.attempt(api, data, opened_one, fresh=fresh, choices=choices)
        finally:
            self._live.difference_update(opened)

    async def _pause(self, seconds: float) -> bool:
        """Wait; False where the run stopped meanwhile."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        return not self._stopping.is_set()

    # -- the record

    def _at(self, instant: int | None) -> int | None:
        return None if instant is None else instant - self._anchor

    def _past(self, stream: Stream, error: Error, wait: float, wait_for: str) -> Attempt:
        answer = stream.answer
        return Attempt(
            sent_at=self._at(stream.sent_at),
            first_token_at=self._at(answer.first_token_at),
            ended_at=self._at(stream.ended_at),
            error=error,
            text=answer.text(),
            usage_partial=answer.usage,
            wait_ns=int(wait * 1e9),
            wait_for=wait_for,
        )

    def _record(
        self,
        request: Request,
        body: dict[str, Any],
        stream: Stream,
        outcome: Outcome,
        attempts: list[Attempt],
        scheduled_at: int,
        phase: Phase,
    ) -> Record:
        answer = stream.answer
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
            response=self._client.response_of(stream),
            extra=answer.extra(),
            attempts=attempts,
            connection=Connection(stream.reused, stream.connect_ns),
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
            record.request = body
        return record


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
