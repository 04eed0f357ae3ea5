"""Good answers that call tools, in every way their pieces are numbered and named."""

from __future__ import annotations

from typing import Any

from tests.runner.streams_json import Case, call, delta, fn, sse, tool
from tests.runner.streams_vendors import choice


def _calls(*parts: dict[str, Any], calls: list[dict[str, Any]], tokens: int | None = None) -> Case:
    """A stream of these tool-call parts, one a chunk."""
    body = sse(*[call(**part) for part in parts], delta(finish="tool_calls"), done=True)
    return Case(body, text="", finish="tool_calls", tokens=tokens, more={"tool_calls": calls})


_F, _G = tool("a", "f", '{"x":1}'), tool("b", "g", "{}")

CALLS: dict[str, Case] = {
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
}
