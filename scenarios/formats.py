"""Decoders: blocks of a file in, rows out. No disk, no clock, one row a `next`.

    decode = decoder(source)
    for block in blocks(source):
        for row in decode.feed(block): ...      # Row or BadRow; take them all before the next block
    for row in decode.end(): ...                # what the last block left

Any cut of a file into blocks gives the same rows. Only `\\n` and `\\r\\n` end a
line of JSONL and plain text, so that U+2028 and its like stay inside a prompt.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn, Protocol

import msgspec

from scenarios.source import Block, PromptError, Source

Columns = dict[str, Any]


class Row(msgspec.Struct):
    """A row as it stands in the file."""

    line: int
    """Where it begins: line of a text file, row of a Parquet file, from 1."""
    index: int
    """Its place among all rows, bad ones included, from 0."""
    columns: Columns


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be sent, and why. `str()` gives `line 17, column 5: ...`."""

    line: int
    index: int
    reason: str
    column: int | None = None
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        place = f"{self.unit} {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{place}: {self.reason}"


class RowError(Exception):
    """A row that cannot be sent; whoever knows its place turns it into a BadRow."""

    def __init__(self, reason: str, *, column: int | None = None, missing: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column
        self.missing = missing
        """The column a template asked for in vain."""

    def at(self, line: int, index: int, unit: Literal["line", "row"]) -> BadRow:
        """Return the bad row at this place."""
        return BadRow(line=line, index=index, reason=self.reason, column=self.column, unit=unit)


class Decoder(Protocol):
    """Turns blocks into rows, lazily; both iterators have to be used up."""

    def feed(self, block: Block) -> Iterator[Row | BadRow]:
        """Yield the rows that are complete with this block."""

    def end(self) -> Iterator[Row | BadRow]:
        """Yield what is left after the last block."""


def decoder(source: Source) -> Decoder:
    """Return a fresh decoder for this source's format."""
    if source.format in ("csv", "tsv"):
        from scenarios.tables import CsvDecoder  # tables imports this module

        return CsvDecoder(source.path, "," if source.format == "csv" else "\t")
    if source.format == "parquet":
        from scenarios.tables import ParquetDecoder

        return ParquetDecoder(source.path)
    return LineDecoder(source.path, text_line if source.format == "txt" else json_line)


class LineDecoder:
    """A row a line. Blank lines are no rows."""

    def __init__(self, name: str, parse: Callable[[bytes], Columns]) -> None:
        self._name = name
        self._parse = parse
        self._tail: list[bytes] = []
        self._line = 0
        self._index = 0

    def feed(self, block: bytes) -> Iterator[Row | BadRow]:
        """Yield the rows of the lines that end in this block."""
        if b"\n" not in block:  # a line over many blocks is joined once, not once a block
            self._tail.append(block)
            return
        if self._tail:
            block = b"".join([*self._tail, block])
        lines = block.split(b"\n")
        self._tail = [lines.pop()]
        yield from self._rows(lines)

    def end(self) -> Iterator[Row | BadRow]:
        """Yield the row of a last line without a line end."""
        last, self._tail = b"".join(self._tail), []
        if last:
            yield from self._rows([last])

    def _rows(self, lines: list[bytes]) -> Iterator[Row | BadRow]:
        parse = self._parse
        for raw in lines:
            self._line += 1
            line = first_line(raw, self._name) if self._line == 1 else raw
            if not line or line.isspace():
                continue
            index = self._index
            self._index += 1
            try:
                row = Row(self._line, index, parse(line))
            except RowError as error:
                yield error.at(self._line, index, "line")
            else:
                yield row


def first_line(line: bytes, name: str) -> bytes:
    """Return the first line without its byte order mark; refuse what is plainly no text."""
    foreign = {
        b"\xff\xfe": "UTF-16",
        b"\xfe\xff": "UTF-16",
        b"\x1f\x8b": "gzip",
        b"PK\x03\x04": "zip",
        b"PAR1": "Parquet",
    }
    for mark, what in foreign.items():
        if line.startswith(mark):
            raise PromptError(
                f"the file is {what}, not UTF-8 text", file=name, hint="convert or unpack it first"
            )
    return line.removeprefix(b"\xef\xbb\xbf")


def utf8(line: bytes) -> str:
    """Decode a line, or say which byte is wrong."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(
            f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8"
        ) from None


def text_line(line: bytes) -> Columns:
    """Read a line of plain text: all of it is the prompt."""
    return {"prompt": utf8(line.removesuffix(b"\r"))}


_decode = msgspec.json.Decoder().decode


def json_line(line: bytes) -> Columns:
    """Read a line of JSON: an object, or a bare string that is the prompt."""
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _explain(line, error)
    if type(value) is dict:
        return value
    if isinstance(value, str):
        return {"prompt": value}
    raise RowError(f"the row is {json_kind(value)}, not an object")


def json_kind(value: Any) -> str:
    """Return what a JSON value is, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a number"


def _explain(line: bytes, error: Exception) -> NoReturn:
    """Say why a line is no JSON. The fast parser counts bytes; the one of the standard library says more."""
    text = utf8(line)
    if isinstance(error, RecursionError):
        raise RowError("the JSON is nested too deep")
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as better:
        raise RowError(better.msg, column=better.colno) from None
    except UnicodeEncodeError as better:
        half = f"\\u{ord(better.object[better.start]):04x}"
        raise RowError(f"half a surrogate pair ({half}) is no text") from None
    except (ValueError, RecursionError) as better:
        raise RowError(str(better)) from None
    raise RowError(f"the JSON cannot be used: {error}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
