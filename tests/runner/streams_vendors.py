"""Good answers as providers, gateways and engines word them, each with what is its own."""

from __future__ import annotations

from typing import Any

from tests.runner.streams_json import HELLO, ID, UNFINISHED, Case, call, delta, fn, sse, tool, usage


def choice(**fields: Any) -> dict[str, Any]:
    """A chunk whose one choice has these keys and no others."""
    return {**ID, "choices": [fields]}


def _said(text: str = "Hello", *chunks: Any, tokens: int | None = 2, **more: Any) -> Case:
    """A stream of these chunks that ends as it should."""
    return Case(sse(*chunks, done=True), text=text, tokens=tokens, more=more)


_END = delta(finish="stop")
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
            choice(
                index=0,
                message={"content": None, "tool_calls": [tool("a", "f", '{"x":1}')]},
                finish_reason="tool_calls",
            ),
        ),
        text="",
        finish="tool_calls",
        tokens=1,
        more={"tool_calls": [tool("a", "f", '{"x":1}')]},
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
}
