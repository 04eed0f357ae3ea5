"""The bytes of answers, made before they are needed.

A streamed answer of one choice is a stretch of a ring of ready-made events, in which only the place of the
request's identity is open: sending costs a slice and a join, for one token or a thousand. Several choices and
echoes are put together event by event.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from runner.mock import words
from runner.mock.ask import Ask, Kind
from runner.mock.config import MockConfig
from runner.mock.http import LAST_CHUNK, chunk

FINGERPRINT = "fp_streamgauge_mock"
MAX_RUN = 1024  # tokens in one call of `frames`
_TEMPLATES_KEPT = 16
_ID_CHARS = 24

_encode = msgspec.json.encode


class Identity(msgspec.Struct, frozen=True):
    """What is one request's own in all its chunks."""

    serial: str  # `_ID_CHARS` characters
    created: int  # Unix time, s

    def completion_id(self, kind: Kind) -> str:
        """The id of the answer."""
        return f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{self.serial}"

    def stream_bytes(self, kind: Kind) -> bytes:
        """The part of a chunk that holds the identity: of one length for all requests of a kind."""
        noun = "chat.completion.chunk" if kind == "chat" else "text_completion"
        return b'%b","object":"%b","created":%010d' % (
            self.completion_id(kind).encode(),
            noun.encode(),
            self.created,
        )


class Template:
    """The events of all streams of one model and shape, cut open where the identity of the request goes.

    `between` holds what lies between two identities: the end of one event and the start of the next. `first`
    is cut open for the name that is the first token too; names are of one length.
    """

    def __init__(
        self, kind: Kind, model: str, *, usage_null: bool, chunked: bool, cycle: Sequence[str]
    ) -> None:
        blank = Identity(serial="0" * _ID_CHARS, created=0).stream_bytes(kind)
        self._kind = kind
        self._chunked = chunked
        self._after_identity = b',"model":%b%b,"system_fingerprint":"%b","choices":' % (
            _encode(model),
            b',"service_tier":"default"' if kind == "chat" else b"",
            FINGERPRINT.encode(),
        )
        self.done = self._frame(b"data: [DONE]\n\n") + (LAST_CHUNK if chunked else b"")  # ends the body too
        self._end = b',"usage":null}\n\n' if usage_null else b"}\n\n"
        mark = b"\0" * len(blank)  # JSON text holds no NUL
        ring = [self.event(mark, self.token_choice(token, 0)).split(mark) for token in cycle]
        ring += ring[:MAX_RUN]  # any stretch of MAX_RUN lies in one piece
        self.starts = [start for start, _ in ring]
        self.ends = [end for _, end in ring]
        self.between = [end + start for (_, end), (start, _) in pairwise(ring)]
        first = self.event(mark, self.token_choice(words.name(0), 0)).split(mark)
        self.first = (first[0], *first[1].split(words.name(0).encode()))
        self.role = self.event(mark, self.role_choice(0)).split(mark)
        self.finish = {
            reason: self.event(mark, self.finish_choice(0, reason)).split(mark)
            for reason in ("stop", "length")
        }

    def event(self, identity: bytes, choice: bytes) -> bytes:
        """One chunk with one choice, ready for the socket."""
        return self._frame(b'data: {"id":"%b%b[%b]%b' % (identity, self._after_identity, choice, self._end))

    def usage_event(self, identity: bytes, usage: dict[str, Any]) -> bytes:
        """The chunk without choices that ends a stream where usage was asked for."""
        return self._frame(
            b'data: {"id":"%b%b[],"usage":%b}\n\n' % (identity, self._after_identity, _encode(usage))
        )

    def token_choice(self, token: str, index: int) -> bytes:
        """The choice that carries one token."""
        text = _encode(token)
        if self._kind == "chat":
            return b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (index, text)
        return b'{"text":%b,"index":%d,"logprobs":null,"finish_reason":null}' % (text, index)

    def role_choice(self, index: int) -> bytes:
        """The choice that opens a chat stream."""
        return (
            b'{"index":%d,"delta":{"role":"assistant","content":"","refusal":null},'
            b'"logprobs":null,"finish_reason":null}' % index
        )

    def finish_choice(self, index: int, reason: str) -> bytes:
        """The choice that ends a stream."""
        if self._kind == "chat":
            return b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}' % (index, reason.encode())
        return b'{"text":"","index":%d,"logprobs":null,"finish_reason":"%b"}' % (index, reason.encode())

    def _frame(self, event: bytes) -> bytes:
        return chunk(event) if self._chunked else event


class Answers:
    """Makes the answer of each request; keeps the templates."""

    def __init__(self, config: MockConfig) -> None:
        self._seed = config.seed
        self._tokens = config.tokens
        self._echo = config.echo
        self._cycle = words.make_cycle(config.seed)
        self._templates: dict[tuple[Kind, str, bool, bool], Template] = {}

    def answer(self, ask: Ask, identity: Identity, *, chunked: bool) -> Answer:
        """The answer to `ask`, with its length decided."""
        keys = [ask.key(choice, self._seed) for choice in range(ask.choices)]
        own: list[list[str]] | None = None
        limit = ask.max_tokens
        tokens, finish = (self._tokens, "stop") if limit is None else (limit, "length")
        if self._echo:
            text = words.split_words(ask.prompt)
            finish = "stop" if limit is None or len(text) <= limit else "length"
            own = [text[:limit]] * ask.choices
            tokens = len(own[0])
        template = self._template(ask, chunked=chunked) if ask.stream else None
        return Answer(ask, identity, keys, tokens, finish, own=own, cycle=self._cycle, template=template)

    def _template(self, ask: Ask, *, chunked: bool) -> Template:
        key = (ask.kind, ask.model, ask.include_usage, chunked)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= _TEMPLATES_KEPT:
                self._templates.pop(next(iter(self._templates)))
            template = Template(
                ask.kind, ask.model, usage_null=ask.include_usage, chunked=chunked, cycle=self._cycle
            )
            self._templates[key] = template
        return template


class Answer:
    """One request's answer as bytes: a stream's `opening`, `frames` and `closing`, or all as `whole`."""

    def __init__(
        self,
        ask: Ask,
        identity: Identity,
        keys: list[int],
        tokens: int,
        finish: str,
        *,
        own: list[list[str]] | None,
        cycle: list[str],
        template: Template | None,
    ) -> None:
        self.tokens = tokens  # a choice
        self.choices = len(keys)
        self._ask = ask
        self._identity = identity
        self._keys = keys
        self._finish = finish
        self._cycle = cycle
        if own is None and self.choices > 1:
            own = [words.reply(key, tokens, cycle) for key in keys]
        self._own = own  # tokens of each choice, where they are not simply a stretch of the ring
        self._place = keys[0] % words.CYCLE
        self._template = template
        self.streamed = template is not None
        self._stamp = identity.stream_bytes(ask.kind) if template is not None else b""

    def opening(self) -> bytes:
        """The chunk that names the role, of each choice; empty for text completions."""
        template = self._template
        assert template is not None
        if self._ask.kind != "chat":
            return b""
        if self.choices == 1:
            return self._stamp.join(template.role)
        return b"".join(template.event(self._stamp, template.role_choice(i)) for i in range(self.choices))

    def frames(self, start: int, stop: int, before: bytes = b"", after: bytes = b"") -> bytes:
        """The events of tokens `start` to `stop` (excluded; at most `MAX_RUN`) of every choice.

        `before` and `after` are what is sent with them: all is put together in one copy.
        """
        template = self._template
        assert template is not None
        if self._own is not None:
            events = [
                template.event(self._stamp, template.token_choice(tokens[place], index))
                for place in range(start, stop)
                for index, tokens in enumerate(self._own)
            ]
            return b"".join((before, *events, after))
        if start == 0 and stop > 0:
            head, middle, tail = template.first
            name = words.name(self._keys[0]).encode()
            before = b"%b%b%b%b%b%b" % (before, head, self._stamp, middle, name, tail)
            start = 1
        if start == stop:
            return before + after
        place = (self._place + start) % words.CYCLE
        last = place + stop - start - 1
        between = template.between[place:last]
        return self._stamp.join((before + template.starts[place], *between, template.ends[last] + after))

    def closing(self) -> bytes:
        """Finish reason, usage where asked for, and the end."""
        template = self._template
        assert template is not None
        if self.choices == 1:
            end = self._stamp.join(template.finish[self._finish])
        else:
            end = b"".join(
                template.event(self._stamp, template.finish_choice(i, self._finish))
                for i in range(self.choices)
            )
        if self._ask.include_usage:
            end += template.usage_event(self._stamp, self.usage())
        return end + template.done

    def usage(self) -> dict[str, Any]:
        """Tokens of prompt and answer, in the shape of the real API."""
        prompt, completion = self._ask.prompt_tokens, self.tokens * self.choices
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def whole(self) -> bytes:
        """The answer as one JSON body."""
        chat = self._ask.kind == "chat"
        choices = []
        for index, key in enumerate(self._keys):
            own = self._own
            text = "".join(own[index] if own is not None else words.reply(key, self.tokens, self._cycle))
            choice: dict[str, Any] = {"index": index}
            if chat:
                choice["message"] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
            else:
                choice["text"] = text
            choices.append(choice | {"logprobs": None, "finish_reason": self._finish})
        body = {
            "id": self._identity.completion_id(self._ask.kind),
            "object": "chat.completion" if chat else "text_completion",
            "created": self._identity.created,
            "model": self._ask.model,
            "choices": choices,
            "usage": self.usage(),
            "system_fingerprint": FINGERPRINT,
        }
        return _encode(body | ({"service_tier": "default"} if chat else {}))
