"""What a server says instead of an answer: statuses, bodies, and hints when to come back."""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import formatdate

import msgspec

Headers = tuple[tuple[str, str], ...]
# Takes what `--retry-after` says (s) and the time of day (s since the epoch).
Hint = Callable[[float, float], Headers]

JSON = "application/json"
HTML = "text/html; charset=utf-8"
FAR_S = 3600
_encode = msgspec.json.encode


class Refusal(msgspec.Struct, frozen=True):
    """An answer that is sent at once."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Headers = ()
    hint: Hint | None = None


def error_body(
    message: str, error_type: str, param: str | None = None, code: str | int | None = None
) -> bytes:
    """An error as the OpenAI API says it."""
    return _encode({"error": {"message": message, "type": error_type, "param": param, "code": code}})


def told(status: int, message: str, error_type: str, code: str | int | None = None) -> Refusal:
    """A refusal in the words of the OpenAI API."""
    return Refusal(status, error_body(message, error_type, code=code))


def bare(status: int, payload: object) -> Refusal:
    """A refusal whose JSON is as given."""
    return Refusal(status, _encode(payload))


def page(status: int, title: str) -> Refusal:
    """A web page, as proxies write them."""
    return Refusal(status, html(f"{status} {title}"), HTML)


def html(title: str) -> bytes:
    """A web page that says nothing but its title."""
    return (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1></body></html>\n"
    ).encode()


def moved(status: int, location: str) -> Refusal:
    """A redirect."""
    return Refusal(status, html(f"{status} Moved"), HTML, (("location", location),))


def limited(hint: Hint | None) -> Refusal:
    """A 429 that passes with time."""
    body = error_body(
        "Rate limit reached for requests. Please try again later.", "requests", code="rate_limit_exceeded"
    )
    return Refusal(429, body, hint=hint)


# -- when to come back


def number(seconds: float) -> str:
    """Seconds as a header says them."""
    return f"{seconds:.15g}"


def in_seconds(after_s: float, _now_s: float) -> Headers:
    """`Retry-After: 1`."""
    return (("retry-after", number(after_s)),)


def as_date(after_s: float, now_s: float) -> Headers:
    """`Retry-After: Sun, 06 Nov 1994 08:49:37 GMT`: whole seconds, the next one."""
    return (("retry-after", formatdate(math.ceil(now_s + after_s), usegmt=True)),)


def in_milliseconds(after_s: float, _now_s: float) -> Headers:
    """`retry-after-ms`, and beside it a `Retry-After` that is rounded up."""
    return (("retry-after-ms", number(after_s * 1000)), ("retry-after", str(math.ceil(after_s))))


def as_reset(after_s: float, _now_s: float) -> Headers:
    """`x-ratelimit-reset-*`: only one of the two limits has nothing left."""
    minutes, seconds = divmod(after_s, 60)
    return (
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", f"{int(minutes)}m{number(round(seconds, 6))}s"),
        ("x-ratelimit-remaining-tokens", "5000"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    )


def of_provider(after_s: float, _now_s: float) -> Headers:
    """What a gateway hands on from its provider, under a name of its own."""
    return (("llm_provider-retry-after", number(after_s)),)


def far(_after_s: float, _now_s: float) -> Headers:
    """An hour."""
    return (("retry-after", str(FAR_S)),)


def unreadable(_after_s: float, _now_s: float) -> Headers:
    """Two that make no sense."""
    return (("retry-after-ms", "-1"), ("retry-after", "soon"))
