"""How a body is written and carried: pure functions from pieces to pieces, for streams that are made odd.

Writing turns the events into the text of an event stream; carrying puts that into HTTP.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from itertools import cycle
from typing import Any

import msgspec

from runner.mock.events import Event, Piece, Source, data_of, framed, is_done
from runner.mock.http import LAST_CHUNK, chunk
from runner.mock.refusals import Headers

Write = Callable[[list[Piece]], list[Piece]]
Carry = Callable[[list[Piece]], tuple[Headers, list[Piece]]]

COMMENT = b": ping\n\n"
APART_NS = 1_000_000
_MISSING_BYTES = 1000
_replace = msgspec.structs.replace


# -- writing


def with_data(piece: Piece, data: bytes) -> Piece:
    """The piece with other bytes."""
    return _replace(piece, data=data)


def replaced(old: bytes, new: bytes) -> Write:
    """Bytes of every piece replaced."""
    return lambda pieces: [with_data(piece, piece.data.replace(old, new)) for piece in pieces]


def mixed_ends(pieces: list[Piece]) -> list[Piece]:
    """Each event with line ends of another kind than the one before."""
    ends = cycle((b"\n", b"\r\n", b"\r"))
    return [with_data(piece, piece.data.replace(b"\n", next(ends))) for piece in pieces]


def cut_apart(place: Callable[[bytes], int]) -> Write:
    """Each piece in two writes, cut where `place` says."""

    def write(pieces: list[Piece]) -> list[Piece]:
        out = []
        for piece in pieces:
            at = place(piece.data)
            out.append(with_data(piece, piece.data[:at]))
            if piece.data[at:]:
                out.append(Piece(piece.data[at:], apart_ns=APART_NS))
        return out

    return write


def inside_character(data: bytes) -> int:
    """A place inside the first character of several bytes; the end where there is none."""
    return next((n + 1 for n, byte in enumerate(data) if byte >= 0xC0), len(data))


def inside_line_end(data: bytes) -> int:
    """The place between the last CR and its LF."""
    return data.rindex(b"\r\n") + 1


def bytewise(pieces: list[Piece]) -> list[Piece]:
    """Every byte in a write of its own."""
    return [
        Piece(bytes([byte]), *((piece.tokens, piece.beat) if n == 0 else (0, False)), apart_ns=1)
        for piece in pieces
        for n, byte in enumerate(piece.data)
    ]


def at_once(pieces: list[Piece]) -> list[Piece]:
    """All in one write, with the first token."""
    tokens = sum(piece.tokens for piece in pieces)
    return [Piece(b"".join(piece.data for piece in pieces), tokens, beat=True)]


def led_by(lead: bytes) -> Write:
    """Bytes before all others."""
    return lambda pieces: [Piece(lead), *pieces]


def each_led_by(lead: bytes) -> Write:
    """The same bytes before every event."""
    return lambda pieces: [with_data(piece, lead + piece.data) for piece in pieces]


def without_end(data: bytes) -> Write:
    """The last event without these bytes at its end."""
    return lambda pieces: [*pieces[:-1], with_data(pieces[-1], pieces[-1].data.removesuffix(data))]


def over_lines(events: list[Event]) -> list[Piece]:
    """The JSON of each event over several `data:` lines."""
    out = []
    for event in events:
        data = data_of(event)
        if not is_done(event):
            data = json.dumps(json.loads(data), indent=1, ensure_ascii=False).encode()
        lines = b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
        out.append(Piece(lines, event.tokens, event.beat))
    return out


def as_lines(events: list[Event]) -> list[Piece]:
    """JSON lines: chunks with nothing of an event stream around them."""
    return [Piece(data_of(event) + b"\n", event.tokens, event.beat) for event in events if not is_done(event)]


def document(body: bytes) -> Callable[[Source], list[Piece]]:
    """Something else in place of the answer."""
    return lambda _source: [Piece(body, beat=True)]


def whole(source: Source) -> list[Piece]:
    """The answer as one JSON body."""
    tokens = sum(event.tokens for event in source.events)
    return [Piece(source.whole(), tokens, beat=True)]


# -- carrying


def chunked(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """Each piece a chunk, and the last chunk with the last piece."""
    return _in_chunks(pieces, LAST_CHUNK)


def unended(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """Without the chunk that says it is all."""
    return _in_chunks(pieces, b"")


def with_trailer(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """Headers after the body."""
    return _in_chunks(pieces, b"0\r\nX-Checksum: 1\r\n\r\n")


def wrong_size(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """In place of the last chunk one whose size is no number."""
    return _in_chunks(pieces, b"zz\r\ndata: \r\n")


def odd_chunks(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """Small chunks, that end in the middle of things and have extensions."""

    def sliced(data: bytes) -> bytes:
        parts = [data[n : n + 7] for n in range(0, len(data), 7)]
        return b"".join(b"%X;note=odd\r\n%b\r\n" % (len(part), part) for part in parts)

    out = [with_data(piece, sliced(piece.data)) for piece in pieces]
    return _CHUNKED, [*out[:-1], with_data(out[-1], out[-1].data + LAST_CHUNK)]


def sized(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """With the length said before."""
    return (("content-length", str(sum(len(piece.data) for piece in pieces))),), pieces


def oversized(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """With a length that never comes."""
    length = sum(len(piece.data) for piece in pieces) + _MISSING_BYTES
    return (("content-length", str(length)),), pieces


def until_close(pieces: list[Piece]) -> tuple[Headers, list[Piece]]:
    """As long as the connection lasts."""
    return (("connection", "close"),), pieces


_CHUNKED: Headers = (("transfer-encoding", "chunked"),)


def _in_chunks(pieces: list[Piece], end: bytes) -> tuple[Headers, list[Piece]]:
    out = [with_data(piece, chunk(piece.data)) for piece in pieces if piece.data]
    if not end:
        return _CHUNKED, out
    if not out:
        return _CHUNKED, [Piece(end)]
    return _CHUNKED, [*out[:-1], with_data(out[-1], out[-1].data + end)]


# -- content encodings, before it is carried


def compressed(wbits: int) -> Write:
    """Compressed, and flushed after every piece (31: gzip, 15: deflate)."""

    def write(pieces: list[Piece]) -> list[Piece]:
        packer: Any = zlib.compressobj(wbits=wbits)
        out = []
        for n, piece in enumerate(pieces, 1):
            how = zlib.Z_FINISH if n == len(pieces) else zlib.Z_SYNC_FLUSH
            out.append(with_data(piece, packer.compress(piece.data) + packer.flush(how)))
        return out

    return write


def spoiled(pieces: list[Piece]) -> list[Piece]:
    """The second half of the pieces, each bit turned over."""
    place = len(pieces) // 2
    turned = [with_data(piece, bytes(byte ^ 0xFF for byte in piece.data)) for piece in pieces[place:]]
    return [*pieces[:place], *turned]


def written(*writes: Write) -> Callable[[Source], list[Piece]]:
    """The unchanged events, written these ways in turn."""

    def body(source: Source) -> list[Piece]:
        pieces = framed(source.events)
        for write in writes:
            pieces = write(pieces)
        return pieces

    return body
