"""Streams that are good answers: framing, chunks, channels."""

from __future__ import annotations

import json

from tests.runner.streams_json import (
    HELLO,
    ID,
    NULL_MORE,
    UNFINISHED,
    Case,
    call,
    delta,
    fn,
    sse,
    tool,
    usage,
)

GOOD: dict[str, Case] = {
    # good ones
    "plain": Case(sse(*HELLO, done=True), tokens=2, usage=usage(2), more=NULL_MORE),
    "crlf": Case(sse(*HELLO, done=True).replace(b"\n", b"\r\n"), tokens=2, usage=usage(2)),
    "cr": Case(sse(*HELLO, done=True).replace(b"\n", b"\r"), tokens=2, usage=usage(2)),
    "mixed line ends": Case(
        sse(*HELLO[:2]) + sse(*HELLO[2:3]).replace(b"\n", b"\r\n") + sse(*HELLO[3:]).replace(b"\n", b"\r"),
        tokens=2,
        usage=usage(2),
    ),
    "bom": Case(b"\xef\xbb\xbf" + sse(*HELLO, done=True), tokens=2, usage=usage(2)),
    "no space": Case(sse(*HELLO, done=True).replace(b"data: ", b"data:"), tokens=2, usage=usage(2)),
    "two spaces": Case(sse(*HELLO, done=True).replace(b"data: ", b"data:  "), tokens=2, usage=usage(2)),
    "comments": Case(
        b": OPENROUTER PROCESSING\n\n:\n\n"
        + sse(*HELLO[:2])
        + b": ping - 2024\r\n\r\n"
        + sse(*HELLO[2:], done=True),
        tokens=2,
        usage=usage(2),
    ),
    "comment as data": Case(sse(b": OPENROUTER PROCESSING", *HELLO, done=True), tokens=2, usage=usage(2)),
    "fields without data": Case(
        b"retry: 3000\n\nid: 7\n\nevent: ping\n\ndata:\n\ndata\n\n" + sse(*HELLO, done=True),
        tokens=2,
        usage=usage(2),
    ),
    "typed ping with data": Case(
        sse(("ping", {"type": "ping"}), *HELLO, ("ping", b"x"), done=True), tokens=2, usage=usage(2)
    ),
    "message events": Case(sse(*[("message", p) for p in HELLO], done=True), tokens=2, usage=usage(2)),
    "json over several lines": Case(
        b"".join(
            b"data: " + json.dumps(p, indent=1).encode().replace(b"\n", b"\ndata: ") + b"\n\n" for p in HELLO
        )
        + b"data: [DONE]\n\n",
        tokens=2,
        usage=usage(2),
    ),
    "line separators inside json": Case(
        b'data: {"choices":[{"delta":{"content":"a\xe2\x80\xa8b\xc2\x85c\xe2\x80\xa9d"}'
        b',"finish_reason":"stop"}]}\n\n',
        text="a\u2028b\x85c\u2029d",
        tokens=1,
    ),
    "invalid utf-8": Case(
        b'data: {"choices":[{"delta":{"content":"a\xffb"},"finish_reason":"stop"}]}\n\n',
        text="a\ufffdb",
        tokens=1,
    ),
    "last event without blank line": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(HELLO[3]).encode() + b"\n", tokens=2
    ),
    "last event without line end": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(HELLO[3]).encode(), tokens=2
    ),
    "done without line end": Case(sse(*UNFINISHED) + b"data: [DONE]", finish=None, tokens=2),
    "done without space": Case(sse(*UNFINISHED) + b"data:[DONE]\n\n", finish=None, tokens=2),
    "finish, no done": Case(sse(*HELLO), tokens=2, usage=usage(2)),
    "finish, no usage": Case(sse(*HELLO[:4], done=True), tokens=2),
    "done, no finish": Case(sse(*UNFINISHED, done=True), finish=None, tokens=2),
    "finish, no text": Case(sse(delta(role="assistant"), delta(finish="stop"), done=True), text="", tokens=0),
    "finish after done": Case(sse(*UNFINISHED, done=True) + sse(delta(finish="stop")), finish=None),
    "error after done": Case(sse(*HELLO, done=True) + sse({"error": {"message": "late"}}), usage=usage(2)),
    "last token in the finish chunk": Case(sse(delta("Hel"), delta("lo", finish="length")), finish="length"),
    "no finish keys at all until the end": Case(
        sse({"choices": [{"delta": {"content": "Hello"}}]}, {"choices": [{"finish_reason": "stop"}]}),
        tokens=1,
    ),
    "finish reasons that are none": Case(
        sse(delta("Hel", finish=""), delta("lo", finish="null"), delta(finish="stop"), delta(finish=None)),
        tokens=2,
    ),
    "last finish reason wins": Case(
        sse(delta("Hello", finish="stop"), delta(finish="tool_calls")), finish="tool_calls"
    ),
    "unknown finish reason": Case(sse(delta("Hello", finish="eos_token")), finish="eos_token"),
    "text after the finish": Case(sse(delta("Hel", finish="stop"), delta("lo")), tokens=2),
    "azure filters": Case(
        sse(
            {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{}]},
            delta(role="assistant", content="Hel"),
            {
                **ID,
                "choices": [{"index": 0, "delta": None, "finish_reason": None, "content_filter_results": {}}],
            },
            delta("lo", finish="stop"),
            {**ID, "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"a": 1}}]},
            done=True,
        ),
        tokens=2,
    ),
    "choices null and missing": Case(
        sse({"choices": None}, {"id": "x"}, *HELLO, done=True), tokens=2, usage=usage(2)
    ),
    "odd types": Case(
        sse(
            7,
            None,
            "a comment",
            [1],
            {"choices": {"0": 1}},
            {"choices": [None, 3, {"index": "0", "delta": []}]},
            delta(5),
            *HELLO,
            done=True,
        ),
        tokens=2,
        usage=usage(2),
    ),
    "role on every chunk": Case(
        sse(
            delta("Hel", role="assistant"),
            delta("lo", role="assistant"),
            delta(role="assistant", finish="stop"),
        ),
        tokens=2,
    ),
    "role chunk with null content": Case(
        sse({**ID, "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}, *HELLO[1:]),
        tokens=2,
        usage=usage(2),
    ),
    "obfuscation": Case(
        sse({**delta("Hello", finish="stop"), "obfuscation": "xyz", "service_tier": "default"}), tokens=1
    ),
    "usage in the finish chunk": Case(
        sse(*UNFINISHED, {**delta(finish="stop"), "usage": usage(2)}, done=True), usage=usage(2), tokens=2
    ),
    "usage twice": Case(
        sse(*UNFINISHED, {**delta(finish="stop"), "usage": usage(9)}, HELLO[4], done=True),
        usage=usage(2),
        tokens=2,
    ),
    "usage cumulative": Case(
        sse(
            {**delta("Hel"), "usage": usage(3)},
            {**delta("lo"), "usage": usage(4)},
            {**delta(finish="stop"), "usage": usage(4)},
            done=True,
        ),
        usage=usage(4),
        tokens=2,
    ),
    "usage null afterwards": Case(
        sse(*HELLO[:4], {**ID, "choices": [], "usage": usage(2)}, {**ID, "choices": [], "usage": None}),
        usage=usage(2),
        tokens=2,
    ),
    "usage null everywhere": Case(sse(*[{**p, "usage": None} for p in HELLO]), tokens=2),
    "usage under a vendor key": Case(
        sse(*HELLO[:3], {**delta(finish="stop"), "x_groq": {"id": "r", "usage": usage(2)}}, done=True),
        usage=usage(2),
        tokens=2,
    ),
    "usage without choices": Case(sse(*HELLO[:4], {"usage": usage(2)}), usage=usage(2), tokens=2),
    "usage partial": Case(
        sse(*HELLO[:4], {**ID, "choices": [], "usage": {"completion_tokens": 2}}),
        usage={"completion_tokens": 2},
        tokens=2,
    ),
    "nan and huge numbers": Case(
        b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop",'
        b'"p":NaN,"q":-Infinity}],"big":' + b"9" * 40 + b"}\n\n",
        tokens=1,
    ),
    "duplicate keys": Case(
        b'data: {"choices":[{"delta":{"content":"no","content":"Hello"},"finish_reason":"stop"}]}\n\n',
        tokens=1,
    ),
    "lone surrogate": Case(
        b'data: {"choices":[{"delta":{"content":"a\\ud800b"},"finish_reason":"stop"}]}\n\n',
        text="a\ud800b",
        tokens=1,
    ),
    "surrogates split over chunks": Case(
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}\n\n',
        text="\ud83d\ude00",
        tokens=2,
    ),
    # the other channels
    "reasoning_content": Case(
        sse(delta(reasoning_content="thi"), delta(reasoning_content="nk", content=""), *HELLO, done=True),
        tokens=4,
        usage=usage(2),
        more={"reasoning": "think"},
    ),
    "reasoning": Case(
        sse(delta(reasoning="think", content=""), delta("Hello", reasoning="", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "both reasoning keys": Case(
        sse(delta(reasoning="think", reasoning_content="think"), delta("Hello", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "reasoning, first key empty": Case(
        sse(delta(reasoning_content="", reasoning="think"), delta("Hello", finish="stop")),
        tokens=2,
        more={"reasoning": "think"},
    ),
    "think inside content": Case(
        sse(delta("<think>x</think>"), delta("y", finish="stop")), text="<think>x</think>y", tokens=2
    ),
    "refusal": Case(
        sse(delta(refusal="I "), delta(refusal="won't", finish="stop")),
        text="",
        tokens=2,
        more={"refusal": "I won't"},
    ),
    "content parts": Case(
        sse(
            delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta([{"type": "reasoning", "text": "m"}, {"type": "text", "text": "Hel"}]),
            delta(["lo"], finish="stop"),
            delta([]),
        ),
        tokens=3,
        more={"reasoning": "hmm"},
    ),
    "tool calls by index": Case(
        sse(
            call(index=0, id="a", type="function", function=fn("f", "")),
            call(index=0, function=fn(arguments='{"x"')),
            call(index=1, id="b", type="function", function=fn("g", "")),
            call(index=0, function=fn(arguments=":1}")),
            call(index=1, function=fn(arguments="{}")),
            delta(finish="tool_calls"),
            done=True,
        ),
        text="",
        finish="tool_calls",
        tokens=5,
        more={"tool_calls": [tool("a", "f", '{"x":1}'), tool("b", "g", "{}")]},
    ),
    "tool calls without index": Case(
        sse(
            call(id="a", type="function", function=fn("f", '{"x"')),
            call(function=fn(arguments=":1}")),
            call(id="b", type="function", function=fn("g", "{}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=3,
        more={"tool_calls": [tool("a", "f", '{"x":1}'), tool("b", "g", "{}")]},
    ),
    "tool calls all with index 0": Case(
        sse(
            delta(
                tool_calls=[
                    {"index": 0, "id": "a", "type": "function", "function": fn("f", "{}")},
                    {"index": 0, "id": "b", "type": "function", "function": fn("f", '{"y":2}')},
                ]
            ),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [tool("a", "f", "{}"), tool("b", "f", '{"y":2}')]},
    ),
    "tool calls, id and name on every piece": Case(
        sse(
            call(index=0, id="a", type="function", function=fn("f", '{"x"')),
            call(index=0, id="a", type="function", function=fn("f", ":1}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=2,
        more={"tool_calls": [tool("a", "f", '{"x":1}')]},
    ),
    "tool calls, id null or empty afterwards": Case(
        sse(
            call(index=0, id="a", type="function", function=fn("f", '{"x"')),
            call(index=0, id=None, type=None, function={"name": None, "arguments": ":"}),
            call(index=0, id="", type="", function=fn("", "1}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=3,
        more={"tool_calls": [tool("a", "f", '{"x":1}')]},
    ),
    "tool call whose arguments are an object": Case(
        sse(call(index=0, id="a", function={"name": "f", "arguments": {"x": "é"}}), delta(finish="stop")),
        text="",
        tokens=1,
        more={"tool_calls": [tool("a", "f", '{"x": "é"}')]},
    ),
    "tool call that is only empty strings": Case(
        sse(
            call(index=0, id="a", type="function", function=fn("", "")),
            call(index=0, function=fn("f", "{}")),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [tool("a", "f", "{}")]},
    ),
    "old function call": Case(
        sse(
            delta(function_call=fn("f", "{")),
            delta(function_call=fn(arguments="}")),
            delta(finish="function_call"),
        ),
        text="",
        finish="function_call",
        tokens=2,
        more={"tool_calls": [tool(None, "f", "{}")]},
    ),
    "several choices": Case(
        sse(
            delta("Hel"),
            delta("Bye", index=1),
            delta("lo", finish="stop"),
            delta("!", index=1, finish="length"),
            done=True,
        ),
        tokens=4,
    ),
    "two choices in one chunk": Case(
        sse(
            {
                "choices": [
                    {"index": 1, "delta": {"content": "b"}},
                    {"index": 0, "delta": {"content": "Hello"}},
                ]
            },
            {"choices": [{"index": 1, "finish_reason": "stop"}, {"index": 0, "finish_reason": "stop"}]},
        ),
        tokens=1,
    ),
    "completions api": Case(
        sse(
            {
                **ID,
                "object": "text_completion",
                "choices": [{"index": 0, "text": "Hel", "finish_reason": None}],
            },
            {**ID, "choices": [{"index": 0, "text": "lo", "logprobs": None, "finish_reason": None}]},
            {**ID, "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
            done=True,
        ),
        finish="length",
        tokens=2,
    ),
    "timings and unknown keys": Case(
        sse(*HELLO[:3], {**delta(finish="stop"), "timings": {"predicted_n": 2}, "nonsense": [1]}), tokens=2
    ),
    "error null": Case(sse(*[{**p, "error": None} for p in HELLO], done=True), tokens=2, usage=usage(2)),
}
