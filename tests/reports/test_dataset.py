"""Which type a caller's column gets, from the JSON of its values."""

from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.dataset import Body, Layout, column_type, kind, messages, prompt_text
from reports.parquet import schema


def kinds(*values: Any) -> set[str]:
    return {kind(msgspec.json.encode(value)) for value in values}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "str"),
        ([None], "str"),
        (["a", None], "str"),
        ([True, False], "bool"),
        ([1, -2, None], "int"),
        ([2**62], "int"),
        ([2**64 - 1], "json"),
        ([1, 2.5], "float"),
        ([2**53 + 1, 2.5], "json"),
        ([True, 1], "json"),
        (["a", 1], "json"),
        ([{"a": 1}], "json"),
        ([["a"], [], None], "[]str"),
        ([[1], [2.5]], "[]float"),
        ([[2**60], [2.5]], "json"),
        ([[2**60], [1]], "[]int"),
        ([[True], [None]], "[]bool"),
        ([["a"], [1]], "json"),
        ([[["a"]]], "json"),
        ([[{"a": 1}]], "json"),
        ([["a"], "a"], "json"),
        ([[]], "[]str"),
    ],
)
def test_column_types(values: list[Any], expected: str) -> None:
    assert column_type(kinds(*values)) == expected


def test_a_float_that_is_no_finite_number_stays_text() -> None:
    assert kind(b"1e999") == "json"


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(
    _scalars | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.lists(_values, max_size=5))
def test_every_column_fits_its_type(values: list[Any]) -> None:
    encoded = [msgspec.json.encode(value) for value in values]
    layout = Layout(caller={"c": {kind(value) for value in encoded}})
    arrow, readers = schema(layout)
    column = pa.array([readers["c"](value) for value in encoded], type=arrow.field("c").type).to_pylist()
    if column_type(layout.caller["c"]) == "json":
        column = [None if value is None else msgspec.json.decode(value) for value in column]
    assert column == values


def test_prompts() -> None:
    def chat(*turns: tuple[str, Any]) -> Body:
        return Body(messages=[{"role": role, "content": content} for role, content in turns])

    assert prompt_text(chat(("system", "s"), ("user", "u"))) == "u"
    assert prompt_text(Body(prompt="p")) == "p"
    assert prompt_text(Body(prompt=[1, 2])) is None
    assert prompt_text(msgspec.UNSET) is None
    parts = chat(("user", [{"type": "text", "text": "u"}]))
    assert (prompt_text(parts), messages(parts)) == (None, parts.messages)
    turns = chat(("user", "a"), ("assistant", "b"), ("user", "c"))
    assert (prompt_text(turns), messages(turns)) == (None, turns.messages)
    assert messages(chat(("user", "u"))) is None
