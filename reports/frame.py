"""Blocks of records -> DataFrames of scalar columns, a row a record, units in the names.

Durations are defined in METRICS (docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import UNSET, Struct, UnsetType

from reports.rows import Row, decoded, open_index
from runner.record import Tokens, tokens
from runner.store import resolve_run

Floats = npt.NDArray[np.float64]
_OPTIONAL = ("conversation", "turn", "asked_input_tokens", "asked_output_tokens")


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return list(map(attrgetter(name), rows))


class _Integers(Struct):
    """A nullable column: nanoseconds as floats would lose digits after 104 days."""

    values: npt.NDArray[np.int64]
    missing: npt.NDArray[np.bool_]

    def array(self) -> pd.arrays.IntegerArray:
        return pd.arrays.IntegerArray(self.values, self.missing)

    def ms(self) -> Floats:
        return np.where(self.missing, np.nan, self.values / 1e6)

    def ms_since(self, earlier: _Integers) -> Floats:
        gap = (self.values - earlier.values) / 1e6
        return np.where(self.missing | earlier.missing, np.nan, gap)


def _kept(values: list[Any]) -> pd.arrays.IntegerArray:
    """A column of numbers that a record may leave out."""
    if values.count(UNSET) == len(values):  # so it is in every run
        return pd.arrays.IntegerArray(np.zeros(len(values), dtype=np.int64), np.ones(len(values), dtype=bool))
    return _integers([None if isinstance(value, UnsetType) else value for value in values]).array()


def _integers(values: list[Any]) -> _Integers:
    if None not in values:  # nearly always, and three times as fast
        return _Integers(np.array(values, dtype=np.int64), np.zeros(len(values), dtype=bool))
    return _Integers(
        np.fromiter((value or 0 for value in values), dtype=np.int64, count=len(values)),
        np.fromiter((value is None for value in values), dtype=bool, count=len(values)),
    )


def _streamed_tokens(row: Row, count: Tokens) -> float:
    """Completion tokens the stream showed; NaN where they are not known, or belong to several choices.

    Reasoning tokens are left out where no reasoning text was streamed.
    """
    if row.usage_source == "none" or count.completion is None:
        return np.nan
    if not isinstance(row.choices, UnsetType) and len(row.choices) > 1:
        return np.nan
    shown = count.completion - (0 if row.reasoning else count.reasoning or 0)
    return shown if shown >= 0 else np.nan


class ChunkTimes(Struct):
    """When the token-bearing chunks of a block came: one array, for a list a row is slow to go through."""

    lengths: npt.NDArray[np.int64]  # by row; -1 where their times were not kept
    us: npt.NDArray[np.int64]  # microseconds since each row's first token, row after row

    def of(self, chosen: npt.NDArray[np.bool_]) -> ChunkTimes:
        """Those of some rows."""
        if chosen.all():
            return self
        return ChunkTimes(self.lengths[chosen], self.us[np.repeat(chosen, np.maximum(self.lengths, 0))])

    def gaps_us(self) -> npt.NDArray[np.int64]:
        """Gaps between successive chunks of a row, pooled over the rows."""
        if not len(self.us):
            return self.us
        # From one row's last chunk to the next row's first: no gap.
        starts = np.cumsum(self.lengths[self.lengths > 0])[:-1]
        return np.delete(np.diff(self.us), starts - 1)

    def stall_ms(self) -> Floats:
        """The longest gap of each row; NaN where it has none."""
        out = np.full(len(self.lengths), np.nan)
        has = self.lengths >= 2
        if has.any():
            counts = self.lengths[has] - 1
            out[has] = np.maximum.reduceat(self.gaps_us(), np.cumsum(counts) - counts) / 1e3
        return out


def chunk_times(rows: Sequence[Row]) -> ChunkTimes:
    """The chunks of these rows."""
    kept = [None if isinstance(row.chunk_us, UnsetType) else row.chunk_us for row in rows]
    lengths = np.array([-1 if us is None else len(us) for us in kept], dtype=np.int64)
    flat = chain.from_iterable(us for us in kept if us is not None)
    count = int(np.maximum(lengths, 0).sum())
    return ChunkTimes(lengths, np.fromiter(flat, dtype=np.int64, count=count))


def gaps_us(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Gaps between successive token-bearing chunks, pooled over the rows, in microseconds."""
    return chunk_times(rows).gaps_us()


def _first_sent(rows: Sequence[Row]) -> _Integers:
    # `delay` is what the client did to the request; a retry's wait is not: so the first attempt's `sent_at`.
    return _integers([row.attempts[0].sent_at if row.attempts else row.sent_at for row in rows])


def _durations(rows: Sequence[Row], counts: list[Tokens], chunks: ChunkTimes) -> dict[str, Any]:
    at = {
        name: _integers(_column(rows, f"{name}_at"))
        for name in ("scheduled", "sent", "headers", "first_token", "first_content", "last_token", "ended")
    }
    shown = np.fromiter(map(_streamed_tokens, rows, counts), dtype=np.float64, count=len(rows))
    span = at["last_token"].ms_since(at["first_token"])
    connect = _integers([row.connection.connect_ns if not row.connection.reused else None for row in rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Several tokens that came at one instant tell nothing of the time one takes.
        tpot = np.where((shown >= 2) & (span > 0), span / (shown - 1), np.nan)
        rate = np.where((span > 0) & (shown > 0), shown / span * 1e3, np.nan)
    return {
        "ttft_ms": at["first_token"].ms_since(at["sent"]),
        "ttft_sched_ms": at["first_token"].ms_since(at["scheduled"]),
        "ttfc_ms": at["first_content"].ms_since(at["sent"]),
        "ttfb_ms": at["headers"].ms_since(at["sent"]),
        "tpot_ms": tpot,
        "e2e_ms": at["ended"].ms_since(at["sent"]),
        "e2e_sched_ms": at["ended"].ms_since(at["scheduled"]),
        "delay_ms": _first_sent(rows).ms_since(at["scheduled"]),
        "connect_ms": connect.ms(),
        "stall_ms": chunks.stall_ms(),
        "output_rate_tokens_per_s": rate,
        # Absent means that it did not wait for a place: 0 is known.
        "held_ms": np.array(
            [0.0 if isinstance(row.held_ns, UnsetType) else row.held_ns / 1e6 for row in rows],
            dtype=np.float64,
        ),
        "streamed_tokens": _integers([None if np.isnan(n) else int(n) for n in shown]).array(),
        "chunks": pd.arrays.IntegerArray(np.maximum(chunks.lengths, 0), chunks.lengths < 0),
        **{f"{name}_at_ns": values.array() for name, values in at.items()},
    }


def _texts(values: list[Any]) -> pd.api.extensions.ExtensionArray:
    return pd.array(values, dtype="str")  # no series: a frame would align its index, ten times a block


def frame(rows: Sequence[Row], chunks: ChunkTimes | None = None) -> pd.DataFrame:
    """A row a record.

    Durations are in ms, `NaN` where one did not happen; counts and instants are nullable integers.
    Durations are there for every record that has both instants, failed ones too: filter by `status`,
    `streamed` and `phase` as METRICS says before taking percentiles.

    Args:
        rows: the records.
        chunks: those of the rows, where they are known already.
    """
    counts = [tokens(row.usage) for row in rows]
    errors = [row.error for row in rows]
    return pd.DataFrame(
        {
            "id": _texts(_column(rows, "id")),
            "index": np.fromiter((row.index for row in rows), dtype=np.int64, count=len(rows)),
            "sample": np.fromiter((row.sample for row in rows), dtype=np.int64, count=len(rows)),
            "custom_id": _texts(_column(rows, "custom_id")),
            "session": np.fromiter((row.session for row in rows), dtype=np.int64, count=len(rows)),
            "phase": _texts(_column(rows, "phase")),
            "status": _texts(_column(rows, "status")),
            "cancelled_by": _texts(_column(rows, "cancelled_by")),
            "error_kind": _texts([error and error.kind for error in errors]),
            "http_status": _integers([error.http_status if error else None for error in errors]).array(),
            "streamed": np.fromiter((row.streamed for row in rows), dtype=bool, count=len(rows)),
            "finish_reason": _texts(_column(rows, "finish_reason")),
            "attempts": np.fromiter((1 + len(row.attempts) for row in rows), np.int64, count=len(rows)),
            "usage_source": _texts(_column(rows, "usage_source")),
            "prompt_tokens": _integers([count.prompt for count in counts]).array(),
            "completion_tokens": _integers([count.completion for count in counts]).array(),
            "reasoning_tokens": _integers([count.reasoning for count in counts]).array(),
            "cached_tokens": _integers([count.cached for count in counts]).array(),
            "cost": np.array(_column(rows, "cost"), dtype=np.float64),  # `None` becomes NaN
            "cost_source": _texts(_column(rows, "cost_source")),
            "base_url": _texts([row.connection.base_url for row in rows]),
            **{name: _kept(_column(rows, name)) for name in _OPTIONAL},
            **_durations(rows, counts, chunk_times(rows) if chunks is None else chunks),
        }
    )


def load(run: str | Path) -> pd.DataFrame:
    """Every request of a run, a row each, in input order: what `frame` says, for your own analysis.

    Holds all rows in memory, about 500 bytes each. Texts and your own columns come with `streamgauge export`.

    Raises:
        StoreError: there is no such run directory.
    """
    path = resolve_run(str(run))
    parts = [frame(rows) for rows in decoded(open_index(path), Row, order="input")]
    return pd.concat(parts, ignore_index=True) if parts else frame([])
