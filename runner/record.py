"""The record: one line of the journal, and the one owner of its schema.

Instants are integer nanoseconds since the anchor of the record's session (`CLOCK_MONOTONIC`), `None` where
the thing did not happen; never 0 for "no data". Fields without a default of `UNSET` are written always.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

# History (say here what changed, and keep an old run directory as a fixture):
#   1  first version
#   2  cost, cost_source, cost_bound of records and attempts; base_url of connections and attempts; in the
#      manifest a session's reserved_cost. Version 1 is read as it is: all of them are optional
#   3  held_ns, conversation, turn, asked_input_tokens, asked_output_tokens, all optional; `bench` manifests
SCHEMA_VERSION = 3

Phase = Literal["warmup", "measure"]
Status = Literal["ok", "error", "cancelled"]
CancelledBy = Literal["user", "deadline", "budget", "fail_fast", "abandon", "stop_rule"]
UsageSource = Literal["server", "tokenizer", "none"]
CostSource = Literal["provider", "prices", "none"]
Timer = Literal["connect", "first_token", "token_gap", "byte_idle", "total", "server"]


class ErrorKind(StrEnum):
    """Why a request failed: a closed list. What each is retried for stands in `runner/retry.py`."""

    CONNECT = "connect"  # refused, no such host, connect time-out; or `OWN_FAULT`
    TLS = "tls"  # certificate, handshake
    DISCONNECTED = "disconnected"  # closed before the first byte of an answer
    TIMEOUT = "timeout"  # one of our five timers (`Error.timer` says which), or HTTP 408
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    QUOTA = "quota"
    AUTH = "auth"
    BAD_REQUEST = "bad_request"
    REDIRECT = "redirect"
    BAD_CONTENT_TYPE = "bad_content_type"
    BAD_ENCODING = "bad_encoding"
    BAD_JSON = "bad_json"
    TRUNCATED = "truncated"  # the body ended, or broke, before the answer did
    EMPTY_STREAM = "empty_stream"
    STREAM_ERROR = "stream_error"  # the server said so inside the stream, and not why
    PROTOCOL = "protocol"  # not HTTP
    TOO_LARGE = "too_large"


class Error(Struct, frozen=True):
    """What went wrong with one attempt. Texts are cut, and hold no secret."""

    kind: ErrorKind
    message: str
    http_status: int | None = None
    retryable: bool = False
    request_id: str | None = None
    timer: Timer | None = None
    excerpt: str | None = None


OWN_FAULT = "this machine: "
"""How the message of a `connect` error begins that is this client's own fault, and not the target's."""


class Connection(Struct, frozen=True):
    """The connection an attempt went over."""

    reused: bool | None = None
    connect_ns: int | None = None  # TCP and TLS set-up, where a connection was opened
    base_url: str | None = None  # the endpoint it went to, without login and query


class Attempt(Struct, frozen=True):
    """An earlier, failed attempt, with what was waited before the next one and why."""

    sent_at: int | None
    first_token_at: int | None
    ended_at: int | None
    error: Error
    text: str
    usage_partial: dict[str, Any] | None
    wait_ns: int
    wait_for: str
    base_url: str | None = None  # as in Connection
    cost: float | None = None  # as in Record
    cost_source: CostSource = "none"
    cost_bound: float | UnsetType = UNSET


class Record(Struct):
    """One finished request."""

    id: str
    prompt_id: str
    index: int
    custom_id: str | None
    sample: int
    session: int
    phase: Phase
    scheduled_at: int | None
    sent_at: int | None
    headers_at: int | None
    first_token_at: int | None
    first_content_at: int | None
    last_token_at: int | None
    ended_at: int | None
    status: Status
    cancelled_by: CancelledBy | None = None
    error: Error | None = None
    streamed: bool = True
    finish_reason: str | None = None
    text: str = ""
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    choices: list[dict[str, Any]] | UnsetType = UNSET
    usage: dict[str, Any] | None = None
    usage_source: UsageSource = "none"
    usage_partial: dict[str, Any] | None = None
    # Of the last attempt, in the currency of the provider or of the prices; `None` is unknown. Of an answer
    # that is not ok: of what its usage told, and the bill may be higher.
    cost: float | None = None
    cost_source: CostSource = "none"  # the provider's own number, prices times usage, or unknown
    cost_bound: float | UnsetType = UNSET  # under prices, where the bill may be higher: at most this
    response: dict[str, Any] = msgspec.field(default_factory=dict)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    connection: Connection = Connection()
    held_ns: int | UnsetType = UNSET  # an open loop's arrival waited so long for a place; absent: it did not
    conversation: int | UnsetType = UNSET  # which one, and which of its turns, where it is sent turn by turn
    turn: int | UnsetType = UNSET
    asked_input_tokens: int | UnsetType = UNSET  # what a bench meant the prompt and the answer to be
    asked_output_tokens: int | UnsetType = UNSET
    chunk_us: list[int] | UnsetType = UNSET  # from first_token_at to each token-bearing chunk; the first is 0
    chunk_tokens: list[int] | UnsetType = UNSET
    request: dict[str, Any] | UnsetType = UNSET  # the body as sent
    row: dict[str, Any] = msgspec.field(default_factory=dict)


# A kept connection that was closed while idle says so within a round trip of the request: a reset, or an end
# of file that was already there. A second is a long round trip, and short for an answer to be made and lost.
STALE_NS = 1_000_000_000


def refused_unworked(http_status: int | None) -> bool:
    """Whether a response refuses the request before any work, so that nobody bills it.

    A 5xx is none: a 504 is sent after the work, a 500 in the middle of it. A 408 may come from a gateway that
    waited for an answer. 503 and 529 say that there is no room.
    """
    if http_status is None:
        return False
    return (300 <= http_status < 500 and http_status != 408) or http_status in {503, 529}


class Tokens(Struct, frozen=True, gc=False):
    """The token counts of one usage object; `None` where the server did not say."""

    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    total: int | None = None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Servers write odd things here; a bool, a text or a negative number is no count.
    return value if type(value) is int and 0 <= value < 1 << 53 else None


def tokens(usage: dict[str, Any] | None) -> Tokens:
    """Token counts out of a usage object as a server wrote it (OpenAI's names; DeepSeek's for the cache)."""
    if not usage:
        return Tokens()
    told = usage.get
    made, read = told("completion_tokens_details"), told("prompt_tokens_details")
    reasoning = _count(made.get("reasoning_tokens")) if isinstance(made, dict) else None
    cached = _count(read.get("cached_tokens")) if isinstance(read, dict) else None
    return Tokens(
        prompt=_count(told("prompt_tokens")),
        completion=_count(told("completion_tokens")),
        reasoning=_count(told("reasoning_tokens")) if reasoning is None else reasoning,
        cached=_count(told("prompt_cache_hit_tokens")) if cached is None else cached,
        total=_count(told("total_tokens")),
    )
