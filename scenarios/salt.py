"""The salt of a run: its prompts are new to a prefix cache, and as long as those of any other run.

    salt = Salt("d41c9e/03-b")
    salt.of(body)                        # the body that this run sends

Runs that are compared ask the same prompts, and a server that remembers the beginnings of earlier ones would
answer every run but the first too soon. So each run has another beginning.

- Prompts of the program's own words: the first six are exchanged for others, by a table that is drawn for
  the run. A word only ever becomes one of as many tokens, so the length stays, by letters and by tokens.
  Equal beginnings stay equal and different ones different: within a run, caches find what they would have.
- Prompts of a file: a line of six words before the first text. It is part of what the model reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b, sha256
from typing import Any

from scenarios.words import WORDS

SALTED_WORDS = 6
_STEP = 5  # four letters and a space
_HEAD = SALTED_WORDS * _STEP - 1
_LINE = "Reference: {}\n\n"


class Salt:
    """What a run puts into its prompts.

    Args:
        text: no two runs have the same.
        kinds: of each of `WORDS`, what has to stay the same when it is exchanged; all are alike without.
    """

    def __init__(self, text: str, kinds: Sequence[object] | None = None) -> None:
        self.digest = int.from_bytes(sha256(b"streamgauge.salt.1 " + text.encode()).digest()[:16], "big")
        """Mixed into the ids of a run's requests: their bodies are its own."""
        self._table = _table(text, kinds)
        drawn = blake2b(text.encode(), digest_size=SALTED_WORDS).digest()
        self._line = _LINE.format(" ".join(WORDS[place] for place in drawn))

    def of(self, body: dict[str, Any], *, made: bool) -> dict[str, Any]:
        """Return the body with its first text salted; one that has no text is returned as it is.

        Args:
            body: of a request; it is left as it is.
            made: whether its prompt is of `WORDS`.
        """
        change = self._exchanged if made else self._headed
        if "messages" in body:
            return {**body, "messages": _first_salted(body["messages"], change)}
        prompt = body.get("prompt")
        if isinstance(prompt, str):
            return {**body, "prompt": change(prompt)}
        if isinstance(prompt, list):  # several texts; token ids have no words
            return {**body, "prompt": [change(one) if isinstance(one, str) else one for one in prompt]}
        return body

    def _exchanged(self, text: str) -> str:
        head = text[:_HEAD].split(" ")
        return " ".join([self._table.get(word, word) for word in head]) + text[_HEAD:]

    def _headed(self, text: str) -> str:
        return self._line + text


def _first_salted(messages: Any, change: Any) -> Any:
    """The messages with the first text in them changed. Those after it are shared, not copied."""
    for place, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            changed: Any = change(content)
        elif isinstance(content, list):
            changed = _first_part_salted(content, change)
        else:
            continue
        return [*messages[:place], {**message, "content": changed}, *messages[place + 1 :]]
    return messages


def _first_part_salted(parts: list[Any], change: Any) -> list[Any]:
    for place, part in enumerate(parts):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return [*parts[:place], {**part, "text": change(part["text"])}, *parts[place + 1 :]]
    return parts


def _table(text: str, kinds: Sequence[object] | None) -> dict[str, str]:
    """Each word's other one: the words of a kind, shuffled."""
    groups: defaultdict[object, list[str]] = defaultdict(list)
    for place, word in enumerate(WORDS):
        groups[kinds[place] if kinds is not None else None].append(word)
    table: dict[str, str] = {}
    for words in groups.values():
        shuffled = sorted(words, key=lambda word: blake2b(f"{text}/{word}".encode(), digest_size=16).digest())
        table.update(zip(words, shuffled, strict=True))
    return table
