"""Each start of the command by itself: its counts, its rates, what held its requests back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct

from reports.paid import plus_count
from reports.rows import STOP_RULE
from reports.summary import Pacing, SessionTotals
from runner.store import Session


class SessionCount(Struct):
    """What one pass counts of one session."""

    requests: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    cut: int = 0
    with_usage: int = 0
    completion_tokens: int | None = None
    last_ended_at: int | None = None


def total(column: pd.Series[Any]) -> int | None:
    """The sum of a column of whole numbers; `None` where it has none."""
    return int(column.sum()) if column.notna().any() else None


def count_sessions(to: dict[int, SessionCount], block: pd.DataFrame) -> None:
    """Take a block of measured records, as `reports.frame` gives them."""
    session, status = block["session"].to_numpy(), block["status"].to_numpy(dtype=object)
    cut = (block["cancelled_by"] == STOP_RULE).to_numpy(dtype=bool, na_value=False)
    for number in np.unique(session).tolist():
        here = session == number
        count = to.setdefault(number, SessionCount())
        ok = here & (status == "ok")
        count.requests += int(here.sum())
        count.ok += int(ok.sum())
        count.error += int((here & (status == "error")).sum())
        count.cancelled += int((here & (status == "cancelled")).sum())
        count.cut += int((here & cut).sum())
        told = block["completion_tokens"][ok]
        count.with_usage += int(told.notna().sum())
        count.completion_tokens = plus_count(count.completion_tokens, total(told))
        ended = block["ended_at_ns"][here].max()
        if not pd.isna(ended):
            count.last_ended_at = max(int(ended), count.last_ended_at or 0)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(value: Any) -> float:
    return float(value) if type(value) in {int, float} and value >= 0 else 0.0


def pacing(gauge: dict[str, Any]) -> Pacing | None:
    """What a session's gauge says of its pace. Anybody may have written it: odd values count as absent."""
    if not gauge.keys() & set(Pacing.__struct_fields__):
        return None
    return Pacing(
        cooldowns=_whole(gauge.get("cooldowns")) or 0,
        cooldown_s=_seconds(gauge.get("cooldown_s")),
        paced_s=_seconds(gauge.get("paced_s")),
        lowest_concurrency=_whole(gauge.get("lowest_concurrency")),
        highest_concurrency=_whole(gauge.get("highest_concurrency")),
        budget_lowered=gauge.get("budget_lowered") is True,
    )


def session_totals(number: int, session: Session | None, count: SessionCount) -> SessionTotals:
    """One session's numbers."""
    ended_at = session.ended_at if session else None
    until = count.last_ended_at if ended_at is None else ended_at
    # Times of a session are since its anchor, so its end is its length.
    wall_s = until / 1e9 if until else None
    produced = count.completion_tokens
    concurrency = session.options.get("concurrency") if session else None
    return SessionTotals(
        number=number,
        started=session.started if session else None,
        concurrency=concurrency if isinstance(concurrency, int) else None,
        wall_s=wall_s,
        wall_to_last_record=ended_at is None,
        ended_by=session.ended_by if session else None,
        reason=session.reason if session else None,
        requests=count.requests,
        ok=count.ok,
        error=count.error,
        cancelled=count.cancelled,
        with_usage=count.with_usage,
        completion_tokens=produced,
        requests_per_s=count.ok / wall_s if wall_s else None,
        output_tokens_per_s=produced / wall_s if wall_s and produced is not None else None,
        cut=count.cut,
        pacing=pacing(session.gauge) if session else None,
        shard=session.shard if session else None,
    )
