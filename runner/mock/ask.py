"""The body of a completion request, read and checked: what is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

import msgspec

Kind = Literal["chat", "text"]

MAX_CHOICES = 128
_BAD_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")


class AskError(Exception):
    """A body that asks for nothing sensible: answered with 400."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Ask(msgspec.Struct, frozen=True):
    """One completion, as asked for."""

    kind: Kind
    model: str
    prompts: list[str]  # one a prompt of the text API; all messages of a chat as one
    prompt: str  # the last user message, or the prompts: what a log shows
    max_tokens: int | None
    samples: int  # choices a prompt
    stream: bool
    include_usage: bool

    @property
    def choices(self) -> int:
        """Choices in the answer."""
        return len(self.prompts) * self.samples

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts: a quarter of their UTF-8 bytes, at least one each."""
        return sum(max(1, len(prompt.encode("utf-8", "surrogatepass")) // 4) for prompt in self.prompts)

    def key(self, choice: int, seed: int) -> int:
        """64 bits that decide the words of a choice: same prompt, seed and choice, same words."""
        prompt = self.prompts[choice // self.samples].encode("utf-8", "surrogatepass")
        digest = blake2b(prompt, digest_size=8, key=b"%d/%d" % (seed, choice % self.samples))
        return int.from_bytes(digest.digest(), "big")


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _ChatBody(_Body):
    messages: list[_Message] | None = None


class _TextBody(_Body):
    prompt: str | list[Any] | None = None


_chat_decoder = msgspec.json.Decoder(_ChatBody)
_text_decoder = msgspec.json.Decoder(_TextBody)


def read_ask(kind: Kind, body: bytes) -> Ask:
    """Read a request's body; raises `AskError`, whose text names the field."""
    decoded: _ChatBody | _TextBody
    try:
        decoded = _chat_decoder.decode(body) if kind == "chat" else _text_decoder.decode(body)
    except msgspec.ValidationError as error:
        match = _BAD_FIELD.search(str(error))
        raise AskError(str(error), match[1] if match and match[1] else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AskError("We could not parse the JSON body of your request.") from None
    if not decoded.model:
        raise AskError("you must provide a model parameter", "model")
    max_tokens, samples = _limits(decoded)
    options = decoded.stream_options
    if options is not None and not decoded.stream:
        raise AskError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    prompts, shown = _chat_prompts(decoded) if isinstance(decoded, _ChatBody) else _text_prompts(decoded)
    if len(prompts) * samples > MAX_CHOICES:
        raise AskError(f"more than {MAX_CHOICES} choices asked for in one request", "n")
    return Ask(
        kind=kind,
        model=decoded.model,
        prompts=prompts,
        prompt=shown,
        max_tokens=max_tokens,
        samples=samples,
        stream=bool(decoded.stream),
        include_usage=options is not None and bool(options.include_usage),
    )


def _limits(body: _Body) -> tuple[int | None, int]:
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = getattr(body, name)
        if value is not None and value < 1:
            raise AskError(f"Invalid '{name}': integer below minimum value. Expected a value >= 1.", name)
    if body.max_completion_tokens is not None:
        return body.max_completion_tokens, body.n or 1
    return body.max_tokens, body.n or 1


def _chat_prompts(body: _ChatBody) -> tuple[list[str], str]:
    if body.messages is None:
        raise AskError("Missing required parameter: 'messages'.", "messages")
    if not body.messages:
        raise AskError(
            "Invalid 'messages': empty array. Expected an array with minimum length 1.", "messages"
        )
    shown = next((message.text() for message in reversed(body.messages) if message.role == "user"), "")
    return ["\n".join(f"{message.role}: {message.text()}" for message in body.messages)], shown


def _text_prompts(body: _TextBody) -> tuple[list[str], str]:
    """Prompts of the text API: a text, texts, token numbers, or lists of token numbers."""
    prompt = body.prompt
    if prompt is None:
        raise AskError("Missing required parameter: 'prompt'.", "prompt")
    if isinstance(prompt, str):
        return [prompt], prompt
    if not prompt:
        raise AskError("Invalid 'prompt': empty array.", "prompt")
    if all(isinstance(item, str) for item in prompt):
        texts: list[str] = prompt
    elif _are_tokens(prompt):
        texts = [" ".join(map(str, prompt))]
    elif all(isinstance(item, list) and item and _are_tokens(item) for item in prompt):
        texts = [" ".join(map(str, item)) for item in prompt]
    else:
        raise AskError(
            "Invalid 'prompt': expected a string, strings, token numbers or lists of them.", "prompt"
        )
    return texts, "\n".join(texts)


def _are_tokens(items: Sequence[object]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) for item in items)
