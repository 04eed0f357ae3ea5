"""The shapes a report is laid out in, and what fits into them."""

from __future__ import annotations

import re

from msgspec import Struct

from reports.summary import Summary

Fact = tuple[str, str]


class Table(Struct):
    """A heading row and rows; the first column is text, the others are numbers."""

    header: list[str]
    rows: list[list[str]]


# Line ends, control characters, and marks that turn the direction of text or cannot be seen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+")


# What a CI system would carry out where it reads it in a log: GitHub takes `::error::` at the begin of a
# line, where any word may come to stand once lines are broken, and `##[error]` (others `##vso[`) anywhere.
_COMMAND = re.compile(
    r"::(?=(?:add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|notice|remove-matcher|save-state"
    r"|set-env|set-output|stop-commands|warning)[ :])|##(?=\w*\[)",
    re.IGNORECASE,
)


def one_line(text: str) -> str:
    """What a server or a file said, fit for a terminal: on one line, without control characters, and no
    command to the CI system whose log it may stand in.
    """
    return _COMMAND.sub(lambda found: ": :" if found[0] == "::" else "## ", _UNSEEN.sub(" ", text))


def cut_middle(text: str, width: int) -> str:
    """Not longer than that: what tells two URLs or names apart often stands at their end."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def apart(texts: list[str], width: int = 22) -> list[str]:
    """Texts cut in the middle, and no more than leaves different ones different."""
    longest, found = max(map(len, texts), default=0), [cut_middle(text, width) for text in texts]
    while len(set(found)) < len(set(texts)) and width < longest:
        width += 4
        found = [cut_middle(text, width) for text in texts]
    return found


def cut(text: str, width: int = 60) -> str:
    """On one line, and not longer than that."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def names(summaries: list[Summary]) -> list[str]:
    """The runs' folder names, numbered where two share one."""
    found = apart([s.path.rstrip("/").rsplit("/", 1)[-1] for s in summaries])
    if len(set(found)) == len(found):
        return found
    return [f"{n}: {name}" for n, name in enumerate(found, 1)]
