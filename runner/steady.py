"""The quickest way through a token: a read that differs from the last only in its text. No socket, no clock.

In a steady stream every read is one event, and from token to token only one JSON string in it changes. Once
an event has been read in full, the bytes before and after that string are kept; a read that begins and ends
with exactly those, and whose middle decodes as one JSON string, says the same as the last with another text.
On any doubt it is read in full.
"""

from __future__ import annotations

import re

import msgspec

_LITERAL = re.compile(rb'"(?:content|text)"\s*:\s*("(?:[^"\\]|\\.)*")')
_LESSONS = 4  # events kept in vain before giving up: some servers pad every event with other bytes
_decode = msgspec.json.Decoder(str).decode


class Steady:
    """What is known of the shape of a stream's reads."""

    __slots__ = ("_after", "_before", "_cut", "_edge", "_lessons", "_shortest")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._edge = 0  # where the string's opening quote stands
        self._cut = 0  # how far from the end its closing quote ends
        self._shortest = 0
        self._lessons = 0

    def text_of(self, data: bytes) -> str | None:
        """The text of a read of the known shape; `None` on any doubt. Never empty."""
        if not (
            data.endswith(self._after) and data.startswith(self._before) and len(data) > self._shortest > 0
        ):
            return None
        try:
            text = _decode(data[self._edge : len(data) - self._cut])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._lessons = 0
        return text or None

    def forget(self) -> None:
        """The stream has moved on to another id: what is known would speak for the one before."""
        self._shortest = 0

    def learn(self, data: bytes, text: str) -> None:
        """Keep the shape of a read that was one event of one text and nothing else, read in full."""
        self._shortest = 0  # what was known is not what came last
        if self._lessons >= _LESSONS:
            return
        self._lessons += 1
        found = list(_LITERAL.finditer(data))
        if len(found) != 1:
            return
        start, end = found[0].span(1)
        try:
            if _decode(found[0][1]) != text:
                return
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        self._before, self._after = data[: start + 1], data[end - 1 :]
        self._edge, self._cut = start, len(data) - end
        self._shortest = len(self._before) + len(self._after) - 1
