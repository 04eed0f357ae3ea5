"""The JSON of a chunk: typed where servers agree, plain and forgiving where they do not. No state."""

from __future__ import annotations

import json
from typing import Any

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
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    provider: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None
    usage: dict[str, Any] | None = None
    error: None = None
    prompt_token_ids: None = None
    obfuscation: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
_DEEPEST = 50  # levels of objects that are merged key by key
_DEEPEST_KEPT = 200
_decode_any = msgspec.json.Decoder().decode


def usage_in(payload: dict[str, Any]) -> dict[str, Any] | None:
    """The usage object of a chunk, wherever the vendor put it."""
    usage = payload.get("usage")
    if isinstance(usage, dict) and usage:
        return usage
    for key, value in payload.items():
        # Vendors nest it under a key of their own (`x_groq`).
        if key.startswith("x_") and isinstance(value, dict) and isinstance(value.get("usage"), dict):
            nested: dict[str, Any] = value["usage"]
            return nested
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
        return json.loads(data.decode("utf-8-sig", "replace"))


def is_json(data: bytes) -> bool:
    """Whether the bytes are one whole JSON value."""
    try:
        loads(data)
    except (ValueError, RecursionError):
        return False
    return True


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
