"""Decoders of tables: CSV, TSV, Parquet.

A table says "no value" with an empty cell or a null, where JSONL leaves the key
away; and text is all a CSV cell can hold. What that means for a body is decided
in `bodies`; here every cell comes out as it is.
"""

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from scenarios.formats import BadRow, Columns, Row, RowError, first_line, utf8
from scenarios.source import PromptError

FIELD_LIMIT = 64 * 1024 * 1024
"""A longer cell is taken for a quote that was never closed."""

_SLICE_ROWS = 16


class _Dry(Exception):  # noqa: N818 (no error: the lines so far are used up)
    """csv.reader asked for a line that has not come yet."""


class _Lines:
    """The iterator csv.reader pulls from. It may run dry inside a record, be rewound and filled up again."""

    def __init__(self) -> None:
        self.ready: deque[bytes] = deque()
        self.taken: list[bytes] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if not self.ready:
            raise _Dry
        line = self.ready.popleft()
        self.taken.append(line)
        # A broken byte must not lose the place in the file: it is reported once the record is whole.
        return line.decode("utf-8", "surrogateescape")

    def rewind(self) -> int:
        """Put back the lines of an unfinished record; return how many bytes they are."""
        self.ready.extendleft(reversed(self.taken))
        self.taken.clear()
        return sum(map(len, self.ready))


class CsvDecoder:
    """Rows of a CSV file with a header, read by the csv module.

    Theory: csv.reader pulls lines and forgets an unfinished record when its
    iterator raises. So the lines of a record are kept until it is whole, and a
    record that runs over the end of a block is read again from its first line
    once there is twice as much of it: linear in the length of the file.
    """

    def __init__(self, name: str, delimiter: str) -> None:
        # The limit belongs to the process; the module's own is 128 KiB, which a long prompt exceeds.
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
        self._name = name
        self._lines = _Lines()
        self._reader = csv.reader(self._lines, delimiter=delimiter)
        self._tail: list[bytes] = []
        self._pending = 0
        self._retry_at = 0
        self._line = 0
        self._index = 0
        self._header: list[str] | None = None

    def feed(self, block: bytes) -> Iterator[Row | BadRow]:
        """Yield the records that are complete with this block."""
        if b"\n" not in block and b"\r" not in block:
            self._tail.append(block)
            return
        # Of bytes, splitlines() splits at \n, \r and \r\n only: the line ends the csv module knows.
        lines = b"".join([*self._tail, block]).splitlines(keepends=True)
        # A last \r may be half of \r\n.
        self._tail = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        self._add(lines)
        if self._pending >= self._retry_at:
            yield from self._records()

    def end(self) -> Iterator[Row | BadRow]:
        """Yield the last record, whole or not."""
        last, self._tail = b"".join(self._tail), []
        if last:
            self._add(last.splitlines(keepends=True))
        yield from self._records()
        if self._lines.ready:
            line, self._line = self._line + 1, self._line + len(self._lines.ready)
            self._lines.ready.clear()
            yield self._bad(line, RowError("a quote is opened in this row and never closed"))

    def _add(self, lines: list[bytes]) -> None:
        if lines and self._line == 0 and not self._lines.ready:
            lines[0] = first_line(lines[0], self._name)
        self._lines.ready.extend(lines)
        self._pending += sum(map(len, lines))

    def _records(self) -> Iterator[Row | BadRow]:
        while True:
            line = self._line + 1
            try:
                fields = next(self._reader)
            except _Dry:
                self._pending = self._lines.rewind()
                self._retry_at = 2 * self._pending
                return
            except csv.Error as error:
                self._take()
                yield self._bad(line, RowError(f"not CSV: {error} (a quote that is never closed?)"))
                continue
            taken = self._take()
            if fields and self._header is None:
                self._header = self._names(fields, taken, line)
            elif fields:  # none: a blank line
                yield self._row(line, fields, taken)

    def _take(self) -> list[bytes]:
        taken, self._lines.taken = self._lines.taken, []
        self._line += len(taken)
        return taken

    def _row(self, line: int, fields: list[str], taken: list[bytes]) -> Row | BadRow:
        header = self._header
        assert header is not None
        if len(fields) != len(header):
            return self._bad(line, RowError(f"{len(fields)} fields, but the header has {len(header)}"))
        broken = _broken(taken, line)
        if broken is not None:
            return self._bad(line, broken)
        row = Row(line, self._index, dict(zip(header, fields, strict=True)))
        self._index += 1
        return row

    def _bad(self, line: int, error: RowError) -> BadRow:
        bad = error.at(line, self._index, "line")
        self._index += 1
        return bad

    def _names(self, fields: list[str], taken: list[bytes], line: int) -> list[str]:
        broken = _broken(taken, line)
        if broken is not None:
            raise PromptError(broken.reason, file=self._name, line=line, hint="save the file as UTF-8")
        _distinct(fields, self._name)
        return fields


def _broken(taken: list[bytes], line: int) -> RowError | None:
    """Return what is wrong with the bytes of a record, if anything."""
    for number, raw in enumerate(taken, start=line):
        if raw.isascii():
            continue
        try:
            utf8(raw)
        except RowError as error:
            return RowError(error.reason.replace("the line", f"line {number}")) if number > line else error
    return None


class ParquetDecoder:
    """Rows of a Parquet file. Values become what JSON can hold: a date its ISO text, NaN null."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._index = 0

    def feed(self, block: Any) -> Iterator[Row | BadRow]:
        """Yield the rows of a record batch."""
        if self._index == 0:
            _distinct(block.schema.names, self._name)
        for start in range(0, block.num_rows, _SLICE_ROWS):
            for columns in block.slice(start, _SLICE_ROWS).to_pylist():
                yield self._row(columns)

    def end(self) -> Iterator[Row | BadRow]:
        """Yield nothing: every batch holds whole rows."""
        return iter(())

    def _row(self, columns: Columns) -> Row | BadRow:
        index = self._index
        self._index += 1
        try:
            return Row(index + 1, index, msgspec.json.decode(msgspec.json.encode(columns)))
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            return BadRow(index + 1, index, f"a value has no form in JSON: {error}", unit="row")


def _distinct(names: list[str], file: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PromptError(f"two columns are named {name!r}", file=file, hint="rename one of them")
        seen.add(name)
