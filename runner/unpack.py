"""Content encodings undone as the bytes come. No socket, no clock.

None is asked for, and some servers compress all the same. aiohttp undoes them too, but gives nothing of a
read that is broken at its end, and forgets the status of a response whose encoding it does not know.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from runner.sse import TooLarge

_PIECE = 64 << 10  # bytes handed out at once
_MOST = 64 << 20  # bytes that one read may become
_WINDOW = 4 << 10  # bytes taken in at once: what follows the end of a gzip member is copied
_GZIP = b"\x1f\x8b"
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
# Nothing to undo, whatever was meant by it.
_PLAIN = frozenset({"", "identity", "none", "utf-8", "utf8", "chunked"})


class Corrupt(Exception):  # noqa: N818 - the field's name for it
    """The bytes are not of the encoding they are said to be of."""


class CutShort(Exception):  # noqa: N818 - likewise
    """The body ended, and its encoding did not."""


def encodings(header: str) -> list[str]:
    """What a Content-Encoding header names, in order; `gzip` and `deflate` can be undone."""
    names = [name.strip().lower() for name in header.split(",")]
    return [_NAMES.get(name, name) for name in names if name not in _PLAIN]


def can_undo(names: list[str]) -> bool:
    """Whether all of these can be undone."""
    return all(name in _NAMES for name in names)


class Unpacker:
    """Undoes one encoding."""

    def __init__(self, name: str) -> None:
        self._gzip = name == "gzip"
        self._left = b""  # a first byte that does not tell yet
        self._zlib: zlib._Decompress | None = None
        self._between = False  # two gzip members

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take one read; gives what it becomes, in pieces.

        Raises:
            Corrupt: it is not of the encoding.
            TooLarge: it becomes more than any answer is.
        """
        size = 0
        for at in range(0, len(data), _WINDOW):
            for piece in self._window(data[at : at + _WINDOW]):
                size += len(piece)
                if size > _MOST:
                    raise TooLarge
                yield piece

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            CutShort: that is too early.
        """
        if self._left or (self._zlib is not None and not self._zlib.eof):
            raise CutShort

    def _window(self, data: bytes) -> Iterator[bytes]:
        while data and not self._is_over():
            if self._zlib is None or self._between:
                data, self._left = self._left + data, b""
                if len(data) < 2:
                    self._left = data
                    return
                if self._between and not data.startswith(_GZIP):
                    self._between = False  # what follows the last member is nobody's: gzip has it so too
                    return
                self._zlib, self._between = zlib.decompressobj(self._bits(data)), False
            before = self._zlib.copy()
            try:
                piece = self._zlib.decompress(data, _PIECE)
            except zlib.error as exc:
                yield from _until_broken(before, data)
                raise Corrupt from exc
            if piece:
                yield piece
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:
                self._between = self._gzip
                data = self._zlib.unused_data

    def _is_over(self) -> bool:
        return self._zlib is not None and self._zlib.eof and not self._between

    def _bits(self, data: bytes) -> int:
        if self._gzip:
            return 31
        # "deflate" is zlib's format, and to some servers the bare one inside it.
        return 15 if data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0 else -15


def _until_broken(unpacker: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What bytes that cannot be undone as a whole become before they break."""
    for byte in data:
        try:
            piece = unpacker.decompress(bytes((byte,)))
        except zlib.error:
            return
        if piece:
            yield piece
