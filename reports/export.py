"""A journal -> a dataset: JSONL, CSV, Parquet, or OpenAI Batch output with its error file.

Columns are those of `reports/dataset.py`. Records are read in blocks, so memory does not grow with them. A
file is written beside its place, fsynced and renamed: a failing export leaves what was there before.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw, Struct, field

from reports import batch
from reports.dataset import AnswerRecord, Layout, layout, outcome
from reports.files import refuse_own, replacing
from reports.notes import shard_notes
from reports.rows import decoded, only, open_index
from runner.store import Index, StoreError, current_ids, inside, load_manifest, standing

Format = Literal["jsonl", "csv", "parquet", "openai-batch"]
Status = Literal["ok", "error", "cancelled", "all"]
Order = Literal["input", "completion"]

FORMATS: tuple[Format, ...] = get_args(Format)
_EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DEFAULT_NAMES: dict[Format, str] = {
    "jsonl": "dataset.jsonl",
    "csv": "dataset.csv",
    "parquet": "dataset.parquet",
    "openai-batch": "batch_output.jsonl",
}
# Line ends to readers that split text by Unicode's rules. JSON allows them raw; escaped they harm nobody.
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))

Write = Callable[[BinaryIO, Layout, Iterable[AnswerRecord], Callable[[], None]], None]


class ExportResult(Struct, kw_only=True):
    """What an export did."""

    path: Path | None  # `None`: written to the stream given
    to: Format
    rows: int = 0
    errors_path: Path | None = None  # of openai-batch
    error_rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # by status, not asked for
    left_out: int = 0  # records of rows that are no longer in the prompt file
    bad: int = 0  # lines that could not be read
    renamed: dict[str, str] = field(default_factory=dict)  # answer column -> its name in this dataset
    notes: list[str] = field(default_factory=list)  # what is not there yet


def format_of(path: Path | None) -> Format:
    """The format a file's name asks for; JSONL where there is no file.

    Raises:
        StoreError: the name does not say.
    """
    if path is None:
        return "jsonl"
    try:
        return _EXTENSIONS[path.suffix.lower()]
    except KeyError:
        raise StoreError(f"{path} does not say which format: add --to {'|'.join(FORMATS)}.") from None


def require(to: str) -> Format:
    """The format of that name, if what it needs is installed.

    Raises:
        StoreError: it is not, or there is no such format.
    """
    if to not in FORMATS:
        raise StoreError(f"there is no format {to!r}. There are {', '.join(FORMATS)}.")
    if to == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError:
            raise StoreError("Parquet needs pyarrow: pip install pyarrow") from None
    return to


def _json_line(value: Any) -> bytes:
    line = msgspec.json.encode(value)
    for raw, escaped in _SEPARATORS:
        if raw in line:
            line = line.replace(raw, escaped)
    return line + b"\n"


def _write_jsonl(
    out: BinaryIO, columns: Layout, records: Iterable[AnswerRecord], counted: Callable[[], None]
) -> None:
    for record in records:
        theirs, ours = columns.row(record)
        out.write(_json_line(theirs | ours))
        counted()


def _cell(value: Any) -> Any:
    """Texts as they are, numbers as the caller wrote them, nested values as JSON, nothing for null."""
    if isinstance(value, Raw):
        data = bytes(value)
        if data == b"null":
            return None
        return msgspec.json.decode(data, type=str) if data[:1] == b'"' else data.decode()
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


class _Lines:
    """Takes a CSV writer's rows, ends them with a plain line feed.

    The writer quotes only its own line end (before Python 3.13): told of a bare one, it would leave a
    carriage return inside a text unquoted, and readers would break the row there.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, row: str) -> None:
        self._out.write((row.removesuffix("\r\n") + "\n").encode())


def _write_csv(
    out: BinaryIO, columns: Layout, records: Iterable[AnswerRecord], counted: Callable[[], None]
) -> None:
    writer = csv.writer(_Lines(out), lineterminator="\r\n")
    writer.writerow([*columns.caller, *columns.answer.values()])
    for record in records:
        theirs, ours = columns.row(record)
        writer.writerow(
            [*(_cell(theirs.get(name)) for name in columns.caller), *(_cell(v) for v in ours.values())]
        )
        counted()


def _write_parquet(
    out: BinaryIO, columns: Layout, records: Iterable[AnswerRecord], counted: Callable[[], None]
) -> None:
    from reports import parquet

    parquet.write(out, columns, records, counted)


_WRITERS: dict[str, Write] = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}


def errors_path(out: Path) -> Path:
    """Where the failures of an OpenAI Batch export go: `<stem>_errors.jsonl` beside it."""
    return out.with_name(f"{out.stem}_errors.jsonl")


class _Selection(Struct):
    """The records one export is of."""

    index: Index
    order: Order
    status: Status
    result: ExportResult

    def records(self, *, count: bool = True) -> Iterator[AnswerRecord]:
        """Those asked for; with `count`, the others are counted into the result."""
        bad: list[str] = []
        order: Literal["input", "journal"] = "input" if self.order == "input" else "journal"
        for block in decoded(self.index, AnswerRecord, order=order, bad=bad):
            for record in block:
                ended = outcome(record)
                if self.status in {"all", ended}:
                    yield record
                elif count:
                    self.result.skipped[ended] = self.result.skipped.get(ended, 0) + 1
        if count:
            self.result.bad += len(bad)

    def counted(self) -> None:
        """One more row is written."""
        self.result.rows += 1


def _dataset(selection: _Selection, to: Format, out: BinaryIO) -> None:
    columns = layout(selection.records(count=False), kinds=to == "parquet")
    selection.result.renamed = columns.renamed()
    _WRITERS[to](out, columns, selection.records(), selection.counted)


def _batch(selection: _Selection, api: str | None, out: BinaryIO, errors: BinaryIO | None) -> None:
    result = selection.result
    for record in selection.records():
        ended = outcome(record)
        if ended == "ok":
            out.write(_json_line(batch.line(record, api)))
            result.rows += 1
        elif errors is not None:
            errors.write(_json_line(batch.line(record, api)))
            result.error_rows += 1
        else:
            result.skipped[ended] = result.skipped.get(ended, 0) + 1


def _api(run: Path) -> str | None:
    target = load_manifest(run).scenario.get("target")
    api = target.get("api") if isinstance(target, dict) else None
    return api if isinstance(api, str) else None


def _write(selection: _Selection, run: Path, to: Format, out: Path | BinaryIO) -> None:
    if not isinstance(out, Path):
        if to == "openai-batch":
            _batch(selection, _api(run), out, None)
        else:
            _dataset(selection, to, out)
        return
    if to != "openai-batch":
        with replacing(out) as stream:
            _dataset(selection, to, stream)
        return
    with replacing(out) as stream:
        if selection.status == "ok":
            _batch(selection, _api(run), stream, None)
            return
        # Written even when it stays empty: an older export's failures must not stand beside new answers.
        selection.result.errors_path = errors_path(out)
        with replacing(errors_path(out)) as failures:
            _batch(selection, _api(run), stream, failures)


def export_dataset(
    run: Path,
    out: Path | BinaryIO | None = None,
    to: str | None = None,
    *,
    order: Order = "input",
    status: Status | None = None,
    keep: npt.NDArray[np.uint64] | None = None,
    every: bool = False,
) -> ExportResult:
    """Write a run's answers as a dataset.

    Args:
        run: the run directory.
        out: the file, or a binary stream (a batch export's failures are then left out and counted); default:
            `dataset.<format>`, or `batch_output.jsonl`, in the run directory.
        to: the format; default: what the file's name says, else JSONL.
        order: `input` (row, then sample) or `completion`.
        status: which records; default: `ok`, and for openai-batch `all` (its error file has the rest). An
            answer cut on purpose is one of `ok`, whatever its own status.
        keep: sorted digests of the ids to export (`int(id[:16], 16)`); default: the prompt file's as last
            read, where the run says.
        every: also records of rows that are no longer in the prompt file; `keep` is then not asked.

    Raises:
        StoreError: the run cannot be read, the file not written, or the format not.
    """
    manifest = load_manifest(run)
    if manifest.slim:
        raise StoreError(f"{run} is a slim copy, without texts. Export from the run it was made of.")
    form = require(to or format_of(out if isinstance(out, Path) else None))
    place = run / _DEFAULT_NAMES[form] if out is None else out
    if isinstance(place, Path):
        refuse_own(place)
        if form == "openai-batch":
            refuse_own(errors_path(place))
    index = open_index(run)
    result = ExportResult(path=place if isinstance(place, Path) else None, to=form, bad=index.bad_count)
    result.notes = shard_notes(standing(manifest))
    wanted = None if every else current_ids(run) if keep is None else keep
    if wanted is not None:
        wanted_here = inside(index.digest, wanted)
        result.left_out = len(index) - int(wanted_here.sum())
        index = only(index, wanted_here)
    chosen: Status = status or ("all" if form == "openai-batch" else "ok")
    try:
        _write(_Selection(index, order, chosen, result), run, form, place)
    except BrokenPipeError:
        raise
    except OSError as exc:
        if not isinstance(place, Path):
            raise StoreError(f"cannot write standard output: {exc.strerror or exc}") from exc
        raise StoreError(f"cannot write {place}: {exc.strerror or exc}. Nothing was replaced.") from exc
    return result
