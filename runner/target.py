"""Where requests go, and how much of it may be shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec

PATHS = {"chat": "/chat/completions", "completions": "/completions"}


# What to do about a URL that `has_stray_login`, which is not shown.
STRAY_LOGIN = (
    "If it ends a login, write / as %2F, ? as %3F and # as %23 in that; elsewhere write the @ as %40. "
    "(The URL is not shown: it may hold a password.)"
)


class TargetError(ValueError):
    """A base URL that cannot be used. The text says why and what to do."""


class Target(msgspec.Struct, frozen=True):
    """Where requests go. `base_url` holds no userinfo; `headers` and `proxy` may, and are never written."""

    base_url: str
    headers: dict[str, str] = {}
    proxy: str | None = None  # to go through, with its login

    def url(self, api: str) -> str:
        """The endpoint of an API family (`chat`, `completions`)."""
        parts = urlsplit(self.base_url)
        return urlunsplit(parts._replace(path=parts.path + PATHS[api]))

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.base_url).netloc


def split_http(url: str, flag: str, problem: str) -> SplitResult:
    """The parts of a URL that a flag was given.

    Raises:
        TargetError: `problem`, or that it may hold a login where none can be read.
    """
    try:
        parts = urlsplit(url.strip())
        stray = has_stray_login(parts)
        _ = stray or parts.port
    except ValueError:
        raise TargetError(problem) from None
    if stray:
        raise TargetError(f"{flag} has an @ behind its host. {STRAY_LOGIN}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise TargetError(problem)
    return parts


def make_target(base_url: str, api_key: str | None, headers: Mapping[str, str] | None = None) -> Target:
    """A target from what the user gave. A URL without a path gets the `/v1` nearly every server wants.

    Raises:
        TargetError: the URL is no http(s) URL, may hold a login where none can be read, or one beside a key.
    """
    shown, mark, _ = redacted_url(base_url).partition("?")
    problem = f"--base-url {shown + mark!r} is not a URL like http://127.0.0.1:8000/v1"
    parts = split_http(base_url, "--base-url", problem)
    path = parts.path.rstrip("/") or "/v1"
    for suffix in PATHS.values():
        path = path.removesuffix(suffix)
    sent = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    sent["User-Agent"] = "streamgauge"
    if parts.username is not None:
        if api_key is not None:
            raise TargetError("--base-url holds a user name and an API key is given as well: leave one out")
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        sent["Authorization"] = "Basic " + base64.b64encode(login).decode()
    if api_key is not None:
        sent["Authorization"] = f"Bearer {api_key}"
    for name, value in (headers or {}).items():
        # Names differ in case only on paper: the user's own replaces ours, and is not sent beside it.
        sent = {ours: kept for ours, kept in sent.items() if ours.lower() != name.lower()}
        sent[name] = value
    netloc = parts.netloc.rpartition("@")[2]
    return Target(urlunsplit((parts.scheme, netloc, path, parts.query, "")), sent)


def has_stray_login(parts: SplitResult) -> bool:
    """Whether a login may have been taken for host and path: with a bare `/`, `?` or `#` in its password."""
    return "@" in parts.path or "@" in parts.query or "@" in parts.fragment


def redacted_url(url: str) -> str:
    """The URL without its login; what cannot be read as one is not shown at all.

    An `@` may stand behind the host: it may be a login that ends there, so nothing before it is shown.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "[unreadable]"
    if has_stray_login(parts):
        scheme = f"{parts.scheme}://" if parts.netloc and parts.scheme else ""
        return f"{scheme}...@{url.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def without_query(url: str) -> str:
    """The URL with its query left out, which may hold a key."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="..." if parts.query else ""))
