"""One answer against what its row expects."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from reports import expectation
from reports.expectation import Answer, Judge, expected, failures
from scenarios.expect import read_expect

CALL = [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"a": 1}'}}]


def answer(record: Any, text: str = "", expect: Any = None, **changes: Any) -> Answer:
    row = {} if expect is None else {"expect": expect}
    made = record(1, text=text, row=row, **changes)
    return msgspec.json.decode(msgspec.json.encode(made), type=Answer)


@pytest.mark.parametrize(
    ("expect", "text", "words"),
    [
        ({"equals": "Paris"}, " Paris\n", None),
        ({"equals": "Paris"}, "paris", '"paris", not "Paris"'),
        ({"equals": ""}, "", None),
        ({"contains": "ari"}, "Paris", None),
        ({"contains": ["Par", "is"]}, "Paris", None),
        ({"contains": ["Par", "x", "y"]}, "Paris", 'there is no "x", no "y" in "Paris"'),
        ({"regex": r"\d{3}"}, "a 123 b", None),
        ({"regex": r"^\d+$"}, "a 1\n2", r'nothing in "a 1\n2" matches "^\\d+$"'),
        ({"regex": r"(?m)^\d+$"}, "a\n2", None),
        ({"json": True}, ' {"a": [1, null]} ', None),
        ({"json": True}, "7", None),
        ({"json": True}, "```json\n{}\n```", "is no JSON: Expecting value"),
        ({"json": True}, "NaN", "NaN is not JSON"),
        ({"json": True}, "[" * 100_000, "is no JSON"),
        ({"json_schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', None),
        ({"json_schema": {"required": ["a"]}}, '{"b": 1}', "$: 'a' is a required property"),
        ({"json_schema": {"properties": {"a": {"type": "string"}}}}, '{"a": 1}', "$.a: 1 is not of type"),
        ({"json_schema": {}}, "oh", "is no JSON"),
        ({"max_tokens": 5}, "x", None),
        ({"max_tokens": 4}, "x", "5 completion tokens, at most 4"),
        ({"finish_reason": "stop"}, "x", None),
        ({"finish_reason": ["length", "tool_calls"]}, "x", "stop, not length or tool_calls"),
    ],
)
def test_an_answer(record: Any, expect: dict[str, Any], text: str, words: str | None) -> None:
    found = failures(read_expect(expect), answer(record, text))  # type: ignore[arg-type]
    if words is None:
        assert found == {}
    else:
        assert list(found) == list(expect)
        assert words in next(iter(found.values()))


def test_all_of_it_has_to_hold(record: Any) -> None:
    expect = {"equals": "a", "contains": "b", "regex": "c", "json": True, "finish_reason": "stop"}
    assert list(Judge().failures(answer(record, "d", expect))) == ["equals", "contains", "regex", "json"]


def test_tokens_nobody_told_are_no_pass(record: Any) -> None:
    found = Judge().failures(answer(record, "x", {"max_tokens": 9}, usage=None, usage_source="none"))
    assert found == {"max_tokens": "the server did not say how many tokens there are"}


@pytest.mark.parametrize("expect", [{"equals": ""}, {"regex": ""}, {"json": True}, {"contains": "look_up"}])
def test_a_tool_call_and_a_refusal_are_no_text(record: Any, expect: dict[str, Any]) -> None:
    call = Judge().failures(answer(record, "", expect, tool_calls=CALL, finish_reason="tool_calls"))
    assert list(call.values()) == ["the answer is a tool call (look_up), and no text"]
    refusal = Judge().failures(answer(record, "", expect, refusal="I can't."))
    assert list(refusal.values()) == ['refused: "I can\'t."']


def test_a_tool_call_that_was_expected(record: Any) -> None:
    expect = {"finish_reason": "tool_calls", "max_tokens": 5}
    assert Judge().failures(answer(record, "", expect, tool_calls=CALL, finish_reason="tool_calls")) == {}


def test_each_of_several_choices_has_to_hold(record: Any) -> None:
    choices = [
        {"index": 0, "finish_reason": "stop", "text": "yes"},
        {"index": 1, "finish_reason": "stop", "text": "no"},
    ]
    found = Judge().failures(answer(record, "yes", {"equals": "yes", "max_tokens": 4}, choices=choices))
    assert found["equals"] == 'choice 1: "no", not "yes"'
    assert "how many in each is not known" in found["max_tokens"]


def test_a_failure_holds_nothing(record: Any, failed: Any) -> None:
    made = failed(1, row={"expect": {"equals": "x"}})
    found = Judge().failures(msgspec.json.decode(msgspec.json.encode(made), type=Answer))
    assert found == {"answer": "there is none: timeout"}


def test_an_answer_cut_on_purpose_is_one(record: Any) -> None:
    cut = answer(record, "one two", {"contains": "one"}, status="cancelled", cancelled_by="stop_rule")
    assert Judge().failures(cut) == {}


def test_a_column_nobody_checked_is_no_pass(record: Any) -> None:
    found = Judge().failures(answer(record, "x", "Paris"))
    assert "cannot be judged: expect is text and no JSON" in found["expect"]


def test_who_expects_something(record: Any) -> None:
    assert [expected(answer(record, "x", value)) for value in (None, "", {"json": True})] == [
        False,
        False,
        True,
    ]


EVIL = {"regex": "^(a+)+$"}
LONG = "a" * 40 + "b"


def test_a_pattern_that_never_ends_is_given_up_and_then_left(
    record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expectation, "LIMIT_S", 0.02)
    judge = Judge()
    said = [judge.failures(answer(record, LONG, EVIL))["regex"] for _ in range(5)]
    assert all("took longer than 0.02 s" in words for words in said[:3])
    assert all("was not tried" in words for words in said[3:])
    assert judge.slow == 5
    assert judge.failures(answer(record, "aab", {"regex": "b$"})) == {}  # others are


def test_a_pattern_inside_a_schema_is_bounded_too(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation, "LIMIT_S", 0.02)
    found = Judge().failures(answer(record, f'"{LONG}"', {"json_schema": {"pattern": "^(a+)+$"}}))
    assert "took longer" in found["json_schema"]


def test_beside_the_main_thread_a_process_judges(record: Any) -> None:
    """Signals do not reach a thread: what may never end is done where it can be ended."""
    seen: list[dict[str, str]] = []

    def work() -> None:
        judge = Judge()
        seen.append(judge.failures(answer(record, "12", {"regex": r"^\d+$", "equals": "13"})))
        seen.append(judge.failures(answer(record, LONG, EVIL)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert seen[0] == {"equals": '"12", not "13"'}
    assert "took longer" in seen[1]["regex"]
