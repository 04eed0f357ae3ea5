"""Streams that are failures, and of which kind."""

from __future__ import annotations

from runner.record import ErrorKind
from tests.runner.streams_json import HELLO, UNFINISHED, Case, delta, sse, usage

BAD: dict[str, Case] = {
    "nothing": Case(b"", ErrorKind.EMPTY_STREAM, "", None),
    "only comments": Case(b": a\n\n: b\n\n", ErrorKind.EMPTY_STREAM, "", None),
    "only done": Case(sse(done=True), ErrorKind.EMPTY_STREAM, "", None),
    "role, then done": Case(sse(HELLO[0], done=True), ErrorKind.EMPTY_STREAM, "", None),
    "only usage": Case(
        sse({"choices": [], "usage": usage(0)}), ErrorKind.EMPTY_STREAM, "", None, usage=usage(0)
    ),
    "cut": Case(sse(*UNFINISHED), ErrorKind.TRUNCATED, "Hello", None, tokens=2),
    "cut inside an event": Case(
        sse(*UNFINISHED) + b'data: {"choices":[{"delta"', ErrorKind.TRUNCATED, "Hello", None
    ),
    "cut inside done": Case(sse(*UNFINISHED) + b"data: [DON", ErrorKind.TRUNCATED, "Hello", None),
    "finish reason null as a word": Case(
        sse(delta("Hello"), delta(finish="null")), ErrorKind.TRUNCATED, "Hello", None
    ),
    "finish reason empty": Case(sse(delta("Hello"), delta(finish="")), ErrorKind.TRUNCATED, "Hello", None),
    "one choice of two unfinished": Case(
        sse(delta("Hello", finish="stop"), delta("By", index=1)), ErrorKind.TRUNCATED, "Hello"
    ),
    "abort": Case(sse(*UNFINISHED, delta(finish="abort"), done=True), ErrorKind.SERVER_ERROR, finish="abort"),
    "finish_reason error": Case(sse(delta("Hello", finish="error")), ErrorKind.SERVER_ERROR, finish="error"),
    "insufficient_system_resource": Case(
        sse(delta("Hello", finish="insufficient_system_resource"), done=True),
        ErrorKind.SERVER_ERROR,
        finish="insufficient_system_resource",
    ),
    "error object first": Case(sse({"error": {"message": "m"}}, done=True), ErrorKind.STREAM_ERROR, "", None),
    "error object mid-stream": Case(
        sse(*UNFINISHED, {"error": {"message": "x", "type": "overloaded_error"}}),
        ErrorKind.OVERLOADED,
        "Hello",
        None,
        tokens=2,
    ),
    "error object with choices": Case(
        sse(*UNFINISHED, {**delta(finish="error"), "error": {"code": 502, "message": "x"}}, done=True),
        ErrorKind.SERVER_ERROR,
        "Hello",
        None,
    ),
    "error string": Case(sse(*UNFINISHED, {"error": "boom"}), ErrorKind.STREAM_ERROR, "Hello", None),
    "error after the finish": Case(
        sse(*HELLO, {"error": "boom"}, done=True), ErrorKind.STREAM_ERROR, usage=usage(2)
    ),
    "error code as a string": Case(
        sse({"error": {"message": "x", "type": "None", "param": "None", "code": "500"}}),
        ErrorKind.SERVER_ERROR,
        "",
        None,
    ),
    "rate limit in-band": Case(sse({"error": {"code": 429, "message": "x"}}), ErrorKind.RATE_LIMIT, "", None),
    "quota in-band": Case(
        sse({"error": {"type": "insufficient_quota", "code": 429, "message": "x"}}), ErrorKind.QUOTA, "", None
    ),
    "error event, json": Case(
        sse(*UNFINISHED, ("error", {"message": "x", "type": "server_error"}), done=True),
        ErrorKind.SERVER_ERROR,
        "Hello",
        None,
    ),
    "error event, text": Case(sse(("error", b"upstream gone")), ErrorKind.STREAM_ERROR, "", None),
    "error event, string": Case(sse(("error", "upstream gone")), ErrorKind.STREAM_ERROR, "", None),
    "top-level error object": Case(
        sse({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}),
        ErrorKind.BAD_REQUEST,
        "",
        None,
    ),
    "top-level detail": Case(sse({"detail": "model is loading"}), ErrorKind.STREAM_ERROR, "", None),
    "error line without data": Case(
        sse(*UNFINISHED) + b'{"error": {"message": "x", "code": 503}}\n\n',
        ErrorKind.OVERLOADED,
        "Hello",
        None,
    ),
    "plain text where json should be": Case(
        sse(*UNFINISHED, b"Internal Server Error", done=True), ErrorKind.BAD_JSON, "Hello", None
    ),
    "half an event": Case(sse(*UNFINISHED, b'{"choices":[', done=True), ErrorKind.BAD_JSON, "Hello", None),
    "nested too deep": Case(
        sse(*UNFINISHED, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, done=True),
        ErrorKind.BAD_JSON,
        "Hello",
        None,
    ),
}
