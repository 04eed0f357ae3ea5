"""Where prompts come from: a file, its format, its bytes.

    source = open_source("prompts.jsonl")            # or open_source(path, format="csv")
    for block in blocks(source): ...                 # the only thing here that waits for a disk

Standard input is no source: spool it into a file first and name its format, or
ask `sniff(first_bytes)`, because every prompt file is read twice.
"""

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, get_args

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["jsonl", "openai-batch", "csv", "tsv", "parquet", "txt"]
Block: TypeAlias = Any
"""A piece of a file: `bytes`, or a `pyarrow.RecordBatch` of a Parquet file."""

FORMATS: tuple[Format, ...] = get_args(Format)
BLOCK_BYTES = 64 * 1024
"""Small enough that splitting a block into lines is no pause on an event loop."""
BATCH_ROWS = 512
UNIT: dict[Format, Literal["line", "row"]] = {
    "jsonl": "line",
    "openai-batch": "line",
    "csv": "line",
    "tsv": "line",
    "txt": "line",
    "parquet": "row",
}
"""What a place in a file of this format is counted in."""

_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "txt",
}


class PromptError(Exception):
    """Prompts cannot be read or built at all. Its text says what, where, why and what to do."""

    def __init__(
        self,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.reason = reason
        self.hint = hint
        place = ", ".join(part for part in (file, f"line {line}" if line else None) if part)
        super().__init__((f"{place}: " if place else "") + reason + (f"; {hint}" if hint else ""))


class Source(msgspec.Struct, frozen=True):
    """A prompt file and how to read it."""

    path: str
    format: Format

    @property
    def unit(self) -> Literal["line", "row"]:
        """What a place in this file is called in a message."""
        return UNIT[self.format]


class Stamp(msgspec.Struct, frozen=True):
    """What a file looked like when it was opened; a rewritten file differs in at least one of these."""

    size: int
    mtime_ns: int
    inode: int


def open_source(path: str | os.PathLike[str], format: str | None = None) -> Source:  # noqa: A002
    """Return the source at `path`; the format comes from the file's name unless it is given."""
    name = os.fspath(path)
    _check_kind(name)
    chosen = _known(format, name) if format is not None else _from_suffix(name)
    try:
        with Path(name).open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise _unreadable(name, error) from error
    if not head:
        raise PromptError("the file is empty", file=name, hint="it needs at least one prompt")
    if format is None and name.lower().endswith(".json") and head.lstrip()[:1] == b"[":
        hint = "write one object a line (jq -c '.[]' FILE > FILE.jsonl)"
        if b'"conversations"' in head:
            hint = 'conversations as ShareGPT has them are for `bench`, with prompts.format = "sharegpt"'
        raise PromptError("is one JSON list, which cannot be read row by row", file=name, hint=hint)
    return Source(path=name, format=chosen)


def sniff(first_bytes: bytes) -> Format:
    """Guess the format of standard input: JSON lines where it begins with an object, else plain text."""
    text = first_bytes.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "jsonl" if text[:1] == b"{" else "txt"


def blocks(source: Source, unchanged_since: Stamp | None = None) -> Iterator[Block]:
    """Yield the file piece by piece. Every `next` may wait for the disk: call it in a thread.

    With a stamp, a file that differs from it raises PromptError before its rows can be used.
    """
    try:
        with Path(source.path).open("rb") as file:
            pieces = _batches(source, file) if source.format == "parquet" else _byte_blocks(file)
            _same(source, file, unchanged_since)
            for piece in pieces:
                _same(source, file, unchanged_since)
                yield piece
            _same(source, file, unchanged_since)
    except OSError as error:
        raise _unreadable(source.path, error) from error


def stamp(source: Source) -> Stamp:
    """Return what the file looks like now."""
    try:
        return _stamp(Path(source.path).stat())
    except OSError as error:
        raise _unreadable(source.path, error) from error


def file_sha256(source: Source) -> str:
    """Return the digest of the file's bytes."""
    digest = sha256()
    with Path(source.path).open("rb") as file:
        for piece in _byte_blocks(file):
            digest.update(piece)
    return digest.hexdigest()


def _check_kind(name: str) -> None:
    try:
        mode = Path(name).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise PromptError("no such file", file=name, hint="check the path of the prompt file") from None
    except OSError as error:
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(mode):
        raise PromptError("is a folder, not a prompt file", file=name, hint="name one file in it")
    if not stat.S_ISREG(mode):
        raise PromptError(
            "is a pipe or a device, and prompts are read twice",
            file=name,
            hint="send it to standard input (-)",
        )


def _known(format: str, name: str) -> Format:  # noqa: A002
    for known in FORMATS:
        if format == known:
            return known
    raise PromptError(f"unknown format {format!r}", file=name, hint="one of " + ", ".join(FORMATS))


def _from_suffix(name: str) -> Format:
    suffix = Path(name).suffix.lower()
    if suffix == ".json":
        return "jsonl"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    ending = f"the ending {suffix!r}" if suffix else "a name without an ending"
    raise PromptError(
        f"{ending} does not say what is in the file", file=name, hint="name the format: " + ", ".join(FORMATS)
    )


def _unreadable(name: str, error: OSError) -> PromptError:
    return PromptError(f"cannot be read: {error.strerror or error}", file=name, hint="check the file")


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def _same(source: Source, file: BinaryIO, before: Stamp | None) -> None:
    if before is not None and _stamp(os.fstat(file.fileno())) != before:
        raise PromptError(
            "the file changed while it was in use",
            file=source.path,
            hint="start again: what is already answered is not sent twice",
        )


def _byte_blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _batches(source: Source, file: BinaryIO) -> "Iterator[pa.RecordBatch]":
    try:
        import pyarrow as pa  # an extra, and slow to import
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PromptError(
            "Parquet needs pyarrow, which is not installed",
            file=source.path,
            hint="pip install pyarrow",
        ) from error
    try:
        # Without pre-buffering and threads, memory holds one row group's pages and not the file.
        table = pq.ParquetFile(file, pre_buffer=False)
        for batch in table.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            yield _microseconds(batch)
    except pa.ArrowException as error:
        raise PromptError(f"is not a readable Parquet file: {error}", file=source.path) from error


def _microseconds(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Turn nanosecond times into microseconds: Python has no others, and pyarrow would import pandas."""
    import pyarrow as pa

    arrays = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            arrays.append(column.cast(pa.timestamp("us", tz=kind.tz), safe=False))
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            arrays.append(column.cast(pa.duration("us"), safe=False))
        else:
            arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
