"""The summary: every number of one run, and the one owner of that schema.

Counts are of the phase `measure`. `None` is "not known" or "did not happen", never 0. What the metrics mean
stands in METRICS (docs/metrics.md); distributions in `reports/distribution.py`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from reports.distribution import Distribution

# History: 1  first version
SUMMARY_VERSION = 1

# In the order of METRICS. These are durations of answered, streamed requests of the phase `measure`.
TIMES = (
    "ttft",
    "ttft_sched",
    "ttfc",
    "ttfb",
    "itl",
    "tpot",
    "e2e",
    "e2e_sched",
    "delay",
    "connect",
    "stall",
)
RATES = ("output_rate",)
# One per request and the longer the worse: a failure counts there as +infinity in the second reading.
WITH_FAILURES = ("ttft", "ttft_sched", "ttfc", "ttfb", "tpot", "e2e", "e2e_sched", "stall")


class Requests(Struct, kw_only=True):
    """How the requests ended; one per id, whatever the number of lines in the journal."""

    total: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    expected: int | None = None  # of the prompt file as last read
    answered: int = 0  # of the prompt file as last read
    unsent: int | None = None  # expected, and nothing in the journal
    outside: int | None = None  # in the journal, and no longer in the prompt file
    warmup: int = 0  # kept, counted nowhere else
    errors_share: float | None = None  # error / (ok + error)
    again: int = 0  # in the prompt file, in the journal, and sent again by the same command
    failed_for_good: int = 0  # in the prompt file, and sent again only with --retry-failed
    error_kinds: dict[str, int] = {}
    error_examples: dict[str, str] = {}  # by kind, the message of the first in the journal
    cancelled_by: dict[str, int] = {}
    finish_reasons: dict[str, int] = {}  # of ok ones; "none" where the server gave none
    not_streamed: int = 0  # ok, but sent as a whole: in no latency


class Attempts(Struct, kw_only=True):
    """Earlier attempts of the requests above."""

    requests: int = 0  # that needed more than one
    earlier: int = 0  # resends of a stale connection not counted
    error_kinds: dict[str, int] = {}
    stale_connection: int = 0  # sent again at once: a reused connection died before the first byte


class Connections(Struct, kw_only=True):
    """Of the last attempts that say so."""

    opened: int = 0
    reused: int = 0


class TokenTotals(Struct, kw_only=True):
    """Sums over ok answers. `None` where no answer told."""

    answers: int = 0
    with_usage: int = 0  # answers the sums below are of
    sources: dict[str, int] = {}
    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    # Of failed, cancelled and earlier attempts, as far as their streams told: probably billed.
    lost_attempts: int = 0
    lost_with_usage: int = 0
    lost_prompt: int | None = None
    lost_completion: int | None = None


class Chunks(Struct, kw_only=True):
    """The token-bearing chunks that `itl` is made of."""

    total: int = 0
    gaps: int = 0
    coalesced: int = 0  # gaps of 0 us: the chunk came in the same read as the one before
    with_token_count: int = 0
    multi_token: int = 0  # of those with a count


class SessionTotals(Struct, kw_only=True):
    """One start of the command. Rates are of the whole session, idle ends included."""

    number: int
    started: str | None
    concurrency: int | None
    wall_s: float | None  # from its anchor to its end
    wall_to_last_record: bool  # the end was not written (killed, or still running): the last record's is used
    ended_by: str | None
    reason: str | None
    requests: int
    ok: int
    error: int
    cancelled: int
    with_usage: int
    completion_tokens: int | None
    requests_per_s: float | None  # ok ones
    output_tokens_per_s: float | None  # of the answers with usage


class Journal(Struct, kw_only=True):
    """What was read. Lines beyond `ids` are earlier results of the same requests."""

    files: list[str]
    lines: int
    ids: int
    bad_count: int
    bad_lines: list[tuple[str, int]]  # (file, byte offset), the first hundred
    damaged_ids: list[str] = []  # JSON, but no record; the first hundred


class Summary(Struct, kw_only=True):
    """Every number of one run."""

    summary_version: int = SUMMARY_VERSION
    path: str
    kind: str
    created: str
    scenario: dict[str, Any]
    prompts: str | None
    prompt_rows: int | None
    tls_unchecked: bool = False  # a session ran with --insecure
    requests: Requests
    attempts: Attempts
    connections: Connections
    tokens: TokenTotals
    chunks: Chunks
    sessions: list[SessionTotals]
    journal: Journal
    metrics: dict[str, Distribution]
