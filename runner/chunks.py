"""The JSON of a chunk: typed where servers agree, plain and forgiving where they do not. No state."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

import msgspec


class Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A delta of text; anything else in it is for the general way."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: None = None


class Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A choice of a chunk."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: None = None
    stop_reason: None = None
    matched_stop: None = None
    token_ids: None = None


class Chunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A chunk as nearly every server sends it; any other key sends it the general way."""

    choices: list[Choice]
    id: str | int | None = None
    object: str | None = None
    created: int | float | None = None
    model: str | None = None
    provider: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: dict[str, Any] | None = None
    error: None = None
    prompt_token_ids: None = None
    obfuscation: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
_DEEPEST = 50  # levels of objects that are merged key by key
_DEEPEST_KEPT = 200
_decode_any = msgspec.json.Decoder().decode


def is_told(usage: object) -> TypeGuard[dict[str, Any]]:
    """Whether a usage object says anything: an empty one, or one of nulls, is none yet."""
    if not isinstance(usage, dict):
        return False
    return usage.get("completion_tokens") is not None or any(v is not None for v in usage.values())


def usage_in(payload: dict[str, Any]) -> dict[str, Any] | None:
    """The usage object of a chunk, wherever the vendor put it."""
    usage = payload.get("usage")
    if is_told(usage):
        return usage
    # Nested under a key of the vendor's own (`x_groq`), or in a choice (Moonshot).
    for value in payload.values():
        if type(value) is dict and is_told(usage := value.get("usage")):
            return usage
    choices = payload.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and is_told(usage := choice.get("usage")):
            return usage
    return None


def joined(values: list[Any], depth: int = 0) -> Any:
    """Values of one key as one: strings joined, lists appended, objects merged likewise, else the last."""
    if all(isinstance(v, str) for v in values):
        return "".join(values)
    if all(isinstance(v, list) for v in values):
        return [item for v in values for item in v]
    if all(isinstance(v, dict) for v in values) and depth < _DEEPEST:
        gathered: dict[str, list[Any]] = {}
        for value in values:
            for key, inner in value.items():
                if inner is not None:
                    gathered.setdefault(key, []).append(inner)
        return {key: joined(inner, depth + 1) for key, inner in gathered.items()}
    return values[-1]


def loads(data: bytes) -> Any:
    """JSON as leniently as it can be read without losing text: msgspec may refuse, `json` decides."""
    try:
        return _decode_any(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return json.loads(data.decode("utf-8-sig", "replace"), parse_int=_int)


def _int(digits: str) -> int | float:
    # Python refuses to read more than 4300 digits, and no text is to be lost for a number.
    return int(digits) if len(digits) < 1000 else float(digits)


def is_json(data: bytes) -> bool:
    """Whether the bytes are one whole JSON value."""
    try:
        loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def ends_early(data: bytes) -> bool:
    """Whether the bytes are the beginning of a JSON value, and it is the end of it that is missing."""
    text = data.decode("utf-8", "replace").rstrip()
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        if exc.msg == "Extra data":
            return False
        return exc.msg.startswith("Unterminated") or exc.pos >= len(text) - len("\\u00")
    except (ValueError, RecursionError):
        pass
    return False


def clean(value: Any, depth: int = 0) -> Any:
    """The same JSON value with lone surrogates replaced, so that it can be written as strict UTF-8.

    What lies deeper than any answer does (200 levels) becomes `None`: it could not be written either.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | dict) and depth > _DEEPEST_KEPT:
        return None
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item, depth + 1) for key, item in value.items()}
    return value
