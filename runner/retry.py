"""Which failures are tried again, how often, and after how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

from runner.record import ErrorKind

# Attempts after the first that a kind may cost, at most (`--retries` may allow fewer); absent: not retried.
# A time-out may be billed twice, a server that does not speak HTTP will not learn it.
LIMITS: dict[ErrorKind, int | None] = {
    ErrorKind.CONNECT: None,
    ErrorKind.DISCONNECTED: None,
    ErrorKind.TIMEOUT: 2,
    ErrorKind.RATE_LIMIT: None,
    ErrorKind.OVERLOADED: None,
    ErrorKind.SERVER_ERROR: None,
    ErrorKind.BAD_ENCODING: None,
    ErrorKind.BAD_JSON: None,
    ErrorKind.TRUNCATED: None,
    ErrorKind.EMPTY_STREAM: None,
    ErrorKind.PROTOCOL: 1,
}
BASE_S = 0.5
CAP_S = 60.0
HINT_CAP_S = 600.0  # a server that asks for more than this gets its request back as failed

WaitFor = Literal["retry-after-ms", "retry-after", "backoff", "stale_connection"]


def is_retryable(kind: ErrorKind) -> bool:
    """Whether the kind passes with time, or with another attempt."""
    return kind in LIMITS


def attempts_left(kind: ErrorKind, retries: int, made: int) -> bool:
    """Whether one more attempt is allowed, `made` retries having been made under a limit of `retries`."""
    if kind not in LIMITS:
        return False
    limit = LIMITS[kind]
    return made < (retries if limit is None else min(retries, limit))


def wait_s(
    headers: Mapping[str, str], made: int, rng: random.Random, wall_s: float
) -> tuple[float, WaitFor] | None:
    """How long to wait before the next attempt, and on whose word.

    Args:
        headers: of the response that failed (case-insensitive), empty where there was none.
        made: retries made so far.
        rng: where the jitter comes from.
        wall_s: the time of day, s since the epoch, for hints that name one.

    Returns:
        Seconds and their reason; `None` where the server asks for longer than `HINT_CAP_S`. Without a
        readable hint the wait is exponential with full jitter: uniform in 0 to min(60, 0.5 * 2**made) s.
    """
    hint = _hint(headers, wall_s)
    if hint is None:
        return rng.random() * min(CAP_S, BASE_S * 2**made), "backoff"
    return hint if hint[0] <= HINT_CAP_S else None


def _hint(headers: Mapping[str, str], wall_s: float) -> tuple[float, WaitFor] | None:
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        seconds = _number(text)
        if seconds is not None:
            seconds *= scale
        elif name == "retry-after":
            seconds = _date(text, wall_s)
        # Absurd or negative hints count as absent.
        if seconds is not None and 0 <= seconds <= 7 * 86_400:
            return seconds, "retry-after-ms" if name == "retry-after-ms" else "retry-after"
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN is not itself


def _date(text: str, wall_s: float) -> float | None:
    try:
        return parsedate_to_datetime(text.strip()).timestamp() - wall_s
    except (ValueError, TypeError, OverflowError):
        return None
