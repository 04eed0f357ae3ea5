"""One pass over the blocks of a journal -> `Summary`; memory does not depend on the number of records.

Definitions are METRICS' (docs/metrics.md). Latencies are of requests that are ok, streamed and of the phase
`measure`; their second reading adds failures, and what the run's own deadline cut, as +infinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct, UnsetType, field

from reports.distribution import Distribution, Values
from reports.frame import frame, gaps_us
from reports.rows import Row, decoded, open_index
from reports.summary import (
    RATES,
    TIMES,
    WITH_FAILURES,
    Attempts,
    Chunks,
    Connections,
    Journal,
    Requests,
    SessionTotals,
    Summary,
    TokenTotals,
)
from runner.record import tokens
from runner.store import AGAIN, FAILED, OK, Index, Manifest, Session, current_ids, inside, load_manifest

STALE = "stale_connection"  # `Attempt.wait_for` of a resend that is no retry
COALESCED_LIMIT = 0.30
_COLUMNS = {
    **{name: f"{name}_ms" for name in TIMES if name != "itl"},
    "output_rate": "output_rate_tokens_per_s",
}


class _SessionCount(Struct):
    requests: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    with_usage: int = 0
    completion_tokens: int | None = None
    last_ended_at: int | None = None


class _Tally(Struct):
    """What one pass keeps."""

    requests: Requests = field(default_factory=Requests)
    attempts: Attempts = field(default_factory=Attempts)
    connections: Connections = field(default_factory=Connections)
    tokens: TokenTotals = field(default_factory=TokenTotals)
    chunks: Chunks = field(default_factory=Chunks)
    sessions: dict[int, _SessionCount] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=lambda: {name: Values() for name in (*TIMES, *RATES)})
    failures: int = 0


def _bump(counts: dict[str, int], keys: Iterable[str]) -> None:
    for key, n in Counter(keys).items():
        counts[key] = counts.get(key, 0) + n


def _plus(total: int | None, more: int | None) -> int | None:
    """A sum in which `None` is "nobody said", not 0."""
    if more is None:
        return total
    return more if total is None else total + more


def _sum(column: pd.Series[Any]) -> int | None:
    return int(column.sum()) if column.notna().any() else None


def _count_requests(tally: _Tally, rows: Sequence[Row]) -> None:
    to = tally.requests
    status = Counter(row.status for row in rows)
    to.total += len(rows)
    to.ok += status["ok"]
    to.error += status["error"]
    to.cancelled += status["cancelled"]
    errors = [row.error for row in rows if row.status == "error" and row.error]
    _bump(to.error_kinds, (error.kind for error in errors))
    for error in errors:
        to.error_examples.setdefault(error.kind, error.message)
    _bump(to.cancelled_by, (row.cancelled_by or "unknown" for row in rows if row.status == "cancelled"))
    _bump(to.finish_reasons, (row.finish_reason or "none" for row in rows if row.status == "ok"))
    to.not_streamed += sum(row.status == "ok" and not row.streamed for row in rows)
    tally.failures += status["error"] + sum(row.cancelled_by == "deadline" for row in rows)
    tally.connections.opened += sum(row.connection.reused is False for row in rows)
    tally.connections.reused += sum(row.connection.reused is True for row in rows)


def _count_attempts(tally: _Tally, rows: Sequence[Row]) -> None:
    to, lost = tally.attempts, tally.tokens
    for row in rows:
        if row.status == "ok" and not row.attempts:
            continue
        stale = sum(attempt.wait_for == STALE for attempt in row.attempts)
        to.stale_connection += stale
        to.earlier += len(row.attempts) - stale
        to.requests += bool(row.attempts)
        _bump(to.error_kinds, (a.error.kind for a in row.attempts if a.wait_for != STALE))
        partial = [attempt.usage_partial for attempt in row.attempts]
        if row.status != "ok":
            partial.append(row.usage_partial or row.usage)
        for usage in partial:
            count = tokens(usage)
            lost.lost_attempts += 1
            lost.lost_with_usage += count.prompt is not None or count.completion is not None
            lost.lost_prompt = _plus(lost.lost_prompt, count.prompt)
            lost.lost_completion = _plus(lost.lost_completion, count.completion)


def _count_tokens(tally: _Tally, rows: Sequence[Row], ok: pd.DataFrame) -> None:
    to = tally.tokens
    to.answers += len(ok)
    to.with_usage += int(ok["completion_tokens"].notna().sum())
    _bump(to.sources, (row.usage_source for row in rows if row.status == "ok"))
    to.prompt = _plus(to.prompt, _sum(ok["prompt_tokens"]))
    to.completion = _plus(to.completion, _sum(ok["completion_tokens"]))
    to.reasoning = _plus(to.reasoning, _sum(ok["reasoning_tokens"]))
    to.cached = _plus(to.cached, _sum(ok["cached_tokens"]))


def _count_sessions(tally: _Tally, block: pd.DataFrame) -> None:
    for number, part in block.groupby("session", sort=False):
        assert isinstance(number, int)
        to = tally.sessions.setdefault(number, _SessionCount())
        status = part["status"].value_counts()
        answered = part[part["status"] == "ok"]
        to.requests += len(part)
        to.ok += int(status.get("ok", 0))
        to.error += int(status.get("error", 0))
        to.cancelled += int(status.get("cancelled", 0))
        to.with_usage += int(answered["completion_tokens"].notna().sum())
        to.completion_tokens = _plus(to.completion_tokens, _sum(answered["completion_tokens"]))
        ended = part["ended_at_ns"].max()
        if not pd.isna(ended):
            to.last_ended_at = max(int(ended), to.last_ended_at or 0)


def _count_chunks(tally: _Tally, rows: Sequence[Row]) -> None:
    to = tally.chunks
    gaps = gaps_us(rows)
    to.gaps += len(gaps)
    to.coalesced += int((gaps == 0).sum())
    tally.values["itl"].add(gaps / 1e3)
    for row in rows:
        if not isinstance(row.chunk_us, UnsetType):
            to.total += len(row.chunk_us)
        if not isinstance(row.chunk_tokens, UnsetType):
            to.with_token_count += len(row.chunk_tokens)
            to.multi_token += sum(n > 1 for n in row.chunk_tokens)


def _add(tally: _Tally, rows: Sequence[Row]) -> None:
    measured = [row for row in rows if row.phase == "measure"]
    tally.requests.warmup += len(rows) - len(measured)
    block = frame(measured)
    _count_requests(tally, measured)
    _count_attempts(tally, measured)
    _count_tokens(tally, measured, block[block["status"] == "ok"])
    _count_sessions(tally, block)
    timed = (block["status"] == "ok").to_numpy(dtype=bool) & block["streamed"].to_numpy(dtype=bool)
    for name, column in _COLUMNS.items():
        tally.values[name].add(block[column].to_numpy(dtype=np.float64)[timed])
    _count_chunks(tally, [row for row in measured if row.status == "ok" and row.streamed])


def _distributions(tally: _Tally) -> dict[str, Distribution]:
    chunks, why = tally.chunks, None
    if chunks.gaps and chunks.coalesced / chunks.gaps > COALESCED_LIMIT:
        share = chunks.coalesced / chunks.gaps
        why = (
            f"{share:.0%} of chunks came in the same read as the one before: their gaps are not the server's"
        )
    return {
        name: values.distribution(
            "tokens/s" if name in RATES else "ms",
            withheld=why if name == "itl" else None,
            failures=tally.failures if name in WITH_FAILURES else None,
        )
        for name, values in tally.values.items()
    }


def _session(number: int, session: Session | None, count: _SessionCount) -> SessionTotals:
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
    )


def _finish_requests(tally: _Tally, run: Path, manifest: Manifest, index: Index) -> None:
    requests = tally.requests
    judged = requests.ok + requests.error
    requests.errors_share = requests.error / judged if judged else None
    current = current_ids(run)
    state = index.state
    if current is not None:
        state = state[inside(index.digest, current)]
        requests.outside = len(index) - len(state)
    requests.answered = int((state == OK).sum())
    requests.again = int((state == AGAIN).sum())
    requests.failed_for_good = int((state == FAILED).sum())
    if manifest.prompts is not None:
        requests.expected = manifest.prompts.requests
        requests.unsent = max(0, manifest.prompts.requests - len(state))


def summarize(run: Path) -> Summary:
    """Every number of a run directory; works while it is still written to.

    Raises:
        StoreError: it is no run directory, or cannot be read.
    """
    manifest = load_manifest(run)
    stopped_on = {s.number: s.stopped_on for s in manifest.sessions if s.stopped_on is not None}
    index = open_index(run, stopped_on)
    tally, damaged = _Tally(), list[str]()
    for rows in decoded(index, Row, bad=damaged):
        _add(tally, rows)
    _finish_requests(tally, run, manifest, index)
    known = {session.number: session for session in manifest.sessions}
    prompts = manifest.prompts
    return Summary(
        path=str(run),
        kind=manifest.kind,
        created=manifest.created,
        scenario=manifest.scenario,
        prompts=prompts.name if prompts else None,
        prompt_rows=prompts.rows if prompts else None,
        tls_unchecked=any(s.options.get("verify_tls") is False for s in manifest.sessions),
        requests=tally.requests,
        attempts=tally.attempts,
        connections=tally.connections,
        tokens=tally.tokens,
        chunks=tally.chunks,
        sessions=[
            _session(number, known.get(number), tally.sessions.get(number, _SessionCount()))
            for number in sorted(known | tally.sessions)
        ],
        journal=Journal(
            files=[path.name for path in index.files],
            lines=index.total_lines,
            ids=len(index),
            bad_count=index.bad_count + len(damaged),
            bad_lines=index.bad_lines,
            damaged_ids=damaged[:100],
        ),
        metrics=_distributions(tally),
    )
