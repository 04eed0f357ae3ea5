"""The slowest and the failed requests of a run, with what was asked and answered, for its page."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, UnsetType

from reports.breakdowns import slowest
from reports.cells import NONE, number
from reports.columns import Columns
from reports.dataset import AnswerRecord
from reports.page import Cell, Column, Disclosure, Link, Paragraph, Part, Table
from reports.rows import decoded, only
from reports.summary import Summary
from reports.thinning import Places

_MOST_SLOW = 15
_MOST_FAILED = 25
_MOST_CHARS = 4000
_SUMMARY_CHARS = 90
_COLUMNS = [
    Column("request"),
    Column("due", "s"),
    Column("TTFT", "ms"),
    Column("TTFT from schedule", "ms"),
    Column("E2E", "ms"),
    Column("output", "tokens"),
    Column("how it ended", align="long"),
    Column("answer", align="left"),
]


class _Shown(Struct):
    """A request of the tables: its place in the columns, and its record."""

    place: int
    record: AnswerRecord


def request_parts(summary: Summary, columns: Columns) -> list[Part]:
    """Tables of the slowest answers and of the failed requests, then each answer, folded up."""
    slow, failed = slowest(columns, _MOST_SLOW), _failed(columns)
    shown = _read(columns, np.concatenate([slow, failed[:_MOST_FAILED]]))
    parts: list[Part] = []
    if len(slow):
        rows = [_row(summary, columns, shown, place) for place in slow.tolist()]
        parts.append(Table("The slowest answers, from when they were due to their end", _COLUMNS, rows))
    if len(failed):
        rows = [_row(summary, columns, shown, place) for place in failed[:_MOST_FAILED].tolist()]
        more = len(failed) - len(rows)
        export = f"streamgauge export {summary.path} --status all -o answers.jsonl"
        note = f"{more:,} more are not shown. All requests with their errors: {export}" if more > 0 else ""
        parts.append(Table("Requests without an answer, the earliest first", _COLUMNS, rows, note=note))
    if not parts:
        return [Paragraph("No request has ended yet.")]
    if summary.slim:
        parts.append(Paragraph("This is a slim copy: prompts and answers are in the run itself.", soft=True))
        return parts
    return [*parts, *(_disclosure(summary, one) for one in shown.values())]


def _failed(columns: Columns) -> Places:
    found = np.flatnonzero(columns.unanswered)
    return np.asarray(found[np.argsort(columns.at_s["scheduled"][found], kind="stable")])


def _read(columns: Columns, places: Places) -> dict[int, _Shown]:
    """The records at these places of the columns; one that cannot be read as an answer is left out."""
    by_digest = {int(columns.digest[place]): int(place) for place in places}
    wanted = np.array(list(by_digest), dtype=np.uint64)
    found = {}
    for block in decoded(only(columns.index, np.isin(columns.index.digest, wanted)), AnswerRecord):
        for record in block:
            place = by_digest[int(record.id[:16], 16)]
            found[place] = _Shown(place, record)
    return {int(place): found[int(place)] for place in places if int(place) in found}


def _row(summary: Summary, columns: Columns, shown: dict[int, _Shown], place: int) -> list[Cell]:
    one = shown.get(place)
    answer: Cell = NONE if one is None or summary.slim else Link("read", _key(one.record))
    return [
        f"{int(columns.input[place]):,}",
        _fixed(columns.at_s["scheduled"][place]),
        *(_ms(columns.ms[name][place]) for name in ("ttft", "ttft_sched", "e2e")),
        _whole(columns.completion_tokens[place]),
        NONE if one is None else _ended(one.record),
        answer,
    ]


def _fixed(value: float) -> str:
    return NONE if np.isnan(value) else f"{value:,.2f}"


def _ms(value: float) -> str:
    return number(None if np.isnan(value) else float(value))


def _whole(value: float) -> str:
    return NONE if np.isnan(value) else f"{int(value):,}"


def _ended(record: AnswerRecord) -> str:
    if record.error is not None:
        return _cut(f"{record.error.kind}: {record.error.message}", 200)
    if record.status == "cancelled":
        return f"cancelled by {record.cancelled_by or 'unknown'}"
    return record.finish_reason or "without a finish reason"


def _key(record: AnswerRecord) -> str:
    return f"answer-{record.id[:16]}"


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _disclosure(summary: Summary, one: _Shown) -> Disclosure:
    record = one.record
    texts = [(name, text) for name, text in _texts(record) if text]
    longest = max((len(text) for _, text in texts), default=0)
    note = ""
    if longest > _MOST_CHARS:
        note = (
            f"Cut after {_MOST_CHARS:,} of up to {longest:,} characters. The whole record: "
            f"grep {record.id} {summary.path}/records*.jsonl"
        )
    named = f" ({_cut(record.custom_id, 40)})" if record.custom_id else ""
    first = _cut(record.text or record.refusal or record.reasoning or "no text came", _SUMMARY_CHARS)
    failed = f", {record.error.kind}" if record.error is not None else ""
    return Disclosure(
        key=_key(record),
        summary=f"Request {record.index:,}{named}{failed}: {first}",
        facts=[("id", record.id), ("ended", _ended(record))],
        texts=[(name, text[:_MOST_CHARS] + "…" * (len(text) > _MOST_CHARS)) for name, text in texts],
        note=note,
    )


def _texts(record: AnswerRecord) -> list[tuple[str, str]]:
    out = [("Prompt", _prompt(record)), ("Reasoning", record.reasoning or ""), ("Answer", record.text)]
    out.append(("Refusal", record.refusal or ""))
    if record.tool_calls:
        out.append(("Tool calls", _json(record.tool_calls)))
    if not isinstance(record.choices, UnsetType):
        out += [(f"Choice {n}", _json(choice)) for n, choice in enumerate(record.choices, 1)]
    return out


def _prompt(record: AnswerRecord) -> str:
    if isinstance(record.request, UnsetType):
        return "(the request was not kept: --no-request)"
    if record.request.messages is None:
        prompt = record.request.prompt
        return prompt if isinstance(prompt, str) else _json(prompt)
    return "\n\n".join(_message(message) for message in record.request.messages)


def _message(message: dict[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else _json(content)
    return f"[{message.get('role', '?')}]\n{text}"


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
