"""The part of a summary that only a bench has; `reports/summary.py` holds it.

`None` is "not known" or "did not happen", never 0. Instants are nanoseconds since the session's anchor.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

Level = Literal["OK", "WARN", "INVALID"]
Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Window(Struct, kw_only=True):
    """A span of the run, and what came in it. Rates are `None` where the span or the tokens are not known.

    Tokens of a request count by the share of its token-bearing chunks that arrived inside, its prompt by its
    first token, itself by its end.
    """

    begin_ns: int | None = None
    end_ns: int | None = None
    seconds: float | None = None
    answers: int = 0  # ok, ended inside
    without_usage: int = 0  # answers with a part inside that told no completion tokens: in no sum
    without_input: int = 0  # answers whose prompt counts inside, and was not told
    output_tokens: float | None = None
    input_tokens: float | None = None
    request_throughput: float | None = None
    output_throughput: float | None = None
    input_throughput: float | None = None

    def at_least(self, rate: str) -> bool:
        """Whether a throughput is a lower bound: some answers did not tell their tokens."""
        missing = {"output_throughput": self.without_usage, "input_throughput": self.without_input}
        return bool(missing.get(rate))


class Load(Struct, kw_only=True):
    """What the load was, as the session says. Counts are of the measured phase unless named warmup."""

    sentence: str | None = None
    executor: str | None = None
    is_open: bool = False
    scheduled: int | None = None
    scheduled_warmup: int | None = None
    sent: int | None = None  # requests, turns of conversations included
    arrived: int | None = None  # arrivals that were started; a conversation is one, whatever its turns
    unsent: int | None = None  # arrivals that were due and never started
    unsent_wait_s: float | None = None  # how long those had waited at the end of the window, added up
    held: int | None = None
    mean_gap_ms: float | None = None
    max_in_flight: int | None = None
    concurrency: int | None = None
    peak_in_flight: int | None = None  # of several workers the sum of theirs: at most this
    was_full: bool = False  # an arrival found `max_in_flight`, or its worker's part of it, reached
    schedule_begin_ns: int | None = None
    schedule_end_ns: int | None = None
    steady_begin_ns: int | None = None
    steady_end_ns: int | None = None
    ended_early: str | None = None  # how, where it did not run to its end
    multi_turn: bool = False  # an arrival is a conversation


class Goodput(Struct, kw_only=True):
    """Scheduled requests that met every SLO, of all scheduled."""

    share: float | None = None  # `None`: no SLO, nothing to judge, or some of it unknown
    low: float | None = None  # were the unknown ones all misses; as `share` where there are none
    high: float | None = None  # were they all met
    met: int = 0
    of: int = 0
    unknown: int = 0  # answers without one of the metrics, in neither count
    slo_ms: dict[str, float] = {}


class Unserved(Struct, kw_only=True):
    """Arrivals that nobody served: neither answered nor failed when the run ended."""

    share: float | None = None  # of all that were due; `None` where none was
    n: int = 0
    never_sent: int = 0
    cut: int = 0  # by the run's own deadline
    of: int = 0


class Conversations(Struct, kw_only=True):
    """Of a load whose arrivals are conversations. Requests are their turns."""

    begun: int = 0
    cut_short: int = 0  # a turn failed or was cancelled: how many more would have come is not known
    of: int | None = None  # that were due


class Asked(Struct, kw_only=True):
    """Tokens asked for, and reached; sums over the answers of which both are known."""

    n: int = 0
    untold: int = 0  # answers of which only what was asked for is known
    asked: int | None = None
    reached: int | None = None
    share: float | None = None


class Lag(Struct, kw_only=True):
    """How late the event loop ran."""

    n: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    missed: int | None


class Pauses(Struct, kw_only=True):
    """Garbage collection."""

    pauses: int
    total_ms: float | None
    max_ms: float | None


class Cpu(Struct, kw_only=True):
    """Of the client's processes together, during the load."""

    user_s: float | None
    system_s: float | None
    wall_s: float | None
    share: float | None  # of one core


class Worker(Struct, kw_only=True):
    """One of several processes that the load was spread over."""

    number: int
    lag_p99_ms: float | None = None
    cpu_share: float | None = None  # of one core
    died: str | None = None  # how, where it did not come to its end
    in_flight: int | None = None  # requests it had under way then, as it last said: in no record


class Client(Struct, kw_only=True):
    """What the client did: everything that `validity` judges."""

    sends: int = 0  # judged for lateness: with slots free
    late: int = 0
    late_over_ms: float | None = None
    late_share: float | None = None
    delay_free_n: int = 0  # open loop
    delay_free_p50_ms: float | None = None
    delay_free_p99_ms: float | None = None
    sent_share: float | None = None
    coalesced_share: float | None = None
    lag: Lag | None = None
    gc: Pauses | None = None
    cpu: Cpu | None = None
    workers: list[Worker] = []  # where there were several; `lag` is then that of the worst
    opened: int = 0
    reused: int = 0
    stale_resends: int = 0
    own_errors: int = 0  # failures that are this machine's


class ServerValue(Struct, kw_only=True):
    """One number of the server's own, over the pages of the window."""

    n: int
    mean: float
    max: float


class Server(Struct, kw_only=True):
    """What the server said of itself, from its scraped metrics pages."""

    kind: str | None = None  # vllm, sglang, llamacpp
    pages: int = 0
    inside: int = 0  # of the window
    failed: int = 0  # no page: refused, timed out, not 200
    unknown: int = 0  # pages without a name we know
    bad_lines: int = 0
    values: dict[str, ServerValue] = {}  # running, waiting, kv_cache


class Gpu(Struct, kw_only=True):
    """Throughput of the steady window by GPU; `None` where that, or the price, is not known."""

    gpus: int
    gpu_hour_usd: float | None = None
    output_tokens_per_s: float | None = None  # of each
    usd_per_million_output_tokens: float | None = None


class Label(Struct, kw_only=True):
    """Something about the run that its numbers depend on. No verdict."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    words: str


class Reason(Struct, kw_only=True):
    """Why the client may not have been fit."""

    check: str
    level: Level
    measured: float | None
    limit: float | None
    words: str
    next_step: str


class Validity(Struct, kw_only=True):
    """Whether the client was fit to measure this."""

    level: Level
    reasons: list[Reason] = []


class Verdict(Struct, kw_only=True):
    """One threshold, judged."""

    threshold: str
    metric: str
    value: float | None
    limit: float
    verdict: Outcome
    words: str
    warnings: list[str] = []
    default: bool = False  # nobody wrote it


class Bench(Struct, kw_only=True):
    """Every number that only a bench has."""

    load: Load
    steady: Window
    whole: Window  # from the first measured arrival to the last measured end
    in_flight_mean: float | None = None  # in the steady window: sent or waiting, and not ended
    in_flight_at_least: bool = False  # some waited and were never sent, and how long is not known
    goodput: Goodput = field(default_factory=Goodput)
    unserved: Unserved = field(default_factory=Unserved)
    conversations: Conversations | None = None
    held: int = 0  # measured arrivals that waited because max_in_flight was reached, by their records
    held_max_ms: float | None = None
    missed: int = 0  # arrivals that were never sent: +infinity in second readings
    input_tokens: Asked = field(default_factory=Asked)
    output_tokens: Asked = field(default_factory=Asked)
    client: Client
    server: Server | None = None
    gpu: Gpu | None = None  # where the scenario says how many there are
    fit: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    labels: list[Label] = []
    unjudged: dict[str, str] = {}  # what could not be judged, and why
    validity: Validity
    verdicts: list[Verdict] = []
