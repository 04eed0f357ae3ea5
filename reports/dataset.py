"""A record as a row of a dataset: the caller's columns under their own names, then the answer's.

Rules, the same for JSONL, CSV and Parquet:
- The caller's columns come first, in the order they first appear, and are never changed.
- An answer column whose name the caller already uses is named `streamgauge_<name>` (again and again, until
  the name is free): for every row of the export, whether that row has the caller's column or not.
- `prompt` is the text of the only user message (or of a text completion's prompt); a request that is not as
  simple has its `messages`. Both, `custom_id`, `choices` (several answers to one request), `extra` (logprobs
  and the like), and `cost` with `cost_source` are columns only where some exported record has them.
- A caller's column that is called `custom_id` is the caller's own id: ours is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from reports.rows import accepted
from runner.record import tokens

PREFIX = "streamgauge_"
ALWAYS = (
    "id",
    "index",
    "sample",
    "status",
    "answer",
    "reasoning",
    "refusal",
    "tool_calls",
    "finish_reason",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "ttft_ms",
    "e2e_ms",
    "error_kind",
    "error_message",
)
SOMETIMES = ("custom_id", "prompt", "messages", "choices", "extra", "cost", "cost_source")

# Answer columns that are no text. Nested ones are JSON: native in JSONL, text in CSV and Parquet.
WHOLE = frozenset(
    {"index", "sample", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"}
)
REAL = frozenset({"ttft_ms", "e2e_ms", "cost"})
NESTED = frozenset({"tool_calls", "messages", "choices", "extra"})


class AnswerError(Struct):
    """What an export needs of `runner.record.Error`."""

    kind: str
    message: str
    http_status: int | None = None
    request_id: str | None = None


class Body(Struct):
    """What an export needs of the request body."""

    model: Any = None
    messages: list[dict[str, Any]] | None = None
    prompt: Any = None


class AnswerRecord(Struct):
    """The fields of a record an export needs. Values of the caller stay the bytes they are."""

    id: str
    index: int
    custom_id: str | None
    sample: int
    status: str
    sent_at: int | None
    first_token_at: int | None
    ended_at: int | None
    cancelled_by: str | None = None
    error: AnswerError | None = None
    finish_reason: str | None = None
    text: str = ""
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    choices: list[dict[str, Any]] | UnsetType = UNSET
    usage: dict[str, Any] | None = None
    usage_partial: dict[str, Any] | None = None
    cost: float | None = None
    cost_source: str = "none"
    response: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    request: Body | UnsetType = UNSET
    row: dict[str, Raw] = {}


def outcome(record: AnswerRecord) -> str:
    """Its status, but `ok` for an answer cut on purpose: its row is done."""
    return "ok" if accepted(record.status, record.cancelled_by) else record.status


def prompt_text(request: Body | UnsetType) -> str | None:
    """The prompt where it is one text: of a completion, or the only user message beside system messages."""
    if isinstance(request, UnsetType):
        return None
    if request.messages is None:
        return request.prompt if isinstance(request.prompt, str) else None
    users = [m for m in request.messages if m.get("role") not in {"system", "developer"}]
    if len(users) == 1 and users[0].get("role") == "user" and isinstance(users[0].get("content"), str):
        return str(users[0]["content"])
    return None


def messages(request: Body | UnsetType) -> list[dict[str, Any]] | None:
    """The messages where `prompt_text` does not say it all."""
    return None if isinstance(request, UnsetType) or prompt_text(request) is not None else request.messages


def served_model(record: AnswerRecord) -> str | None:
    """The model the server says answered, else the one asked for."""
    model = record.response.get("model")
    if model is None and not isinstance(record.request, UnsetType):
        model = record.request.model
    return model if isinstance(model, str) else None


def _ms(later: int | None, earlier: int | None) -> float | None:
    return None if later is None or earlier is None else (later - earlier) / 1e6


def answer_columns(record: AnswerRecord) -> dict[str, Any]:
    """Every answer column, those of `SOMETIMES` included; `None` where the record has nothing."""
    count = tokens(record.usage or record.usage_partial)
    return {
        "id": record.id,
        "index": record.index,
        "sample": record.sample,
        "status": record.status,
        "answer": record.text,
        "reasoning": record.reasoning,
        "refusal": record.refusal,
        "tool_calls": record.tool_calls,
        "finish_reason": record.finish_reason,
        "model": served_model(record),
        "prompt_tokens": count.prompt,
        "completion_tokens": count.completion,
        "reasoning_tokens": count.reasoning,
        "cached_tokens": count.cached,
        "ttft_ms": _ms(record.first_token_at, record.sent_at),
        "e2e_ms": _ms(record.ended_at, record.sent_at),
        "error_kind": record.error.kind if record.error else None,
        "error_message": record.error.message if record.error else None,
        "custom_id": record.custom_id,
        "prompt": prompt_text(record.request),
        "messages": messages(record.request),
        "choices": None if isinstance(record.choices, UnsetType) else record.choices,
        "extra": record.extra or None,
        "cost": record.cost,
        "cost_source": record.cost_source,
    }


class Layout(Struct):
    """The columns of one export, the same for each of its rows."""

    caller: dict[str, set[str]] = field(default_factory=dict)  # name -> kinds of value seen (`kind`)
    answer: dict[str, str] = field(default_factory=dict)  # answer column -> its name in this export

    def renamed(self) -> dict[str, str]:
        """The answer columns that gave way to a caller's."""
        return {name: out for name, out in self.answer.items() if name != out}

    def row(self, record: AnswerRecord) -> tuple[dict[str, Raw], dict[str, Any]]:
        """The caller's columns of a record, and the answer's under their names here."""
        values = answer_columns(record)
        return record.row, {out: values[name] for name, out in self.answer.items()}


def layout(records: Iterable[AnswerRecord], *, kinds: bool) -> Layout:
    """One pass over what will be exported: which columns there are, and (for `kinds`) of what type."""
    out, found = Layout(), set[str]()
    for record in records:
        for name, value in record.row.items():
            seen = out.caller.setdefault(name, set())
            if kinds:
                seen.add(kind(bytes(value)))
        present = (
            record.custom_id,
            prompt_text(record.request),
            messages(record.request),
            None if isinstance(record.choices, UnsetType) else record.choices,
            record.extra or None,
            record.cost,
            None if record.cost is None else record.cost_source,
        )
        found.update(name for name, value in zip(SOMETIMES, present, strict=True) if value is not None)
    if "custom_id" in out.caller:
        found.discard("custom_id")
    for name in (*ALWAYS, *(name for name in SOMETIMES if name in found)):
        free = name
        while free in out.caller or free in out.answer.values():
            free = PREFIX + free
        out.answer[name] = free
    return out


_EXACT = 1 << 53  # beyond it a float is not every whole number


def kind(value: bytes) -> str:
    """What a JSON value is: null, bool, int, wide (an int no float holds), float, str, `[]` and one of
    these for a list, else json.
    """
    first = value[:1]
    if first == b'"':
        return "str"
    if first == b"n":
        return "null"
    if first in {b"t", b"f"}:
        return "bool"
    if first == b"{":
        return "json"
    return _list_kind(value) if first == b"[" else _number_kind(value)


def _number_kind(value: bytes) -> str:
    if any(mark in value for mark in b".eE"):
        return "float" if abs(float(value)) < float("inf") else "json"
    whole = int(value)
    if abs(whole) <= _EXACT:
        return "int"
    return "wide" if -(1 << 63) <= whole < 1 << 63 else "json"


def _list_kind(value: bytes) -> str:
    items = {kind(bytes(item)) for item in msgspec.json.decode(value, type=list[Raw])}
    inner = column_type(items)
    if inner == "json" or inner.startswith("["):
        return "json"
    if inner == "str" and "str" not in items:
        return "[]"  # empty, or nothing but null: any list will do
    return "[]" + ("wide" if "wide" in items else "int" if inner == "int" else inner)


def column_type(kinds: set[str]) -> str:
    """One type for the kinds seen in a column: bool, int, float, str, `[]` and one of these, else json."""
    kinds = kinds - {"null"}
    if kinds <= {"str"}:
        return "str"
    if kinds == {"bool"}:
        return "bool"
    if kinds <= {"int", "wide"}:
        return "int"
    if kinds <= {"int", "float"}:
        return "float"
    if all(name.startswith("[]") for name in kinds):
        inner = column_type({name[2:] for name in kinds if name != "[]"})
        return "json" if inner == "json" else "[]" + inner
    return "json"
