"""Request: one final body on its way to an endpoint, and its identity.

    id        = sha256("streamgauge.request.1 <api>\\n" + canonical body)[:16]
                XOR sha256("<occurrence> <sample>")[:16]
    prompt_id = sha256("streamgauge.prompt.1\\n" + canonical messages or prompt)[:16]

both written as 32 hex digits. The canonical body is JSON with sorted keys and
without `stream` and `stream_options`. Target, concurrency, time-outs and
retries are not part of it: they change how a request is sent, not what is asked.

Why two digests and an XOR, and not one digest over all four: the first pass over
a prompt file may keep 8 bytes a row. With this shape the first 64 bits of an id
follow from the first 64 bits of its body's digest, so that the ids of a million
rows, repeated ones included, come out of one sorted array without their bodies.
Two different requests share an id as rarely as two random 128-bit numbers do.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal

import msgspec

Api = Literal["chat", "completions"]

ID_DIGITS = 32

NEVER_IN_IDENTITY = frozenset({"stream", "stream_options"})
"""How the answer is transported; the client sets them, and a row cannot."""

_SHARED_FIELDS = frozenset(
    {
        # OpenAI
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "logprobs",
        "response_format",
        "service_tier",
        # Sampling and guided decoding of vLLM, SGLang, llama.cpp and relatives
        "top_k",
        "min_p",
        "repetition_penalty",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "guided_json",
        "guided_regex",
        "guided_choice",
    }
)

CHAT_FIELDS = _SHARED_FIELDS | {
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "chat_template_kwargs",
}
"""Columns of a row that go into a chat body. The list is closed: any other
column is the caller's and comes back untouched.

Left out on purpose, because data sets use these names for their own columns or
for personal data: `user`, `metadata`, `store`, `audio`, `input`, `id`, `name`,
`reasoning`, `provider`, `prediction`. `--param` and a row's `body` still set them.
"""

COMPLETION_FIELDS = _SHARED_FIELDS | {"best_of", "echo", "suffix"}
"""The same for text completions."""

FIELDS: dict[Api, frozenset[str]] = {"chat": CHAT_FIELDS, "completions": COMPLETION_FIELDS}

TEXT_FIELDS = frozenset(
    {"model", "suffix", "service_tier", "reasoning_effort", "verbosity", "guided_regex", "stop"}
)
"""Fields whose plain value is text: a table's cell `4` stays "4" here, where in `seed` it is the number 4."""


class Request(msgspec.Struct, frozen=True):
    """What to send, once. `body` may be shared between samples: read it, never change it."""

    id: str
    prompt_id: str
    index: int
    """Place of the row in its file, from 0; bad rows keep their place."""
    sample: int
    custom_id: str | None
    api: Api
    body: dict[str, Any]
    """Final, but for `stream` and `stream_options`, which the client adds."""
    row: dict[str, Any]
    """The caller's own columns, untouched."""


_encode = msgspec.json.Encoder(order="sorted").encode
_LABELS: dict[Api, bytes] = {
    "chat": b"streamgauge.request.1 chat\n",
    "completions": b"streamgauge.request.1 completions\n",
}


def body_digest(api: Api, body: dict[str, Any]) -> int:
    """Return the 128-bit digest of what a body asks for, whatever the order of its keys."""
    if "stream" in body or "stream_options" in body:
        body = {key: value for key, value in body.items() if key not in NEVER_IN_IDENTITY}
    return int.from_bytes(sha256(_LABELS[api] + _encode(body)).digest()[:16], "big")


@lru_cache(maxsize=4096)
def turn_digest(occurrence: int, sample: int) -> int:
    """Return the 128 bits that tell apart the requests of one and the same body."""
    return int.from_bytes(sha256(b"%d %d" % (occurrence, sample)).digest()[:16], "big")


def request_id(digest: int, occurrence: int, sample: int) -> str:
    """Return the id: `digest` is the body's, `occurrence` counts earlier rows with the same body."""
    return f"{digest ^ turn_digest(occurrence, sample):032x}"


def prompt_id(body: dict[str, Any]) -> str:
    """Return the id of the messages or the prompt alone, whatever model and parameters go with them."""
    key = "messages" if "messages" in body else "prompt"
    return sha256(b"streamgauge.prompt.1\n" + _encode({key: body.get(key)})).hexdigest()[:ID_DIGITS]


def digest64(id: str) -> int:  # noqa: A002 (the field's own name)
    """Return the first 64 bits of an id: what a plan keeps, sorted, for every request."""
    return int(id[:16], 16)
