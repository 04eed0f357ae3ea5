import csv
import datetime
import decimal
import io
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import tables
from scenarios.formats import BadRow, Row, decoder
from scenarios.source import PromptError, Source, blocks
from scenarios.tables import CsvDecoder, ParquetDecoder


def read(*pieces: bytes, delimiter: str = ",") -> list[Row | BadRow]:
    decode = CsvDecoder("f.csv", delimiter)
    rows = [row for piece in pieces for row in decode.feed(piece)]
    return rows + list(decode.end())


def test_quoted_newlines_and_line_numbers() -> None:
    data = b'prompt,id\r\n"two\r\nlines, ""quoted""",1\r\n\r\nplain,2\nlast,3'
    assert read(data) == [
        Row(2, 0, {"prompt": 'two\r\nlines, "quoted"', "id": "1"}),
        Row(5, 1, {"prompt": "plain", "id": "2"}),
        Row(6, 2, {"prompt": "last", "id": "3"}),
    ]


def test_a_lone_return_ends_a_line_as_the_csv_module_has_it() -> None:
    assert read(b'prompt,id\ra,1\r"b\rc",2') == [
        Row(2, 0, {"prompt": "a", "id": "1"}),
        Row(3, 1, {"prompt": "b\rc", "id": "2"}),
    ]


def test_a_return_at_the_end_of_a_block_may_be_half_of_a_line_end() -> None:
    assert read(b"prompt\ra\r", b"\nb\r\n") == [Row(2, 0, {"prompt": "a"}), Row(3, 1, {"prompt": "b"})]


def test_tsv() -> None:
    assert read(b"prompt\tid\na,b\t1\n", delimiter="\t") == [Row(2, 0, {"prompt": "a,b", "id": "1"})]


def test_ragged_rows_are_bad_and_keep_their_place() -> None:
    rows = read(b"a,b\n1\n1,2,3\n1,2\n")
    assert [str(row) for row in rows[:2]] == [
        "line 2: 1 fields, but the header has 2",
        "line 3: 3 fields, but the header has 2",
    ]
    assert rows[2] == Row(4, 2, {"a": "1", "b": "2"})


def test_a_quote_that_is_never_closed() -> None:
    rows = read(b'prompt,id\na,1\n"b,2\nc,3\n')
    assert rows[0] == Row(2, 0, {"prompt": "a", "id": "1"})
    assert [str(row) for row in rows[1:]] == ["line 3: a quote is opened in this row and never closed"]


def test_a_cell_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = csv.field_size_limit(1000)
    monkeypatch.setattr(tables, "FIELD_LIMIT", 1000)
    try:
        rows = read(b"prompt\n" + b"x" * 2000 + b"\nfine\n")
    finally:
        csv.field_size_limit(before)
    assert str(rows[0]).startswith("line 2: not CSV: field larger than field limit (1000)")
    assert rows[1] == Row(3, 1, {"prompt": "fine"})


def test_a_long_cell_is_fine() -> None:
    assert read(b"prompt\n" + b"x" * 500_000 + b"\n") == [Row(2, 0, {"prompt": "x" * 500_000})]


def test_broken_utf8_is_bad_where_it_stands_and_nowhere_else() -> None:
    rows = read(b'prompt,id\n"a\nb \xff",1\n\xe9,2\nc\xc3\xa9,3\n')
    assert [str(row) for row in rows[:2]] == [
        "line 2: byte 3 of line 3 (0xff) is not UTF-8",
        "line 4: byte 1 of the line (0xe9) is not UTF-8",
    ]
    assert rows[2] == Row(5, 2, {"prompt": "cé", "id": "3"})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a,b,a\n1,2,3\n", "f.csv: two columns are named 'a'; rename one"),
        (b"pr\xe9mpt\nx\n", "f.csv, line 1: byte 3 of the line (0xe9) is not UTF-8; save"),
    ],
)
def test_a_header_that_cannot_be_used(data: bytes, says: str) -> None:
    with pytest.raises(PromptError) as caught:
        read(data)
    assert str(caught.value).startswith(says)


def test_a_byte_order_mark_before_the_header() -> None:
    assert read(b'\xef\xbb\xbf"prompt",id\na,1\n') == [Row(2, 0, {"prompt": "a", "id": "1"})]


def test_rows_come_one_at_a_time() -> None:
    decode = CsvDecoder("f", ",")
    rows = decode.feed(b"a\n1\n2\n3\n")
    assert next(rows) == Row(2, 0, {"a": "1"})
    assert len(decode._lines.ready) == 2


def test_a_record_over_many_blocks_is_read_in_linear_time() -> None:
    line = b"x" * 99 + b"\n"
    pieces = [b'prompt\n"', *[line] * 40_000, b'"\n']
    started = time.process_time()
    (row,) = read(*pieces)
    assert isinstance(row, Row)
    assert len(row.columns["prompt"]) == 4_000_000
    assert time.process_time() - started < 5


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read(rows: list[list[str]], end: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([["a", "b"], *rows])
    found = read(file.getvalue().encode())
    assert [list(row.columns.values()) for row in found if isinstance(row, Row)] == rows


def parquet(tmp_path: Path, table: pa.Table, **options: Any) -> list[Row | BadRow]:
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, **options)
    source = Source(path=str(path), format="parquet")
    decode = decoder(source)
    rows = [row for block in blocks(source) for row in decode.feed(block)]
    return rows + list(decode.end())


def test_parquet_values_become_json(tmp_path: Path) -> None:
    nano = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", tz="UTC"))
    table = pa.table(
        {
            "prompt": ["hé"],
            "day": [datetime.date(2024, 5, 1)],
            "price": [decimal.Decimal("1.50")],
            "score": [float("nan")],
            "none": pa.array([None], pa.string()),
            "when": nano,
            "took": pa.array([1_500_000_000], pa.duration("ns")),
            "messages": [[{"role": "user", "content": "x"}]],
        }
    )
    (row,) = parquet(tmp_path, table)
    assert row == Row(
        1,
        0,
        {
            "prompt": "hé",
            "day": "2024-05-01",
            "price": "1.50",
            "score": None,
            "none": None,
            "when": "2023-11-14T22:13:20.123456Z",
            "took": "PT1.5S",
            "messages": [{"role": "user", "content": "x"}],
        },
    )


def test_parquet_in_many_row_groups(tmp_path: Path) -> None:
    rows = parquet(tmp_path, pa.table({"prompt": [str(i) for i in range(1500)]}), row_group_size=100)
    assert rows == [Row(i + 1, i, {"prompt": str(i)}) for i in range(1500)]


def test_a_value_without_a_form_in_json() -> None:
    bad = ParquetDecoder("f")._row({"a": object()})
    assert str(bad).startswith("row 1: a value has no form in JSON: ")


def test_two_parquet_columns_of_one_name() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(PromptError, match="two columns are named 'a'"):
        list(ParquetDecoder("f").feed(batch))


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b'{"prompt": "x"}\n')
    with pytest.raises(PromptError, match=r"a\.parquet: is not a readable Parquet file: "):
        list(blocks(Source(path=str(path), format="parquet")))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PromptError) as caught:
        list(blocks(Source(path=str(path), format="parquet")))
    assert str(caught.value).endswith("not installed; pip install pyarrow")
