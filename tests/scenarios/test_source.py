import os
from pathlib import Path

import pytest

from scenarios import source
from scenarios.source import PromptError, open_source, sniff


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.JSONL", "jsonl"),
        ("a.csv", "csv"),
        ("a.tsv", "tsv"),
        ("a.txt", "txt"),
        ("a.parquet", "parquet"),
        ("a.json", "jsonl"),
    ],
)
def test_format_by_ending(tmp_path: Path, name: str, format_: str) -> None:
    (tmp_path / name).write_bytes(b'{"prompt": "x"}\n')
    assert open_source(tmp_path / name).format == format_


def test_a_given_format_wins(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    assert open_source(tmp_path / "a.txt", "openai-batch").format == "openai-batch"


@pytest.mark.parametrize(
    ("name", "data", "format_", "says"),
    [
        ("none.jsonl", None, None, "no such file; check the path"),
        ("a.dat", b"x", None, "the ending '.dat' does not say what is in the file; name the format: jsonl, "),
        ("a", b"x", None, "a name without an ending does not say"),
        ("a.txt", b"x", "xml", "unknown format 'xml'; one of jsonl, openai-batch, csv, tsv, parquet, txt"),
        ("a.txt", b"", None, "the file is empty; it needs at least one prompt"),
        (
            "a.json",
            b' [\n{"prompt": "x"}]',
            None,
            "one JSON list, which cannot be read row by row; write one",
        ),
        (
            "talk.json",
            b'[{"id": "1", "conversations": [{"from": "human", "value": "hi"}]}]',
            None,
            'ShareGPT has them are for `bench`, with prompts.format = "sharegpt"',
        ),
    ],
)
def test_no_source(tmp_path: Path, name: str, data: bytes | None, format_: str | None, says: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PromptError) as caught:
        open_source(path, format_)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_a_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="is a folder, not a prompt file; name one file in it"):
        open_source(tmp_path)


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(
        PromptError, match="is a pipe or a device, and prompts are read twice; send it to stand"
    ):
        open_source(tmp_path / "a.txt")


def test_a_path_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot be read: File name too long; check the file"):
        open_source(tmp_path / ("a" * 300 + ".txt"))


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x")
    found = open_source(path)
    path.unlink()
    for use in (lambda: list(source.blocks(found)), lambda: source.stamp(found)):
        with pytest.raises(PromptError, match="cannot be read: No such file"):
            use()


@pytest.mark.parametrize(
    ("data", "format_"),
    [(b' \n\t{"a"', "jsonl"), (b"\xef\xbb\xbf{", "jsonl"), (b"hello", "txt"), (b"", "txt"), (b'"a"', "txt")],
)
def test_sniff(data: bytes, format_: str) -> None:
    assert sniff(data) == format_


def test_blocks_are_the_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000
    (tmp_path / "a.txt").write_bytes(data)
    pieces = list(source.blocks(open_source(tmp_path / "a.txt")))
    assert b"".join(pieces) == data
    assert len(pieces) > 1


def test_blocks_refuse_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\n" * source.BLOCK_BYTES)
    found = open_source(path)
    pieces = source.blocks(found, unchanged_since=source.stamp(found))
    next(pieces)
    with path.open("ab") as file:
        file.write(b"more\n")
    with pytest.raises(PromptError, match="the file changed while it was in use"):
        next(pieces)


def test_an_error_says_where() -> None:
    assert str(PromptError("why", file="f", line=3, hint="do")) == "f, line 3: why; do"
    assert str(PromptError("why")) == "why"
