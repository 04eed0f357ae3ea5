"""How a stream is staged: what is sent in place of it, how it is carried, and how it ends."""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from runner.mock.events import Body, Change, Event, Piece, Source, framed
from runner.mock.framing import Carry, chunked
from runner.mock.refusals import Headers

EVENT_STREAM = "text/event-stream; charset=utf-8"


class Ending(Enum):
    """What becomes of the connection after the last byte."""

    FINISH = auto()  # it is kept for the next request
    CLOSE = auto()  # it is closed
    RESET = auto()  # it is reset (RST)
    STALL = auto()  # nothing more comes, and it stays open
    COMMENTS = auto()  # comments come for ever


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that is put together before it is sent."""

    body: Body
    carry: Carry = chunked
    content_type: str | None = EVENT_STREAM
    headers: Headers = ()
    before: bytes = b""  # sent ahead of the head
    head: bool = True  # without a head there is no HTTP: the body goes as it is
    ending: Ending = Ending.FINISH


def nothing(_source: Source) -> list[Piece]:
    """No body at all."""
    return []


def changed(change: Change) -> Body:
    """The body of an event stream whose events are changed."""

    def body(source: Source) -> list[Piece]:
        return framed(change(source.events))

    return body


def same(events: list[Event]) -> list[Event]:
    """No change."""
    return events
