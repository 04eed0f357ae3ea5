"""Faults of HTTP: refusals, redirects, bodies that are no event stream."""

from __future__ import annotations

from typing import Any

from runner.mock import framing, refusals
from runner.mock.fault import Fault, Scope, encoded, failed, staged
from runner.mock.framing import document, replaced, written
from runner.mock.refusals import HTML, JSON, Hint, Refusal, bare, limited, moved, page, told
from runner.mock.staging import Ending


def refused(
    name: str, kind: str, what: str, refusal: Refusal, scope: Scope = Scope.ANY, **more: Any
) -> Fault:
    """A fault that is a refusal."""
    return Fault(name=name, what=what, recorded=failed(kind, **more), refusal=refusal, scope=scope)


def limit(name: str, what: str, hint: Hint | None, wait_for: str, **more: Any) -> Fault:
    """A fault that is a 429."""
    return refused(name, "rate_limit", what, limited(hint), wait_for=wait_for, **more)


_STREAM_OPTIONS = told(
    400, "Unknown parameter: 'stream_options'.", "invalid_request_error", "unknown_parameter"
)
_DETAIL = [{"loc": ["body", "temperature"], "msg": "Input should be a valid number", "type": "float_parsing"}]

REFUSALS = (
    refused("400", "bad_request", "400, a bad value", told(400, "Invalid value.", "invalid_request_error")),
    refused(
        "400-context",
        "bad_request",
        "400, the prompt is longer than the context, in the words of llama.cpp",
        bare(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 9000,
                    "n_ctx": 8192,
                }
            },
        ),
    ),
    refused(
        "400-stream-options",
        "bad_request",
        "400 to requests with `stream_options`; others are answered",
        _STREAM_OPTIONS,
        Scope.USAGE,
    ),
    refused("401", "auth", "401, the error is a text and no object", bare(401, {"error": "Unauthorized"})),
    refused(
        "402", "quota", "402, no credit left", bare(402, {"error": {"message": "Add credits.", "code": 402}})
    ),
    refused("403", "auth", "403", told(403, "You may not use this model.", "permission_error")),
    refused(
        "404",
        "bad_request",
        "404, no such model",
        told(404, "The model does not exist.", "invalid_request_error", "model_not_found"),
    ),
    refused("408", "timeout", "408", told(408, "Request timed out.", "timeout"), timer="server"),
    refused("409", "server_error", "409", told(409, "Lock timeout, try again.", "conflict_error")),
    refused("413", "bad_request", "413, as a web page", page(413, "Request Entity Too Large")),
    refused("422", "bad_request", "422, the error under `detail`", bare(422, {"detail": _DETAIL})),
    limit("429", "429 with `Retry-After` in seconds (`--retry-after`)", refusals.in_seconds, "retry-after"),
    limit("429-date", "429 with `Retry-After` as a date", refusals.as_date, "retry-after"),
    limit(
        "429-ms",
        "429 with `retry-after-ms`, and a longer `Retry-After`",
        refusals.in_milliseconds,
        "retry-after-ms",
    ),
    limit(
        "429-reset",
        "429 with `x-ratelimit-reset-*` of two limits, one of them with 0 remaining",
        refusals.as_reset,
        "x-ratelimit-reset",
    ),
    limit(
        "429-provider",
        "429 with `llm_provider-retry-after`, as gateways hand it on",
        refusals.of_provider,
        "retry-after",
    ),
    limit("429-no-hint", "429 that does not say when to come back", None, "backoff"),
    limit("429-unreadable", "429 with hints that make no sense", refusals.unreadable, "backoff"),
    limit(
        "429-far", "429 that asks to wait for an hour", refusals.far, "", again="later, by the same command"
    ),
    refused(
        "429-quota",
        "quota",
        "429 with the code `insufficient_quota`: no credit left",
        told(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
    ),
    refused("500", "server_error", "500", told(500, "The server had an error. Sorry!", "server_error")),
    refused("500-empty", "server_error", "500 without a body", Refusal(500, b"", "text/plain")),
    refused("502", "server_error", "502, as a web page", page(502, "Bad Gateway")),
    refused("503", "overloaded", "503", told(503, "The engine is overloaded.", "service_unavailable")),
    refused("504", "server_error", "504, as a web page", page(504, "Gateway Time-out")),
    refused("524", "server_error", "524, as a web page", page(524, "A timeout occurred")),
    refused("529", "overloaded", "529", told(529, "Overloaded", "overloaded_error")),
)

REDIRECTS = (
    refused(
        "301", "redirect", "301 to the same path under https", moved(301, "https://127.0.0.1/v1/completions")
    ),
    refused("302", "redirect", "302 to a page to log in", moved(302, "/login")),
    refused("307", "redirect", "307 to another host", moved(307, "http://127.0.0.2/v1/chat/completions")),
    refused("308", "redirect", "308 to another path", moved(308, "/v2/chat/completions")),
    refused("308-nowhere", "redirect", "308 that does not say where to", Refusal(308, b"", "text/plain")),
)

_ERROR = refusals.error_body("The server had an error. Sorry!", "server_error")


def _body(name: str, kind: str, what: str, body: bytes, content_type: str | None, **stage: Any) -> Fault:
    return staged(name, what, failed(kind), document(body), content_type=content_type, **stage)


BODIES = (
    _body("html", "bad_content_type", "200 with a web page", refusals.html("Log in"), HTML),
    _body(
        "html-as-stream",
        "bad_content_type",
        "a web page that is called an event stream",
        refusals.html("Log in"),
        "text/event-stream",
    ),
    _body("text", "bad_content_type", "200 with plain text", b"Service is starting\n", "text/plain"),
    _body("json-error", "server_error", "200 with an error as one JSON body", _ERROR, JSON),
    _body("json-other", "bad_content_type", "200 with JSON that is no completion", b'{"status":"ok"}', JSON),
    staged(
        "ndjson",
        "200 with chunks as lines of JSON",
        failed("bad_content_type"),
        lambda source: framing.as_lines(source.events),
        content_type="application/x-ndjson",
    ),
    staged(
        "garbage",
        "bytes that are no HTTP",
        failed("protocol"),
        document(b"220 mail.example ESMTP\r\n"),
        Scope.ANY,
        head=False,
        ending=Ending.CLOSE,
    ),
    staged(
        "huge-head",
        "a header of 128 KiB",
        failed("protocol"),
        written(),
        headers=(("x-padding", "x" * (128 << 10)),),
    ),
    staged(
        "bad-gzip",
        "gzip that is spoiled half-way",
        failed("bad_encoding", text="part"),
        written(framing.compressed(31), framing.spoiled),
        headers=encoded("gzip"),
    ),
    staged(
        "unknown-encoding",
        "a content encoding that was not asked for and cannot be undone (`br`)",
        failed("bad_encoding", again="no"),
        written(replaced(b"data", b"\x8b\x02\x80")),
        headers=encoded("br"),
    ),
)
