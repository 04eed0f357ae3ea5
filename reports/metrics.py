"""One pass over the blocks of a journal -> `Summary`; memory does not depend on the number of records.

Definitions are METRICS' (docs/metrics.md). Latencies are of requests that are ok, streamed and of the phase
`measure`; their second reading adds failures, what the run's own deadline cut, and users who left before any
token came, as +infinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import Struct, UnsetType, field

from reports.bench_part import Plan, finish, plan
from reports.distribution import Distribution, Values
from reports.expect import stored
from reports.frame import ChunkTimes, chunk_times, frame
from reports.nodes import nodes_of
from reports.paid import STALE, Paid, count_accepted, count_lost
from reports.rows import (
    STOP_RULE,
    Row,
    decoded,
    decoded_superseded,
    is_believable,
    latest_instants,
    open_index,
)
from reports.select import Selections
from reports.sessions import SessionCount, count_sessions, session_totals
from reports.summary import (
    POOLED,
    RATES,
    TIMES,
    WITH_FAILURES,
    Attempts,
    Chunks,
    Connections,
    Endpoint,
    Journal,
    Requests,
    Summary,
)
from reports.validity import COALESCED_LIMIT
from runner.store import (
    AGAIN,
    FAILED,
    OK,
    Index,
    Manifest,
    current_ids,
    inside,
    load_manifest,
    resolve_run,
    standing,
)
from scenarios.thresholds import Threshold

_COLUMNS = {
    **{name: f"{name}_ms" for name in TIMES if name != "itl"},
    "output_rate": "output_rate_tokens_per_s",
}


class Watch(Protocol):
    """Sees what the pass reads, so that nobody else has to read it again."""

    def begin(self, index: Index, manifest: Manifest) -> None:
        """The pass begins."""

    def add(self, rows: Sequence[Row], block: pd.DataFrame, chunks: ChunkTimes) -> None:
        """Rows, and the frame and the chunks of those of them that are measured."""


class _Tally(Struct, kw_only=True):
    """What one pass keeps."""

    requests: Requests = field(default_factory=Requests)
    attempts: Attempts = field(default_factory=Attempts)
    connections: Connections = field(default_factory=Connections)
    paid: Paid = field(default_factory=Paid)
    chunks: Chunks = field(default_factory=Chunks)
    sessions: dict[int, SessionCount] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    endpoint_ttft: dict[str, Values] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=lambda: {name: Values() for name in (*TIMES, *RATES)})
    failures: int = 0
    bench: Plan | None = None
    thresholds: list[Threshold] = []
    selections: Selections


def _bump(counts: dict[str, int], keys: Iterable[str]) -> None:
    for key, n in Counter(keys).items():
        counts[key] = counts.get(key, 0) + n


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
    to.cut += sum(row.cancelled_by == STOP_RULE for row in rows)
    _bump(to.finish_reasons, (row.finish_reason or "none" for row in rows if row.status == "ok"))
    to.not_streamed += sum(row.status == "ok" and not row.streamed for row in rows)
    left = sum(row.cancelled_by == "abandon" and row.first_token_at is None for row in rows)
    to.left_unserved += left
    tally.failures += status["error"] + left + sum(row.cancelled_by == "deadline" for row in rows)
    tally.connections.opened += sum(row.connection.reused is False for row in rows)
    tally.connections.reused += sum(row.connection.reused is True for row in rows)


def _count_attempts(tally: _Tally, rows: Sequence[Row]) -> None:
    to = tally.attempts
    for row in rows:
        if not row.attempts:
            continue
        retried = [attempt for attempt in row.attempts if attempt.wait_for != STALE]
        to.requests += 1
        to.earlier += len(retried)
        to.stale_connection += len(row.attempts) - len(retried)
        _bump(to.error_kinds, (attempt.error.kind for attempt in retried))
        for attempt in retried:
            if attempt.base_url is not None:
                _endpoint(tally, attempt.base_url).earlier_failed += 1


def _endpoint(tally: _Tally, base_url: str) -> Endpoint:
    tally.endpoint_ttft.setdefault(base_url, Values())
    return tally.endpoints.setdefault(base_url, Endpoint(base_url=base_url))


def _count_endpoints(
    tally: _Tally, rows: Sequence[Row], block: pd.DataFrame, timed: npt.NDArray[np.bool_]
) -> None:
    urls = [row.connection.base_url for row in rows]
    for base_url in dict.fromkeys(url for url in urls if url is not None):
        to = _endpoint(tally, base_url)
        there = np.fromiter((url == base_url for url in urls), dtype=bool, count=len(urls))
        status = Counter(row.status for row, url in zip(rows, urls, strict=True) if url == base_url)
        to.requests += int(there.sum())
        to.ok += status["ok"]
        to.error += status["error"]
        to.cancelled += status["cancelled"]
        tally.endpoint_ttft[to.base_url].add(block["ttft_ms"].to_numpy(dtype=np.float64)[there & timed])


def _count_chunks(tally: _Tally, rows: Iterable[Row], chunks: ChunkTimes) -> None:
    to = tally.chunks
    gaps = chunks.gaps_us()
    to.gaps += len(gaps)
    to.coalesced += int((gaps == 0).sum())
    to.total += len(chunks.us)
    tally.values["itl"].add(gaps / 1e3)
    for row in rows:
        if not isinstance(row.chunk_tokens, UnsetType):
            to.with_token_count += len(row.chunk_tokens)
            to.multi_token += sum(n > 1 for n in row.chunk_tokens)


def _add(tally: _Tally, rows: Sequence[Row]) -> tuple[pd.DataFrame, ChunkTimes]:
    measured = [row for row in rows if row.phase == "measure"]
    tally.requests.warmup += len(rows) - len(measured)
    chunks = chunk_times(measured)
    block = frame(measured, chunks)
    _count_requests(tally, measured)
    _count_attempts(tally, measured)
    count_accepted(tally.paid, measured)
    count_lost(tally.paid, measured)
    count_sessions(tally.sessions, block)
    timed = (block["status"] == "ok").to_numpy(dtype=bool) & block["streamed"].to_numpy(dtype=bool)
    for name, column in _COLUMNS.items():
        tally.values[name].add(block[column].to_numpy(dtype=np.float64)[timed])
    if tally.selections:
        tally.selections.add(measured, block, timed)
    _count_endpoints(tally, measured, block, timed)
    streams = (row for row, use in zip(measured, timed.tolist(), strict=True) if use)
    _count_chunks(tally, streams, chunks.of(timed))
    if tally.bench is not None:
        tally.bench.add_warmup([row for row in rows if row.phase != "measure"])
        tally.bench.add(measured, block, chunks)
    return block, chunks


def _withheld(chunks: Chunks) -> str | None:
    """Why `itl` has no percentiles."""
    if not chunks.gaps or chunks.coalesced / chunks.gaps <= COALESCED_LIMIT:
        return None
    share = chunks.coalesced / chunks.gaps
    return f"{share:.0%} of chunks came in the same read as the one before: their gaps are not the server's"


def _distributions(tally: _Tally) -> dict[str, Distribution]:
    why, bench = _withheld(tally.chunks), tally.bench
    failures = tally.failures + (bench.missed() if bench else 0)
    asked = {
        name: {t.p for t in tally.thresholds if t.metric == name and t.p is not None} for name in tally.values
    }
    return {
        name: values.distribution(
            "tokens/s" if name in RATES else "ms",
            withheld=why if name == "itl" else None,
            failures=failures if name in WITH_FAILURES else None,
            more=asked[name],
            intervals=(bench is not None or bool(tally.thresholds)) and name not in POOLED,
        )
        for name, values in tally.values.items()
    }


def _endpoints(tally: _Tally) -> list[Endpoint]:
    for base_url, endpoint in tally.endpoints.items():
        ttft = tally.endpoint_ttft[base_url].distribution("ms")
        endpoint.ttft_n, endpoint.ttft_p50_ms = ttft.n, ttft.percentiles["p50"]
    return [tally.endpoints[base_url] for base_url in sorted(tally.endpoints)]


def _proxies(manifest: Manifest) -> dict[str, list[int]]:
    out: dict[str, list[int]] = {}
    for session in manifest.sessions:
        named = session.options.get("proxy")
        for proxy in (
            named if isinstance(named, list) else [named]
        ):  # several: not every endpoint's is the same
            if isinstance(proxy, str) and proxy:
                out.setdefault(proxy, []).append(session.number)
    return out


def _finish_requests(tally: _Tally, run: Path, manifest: Manifest, index: Index) -> None:
    requests = tally.requests
    judged = requests.ok + requests.error
    requests.errors_share = requests.error / judged if judged else None
    connections = tally.connections
    known = connections.opened + connections.reused
    connections.reused_share = connections.reused / known if known else None
    current = current_ids(run)
    state = index.state
    if current is not None:
        state = state[inside(index.digest, current)]
        requests.outside = len(index) - len(state)
    requests.answered = int((state == OK).sum())
    requests.again = int((state == AGAIN).sum())
    requests.failed_for_good = int((state == FAILED).sum())
    if tally.bench is not None:
        # A bench sends its rows again and again, or some: what it owes is its schedule (`bench.load`).
        requests.answered = requests.ok + requests.cut
        requests.unsent = tally.bench.load.unsent
    elif manifest.prompts is not None:
        requests.expected = manifest.prompts.requests
        requests.unsent = max(0, manifest.prompts.requests - len(state))


def _believable(rows: list[Row], ends: dict[int, int], damaged: list[str]) -> list[Row]:
    good = [row for row in rows if is_believable(row, ends)]
    if len(good) < len(rows):
        damaged += [row.id for row in rows if not is_believable(row, ends)]
    return good


def _tally_for(manifest: Manifest, thresholds: Sequence[Threshold] | None) -> _Tally:
    found = plan(manifest, thresholds)
    judged = found.thresholds if found is not None else list(thresholds or ())
    return _Tally(bench=found, thresholds=judged, selections=Selections(judged, manifest))


def summarize(
    run: str | Path, thresholds: Sequence[Threshold] | None = None, watch: Watch | None = None
) -> Summary:
    """Every number of a run directory; works while it is still written to.

    Args:
        run: the directory.
        thresholds: what will be judged; default: a bench's own. Percentiles, intervals and selections that
            they ask for are given as well, and of a bench the verdicts are on them.
        watch: sees what is read.

    Raises:
        StoreError: it is no run directory, or cannot be read.
    """
    run = resolve_run(str(run))
    manifest = load_manifest(run)
    stopped_on = {s.number: s.stopped_on for s in manifest.sessions if s.stopped_on is not None}
    index = open_index(run, stopped_on)
    tally, damaged = _tally_for(manifest, thresholds), list[str]()
    ends = latest_instants(manifest.sessions)
    if watch is not None:
        watch.begin(index, manifest)
    for rows in decoded(index, tally.selections.row_type, bad=damaged):
        believable = _believable(rows, ends, damaged)
        block, chunks = _add(tally, believable)
        if watch is not None:
            watch.add(believable, block, chunks)
    for rows in decoded_superseded(index, Row, bad=damaged):
        count_lost(tally.paid, [row for row in rows if row.phase == "measure"], superseded=True)
    _finish_requests(tally, run, manifest, index)
    tally.paid.finish()
    tally.paid.cost.priced = any(s.options.get("prices") for s in manifest.sessions)
    known = {session.number: session for session in manifest.sessions}
    prompts = manifest.prompts
    summary = Summary(
        path=str(run),
        kind=manifest.kind,
        created=manifest.created,
        scenario=manifest.scenario,
        prompts=prompts.name if prompts else None,
        prompt_rows=prompts.rows if prompts else None,
        tls_unchecked=any(s.options.get("verify_tls") is False for s in manifest.sessions),
        proxies=_proxies(manifest),
        requests=tally.requests,
        attempts=tally.attempts,
        connections=tally.connections,
        tokens=tally.paid.tokens,
        cost=tally.paid.cost,
        endpoints=_endpoints(tally),
        chunks=tally.chunks,
        sessions=[
            session_totals(number, known.get(number), tally.sessions.get(number, SessionCount()))
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
        tags=manifest.tags,
        selected=tally.selections.distributions(_withheld(tally.chunks)),
        selected_errors=tally.selections.errors(),
        expect=stored(run),
        slim=manifest.slim,
        shards=standing(manifest),
        nodes=nodes_of(manifest.sessions),
    )
    if tally.bench is not None:
        finish(summary, tally.bench, run)
    return summary
