"""The quickest way through a token: a read that differs from the last only in its text. No socket, no clock.

In a steady stream every read is one event, and from token to token only one JSON string in it changes. Once
an event has been read in full, the bytes before and after that string are kept; a read that begins and ends
with exactly those, and whose middle decodes as one JSON string, says the same as the last with another text.
Where the server is faster than its reader, many such events come in one read, and their texts are decoded as
one list. On any doubt it is read in full.
"""

from __future__ import annotations

import re

import msgspec

_LITERAL = re.compile(rb'"(?:content|text)"\s*:\s*("(?:[^"\\]|\\.)*")')
_BLANK = b"\n\n"
_LESSONS = 4  # events kept in vain before giving up: some servers pad every event with other bytes
_decode = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[str]).decode


class Steady:
    """What is known of the shape of a stream's events."""

    __slots__ = ("_after", "_before", "_cut", "_edge", "_lessons", "_seam", "_shortest")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._seam = b""  # what stands between two texts in one read
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

    def texts_of(self, data: bytes, begin: int) -> tuple[list[str], int]:
        """The texts of the events of the known shape that stand at `begin`, and where they end.

        None of them, and `begin`, on any doubt. No text is empty.
        """
        nothing: tuple[list[str], int] = ([], begin)
        before, after, seam = self._before, self._after, self._seam
        if self._shortest == 0 or not after.endswith(_BLANK) or not data.startswith(before, begin):
            return nothing
        first, last = begin + len(before), data.rfind(seam, begin)
        close = data.find(after, first if last < 0 else last + len(seam))
        if close < 0:
            close = last  # the last of them has not all come
        if close < 0:
            return nothing
        # Not `split(seam)`: a long needle is prepared anew for each piece, which costs more than reading it.
        edge, cut = len(before), 2 - len(after)
        middles = [part[edge:cut] for part in data[begin : close - cut].split(_BLANK)]
        if seam.join(middles) != data[first:close] or any(map(_is_open, middles)):
            return nothing
        try:
            texts = _decode_list(b'["%b"]' % b'","'.join(middles))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return nothing
        if len(texts) != len(middles) or "" in texts:
            return nothing
        self._lessons = 0
        return texts, close + len(after)

    @property
    def known(self) -> bool:
        """Whether there is a shape to go by."""
        return self._shortest > 0

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
        self._seam = self._after + self._before
        self._edge, self._cut = start, len(data) - end
        self._shortest = len(self._before) + len(self._after) - 1


def _is_open(text: bytes) -> bool:
    """Whether a quote behind this part of a JSON string would be one of the text and not its end."""
    return text.endswith(b"\\") and (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
