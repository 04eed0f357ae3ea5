from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner import store
from runner.record import SCHEMA_VERSION
from runner.store import (
    AGAIN,
    FAILED,
    OK,
    Manifest,
    StoreError,
    _Columns,
    build_index,
    journal_files,
    lines,
    load_manifest,
    read_blocks,
    read_superseded,
    resolve_run,
)


def key(number: int) -> str:
    return f"{number:016x}" + "0" * 16


def line(number: int, status: str = "ok", **more: Any) -> dict[str, Any]:
    """The fields of a record that decide which line of an id counts."""
    return {"id": key(number), "index": number, "sample": 0, "session": 1, "status": status, **more}


def error(kind: str = "timeout", *, retryable: bool = True) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": "m", "retryable": retryable}}


def write(path: Path, *found: dict[str, Any] | bytes) -> None:
    encoded = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in found]
    path.write_bytes(b"".join(item + b"\n" for item in encoded))


class Lean(msgspec.Struct):
    """The fields these tests read back."""

    id: str
    index: int
    session: int
    status: str
    sample: int = 0


def winners(run: Path, **options: Any) -> list[Lean]:
    return [item for block in read_blocks(build_index(run), Lean, **options) for item in block]


def states(run: Path, **options: Any) -> dict[int, int]:
    index = build_index(run, **options)
    return dict(zip(index.index.tolist(), index.state.tolist(), strict=True))


# -- lines


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
def test_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(store, "_BLOCK", block)
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"one\n\nthree\n" + b"4" * 50 + b"\nno end")
    assert list(lines(path)) == [(0, b"one"), (4, b""), (5, b"three"), (11, b"4" * 50)]
    path.write_bytes(b"")
    assert list(lines(path)) == []


# -- which line of an id counts


def test_an_id_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "records.jsonl", line(1), line(2), line(1), line(3), line(2))
    index = build_index(tmp_path)
    assert (len(index), index.total_lines) == (3, 5)
    assert sorted(item.index for item in winners(tmp_path)) == [1, 2, 3]


def test_the_last_ok_counts_else_the_last(tmp_path: Path) -> None:
    write(
        tmp_path / "records.jsonl",
        line(1, session=1),
        line(1, "error", session=2, **error()),
        line(1, session=3),
        line(1, "cancelled", session=4, cancelled_by="user"),
        line(2, "error", session=1, **error()),
        line(2, "cancelled", session=2, cancelled_by="user"),
        line(2, "error", session=3, **error(retryable=False)),
        line(3, "error", session=1, **error()),
        line(3, session=2),
    )
    assert {item.index: (item.status, item.session) for item in winners(tmp_path)} == {
        1: ("ok", 3),
        2: ("error", 3),
        3: ("ok", 2),
    }
    assert states(tmp_path) == {1: OK, 2: FAILED, 3: OK}


def test_what_a_stop_rule_cut_is_accepted_as_a_good_answer_is(tmp_path: Path) -> None:
    cut = {"cancelled_by": "stop_rule"}
    write(
        tmp_path / "records.jsonl",
        # Sent again with --redo: the answer that was there stays unless a newer one is accepted.
        line(1, session=1),
        line(1, "error", session=2, **error()),
        line(2, session=1),
        line(2, session=2),
        line(3, session=1),
        line(3, "cancelled", session=2, **cut),
        line(4, "cancelled", session=1, **cut),
        line(4, "error", session=2, **error(retryable=False)),
        line(5, "cancelled", session=1, **cut),
        line(5, session=2),
        line(6, session=1),
        line(6, "cancelled", session=2, cancelled_by="user"),
    )
    assert {item.index: item.session for item in winners(tmp_path)} == {1: 1, 2: 2, 3: 2, 4: 1, 5: 2, 6: 1}
    assert set(states(tmp_path).values()) == {OK}


def test_superseded_lines_are_kept_apart(tmp_path: Path) -> None:
    write(
        tmp_path / "records.jsonl",
        line(1, session=1),
        line(2, "error", session=1, **error()),
        b"rubbish",
        line(3),
        line(1, "error", session=2, **error()),
        line(2, session=2),
    )
    write(tmp_path / "records-1.jsonl", line(2, session=3), line(1, session=2))
    index = build_index(tmp_path)
    assert (len(index), len(index.superseded), index.total_lines) == (3, 4, 7)
    for block in (1, 2, 1000):
        found = [item for part in read_superseded(index, Lean, block=block) for item in part]
        assert [(item.index, item.session, item.status) for item in found] == [
            (1, 1, "ok"),
            (2, 1, "error"),
            (1, 2, "error"),
            (2, 2, "ok"),
        ]
    assert [len(part) for part in read_superseded(index, Lean, block=3)] == [3, 1]
    assert sorted((item.index, item.session) for item in winners(tmp_path)) == [(1, 2), (2, 3), (3, 1)]


def test_superseded_lines_cost_a_few_bytes_each(tmp_path: Path) -> None:
    write(tmp_path / "records.jsonl", *(line(n % 10) for n in range(20_000)))
    index = build_index(tmp_path)
    assert (len(index), len(index.superseded)) == (10, 19_990)
    assert index.superseded.file.nbytes + index.superseded.offset.nbytes <= 10 * 19_990
    assert sum(len(part) for part in read_superseded(index, Lean)) == 19_990


def test_orders(tmp_path: Path) -> None:
    places = [(2, 0), (0, 1), (1, 1), (0, 0), (1, 0)]
    found = ({**line(n), "id": key(10 * n + s), "sample": s} for n, s in places)
    write(tmp_path / "records.jsonl", *found)
    journal = [(item.index, item.sample) for item in winners(tmp_path)]
    assert journal == places
    for block in (1, 2, 1000):
        ordered = [(item.index, item.sample) for item in winners(tmp_path, order="input", block=block)]
        assert ordered == sorted(places)
    assert [len(b) for b in read_blocks(build_index(tmp_path), Lean, block=2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": "ok"}, OK),
        ({"status": "error", **error()}, AGAIN),
        ({"status": "error", **error("bad_request", retryable=False)}, FAILED),
        ({"status": "error", "error": None}, AGAIN),
        ({"status": "cancelled", "cancelled_by": "user"}, AGAIN),
        ({"status": "cancelled", "cancelled_by": "deadline"}, AGAIN),
        ({"status": "cancelled", "cancelled_by": "stop_rule"}, OK),
        ({"status": "error", **error("auth", retryable=False)}, FAILED),
        ({"status": "error", "session": 7, **error("auth", retryable=False)}, AGAIN),
        ({"status": "error", "session": 7, **error("bad_request", retryable=False)}, FAILED),
    ],
)
def test_what_a_resumed_run_does(tmp_path: Path, fields: dict[str, Any], state: int) -> None:
    """The error that opened session 7's circuit breaker proved nothing of the prompt it was noticed on."""
    write(tmp_path / "records.jsonl", {**line(1), **fields})
    assert states(tmp_path, stopped_on={7: "auth"}) == {1: state}


# -- what cannot be read


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"rubbish",
        b"\0" * 50,
        b"{}",
        b"null",
        b'{"id": "0000"}',
        json.dumps({**line(9), "id": "not hexadecimal!"}).encode(),
        json.dumps({**line(9), "id": "-" + "1" * 31}).encode(),
        json.dumps({**line(9), "id": ""}).encode(),
        json.dumps({**line(9), "index": "9"}).encode(),
        json.dumps({**line(9), "index": 10**30}).encode(),
        json.dumps({**line(9), "index": 1 << 63}).encode(),
        json.dumps({**line(9), "sample": 1 << 31}).encode(),
        json.dumps({**line(9), "session": 1 << 40}).encode(),
        json.dumps(line(9)).encode()[:-1],
        json.dumps(line(9)).encode() * 2,
        b'{"more":' + b"[" * 100_000 + b"]" * 100_000 + b"," + json.dumps(line(9)).encode()[1:],
        b'{"id":"\xff\xff\xff"}',
        json.dumps({**line(9), "error": "no object"}).encode(),
    ],
)
def test_a_bad_line_is_counted_and_skipped(tmp_path: Path, bad: bytes) -> None:
    write(tmp_path / "records.jsonl", line(1), bad, line(2))
    index = build_index(tmp_path)
    assert sorted(index.index.tolist()) == [1, 2]
    assert (index.bad_count, index.total_lines) == (1, 2)
    assert index.bad_lines == [("records.jsonl", len(json.dumps(line(1))) + 1)]
    assert [item.index for item in winners(tmp_path)] == [1, 2]


def test_only_the_first_bad_lines_are_named(tmp_path: Path) -> None:
    write(tmp_path / "records.jsonl", *([b"rubbish"] * 250), line(1))
    index = build_index(tmp_path)
    assert (index.bad_count, len(index.bad_lines), len(index)) == (250, 100, 1)


def test_a_line_that_is_being_written_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, line(1))
    with path.open("ab") as file:
        file.write(json.dumps(line(2)).encode())
    index = build_index(tmp_path)
    assert (len(index), index.bad_count) == (1, 0)


def test_up_to_what_is_known_to_be_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, line(1), line(2), line(3))
    size = path.stat().st_size // 3
    for end, count in [(0, 0), (size, 1), (2 * size, 2), (3 * size, 3), (99 * size, 3)]:
        assert len(build_index(tmp_path, {"records.jsonl": end})) == count
    assert len(build_index(tmp_path, {"records-0.jsonl": 0})) == 3


def test_no_journal(tmp_path: Path) -> None:
    index = build_index(tmp_path)
    assert (len(index), index.files, index.total_lines) == (0, [], 0)
    assert list(read_blocks(index, Lean)) == list(read_superseded(index, Lean)) == []


def test_more_lines_than_a_chunk(tmp_path: Path) -> None:
    write(tmp_path / "records.jsonl", *(line(n % 9000) for n in range(20_000)))
    index = build_index(tmp_path)
    assert (len(index), index.total_lines) == (9000, 20_000)
    assert sorted(index.index.tolist()) == list(range(9000))


# -- shards


def test_shards(tmp_path: Path) -> None:
    write(tmp_path / "records-10.jsonl", line(3))
    write(tmp_path / "records-2.jsonl", line(2), line(1, session=2))
    write(tmp_path / "records.jsonl", line(1, "error", **error()))
    for name in ("records-x.jsonl", "records-1.jsonl.gz", "records-.jsonl", "other.jsonl", "records.torn"):
        write(tmp_path / name, line(99))
    assert [p.name for p in journal_files(tmp_path)] == [
        "records.jsonl",
        "records-2.jsonl",
        "records-10.jsonl",
    ]
    assert [(item.index, item.status) for item in winners(tmp_path)] == [(2, "ok"), (1, "ok"), (3, "ok")]


# -- the manifest


def manifest(run: Path, **changes: Any) -> None:
    run.mkdir(exist_ok=True)
    values = {
        "kind": "run",
        "created": "2026-01-01T00:00:00Z",
        "scenario": {},
        "schema_version": SCHEMA_VERSION,
        **changes,
    }
    (run / "run.json").write_text(json.dumps(values))


def test_manifest(tmp_path: Path) -> None:
    manifest(tmp_path, tags={"a": "b"})
    assert load_manifest(tmp_path) == Manifest("run", "2026-01-01T00:00:00Z", {}, tags={"a": "b"})


def test_a_later_field_of_the_same_version_is_no_harm(tmp_path: Path) -> None:
    manifest(tmp_path, something={"new": 1})
    assert load_manifest(tmp_path).kind == "run"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is not a run directory: it has no run.json. Name the folder that `run` or `bench` printed."),
        ("", "is not a manifest"),
        ("{", "is not a manifest"),
        ("[]", "is not a manifest"),
        ("\0" * 100, "is not a manifest"),
        ('{"name": "a web page\'s"}', "is not a manifest: Object missing required field `kind`"),
        ('{"kind": "walk", "created": "", "scenario": {}}', "is not a manifest: Invalid enum value 'walk'"),
    ],
)
def test_no_manifest(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError) as caught:
        load_manifest(tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """Whatever else that version says, and in whatever shape."""
    manifest(tmp_path, schema_version=SCHEMA_VERSION + 1, kind="something new", scenario=[1])
    with pytest.raises(StoreError) as caught:
        load_manifest(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'} has schema version {SCHEMA_VERSION + 1}; this Streamgauge reads up to "
        f"{SCHEMA_VERSION}. Upgrade it."
    )


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*run\.json: Is a directory"):
        load_manifest(tmp_path)


# -- which run is meant


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"no RUN given and runs/latest does not exist\. Name a run dir"):
        resolve_run(None)
    with pytest.raises(StoreError, match=r"no run directory nowhere\. Name the folder that"):
        resolve_run("nowhere")
    for name in ("runs/one", "elsewhere/two", "answers.run", "runs/three", "three"):
        Path(name).mkdir(parents=True)
    assert resolve_run("runs/one") == Path("runs/one")
    assert resolve_run("one") == Path("runs/one")
    assert resolve_run("three") == Path("three")  # what stands here goes before what stands in runs
    assert resolve_run("elsewhere/two") == Path("elsewhere/two")
    assert resolve_run("answers.jsonl") == Path("answers.run")
    Path("runs/latest").symlink_to("one")
    assert resolve_run(None) == tmp_path.resolve() / "runs" / "one"
    Path("runs/latest").unlink()
    Path("runs/latest").symlink_to("gone")
    with pytest.raises(StoreError, match="does not exist"):
        resolve_run(None)


def test_columns_grow_as_wide_as_they_have_to() -> None:
    columns = _Columns()
    rows = [(2**64 - 1, 5, -3, 0, 1, 0, 0), (7, 2**40, 70_000, 0, 300, 0, 2), (8, 6, 2, 1, 2, 1, 1)]
    for row in rows[:2]:
        columns.add(row)
        columns._pack()
    columns.add(rows[2])
    found = columns.whole()
    assert list(zip(*(values.tolist() for values in found.values()), strict=True)) == rows
    widths = {name: values.itemsize for name, values in found.items()}
    assert widths == {
        "digest": 8, "offset": 8, "index": 4, "sample": 1, "session": 2, "file": 1, "state": 1,
    }  # fmt: skip
