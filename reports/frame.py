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


def chunk_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Token-bearing chunks of each row; -1 where their times were not kept."""
    return np.fromiter(
        (-1 if isinstance(row.chunk_us, UnsetType) else len(row.chunk_us) for row in rows),
        dtype=np.int64,
        count=len(rows),
    )


def gaps_us(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Gaps between successive token-bearing chunks, pooled over the rows, in microseconds."""
    return _gaps(rows, np.maximum(chunk_lengths(rows), 0))


def _gaps(rows: Sequence[Row], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    times = (row.chunk_us for row in rows if not isinstance(row.chunk_us, UnsetType))
    flat = np.fromiter(chain.from_iterable(times), dtype=np.int64, count=int(lengths.sum()))
    if not len(flat):
        return flat
    starts = np.cumsum(lengths[lengths > 0])[:-1]  # from one row's last chunk to the next row's first: no gap
    return np.delete(np.diff(flat), starts - 1)


def _stall_ms(rows: Sequence[Row], lengths: npt.NDArray[np.int64]) -> Floats:
    out = np.full(len(rows), np.nan)
    has = lengths >= 2
    if has.any():
        counts = lengths[has] - 1
        gaps = _gaps(rows, np.maximum(lengths, 0))
        out[has] = np.maximum.reduceat(gaps, np.cumsum(counts) - counts) / 1e3
    return out


def _first_sent(rows: Sequence[Row]) -> _Integers:
    # `delay` is what the client did to the request; a retry's wait is not: so the first attempt's `sent_at`.
    return _integers([row.attempts[0].sent_at if row.attempts else row.sent_at for row in rows])


def _durations(rows: Sequence[Row], counts: list[Tokens]) -> dict[str, Any]:
    at = {
        name: _integers(_column(rows, f"{name}_at"))
        for name in ("scheduled", "sent", "headers", "first_token", "first_content", "last_token", "ended")
    }
    lengths = chunk_lengths(rows)
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
        "stall_ms": _stall_ms(rows, lengths),
        "output_rate_tokens_per_s": rate,
        # Absent means that it did not wait for a place: 0 is known.
        "held_ms": np.array(
            [0.0 if isinstance(row.held_ns, UnsetType) else row.held_ns / 1e6 for row in rows],
            dtype=np.float64,
        ),
        "streamed_tokens": _integers([None if np.isnan(n) else int(n) for n in shown]).array(),
        "chunks": pd.arrays.IntegerArray(np.maximum(lengths, 0), lengths < 0),
        **{f"{name}_at_ns": values.array() for name, values in at.items()},
    }


def _texts(values: list[Any]) -> pd.Series[Any]:
    return pd.Series(values, dtype="str")


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A row a record.

    Durations are in ms, `NaN` where one did not happen; counts and instants are nullable integers.
    Durations are there for every record that has both instants, failed ones too: filter by `status`,
    `streamed` and `phase` as METRICS says before taking percentiles.
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
            **_durations(rows, counts),
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
