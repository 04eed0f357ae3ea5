"""One choice of an answer as far as it has come, and the forgiving way to read its deltas. No clock."""

from __future__ import annotations

from typing import Any

from runner.tools import Calls

_DELTA_KEYS = frozenset(
    {"role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"}
)


class ChoiceState:
    """One choice as far as it has come."""

    __slots__ = ("by_messages", "calls", "extra", "finish_reason", "index", "reasoning", "refusal", "text")

    def __init__(self, index: int) -> None:
        self.index = index
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls = Calls()
        self.finish_reason: str | None = None
        self.extra: dict[str, list[Any]] = {}
        self.by_messages = False  # it comes as `message`s, a piece in each

    def as_dict(self) -> dict[str, Any]:
        """The choice with the record's field names."""
        return {
            "index": self.index,
            "finish_reason": self.finish_reason,
            "text": "".join(self.text),
            "reasoning": "".join(self.reasoning) or None,
            "refusal": "".join(self.refusal) or None,
            "tool_calls": self.calls.as_dicts() or None,
        }

    def size(self) -> int:
        """All that was said, in UTF-8 bytes."""
        said = "".join([*self.text, *self.reasoning, *self.refusal, *self.calls.pieces()])
        return len(said.encode("utf-8", "replace"))

    def add_message(self, message: dict[str, Any]) -> bool:
        """Take the `message` of a choice without a delta; returns whether it was a token.

        A server that has streamed its answer may say it once more as a whole (MiniMax): of that, only what
        was not said yet.
        """
        said = {
            "content": self.text,
            "reasoning_content": self.reasoning,
            "reasoning": self.reasoning,
            "reasoning_details": self.reasoning,
            "refusal": self.refusal,
            "tool_calls": self.calls,
            "function_call": self.calls,
            **self.extra,
        }
        if not self.by_messages:
            if any(said.values()):
                return self.add_delta({key: value for key, value in message.items() if not said.get(key)})
            self.by_messages = True
        return self.add_delta(message)

    def add_delta(self, delta: dict[str, Any]) -> bool:
        """Take a delta, whatever types its values have; returns whether it was a token."""
        content = delta.get("content")
        token = self.add_content(content) if content else False
        token |= self._add_reasoning(delta)
        if delta.get("refusal"):
            token |= _add_text(self.refusal, delta["refusal"])
        calls, old = delta.get("tool_calls"), delta.get("function_call")
        if isinstance(calls, dict):
            calls = [calls]
        if isinstance(calls, list) and calls:
            token |= self.calls.add(calls)
        elif isinstance(old, dict):
            token |= self.calls.add([{"index": 0, "function": old}])
        for key, value in delta.items():
            if key not in _DELTA_KEYS and value is not None:
                self.extra.setdefault(key, []).append(value)
        return token

    def add_content(self, content: object) -> bool:
        """Take content: a text, or typed parts of one."""
        if isinstance(content, str):
            return _add_text(self.text, content)
        if isinstance(content, list):
            token = False
            for part in content:
                token |= self._add_part(part) if isinstance(part, dict) else _add_text(self.text, part)
            return token
        return isinstance(content, dict) and self._add_part(content)

    def _add_part(self, part: dict[str, Any]) -> bool:
        kind = part.get("type")
        if kind in ("thinking", "reasoning"):
            names = ("thinking", "reasoning", "text", "summary")
            thought = next((part[name] for name in names if part.get(name)), None)
            pieces = thought if isinstance(thought, list) else [thought]
            found = [_add_text(self.reasoning, p.get("text") if isinstance(p, dict) else p) for p in pieces]
            return any(found)
        if kind == "refusal":
            return _add_text(self.refusal, part.get("refusal"))
        return _add_text(self.text, part.get("text"))

    def _add_reasoning(self, delta: dict[str, Any]) -> bool:
        # Under two names at once it is the same text twice.
        for key in ("reasoning_content", "reasoning"):
            value = delta.get(key)
            if value and _add_text(self.reasoning, value):
                return True
        details = delta.get("reasoning_details")
        if not details:
            return False
        token = False
        for part in details if isinstance(details, list) else []:
            token |= isinstance(part, dict) and _add_text(self.reasoning, part.get("text"))
        return token


def _add_text(to: list[str], text: object) -> bool:
    if isinstance(text, str) and text:
        to.append(text)
        return True
    return False
