"""What servers put into a stream when it fails, by the words and numbers they use for it."""

from __future__ import annotations

import json
from typing import Any

from runner.record import ErrorKind as Kind
from tests.runner.streams_json import HELLO, UNFINISHED, Case, delta, sse, usage


def _err(message: str = "m", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


_PAYLOADS: list[tuple[str, Any, Kind]] = [
    ("openai, server", _err(type="server_error", param=None, code=None), Kind.SERVER_ERROR),
    ("openai, tokens", _err(type="tokens", code="rate_limit_exceeded"), Kind.RATE_LIMIT),
    ("openai, quota", _err(type="insufficient_quota", code="insufficient_quota"), Kind.QUOTA),
    ("openai, key", _err(type="invalid_request_error", code="invalid_api_key"), Kind.AUTH),
    ("openai, context", _err(type="invalid_request_error", code="context_length_exceeded"), Kind.BAD_REQUEST),
    ("openai, filter", _err(code="content_filter", status=400), Kind.BAD_REQUEST),
    ("azure, number as text", _err(code="429"), Kind.RATE_LIMIT),
    ("azure, api management", {"statusCode": 429, "message": "Rate limit is exceeded"}, Kind.RATE_LIMIT),
    ("azure, no permission", {"statusCode": 401, "message": "Access denied"}, Kind.AUTH),
    ("anthropic, overloaded", {"type": "error", **_err(type="overloaded_error")}, Kind.OVERLOADED),
    ("anthropic, rate", {"type": "error", **_err(type="rate_limit_error")}, Kind.RATE_LIMIT),
    ("anthropic, billing", {"type": "error", **_err(type="billing_error")}, Kind.QUOTA),
    ("anthropic, api", {"type": "error", **_err(type="api_error")}, Kind.SERVER_ERROR),
    ("anthropic, too large", {"type": "error", **_err(type="request_too_large")}, Kind.BAD_REQUEST),
    ("google, exhausted", _err(code=429, status="RESOURCE_EXHAUSTED"), Kind.RATE_LIMIT),
    ("google, a list", [_err(code=503, status="UNAVAILABLE")], Kind.OVERLOADED),
    ("google, a word only", _err(status="DEADLINE_EXCEEDED"), Kind.TIMEOUT),
    ("google, argument", _err(status="INVALID_ARGUMENT"), Kind.BAD_REQUEST),
    ("google, internal", _err(code=500, status="INTERNAL"), Kind.SERVER_ERROR),
    ("google, unauthenticated", _err(status="UNAUTHENTICATED"), Kind.AUTH),
    (
        "mistral, object",
        {"object": "error", "message": "m", "type": "rate_limited", "code": "1300"},
        Kind.RATE_LIMIT,
    ),
    ("mistral, message only", {"message": "m", "request_id": "r"}, Kind.STREAM_ERROR),
    ("deepseek, balance", _err(type="insufficient_balance", code="402"), Kind.QUOTA),
    ("groq, over capacity", {**HELLO[1], "x_groq": {"error": "over_capacity"}}, Kind.OVERLOADED),
    ("groq, tool use", _err(type="invalid_request_error", code="tool_use_failed"), Kind.BAD_REQUEST),
    ("xai, code beside a text", {"code": "unauthenticated:bad-credentials", "error": "m"}, Kind.AUTH),
    ("number beside a text", {"error": "m", "code": 429}, Kind.RATE_LIMIT),
    ("status beside a text", {"error": "m", "status": 503}, Kind.OVERLOADED),
    ("status beside an object", {"error": {"message": "m"}, "status_code": 500}, Kind.SERVER_ERROR),
    ("spring", {"timestamp": "t", "status": 502, "error": "Bad Gateway", "path": "/"}, Kind.SERVER_ERROR),
    ("moonshot, overloaded", _err(type="engine_overloaded_error"), Kind.OVERLOADED),
    ("moonshot, no credit", _err(type="exceeded_current_quota_error"), Kind.QUOTA),
    ("minimax, rate", {"base_resp": {"status_code": 1002, "status_msg": "m"}}, Kind.RATE_LIMIT),
    (
        "minimax, balance",
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "m"}},
        Kind.QUOTA,
    ),
    ("minimax, key", {"choices": [], "base_resp": {"status_code": 1004, "status_msg": "m"}}, Kind.AUTH),
    ("minimax, time", {"base_resp": {"status_code": 1001, "status_msg": "m"}}, Kind.TIMEOUT),
    ("minimax, parameters", {"base_resp": {"status_code": 2013, "status_msg": "m"}}, Kind.BAD_REQUEST),
    ("minimax, inside", {"base_resp": {"status_code": 1013, "status_msg": "m"}}, Kind.SERVER_ERROR),
    ("minimax, unknown", {"base_resp": {"status_code": 9, "status_msg": "m"}}, Kind.STREAM_ERROR),
    ("dashscope, throttling", {"code": "Throttling.RateQuota", "message": "m"}, Kind.RATE_LIMIT),
    ("dashscope, key", {"code": "InvalidApiKey", "message": "m"}, Kind.AUTH),
    ("dashscope, bill", {"code": "Arrearage", "message": "m"}, Kind.QUOTA),
    ("dashscope, inspection", _err(code="data_inspection_failed"), Kind.BAD_REQUEST),
    ("cohere, message", {"message": "m"}, Kind.STREAM_ERROR),
    ("cloudflare, errors", {"success": False, "errors": [{"code": 429, "message": "m"}]}, Kind.RATE_LIMIT),
    ("cloudflare, a word", {"success": False, "errors": ["m"]}, Kind.STREAM_ERROR),
    ("bedrock, throttling", {"throttlingException": {"message": "m"}}, Kind.RATE_LIMIT),
    ("bedrock, stream", {"modelStreamErrorException": {"message": "m"}}, Kind.SERVER_ERROR),
    ("bedrock, unavailable", {"serviceUnavailableException": {"message": "m"}}, Kind.OVERLOADED),
    ("bedrock, validation", {"__type": "com.amazon#ValidationException", "message": "m"}, Kind.BAD_REQUEST),
    ("litellm, text code", _err(type="None", param="None", code="500"), Kind.SERVER_ERROR),
    ("litellm, throttling", _err(type="throttling_error", code="429"), Kind.RATE_LIMIT),
    ("litellm, class", _err(type="RateLimitError", code=None), Kind.RATE_LIMIT),
    ("litellm, context", _err(type="ContextWindowExceededError"), Kind.BAD_REQUEST),
    (
        "vllm, object",
        {"object": "error", "message": "m", "type": "InternalServerError", "code": 500},
        Kind.SERVER_ERROR,
    ),
    ("vllm, nested", _err(type="BadRequestError", param=None, code=400), Kind.BAD_REQUEST),
    ("vllm, dead engine", _err(type="EngineDeadError"), Kind.SERVER_ERROR),
    (
        "sglang",
        {"error": {"object": "error", "message": "m", "type": "ServiceUnavailable", "code": 503}},
        Kind.OVERLOADED,
    ),
    ("llama.cpp", _err(code=500, type="server_error"), Kind.SERVER_ERROR),
    ("llama.cpp, context", _err(type="exceed_context_size_error", n_ctx=512), Kind.BAD_REQUEST),
    ("llama.cpp, loading", _err(type="unavailable_error", code=503), Kind.OVERLOADED),
    ("ollama, text", {"error": "m"}, Kind.STREAM_ERROR),
    ("tgi, overloaded", {"error": "m", "error_type": "overloaded"}, Kind.OVERLOADED),
    ("tgi, generation", {"error": "m", "error_type": "generation"}, Kind.SERVER_ERROR),
    ("tgi, validation", {"error": "m", "error_type": "validation"}, Kind.BAD_REQUEST),
    ("tgi, status", _err(http_status_code=422), Kind.BAD_REQUEST),
    ("lm studio", {"error": {"message": "m"}}, Kind.STREAM_ERROR),
    ("together", _err(type="overloaded", code=None), Kind.OVERLOADED),
    (
        "fireworks",
        {"error": {"object": "error", "type": "internal_server_error", "message": "m"}},
        Kind.SERVER_ERROR,
    ),
    ("perplexity", _err(type="invalid_model", code=400), Kind.BAD_REQUEST),
    ("baidu", {"error_code": 17, "error_msg": "m"}, Kind.STREAM_ERROR),
    ("zhipu", {"code": 500, "msg": "m", "success": False}, Kind.SERVER_ERROR),
    ("fastapi, detail", {"detail": [{"loc": ["body"], "msg": "m"}]}, Kind.STREAM_ERROR),
    ("aws gateway", {"Message": "m"}, Kind.STREAM_ERROR),
    (
        "openrouter, the choice's",
        {"choices": [{"index": 0, "error": {"code": 502, "message": "m"}}]},
        Kind.SERVER_ERROR,
    ),
    ("openrouter, the choice's text", {"choices": [{"index": 0, "error": "m"}]}, Kind.STREAM_ERROR),
    ("openrouter, no class but aborted", {**delta(finish="error"), **_err()}, Kind.SERVER_ERROR),
    ("error true", {"error": True}, Kind.STREAM_ERROR),
    ("error number", {"error": 503}, Kind.STREAM_ERROR),
    ("error list", {"error": ["m"]}, Kind.STREAM_ERROR),
    ("the word quota in a text", _err("your quota is exceeded", code=429), Kind.RATE_LIMIT),
    ("a code that is an object", _err(code={"a": 1}, type=["x"]), Kind.STREAM_ERROR),
    ("redirect inside", _err(code=302), Kind.REDIRECT),
]

IN_BAND: dict[str, Case] = {}
for _name, _payload, _kind in _PAYLOADS:
    _keeps = isinstance(_payload, dict) and _payload.get("choices") == HELLO[1]["choices"]
    IN_BAND[f"in-band: {_name}"] = Case(
        sse(*UNFINISHED, _payload, done=True), _kind, "HelloHel" if _keeps else "Hello", None
    )

_FIRST = _err(code=503)
_LATE = [*HELLO, _FIRST]

IN_BAND |= {
    "error first, then done": Case(sse(_FIRST, done=True), Kind.OVERLOADED, "", None, tokens=0),
    "error first, then nothing": Case(sse(_FIRST), Kind.OVERLOADED, "", None, tokens=0),
    "error without a blank line": Case(sse(*UNFINISHED, _FIRST)[:-2], Kind.OVERLOADED, "Hello", None),
    "error beside a finish reason of an odd type": Case(
        sse(*UNFINISHED, {**delta(finish=["error"]), **_err()}), Kind.STREAM_ERROR, finish=None
    ),
    "error after everything": Case(sse(*_LATE, done=True), Kind.OVERLOADED, usage=usage(2), tokens=2),
    "error with usage": Case(
        sse(*UNFINISHED, {**_FIRST, "usage": usage(2)}), Kind.OVERLOADED, finish=None, usage=usage(2)
    ),
    "error with the last text and usage": Case(
        sse(*HELLO[:2], {**delta("lo", finish="error"), **_FIRST, "usage": usage(2)}),
        Kind.OVERLOADED,
        finish=None,
        usage=usage(2),
        tokens=2,
    ),
    "text after an error": Case(sse(*HELLO[:2], _FIRST, *HELLO[2:]), Kind.OVERLOADED, "Hel", None, tokens=1),
    "two errors": Case(sse(_FIRST, _err(code=429)), Kind.OVERLOADED, "", None),
    "error event of groq": Case(
        sse(*UNFINISHED, ("error", _err(code="429"))), Kind.RATE_LIMIT, "Hello", None
    ),
    "error event, capital and a space": Case(sse(("Error ", b"m")), Kind.STREAM_ERROR, "", None),
    "error event, empty": Case(b"event: error\ndata\n\n", Kind.STREAM_ERROR, "", None),
    "error event, no data": Case(sse(*UNFINISHED) + b"event: error\n\n", Kind.TRUNCATED, "Hello", None),
    "error event, half json": Case(
        sse(*UNFINISHED, ("error", b'{"message": "m')), Kind.STREAM_ERROR, finish=None
    ),
    "error event, a number and nothing else": Case(sse(("error", {"code": 503})), Kind.OVERLOADED, "", None),
    "error event, list": Case(sse(("error", ["m"])), Kind.STREAM_ERROR, "", None),
    "error event after the finish": Case(sse(*HELLO, ("error", b"m")), Kind.STREAM_ERROR, usage=usage(2)),
    "error event after done": Case(sse(*HELLO, b"[DONE]", ("error", b"m")), usage=usage(2)),
    "error event left without its blank line": Case(
        sse(*UNFINISHED) + b'event: error\ndata: {"message": "m", "code": 503}', Kind.OVERLOADED, finish=None
    ),
    "bare error at the end, no line end": Case(
        sse(*UNFINISHED) + json.dumps(_FIRST).encode(), Kind.OVERLOADED, finish=None
    ),
    "bare error between data lines": Case(
        sse(*HELLO[:2]) + sse(HELLO[2])[:-1] + json.dumps(_FIRST).encode() + b"\n\n",
        Kind.OVERLOADED,
        finish=None,
        tokens=2,
    ),
    "bare error behind unfinished data": Case(
        sse(*HELLO[:2]) + sse(HELLO[2])[:-1] + json.dumps(_FIRST).encode(),
        Kind.OVERLOADED,
        finish=None,
        tokens=2,
    ),
    "error as a field": Case(
        sse(*UNFINISHED) + b'error: {"code":503,"message":"m","type":"unavailable_error"}\n\n',
        Kind.OVERLOADED,
        finish=None,
    ),
    "error as a field first": Case(b'error: {"code":400,"message":"m"}\n\n', Kind.BAD_REQUEST, "", None),
    "error as a field of text": Case(sse(*UNFINISHED) + b"error: oops\n\n", Kind.TRUNCATED, finish=None),
    "abort in capitals": Case(sse(delta("Hello", finish="ABORT")), Kind.SERVER_ERROR, finish="ABORT"),
    "abort of one choice of two": Case(
        sse(delta("Hello", finish="stop"), delta("x", index=1, finish="abort"), done=True), Kind.SERVER_ERROR
    ),
    "abort without a token": Case(sse(delta(finish="abort"), done=True), Kind.SERVER_ERROR, "", "abort"),
    "abort taken back": Case(sse(delta("Hello", finish="abort"), delta(finish="stop"))),
    # not an error, and no answer either
    "only a role": Case(sse(HELLO[0]), Kind.TRUNCATED, "", None, tokens=0),
    "only empty choices": Case(sse({"choices": []}, done=True), Kind.EMPTY_STREAM, "", None),
    "only empty choices, no done": Case(sse({"choices": []}), Kind.EMPTY_STREAM, "", None),
    "only blank lines": Case(b"\n\n\r\n\r\n\r", Kind.EMPTY_STREAM, "", None),
    "only fields without data": Case(b"id: 1\n\nretry: 5\n\nevent: x\n\n", Kind.EMPTY_STREAM, "", None),
    "only a bom": Case(b"\xef\xbb\xbf", Kind.EMPTY_STREAM, "", None),
    "only done without a line end": Case(b"data: [DONE]", Kind.EMPTY_STREAM, "", None),
    "another api's events": Case(
        sse(("message_start", {"type": "message_start"}), ("message_stop", {"type": "message_stop"})),
        Kind.EMPTY_STREAM,
        "",
        None,
    ),
    "finish of one choice, role of another, done": Case(
        sse(delta(finish="stop"), delta(role="assistant", index=1), done=True), Kind.EMPTY_STREAM, ""
    ),
    "empty texts, then done": Case(
        sse(delta(""), delta(reasoning=""), done=True), Kind.EMPTY_STREAM, "", None
    ),
    "usage, then cut": Case(
        sse(*UNFINISHED, {"choices": [], "usage": usage(2)}), Kind.TRUNCATED, finish=None, usage=usage(2)
    ),
    "cut inside a tool call": Case(
        sse(delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}])),
        Kind.TRUNCATED,
        "",
        None,
        tokens=1,
    ),
    "cut inside the reasoning": Case(sse(delta(reasoning="hm")), Kind.TRUNCATED, "", None, tokens=1),
    "cut inside a character": Case(
        sse(*UNFINISHED) + b'data: {"choices":[{"delta":{"content":"\xe2\x82', Kind.TRUNCATED, finish=None
    ),
    "cut behind the finish": Case(sse(*HELLO[:4]) + b'data: {"usa'),
    "cut inside done behind the finish": Case(sse(*HELLO[:4]) + b"data: [DO"),
    "html in the middle": Case(
        sse(*UNFINISHED) + b"<html>502 Bad Gateway</html>\n", Kind.TRUNCATED, finish=None
    ),
    "html as data": Case(sse(*UNFINISHED, b"<html>"), Kind.BAD_JSON, finish=None),
    "text as data, first": Case(sse(b"Internal Server Error"), Kind.BAD_JSON, "", None),
    "half json of an unknown type": Case(sse(*UNFINISHED, ("chunk", b'{"choi')), Kind.BAD_JSON, finish=None),
    "text of an unknown type": Case(sse(*HELLO, ("note", b"hello"), done=True), usage=usage(2)),
    "single quotes": Case(sse(*UNFINISHED, b"{'choices': []}"), Kind.BAD_JSON, finish=None),
    "two objects on one line": Case(sse(*UNFINISHED, b"{}{}"), Kind.BAD_JSON, finish=None),
    "a tab inside a string": Case(sse(*UNFINISHED, b'{"a": "b\tc"}'), Kind.BAD_JSON, finish=None),
    "one of several lines is no json": Case(
        sse(*UNFINISHED)[:-1] + b"data: oops\n\n", Kind.BAD_JSON, "Hel", None
    ),
    "done, then bad json": Case(sse(*UNFINISHED, b"[DONE]", b"{oops"), finish=None),
    "finish, then bad json": Case(sse(*HELLO, b"{oops"), Kind.BAD_JSON, usage=usage(2)),
    "lists nested too deep": Case(sse(*UNFINISHED, b"[" * 100_000), Kind.BAD_JSON, finish=None),
}
