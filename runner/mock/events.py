"""A stream in parts, for what goes wrong in it: events of the answer, then pieces of the body. No socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

_encode = msgspec.json.encode


class Event(msgspec.Struct, frozen=True):
    """One event of the stream. A payload of bytes is the data as it stands."""

    payload: dict[str, Any] | bytes
    tokens: int = 0
    beat: bool = False  # waits for the next token's time; all others go with what is before them
    type: str = ""


class Piece(msgspec.Struct, frozen=True):
    """Some bytes of the body, sent together."""

    data: bytes
    tokens: int = 0
    beat: bool = False
    apart_ns: int = 0  # above 0: in a write of its own, this long after the one before


class Source(msgspec.Struct, frozen=True):
    """The answer as it would be if nothing went wrong."""

    events: list[Event]
    whole: Callable[[], bytes]  # the same as one JSON body


Change = Callable[[list[Event]], list[Event]]
Body = Callable[[Source], list[Piece]]

DONE = Event(b"[DONE]")


def data_of(event: Event) -> bytes:
    """The JSON of an event."""
    if isinstance(event.payload, bytes):
        return event.payload
    try:
        return _encode(event.payload)
    except UnicodeEncodeError:  # half a surrogate pair, on purpose
        return json.dumps(event.payload).encode()


def framed(events: list[Event]) -> list[Piece]:
    """Events as every server sends them: a piece each."""
    out = []
    for event in events:
        head = b"event: %b\n" % event.type.encode() if event.type else b""
        out.append(Piece(b"%bdata: %b\n\n" % (head, data_of(event)), event.tokens, event.beat))
    return out


def is_done(event: Event) -> bool:
    """Whether it is `[DONE]`."""
    return event.payload == DONE.payload


def choices_of(event: Event) -> list[dict[str, Any]]:
    """The choices of a chunk."""
    found: list[dict[str, Any]] = (
        event.payload.get("choices") or [] if isinstance(event.payload, dict) else []
    )
    return found


def is_role(event: Event) -> bool:
    """Whether it is the chunk that names the role."""
    return any("role" in choice.get("delta", {}) for choice in choices_of(event))


def is_finish(event: Event) -> bool:
    """Whether it is the chunk with the finish reason."""
    return any(choice.get("finish_reason") for choice in choices_of(event))


def usage_of(events: list[Event]) -> dict[str, Any] | None:
    """The usage of the answer, where it was asked for."""
    chunks = [event.payload for event in events if isinstance(event.payload, dict)]
    return next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None)


def is_usage(event: Event) -> bool:
    """Whether it is the chunk that holds usage and nothing else."""
    return isinstance(event.payload, dict) and bool(event.payload.get("usage")) and not choices_of(event)


def with_keys(event: Event, **keys: Any) -> Event:
    """The chunk with other values of these keys."""
    assert isinstance(event.payload, dict)
    return msgspec.structs.replace(event, payload={**event.payload, **keys})


def with_choice(event: Event, **keys: Any) -> Event:
    """The chunk with other values of these keys in its choices."""
    return with_keys(event, choices=[{**choice, **keys} for choice in choices_of(event)])


def half(events: list[Event]) -> list[Event]:
    """What goes before half of the tokens are sent."""
    beats = [place for place, event in enumerate(events) if event.beat]
    return events[: beats[len(beats) // 2]] if beats else []
