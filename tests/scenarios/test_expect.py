"""The `expect` column: what is read, what is refused, and that nothing is fetched."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.bodies import Settings
from scenarios.expect import CHECKS, Expect, ExpectError, check_expect, read_expect
from scenarios.prompts import scan
from scenarios.rows import read_rows
from scenarios.source import PromptError, open_source


@pytest.mark.parametrize(
    ("value", "expect"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("null", None),
        ({"equals": ""}, Expect(equals="")),
        ({"contains": "a"}, Expect(contains=("a",))),
        ({"contains": ["a", "b"], "regex": None}, Expect(contains=("a", "b"))),
        ('{"regex": "^\\\\d+$"}', Expect(regex="^\\d+$")),  # the cell of a table
        ({"json": True, "max_tokens": 5}, Expect(json=True, max_tokens=5)),
        ({"json_schema": {"type": "object"}}, Expect(json_schema={"type": "object"})),
        ({"json_schema": False}, Expect(json_schema=False)),
        ({"finish_reason": ["stop", "length"]}, Expect(finish_reason=("stop", "length"))),
    ],
)
def test_what_is_read(value: Any, expect: Expect | None) -> None:
    assert read_expect(value) == expect
    assert check_expect({"expect": value}) is (expect is not None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Paris", "text and no JSON, 'Paris'; write an object"),
        ("[1]", "is a list, not an object"),
        (["Paris"], "is a list, not an object"),
        (7, "is a number, not an object"),
        ({}, "expects nothing; give one of equals, contains"),
        ({"equals": None}, "expects nothing"),
        ({"equal": "x"}, "has no key 'equal'; there are equals, contains, regex"),
        ({"equals": 4}, "expect.equals is a number, not text"),
        ({"contains": []}, "expect.contains is no text, and no list of texts"),
        ({"contains": [""]}, "expect.contains is no text"),
        ({"contains": ["a", 1]}, "expect.contains is no text"),
        ({"regex": "("}, "expect.regex is no regular expression: missing ), unterminated subpattern"),
        ({"regex": "a{99999999999999999999}"}, "expect.regex is no regular expression"),
        ({"json": False}, "expect.json is false; write true, or leave it out"),
        ({"json": 1}, "expect.json is 1"),
        ({"json_schema": "x"}, "expect.json_schema is text, not a schema"),
        ({"json_schema": {"type": "strin"}}, "expect.json_schema is no schema: $.type"),
        ({"json_schema": {"pattern": "("}}, "expect.json_schema is no schema: $.pattern"),
        ({"json_schema": {"$ref": "#/$defs/a"}}, "refers to '#/$defs/a', which is not in it"),
        ({"json_schema": {"items": {"$ref": "http://127.0.0.1:1/x"}}}, "nothing is fetched"),
        ({"max_tokens": 0}, "not a whole number from 1 on"),
        ({"max_tokens": True}, "not a whole number"),
        ({"max_tokens": "5"}, "not a whole number"),
        ({"finish_reason": 1}, "expect.finish_reason is no text"),
    ],
)
def test_what_is_refused(value: Any, said: str) -> None:
    with pytest.raises(ExpectError) as caught:
        check_expect({"expect": value})
    assert said in str(caught.value)


def test_references_inside_a_schema_are_followed() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}, "const": {"$ref": "#/no"}}
    assert check_expect({"expect": {"json_schema": schema}})


def test_no_schema_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for reference in (
        "http://example.invalid/a.json",
        "https://json-schema.org/nothing",
        "file:///etc/passwd",
    ):
        with pytest.raises(ExpectError, match="nothing is fetched"):
            check_expect({"expect": {"json_schema": {"$ref": reference}}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


schemas = st.dictionaries(st.sampled_from(["type", "$ref", "$id", "items", "pattern"]), json_values)


@settings(deadline=None)
@given(
    value=json_values
    | st.dictionaries(st.sampled_from(CHECKS), json_values, max_size=4)
    | st.fixed_dictionaries({"json_schema": schemas})
)
def test_no_column_ends_otherwise_than_in_an_expect_error(value: Any) -> None:
    with suppress(ExpectError):
        check_expect({"expect": value})


def written(tmp_path: Path, *lines: str, name: str = "p.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


BAD = (
    '{"prompt": "a", "expect": {"regex": "("}}',
    '{"prompt": "b", "expect": {"equals": "b"}}',
    '{"prompt": "c"}',
)


def test_a_bad_expect_is_a_bad_row_with_its_place(tmp_path: Path) -> None:
    plan = scan(open_source(written(tmp_path, *BAD)), Settings(model="m"))
    assert (plan.rows, plan.requests, plan.bad_count, plan.expects) == (3, 2, 1, 1)
    assert str(plan.bad[0]).startswith("line 1: expect.regex is no regular expression")


def test_a_bad_expect_is_not_sent_where_bad_rows_are_skipped(tmp_path: Path) -> None:
    plan = scan(open_source(written(tmp_path, *BAD)), Settings(model="m"), skip_bad_rows=True)
    builder = plan.builder()
    sent = [request for block in plan.blocks() for request in builder.feed(block)] + list(builder.end())
    assert [request.body["messages"][0]["content"] for request in sent] == ["b", "c"]
    assert len(plan.digests) == 2
    assert sent[0].row == {"expect": {"equals": "b"}}


def test_a_bad_expect_refuses_the_file_of_a_bench(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"1 of 3 rows cannot be sent: line 1: expect\.regex"):
        read_rows(written(tmp_path, *BAD), None, Settings(model="m"))
    found = read_rows(written(tmp_path, *BAD[1:]), None, Settings(model="m"))
    assert [row.expects for row in found.rows] == [True, False]


def test_the_cell_of_a_table(tmp_path: Path) -> None:
    name = written(tmp_path, "prompt,expect", 'a,"{""contains"": ""x""}"', "b,", "c,nonsense", name="p.csv")
    plan = scan(open_source(name), Settings(model="m"))
    assert (plan.expects, plan.bad_count) == (1, 1)
    assert "write an object" in plan.bad[0].reason


def test_the_library_for_schemas_is_loaded_where_one_is_used() -> None:
    code = (
        "import sys; from scenarios.expect import check_expect\n"
        "check_expect({'expect': {'regex': 'a', 'json': True}})\n"
        "assert 'jsonschema' not in sys.modules\n"
        "check_expect({'expect': {'json_schema': {}}})\n"
        "assert 'jsonschema' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)
