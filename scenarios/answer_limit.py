"""How many tokens the answer to a body may have at most: the one owner of that question.

Only a plain whole number above 0 is a limit. What a server makes of `1000.0`, `"8"`, `-1` or `true` is its
own affair, and no ground to reckon on; `null` is as good as nothing.
"""

from collections.abc import Mapping
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens")
"""The names a limit goes by. Where both are given the greater one counts."""

_COUNTS = ("n", "best_of")
ASK_FOR_MORE = frozenset({*_COUNTS, "min_tokens", "ignore_eos"})
"""What a request for one token leaves out: several answers, or longer ones than the limit."""
_MOST = 1 << 53  # beyond it a number in JSON is no whole one any more


def why_unlimited(body: Mapping[str, Any]) -> str | None:
    """Why nobody can say how long the answer may be; `None` where it is known."""
    for name in (*LIMITS, *_COUNTS):
        value = body.get(name)
        if value is not None and not _is_plain(value):
            return f"{name} is {_shown(value)}, not a whole number above 0"
    if all(body.get(name) is None for name in LIMITS):
        return "there is no limit of tokens"
    return None


def most_tokens(body: Mapping[str, Any]) -> int | None:
    """The tokens an answer may have at most, over all its choices; `None` where nobody can say."""
    if why_unlimited(body) is not None:
        return None
    limit: int = max(body[name] for name in LIMITS if body.get(name) is not None)
    each: int = max(body.get(name) or 1 for name in _COUNTS)
    prompts: Any = body.get("prompt")
    several = isinstance(prompts, list) and any(isinstance(prompt, str | list) for prompt in prompts)
    return limit * each * (len(prompts) if several else 1)


def choices_asked(body: Mapping[str, Any]) -> int:
    """How many choices the body asks for; 1 where its `n` is no number to go by."""
    asked: Any = body.get("n")
    return asked if _is_plain(asked) else 1


def _is_plain(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)[:40]
