"""Tool calls out of the pieces streams send them in. No socket, no clock."""

from __future__ import annotations

import json
from typing import Any

from runner.chunks import is_json, joined

_KEYS = frozenset({"index", "id", "type", "function"})


class Call:
    """One tool call as far as it has come."""

    __slots__ = ("arguments", "id", "index", "name", "name_size", "rest", "type")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id: str | None = None
        self.type = "function"
        self.name: list[str] = []
        self.name_size = 0
        self.arguments: list[str] = []
        self.rest: dict[str, list[Any]] = {}

    def add_name(self, name: str) -> bool:
        """Take a piece of the name; False where it was the name so far once more, as some servers send it."""
        if len(name) == self.name_size and "".join(self.name) == name:
            return False
        self.name.append(name)
        self.name_size += len(name)
        return True

    def as_dict(self) -> dict[str, Any]:
        """The call in the shape of a message that was not streamed."""
        # Of a stranger's texts and numbers the last counts; what holds something is put together.
        rest = {key: joined(v) if isinstance(v[-1], dict | list) else v[-1] for key, v in self.rest.items()}
        function = {"name": "".join(self.name), "arguments": "".join(self.arguments)}
        return {**rest, "id": self.id, "type": self.type, "function": function}


class Calls:
    """The tool calls of one choice, in the order they began. A piece costs what it holds, however many."""

    __slots__ = ("_by_id", "_by_index", "_list")

    def __init__(self) -> None:
        self._list: list[Call] = []
        self._by_id: dict[str, Call] = {}
        self._by_index: dict[int, Call] = {}  # the last that began with that index

    def __bool__(self) -> bool:
        return bool(self._list)

    def pieces(self) -> list[str]:
        """All their texts."""
        return [piece for call in self._list for piece in (*call.name, *call.arguments)]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The calls in the shape of a message that was not streamed."""
        return [call.as_dict() for call in self._list]

    def add(self, parts: list[Any]) -> bool:
        """Take the tool-call parts of one delta; returns whether any was a token."""
        token = False
        for part in parts:
            if isinstance(part, dict):
                token |= self._add(part)
        return token

    def _add(self, part: dict[str, Any]) -> bool:
        call = self._call_for(part)
        token = False
        function = part.get("function")
        if isinstance(function, dict):
            name, arguments = function.get("name"), function.get("arguments")
            if isinstance(name, str) and name:
                token = call.add_name(name)
            if isinstance(arguments, dict | list):
                arguments = json.dumps(arguments, ensure_ascii=False)
            if isinstance(arguments, str) and arguments:
                call.arguments.append(arguments)
                token = True
        custom = part.get("custom")  # a tool whose input is plain text
        if isinstance(custom, dict) and (custom.get("name") or custom.get("input")):
            token = True
        for key, value in part.items():
            if key not in _KEYS and value is not None:
                call.rest.setdefault(key, []).append(value)
        return token

    def _call_for(self, part: dict[str, Any]) -> Call:
        index, ident, kind = part.get("index"), part.get("id"), part.get("type")
        index = index if type(index) is int else None
        ident = ident if isinstance(ident, str) and ident else None
        call = self._known(part, index, ident)
        if call is None:
            call = Call(index)
            self._list.append(call)
            if index is not None:
                self._by_index[index] = call
        if ident is not None:
            call.id = call.id or ident
            self._by_id[ident] = call
        if isinstance(kind, str) and kind:
            call.type = kind
        return call

    def _known(self, part: dict[str, Any], index: int | None, ident: str | None) -> Call | None:
        """The call that a part goes on with; `None` where it begins one."""
        if ident is not None:
            found = self._by_id.get(ident)
            # Two calls may bear one id where it was made of the function's name: then the index tells.
            if found is not None and (index is None or found.index is None or found.index == index):
                return found
        if not self._list:
            return None
        last = self._list[-1] if index is None else self._by_index.get(index)
        if last is None:
            return None
        if ident is not None and last.id is not None and last.id != ident:
            # An id nobody had: a new call, for some servers number all of them 0. Not without a name: others
            # give every piece an id of its own.
            return None if _is_named(part) or index is None else last
        if last.arguments and _is_named(part):
            if index is None:
                return None  # without an index a name tells, once the last is under way
            if _is_next(last, part):
                return None
        return last


def _is_next(last: Call, part: dict[str, Any]) -> bool:
    """Whether a part with a name and the last call's index begins another: Gemini numbers all of them 0."""
    function = part.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    begins = isinstance(arguments, dict) or (isinstance(arguments, str) and arguments.startswith("{"))
    # Only where the last came whole: other servers say the name with every piece.
    return begins and len(last.arguments) == 1 and is_json(last.arguments[0].encode("utf-8", "replace"))


def _is_named(part: dict[str, Any]) -> bool:
    function = part.get("function")
    if not isinstance(function, dict):
        function = part.get("custom")
    return isinstance(function, dict) and bool(function.get("name"))
