"""The fields of a record that reports count, decoded in blocks, and which ids a report is of.

Blocks are sized by bytes, so that memory depends neither on the number of records nor on the length of their
answers. Texts, the caller's rows and request bodies are not decoded here: `reports/export.py` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from runner.record import Phase, Status
from runner.store import Index, Session, StoreError, build_index, read_blocks, read_superseded

STOP_RULE = "stop_rule"  # `cancelled_by` of an answer cut on purpose, which counts as done
_BLOCK_BYTES = 8 << 20
_BLOCK_ROWS = 1000

# What a record can say. A number beyond it is damage, and its line a bad one: a report adds numbers up, and
# one absurd one would be in every sum.
_DAY_NS = 86_400 * 10**9
TEN_YEARS_NS = 10 * 366 * _DAY_NS
Instant: TypeAlias = Annotated[int, Meta(ge=0, lt=TEN_YEARS_NS)]  # since the session's anchor
_Count: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 40)]
_Whole: TypeAlias = Annotated[int, Meta(ge=-(1 << 62), lt=1 << 62)]
_Amount: TypeAlias = Annotated[float, Meta(ge=-1e18, le=1e18)]


class RowError(Struct, gc=False):
    """What a report needs of `runner.record.Error`."""

    kind: str
    message: str = ""
    http_status: _Whole | None = None
    retryable: bool = False
    timer: str | None = None


class RowAttempt(Struct):
    """What a report needs of `runner.record.Attempt`."""

    sent_at: Instant | None
    error: RowError
    usage_partial: dict[str, Any] | None = None
    wait_for: str = ""
    base_url: str | None = None
    cost: _Amount | None = None
    cost_bound: _Amount | UnsetType = UNSET


class RowConnection(Struct, frozen=True, gc=False):
    """What a report needs of `runner.record.Connection`."""

    reused: bool | None = None
    connect_ns: Instant | None = None
    base_url: str | None = None


class Row(Struct):
    """The fields of a record that reports count; everything else on the line is skipped."""

    id: str
    index: _Whole
    custom_id: str | None
    sample: _Whole
    session: _Whole
    phase: Phase
    scheduled_at: Instant | None
    sent_at: Instant | None
    headers_at: Instant | None
    first_token_at: Instant | None
    first_content_at: Instant | None
    last_token_at: Instant | None
    ended_at: Instant | None
    status: Status
    cancelled_by: str | None = None
    error: RowError | None = None
    streamed: bool = True
    finish_reason: str | None = None
    reasoning: str | None = None
    choices: list[Raw] | UnsetType = UNSET
    usage: dict[str, Any] | None = None
    usage_source: str = "none"
    usage_partial: dict[str, Any] | None = None
    cost: _Amount | None = None
    cost_source: str = "none"
    cost_bound: _Amount | UnsetType = UNSET
    attempts: list[RowAttempt] = []
    connection: RowConnection = RowConnection()
    held_ns: Instant | UnsetType = UNSET
    conversation: _Count | UnsetType = UNSET
    turn: _Count | UnsetType = UNSET
    asked_input_tokens: _Count | UnsetType = UNSET
    asked_output_tokens: _Count | UnsetType = UNSET
    chunk_us: list[Instant] | UnsetType = UNSET
    chunk_tokens: list[_Count] | UnsetType = UNSET


def accepted(status: str, cancelled_by: str | None) -> bool:
    """Whether a record is the answer its row asked for: good, or cut on purpose (`runner.store.OK`)."""
    return status == "ok" or cancelled_by == STOP_RULE


def is_believable(row: Row, ends: dict[int, int]) -> bool:
    """Whether a record's instants can be: none lies a day beyond the end of its session, where that is known.

    Args:
        row: the record.
        ends: by session, the latest instant.
    """
    latest = ends.get(row.session)
    return latest is None or all(
        at is None or at <= latest for at in (row.scheduled_at, row.sent_at, row.last_token_at, row.ended_at)
    )


def latest_instants(sessions: Iterable[Session]) -> dict[int, int]:
    """By session, the instant beyond which nothing of it can be."""
    return {s.number: s.ended_at + _DAY_NS for s in sessions if s.ended_at is not None}


def open_index(run: Path, stopped_on: dict[int, str] | None = None) -> Index:
    """`build_index`, with its errors told.

    Raises:
        StoreError: the journal cannot be read.
    """
    try:
        return build_index(run, stopped_on=stopped_on)
    except OSError as exc:
        raise StoreError(f"cannot read {exc.filename or run}: {exc.strerror}") from None


def block_rows(index: Index) -> int:
    """How many records to hold at once: about 8 MiB of journal, at most a thousand."""
    if not index.total_lines:
        return _BLOCK_ROWS
    size = sum(path.stat().st_size for path in index.files)
    return int(min(_BLOCK_ROWS, max(1, _BLOCK_BYTES * index.total_lines // max(1, size))))


T = TypeVar("T")


def decoded(
    index: Index,
    row_type: type[T],
    *,
    order: Literal["journal", "input"] = "journal",
    bad: list[str] | None = None,
) -> Iterator[list[T]]:
    """The winning records as `row_type`, in blocks.

    A line that is JSON but no record (a damaged field) is left out; its id, or "" where that cannot be read
    either, is appended to `bad`.
    """
    return _decoded(read_blocks(index, Raw, order=order, block=block_rows(index)), row_type, bad)


def decoded_superseded(index: Index, row_type: type[T], *, bad: list[str] | None = None) -> Iterator[list[T]]:
    """The records that lost to another line of their id, as `decoded` gives the winning ones."""
    return _decoded(read_superseded(index, Raw, block=block_rows(index)), row_type, bad)


def _decoded(blocks: Iterable[list[Raw]], row_type: type[T], bad: list[str] | None) -> Iterator[list[T]]:
    decode = msgspec.json.Decoder(row_type).decode
    for block in blocks:
        out: list[T] = []
        for line in block:
            try:
                out.append(decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                if bad is not None:
                    bad.append(_id_of(line))
        yield out


class _Id(Struct):
    id: str


def _id_of(line: Raw) -> str:
    try:
        return msgspec.json.decode(line, type=_Id).id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def only(index: Index, keep: npt.NDArray[np.bool_]) -> Index:
    """The index with some of its ids."""
    arrays = {k: v for k, v in msgspec.structs.asdict(index).items() if isinstance(v, np.ndarray)}
    return msgspec.structs.replace(index, **{name: values[keep] for name, values in arrays.items()})
