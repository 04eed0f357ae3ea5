"""Tool calls out of the pieces streams send them in. No socket, no clock."""

from __future__ import annotations

import json
from typing import Any


class Call:
    """One tool call as far as it has come."""

    __slots__ = ("arguments", "id", "index", "name", "rest", "type")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id: str | None = None
        self.type = "function"
        self.name: list[str] = []
        self.arguments: list[str] = []
        self.rest: dict[str, Any] = {}

    def as_dict(self) -> dict[str, Any]:
        """The call in the shape of a message that was not streamed."""
        function = {"name": "".join(self.name), "arguments": "".join(self.arguments)}
        return {**self.rest, "id": self.id, "type": self.type, "function": function}


def add_calls(calls: list[Call], parts: list[Any]) -> bool:
    """Take the tool-call parts of one delta; returns whether any was a token."""
    token = False
    for part in parts:
        if not isinstance(part, dict):
            continue
        call = _call_for(calls, part)
        function = part.get("function")
        if isinstance(function, dict):
            name, arguments = function.get("name"), function.get("arguments")
            if isinstance(name, str) and name and "".join(call.name) != name:
                call.name.append(name)
                token = True
            if isinstance(arguments, dict | list):
                arguments = json.dumps(arguments, ensure_ascii=False)
            if isinstance(arguments, str) and arguments:
                call.arguments.append(arguments)
                token = True
    return token


def _call_for(calls: list[Call], part: dict[str, Any]) -> Call:
    index, name = part.get("index"), part.get("id")
    index = index if isinstance(index, int) else None
    name = name if isinstance(name, str) and name else None
    found = None
    if name is not None:
        found = next((c for c in calls if c.id == name), None)
    if found is None:
        # Without an id: the last call of that index, or the last of all. With an id nobody had: a new
        # call, unless the one at that index is still waiting for its id.
        same = [c for c in calls if index is None or c.index == index]
        if same and (name is None or same[-1].id is None) and not _begins(part, same[-1]):
            found = same[-1]
    if found is None:
        found = Call(index)
        calls.append(found)
    if name is not None:
        found.id = name
    if isinstance(part.get("type"), str) and part["type"]:
        found.type = part["type"]
    for key, value in part.items():
        if key not in {"index", "id", "type", "function"} and value is not None:
            found.rest[key] = value
    return found


def _begins(part: dict[str, Any], last: Call) -> bool:
    """Whether a part with neither index nor id is a new call: it names a function, the last is under way."""
    function = part.get("function")
    named = isinstance(function, dict) and bool(function.get("name"))
    return named and part.get("index") is None and not part.get("id") and bool(last.arguments)
