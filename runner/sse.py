"""Bytes to server-sent events. No socket, no clock.

The grammar is that of the HTML standard, section 9.2.6, read as leniently as streams in the wild need. Each
read comes with a stamp (any value; the caller's arrival time), and an event carries the stamp of the read
that brought the last byte of its last `data:` line: a blank line that trails in later makes no token late.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"

# An event type no `event:` line can produce (types hold no NUL from us): JSON that no `data:` line brought.
BARE = "\0bare"


# (data: its lines joined with LF; type: "" where none was named; stamp). A plain tuple: one is made a token.
Event = tuple[bytes, str, int]


class TooLarge(Exception):  # noqa: N818 - the field's name for it, and what the record will say
    """One event holds more bytes than the parser was told to keep."""


class Parser:
    """Incremental reader of one event stream. Cost is linear in bytes, whatever the sizes of the reads."""

    __slots__ = (
        "_after_cr",
        "_at",
        "_bare",
        "_data",
        "_data_size",
        "_limit",
        "_partial",
        "_partial_size",
        "_start",
        "_type",
    )

    def __init__(self, limit: int = 64 << 20) -> None:
        self._partial: list[bytes] = []  # pieces of a line whose end has not come
        self._partial_size = 0
        self._data: list[bytes] = []  # data lines of the event being read
        self._data_size = 0
        self._bare: list[Event] = []  # bare lines that stand between those
        self._type = ""
        self._at = 0  # stamp of the last data line's last byte
        self._after_cr = False  # the line ended in CR at the end of a read: an LF next belongs to it
        self._start = True
        self._limit = limit

    def feed(self, data: bytes, at: int, before: int) -> list[Event]:
        """Take one read.

        Args:
            data: what came.
            at: its stamp.
            before: the stamp of the read before it (of a line whose end alone is in this read).

        Raises:
            TooLarge: the event being read has outgrown the limit.
        """
        # Nearly every read of a paced stream is exactly one event of one line.
        if not self._partial and not self._data and not self._start and not self._after_cr:
            if (
                data.startswith(b"data: ")
                and data.endswith(b"\n\n")
                and data.find(b"\n", 0, -2) < 0
                and b"\r" not in data
            ):
                event = (data[6:-2], self._type, at)
                self._type = ""
                return [event]
        elif self._start:
            data = self._skip_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            if data:
                self._keep(data)
            return []
        return self._lines(data, at, before)

    @property
    def idle(self) -> bool:
        """Between two events, with nothing kept of either."""
        return not (self._partial or self._data or self._type or self._after_cr or self._start)

    def finish(self, at: int) -> list[Event]:
        """What was left without its blank line when the body ended. Whether it is whole, JSON tells.

        Args:
            at: the stamp of the last read.
        """
        events: list[Event] = []
        if self._partial:
            self._line(b"".join(self._partial), at, events)
            self._partial.clear()
        if self._data:
            self._dispatch(events)
        return events

    def _skip_bom(self, data: bytes) -> bytes:
        if self._partial:
            data = b"".join(self._partial) + data
            self._partial.clear()
            self._partial_size = 0
        if len(data) < 3 and _BOM.startswith(data):
            return data  # kept as a partial line (it holds no line end): asked again with the next read
        self._start = False
        return data.removeprefix(_BOM)

    def _keep(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._partial_size += len(piece)
        if self._partial_size + self._data_size > self._limit:
            raise TooLarge

    def _lines(self, data: bytes, at: int, before: int) -> list[Event]:
        # The first line's content may all have come earlier, with only its end in this read.
        first_at = before if self._partial and data[0] in b"\r\n" else at
        if self._partial:
            self._partial.append(data)
            data = b"".join(self._partial)
            self._partial.clear()
            self._partial_size = 0
        if b"\r" in data:
            lines = _LINE_END.split(data)
            self._after_cr = data[-1] == 0x0D
        else:
            lines = data.split(b"\n")
        rest = lines.pop()
        if rest:
            self._keep(rest)
        events: list[Event] = []
        stamp = first_at
        for line in lines:
            if not line:
                if self._data:
                    self._dispatch(events)
                else:
                    self._type = ""
            elif line.startswith(b"data: "):
                self._data.append(line[6:])
                self._data_size += len(line)
                self._at = stamp
            else:
                self._line(line, stamp, events)
            stamp = at
        if self._data_size > self._limit:
            raise TooLarge
        return events

    def _line(self, line: bytes, at: int, events: list[Event]) -> None:
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value)
            self._at = at
        elif field == b"event":
            self._type = value.decode("utf-8", "replace").replace("\0", "")
        elif line.startswith(b"{"):
            # Not of the standard: some servers put an error object into the stream with no `data:` before it,
            self._stray(line, at, events)
        elif field == b"error" and value.startswith(b"{"):
            # and llama.cpp long had a field of its own for it.
            self._stray(value, at, events)

    def _stray(self, data: bytes, at: int, events: list[Event]) -> None:
        if self._data:
            # After the event it stands in: what that one says came first, and an error ends the answer.
            self._bare.append((data, BARE, at))
            self._data_size += len(data)
        else:
            events.append((data, BARE, at))

    def _dispatch(self, events: list[Event]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        events.append((data, self._type, self._at))
        self._data.clear()
        self._data_size = 0
        self._type = ""
        if self._bare:
            events += self._bare
            self._bare.clear()
