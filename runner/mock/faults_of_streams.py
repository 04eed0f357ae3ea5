"""Faults inside the event stream: its framing, its chunks, its errors."""

from __future__ import annotations

from typing import Any

from runner.mock import channels, framing, oddities
from runner.mock.channels import THINK
from runner.mock.events import (
    Body,
    Change,
    Event,
    Piece,
    Source,
    framed,
    is_done,
    is_finish,
    is_role,
    is_usage,
)
from runner.mock.fault import GOOD, Fault, Recorded, Scope, failed, staged
from runner.mock.framing import COMMENT, replaced, written
from runner.mock.oddities import between, each, failing, finish_as, given_up, kept, spliced, without
from runner.mock.staging import changed, nothing


def _error(name: str, kind: str, what: str, change: Change, *, text: Any = "part", **more: Any) -> Fault:
    return staged(name, what, failed(kind, text=text, **more), changed(change))


def _said(message: str, error_type: str | None = None, code: str | int | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": error_type, "param": None, "code": code}}


_SORRY = _said("The server had an error. Sorry!", "server_error")
_KILLED = _said("EngineCore encountered an issue. See the stack trace.", "InternalServerError", 500)
_TOP = {"object": "error", "message": "max_tokens is too large", "type": "BadRequestError", "code": 400}

_LOADING = _said("Loading model", "unavailable_error", 503)


def _bare_error(source: Source) -> list[Piece]:
    return replaced(b'data: {"error"', b'{"error"')(framed(failing(_LOADING)(source.events)))


ERRORS = (
    _error(
        "error-first",
        "server_error",
        "an error object in place of the answer",
        failing(_SORRY, first=True),
        text="none",
    ),
    _error("error-mid", "server_error", "an error object after half of the tokens", failing(_SORRY)),
    _error(
        "error-done",
        "server_error",
        "an error object after half of the tokens, then `[DONE]`",
        failing(_SORRY, done=True),
    ),
    _error(
        "error-string",
        "stream_error",
        "`error` is a text",
        failing({"error": "upstream went away"}, done=True),
    ),
    _error(
        "error-event",
        "overloaded",
        "an event of the type `error`, with an object",
        failing({"type": "overloaded_error", "message": "Overloaded"}, event="error"),
    ),
    _error(
        "error-event-text",
        "stream_error",
        "an event of the type `error`, with plain text",
        failing(b"upstream went away", event="error"),
    ),
    _error(
        "error-object",
        "bad_request",
        "an object that is the error itself, with none around it",
        failing(_TOP, first=True, done=True),
        text="none",
    ),
    _error(
        "error-detail",
        "stream_error",
        "the error under `detail`",
        failing({"detail": "CUDA out of memory"}),
    ),
    staged(
        "error-bare",
        "a line that is an error object, without `data:` before it",
        failed("overloaded", text="part"),
        _bare_error,
    ),
    _error(
        "error-rate-limit",
        "rate_limit",
        "a rate limit, told inside the stream",
        failing(_said("Rate limit reached.", "tokens", "rate_limit_exceeded"), first=True),
        text="none",
    ),
    _error(
        "error-quota",
        "quota",
        "no credit left, told inside the stream",
        failing(_said("You exceeded your quota.", "insufficient_quota", 429), first=True),
        text="none",
    ),
    _error(
        "error-code-text",
        "server_error",
        "an error whose code is the text `500` and whose type is the text `None` (a gateway's backend died)",
        failing(_said("Connection error.", "None", "500")),
    ),
    _error(
        "engine-killed",
        "server_error",
        "the engine behind the server was killed: an error object, then `[DONE]`",
        failing(_KILLED, done=True),
    ),
    _error(
        "plain-text",
        "bad_json",
        "plain text where JSON should be",
        failing(b"Internal Server Error", done=True),
    ),
    _error("bad-json", "bad_json", "an event that ends in the middle of its JSON", oddities.broken_json),
    _error(
        "deep-json",
        "bad_json",
        "JSON nested 100,000 deep",
        failing(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, done=True),
    ),
    *(
        _error(
            name,
            "server_error",
            f"half of the tokens, then the finish reason `{reason}`",
            given_up(reason),
            finish=reason,
            usage="same",
        )
        for name, reason in (
            ("finish-error", "error"),
            ("finish-abort", "abort"),
            ("finish-no-resource", "insufficient_system_resource"),
        )
    ),
)

EMPTY = (
    staged("empty-body", "200 and no body", failed("empty_stream"), nothing, carry=framing.sized),
    staged("empty-chunked", "200 and a chunked body of nothing", failed("empty_stream"), nothing),
    staged(
        "comments-only",
        "comments, and the end of the body",
        failed("empty_stream"),
        framing.document(COMMENT * 3),
    ),
    _error("done-only", "empty_stream", "`[DONE]` and nothing else", kept(is_done), text="none"),
    _error("role-done", "empty_stream", "the role, then `[DONE]`", kept(is_role, is_done), text="none"),
    _error(
        "usage-done",
        "empty_stream",
        "usage, then `[DONE]`",
        kept(is_usage, is_done),
        text="none",
        usage="same",
    ),
    staged(
        "role-only",
        "the role, and the end of the body",
        failed("truncated"),
        changed(kept(is_role)),
        Scope.CHAT,
    ),
    staged(
        "finish-only",
        "a finish reason and no token",
        Recorded(text="none"),
        changed(without(oddities.is_token)),
    ),
)


def _framed(name: str, what: str, body: Body, recorded: Recorded = GOOD, **stage: Any) -> Fault:
    return staged(name, what, recorded, body, **stage)


_FIELDS = b'retry: 3000\n\nid: 1\n\nevent: ping\n\nevent: ping\ndata: {"type":"ping"}\n\ndata:\n\ndata\n\n'
_BLANK = b"\n\n"


def _message(event: Event) -> Event:
    return Event(event.payload, event.tokens, event.beat, "message")


FRAMING = (
    _framed("crlf", "lines end in CR LF", written(replaced(b"\n", b"\r\n"))),
    _framed("cr", "lines end in CR", written(replaced(b"\n", b"\r"))),
    _framed("mixed-ends", "LF, CR LF and CR by turns", written(framing.mixed_ends)),
    _framed(
        "split-crlf",
        "the last CR and its LF in packets of their own",
        written(replaced(b"\n", b"\r\n"), framing.cut_apart(framing.inside_line_end)),
    ),
    _framed(
        "comments",
        "comments before the first event and between all others",
        written(framing.each_led_by(b": ping\r\n\r\n"), framing.led_by(b": PROCESSING\n\n:\n\n")),
    ),
    _framed(
        "comment-flood", "20,000 comments before the first event", written(framing.led_by(COMMENT * 20_000))
    ),
    _framed(
        "comment-as-data",
        "a comment behind `data:`",
        written(framing.led_by(b"data: : PROCESSING\n\n")),
    ),
    _framed("bom", "a byte order mark", written(framing.led_by(b"\xef\xbb\xbf"))),
    _framed("no-space", "no space after `data:`", written(replaced(b"data: ", b"data:"))),
    _framed("two-spaces", "two spaces after `data:`", written(replaced(b"data: ", b"data:  "))),
    _framed("lines", "JSON over several `data:` lines", lambda source: framing.over_lines(source.events)),
    _framed(
        "fields",
        "`id:` with every event, and `retry:`, `id:`, `event:` and `data:` with nothing to say",
        written(framing.each_led_by(b"id: 7\n"), framing.led_by(_FIELDS)),
    ),
    _framed("messages", "every event has the type `message`", changed(each(_message, lambda _: True))),
    _framed("no-blank-line", "no blank line after `[DONE]`", written(framing.without_end(b"\n"))),
    _framed("no-line-end", "no line end after `[DONE]`", written(framing.without_end(_BLANK))),
    _framed("no-done", "no `[DONE]`", changed(without(is_done))),
    _framed(
        "no-done-no-line-end",
        "no `[DONE]`, and no line end after the last event",
        lambda source: framing.without_end(_BLANK)(framed(without(is_done)(source.events))),
    ),
    _framed("bytes", "every byte in a packet of its own", written(framing.bytewise)),
    _framed(
        "split-utf8",
        "characters cut in two by packets",
        written(framing.cut_apart(framing.inside_character)),
    ),
    _framed("one-write", "the whole body at once", written(framing.at_once)),
    _framed("huge-event", "two events of 2 MiB", changed(oddities.huge)),
    _framed(
        "line-separators",
        "U+2028, U+2029 and U+0085 inside the JSON: no line ends",
        changed(spliced('"pad":"a\u2028b\u2029c\u0085d",'.encode())),
    ),
    _framed(
        "invalid-utf8", "bytes that are no UTF-8 (not in the text)", changed(spliced(b'"pad":"a\xffb",'))
    ),
)


def _chunks(name: str, what: str, change: Change, **recorded: Any) -> Fault:
    return staged(name, what, Recorded(**recorded), changed(change), Scope.CHAT)


CHUNKS = (
    _chunks("role-null", "the role with `content: null`", oddities.role(role="assistant", content=None)),
    _chunks("role-alone", "the role without `content`", oddities.role(role="assistant")),
    _chunks("role-everywhere", "the role with every token", oddities.role_everywhere),
    _chunks("role-never", "no role", without(is_role)),
    _chunks("choices-empty", "a chunk with `choices: []` after every token", between(choices=[])),
    _chunks("choices-null", "a chunk with `choices: null` after every token", between(choices=None)),
    _chunks("choices-missing", "a chunk without `choices` after every token", between(choices=...)),
    _chunks(
        "filters",
        "Azure's content filter: `delta: null` after every token, no `delta` after the finish",
        oddities.filters,
    ),
    _chunks("grouped", "four tokens in a chunk", oddities.grouped),
    _chunks("content-parts", "`content` is a list of typed parts", oddities.parts),
    _chunks(
        "finish-blank",
        'finish reasons `""` and `"null"` before the real one, null after it',
        oddities.finish_blank,
    ),
    _chunks("finish-twice", "a second finish reason: the last one holds", oddities.finish_twice),
    _chunks("finish-unknown", "a finish reason nobody knows", finish_as("eos_token"), finish="eos_token"),
    _chunks(
        "finish-with-last", "the last token and the finish reason in one chunk", oddities.finish_with_last
    ),
    _chunks("finish-missing", "no finish reason, but `[DONE]`", without(is_finish), finish="none"),
    _chunks("usage-with-finish", "usage in the chunk with the finish reason", oddities.usage_with_finish),
    _chunks("usage-nested", "usage under `x_groq`", oddities.usage_nested),
    _chunks("usage-everywhere", "the running total with every chunk", oddities.usage_everywhere),
    _chunks("usage-twice", "usage with the finish reason, and other usage after it", oddities.usage_twice),
    _chunks("usage-null-last", "`usage: null` after usage", oddities.usage_null_last),
    _chunks("usage-partial", "usage without prompt tokens and total", oddities.usage_partial, usage="tokens"),
    _chunks("usage-alone", "usage in a chunk without `choices`", oddities.usage_alone),
    _chunks("usage-absent", "no usage, though it was asked for", without(is_usage), usage="none"),
    _chunks(
        "reasoning-content",
        "thoughts as `reasoning_content`",
        channels.reasoning("reasoning_content"),
        reasoning=True,
    ),
    _chunks("reasoning", "thoughts as `reasoning`", channels.reasoning("reasoning"), reasoning=True),
    _chunks(
        "reasoning-both",
        "thoughts under both names, the same text",
        channels.reasoning("reasoning", "reasoning_content"),
        reasoning=True,
    ),
    _chunks(
        "reasoning-parts", "thoughts as typed parts of `content`", channels.reasoning_parts, reasoning=True
    ),
    _chunks("think", "thoughts inside the text, in `<think>`", channels.think, before=THINK),
    *(
        _chunks(name, what, change, calls=calls, text="none", finish="tool_calls")
        for name, what, calls, change in (
            ("tool-call", "a tool call, its arguments in pieces", 1, channels.tools),
            ("tool-calls-parallel", "two tool calls, their pieces by turns", 2, channels.tools_parallel),
            ("tool-calls-no-index", "two tool calls without `index`", 2, channels.tools_without_index),
            ("tool-calls-one-index", "two tool calls, both with `index: 0`", 2, channels.tools_one_index),
            ("tool-call-repeated", "id and name with every piece", 1, channels.tools_repeated),
            ("tool-call-object", "arguments that are an object and no text", 1, channels.tools_object),
            ("function-call", "the older `function_call`", 1, channels.function_call),
        )
    ),
    _chunks(
        "two-choices",
        "two choices by turns, though one was asked for",
        oddities.second_choice(late=False),
        choices=2,
    ),
    _chunks(
        "late-choice",
        "a second choice that begins after the finish of the first",
        oddities.second_choice(late=True),
        choices=2,
    ),
    _chunks("error-null", "`error: null` in every chunk", spliced(b'"error":null,')),
    _chunks("unknown-keys", "keys nobody knows, on all levels", oddities.unknown_keys),
    _chunks("odd-types", "data that is JSON and no chunk: 7, null, a text, a list", oddities.odd_types),
    _chunks("nan", "NaN and Infinity", spliced(b'"score":NaN,"best":-Infinity,')),
    _chunks("huge-number", "a number of 400 digits", spliced(b'"count":' + b"9" * 400 + b",")),
    _chunks("duplicate-keys", "`choices` twice: the last one holds", spliced(b'"choices":[],')),
    _chunks("lone-surrogate", "half a surrogate pair (not in the text)", spliced(b'"pad":"a\\ud83db",')),
    _chunks("split-surrogates", "emoji cut in two, half in each of two chunks", oddities.halved_characters),
)
