"""What the charts of a run are drawn from: numpy arrays, a place a record, filled in the summary's own pass.

About 170 bytes a record. Sessions are put one after the other on one time axis, without the gaps between
them; a bench is drawn from the session it is reported of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import Struct

from reports.distribution import Values
from reports.frame import ChunkTimes, Floats, chunk_times, frame
from reports.gauge import session_of
from reports.metrics import summarize
from reports.rows import Row, accepted
from reports.summary import Summary
from runner.store import Index, Manifest, Session

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

OK, ERROR, CANCELLED = 0, 1, 2
_STATUS = {"ok": OK, "error": ERROR, "cancelled": CANCELLED}
MOST_REASONS = 1000  # the list is closed, but a journal can be written by anybody
INSTANTS = ("scheduled", "sent", "first_token", "last_token", "ended")
DURATIONS = ("ttft", "ttft_sched", "e2e", "e2e_sched", "delay", "connect", "held")


class SessionSpan(Struct):
    """A session on the common time axis, in s."""

    number: int
    started: str | None
    begin_s: float
    end_s: float


class Columns(Struct):
    """Parallel arrays, in journal order. NaN is "did not happen" or "not known"."""

    index: Index
    manifest: Manifest
    sessions: list[SessionSpan]
    at_s: dict[str, Floats]  # by instant, on the common time axis
    ms: dict[str, Floats]  # by metric
    prompt_tokens: Floats  # the server's count, else what the bench asked for
    completion_tokens: Floats
    status: npt.NDArray[np.int8]
    measured: Bools  # of the phase `measure`
    timed: Bools  # measured, ok and streamed: what latencies are of
    unserved: Bools  # measured, and +infinity in a second reading
    unanswered: Bools  # measured, and neither ok nor cut on purpose: whoever ended it
    retried: Bools
    reason: npt.NDArray[np.int16]  # why there is no answer: a place in `reasons`; -1 where there is one
    reasons: list[str]
    digest: npt.NDArray[np.uint64]  # of the id, as in the index
    input: npt.NDArray[np.int64]  # place in the prompt file or schedule
    itl: Values  # pooled gaps of timed requests, in ms

    def __len__(self) -> int:
        """How many records."""
        return len(self.status)


def observe(run: str | Path) -> tuple[Summary, Columns]:
    """A run's numbers and what its charts are drawn from, in one pass.

    Raises:
        StoreError: it is no run directory, or cannot be read.
    """
    gatherer = Gatherer()
    return summarize(run, watch=gatherer), gatherer.columns()


class Gatherer:
    """Gathers the columns while a run is summed up (`reports.metrics.Watch`)."""

    def __init__(self) -> None:
        self._index: Index | None = None
        self._manifest: Manifest | None = None
        self._only: int | None = None
        self._parts: list[dict[str, Array]] = []
        self._itl = Values()
        self._reasons: dict[str, int] = {}

    def begin(self, index: Index, manifest: Manifest) -> None:
        """The pass begins."""
        self._index, self._manifest = index, manifest
        told = session_of(manifest) if manifest.kind == "bench" else None
        self._only = None if told is None else told.number

    def add(self, rows: Sequence[Row], block: pd.DataFrame, chunks: ChunkTimes) -> None:
        """Take rows, and the frame and the chunks of those that are measured."""
        self._take([row for row in rows if row.phase == "measure"], block, chunks, measured=True)
        warmup = [row for row in rows if row.phase != "measure"]
        if warmup:
            chunks = chunk_times(warmup)
            self._take(warmup, frame(warmup, chunks), chunks, measured=False)

    def _take(self, rows: list[Row], block: pd.DataFrame, chunks: ChunkTimes, *, measured: bool) -> None:
        if not rows:
            return
        part = _arrays(rows, block, measured, self._reasons)
        here = np.ones(len(rows), dtype=bool) if self._only is None else part["session"] == self._only
        self._itl.add(chunks.of(part["timed"] & here).gaps_us() / 1e3)
        self._parts.append(part if here.all() else {name: values[here] for name, values in part.items()})

    def columns(self) -> Columns:
        """What was gathered."""
        assert self._index is not None
        assert self._manifest is not None
        parts = self._parts or [_arrays([], frame([]), True, {})]
        joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
        self._parts = []
        spans, offset_s = _sessions(joined, self._manifest)
        return Columns(
            index=self._index,
            manifest=self._manifest,
            sessions=spans,
            at_s={name: joined.pop(f"{name}_at_ns") / 1e9 + offset_s for name in INSTANTS},
            ms={name: joined.pop(f"{name}_ms") for name in DURATIONS},
            itl=self._itl,
            reasons=list(self._reasons),
            **{name: values for name, values in joined.items() if name != "session"},
        )


def _arrays(
    rows: list[Row], block: pd.DataFrame, measured: bool, reasons: dict[str, int]
) -> dict[str, Array]:
    def floats(name: str) -> Floats:
        return block[name].to_numpy(dtype=np.float64, na_value=np.nan)

    def each(values: Any, dtype: Any) -> Array:
        return np.fromiter(values, dtype=dtype, count=len(rows))

    status = each((_STATUS[row.status] for row in rows), np.int8)
    prompt = floats("prompt_tokens")
    return {
        **{f"{name}_at_ns": floats(f"{name}_at_ns") for name in INSTANTS},
        **{f"{name}_ms": floats(f"{name}_ms") for name in DURATIONS},
        "prompt_tokens": np.where(np.isnan(prompt), floats("asked_input_tokens"), prompt),
        "completion_tokens": floats("completion_tokens"),
        "session": block["session"].to_numpy(dtype=np.int64),
        "input": block["index"].to_numpy(dtype=np.int64),
        "status": status,
        "measured": np.full(len(rows), measured),
        "timed": measured & (status == OK) & block["streamed"].to_numpy(dtype=bool),
        "unserved": each((measured and _is_unserved(row) for row in rows), bool),
        "unanswered": each((measured and not accepted(row.status, row.cancelled_by) for row in rows), bool),
        "retried": each((bool(row.attempts) for row in rows), bool),
        "reason": each((_reason(row, reasons) for row in rows), np.int16),
        "digest": each((int(row.id[:16], 16) for row in rows), np.uint64),
    }


def _reason(row: Row, reasons: dict[str, int]) -> int:
    if row.status == "ok":
        return -1
    why = row.error.kind if row.error is not None else row.cancelled_by or row.status
    return reasons.setdefault(why, len(reasons)) if len(reasons) < MOST_REASONS or why in reasons else -1


def _is_unserved(row: Row) -> bool:
    """As `reports/metrics.py` counts failures: also the run's own deadline, and users who left unserved."""
    left = row.cancelled_by == "abandon" and row.first_token_at is None
    return row.status == "error" or row.cancelled_by == "deadline" or left


def _sessions(joined: dict[str, Array], manifest: Manifest) -> tuple[list[SessionSpan], Floats]:
    """The sessions with records on the common axis, and by record, where its own begins (s)."""
    session, ended = joined["session"], joined["ended_at_ns"]
    known = {one.number: one for one in manifest.sessions}
    spans, begin_s = [], 0.0
    offset_s = np.zeros(len(session))
    for number in np.unique(session).tolist():
        here = session == number
        end_s = begin_s + _length_s(known.get(number), ended[here])
        spans.append(SessionSpan(number, known[number].started if number in known else None, begin_s, end_s))
        offset_s[here] = begin_s
        begin_s = end_s
    return spans, offset_s


def _length_s(session: Session | None, ended_ns: Floats) -> float:
    last = float(np.nanmax(ended_ns)) if (~np.isnan(ended_ns)).any() else 0.0
    told = session.ended_at if session is not None else None
    return max(last, float(told or 0)) / 1e9
