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
SCHEMA_VERSION = 1

Phase = Literal["warmup", "measure"]
Status = Literal["ok", "error", "cancelled"]
CancelledBy = Literal["user", "deadline", "budget", "fail_fast", "abandon", "stop_rule"]
UsageSource = Literal["server", "tokenizer", "none"]
Timer = Literal["connect", "first_token", "token_gap", "byte_idle", "total", "server"]


class ErrorKind(StrEnum):
    """Why a request failed: a closed list. What each is retried for stands in `runner/retry.py`."""

    CONNECT = "connect"  # refused, no such host, connect time-out
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


class Connection(Struct, frozen=True):
    """The connection an attempt went over."""

    reused: bool | None = None
    connect_ns: int | None = None  # TCP and TLS set-up, where a connection was opened


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
    response: dict[str, Any] = msgspec.field(default_factory=dict)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    connection: Connection = Connection()
    chunk_us: list[int] | UnsetType = UNSET  # from first_token_at to each token-bearing chunk; the first is 0
    chunk_tokens: list[int] | UnsetType = UNSET
    request: dict[str, Any] | UnsetType = UNSET  # the body as sent
    row: dict[str, Any] = msgspec.field(default_factory=dict)
