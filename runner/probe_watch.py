"""What one answer of a probe showed, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from runner.answer import Answer
from runner.chunks import loads, usage_in
from runner.client import Outcome
from runner.record import Error, ErrorKind
from runner.sse import Event
from runner.stream import Stream

_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
_THINK = "<think>"


class Watch(Answer):
    """An answer that also notes what no record keeps: the shape of its chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.role_at: int | None = None  # of the chunk that names the role, where no token had come yet
        self.usage_events = 0
        self.reasoning_in: list[str] = []  # the fields that held reasoning
        self.on_token: Callable[[], None] | None = None

    def feed(self, event: Event) -> None:
        """Take one event, and look at it."""
        before, over = len(self.token_at), self.done_at is not None
        super().feed(event)
        self.plain = None  # else the stream would pass the next texts by here
        if not over:
            self._look(event[0], event[2])
        if len(self.token_at) > before and self.on_token is not None:
            self.on_token()

    def whole(self, payload: dict[str, Any], at: int) -> None:
        """Take a completion that came as one document, and look at it."""
        super().whole(payload, at)
        self._note(payload, at)

    def _look(self, data: bytes, at: int) -> None:
        try:
            payload = loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict):
            self._note(payload, at)

    def _note(self, payload: dict[str, Any], at: int) -> None:
        if usage_in(payload):
            self.usage_events += 1
        choices = payload.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = (choice.get("delta") or choice.get("message")) if isinstance(choice, dict) else None
            if not isinstance(delta, dict):
                continue
            if delta.get("role") and self.first_token_at is None and self.role_at is None:
                self.role_at = at
            found = [name for name in _FIELDS if delta.get(name)]
            parts = delta.get("content")
            types = [p.get("type") for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
            found += [f"content parts of type {t}" for t in types if t in {"thinking", "reasoning"}]
            self.reasoning_in += [name for name in found if name not in self.reasoning_in]


class Seen(msgspec.Struct, kw_only=True):
    """One request and what came back. Times count from the request's last byte, `None` where unknown."""

    error: Error | None = None
    answered: bool = False
    cut: bool = False  # by us
    in_band: bool = False  # the error came inside a response of status 200
    status: int | None = None
    headers: dict[str, str] = {}
    streamed: bool = True
    reused: bool | None = None
    connect_ms: float | None = None
    headers_ms: float | None = None
    role_ms: float | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    chunks: int = 0  # that held tokens
    one_read: bool = False  # all of them came at once
    done: bool = False  # `[DONE]` came
    finish: str | None = None
    usage: dict[str, Any] | None = None
    usage_events: int = 0
    reasoning_in: list[str] = []
    provider: str | None = None

    @property
    def refused(self) -> bool:
        """The server did not take the body (which is not: the place, the key)."""
        wrong = self.error is not None and self.error.kind is ErrorKind.BAD_REQUEST
        return wrong and self.status not in {404, 405}

    @property
    def misplaced(self) -> bool:
        """Nothing answers at this URL, or no API does."""
        page = self.error is not None and self.error.kind is ErrorKind.BAD_CONTENT_TYPE
        return page or self.status in {404, 405}


def seen_of(stream: Stream, watch: Watch, outcome: Outcome) -> Seen:
    """What an attempt that is over showed."""
    start = stream.sent_at or stream.started_at

    def ms(at: int | None) -> float | None:
        return None if at is None else max(at - start, 0) / 1e6

    main = watch.main_choice()
    reasoning = list(watch.reasoning_in)
    if _THINK in main["text"] or "</think>" in main["text"]:
        reasoning.append(f"{_THINK} inside the text")
    provider = watch.response.get("provider")
    return Seen(
        error=outcome.error,
        answered=outcome.status == "ok",
        cut=outcome.status == "cancelled",
        in_band=outcome.error is not None and stream.mode != "refusal" and stream.status is not None,
        status=stream.status,
        headers={str(name).lower(): str(value) for name, value in stream.headers.items()},
        streamed=watch.streamed,
        reused=stream.reused,
        connect_ms=None if stream.connect_ns is None else stream.connect_ns / 1e6,
        headers_ms=ms(stream.headers_at),
        role_ms=ms(watch.role_at) if watch.streamed else None,
        first_token_ms=ms(watch.first_token_at),
        total_ms=ms(stream.ended_at),
        chunks=len(watch.token_at),
        one_read=len(watch.token_at) > 1 and watch.token_at[0] == watch.token_at[-1],
        done=watch.done_at is not None,
        finish=main["finish_reason"],
        usage=watch.usage,
        usage_events=watch.usage_events,
        reasoning_in=reasoning,
        provider=provider if isinstance(provider, str) else None,
    )
