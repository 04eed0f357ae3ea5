"""Where requests go, and what must never be written of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import msgspec

PATHS = {"chat": "/chat/completions", "completions": "/completions"}


class TargetError(ValueError):
    """A base URL that cannot be used. The text says why and what to do."""


class Target(msgspec.Struct, frozen=True):
    """Where requests go. `base_url` holds no userinfo; `headers` may hold secrets and are never written."""

    base_url: str
    headers: dict[str, str] = {}

    def url(self, api: str) -> str:
        """The endpoint of an API family (`chat`, `completions`)."""
        parts = urlsplit(self.base_url)
        return urlunsplit(parts._replace(path=parts.path + PATHS[api]))

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.base_url).netloc


def make_target(base_url: str, api_key: str | None, headers: Mapping[str, str] | None = None) -> Target:
    """A target from what the user gave. A URL without a path gets the `/v1` nearly every server wants.

    Raises:
        TargetError: the URL is no http(s) URL, or holds a login beside a key.
    """
    problem = f"--base-url {redacted_url(base_url)!r} is not a URL like http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(base_url.strip())
        _ = parts.port
    except ValueError:
        raise TargetError(problem) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise TargetError(problem)
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


def redacted_url(url: str) -> str:
    """The URL without its login; what cannot be read as one is not shown at all."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "[unreadable]"
    if not parts.netloc:  # no URL, or a path: a login mistyped into it is none of anybody's business
        return url.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def without_query(url: str) -> str:
    """The URL with its query left out, which may hold a key."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="..." if parts.query else ""))


_SHORTEST_TAIL = 6  # letters of a secret that betray something of it


class Redactor:
    """Takes secrets out of texts that servers and libraries made.

    The texts are excerpts: one that ends inside a secret must not keep its first half.
    """

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = sorted({s for s in secrets if len(s) >= 4}, key=len, reverse=True)

    def __call__(self, text: str | None) -> str | None:
        """The text with every secret replaced."""
        if text is None:
            return None
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        for secret in self._secrets:
            for size in range(len(secret) - 1, _SHORTEST_TAIL - 1, -1):
                if text.endswith(secret[:size]):
                    return text[:-size] + "[secret]"
        return text


def secrets_of(target: Target, base_url: str, api_key: str | None, headers: Mapping[str, str]) -> list[str]:
    """Everything that must never be written: key, header values, the URL's login and what is made of them."""
    login = urlsplit(base_url.strip()).netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    # Where there is no password the name is the key.
    logins = [login, password or user]
    values = [api_key or "", *headers.values(), target.headers.get("Authorization", "")]
    found = [value for _, value in parse_qsl(urlsplit(base_url).query) if len(value) >= 8]
    found += [*values, *(value.rpartition(" ")[2] for value in values), *logins, *map(unquote, logins)]
    return [text for text in found if text]


def proxy_secrets(proxy: str | None) -> list[str]:
    """What must never be written of a proxy's URL."""
    login = urlsplit(proxy or "").netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    found = [login, password or user, unquote(login), unquote(password or user)]
    if login:
        found.append(base64.b64encode(unquote(login).encode()).decode())
    return [text for text in found if text]
