"""Traces of real traffic: when requests came and how long they were, without their text.

| format | a row |
| --- | --- |
| mooncake | JSONL: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` (of 512 tokens each) |
| azure | CSV: `TIMESTAMP` (date and time), `ContextTokens`, `GeneratedTokens` |
| burstgpt | CSV: `Timestamp` (s), `Request tokens`, `Response tokens`, and columns that are not read |

Rows come out in the order of their times, which count from the first of them. A length of 0 (BurstGPT's
failed requests) becomes 1: the request did come, and nothing shorter can be asked for.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

import msgspec

from scenarios.scenario import Load
from scenarios.source import PromptError

TraceFormat = Literal["mooncake", "azure", "burstgpt"]
TRACE_FORMATS: tuple[TraceFormat, ...] = get_args(TraceFormat)
BLOCK_TOKENS = 512
"""What one of Mooncake's hash ids stands for."""


class TraceRow(msgspec.Struct, frozen=True):
    """A request that came once. Its text is made up, unless `body` has it."""

    at_s: float
    """Since the first row."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    hash_ids: tuple[int, ...] | None = None
    """Equal ids at the front of two rows are an equal beginning."""
    body: dict[str, Any] | None = None
    """The body itself, where a run of our own is replayed."""
    prompt_id: str | None = None
    """Of the record of that body: a made-up prompt's, or a later turn's, does not follow from the body."""
    asked_input_tokens: int | None = None
    asked_output_tokens: int | None = None
    """What its record says was asked; the lengths above are then as good as those."""


class _Mooncake(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] | None = None


_COLUMNS: dict[TraceFormat, tuple[str, str, str]] = {
    "mooncake": ("timestamp", "input_length", "output_length"),
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
}
_KEYS = {name: ", ".join(columns) for name, columns in _COLUMNS.items()}


def rows_of(load: Load) -> list[TraceRow]:
    """Return the rows of `load.trace` that its schedule can need. A run directory is the runner's to read.

    Raises:
        PromptError: see `read_trace`.
    """
    if load.trace is None:
        raise PromptError("load.executor is trace, and load.trace names none", hint="name a file")
    long_s = None if load.duration_s is None else (load.duration_s + (load.warmup_s or 0.0)) * load.speed
    # Warm-up requests take as long as they took.
    return read_trace(load.trace, load.trace_format, None if load.warmup_requests else long_s)


def read_trace(path: str, format: str | None = None, within_s: float | None = None) -> list[TraceRow]:  # noqa: A002
    """Return the rows of a trace, those of its first `within_s` seconds where given.

    Raises:
        PromptError: the file cannot be read, its format is not known, or a row is wrong; with file and line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            if not head.strip():
                raise PromptError("the trace is empty", file=path, hint="it needs at least one row")
            found = format or _detect(path, head)
            file.seek(0)
            rows = _sorted(_rows(file, path, found), within_s)
    except UnicodeDecodeError as error:
        raise PromptError("the trace is not UTF-8", file=path, hint="save it as UTF-8") from error
    except OSError as error:
        raise PromptError(
            f"cannot be read: {error.strerror or error}", file=path, hint="check load.trace"
        ) from error
    if not rows:
        raise PromptError("the trace has no rows", file=path, hint="it needs at least one")
    return rows


def _detect(path: str, head: str) -> TraceFormat:
    """Return the format by the keys of the first line."""
    if head.lstrip()[:1] == "{":
        try:
            names = set(msgspec.json.decode(head, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise PromptError(f"not JSON: {error}", file=path, line=1, hint="mend the line") from None
    else:
        names = {name.strip() for name in next(csv.reader([head]), [])}
    for known, columns in _COLUMNS.items():
        if names >= set(columns):
            return known
    formats = "; ".join(f"{name} ({keys})" for name, keys in _KEYS.items())
    raise PromptError(
        f"no trace format has the columns {', '.join(sorted(names))[:200]}",
        file=path,
        line=1,
        hint=f"known are {formats}",
    )


def _rows(file: TextIO, path: str, format: str) -> Iterator[TraceRow]:  # noqa: A002
    if format == "mooncake":
        return _mooncake(file, path)
    if format == "azure":
        return _table(file, path, "azure", _date_s)
    if format == "burstgpt":
        return _table(file, path, "burstgpt", float)
    raise PromptError(
        f"unknown trace format {format!r}", file=path, hint="one of " + ", ".join(TRACE_FORMATS)
    )


def _mooncake(file: TextIO, path: str) -> Iterator[TraceRow]:
    decode = msgspec.json.Decoder(_Mooncake).decode
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            row = decode(text)
            yield _row(row.timestamp / 1000, row.input_length, row.output_length, row.hash_ids)
        except (msgspec.DecodeError, ValueError) as error:
            raise _bad(path, line, "mooncake", error) from None


def _table(file: TextIO, path: str, kind: TraceFormat, time_s: Callable[[str], float]) -> Iterator[TraceRow]:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader)]
    try:
        at, asked, answered = (header.index(name) for name in _COLUMNS[kind])
    except ValueError as error:
        raise _bad(path, 1, kind, error) from None
    try:
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, but the header has {len(header)}")
            yield _row(time_s(cells[at]), _count(cells[asked]), _count(cells[answered]))
    except (csv.Error, ValueError) as error:
        raise _bad(path, reader.line_num, kind, error) from None


def _row(at_s: float, asked: int, answered: int, hash_ids: tuple[int, ...] | None = None) -> TraceRow:
    if not math.isfinite(at_s):
        raise ValueError(f"the time {at_s} is none")
    if asked < 0 or answered < 0:
        raise ValueError(f"a length is below 0: {min(asked, answered)}")
    return TraceRow(at_s, max(1, asked), max(1, answered), hash_ids or None)


def _date_s(text: str) -> float:
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _count(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number of tokens")
    return int(number)


def _sorted(rows: Iterator[TraceRow], within_s: float | None) -> list[TraceRow]:
    """Return the rows by their time, the first at 0."""
    kept: list[TraceRow] = []
    for row in rows:
        # A week of traffic need not be kept for ten minutes of replay.
        if within_s is None or not kept or row.at_s - kept[0].at_s <= within_s:
            kept.append(row)
    kept.sort(key=lambda row: row.at_s)
    first = kept[0].at_s if kept else 0.0
    return [msgspec.structs.replace(row, at_s=row.at_s - first) for row in kept]


def _bad(path: str, line: int, format: TraceFormat, error: Exception) -> PromptError:  # noqa: A002
    return PromptError(
        f"not a row of the {format} format: {error}", file=path, line=line, hint=f"it needs {_KEYS[format]}"
    )
