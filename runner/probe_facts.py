"""What a probe has seen, all of it, and what can be read off it. No socket, no clock."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from runner.errors import one_line
from runner.probe_cancel import Verdict
from runner.probe_watch import Seen
from runner.prober import Asking
from runner.record import Error, tokens

Mark = Literal["ok", "note", "problem"]
_SHOWN_CHARS = 300


class Finding(msgspec.Struct, frozen=True):
    """One question, what was seen, and the flag that follows from it."""

    name: str
    verdict: Mark
    seen: str
    flag: str | None = None


class Facts(msgspec.Struct, kw_only=True):
    """All a probe has seen. `None`: not asked, or not seen."""

    api: str
    given_url: str
    base_url: str
    model: str
    max_tokens: int
    first: Seen
    listed: list[str] | None = None
    asking: Asking = Asking()
    refused_usage: Error | None = None
    refused_limit: Error | None = None
    again: Seen | None = None
    unasked: Seen | None = None
    other_limit: Seen | None = None  # asked with max_completion_tokens, where max_tokens was not heeded
    unknown_model: Seen | None = None
    wrong_param: Seen | None = None
    cancel: Verdict | None = None
    answers: list[Seen] = []
    stale: int = 0
    verified: bool = True


def shown(text: str, limit: int = _SHOWN_CHARS) -> str:
    """A server's words for a terminal: one line, no control characters, not endless."""
    line = one_line(text)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def tokens_told(seen: Seen) -> int | None:
    """Completion tokens by the server's count."""
    return tokens(seen.usage).completion


def tokens_a_chunk(seen: Seen) -> float | None:
    """Tokens in one chunk; `None` where they are not told, or thought and not shown."""
    told = tokens_told(seen)
    if not told or not seen.chunks:
        return None
    if not seen.reasoning_in:
        told -= tokens(seen.usage).reasoning or 0
    return told / seen.chunks if told > 0 else None


def cached_field(usage: dict[str, Any] | None) -> str | None:
    """The name under which a usage object tells cached tokens."""
    details = (usage or {}).get("prompt_tokens_details")
    if isinstance(details, dict) and details.get("cached_tokens") is not None:
        return "prompt_tokens_details.cached_tokens"
    return "prompt_cache_hit_tokens" if (usage or {}).get("prompt_cache_hit_tokens") is not None else None


def honoured(seen: Seen, limit: int) -> bool | None:
    """Whether an answer kept to its limit; `None` where it cannot be told."""
    told = tokens_told(seen)
    if seen.cut or (told is not None and told > limit):
        return False
    return True if seen.finish == "length" else None


def cost_of(seen: Seen) -> float | None:
    """The provider's own price of an answer."""
    value = (seen.usage or {}).get("cost")
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good and value is not None and value >= 0 else None
