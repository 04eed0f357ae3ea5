import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.formats import BadRow, Decoder, LineDecoder, Row, decoder, json_line, text_line
from scenarios.source import PromptError, Source


def make(format_: Any) -> Decoder:
    return decoder(Source(path="f", format=format_))


def read(format_: Any, *blocks: bytes) -> list[Row | BadRow]:
    decode = make(format_)
    rows = [row for block in blocks for row in decode.feed(block)]
    return rows + list(decode.end())


def only_bad(format_: Any, data: bytes) -> str:
    (row,) = read(format_, data)
    assert isinstance(row, BadRow)
    return str(row)


def test_jsonl_rows_keep_their_line_and_place() -> None:
    rows = read("jsonl", b'\n{"prompt":"a"}\r\n  \n"b"\nnope\n{"prompt":"c"}')
    assert rows[0] == Row(2, 0, {"prompt": "a"})
    assert rows[1] == Row(4, 1, {"prompt": "b"})
    assert isinstance(rows[2], BadRow)
    assert (rows[2].line, rows[2].index) == (5, 2)
    assert rows[3] == Row(6, 3, {"prompt": "c"})


def test_text_rows_are_lines() -> None:
    rows = read("txt", b"\xef\xbb\xbfone\r\n\n two \n\t\nthr\xe2\x80\xa8ee\x0bx\x85".replace(b"\x85", b""))
    assert rows == [
        Row(1, 0, {"prompt": "one"}),
        Row(3, 1, {"prompt": " two "}),
        Row(5, 2, {"prompt": "thr\u2028ee\x0bx"}),
    ]


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("format_", ["txt", "jsonl"])
def test_only_newlines_end_lines(char: str, format_: str) -> None:
    text = f"a{char}b"
    line = text if format_ == "txt" else json.dumps({"prompt": text}, ensure_ascii=False)
    if format_ == "txt" or ord(char) > 0x20:
        assert read(format_, f"{line}\n".encode()) == [Row(1, 0, {"prompt": text})]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"a": 1 "b": 2}', "line 1, column 9: Expecting ',' delimiter"),
        (b'{"a": }', "line 1, column 7: "),
        (b'{"a": 1} x', "line 1, column 10: Extra data"),
        (b"{", "line 1, column 2: Expecting property name"),
        (b'{"a": NaN}', "line 1: NaN is not JSON"),
        (b'{"a": -Infinity}', "line 1: -Infinity is not JSON"),
        (b'{"a": "\\ud800"}', "line 1: half a surrogate pair (\\ud800) is no text"),
        (b'{"a": "\\udc00 and more"}', "line 1: half a surrogate pair (\\udc00) is no text"),
        (b'{"a": "\\ud800 and more"}', "line 1: half a surrogate pair (\\ud800) is no text"),
        (b'{"\\ud800": 1}', "line 1: half a surrogate pair (\\ud800) is no text"),
        (b'{"a": "\xff"}', "line 1: byte 8 of the line (0xff) is not UTF-8"),
        (b'{"\xff": 1}', "line 1: byte 3 of the line (0xff) is not UTF-8"),
        (b'{"a": 1e999}', "line 1: the JSON cannot be used: Number out of range"),
        (b'{"a": "\t"}', "line 1, column 8: Invalid control character"),
        (b"[" * 100_000 + b"]" * 100_000, "line 1: the JSON is nested too deep"),
        (b"[1]", "line 1: the row is a list, not an object"),
        (b"12", "line 1: the row is a number, not an object"),
        (b"true", "line 1: the row is true or false, not an object"),
        (b"null", "line 1: the row is null, not an object"),
        (b"9" * 5000, "line 1: "),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)
def test_bad_json_has_a_reason(line: bytes, says: str) -> None:
    assert only_bad("jsonl", line).startswith(says)


def test_a_bad_byte_in_text_is_named() -> None:
    rows = read("txt", b"fine\nbad \xe9 here\nfine\n")
    assert [str(row) for row in rows if isinstance(row, BadRow)] == [
        "line 2: byte 5 of the line (0xe9) is not UTF-8"
    ]
    assert len(rows) == 3


def test_a_byte_order_mark_is_taken_once() -> None:
    assert read("jsonl", b'\xef\xbb\xbf{"prompt":"a"}\n')[0] == Row(1, 0, {"prompt": "a"})
    assert isinstance(read("jsonl", b'\n\xef\xbb\xbf{"prompt":"a"}\n')[0], BadRow)
    assert read("txt", b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("a".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "Parquet"),
    ],
)
@pytest.mark.parametrize("format_", ["jsonl", "txt", "csv"])
def test_what_is_no_text_is_refused_at_once(data: bytes, what: str, format_: str) -> None:
    with pytest.raises(PromptError, match=f"f: the file is {what}, not UTF-8 text; convert or unpack"):
        read(format_, data + b"\n")


def test_rows_are_parsed_one_at_a_time() -> None:
    parsed: list[bytes] = []

    def parse(line: bytes) -> dict[str, Any]:
        parsed.append(line)
        return {}

    rows = LineDecoder("f", parse).feed(b"1\n2\n3\n")
    assert parsed == []
    next(rows)
    assert parsed == [b"1"]
    next(rows)
    assert parsed == [b"1", b"2"]


def test_a_line_over_many_blocks_is_joined_once() -> None:
    assert read("txt", *[b"x"] * 10_000, b"\n") == [Row(1, 0, {"prompt": "x" * 10_000})]


def cuts(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for start, stop in pairwise(edges):
        yield data[start:stop]


def outcome(format_: Any, *blocks: bytes) -> list[Row | BadRow] | str:
    try:
        return read(format_, *blocks)
    except PromptError as error:
        return str(error)


PIECES = st.sampled_from(
    [
        *(
            b"\n",
            b"\r\n",
            b"\r",
            b'"',
            b'""',
            b",",
            b"a",
            b"\xc3\xa9",
            b"\xc3",
            b"\xe2\x80\xa8",
            b"\xef\xbb\xbf",
        ),
        *(b'{"prompt": "x"}', b'"one"', b"prompt,id", b"x,1", b'"x\n""y""",2', b" ", b"{", b"NaN"),
    ]
)
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@pytest.mark.parametrize("format_", ["jsonl", "txt", "csv", "tsv"])
@given(pieces=st.lists(PIECES, min_size=1, max_size=40), places=PLACES)
def test_any_cut_gives_the_same_rows(format_: str, pieces: list[bytes], places: list[int]) -> None:
    data = b"prompt,id\n" * (format_ == "csv") + b"".join(pieces)
    whole = outcome(format_, data)
    assert outcome(format_, *cuts(data, places)) == whole
    assert outcome(format_, *(data[i : i + 1] for i in range(len(data)))) == whole
    if isinstance(whole, list):
        assert [row.index for row in whole] == list(range(len(whole)))


@given(
    st.lists(
        st.dictionaries(
            st.text(),
            st.text() | st.integers() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        )
    )
)
def test_json_objects_come_out_as_json_reads_them(objects: list[dict[str, Any]]) -> None:
    lines = [json.dumps(item, ensure_ascii=False) for item in objects]
    rows = read("jsonl", "\n".join(lines).encode())
    assert [row.columns for row in rows if isinstance(row, Row)] == [json.loads(line) for line in lines]


@given(st.binary(max_size=40))
def test_any_line_is_a_row_or_a_reason(line: bytes) -> None:
    for format_ in ("jsonl", "txt"):
        try:
            rows = read(format_, b"\n" + line)
        except PromptError:
            continue
        for row in rows:
            assert isinstance(row, Row) or row.reason


def test_the_parsers_alone() -> None:
    assert json_line(b' {"a": [1, 2.5]} ') == {"a": [1, 2.5]}
    assert text_line(b"a\r") == {"prompt": "a"}
