"""Good answers as providers, gateways and engines word them, each with what is its own."""

from __future__ import annotations

import json
from typing import Any

from runner.record import ErrorKind
from tests.runner.streams_json import HELLO, ID, UNFINISHED, Case, call, delta, fn, sse, tool, usage


def choice(**fields: Any) -> dict[str, Any]:
    """A chunk whose one choice has these keys and no others."""
    return {**ID, "choices": [fields]}


def _calls(*parts: dict[str, Any], calls: list[dict[str, Any]], tokens: int | None = None) -> Case:
    """A stream of these tool-call parts, one a chunk."""
    body = sse(*[call(**part) for part in parts], delta(finish="tool_calls"), done=True)
    return Case(body, text="", finish="tool_calls", tokens=tokens, more={"tool_calls": calls})


def _said(text: str = "Hello", *chunks: Any, tokens: int | None = 2, **more: Any) -> Case:
    """A stream of these chunks that ends as it should."""
    return Case(sse(*chunks, done=True), text=text, tokens=tokens, more=more)


_END = delta(finish="stop")
_F, _G = tool("a", "f", '{"x":1}'), tool("b", "g", "{}")
_WHOLE = {"role": "assistant", "content": "Hello"}

VENDORS: dict[str, Case] = {
    # chat chunks
    "openai, refusal null and logprobs null": _said(
        "Hello",
        choice(index=0, delta={"role": "assistant", "content": "", "refusal": None}, logprobs=None),
        *[{**c, "service_tier": "default", "obfuscation": "x" * 9} for c in HELLO[1:4]],
    ),
    "openai, usage with details": Case(
        sse(
            *HELLO[:4],
            {
                **ID,
                "choices": [],
                "usage": {**usage(2), "completion_tokens_details": {"reasoning_tokens": 0}},
            },
            done=True,
        ),
        usage={**usage(2), "completion_tokens_details": {"reasoning_tokens": 0}},
        tokens=2,
    ),
    "logprobs on every chunk": _said(
        "Hello",
        choice(index=0, delta={"content": "Hel"}, logprobs={"content": [{"token": "Hel"}]}),
        choice(index=0, delta={"content": "lo"}, logprobs={"content": [{"token": "lo"}]}),
        _END,
    ),
    "vllm, token ids": _said(
        "Hello",
        {**delta("Hel"), "prompt_token_ids": None},
        choice(index=0, delta={"content": "lo"}, token_ids=[5], stop_reason=None),
        choice(index=0, delta={"content": ""}, finish_reason="stop", stop_reason=151645),
    ),
    "vllm, usage on every chunk": Case(
        sse(
            {**HELLO[0], "usage": usage(0)},
            {**delta("Hel"), "usage": usage(1)},
            {**delta("lo"), "usage": usage(2)},
            {**_END, "usage": usage(3)},
            {**ID, "choices": [], "usage": usage(3)},
            done=True,
        ),
        usage=usage(3),
        tokens=2,
    ),
    "sglang, matched_stop": _said("Hello", *HELLO[:3], {**_END, "matched_stop": 2, "metadata": {"x": 1}}),
    "llama.cpp, timings": Case(
        sse(
            choice(index=0, finish_reason=None, delta={"role": "assistant", "content": None}),
            delta("Hel"),
            delta("lo"),
            choice(index=0, finish_reason="stop", delta={}),
            {**ID, "choices": [], "usage": usage(2), "timings": {"predicted_n": 2}},
            done=True,
        ),
        usage=usage(2),
        tokens=2,
    ),
    "llama.cpp, comments during the prefill": Case(
        b":\n\n" * 20 + sse(*HELLO, done=True), usage=usage(2), tokens=2
    ),
    "transformers serve, no done": Case(
        sse(delta(role="assistant"), delta("Hel"), delta("lo"), {**_END, "usage": usage(2)}),
        usage=usage(2),
        tokens=2,
    ),
    "llama-cpp-python, done without a finish": Case(
        sse(delta(role="assistant"), delta("Hel"), delta("lo"), done=True), finish=None, tokens=2
    ),
    "groq, x_groq in the first and the last": Case(
        sse(
            {**delta(role="assistant", content=""), "x_groq": {"id": "req_1", "seed": 1}},
            *HELLO[1:3],
            {**_END, "x_groq": {"id": "req_1", "usage": usage(2)}},
            done=True,
        ),
        usage=usage(2),
        tokens=2,
    ),
    "moonshot, usage in the choice": Case(
        sse(*HELLO[:3], choice(index=0, delta={}, finish_reason="stop", usage=usage(2)), done=True),
        usage=usage(2),
        tokens=2,
    ),
    "usage under a vendor's key of any name": Case(
        sse(*HELLO[:4], {**ID, "choices": [], "acme": {"usage": usage(2)}}), usage=usage(2), tokens=2
    ),
    "usage of nulls after a real one": Case(
        sse(*HELLO, {**ID, "choices": [], "usage": {"prompt_tokens": None, "completion_tokens": None}}),
        usage=usage(2),
        tokens=2,
    ),
    "usage of one number": Case(
        sse(*HELLO[:4], {**ID, "choices": [], "usage": {"total_tokens": 9}}),
        usage={"total_tokens": 9},
        tokens=2,
    ),
    "usage of odd types": Case(
        sse(*HELLO[:4], {**ID, "choices": [], "usage": [1]}, {**ID, "choices": [], "usage": "many"}),
        tokens=2,
    ),
    "usage null beside a vendor's": Case(
        sse(*HELLO[:3], {**_END, "usage": None, "x_groq": {"usage": usage(2)}}), usage=usage(2), tokens=2
    ),
    "usage first, before any token": Case(
        sse({**ID, "choices": [], "usage": usage(0)}, *HELLO, done=True), usage=usage(2), tokens=2
    ),
    "perplexity, the whole message beside every delta": _said(
        "Hello",
        choice(index=0, delta={"role": "assistant", "content": "Hel"}, message={**_WHOLE, "content": "Hel"}),
        choice(index=0, delta={"content": "lo"}, message=_WHOLE),
        choice(index=0, delta={"content": ""}, message=_WHOLE, finish_reason="stop"),
    ),
    "perplexity, citations": _said(
        "Hello", *[{**c, "citations": ["http://x"], "search_results": []} for c in HELLO[:4]]
    ),
    "minimax, the whole message at the end": Case(
        sse(
            delta("Hel", reasoning_content="hm"),
            {**delta("lo"), "base_resp": {"status_code": 0, "status_msg": ""}},
            {
                **choice(
                    index=0, message={**_WHOLE, "reasoning_content": "hm", "name": "x"}, finish_reason="stop"
                ),
                "object": "chat.completion",
                "usage": usage(2),
            },
        ),
        usage=usage(2),
        tokens=2,
        more={"reasoning": "hm"},
    ),
    "the whole message at the end, with what was not said": Case(
        sse(delta("Hello"), choice(index=0, message={**_WHOLE, "refusal": "no"}, finish_reason="stop")),
        tokens=2,
        more={"refusal": "no"},
    ),
    "the whole message at the end, with its tool calls": Case(
        sse(
            call(index=0, id="a", type="function", function=fn("f", '{"x":1}')),
            choice(index=0, message={"content": None, "tool_calls": [_F]}, finish_reason="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [_F]},
    ),
    "messages in place of deltas": _said(
        "HaHa",
        choice(index=0, message={"role": "assistant", "content": "Ha"}),
        choice(index=0, message={"content": "Ha"}),
        choice(index=0, message={"content": ""}, finish_reason="stop"),
    ),
    "a whole completion as the only event": Case(
        sse({**choice(index=0, message=_WHOLE, finish_reason="stop"), "usage": usage(2)}, done=True),
        usage=usage(2),
        tokens=1,
    ),
    "together, text beside the delta": _said(
        "Hello",
        choice(index=0, text="Hel", delta={"role": "assistant", "content": "Hel"}, seed=1),
        choice(index=0, text="lo", delta={"content": "lo"}),
        _END,
    ),
    "openrouter, processing and native reasons": Case(
        b": OPENROUTER PROCESSING\n\n" * 3
        + sse(
            {**delta("Hel", role="assistant"), "provider": "P"},
            delta("lo"),
            choice(index=0, delta={"content": ""}, finish_reason="stop", native_finish_reason="STOP"),
            {**ID, "choices": [], "usage": {**usage(2), "cost": 0.1}},
            done=True,
        ),
        usage={**usage(2), "cost": 0.1},
        tokens=2,
    ),
    "openrouter, reasoning with its details": _said(
        "Hello",
        delta("", reasoning="hm", reasoning_details=[{"type": "reasoning.text", "text": "hm"}]),
        delta("Hello", reasoning=None),
        _END,
        reasoning="hm",
    ),
    "reasoning in its details only": _said(
        "Hello",
        delta("", reasoning_details=[{"type": "reasoning.text", "text": "h"}, {"data": "x"}, 7]),
        delta(reasoning="", reasoning_details=[{"type": "reasoning.text", "text": "m"}]),
        delta("Hello", reasoning_details=7),
        _END,
        tokens=3,
        reasoning="hm",
    ),
    "deepseek, nulls in the other channel": _said(
        "Hello",
        delta(role="assistant", reasoning_content=""),
        {**ID, "choices": [{"index": 0, "delta": {"content": None, "reasoning_content": "hm"}}]},
        {**ID, "choices": [{"index": 0, "delta": {"content": "Hello", "reasoning_content": None}}]},
        _END,
        reasoning="hm",
    ),
    "reasoning and content in one chunk": _said(
        "Hello", delta("Hello", reasoning_content="hm"), _END, tokens=1, reasoning="hm"
    ),
    "reasoning of odd types": _said(
        "Hello", delta("Hel", reasoning={"a": 1}), delta("lo", reasoning_content=["x"]), _END, reasoning=None
    ),
    "only reasoning": Case(
        sse(delta(reasoning="hm"), delta(finish="length"), done=True),
        text="",
        finish="length",
        tokens=1,
        more={"reasoning": "hm"},
    ),
    "mistral, thinking parts and a reference": _said(
        "Hello",
        delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}], role="assistant"),
        delta([{"type": "text", "text": "Hel"}, {"type": "reference", "reference_ids": [1]}]),
        delta("lo"),
        _END,
        tokens=3,
        reasoning="hm",
    ),
    "content parts of odd types": _said(
        "Hello",
        delta([None, 7, {"type": "text"}, {"type": "text", "text": None}, ["x"], {"text": "Hel"}]),
        delta({"type": "text", "text": "lo"}),
        delta([{"type": "thinking", "thinking": None}, {"type": "thinking", "thinking": "hm"}]),
        delta([{"type": "reasoning", "reasoning": "m"}]),
        _END,
        tokens=4,
        reasoning="hmm",
    ),
    "a refusal as a part": _said(
        "", delta([{"type": "refusal", "refusal": "no"}]), _END, tokens=1, refusal="no"
    ),
    "gemini, usage and finish on every chunk": Case(
        sse(
            {**delta("Hel", role="assistant", finish="stop"), "usage": usage(1)},
            {**delta("lo", role="assistant", finish="stop"), "usage": usage(2)},
            done=True,
        ),
        usage=usage(2),
        tokens=2,
    ),
    "azure, a filter that stops the answer": Case(
        sse(
            delta("Hel"),
            choice(
                index=0,
                finish_reason="content_filter",
                delta={},
                content_filter_results={"x": {"filtered": True}},
            ),
            done=True,
        ),
        text="Hel",
        finish="content_filter",
        tokens=1,
    ),
    "bedrock gateway, metrics": _said(
        "Hello", *HELLO[:3], {**_END, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 7}}
    ),
    "audio beside the text": _said(
        "Hello", delta(audio={"id": "x", "transcript": "Hi"}), delta("Hello"), _END, tokens=1
    ),
    "delta null and a text": _said("Hello", choice(index=0, delta=None, text="Hello"), _END, tokens=1),
    "index null, missing, or no number": _said(
        "Hello",
        choice(index=None, delta={"content": "H"}),
        choice(delta={"content": "el"}),
        choice(index="0", delta={"content": "l"}),
        choice(index=True, delta={"content": "o"}),
        _END,
        tokens=4,
    ),
    "content of odd types": _said(
        "Hello", delta(7), delta(True), delta("Hello"), choice(index=0, delta="x"), _END, tokens=1
    ),
    "finish reasons of odd types": _said(
        "Hello", delta("Hello", finish={"type": "x"}), delta(finish=7), delta(finish=["stop"]), _END, tokens=1
    ),
    "legacy reasons in capitals": Case(
        sse(delta("Hello", finish="MAX_TOKENS")), finish="MAX_TOKENS", tokens=1
    ),
    "a choice of a higher index only": _said(
        "Hello", delta("Hello", index=3), delta(finish="stop", index=3), tokens=1
    ),
    "three choices, the last one late": _said(
        "a",
        delta("a", finish="stop"),
        delta("b", index=1, finish="stop"),
        delta("c", index=2),
        delta(index=2, finish="length"),
        tokens=3,
    ),
    "two choices, done before the second one's finish": Case(
        sse(delta("Hello", finish="stop"), delta("x", index=1), done=True), tokens=2
    ),
    "completions, several choices and logprobs": Case(
        sse(
            choice(index=0, text="Hel", logprobs={"tokens": ["Hel"]}),
            choice(index=1, text="x"),
            choice(index=0, text="lo", finish_reason="stop"),
            choice(index=1, text="", finish_reason="length"),
            done=True,
        ),
        tokens=3,
    ),
    "completions, usage in the last": Case(
        sse(
            choice(index=0, text="Hello"),
            {**choice(index=0, text="", finish_reason="stop"), "usage": usage(1)},
        ),
        usage=usage(1),
        tokens=1,
    ),
    "created as a fraction, id a number": _said(
        "Hello",
        {**delta("Hello"), "created": 1.5, "id": 7, "model": None},
        {**_END, "model": ["m"]},
        tokens=1,
    ),
    "unknown event types": Case(
        sse(("chunk", HELLO[1]), ("completion", HELLO[2]), ("Message", _END), ("done", b"[DONE]")), tokens=2
    ),
    "pings of several names": Case(
        sse(
            ("heartbeat", b"alive"),
            HELLO[1],
            ("keep-alive", {"message": "m"}),
            HELLO[2],
            ("PING", b"{"),
            _END,
        ),
        tokens=2,
    ),
    "done as a json string": Case(sse(*UNFINISHED, "[DONE]"), finish=None, tokens=2),
    "done twice": Case(sse(*HELLO, b"[DONE]", b"[DONE]"), usage=usage(2), tokens=2),
    "done with spaces": Case(sse(*UNFINISHED, b"  [DONE] \t"), finish=None, tokens=2),
    "an event after done": Case(sse(*UNFINISHED, b"[DONE]", *HELLO), finish=None, tokens=2),
    "garbage after done": Case(sse(*HELLO, b"[DONE]") + b"data: {oops\n\n\xff\xfe", usage=usage(2), tokens=2),
    "the role in a chunk of its own for every choice": _said(
        "Hello",
        delta(role="assistant"),
        delta(role="assistant", index=1),
        delta("Hello", finish="stop"),
        delta("x", index=1, finish="stop"),
    ),
    # tool calls
    "tools, gemini: no index, whole calls, signatures": Case(
        sse(
            delta(
                tool_calls=[
                    {**_F, "extra_content": {"google": {"thought_signature": "s"}}},
                    {"id": "b", "type": "function", "function": fn("g", "{}")},
                ]
            ),
            delta(finish="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [{**_F, "extra_content": {"google": {"thought_signature": "s"}}}, _G]},
    ),
    "tools, one id twice with two indexes": _calls(
        {"index": 0, "id": "f", "function": fn("f", "{}")},
        {"index": 1, "id": "f", "function": fn("f", '{"x"')},
        {"index": 1, "id": "f", "function": fn("f", ":1}")},
        {"index": 0, "id": "f", "function": fn("f", " ")},
        calls=[tool("f", "f", "{} "), tool("f", "f", '{"x":1}')],
        tokens=4,
    ),
    "tools, interleaved with ids": _calls(
        {"index": 0, "id": "a", "function": fn("f", '{"x"')},
        {"index": 0, "id": "b", "function": fn("g", "{")},
        {"index": 0, "id": "a", "function": fn(None, ":1}")},
        {"index": 0, "id": "b", "function": fn(None, "}")},
        calls=[_F, _G],
    ),
    "tools, another id with every piece": _calls(
        {"index": 0, "id": "a", "function": fn("f", '{"x"')},
        {"index": 0, "id": "z", "function": fn(None, ":1}")},
        {"index": 1, "id": "b", "function": fn("g", "{")},
        {"index": 1, "id": "y", "function": fn(None, "}")},
        calls=[_F, _G],
    ),
    "tools, the id after the name": _calls(
        {"index": 0, "function": fn("f")},
        {"index": 0, "id": "a", "function": fn(None, '{"x":1}')},
        calls=[_F],
        tokens=2,
    ),
    "tools, the name in pieces": _calls(
        {"index": 0, "id": "a", "function": fn("ge")},
        {"index": 0, "function": fn("t_")},
        {"index": 0, "function": fn("weather")},
        {"index": 0, "function": fn(None, "{}")},
        calls=[tool("a", "get_weather", "{}")],
        tokens=4,
    ),
    "tools, neither index nor id": _calls(
        {"function": fn("f", '{"x":1}')},
        {"function": fn("g", "{")},
        {"function": fn(None, "}")},
        calls=[tool(None, "f", '{"x":1}'), tool(None, "g", "{}")],
        tokens=3,
    ),
    "tools, no arguments at all": _calls(
        {"index": 0, "id": "a", "type": "function", "function": fn("f")},
        calls=[tool("a", "f", "")],
        tokens=1,
    ),
    "tools, arguments null, then some": _calls(
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
        {"index": 0, "function": fn(None, '{"x":1}')},
        calls=[_F],
    ),
    "tools, indexes out of order and with gaps": _calls(
        {"index": 5, "id": "a", "function": fn("f", '{"x"')},
        {"index": 2, "id": "b", "function": fn("g", "{}")},
        {"index": 5, "function": fn(None, ":1}")},
        calls=[_F, _G],
    ),
    "tools, an index of an odd type": _calls(
        {"index": "0", "id": "a", "function": fn("f", '{"x"')},
        {"index": None, "function": fn(None, ":")},
        {"index": True, "function": fn(None, "1}")},
        calls=[_F],
    ),
    "tools, odd parts": Case(
        sse(
            delta(tool_calls=[None, 7, "x", [], {"index": 0, "id": "a", "function": None}]),
            delta(tool_calls={"index": 0, "function": fn("f", '{"x":1}')}),
            delta(tool_calls="none"),
            delta(tool_calls=[{"index": 0, "id": "z", "function": "f"}]),
            delta(
                tool_calls=[
                    {"index": 0, "function": "f"},
                    {"index": 0, "function": {"name": 7, "arguments": 7}},
                ]
            ),
            delta(finish="stop"),
        ),
        text="",
        tokens=1,
        more={"tool_calls": [_F]},
    ),
    "tools, ids that are none": _calls(
        {"index": 0, "id": "", "type": 7, "function": fn("f", '{"x":1}')},
        {"index": 1, "id": 7, "type": "", "function": fn("g", "{}")},
        calls=[tool(None, "f", '{"x":1}'), tool(None, "g", "{}")],
        tokens=2,
    ),
    "tools, the id when the name comes again": _calls(
        {"index": 0, "function": fn("f")},
        {"index": 0, "id": "a", "function": fn("f", '{"x":1}')},
        calls=[_F],
        tokens=2,
    ),
    "tools, no index, and the name comes again": _calls(
        {"function": fn("f")},
        {"function": fn("f", '{"x":1}')},
        calls=[tool(None, "f", '{"x":1}')],
        tokens=2,
    ),
    "tools, the index at first only": _calls(
        {"index": 0, "id": "a", "function": fn("f", '{"x"')},
        {"index": 1, "id": "b", "function": fn("g", "{}")},
        {"id": "a", "function": fn(None, ":1}")},
        calls=[_F, _G],
    ),
    "tools, the index later only": _calls(
        {"id": "a", "function": fn("f", '{"x"')},
        {"id": "b", "function": fn("g", "{}")},
        {"index": 0, "id": "a", "function": fn(None, ":1}")},
        calls=[_F, _G],
    ),
    "tools, an id tells without index and name": _calls(
        {"id": "a", "function": fn("f", '{"x":1}')},
        {"id": "b", "function": fn(None, "{}")},
        {"id": "b", "function": fn("g")},
        calls=[_F, _G],
        tokens=3,
    ),
    "tools, empty pieces are no tokens": _calls(
        {"index": 0, "id": "a", "function": fn("f", '{"x":1}')},
        {"index": 0, "function": fn("", "")},
        {"index": 0, "function": fn("f")},
        {"index": 0, "custom": {}},
        calls=[{**_F, "custom": {}}],
        tokens=1,
    ),
    "tools, keys of strangers": _calls(
        {"index": 0, "id": "a", "function": fn("f"), "state": "begun", "n": 1, "none": None},
        {"index": 0, "function": fn(None, '{"x":1}'), "state": "begun", "n": 2},
        calls=[{**_F, "state": "begun", "n": 2}],
        tokens=2,
    ),
    "tools, a custom one": _calls(
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}},
        {"index": 0, "custom": {"input": "x = "}},
        {"index": 0, "custom": {"input": "1"}},
        calls=[{**tool("a", "", ""), "type": "custom", "custom": {"name": "f", "input": "x = 1"}}],
        tokens=3,
    ),
    "tools, custom ones all numbered 0": _calls(
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}},
        {"index": 0, "id": "b", "type": "custom", "custom": {"name": "f", "input": "y"}},
        calls=[
            {**tool("a", "", ""), "type": "custom", "custom": {"name": "f", "input": "x"}},
            {**tool("b", "", ""), "type": "custom", "custom": {"name": "f", "input": "y"}},
        ],
    ),
    "tools beside text": Case(
        sse(delta("Hello", tool_calls=[{"index": 0, **_F}]), delta(finish="tool_calls")),
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [_F]},
    ),
    "tools, the old way beside the new": Case(
        sse(delta(tool_calls=[{"index": 0, **_F}], function_call=_F["function"]), delta(finish="tool_calls")),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [_F]},
    ),
    "tools of two choices": Case(
        sse(
            choice(index=0, delta={"tool_calls": [{"index": 0, **_F}]}, finish_reason="tool_calls"),
            choice(index=1, delta={"tool_calls": [{"index": 0, **_G}]}, finish_reason="tool_calls"),
        ),
        text="",
        finish="tool_calls",
        tokens=2,
        more={"tool_calls": [_F]},
    ),
    # framing
    "blank lines forgotten between events": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in HELLO) + b"data: [DONE]\n\n",
        usage=usage(2),
        tokens=2,
    ),
    "blank line forgotten before done": Case(
        sse(*HELLO)[:-1] + b"data: [DONE]\n\n", usage=usage(2), tokens=2
    ),
    "no blank line at all": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in HELLO), usage=usage(2), tokens=2
    ),
    "json over several lines, left without a blank line": Case(
        sse(*UNFINISHED) + b'data: {"choices":\ndata: [{"delta":{},\ndata: "finish_reason":"stop"}]}',
        tokens=2,
    ),
    "no blank line at all, and cut": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in UNFINISHED) + b'data: {"cho',
        ErrorKind.TRUNCATED,
        finish=None,
        tokens=2,
    ),
    "an id and a retry with every event": Case(
        b"".join(b"id: 1\nretry: 5\n" + sse(c) for c in HELLO), usage=usage(2), tokens=2
    ),
    "id behind the data": Case(b"".join(sse(c)[:-1] + b"id: 1\n\n" for c in HELLO), usage=usage(2), tokens=2),
    "a field without a colon, and unknown ones": Case(
        b"data\n\nfoo\nbar: x\n" + sse(*HELLO) + b"event\n\n", usage=usage(2), tokens=2
    ),
    "a comment inside an event": Case(
        b"".join(b": c\n" + sse(c)[:-1] + b": d\n\n" for c in HELLO), usage=usage(2), tokens=2
    ),
    "crlf inside an event of several lines": Case(
        sse(*HELLO[:3]) + b'data: {"choices":\r\ndata: [{"delta":{},\rdata: "finish_reason":"stop"}]}\r\r',
        tokens=2,
    ),
    "many blank lines": Case(
        sse(*HELLO, done=True).replace(b"\n\n", b"\n\n\n\r\n\n"), usage=usage(2), tokens=2
    ),
    "blank lines and a bom first": Case(b"\n\n" + sse(*HELLO), usage=usage(2), tokens=2),
    "spaces in front": Case(b"   \n" + sse(*HELLO), usage=usage(2), tokens=2),
    "json with spaces all over": Case(
        b"".join(
            b"data:   " + json.dumps(c, indent=None, separators=(" , ", " : ")).encode() + b" \t\n\n"
            for c in HELLO
        ),
        usage=usage(2),
        tokens=2,
    ),
    "escapes of every kind": Case(
        b'data: {"choices":[{"delta":{"content":"\\u0048e\\u006cl\\u006f\\n\\t\\"\\\\\\/\\ud83d\\ude00"},'
        b'"finish_reason":"stop"}]}\n\n',
        text='Hello\n\t"\\/\U0001f600',
        tokens=1,
    ),
    "characters of four bytes": Case(
        sse(
            b'{"choices":[{"delta":{"content":"\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa9"},"finish_reason":"stop"}]}'
        ),
        text="\U0001f600\u20ac\xe9",
        tokens=1,
    ),
    "a character cut over two events": Case(
        sse(
            b'{"choices":[{"delta":{"content":"\xe2\x82"}}]}',
            b'{"choices":[{"delta":{"content":"\xac"}}]}',
            _END,
        ),
        text="\ufffd\ufffd",
        tokens=2,
    ),
    "a nul in the text": Case(sse(delta("a\0b", finish="stop")), text="a\0b", tokens=1),
    "a number of 5000 digits": Case(
        sse(*UNFINISHED, b'{"choices":[{"delta":{},"finish_reason":"stop"}],"n":' + b"7" * 5000 + b"}"),
        tokens=2,
    ),
    "an exponent no float can hold": Case(
        sse(b'{"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}],"n":1e999}'), tokens=1
    ),
    "choices twice in one chunk": Case(
        sse(
            b'{"choices":[{"delta":{"content":"no"}}],"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}'
        ),
        tokens=1,
    ),
    "a bom in front of an event's json": Case(
        sse(*UNFINISHED, b"\xef\xbb\xbf" + json.dumps(_END).encode()), tokens=2
    ),
    "a bare line that is no error": Case(
        sse(*HELLO[:2]) + b'{"status": "working"}\n\n' + sse(*HELLO[2:]), usage=usage(2), tokens=2
    ),
    "half a bare object": Case(sse(*HELLO[:2]) + b'{"a":\n\n' + sse(*HELLO[2:]), usage=usage(2), tokens=2),
    "a bare brace behind the last data": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(_END).encode() + b"\n{", tokens=2
    ),
}
