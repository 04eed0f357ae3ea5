"""Encodings undone: whole, in any pieces, cut short, broken."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import unpack as module
from runner.sse import TooLarge
from runner.unpack import Corrupt, CutShort, Unpacker, can_undo, encodings

DATA = b"data: hello\n\n" * 30


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(DATA)),
    "members": ("gzip", b"".join(gzip.compress(DATA[n : n + 50]) for n in range(0, len(DATA), 50))),
    "an empty member between": (
        "gzip",
        gzip.compress(DATA[:9]) + gzip.compress(b"") + gzip.compress(DATA[9:]),
    ),
    "junk behind": ("gzip", gzip.compress(DATA) + b"junk"),
    "deflate": ("deflate", zlib.compress(DATA)),
    "deflate, junk behind": ("deflate", zlib.compress(DATA) + b"junk"),
    "bare": ("deflate", bare(DATA)),
}


def undone(name: str, pieces: list[bytes]) -> bytes:
    unpacker = Unpacker(name)
    out = b"".join(piece for data in pieces for piece in unpacker.feed(data))
    unpacker.finish()
    return out


@pytest.mark.parametrize("case", list(PACKED))
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_reads_of_any_size(case: str, size: int) -> None:
    name, packed = PACKED[case]
    assert undone(name, [packed[n : n + size] for n in range(0, len(packed), size)]) == DATA


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_much_is_handed_out_in_pieces(name: str) -> None:
    data = bytes(1 << 20)
    packed = gzip.compress(data) if name == "gzip" else zlib.compress(data)
    pieces = list(Unpacker(name).feed(packed))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 64 << 10


def test_a_bomb_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 1 << 20)
    with pytest.raises(TooLarge):
        list(Unpacker("gzip").feed(gzip.compress(bytes(2 << 20))))


@pytest.mark.parametrize("case", ["gzip", "deflate", "bare"])
def test_cut_short(case: str) -> None:
    name, packed = PACKED[case]
    for size in range(1, len(packed)):
        with pytest.raises(CutShort):
            undone(name, [packed[:size]])


def test_nothing_is_nothing() -> None:
    assert undone("gzip", []) == undone("deflate", []) == b""


def test_what_came_before_the_break_is_kept() -> None:
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(DATA) + packer.flush(zlib.Z_SYNC_FLUSH)
    for name, packed in (("gzip", good), ("deflate", zlib.compress(DATA)[:-4])):
        unpacker, out = Unpacker(name), b""
        pieces = unpacker.feed(packed + b"\xff" * 20)
        while len(out) < len(DATA):
            out += next(pieces)
        assert out == DATA
        with pytest.raises(Corrupt):
            next(pieces)


@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_raise_anything_else(pieces: list[bytes], name: str) -> None:
    with suppress(Corrupt, CutShort):
        undone(name, pieces)


@pytest.mark.parametrize(
    ("header", "names", "can"),
    [
        ("", [], True),
        ("identity", [], True),
        ("UTF-8", [], True),
        ("none, utf8,chunked", [], True),
        ("gzip", ["gzip"], True),
        ("X-GZip", ["gzip"], True),
        (" deflate , gzip,", ["deflate", "gzip"], True),
        ("br", ["br"], False),
        ("gzip, zstd", ["gzip", "zstd"], False),
    ],
)
def test_headers(header: str, names: list[str], can: bool) -> None:
    assert encodings(header) == names
    assert can_undo(names) is can
