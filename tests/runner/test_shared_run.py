"""Processes that share a run directory: who may, who begins it, and that readers see one run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from reports.metrics import summarize
from reports.notes import notes
from runner.again import Again
from runner.journal import Journal
from runner.part import Part
from runner.rundir import Opened, close_run, scenario_of, write_manifest
from runner.shared_run import open_shard
from runner.store import (
    StoreError,
    build_index,
    current_ids,
    journal_files,
    load_manifest,
    own_name,
    read_manifest,
    standing,
)
from scenarios.prompts import Plan
from tests.runner.test_rundir import URL, answer, opened, planned, requests

PROMPTS = [f"prompt {number}" for number in range(40)]


def take(path: Path, plan: Plan, number: int, of: int = 3, *, url: str = URL, **more: Any) -> Opened:
    options = {"source_name": "prompts.jsonl", "options": {}, **more}
    return open_shard(path, plan, scenario_of(plan, [url]), Part(number, of), **options)


def done(shard: Opened, plan: Plan, status: str = "ok", ended_by: Any = "finished") -> None:
    """Answer all that a shard has, and end its session."""
    assert shard.part is not None
    with shard.journal.path.open("ab") as file:
        for request in requests(plan):
            if shard.part.has(int(request.id[:16], 16)):
                file.write(answer(request, status, session=shard.session.number))
    shard.session.ended_by = ended_by
    close_run(shard)


def test_shards_make_one_run(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    shards = [take(path, plan, number) for number in range(3)]
    assert [shard.session.number for shard in shards] == [1, 2, 3]
    for shard in shards:
        done(shard, plan)
    manifest = load_manifest(path)
    assert [(s.number, s.shard, s.ended_by) for s in manifest.sessions] == [
        (number + 1, number, "finished") for number in range(3)
    ]
    assert manifest.prompts is not None
    assert manifest.prompts.requests == 40
    assert [file.name for file in journal_files(path)] == [f"records-{number}.jsonl" for number in range(3)]
    ids = current_ids(path)
    assert ids is not None
    assert sorted(build_index(path).digest.tolist()) == ids.tolist()
    summary = summarize(path)
    assert summary.requests.answered == 40
    assert summary.shards is not None
    assert (summary.shards.missing, summary.shards.open) == ([], [])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    done(take(path, plan, 1), plan)
    done(take(path, plan, 2), plan, ended_by=None)
    found = standing(load_manifest(path))
    assert found is not None
    assert (found.of, found.missing, found.open) == (3, [0], [2])
    told = "of 3 shards, number 0 has not begun, and number 2 is not finished"
    assert any(told in note for note in notes(summarize(path)))


def test_a_shard_goes_on_alone_and_its_sessions_have_numbers_of_their_own(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    first = take(path, plan, 2)
    done(first, plan, status="cancelled", ended_by="interrupted")
    other = take(path, plan, 0)
    again = take(path, plan, 2)
    assert (first.session.number, again.session.number) == (3, 6)
    assert (again.answered, len(again.settled)) == (0, 0)
    done(again, plan)
    done(other, plan)
    once_more = take(path, plan, 2)
    mine = Part(2, 3).of_plan(plan)
    assert once_more.answered == mine.requests
    assert once_more.settled.tolist() == mine.digests.tolist()
    close_run(once_more)
    assert [s.number for s in load_manifest(path).sessions] == [1, 3, 6, 9]


def test_many_may_begin_at_once(tmp_path: Path) -> None:
    plan, path, of = planned(tmp_path, *PROMPTS), tmp_path / "deep" / "run", 8
    ready, taken, failed = threading.Barrier(of), [], list[Exception]()

    def begin(number: int) -> None:
        ready.wait()
        try:
            taken.append(take(path, plan, number, of))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(exc)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(of)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for shard in taken:
        close_run(shard)
    manifest = load_manifest(path)
    assert manifest.shards == of
    assert [session.shard for session in manifest.sessions] == list(range(of))


def test_one_shard_is_one_process_s(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    shard = take(path, plan, 1)
    with pytest.raises(StoreError, match=r"records-1\.jsonl is being written by another"):
        take(path, plan, 1)
    close_run(shard)
    close_run(take(path, plan, 1))


def test_the_number_of_shards_may_not_change(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    close_run(take(path, plan, 1))
    with pytest.raises(StoreError, match=r"begun with 3 shards, and --shard 1/4 says 4.*I from 0 to 2"):
        take(path, plan, 1, of=4)
    with pytest.raises(StoreError, match=r"is shared by 3 shards: give --shard I/3"):
        opened(path, plan)
    assert [file.name for file in journal_files(path)] == ["records-1.jsonl"]


def test_a_run_that_was_begun_as_a_whole_goes_on_as_one(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    close_run(opened(path, plan))
    with pytest.raises(StoreError, match="begun as a whole"):
        take(path, plan, 0)


def test_settings_may_not_differ_between_shards(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    close_run(take(path, plan, 0))
    with pytest.raises(StoreError, match=r"other settings \(model: 'm' -> 'other'\)"):
        take(path, planned(tmp_path, *PROMPTS, model="other"), 1)


def test_the_prompts_may_change_but_not_under_a_shard_that_runs(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    running = take(path, plan, 0)
    longer = planned(tmp_path, *PROMPTS, "one more")
    with pytest.raises(StoreError, match=r"shard 0/3 of .* is running, with another version of its prompts"):
        take(path, longer, 1)
    close_run(running)
    close_run(take(path, longer, 1))
    manifest = read_manifest(path)
    assert manifest.prompts is not None
    assert manifest.prompts.requests == 41
    ids = current_ids(path)
    assert ids is not None
    assert len(ids) == 41


def test_answers_without_a_manifest_are_nobody_s(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    path.mkdir()
    (path / "records-7.jsonl").write_bytes(answer(requests(plan)[0]))
    with pytest.raises(StoreError, match=r"holds answers \(records-7\.jsonl\) but no run\.json"):
        take(path, plan, 0)


def test_only_failures_of_its_own_are_sent_again(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    mine = Part(1, 3).of_plan(plan)
    done(take(path, plan, 1), plan, status="error")
    once_more = take(path, plan, 1, again=Again(retry_failed=True))
    assert (once_more.failed, len(once_more.settled)) == (0, 0)
    close_run(once_more)
    other = take(path, plan, 0)
    assert other.failed == 0
    close_run(other)
    assert mine.requests > 0


def test_a_shard_s_files_are_its_own(tmp_path: Path) -> None:
    plan, path = planned(tmp_path, *PROMPTS), tmp_path / "run"
    shard = take(path, plan, 2)
    before = (path / "run.json").read_bytes()
    write_manifest(path, shard.manifest)
    close_run(shard)
    assert (path / "run.json").read_bytes() == before
    assert own_name("run.json", 2) == "run-2.json"
    Journal(path / "records-2.jsonl").close()
