"""A dataset as Parquet: an explicit schema, row groups written as they fill.

Texts are strings, counts int64, durations float64. A caller's column is bool, int64, double, string or a list
of one of these; where its values are mixed or nested it holds each value as JSON text. The file's metadata
key `streamgauge` names those columns (`json_columns`) and the answer columns that were renamed (`renamed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from reports.dataset import NESTED, REAL, WHOLE, AnswerRecord, Layout, column_type

# A row group is held in memory until it is written, as Arrow's columns; only a batch of it as Python values.
_GROUP_BYTES = 4 << 20
_BATCH_BYTES = 1 << 20
_BATCH_ROWS = 1000

_TYPES = {
    "str": pa.string(),
    "json": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
}


def _arrow(name: str) -> Any:
    return pa.list_(_TYPES[name[2:]]) if name.startswith("[]") else _TYPES[name]


def _as_text(value: bytes) -> str | None:
    return None if value == b"null" else value.decode()


def _as_value(value: bytes) -> Any:
    return msgspec.json.decode(value)


def _answer_type(name: str) -> Any:
    return pa.int64() if name in WHOLE else pa.float64() if name in REAL else pa.string()


def schema(layout: Layout) -> tuple[Any, dict[str, Callable[[bytes], Any]]]:
    """The Arrow schema, and how each of the caller's columns is read from its JSON."""
    types = {name: column_type(kinds) for name, kinds in layout.caller.items()}
    fields = [pa.field(name, _arrow(kind)) for name, kind in types.items()]
    fields += [pa.field(out, _answer_type(name)) for name, out in layout.answer.items()]
    texts = [name for name, kind in types.items() if kind == "json"]
    texts += [out for name, out in layout.answer.items() if name in NESTED]
    about = msgspec.json.encode({"json_columns": texts, "renamed": layout.renamed()})
    readers: dict[str, Callable[[bytes], Any]] = {
        name: _as_text if kind == "json" else _as_value for name, kind in types.items()
    }
    return pa.schema(fields, metadata={b"streamgauge": about}), readers


class _Group:
    """Rows on their way into a row group: a few as Python values, the rest already in Arrow's columns."""

    def __init__(self, writer: Any, arrow: Any) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in arrow.names}
        self._writer = writer
        self._arrow = arrow
        self._batches: list[Any] = []
        self._rows = 0
        self._bytes = 0

    def end_row(self, size: int) -> None:
        """A row of about `size` bytes is complete."""
        self._rows += 1
        self._bytes += size
        if self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self._pack()

    def _pack(self) -> None:
        arrays = [pa.array(self.columns[field.name], type=field.type) for field in self._arrow]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._arrow))
        for values in self.columns.values():
            values.clear()
        self._rows = self._bytes = 0
        if sum(batch.nbytes for batch in self._batches) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._batches, schema=self._arrow))
        self._batches.clear()
        # Arrow's allocator keeps what was freed: 20 MB more at the peak of a large export.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Write what is left."""
        if self._rows:
            self._pack()
        if self._batches:
            self._flush()


def write(
    out: BinaryIO, layout: Layout, records: Iterable[AnswerRecord], counted: Callable[[], None]
) -> None:
    """Write the records; `counted` is called once a row."""
    arrow, readers = schema(layout)
    nested = {out_name for name, out_name in layout.answer.items() if name in NESTED}
    with pq.ParquetWriter(out, arrow) as writer:
        group = _Group(writer, arrow)
        for record in records:
            theirs, ours = layout.row(record)
            size = len(record.text) + len(record.reasoning or "")
            for name, read in readers.items():
                value = bytes(theirs.get(name, b"null"))
                group.columns[name].append(read(value))
                size += len(value)
            for name, value in ours.items():
                as_json = name in nested and value is not None
                group.columns[name].append(msgspec.json.encode(value).decode() if as_json else value)
            group.end_row(size)
            counted()
        group.close()
