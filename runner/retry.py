"""Which failures are tried again, how often, and after how long."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC
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

# A gateway hands on what its provider said under a prefix of its own (LiteLLM), some of it bare as well.
_HANDED_ON = "llm_provider-"
_ABSURD_S = 7 * 86_400
_EPOCH_S = 1e9  # a number above this names a time of day (s, or ms), no duration
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")

WaitFor = Literal[
    "retry-after-ms", "retry-after", "x-ratelimit-reset", "backoff", "stale_connection", "other_endpoint"
]


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
    hint = hint_s(headers, wall_s)
    if hint is None:
        return backoff_s(made, rng), "backoff"
    return hint if hint[0] <= HINT_CAP_S else None


def backoff_s(made: int, rng: random.Random) -> float:
    """The wait where nobody said how long: exponential, with full jitter."""
    return rng.random() * min(CAP_S, BASE_S * float(2 ** min(made, 10)))


def hint_s(headers: Mapping[str, str], wall_s: float) -> tuple[float, WaitFor] | None:
    """What the server asks for, in seconds, and in which of its headers; `None` where it does not say."""
    for prefix in ("", _HANDED_ON):
        milliseconds = headers.get(prefix + "retry-after-ms", "")
        seconds = _number(milliseconds)
        if seconds is not None and _is_sane(seconds / 1000):
            return seconds / 1000, "retry-after-ms"
        text = headers.get(prefix + "retry-after", "")
        seconds = _number(text)
        if seconds is None:
            seconds = _date(text, wall_s)
        if seconds is not None and _is_sane(seconds):
            return seconds, "retry-after"
    resets = [_reset(_either(headers, f"x-ratelimit-reset-{what}"), wall_s) for what in _spent(headers)]
    waits = [seconds for seconds in resets if seconds is not None and _is_sane(seconds)]
    return (max(waits), "x-ratelimit-reset") if waits else None


def _either(headers: Mapping[str, str], name: str) -> str:
    """A header's value, or that of what the gateway handed on."""
    return headers.get(name) or headers.get(_HANDED_ON + name, "")


def _spent(headers: Mapping[str, str]) -> list[str]:
    """Which rate limits have nothing left."""
    limits = ("requests", "tokens", "input-tokens", "output-tokens")
    return [what for what in limits if _number(_either(headers, f"x-ratelimit-remaining-{what}")) == 0]


def _is_sane(seconds: float) -> bool:
    """Absurd or negative hints count as absent."""
    return 0 <= seconds <= _ABSURD_S


def _reset(text: str, wall_s: float) -> float | None:
    """Seconds until a limit is reset: `6m0s`, `120ms`, plain seconds, or a time of day (s or ms)."""
    number = _number(text)
    if number is not None:
        if number < _EPOCH_S:
            return number
        return (number / 1000 if number > 1000 * _EPOCH_S else number) - wall_s
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match[0]:
        return None
    scales = (86_400, 3600, 60, 1, 0.001)
    return sum(float(part) * scale for part, scale in zip(match.groups(), scales, strict=True) if part)


def _number(text: str) -> float | None:
    try:
        return float(text.strip())  # NaN and infinity too: neither is sane
    except ValueError:
        return None


def _date(text: str, wall_s: float) -> float | None:
    try:
        date = parsedate_to_datetime(text.strip())
        # HTTP's dates are GMT, also where a server forgets to say so.
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - wall_s
    except (ValueError, TypeError, OverflowError):
        return None
