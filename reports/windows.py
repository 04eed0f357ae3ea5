"""What a bench counts in its one pass: tokens by when they arrived, lateness, goodput, the load in flight.

The steady window is known before the pass (the session wrote it), so every sum is a sum over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import UnsetType

from reports.bench import Asked, Goodput, Load, Window
from reports.distribution import Values
from reports.frame import ChunkTimes, Floats
from reports.gauge import window
from reports.rows import Row
from runner.record import OWN_FAULT

Bools = npt.NDArray[np.bool_]

SPANS = 20  # of the window, in which the load in flight is averaged
BATCHES = 10  # of the window, for drift
LATE_MS = 5.0
LATE_GAP_SHARE = 0.01
_EARLY = 0.1  # of the window: how long its requests stay says how long the start lasts


def _ns(block: pd.DataFrame, name: str) -> Floats:
    """A column of instants; floats hold 104 days of nanoseconds exactly."""
    return block[f"{name}_at_ns"].to_numpy(dtype=np.float64, na_value=np.nan)


def _floats(block: pd.DataFrame, name: str) -> Floats:
    return block[name].to_numpy(dtype=np.float64, na_value=np.nan)


def arrived(block: pd.DataFrame, chunks: ChunkTimes, begin: float, end: float) -> Floats:
    """The share of each row's tokens that arrived from `begin` on and before `end`.

    By the chunks that bore them; where their times were not kept, as if they came evenly; of an answer that
    came whole, by its end.
    """
    first, last, ended = (_ns(block, name) for name in ("first_token", "last_token", "ended"))
    with np.errstate(divide="ignore", invalid="ignore"):
        even = (np.minimum(last, end) - np.maximum(first, begin)) / (last - first)
    share = np.where(
        last > first, np.clip(even, 0, 1), _inside(np.where(np.isnan(last), ended, last), begin, end)
    )
    known = (chunks.lengths > 0) & ~np.isnan(first)
    if known.any():
        told = chunks.of(known)
        at = np.repeat(first[known], told.lengths) + told.us * 1e3
        starts = np.cumsum(told.lengths) - told.lengths
        share[known] = np.add.reduceat(_inside(at, begin, end).astype(np.float64), starts) / told.lengths
    return share


def _inside(at: Floats, begin: float, end: float) -> Bools:
    return (at >= begin) & (at < end)


class Sums:
    """Tokens and answers of one span of time."""

    def __init__(self) -> None:
        self.answers = 0
        self.without_usage = 0
        self.told = 0
        self.output_tokens = 0.0
        self.input_tokens = 0.0
        self.input_told = 0
        self.without_input = 0

    def add(self, block: pd.DataFrame, ended: Bools, share: Floats, prompt: Bools) -> None:
        """Take answered requests: which ended inside, the share of their tokens, whose prompt counts."""
        output, given = _floats(block, "completion_tokens"), _floats(block, "prompt_tokens")
        here, told = share > 0, ~np.isnan(output)
        self.answers += int(ended.sum())
        self.told += int((here & told).sum())
        self.without_usage += int((here & ~told).sum())
        self.output_tokens += float((output * share)[here & told].sum())
        self.input_tokens += float(given[prompt & ~np.isnan(given)].sum())
        self.input_told += int((prompt & ~np.isnan(given)).sum())
        self.without_input += int((prompt & np.isnan(given)).sum())

    def window(self, begin: float | None, end: float | None) -> Window:
        """The sums and their rates."""
        seconds = (end - begin) / 1e9 if begin is not None and end is not None and end > begin else None
        output = self.output_tokens if self.told else None
        given = self.input_tokens if self.input_told else None
        return Window(
            begin_ns=None if begin is None else int(begin),
            end_ns=None if end is None else int(end),
            seconds=seconds,
            answers=self.answers,
            without_usage=self.without_usage,
            without_input=self.without_input,
            output_tokens=output,
            input_tokens=given,
            request_throughput=self.answers / seconds if seconds else None,
            output_throughput=output / seconds if seconds and output is not None else None,
            input_throughput=given / seconds if seconds and given is not None else None,
        )


class BenchTally:
    """What one pass over the records of a bench keeps; its size does not depend on their number."""

    def __init__(self, load: Load, slo_ms: dict[str, float]) -> None:
        self.load = load
        self.span = window(load)
        self.slo_ms = slo_ms
        self.late_over_ms = max(LATE_MS, LATE_GAP_SHARE * (load.mean_gap_ms or 0.0))
        self.steady, self.whole = Sums(), Sums()
        self.first_scheduled: float | None = None
        self.last_ended: float | None = None
        self.goodput = Goodput(slo_ms=slo_ms)
        self.input_tokens, self.output_tokens = Asked(), Asked()
        self.held = 0
        self.held_max_ms: float | None = None
        self.never_sent = 0  # in the journal all the same
        self.own_errors = 0
        self.tried = 0  # arrivals, not later turns
        self.arrivals = 0
        self.cut = 0  # by the deadline
        self.cut_short = 0  # conversations: a turn of theirs got no answer
        self.sends = 0
        self.late = 0
        self.delay_free = Values()
        self.in_flight_ns = np.zeros(SPANS + 1)  # request-nanoseconds up to each edge of the window
        self.early_stay_ns = Values()
        self.ttft = [Values() for _ in range(BATCHES)]

    def add_warmup(self, block: pd.DataFrame, chunks: ChunkTimes) -> None:
        """What warm-up requests delivered in the window is the server's work in it. Nothing else counts."""
        if len(block) and self.span is not None:
            ok = (block["status"] == "ok").to_numpy(dtype=bool)
            self._add_steady(block[ok], chunks.of(ok), self.span)
            self._add_in_flight(block, self.span)

    def add(self, rows: Sequence[Row], block: pd.DataFrame, chunks: ChunkTimes) -> None:
        """Take a block of measured records, with their frame and their chunks."""
        if not rows:
            return
        scheduled, ended = _ns(block, "scheduled"), _ns(block, "ended")
        if (~np.isnan(scheduled)).any():
            self.first_scheduled = _least(self.first_scheduled, float(np.nanmin(scheduled)))
        if (~np.isnan(ended)).any():
            self.last_ended = -_least(_minus(self.last_ended), -float(np.nanmax(ended)))
        ok = (block["status"] == "ok").to_numpy(dtype=bool)
        part = block[ok]
        everything = np.ones(len(part), dtype=bool)
        self.whole.add(part, everything, np.ones(len(part)), everything)
        if self.span is not None:
            self._add_steady(part, chunks.of(ok), self.span)
            self._add_in_flight(block, self.span)
            self._add_stay(block, self.span)
            self._add_ttft(block, self.span)
        self.own_errors += sum(
            row.error is not None and row.error.kind == "connect" and row.error.message.startswith(OWN_FAULT)
            for row in rows
        )
        self._add_arrivals(rows)
        self._add_lateness(rows, block)
        self._add_goodput(block)
        self._add_asked(part)

    def _add_steady(self, part: pd.DataFrame, chunks: ChunkTimes, span: tuple[int, int]) -> None:
        if len(part):
            first, ended = _ns(part, "first_token"), _ns(part, "ended")
            self.steady.add(
                part,
                _inside(ended, *span),
                arrived(part, chunks, *span),
                _inside(np.where(np.isnan(first), ended, first), *span),
            )

    def _add_in_flight(self, block: pd.DataFrame, span: tuple[int, int]) -> None:
        edges = np.linspace(*span, SPANS + 1)[:, None]
        start, end = _ns(block, "scheduled"), _ns(block, "ended")
        came = ~np.isnan(start)
        end = np.where(np.isnan(end), np.inf, np.maximum(end, start))[came]
        stayed = np.minimum(edges, end) - np.minimum(edges, start[came])
        self.in_flight_ns += stayed.sum(axis=1)

    def _add_stay(self, block: pd.DataFrame, span: tuple[int, int]) -> None:
        scheduled, ended = _ns(block, "scheduled"), _ns(block, "ended")
        early = _inside(scheduled, span[0], span[0] + _EARLY * (span[1] - span[0]))
        self.early_stay_ns.add((ended - scheduled)[early])

    def _add_ttft(self, block: pd.DataFrame, span: tuple[int, int]) -> None:
        scheduled, ttft = _ns(block, "scheduled"), _floats(block, "ttft_ms")
        timed = (block["status"] == "ok").to_numpy(dtype=bool) & block["streamed"].to_numpy(dtype=bool)
        timed &= _inside(scheduled, *span)
        batch = np.floor((scheduled - span[0]) / (span[1] - span[0]) * BATCHES)
        for number, values in enumerate(self.ttft):
            values.add(ttft[timed & (batch == number)])

    def _add_arrivals(self, rows: Sequence[Row]) -> None:
        first = [row for row in rows if isinstance(row.turn, UnsetType) or row.turn == 0]
        self.arrivals += len(first)
        self.tried += sum(row.sent_at is not None or row.status == "error" for row in first)
        self.cut += sum(row.cancelled_by == "deadline" for row in rows)
        self.cut_short += sum(row.status != "ok" for row in rows if not isinstance(row.turn, UnsetType))
        self.never_sent += sum(
            row.sent_at is None and not row.attempts and row.cancelled_by == "deadline" for row in first
        )

    def _add_lateness(self, rows: Sequence[Row], block: pd.DataFrame) -> None:
        held = _floats(block, "held_ms")
        self.held += int((held > 0).sum())
        if (held > 0).any():
            self.held_max_ms = max(self.held_max_ms or 0.0, float(held.max()))
        late = _floats(block, "delay_ms")
        # Setting up a connection is the network's and the server's; of a retried request, another attempt's.
        connect = np.where([bool(row.attempts) for row in rows], np.nan, _floats(block, "connect_ms"))
        late = np.maximum(late - np.nan_to_num(connect), 0)
        free = ~np.isnan(late) & (held == 0)
        if self.load.is_open:
            self.delay_free.add(late[free])
        elif self.span is None:
            return
        else:  # the places of a closed loop are filled one request a turn of the loop: that is its start
            free &= _inside(_ns(block, "scheduled"), *self.span)
        self.sends += int(free.sum())
        self.late += int((late[free] > self.late_over_ms).sum())

    def _add_goodput(self, block: pd.DataFrame) -> None:
        if not self.slo_ms:
            return
        ok = (block["status"] == "ok").to_numpy(dtype=bool)
        failed = (block["status"] == "error") | (block["cancelled_by"] == "deadline")
        # Who left before any token was never served; who left after some was, so far.
        failed |= (block["cancelled_by"] == "abandon") & block["first_token_at_ns"].isna()
        part = block[ok]
        bad, unknown = np.zeros(len(part), dtype=bool), np.zeros(len(part), dtype=bool)
        for name, limit in self.slo_ms.items():
            value = _floats(part, f"{name}_ms")
            missing = np.isnan(value)
            if name == "tpot":  # below two tokens, or all at one instant, there is no time a token can have
                span = _ns(part, "last_token") - _ns(part, "first_token")
                missing &= ~((_floats(part, "streamed_tokens") < 2) | (span == 0))
            bad |= value > limit
            unknown |= missing
        unknown &= ~bad
        self.goodput.unknown += int(unknown.sum())
        self.goodput.met += int((~bad & ~unknown).sum())
        misses = failed.to_numpy(dtype=bool, na_value=False)
        self.goodput.of += int((~unknown).sum()) + int(misses.sum())

    def _add_asked(self, part: pd.DataFrame) -> None:
        pairs = (
            (self.input_tokens, "asked_input_tokens", "prompt_tokens"),
            (self.output_tokens, "asked_output_tokens", "completion_tokens"),
        )
        for to, asked, reached in pairs:
            wanted, came = _floats(part, asked), _floats(part, reached)
            both = ~np.isnan(wanted) & ~np.isnan(came)
            to.untold += int((~np.isnan(wanted) & np.isnan(came)).sum())
            if both.any():
                to.n += int(both.sum())
                to.asked = (to.asked or 0) + int(wanted[both].sum())
                to.reached = (to.reached or 0) + int(came[both].sum())
                to.share = to.reached / to.asked if to.asked else None

    @property
    def was_full(self) -> bool:
        """Whether `max_in_flight` was ever reached: then who was never sent waited for a place."""
        load = self.load
        capped = bool(
            load.max_in_flight and load.peak_in_flight and load.peak_in_flight >= load.max_in_flight
        )
        return capped or load.was_full or self.held > 0 or bool(load.held)

    def in_flight(self) -> Floats | None:
        """The mean number of requests that had come and not ended, in each of `SPANS` parts of the window."""
        if self.span is None:
            return None
        return np.diff(self.in_flight_ns) / ((self.span[1] - self.span[0]) / SPANS)


def _least(known: float | None, value: float) -> float:
    return value if known is None else min(known, value)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
