"""One answer against what its row expects: what does not hold, in words.

What is judged as text is the content of an answer. A refusal and a tool call have none: `equals`,
`contains`, `regex`, `json` and `json_schema` do not hold there, and say why. `finish_reason` and `max_tokens`
are judged of every answer. Of several choices each has to hold. A request that failed holds nothing.

Patterns and schemas get `LIMIT_S` of CPU time a record. One that used it up `PATIENCE` times is not tried
again: whatever it was to judge does not hold, and the words say why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct, UnsetType

from reports.bounded import OutOfTime, can_interrupt, within
from reports.rows import RowConnection, RowError, accepted
from runner.record import tokens
from scenarios.expect import COLUMN, Expect, ExpectError, read_expect, schema_validator

LIMIT_S = 1.0
PATIENCE = 3
ANSWER = "answer"
"""What did not hold where there is no answer to judge."""
_CHILD_S = 10.0  # where only a process can be ended: wall time, its start included
_SHOWN = 80


class Choice(Struct):
    """One choice of an answer."""

    finish_reason: str | None = None
    text: str = ""
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Answer(Struct):
    """The fields of a record that an expectation looks at, and those that say which record it is."""

    id: str
    prompt_id: str
    index: int
    sample: int
    session: int
    phase: str
    status: str
    cancelled_by: str | None = None
    error: RowError | None = None
    finish_reason: str | None = None
    text: str = ""
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    choices: list[Choice] | UnsetType = msgspec.UNSET
    usage: dict[str, Any] | None = None
    usage_partial: dict[str, Any] | None = None
    connection: RowConnection = RowConnection()
    turn: int | UnsetType = msgspec.UNSET
    row: dict[str, Raw] = {}


Failures = dict[str, str]
"""By what does not hold, in words."""


def expected(answer: Answer) -> bool:
    """Whether the row of a record says what it expects."""
    raw = answer.row.get(COLUMN)
    return raw is not None and bytes(raw) not in {b"null", b'""'}


def is_judged(answer: Answer) -> bool:
    """Whether somebody is to blame: an answer, a failure, or a request the run's own deadline cut."""
    return (
        answer.status == "error"
        or answer.cancelled_by == "deadline"
        or accepted(answer.status, answer.cancelled_by)
    )


class Judge:
    """Judges answers one after the other, and remembers which patterns are not worth another try."""

    def __init__(self) -> None:
        self.slow = 0
        self._late: Counter[tuple[str | None, bytes]] = Counter()

    def failures(self, answer: Answer) -> Failures:
        """What does not hold of one answer; empty where all does."""
        try:
            expect = _expect_of(bytes(answer.row[COLUMN]))
        except ExpectError as exc:
            return {COLUMN: f"cannot be judged: {exc}"}
        if expect is None:
            return {}
        if not accepted(answer.status, answer.cancelled_by):
            kind = answer.error.kind if answer.error is not None else answer.cancelled_by or answer.status
            return {ANSWER: f"there is none: {kind}"}
        if expect.regex is None and expect.json_schema is None:
            return failures(expect, answer)
        key = (expect.regex, msgspec.json.encode(expect.json_schema))
        name = "regex" if expect.regex is not None else "json_schema"
        if self._late[key] >= PATIENCE:
            self.slow += 1
            return {name: f"was not tried: it took too long {PATIENCE} times"}
        try:
            return _bounded(expect, answer)
        except OutOfTime:
            self._late[key] += 1
            self.slow += 1
            return {name: f"took longer than {LIMIT_S:g} s, and was given up"}


@lru_cache(maxsize=256)
def _expect_of(encoded: bytes) -> Expect | None:
    return read_expect(msgspec.json.decode(encoded))


def _bounded(expect: Expect, answer: Answer) -> Failures:
    if can_interrupt():
        return within(LIMIT_S, lambda: failures(expect, answer))
    code = "from reports.expectation import child; child()"
    try:
        done = subprocess.run(  # noqa: S603 (our own code; what a row says goes in as data)
            [sys.executable, "-c", code],
            input=msgspec.json.encode((expect, answer)),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=_CHILD_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise OutOfTime from None
    found = msgspec.json.decode(done.stdout, type=Failures | None)
    if found is None:
        raise OutOfTime
    return found


def child() -> None:
    """Judge the one answer on standard input, in a process that can be ended."""
    expect, answer = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[Expect, Answer])
    found: Failures | None = None
    with suppress(OutOfTime):
        if can_interrupt():
            found = within(LIMIT_S, lambda: failures(expect, answer))
        else:
            found = failures(expect, answer)
    sys.stdout.buffer.write(msgspec.json.encode(found))


def failures(expect: Expect, answer: Answer) -> Failures:
    """What does not hold; without a limit of time."""
    several = not isinstance(answer.choices, UnsetType) and len(answer.choices) > 1
    choices = [
        Choice(answer.finish_reason, answer.text, answer.refusal, answer.tool_calls),
    ]
    if several:
        assert not isinstance(answer.choices, UnsetType)
        choices = answer.choices
    out: Failures = {}
    for number, choice in enumerate(choices):
        for name, words in _of_choice(expect, choice):
            out.setdefault(name, f"choice {number}: {words}" if several else words)
    if expect.max_tokens is not None:
        too_long = _too_long(expect.max_tokens, answer, len(choices))
        if too_long is not None:
            out["max_tokens"] = too_long
    return out


def _of_choice(expect: Expect, choice: Choice) -> Iterator[tuple[str, str]]:
    if expect.finish_reason is not None and choice.finish_reason not in expect.finish_reason:
        yield (
            "finish_reason",
            f"{choice.finish_reason or 'none was given'}, not {' or '.join(expect.finish_reason)}",
        )
    text, no_text = choice.text, _no_text(choice)
    checks: dict[str, Callable[[], str | None]] = {
        "equals": lambda: _equals(expect.equals or "", text),
        "contains": lambda: _contains(expect.contains or (), text),
        "regex": lambda: _regex(expect.regex or "", text),
        "json": lambda: _parsed(text)[1],
        "json_schema": lambda: _schema(expect.json_schema, text),
    }
    for name, check in checks.items():
        if getattr(expect, name) is not None:
            words = no_text or check()
            if words is not None:
                yield name, words


def _no_text(choice: Choice) -> str | None:
    if choice.text:
        return None
    if choice.refusal:
        return f"refused: {shown(choice.refusal)}"
    if choice.tool_calls:
        function = choice.tool_calls[0].get("function")
        name = function.get("name") if isinstance(function, dict) else None
        return f"the answer is a tool call ({name or 'without a name'}), and no text"
    return None


def shown(text: str) -> str:
    """A text on one line, cut."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return json.dumps(cut, ensure_ascii=False)


def _equals(wanted: str, text: str) -> str | None:
    return None if text.strip() == wanted.strip() else f"{shown(text.strip())}, not {shown(wanted.strip())}"


def _contains(wanted: tuple[str, ...], text: str) -> str | None:
    missing = [part for part in wanted if part not in text]
    return f"there is no {', no '.join(map(shown, missing))} in {shown(text)}" if missing else None


def _regex(pattern: str, text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = re.search(pattern, text)
    except (re.error, RecursionError, OverflowError) as exc:
        return f"cannot be judged: {exc}"
    return None if found else f"nothing in {shown(text)} matches {shown(pattern)}"


def _parsed(text: str) -> tuple[Any, str | None]:
    try:
        return json.loads(text, parse_constant=_no_constant), None
    except (ValueError, RecursionError) as exc:
        return None, f"{shown(text)} is no JSON: {exc}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _schema(schema: Any, text: str) -> str | None:
    value, why = _parsed(text)
    if why is not None:
        return why
    try:
        error = next(iter(_validator(msgspec.json.encode(schema)).iter_errors(value)), None)
    except Exception as exc:  # noqa: BLE001 (a schema the library cannot use, from a row nobody checked)
        return f"cannot be judged: {str(exc)[:200]}"
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


@lru_cache(maxsize=64)
def _validator(encoded: bytes) -> Any:
    return schema_validator(msgspec.json.decode(encoded))


def _too_long(most: int, answer: Answer, choices: int) -> str | None:
    came = tokens(answer.usage or answer.usage_partial).completion
    if came is None:
        return "the server did not say how many tokens there are"
    if choices > 1:
        return (
            None if came <= most else f"{came:,} tokens in {choices} choices: how many in each is not known"
        )
    return None if came <= most else f"{came:,} completion tokens, at most {most:,}"
