"""Secrets taken out of texts that servers and libraries made, in whatever form they were written there.

A server may echo a key as it was sent, or as JSON (`\\u002b`, `\\/`), in a URL (`%2B`), in HTML (`&#43;`), or
as base64, alone or inside something longer. What can be escaped in many ways is not listed: the text is
unescaped, the secret found in it, and the place cut out of the text as it was. Of base64 there are three
forms a secret, one for every place its first byte can have in a group of three.
"""

from __future__ import annotations

import base64
import html
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from runner.target import Target

_SHORTEST = 4  # what is shorter is no secret, and stands in every text
_SHORTEST_TAIL = 6  # letters of a secret that betray something of it
_DEEPEST = 3  # times a text may have been escaped over
_DEEPEST_KEPT = 200  # levels of a JSON value, as in `chunks.clean`
_ESCAPES = re.compile(
    r"(?:\\+u[0-9a-fA-F]{4})+|(?:%[0-9a-fA-F]{2})+"
    r"|&(?:#[0-9]{1,4}|#x[0-9a-fA-F]{1,4}|quot|amp|apos|lt|gt);|\\+"
)
_HALF_ESCAPE = re.compile(r"(?:\\+(?:u[0-9a-fA-F]{0,3})?|%[0-9a-fA-F]?|&#?[0-9a-z]{0,4})\Z")
_LONGEST_HALF = 16
_CODES = re.compile(r"u([0-9a-fA-F]{4})")

Span = tuple[int, int]


class Redactor:
    """Takes secrets out of texts.

    The texts are excerpts: one that ends inside a secret must not keep its first half.
    """

    def __init__(self, secrets: list[str]) -> None:
        self.secrets = secrets  # for another process to make the same of
        plain = {form for secret in secrets for form in (secret, _unescaped(secret))}
        plain = {form for form in plain if len(form) >= _SHORTEST}
        forms = plain | {form for secret in plain for form in _in_base64(secret)}
        # With their beginnings: one look for those finds whole secrets and halves.
        self._forms = [(form, form[:_SHORTEST_TAIL]) for form in sorted(forms)]

    def __call__(self, text: str | None) -> str | None:
        """The text with every secret replaced."""
        return None if text is None else self._cut(text)

    def deep(self, value: Any, depth: int = 0) -> Any:
        """A JSON value with every secret in its texts replaced; what lies too deep becomes `None`."""
        if isinstance(value, str):
            return self._cut(value)
        if isinstance(value, list | dict) and depth > _DEEPEST_KEPT:
            return None
        if isinstance(value, list):
            return [self.deep(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self._cut(key): self.deep(item, depth + 1) for key, item in value.items()}
        return value

    def _cut(self, text: str) -> str:
        spans = sorted(self._spans(text, _DEEPEST))
        if not spans:
            return text
        out, done = [], 0
        for start, end in spans:
            if end <= done:
                continue
            if start >= done:
                out += [text[done:start], "[secret]"]
            done = end
        return "".join([*out, text[done:]])

    def _spans(self, text: str, depth: int) -> Iterator[Span]:
        """Where secrets stand in the text, as it is or unescaped."""
        yield from self._as_it_is(text)
        half = _HALF_ESCAPE.search(text, max(len(text) - _LONGEST_HALF, 0))
        whole = text if half is None else text[: half.start()]
        if half is not None:
            yield from ((start, len(text)) for start, end in self._as_it_is(whole) if end == len(whole))
        undone = _Undone(whole) if depth and _ESCAPES.search(whole) else None
        if undone is not None:
            for span in self._spans(undone.text, depth - 1):
                start, end = undone.source(*span)
                yield start, len(text) if end == len(whole) else end

    def _as_it_is(self, text: str) -> Iterator[Span]:
        for form, begin in self._forms:
            start = text.find(begin)
            while start >= 0:
                if text.startswith(form, start):
                    yield start, start + len(form)
                elif len(text) - start < len(form) and form.startswith(text[start:]):
                    yield start, len(text)
                start = text.find(begin, start + 1)


class _Undone:
    """A text with its escapes undone, and where in the text every part of that came from."""

    def __init__(self, text: str) -> None:
        self._at: list[int] = []  # places in the unescaped text at which its parts begin,
        self._from: list[int] = []  # and in the text as it was
        self._is_escape: list[bool] = []
        self._parts: list[str] = []
        self._size = 0
        done = 0
        for match in _ESCAPES.finditer(text):
            self._add(text[done : match.start()], done, is_escape=False)
            self._add(_undone(match[0]), match.start(), is_escape=True)
            done = match.end()
        self._add(text[done:], done, is_escape=False)
        self._from.append(len(text))
        self.text = "".join(self._parts)

    def _add(self, part: str, source: int, *, is_escape: bool) -> None:
        self._at.append(self._size)
        self._from.append(source)
        self._is_escape.append(is_escape)
        self._parts.append(part)
        self._size += len(part)

    def source(self, start: int, end: int) -> Span:
        """The place in the text as it was that became this one. Of an escape, all."""
        first, last = bisect_right(self._at, start) - 1, bisect_right(self._at, end - 1) - 1
        begin = self._from[first] + (0 if self._is_escape[first] else start - self._at[first])
        if self._is_escape[last]:
            return begin, self._from[last + 1]
        return begin, self._from[last] + end - self._at[last]


def _undone(escape: str) -> str:
    if escape[0] == "%":
        return unquote(escape)
    if escape[0] == "&":
        return html.unescape(escape)
    # Of a backslash before another letter nothing is left: those of a secret are dropped likewise.
    codes = "".join(chr(int(code, 16)) for code in _CODES.findall(escape))
    return codes.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(text: str) -> str:
    for _ in range(_DEEPEST):
        text = _Undone(text).text
    return text


def _in_base64(secret: str) -> Iterator[str]:
    """What of the secret looks the same in base64 whatever stands beside it; in both alphabets."""
    data = secret.encode("utf-8", "replace")
    for before in range(3):
        letters = base64.b64encode(bytes(before) + data).decode()
        core = letters[(8 * before + 5) // 6 : (before + len(data)) * 8 // 6]
        if len(core) >= _SHORTEST_TAIL:
            yield core
            yield core.replace("+", "-").replace("/", "_")


def secrets_of(target: Target, base_url: str, api_key: str | None, headers: Mapping[str, str]) -> list[str]:
    """Everything that must never be written: key, header values, the URL's login and what is made of them."""
    values = [api_key or "", *headers.values(), target.headers.get("Authorization", "")]
    found = [value for _, value in parse_qsl(urlsplit(base_url).query) if len(value) >= 8]
    found += [*values, *(value.rpartition(" ")[2] for value in values), *_login_of(base_url)]
    return [text for text in found if text]


def proxy_secrets(proxy: str | None) -> list[str]:
    """What must never be written of a proxy's URL."""
    found = _login_of(proxy or "")
    found += [base64.b64encode(login.encode()).decode() for login in found]
    return [text for text in found if text]


def _login_of(url: str) -> list[str]:
    login = urlsplit(url.strip()).netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    # Where there is no password the name is the key.
    logins = [login, password or user]
    return [*logins, *map(unquote, logins)]
