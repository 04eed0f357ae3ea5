"""Conversations: ShareGPT files, rows of messages or turns, and how one is sent turn by turn.

A conversation is sent with the model's own answers in its history, not with those that were recorded: a
server that caches prefixes then finds what it has just written. So only the user's turns come from the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from scenarios.formats import Columns, RowError, json_kind
from scenarios.request import Request
from scenarios.source import PromptError

CHARS_PER_TOKEN = 4
"""Where no tokenizer counts a recorded answer: the usual English of most tokenizers."""

_USER = frozenset({"human", "user"})
_MODEL = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard"})
_SYSTEM = frozenset({"system", "developer"})

Message = dict[str, Any]
Count = Callable[[str], int]


class Turn(msgspec.Struct, frozen=True):
    """What the user says, and how long the recorded answer is, where there is one."""

    message: Message
    answer_tokens: int | None = None


class Dialogue(msgspec.Struct, frozen=True):
    """A conversation as recorded: what stands before it, and the user's turns."""

    before: tuple[Message, ...]
    turns: tuple[Turn, ...]
    name: str | None = None

    @property
    def opening(self) -> list[Message]:
        """The messages of the first request."""
        return [*self.before, self.turns[0].message]


class Conversation:
    """One conversation on its way. Keeps what was said.

    Args:
        dialogue: its user's part.
        make: turn, messages, the user's own messages so far -> the request and the tokens asked of it.
        think: turn -> how long the user thinks before it.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        make: Callable[[int, list[Message], list[Message]], tuple[Request, int | None]],
        think: Callable[[int], float],
    ) -> None:
        self._turns = dialogue.turns
        self._make, self._think = make, think
        self._said = dialogue.opening
        self._own = dialogue.opening
        self._turn = 0

    def next(self, answer: str) -> tuple[float, Request, int | None] | None:
        """Return the think time, the next request, and the tokens asked of it; `None` where it is over."""
        self._turn += 1
        if self._turn >= len(self._turns):
            return None
        message = self._turns[self._turn].message
        # Half a surrogate pair, which a server may send, is no text: the body could not be encoded.
        answer = answer.encode("utf-8", "replace").decode()
        # New lists: the bodies of earlier turns are still being written into records.
        self._said = [*self._said, {"role": "assistant", "content": answer}, message]
        self._own = [*self._own, message]
        request, asked = self._make(self._turn, self._said, self._own)
        return self._think(self._turn), request, asked


def of_row(columns: Columns, count: Count | None = None) -> Dialogue:
    """Return the conversation of a row with `turns`, `messages` or `prompt`.

    Raises:
        RowError: there is none, and why.
    """
    given = [name for name in ("turns", "messages", "prompt") if columns.get(name) is not None]
    if len(given) != 1:
        names = " and ".join(given) or "none of them"
        raise RowError(f"a conversation needs turns, messages or a prompt, and the row gives {names}")
    value = columns[given[0]]
    if given[0] == "prompt":
        return _of_turns([value], {})
    if isinstance(value, str):  # a cell of a table
        with suppress(msgspec.DecodeError):
            value = msgspec.json.decode(value)
    if not isinstance(value, list):
        raise RowError(f"{given[0]} is {json_kind(value)}, not a list")
    if given[0] == "turns":
        return _of_turns(value, columns)
    return _of_messages(value, count)


def read_sharegpt(path: str, count: Count | None = None) -> tuple[list[Dialogue], int]:
    """Return the conversations of a ShareGPT file (a JSON list, or JSON lines), and how many were left out.

    Left out is what has no user's turn with text, or a voice that is not known: the published files have
    thousands of both. An answer before the first user's turn is left out as well.

    Raises:
        PromptError: the file cannot be read, or holds no conversation.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PromptError(
            f"cannot be read: {error.strerror or error}", file=path, hint="check the file"
        ) from error
    shares = _shares(path, data.removeprefix(b"\xef\xbb\xbf").strip())
    found = [dialogue for share in shares if (dialogue := _of_share(share, count)) is not None]
    if not found:
        raise PromptError(
            "holds no conversation",
            file=path,
            hint='a row is {"id": ..., "conversations": [{"from": "human", "value": ...}, ...]}',
        )
    return found, len(shares) - len(found)


class _Said(msgspec.Struct):
    voice: str = msgspec.field(name="from")
    value: str | None = None


class _Share(msgspec.Struct):
    conversations: list[_Said] | None = None
    id: str | int | None = None


def _shares(path: str, data: bytes) -> list[_Share]:
    if data[:1] == b"[":
        try:
            return msgspec.json.decode(data, type=list[_Share])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PromptError(f"not a ShareGPT file: {error}", file=path, hint="mend the file") from None
    decode = msgspec.json.Decoder(_Share).decode
    shares = []
    for line, raw in enumerate(data.split(b"\n"), start=1):
        if raw.strip():
            try:
                shares.append(decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise PromptError(
                    f"not a ShareGPT row: {error}", file=path, line=line, hint="mend the line"
                ) from None
    return shares


def _of_share(share: _Share, count: Count | None) -> Dialogue | None:
    before: list[Message] = []
    turns: list[Turn] = []
    for said in share.conversations or ():
        voice, text = said.voice.lower(), said.value or ""
        if voice not in _USER | _MODEL | _SYSTEM:
            return None
        if not text.strip():
            continue
        if voice in _USER:
            turns.append(Turn({"role": "user", "content": text}))
        elif voice in _MODEL and turns:
            turns[-1] = _answered(turns[-1], text, count)
        elif voice in _SYSTEM and not turns:
            before.append({"role": "system", "content": text})
    if not turns:
        return None
    return Dialogue(tuple(before), tuple(turns), None if share.id is None else str(share.id))


def _of_turns(values: list[Any], columns: Columns) -> Dialogue:
    if not values:
        raise RowError("turns is an empty list")
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise RowError(f"turns[{place}] is {json_kind(value)}, not text")
        if not value.strip():
            raise RowError(f"turns[{place}] is empty")
    system = columns.get("system")
    before = ({"role": "system", "content": system},) if isinstance(system, str) and system else ()
    return Dialogue(before, tuple(Turn({"role": "user", "content": value}) for value in values))


def _of_messages(messages: list[Any], count: Count | None) -> Dialogue:
    before: list[Message] = []
    turns: list[Turn] = []
    for place, given in enumerate(messages):
        if not isinstance(given, dict):
            raise RowError(f"messages[{place}] is {json_kind(given)}, not an object")
        message = {key: value for key, value in given.items() if value is not None}  # Parquet fills keys up
        role = message.get("role")
        if role in _SYSTEM and not turns:
            before.append(message)
        elif role == "user" and message.get("content"):
            turns.append(Turn(message))
        elif role == "assistant" and turns:
            answer = message.get("content")
            turns[-1] = _answered(turns[-1], answer, count) if isinstance(answer, str) else turns[-1]
        else:
            raise RowError(
                f"messages[{place}] cannot be sent turn by turn: a conversation is a system message, then "
                "user and assistant in turns"
            )
    if not turns:
        raise RowError("messages has no turn of the user")
    return Dialogue(tuple(before), tuple(turns))


def _answered(turn: Turn, answer: str, count: Count | None) -> Turn:
    if not answer:
        return turn
    tokens = count(answer) if count is not None else math.ceil(len(answer) / CHARS_PER_TOKEN)
    return Turn(turn.message, max(1, (turn.answer_tokens or 0) + tokens))
