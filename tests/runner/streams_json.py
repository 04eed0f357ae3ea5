"""What the streams of the corpus are made of: the JSON of chunks, and events of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from runner.record import ErrorKind

OK = None
ID = {"id": "c-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}


# -- the JSON of chunks


def delta(content: Any = None, *, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chat chunk with one choice."""
    inner = {**({} if content is None else {"content": content}), **more}
    return {**ID, "choices": [{"index": index, "delta": inner, "finish_reason": finish}]}


def usage(completion: int, prompt: int = 7) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def sse(*payloads: Any, done: bool = False) -> bytes:
    """Payloads as events: bytes as they are, (type, payload) with an `event:` line, all else as JSON."""
    out = []
    for payload in payloads:
        head, body = b"", payload
        if isinstance(body, tuple):
            head, body = f"event: {body[0]}\n".encode(), body[1]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        out.append(head + b"data: " + data + b"\n\n")
    return b"".join(out) + (b"data: [DONE]\n\n" if done else b"")


HELLO = [
    delta(role="assistant", content=""),
    delta("Hel"),
    delta("lo"),
    delta(finish="stop"),
    {**ID, "choices": [], "usage": usage(2)},
]


@dataclass(frozen=True)
class Case:
    """A body, and what a correct client makes of it (`kind`: the error, None for ok)."""

    body: bytes
    kind: ErrorKind | None = OK
    text: str = "Hello"
    finish: str | None = "stop"
    tokens: int | None = None  # token-bearing chunks
    usage: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)  # other fields of choice 0


def call(**part: Any) -> dict[str, Any]:
    return delta(tool_calls=[part])


def fn(name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    out = {}
    if name is not None:
        out["name"] = name
    if arguments is not None:
        out["arguments"] = arguments
    return out


def tool(ident: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


NULL_MORE: dict[str, Any] = {"reasoning": None, "refusal": None, "tool_calls": None}
UNFINISHED = HELLO[:3]
