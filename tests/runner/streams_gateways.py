"""Streams in the exact words of providers, gateways and engines, where those differ from everybody else's."""

from __future__ import annotations

import json
from typing import Any

from runner.record import ErrorKind as Kind
from tests.runner.streams_json import HELLO, ID, UNFINISHED, Case, call, delta, fn, sse, tool, usage


def _choice(**fields: Any) -> dict[str, Any]:
    return {**ID, "choices": [fields]}


_END = delta(finish="stop")
_NONE: dict[str, Any] = {**ID, "choices": []}
_CALLED = delta(finish="tool_calls")


def _calls(*chunks: Any, made: list[dict[str, Any]], tokens: int, finish: str = "tool_calls") -> Case:
    return Case(sse(*chunks, done=True), text="", finish=finish, tokens=tokens, more={"tool_calls": made})


def _failed(kind: Kind, *chunks: Any, text: str = "Hello", finish: str | None = None) -> Case:
    return Case(sse(*UNFINISHED, *chunks), kind, text, finish)


GATEWAYS: dict[str, Case] = {
    # Azure
    "azure, asynchronous filters": Case(
        sse(
            {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []},
            *HELLO[:3],
            _choice(index=0, finish_reason=None, delta={}, content_filter_offsets={"start_offset": 1}),
            _choice(index=0, finish_reason="stop", delta={}),
            _choice(index=0, finish_reason=None, delta={}, content_filter_results={"hate": {}}),
            done=True,
        ),
        tokens=2,
    ),
    "azure, on your data": Case(
        sse(
            _choice(index=0, delta={"role": "assistant", "context": {"citations": []}}, end_turn=False),
            _choice(index=0, delta={"content": "Hello"}, end_turn=False, finish_reason=None),
            _choice(index=0, delta={}, end_turn=True, finish_reason="stop"),
            done=True,
        ),
        tokens=1,
    ),
    "azure, a filter error in the stream": _failed(
        Kind.BAD_REQUEST,
        {"error": {"code": "content_filter", "message": "m", "innererror": {"code": "ResponsibleAI"}}},
    ),
    "azure, no capacity": _failed(Kind.OVERLOADED, {"error": {"code": "NoCapacity", "message": "m"}}),
    # Gemini
    "gemini, all tokens thought": Case(
        sse({**delta(role="assistant", finish="length"), "usage": {"prompt_tokens": 7, "total_tokens": 99}}),
        text="",
        finish="length",
        tokens=0,
        usage={"prompt_tokens": 7, "total_tokens": 99},
    ),
    "gemini, a reason with its reason": Case(
        sse(delta("Hel"), delta(finish="content_filter: RECITATION"), done=True),
        text="Hel",
        finish="content_filter: RECITATION",
        tokens=1,
    ),
    "gemini, two calls, index 0 and empty ids": _calls(
        call(index=0, id="", type="function", function=fn("f", '{"x":1}')),
        call(index=0, id="", type="function", function=fn("g", '{"x":2}')),
        _CALLED,
        made=[tool(None, "f", '{"x":1}'), tool(None, "g", '{"x":2}')],
        tokens=2,
    ),
    "gemini, the same call twice, index 0 and no ids": _calls(
        call(index=0, function=fn("f", '{"x":1}')),
        call(index=0, function=fn("f", '{"x":2}')),
        delta(finish="stop"),
        made=[tool(None, "f", '{"x":1}'), tool(None, "f", '{"x":2}')],
        tokens=2,
        finish="stop",
    ),
    "gemini, two calls without ids in one chunk": _calls(
        delta(
            tool_calls=[
                {
                    "index": 0,
                    "function": fn("f", "{}"),
                    "extra_content": {"google": {"thought_signature": "s"}},
                },
                {"index": 0, "function": fn("f", '{"a": {}}')},
            ],
            finish="tool_calls",
        ),
        made=[
            {**tool(None, "f", "{}"), "extra_content": {"google": {"thought_signature": "s"}}},
            tool(None, "f", '{"a": {}}'),
        ],
        tokens=1,
    ),
    "the name with every piece, no id, index 0": _calls(
        call(index=0, function=fn("f", '{"x":')),
        call(index=0, function=fn("f", '{"y":2}')),
        call(index=0, function=fn("f", "}")),
        _CALLED,
        made=[tool(None, "f", '{"x":{"y":2}}')],
        tokens=3,
    ),
    "two calls with index 0, an id for the first only": _calls(
        call(index=0, id="a", function=fn("f", '{"x":1}')),
        call(index=0, function=fn("f", '{"x":2}')),
        _CALLED,
        made=[tool("a", "f", '{"x":1}'), tool(None, "f", '{"x":2}')],
        tokens=2,
    ),
    "two calls with index 0, an id for the second only": _calls(
        call(index=0, function=fn("f", '{"x":1}')),
        call(index=0, id="b", function=fn("f", '{"x":2}')),
        _CALLED,
        made=[tool(None, "f", '{"x":1}'), tool("b", "f", '{"x":2}')],
        tokens=2,
    ),
    "two calls with index 0, arguments that are objects": _calls(
        call(index=0, function={"name": "f", "arguments": {"x": 1}}),
        call(index=0, function={"name": "f", "arguments": {"x": 2}}),
        _CALLED,
        made=[tool(None, "f", '{"x": 1}'), tool(None, "f", '{"x": 2}')],
        tokens=2,
    ),
    "the name once more, and nothing after it": _calls(
        call(index=0, function=fn("f", '{"x":1}')),
        call(index=0, function=fn("f", "")),
        call(index=0, function=fn("f")),
        _CALLED,
        made=[tool(None, "f", '{"x":1}')],
        tokens=1,
    ),
    "a call, then a custom one with its index": _calls(
        call(index=0, function=fn("f", '{"x":1}')),
        call(index=0, custom={"name": "c", "input": "x"}),
        _CALLED,
        made=[{**tool(None, "f", '{"x":1}'), "custom": {"name": "c", "input": "x"}}],
        tokens=2,
    ),
    "no index, a name after arguments in pieces": _calls(
        call(function=fn("f", '{"x":')),
        call(function=fn(None, "1}")),
        call(function=fn("f", '{"x":')),
        call(function=fn(None, "2}")),
        _CALLED,
        made=[tool(None, "f", '{"x":1}'), tool(None, "f", '{"x":2}')],
        tokens=4,
    ),
    "calls of odd types": Case(
        sse(
            delta("Hel", tool_calls=7),
            delta("lo", tool_calls="x", function_call="y"),
            {**delta("!", function_call=None, tool_calls=None), "vendor": 1},
            _END,
        ),
        text="Hello!",
        tokens=3,
        more={"tool_calls": None},
    ),
    "no calls, and one the old way": _calls(
        delta(tool_calls=[], function_call=fn("f", "{}")),
        delta(finish="function_call"),
        made=[tool(None, "f", "{}")],
        tokens=1,
        finish="function_call",
    ),
    "the whole message at the end, by other names": Case(
        sse(
            delta("Hello", reasoning="hm", refusal="no", function_call=fn("f", "{}")),
            _choice(
                index=0,
                message={
                    "content": "Hello",
                    "reasoning": "hm",
                    "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
                    "refusal": "no",
                    "function_call": fn("f", "{}"),
                },
                finish_reason="stop",
            ),
            done=True,
        ),
        tokens=1,
        more={"reasoning": "hm", "refusal": "no", "tool_calls": [tool(None, "f", "{}")]},
    ),
    "a part without a text is no token": Case(
        sse(delta([{"type": "reference", "reference_ids": [1]}]), delta("Hello"), _END), tokens=1
    ),
    "a chunk as an error event, and as a ping": Case(
        sse(*UNFINISHED, ("ping", delta("x")), ("keepalive", delta("x")), ("keep_alive", delta("x")))
        + sse(("error", delta("x", finish="stop"))),
        Kind.STREAM_ERROR,
        "Hellox",
        None,
    ),
    "the name with every piece, an object each": _calls(
        call(index=0, function=fn("f", '[{"x":1},')),
        call(index=0, function=fn("f", '{"x":2}')),
        call(index=0, function=fn("f", "]")),
        _CALLED,
        made=[tool(None, "f", '[{"x":1},{"x":2}]')],
        tokens=3,
    ),
    "gemini, an error printed over several lines": Case(
        sse(*UNFINISHED)
        + json.dumps([{"error": {"code": 503, "status": "UNAVAILABLE"}}], indent=2).encode()
        + b"\n",
        Kind.TRUNCATED,
        finish=None,
    ),
    # Anthropic, and gateways to it
    "anthropic, overloaded as an event": _failed(
        Kind.OVERLOADED,
        ("ping", {"type": "ping"}),
        ("error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ),
    "anthropic, its time is over": _failed(
        Kind.TIMEOUT, {"type": "error", "error": {"type": "timeout_error", "message": "m"}}
    ),
    "databricks, reasoning as a summary": Case(
        sse(
            delta(
                [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": ""}]}]
            ),
            delta([{"type": "text", "text": "Hello"}]),
            _END,
            done=True,
        ),
        tokens=2,
        more={"reasoning": "hm"},
    ),
    # Mistral
    "mistral, padding and a whole call": Case(
        sse(
            {**delta(role="assistant", content=""), "p": "abcdefghij"},
            {
                **delta(
                    content="",
                    tool_calls=[{"id": "D681PevKs", "function": fn("f", "{}"), "index": 0}],
                    finish="tool_calls",
                ),
                "p": "abc",
                "usage": usage(9),
            },
            done=True,
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        usage=usage(9),
        more={"tool_calls": [tool("D681PevKs", "f", "{}")]},
    ),
    "mistral, the model's own length": Case(
        sse(delta("Hello", finish="model_length")), finish="model_length"
    ),
    # DeepSeek
    "deepseek, kept alive while it queues": Case(
        b": keep-alive\n\n" * 50 + b"\n" * 50 + sse(*HELLO, done=True), usage=usage(2), tokens=2
    ),
    # Groq
    "groq, what it ran itself": Case(
        sse(
            delta(role="assistant", reasoning="hm", channel="analysis"),
            delta(executed_tools=[{"index": 0, "type": "search"}]),
            delta("Hello", channel="final"),
            {**_END, "x_groq": {"id": "r", "usage": usage(2)}, "usage_breakdown": None},
            done=True,
        ),
        usage=usage(2),
        tokens=2,
        more={"reasoning": "hm"},
    ),
    "groq, an error with its status": _failed(
        Kind.BAD_REQUEST,
        ("error", {"error": {"message": "m", "type": "x", "code": "y", "status_code": 400}}),
    ),
    # Together, Fireworks, Cohere
    "together, an end of its own": Case(
        sse(
            _choice(
                index=0, text="Hello", logprobs=-0.1, seed=None, delta={"token_id": 1, "content": "Hello"}
            ),
            {
                **_choice(index=0, text="", delta={"token_id": 2, "content": ""}, finish_reason="eos"),
                "usage": usage(2),
            },
            done=True,
        ),
        finish="eos",
        tokens=1,
        usage=usage(2),
    ),
    "fireworks, perf metrics": Case(
        sse(*HELLO[:3], {**_END, "usage": usage(2), "perf_metrics": {"server-time": "0.1"}}, done=True),
        usage=usage(2),
        tokens=2,
    ),
    "cohere, complete": Case(sse(*HELLO[:3], delta(finish="COMPLETE")), finish="COMPLETE", tokens=2),
    "cohere, an error in capitals": Case(
        sse(*HELLO[:3], delta(finish="ERROR"), done=True), Kind.SERVER_ERROR, finish="ERROR"
    ),
    # OpenRouter
    "openrouter, the provider left": _failed(
        Kind.SERVER_ERROR,
        {
            **_choice(index=0, delta={"content": ""}, finish_reason="error"),
            "provider": "P",
            "error": {"code": "server_error", "message": "Provider disconnected"},
        },
    ),
    "openrouter, a provider's own words": _failed(
        Kind.RATE_LIMIT,
        {
            "error": {"code": 429, "message": "m", "metadata": {"raw": "quota", "provider_name": "P"}},
            "user_id": "u",
        },
    ),
    "openrouter, thoughts in cipher": Case(
        sse(
            delta(
                "",
                reasoning=None,
                reasoning_details=[{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}],
            ),
            *HELLO[1:4],
            delta("", annotations=[{"type": "url_citation"}], images=[]),
            done=True,
        ),
        tokens=2,
    ),
    # engines
    "sglang, the reason as an object": Case(
        sse(*HELLO[:3], delta(finish={"type": "length", "length": 16}), done=True), finish="length", tokens=2
    ),
    "sglang, aborted, as an object": Case(
        sse(*HELLO[:3], delta(finish={"type": "abort", "message": "m"}), done=True),
        Kind.SERVER_ERROR,
        finish="abort",
    ),
    "tensorrt-llm, cancelled": Case(
        sse(*HELLO[:3], delta(finish="cancelled"), done=True), Kind.SERVER_ERROR, finish="cancelled"
    ),
    "tensorrt-llm, timed out": Case(
        sse(*HELLO[:3], delta(finish="timeout"), done=True), Kind.SERVER_ERROR, finish="timeout"
    ),
    "zhipu, the model broke": Case(
        sse(*HELLO[:3], delta(finish="network_error"), done=True), Kind.SERVER_ERROR, finish="network_error"
    ),
    "zhipu, sensitive": Case(sse(*HELLO[:3], delta(finish="sensitive"), done=True), finish="sensitive"),
    "tgi, no space, and the token that ends": Case(
        b"".join(
            b"data:" + json.dumps(c).encode() + b"\n\n" for c in (*HELLO[:3], delta("", finish="eos_token"))
        )
        + b"data:[DONE]\n\n",
        finish="eos_token",
        tokens=2,
    ),
    "llama.cpp, progress of the prompt": Case(
        sse(
            {**delta(role="assistant"), "prompt_progress": {"total": 9, "processed": 3}},
            {
                **_choice(index=0, delta={}, finish_reason=None),
                "prompt_progress": {"total": 9, "processed": 9},
            },
            *HELLO[1:4],
            done=True,
        ),
        tokens=2,
    ),
    "llama.cpp, its own api": Case(
        sse({"content": "Hel", "stop": False}, {"content": "lo", "stop": True}), Kind.EMPTY_STREAM, "", None
    ),
    "ollama, its own api": Case(
        sse({"model": "m", "response": "Hel", "done": False}, {"model": "m", "response": "", "done": True}),
        Kind.EMPTY_STREAM,
        "",
        None,
    ),
    "ollama, a load that failed": Case(
        sse({"error": {"message": "llama runner process has terminated", "type": "api_error", "code": None}}),
        Kind.SERVER_ERROR,
        "",
        None,
    ),
    "lm studio, error event": _failed(
        Kind.STREAM_ERROR, ("error", {"error": {"message": "The model has crashed"}})
    ),
    "vllm, what nobody set": Case(
        sse(
            {**delta(role="assistant", content=""), "prompt_token_ids": None, "kv_transfer_params": None},
            *[{**c, "usage": None, "service_tier": None, "system_fingerprint": None} for c in HELLO[1:4]],
            {**_NONE, "usage": {**usage(2), "prompt_tokens_details": None}},
            done=True,
        ),
        usage={**usage(2), "prompt_tokens_details": None},
        tokens=2,
    ),
    # gateways
    "litellm, fields of providers": Case(
        sse(
            delta("Hel", role="assistant", provider_specific_fields={"citations": []}),
            delta("lo", thinking_blocks=None, provider_specific_fields=None),
            {**_END, "citations": None},
            {**_NONE, "usage": {**usage(2), "cache_read_input_tokens": 0}},
            done=True,
        ),
        usage={**usage(2), "cache_read_input_tokens": 0},
        tokens=2,
    ),
    "litellm, over the budget": _failed(
        Kind.QUOTA, {"error": {"message": "m", "type": "budget_exceeded", "param": None, "code": "400"}}
    ),
    "portkey, results of hooks": Case(
        sse({"hook_results": {"before_request_hooks": [{"verdict": True}]}}, *HELLO, done=True),
        usage=usage(2),
        tokens=2,
    ),
    "cloudflare, its own api": Case(
        sse({"response": "Hel", "p": "abc"}, {"response": "", "usage": usage(2)}, done=True),
        Kind.EMPTY_STREAM,
        "",
        None,
        usage=usage(2),
    ),
    "cloudflare, the error in a list": _failed(
        Kind.AUTH, {"success": False, "result": [], "error": [{"code": 401, "message": "Unauthorized"}]}
    ),
    "one-api, data twice over": Case(
        b"".join(b"data: " + event for event in sse(*HELLO, done=True).split(b"\n\n") if event).replace(
            b"}data: ", b"}\n\ndata: "
        )
        + b"\n\n",
        usage=usage(2),
        tokens=2,
    ),
    "data twice over, an error": Case(
        b'data: data: {"error": {"message": "m", "code": 503}}\n\n', Kind.OVERLOADED, "", None
    ),
    "data twice over, and no json": Case(sse(*UNFINISHED, b"data: data"), Kind.BAD_JSON, finish=None),
    "volcengine, too many tokens a minute": _failed(
        Kind.RATE_LIMIT,
        {"error": {"code": "RateLimitExceeded.EndpointTPMExceeded", "type": "TooManyRequests"}},
    ),
    "volcengine, the bill": _failed(Kind.QUOTA, {"error": {"code": "AccountOverdueError", "message": "m"}}),
    "dashscope, an allocation": _failed(Kind.RATE_LIMIT, {"code": "Throttling.Allocation", "message": "m"}),
    "python's class with its module": _failed(
        Kind.RATE_LIMIT, {"error": {"type": "litellm.RateLimitError", "message": "m"}}
    ),
    "siliconflow, busy": _failed(Kind.OVERLOADED, {"error": {"code": "server_busy", "message": "m"}}),
    "cerebras, too many": _failed(
        Kind.RATE_LIMIT,
        {"error": {"message": "m", "type": "too_many_requests_error", "code": "request_quota_exceeded"}},
    ),
    "cerebras, its times": Case(
        sse(*HELLO[:3], {**_END, "usage": usage(2), "time_info": {"queue_time": 0.1}}, done=True),
        usage=usage(2),
        tokens=2,
    ),
    "groq, flex is full": _failed(Kind.OVERLOADED, {"error": {"message": "m", "code": "capacity_exceeded"}}),
    "responses api, a failure": Case(
        sse(("error", {"type": "error", "code": "server_error", "message": "m", "sequence_number": 3})),
        Kind.SERVER_ERROR,
        "",
        None,
    ),
    "responses api, an answer": Case(
        sse(("response.output_text.delta", {"type": "response.output_text.delta", "delta": "Hello"})),
        Kind.EMPTY_STREAM,
        "",
        None,
    ),
    "two choices whose indexes are texts": Case(
        sse(
            _choice(index="0", delta={"content": "Hel"}),
            _choice(index="1", delta={"content": "x"}),
            _choice(index=1.0, delta={}, finish_reason="stop"),
            _choice(index="0", delta={"content": "lo"}, finish_reason="stop"),
            done=True,
        ),
        tokens=3,
    ),
    "two choices, the second cut": Case(
        sse(delta("Hello", finish="stop"), delta("x", index=1)), Kind.TRUNCATED, tokens=2
    ),
    "usage, then tokens again": Case(
        sse(*HELLO[:2], {**_NONE, "usage": usage(1)}, delta("lo"), _END, {**_NONE, "usage": usage(2)}),
        usage=usage(2),
        tokens=2,
    ),
    "white space is a token": Case(sse(delta("\n\n"), delta(" "), _END), text="\n\n ", tokens=2),
    "thoughts, then a call": _calls(
        delta(role="assistant", content=None, reasoning_content="hm"),
        delta(content="", reasoning_content="", tool_calls=[]),
        call(index=0, id="a", type="function", function=fn("f", "")),
        call(index=0, function={"arguments": "{}"}),
        _CALLED,
        made=[tool("a", "f", "{}")],
        tokens=3,
    ),
}
