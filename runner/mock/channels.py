"""What a model says beside its text, in the many ways servers send it: thoughts and tool calls.

Pure functions from events to events, like those in `oddities.py`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from runner.mock.events import Change, Event, choices_of, is_finish, with_choice
from runner.mock.oddities import before_tokens, finish_as, is_token, without

THOUGHT = ["Let ", "me ", "think."]
THINK = f"<think>{''.join(THOUGHT)}</think>"
# In the shape of a message that is not streamed.
TOOL_CALLS: list[dict[str, Any]] = [
    {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
    for number, (name, arguments) in enumerate(
        [("river_level", '{"town": "Zürich", "metres": true}'), ("river_name", '{"town": "Zürich"}')]
    )
]


def _token(like: Event, **delta: Any) -> Event:
    """A token of its own time."""
    made = with_choice(like, delta=delta, finish_reason=None)
    return msgspec.structs.replace(made, tokens=1, beat=True)


# -- reasoning


def reasoning(*keys: str) -> Change:
    """Thoughts before the text, under each of these keys."""

    def change(events: list[Event]) -> list[Event]:
        like = next(event for event in events if choices_of(event))
        told = [_token(like, content="", **dict.fromkeys(keys, word)) for word in THOUGHT]
        return before_tokens(events, *told)

    return change


def reasoning_parts(events: list[Event]) -> list[Event]:
    """Thoughts as typed parts of the content."""
    like = next(event for event in events if choices_of(event))
    told = [
        _token(like, content=[{"type": "thinking", "thinking": [{"type": "text", "text": word}]}])
        for word in THOUGHT
    ]
    return before_tokens(events, *told)


def think(events: list[Event]) -> list[Event]:
    """Thoughts inside the text, between tags."""
    like = next(event for event in events if choices_of(event))
    return before_tokens(events, *[_token(like, content=word) for word in ("<think>", *THOUGHT, "</think>")])


# -- tool calls in place of the text


def _calling(deltas: list[dict[str, Any]]) -> Change:
    def change(events: list[Event]) -> list[Event]:
        like = next(event for event in events if choices_of(event))
        calls = [_token(like, **delta) for delta in deltas]
        rest = finish_as("tool_calls")(without(is_token)(events))
        place = next(n for n, event in enumerate(rest) if is_finish(event))
        return [*rest[:place], *calls, *rest[place:]]

    return change


def _call_pieces(number: int, **more: Any) -> list[dict[str, Any]]:
    """One call in three parts: its name, and its arguments in two."""
    call = TOOL_CALLS[number]
    text = call["function"]["arguments"]
    first = {"id": call["id"], "type": "function", "function": {"name": call["function"]["name"]}}
    first["function"]["arguments"] = ""
    tails = [{"function": {"arguments": piece}} for piece in (text[:9], text[9:])]
    return [{**more, **part} for part in (first, *tails)]


def _as_deltas(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"tool_calls": [piece]} for piece in pieces]


_BOTH = zip(_call_pieces(0, index=0), _call_pieces(1, index=1), strict=True)
_FIRST = TOOL_CALLS[0]
tools = _calling(_as_deltas(_call_pieces(0, index=0)))
tools_parallel = _calling(_as_deltas([piece for pair in _BOTH for piece in pair]))
tools_without_index = _calling(_as_deltas([*_call_pieces(0), *_call_pieces(1)]))
tools_one_index = _calling([{"tool_calls": [{"index": 0, **call} for call in TOOL_CALLS]}])
tools_repeated = _calling(
    _as_deltas(
        [
            {
                **_FIRST,
                "index": 0,
                "function": {**_FIRST["function"], **piece["function"]},
            }
            for piece in _call_pieces(0)
        ]
    )
)
tools_object = _calling(
    _as_deltas(
        [
            {
                **_FIRST,
                "index": 0,
                "function": {
                    "name": _FIRST["function"]["name"],
                    "arguments": json.loads(_FIRST["function"]["arguments"]),
                },
            }
        ]
    )
)
function_call = _calling([{"function_call": piece["function"]} for piece in _call_pieces(0)])
