"""The summary: every number of one run, and the one owner of that schema.

Counts are of the phase `measure`. `None` is "not known" or "did not happen", never 0. What the metrics mean
stands in METRICS (docs/metrics.md); distributions in `reports/distribution.py`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from reports.bench import Bench
from reports.distribution import Distribution
from reports.nodes import Node
from runner.store import Standing
from scenarios.thresholds import METRICS

# History:
#   1  first version
#   2  cost, endpoints, proxies; requests.cut; sessions[].cut and pacing. Token sums take in answers cut on
#      purpose; tokens.lost_* the results that a later one of the same request took the place of
#   3  tags, bench, requests.left_unserved, selected, selected_errors, expect, slim; `ci` of distributions. Of
#      a bench, requests.unsent is of its schedule, and requests.expected none
SUMMARY_VERSION = 3

# In the order of METRICS. These are durations of answered, streamed requests of the phase `measure`.
TIMES = tuple(name for name, metric in METRICS.items() if metric.kind == "time")
RATES = ("output_rate",)
# Many values a request: they are no independent samples, so no interval is given.
POOLED = ("itl",)
# One per request and the longer the worse: a failure counts there as +infinity in the second reading.
WITH_FAILURES = ("ttft", "ttft_sched", "ttfc", "ttfb", "tpot", "e2e", "e2e_sched", "stall")


class Requests(Struct, kw_only=True):
    """How the requests ended; one per id, whatever the number of lines in the journal."""

    total: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    expected: int | None = None  # of the prompt file as last read; `None` of a bench
    answered: int = 0  # of the prompt file as last read; of a bench, all
    unsent: int | None = None  # expected, and nothing in the journal
    outside: int | None = None  # in the journal, and no longer in the prompt file
    warmup: int = 0  # kept, counted nowhere else
    errors_share: float | None = None  # error / (ok + error)
    again: int = 0  # in the prompt file, in the journal, and sent again by the same command
    failed_for_good: int = 0  # in the prompt file, and sent again only with --retry-failed
    error_kinds: dict[str, int] = {}
    error_examples: dict[str, str] = {}  # by kind, the message of the first in the journal
    cancelled_by: dict[str, int] = {}
    left_unserved: int = 0  # of cancelled: users who left before any token; +infinity in second readings
    cut: int = 0  # of cancelled: on purpose, by a stop rule; they count as done
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
    reused_share: float | None = None  # of both; `None` where nobody says


class TokenTotals(Struct, kw_only=True):
    """Sums over accepted answers: ok, or cut on purpose. `None` where no answer told."""

    answers: int = 0
    with_usage: int = 0  # answers the sums below are of
    sources: dict[str, int] = {}
    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    # Of failed, cancelled, earlier and superseded ones, as far as their streams told: probably billed.
    lost_attempts: int = 0
    lost_with_usage: int = 0
    lost_prompt: int | None = None
    lost_completion: int | None = None


class Cost(Struct, kw_only=True):
    """Sums of what attempts cost, in the currency of the provider or of the prices. `None`: nobody said.

    What a server refused, or never got, costs nothing, and is neither unknown nor without a limit.
    """

    priced: bool = False  # a session was given prices
    answers: int = 0  # accepted: ok, or cut on purpose
    answers_known: int = 0  # answers the sum is of
    sources: dict[str, int] = {}  # of them: whose word it is
    accepted: float | None = None
    # Of failed, cancelled, earlier and superseded attempts, as far as they told.
    lost_attempts: int = 0
    lost_known: int = 0
    lost_unknown: int = 0  # neither a cost nor a bound, and a server may have worked for it
    lost: float | None = None
    lost_at_most: float | None = None  # with each one's bound; `None` where one has none
    total: float | None = None
    at_most: float | None = None  # as `lost_at_most`, of everything
    broken_off: int = 0  # attempts of either part that this side ended: cancelled, cut, or timed out


class Endpoint(Struct, kw_only=True):
    """One base URL. Counts are of requests whose last attempt went there."""

    base_url: str
    requests: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    earlier_failed: int = 0  # attempts that failed there and were made again, there or elsewhere
    ttft_n: int = 0
    ttft_p50_ms: float | None = None


class Chunks(Struct, kw_only=True):
    """The token-bearing chunks that `itl` is made of."""

    total: int = 0
    gaps: int = 0
    coalesced: int = 0  # gaps of 0 us: the chunk came in the same read as the one before
    with_token_count: int = 0
    multi_token: int = 0  # of those with a count


class Pacing(Struct, kw_only=True):
    """What held requests back. `None` and 0: nothing did, or the session did not say."""

    cooldowns: int = 0
    cooldown_s: float = 0.0  # in which a 429 or 503 held an endpoint
    paced_s: float = 0.0  # in which a limit of requests or tokens a minute held the run
    lowest_concurrency: int | None = None  # where it followed the server
    highest_concurrency: int | None = None
    budget_lowered: bool = False  # reservations, and not spending, kept requests from going


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
    cut: int = 0  # of cancelled, as in Requests
    pacing: Pacing | None = None  # `None`: the session did not say
    shard: int | None = None  # whose it is, where processes share the run


class Journal(Struct, kw_only=True):
    """What was read. Lines beyond `ids` are earlier results of the same requests."""

    files: list[str]
    lines: int
    ids: int
    bad_count: int
    bad_lines: list[tuple[str, int]]  # (file, byte offset), the first hundred
    damaged_ids: list[str] = []  # JSON, but no record; the first hundred


class Hits(Struct, kw_only=True):
    """So many of so many."""

    hits: int = 0
    n: int = 0


class Expected(Struct, kw_only=True):
    """What rows expected of their answers, and whether it held (`reports/expect.py`)."""

    judged: int = 0  # records of the phase `measure` whose row expects something
    passed: int = 0
    left_out: int = 0  # such records without an answer that nobody is to blame for: cancelled by the user
    failed: dict[str, int] = {}  # by what did not hold; a record may be in several
    selected: dict[str, Hits] = {}  # by threshold: `expect{topic:math}`
    slow: int = 0  # records whose pattern or schema was given up, because it took too long


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
    proxies: dict[str, list[int]] = {}  # the proxies requests went through, and in which sessions
    requests: Requests
    attempts: Attempts
    connections: Connections
    tokens: TokenTotals
    cost: Cost
    endpoints: list[Endpoint] = []
    chunks: Chunks
    sessions: list[SessionTotals]
    journal: Journal
    metrics: dict[str, Distribution]
    tags: dict[str, str] = {}
    selected: dict[str, Distribution] = {}  # by threshold: `ttft{topic:math}`
    selected_errors: dict[str, Hits] = {}  # by threshold: `errors{kind:timeout}`
    expect: Expected | None = None  # `None`: no row expects anything, or nobody has looked since
    slim: bool = False  # of a copy whose texts and columns were left out
    bench: Bench | None = None  # only of a bench
    shards: Standing | None = None  # how far they are, where processes share the run
    nodes: list[Node] = []  # its workers on other machines
