"""Events to one answer: text, reasoning, tool calls, usage, finish reasons, times. No socket, no clock.

Two ways lead through a chunk. The quick one decodes the chunks nearly every server sends into typed structs
and gives up at the first key, type or shape it does not know; the general one then reads the same bytes as
plain JSON, forgiving what can be forgiven. Both must agree: a test sends every known stream down both.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from runner.choice import ChoiceState
from runner.chunks import Chunk, decode_chunk, is_json, is_told, joined, loads, usage_in
from runner.errors import EXCERPT_LIMIT, error_object, kind_of_payload, message_of
from runner.record import ErrorKind
from runner.sse import BARE, Event

# Said in place of a finish reason by servers that gave up on the answer; TensorRT-LLM's and Zhipu's are last.
ABORTS = frozenset(
    {"error", "abort", "insufficient_system_resource", "cancelled", "timeout", "network_error"}
)
# Fewer bytes than most tokenizers need for a token of most texts (English about 4): a guess that is rather
# too high, for servers that send no usage.
BYTES_A_TOKEN = 3
_NO_REASON = frozenset({None, "", "null"})
_DONE = frozenset({b"[DONE]", b'"[DONE]"'})
_DATA_AGAIN = re.compile(rb"(?:data:\s*)+")
_PINGS = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
_CHOICE_KEYS = frozenset({"index", "delta", "message", "finish_reason", "text", "usage", "error"})
META_KEYS = ("id", "model", "created", "provider", "system_fingerprint", "service_tier")
_PLUMBING = frozenset({"object", "choices", "usage", "error", "obfuscation", *META_KEYS})

_NO_ID = object()  # nothing a chunk can hold


class Answer:
    """What one response has said so far.

    Attributes:
        first_token_at, first_content_at, last_token_at: stamps, as given with the events; `None` before.
        token_at: the stamp of each token-bearing chunk, in order.
        token_counts: completion tokens told so far (cumulative usage) with those chunks that told.
        chunk_id: the `id` of the last chunk.
        plain: the text of the last event, where it was the next text of the only choice and nothing else.
        usage: the last usage object the server sent.
        response: what the server said of itself.
        done_at: the stamp of `[DONE]`.
        closing_at: the stamp of the last finish reason, or of the error: little can follow.
        error: (kind, message, excerpt) of an error the stream itself carried.
    """

    def __init__(self, *, quick: bool = True) -> None:
        self.choices: dict[int, ChoiceState] = {}
        self.first_token_at: int | None = None
        self.first_content_at: int | None = None
        self.last_token_at: int | None = None
        self.token_at: list[int] = []
        self.token_counts: list[int] = []
        self.usage: dict[str, Any] | None = None
        self.response: dict[str, Any] = {}
        self.done_at: int | None = None
        self.closing_at: int | None = None
        self.streamed = True
        self.error: tuple[ErrorKind, str, str | None] | None = None
        self._quick = quick
        self.plain: str | None = None
        self._zero: ChoiceState | None = None
        self.chunk_id: Any = _NO_ID

    # -- events in

    def feed(self, event: Event) -> None:
        """Take one event. Nothing after `[DONE]` or an error counts."""
        data, kind, at = event
        self.plain = None
        if self.done_at is not None or self.error is not None:
            return
        if kind == "" and self._quick:
            try:
                chunk = decode_chunk(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
            else:
                self._chunk(chunk, at)
                return
        self._general(data, kind, at)

    def more(self, text: str, at: int) -> None:
        """Take the next text of the only choice: an event just like the one that left `plain`."""
        assert self._zero is not None
        self._zero.text.append(text)
        self.last_token_at = at
        self.token_at.append(at)

    def more_of(self, texts: list[str], at: int) -> None:
        """Take several such texts, all of one read."""
        assert self._zero is not None
        self._zero.text += texts
        self.last_token_at = at
        self.token_at += [at] * len(texts)

    def tail(self, event: Event) -> None:
        """Take an event that the end of the body cut short of its blank line: only what is whole of it."""
        data, kind, at = event
        if _is_whole(data):
            self.feed(event)
            return
        for line in data.split(b"\n"):
            if not _is_whole(line):
                return
            self.feed((line, kind, at))

    def whole(self, payload: dict[str, Any], at: int) -> None:
        """Take a completion that came as one JSON document instead of a stream. It has no token times."""
        self.streamed = False
        self._object(payload, at)
        self.first_token_at = self.first_content_at = self.last_token_at = None
        self.token_at.clear()
        self.token_counts.clear()

    # -- results out

    @property
    def finished(self) -> bool:
        """Every choice seen has its finish reason."""
        return bool(self.choices) and all(c.finish_reason is not None for c in self.choices.values())

    def verdict(self, *, broken: bool) -> tuple[ErrorKind, str, str | None] | None:
        """Why the answer is no good, now that nothing more will come; `None` when it is good.

        Args:
            broken: the transport failed, rather than ended.
        """
        reasons = [choice.finish_reason for choice in self.choices.values()]
        aborted = next((reason for reason in reasons if _is_abort(reason)), None)
        if self.error is not None:
            return self.error
        if aborted is not None:
            return ErrorKind.SERVER_ERROR, f"the server ended the answer with finish_reason {aborted!r}", None
        if self.finished or (self.done_at is not None and self.token_at):
            return None
        if self.done_at is not None or (not self.choices and not broken):
            said = "[DONE]" if self.done_at is not None else "the end of the body"
            return ErrorKind.EMPTY_STREAM, f"{said} came before a single token", None
        return ErrorKind.TRUNCATED, "the stream ended with neither a finish reason nor [DONE]", None

    def main_choice(self) -> dict[str, Any]:
        """Choice 0 (or the lowest there is), with the record's field names."""
        state = self.choices[min(self.choices)] if self.choices else ChoiceState(0)
        return state.as_dict()

    def all_choices(self) -> list[dict[str, Any]] | None:
        """Every choice in that shape with its `index`, where there is more than one."""
        if len(self.choices) < 2:
            return None
        return [self.choices[index].as_dict() for index in sorted(self.choices)]

    def extra(self) -> dict[str, Any]:
        """Keys of deltas and choices that the record has no field for: strings joined, lists appended."""
        out: dict[str, Any] = {}
        for index in sorted(self.choices):
            for key, values in self.choices[index].extra.items():
                out.setdefault(key, joined(values))
        return out

    def text(self) -> str:
        """The text of choice 0 so far."""
        return str(self.main_choice()["text"])

    def tokens_seen(self) -> int:
        """How many tokens came, rather too many than too few: a chunk holds at least one, often more."""
        size = sum(choice.size() for choice in self.choices.values())
        return max(len(self.token_at), -(-size // BYTES_A_TOKEN))

    def chunk_tokens(self) -> list[int] | None:
        """Tokens in each token-bearing chunk, where the server told the running total with every one."""
        counts = self.token_counts
        if not counts or len(counts) != len(self.token_at) or len(self.choices) != 1:
            return None
        out, last = [], 0
        for count in counts:
            if count < last:
                return None
            out.append(count - last)
            last = count
        return out

    # -- the quick way

    def _chunk(self, chunk: Chunk, at: int) -> None:  # noqa: C901, PLR0912 - run for every token
        token = ended = other = False
        usage = chunk.usage
        if usage is not None and usage.get("completion_tokens") is None and not is_told(usage):
            usage = None
        content = None
        for choice in chunk.choices:
            state = self._zero if choice.index == 0 and self._zero is not None else self._choice(choice.index)
            delta = choice.delta
            content = choice.text if delta is None else delta.content
            if content:
                state.text.append(content)
                if self.first_content_at is None:
                    self.first_content_at = at
                token = True
            if delta is not None:
                if delta.reasoning_content or delta.reasoning:
                    state.reasoning.append(delta.reasoning_content or delta.reasoning or "")
                    token = other = True
                if delta.refusal:
                    state.refusal.append(delta.refusal)
                    token = other = True
                if delta.tool_calls:
                    other = True
                    token |= state.calls.add(delta.tool_calls)
            if choice.finish_reason is not None and choice.finish_reason not in _NO_REASON:
                state.finish_reason = choice.finish_reason
                ended = True
        if usage is not None:
            self.usage = usage
        if token:
            self._token(at, usage)
        if ended:
            self.closing_at = at
        elif content and not other and usage is None and len(self.choices) == len(chunk.choices) == 1:
            self.plain = content if self._zero is not None else None
        if ended or usage is not None or chunk.id != self.chunk_id:
            self.chunk_id = chunk.id
            self._meta({key: getattr(chunk, key) for key in META_KEYS})

    def _token(self, at: int, usage: dict[str, Any] | None) -> None:
        if self.first_token_at is None:
            self.first_token_at = at
        self.last_token_at = at
        self.token_at.append(at)
        if usage is not None:
            told = usage.get("completion_tokens")
            if type(told) is int:
                self.token_counts.append(told)

    def _choice(self, index: int) -> ChoiceState:
        state = self.choices.get(index)
        if state is None:
            state = self.choices[index] = ChoiceState(index)
            if index == 0:
                self._zero = state
        return state

    # -- the general way

    def _general(self, data: bytes, kind: str, at: int) -> None:
        text = data.strip()
        if kind:
            kind = kind.strip().lower()
            if kind in _PINGS:
                return
        if not text:
            if kind == "error":
                self._fail(ErrorKind.STREAM_ERROR, "the server sent an error event without a word", None, at)
            return
        if text in _DONE:
            self.done_at = at
            return
        try:
            payload = loads(text)
        except (ValueError, RecursionError):
            self._not_json(text, kind, at)
            return
        error = error_object(payload)
        if error is not None or kind == "error":
            self._error(payload, error or payload, text, at)
        elif isinstance(payload, dict) and kind != BARE:
            self._object(payload, at)
        # All else is a comment sent as data, a number, null: nothing of an answer, and no error either.

    def _not_json(self, text: bytes, kind: str, at: int) -> None:
        shown = text[:EXCERPT_LIMIT].decode("utf-8", "replace")
        again = _DATA_AGAIN.match(text)
        if again is not None:  # a proxy put its own `data:` before the server's
            self.feed((text[again.end() :], kind, at))
            self.plain = None
            return
        lines = text.split(b"\n")
        if len(lines) > 1 and all(map(_is_whole, lines)):
            for line in lines:  # the blank lines between these events were forgotten
                self.feed((line, kind, at))
            self.plain = None  # a read like this one may hold any number of them
        elif kind == "error":
            self._fail(ErrorKind.STREAM_ERROR, shown, shown, at)
        elif text.startswith(b":") or kind == BARE:
            return  # a comment, emitted as data
        elif kind in {"", "message"} or text.startswith(b"{"):
            self._fail(ErrorKind.BAD_JSON, "an event of the stream is not JSON", shown, at)

    def _error(self, payload: object, error: object, text: bytes, at: int) -> None:
        kind = kind_of_payload(error)
        if isinstance(payload, dict) and isinstance(payload.get("choices"), list):
            choices = [choice for choice in payload["choices"] if isinstance(choice, dict)]
            if kind is ErrorKind.STREAM_ERROR and any(_is_abort(c.get("finish_reason")) for c in choices):
                kind = ErrorKind.SERVER_ERROR
            # What came along with it is kept, but no answer ends well here.
            self._object({**payload, "choices": [{**c, "finish_reason": None} for c in choices]}, at)
        elif isinstance(payload, dict):
            self.usage = usage_in(payload) or self.usage
        shown = text[:EXCERPT_LIMIT].decode("utf-8", "replace")
        self._fail(kind, message_of(error), shown, at)

    def _fail(self, kind: ErrorKind, message: str, excerpt: str | None, at: int) -> None:
        self.error = (kind, message, excerpt)
        self.closing_at = at

    def _object(self, payload: dict[str, Any], at: int) -> None:
        choices = payload.get("choices")
        token = False
        closing, self.closing_at = self.closing_at, None
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                token |= self._general_choice(choice, at)
        usage = usage_in(payload)
        if usage is not None:
            self.usage = usage
        if token:
            self._token(at, usage)
        ended = self.closing_at is not None
        if not ended:
            self.closing_at = closing
        if usage is not None or ended or payload.get("id") != self.chunk_id:
            self.chunk_id = payload.get("id")
            self._meta(payload)
        if choices is not None:
            self.response.update({k: v for k, v in payload.items() if k not in _PLUMBING and v is not None})

    def _general_choice(self, choice: dict[str, Any], at: int) -> bool:
        index = choice.get("index")
        state = self._choice(index if type(index) is int else _index_of(index))
        said = len(state.text)
        delta, message = choice.get("delta"), choice.get("message")
        token = False
        if isinstance(delta, dict):
            token = state.add_delta(delta)
        elif isinstance(message, dict):
            token = state.add_message(message)
        elif isinstance(choice.get("text"), str):
            token = state.add_content(choice["text"])
        if len(state.text) > said and self.first_content_at is None:
            self.first_content_at = at
        reason = choice.get("finish_reason")
        if reason is not None:
            if isinstance(reason, dict):
                reason = reason.get("type")  # SGLang's own form
            if isinstance(reason, str) and reason not in _NO_REASON:
                state.finish_reason = reason
                self.closing_at = at
        for key, value in choice.items():
            if key not in _CHOICE_KEYS and value is not None:
                state.extra.setdefault(key, []).append(value)
        return token

    def _meta(self, source: dict[str, Any]) -> None:
        for key in META_KEYS:
            value = source.get(key)
            if value:  # Azure's first chunk has "" and 0 in their places
                self.response[key] = value


def _index_of(index: object) -> int:
    """The number of a choice, which some servers write as a text; 0 where it has none."""
    if isinstance(index, str) and len(index) < 5 and index.isascii() and index.isdigit():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return 0


def _is_abort(reason: object) -> bool:
    return isinstance(reason, str) and reason.lower() in ABORTS


def _is_whole(data: bytes) -> bool:
    return data.strip() in _DONE or is_json(data)
