from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.benchdir import bench_place, discard, open_bench
from runner.store import JOURNAL, StoreError, load_manifest


def opened(path: Path) -> None:
    open_bench(path, {"name": "chat"}, seed=7, tags={"build": "1"}, prompts=None, options={}).journal.close()


def test_a_new_directory_has_a_manifest_at_once(tmp_path: Path) -> None:
    opened(tmp_path / "a" / "b")
    manifest = load_manifest(tmp_path / "a" / "b")
    assert (manifest.kind, manifest.seed, manifest.tags) == ("bench", 7, {"build": "1"})
    assert [session.number for session in manifest.sessions] == [1]
    assert (tmp_path / "a" / "b" / JOURNAL).exists()


def test_a_directory_with_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    opened(tmp_path / "a")
    (tmp_path / "a" / JOURNAL).write_bytes(b'{"id":"00"}\n')
    with pytest.raises(StoreError, match="holds a run already"):
        opened(tmp_path / "a")
    assert (tmp_path / "a" / JOURNAL).read_bytes() == b'{"id":"00"}\n'


def test_a_journal_without_a_manifest_is_a_run_too(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).touch()
    with pytest.raises(StoreError, match="holds a run already"):
        opened(tmp_path)


def test_other_files_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StoreError, match=r"other files \(notes.txt\)"):
        opened(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        opened(tmp_path / "notes.txt")


def test_places_are_named_after_scenario_and_time_and_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = bench_place("chat", None)
    assert first.parent == Path("runs")
    assert first.name.startswith("chat-2")
    first.mkdir(parents=True)
    assert bench_place("chat", None) != first
    assert bench_place("chat", "here") == Path("here")


def test_what_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    discard(open_bench(path, {}, seed=7, tags={}, prompts=None, options={}))
    assert list(tmp_path.iterdir()) == []
    path.mkdir(parents=True)  # not made for it
    discard(open_bench(path, {}, seed=7, tags={}, prompts=None, options={}))
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", path]


def test_what_cannot_be_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_manifest", "Journal"):
        with monkeypatch.context() as patch:
            patch.setattr(f"runner.benchdir.{name}", full)
            with pytest.raises(OSError, match="No space"):
                opened(tmp_path / "a" / "b")
        assert list(tmp_path.iterdir()) == []


def test_nothing_that_was_written_is_taken_back(tmp_path: Path) -> None:
    bench = open_bench(tmp_path / "a", {}, seed=7, tags={}, prompts=None, options={})
    (tmp_path / "a" / JOURNAL).write_bytes(b"{}\n")
    discard(bench)
    assert (tmp_path / "a" / JOURNAL).read_bytes() == b"{}\n"
