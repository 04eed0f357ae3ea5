from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from runner import rundir
from runner.again import Again
from runner.journal import Journal
from runner.record import Error, ErrorKind, Record
from runner.rundir import (
    Opened,
    close_run,
    link_latest,
    open_run,
    place_for,
    replace_file,
    scenario_of,
)
from runner.store import EndedBy, Manifest, Session, StoreError, inside, load_manifest
from scenarios.bodies import Settings
from scenarios.prompts import Plan, scan
from scenarios.request import Request
from scenarios.source import open_source

URL = "http://127.0.0.1:8000/v1"


def planned(folder: Path, *prompts: str, name: str = "prompts.jsonl", **settings: Any) -> Plan:
    file = folder / name
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return scan(open_source(file), Settings(**{"model": "m", **settings}))


def requests(plan: Plan) -> list[Request]:
    builder = plan.builder()
    found = [request for block in plan.blocks() for request in builder.feed(block)]
    return [*found, *builder.end()]


def opened(path: Path, plan: Plan, *, url: str = URL, **more: Any) -> Opened:
    options = {"source_name": "prompts.jsonl", "options": {}, "fresh": False, **more}
    return open_run(path, plan, scenario_of(plan, [url]), **options)


def answer(request: Request, status: str = "ok", session: int = 1, **more: Any) -> bytes:
    at: dict[str, Any] = dict.fromkeys(
        ("scheduled_at", "sent_at", "headers_at", "first_token_at", "first_content_at", "last_token_at"), 1
    )
    record = Record(
        id=request.id,
        prompt_id=request.prompt_id,
        index=request.index,
        custom_id=None,
        sample=request.sample,
        session=session,
        phase="measure",
        ended_at=1,
        status=status,  # type: ignore[arg-type]
        **at,
        **more,
    )
    return msgspec.json.encode(record) + b"\n"


def failed(kind: ErrorKind, *, retryable: bool) -> dict[str, Any]:
    return {"status": "error", "error": Error(kind, "m", retryable=retryable)}


def begin(path: Path, plan: Plan, *lines: bytes, url: str = URL) -> None:
    """A run that was killed after these lines."""
    first = opened(path, plan, url=url)
    first.journal.close()
    with first.journal.path.open("ab") as file:
        file.write(b"".join(lines))


def digest(request: Request) -> int:
    return int(request.id[:16], 16)


# -- where


@pytest.mark.parametrize(
    ("prompts", "output", "place", "dataset"),
    [
        ("some/where/prompts.jsonl", None, "runs/prompts", None),
        ("prompts", None, "runs/prompts", None),
        ("p.jsonl", "there", "there", None),
        ("p.jsonl", "there/", "there", None),
        ("-", "there", "there", None),
        ("p.jsonl", "a/answers.jsonl", "a/answers.run", "a/answers.jsonl"),
        ("p.jsonl", "answers.CSV", "answers.run", "answers.CSV"),
        ("p.jsonl", "my.answers.parquet", "my.answers.run", "my.answers.parquet"),
        ("p.jsonl", "answers.xml", "answers.xml", None),
    ],
)
def test_place(prompts: str, output: str | None, place: str, dataset: str | None) -> None:
    assert place_for(prompts, output) == (Path(place), None if dataset is None else Path(dataset))


def test_a_folder_may_be_called_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").mkdir()
    assert place_for("p", str(tmp_path / "answers.jsonl")) == (tmp_path / "answers.jsonl", None)


def test_standard_input_needs_a_place() -> None:
    with pytest.raises(StoreError, match="standard input need a place for their answers: -o DIR"):
        place_for("-", None)


# -- a new run


def test_a_new_run(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b", "a", samples=2)
    run = opened(tmp_path / "deep" / "run", plan, options={"concurrency": 3})
    assert (run.answered, run.failed, run.left_out, run.notes) == (0, 0, 0, [])
    assert len(run.settled) == 0
    assert np.fromfile(run.path / "current.u64", dtype="<u8").tolist() == plan.digests.tolist()
    manifest = load_manifest(run.path)
    assert manifest.kind == "run"
    assert manifest.prompts is not None
    assert (manifest.prompts.rows, manifest.prompts.requests) == (3, 6)
    assert manifest.prompts.sha256 == plan.sha256
    (session,) = manifest.sessions
    assert (session.number, session.options, session.ended_by) == (1, {"concurrency": 3}, None)
    assert session.versions["python"]
    run.session.ended_by = "finished"
    close_run(run)
    assert load_manifest(run.path).sessions[0].ended_by == "finished"
    assert sorted(p.name for p in run.path.iterdir()) == ["current.u64", "records.jsonl", "run.json"]


def test_the_manifest_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(fd: int) -> None:
        order.append("fsync")
        fsync(fd)

    def noted_replace(place: Path, target: Path) -> Path:
        order.append("rename")
        return replace(place, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    replace_file(tmp_path / "file", b"one")
    assert order == ["fsync", "rename", "fsync"]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_manifest_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "file", b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"one")]


@pytest.mark.parametrize("there", [False, True])
def test_what_cannot_begin_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    path, plan = tmp_path / "deep" / "run", planned(tmp_path, "a")
    if there:
        path.mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        opened(path, plan)
    assert caught.value.filename == str(path)
    assert path.exists() == (tmp_path / "deep").exists() == there


def test_a_folder_that_another_has_just_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plan = tmp_path / "run", planned(tmp_path, "a")
    others: list[Opened] = []

    def late(place: Path) -> Journal:
        if not others:  # it begins right after this one has seen that there is nothing
            others.append(None)  # type: ignore[arg-type]
            others[:] = [opened(path, plan)]
        return Journal(place)

    monkeypatch.setattr(rundir, "Journal", late)
    with pytest.raises(StoreError, match="is being written by another"):
        opened(path, plan)
    close_run(others[0])
    assert load_manifest(path).sessions
    assert (path / "records.jsonl").exists()


# -- resumed


def test_resumed(tmp_path: Path) -> None:
    plan = planned(tmp_path, *"abcdefgh")
    a, b, c, d, e, f, _, _ = requests(plan)
    begin(
        tmp_path / "run",
        plan,
        answer(a),
        answer(b, **failed(ErrorKind.BAD_REQUEST, retryable=False)),
        answer(c, **failed(ErrorKind.TIMEOUT, retryable=True)),
        answer(d, "cancelled", cancelled_by="user", text="half"),
        answer(e, "cancelled", cancelled_by="stop_rule"),
        answer(f, **failed(ErrorKind.TIMEOUT, retryable=True)),
        answer(f),
    )
    run = opened(tmp_path / "run", plan)
    assert (run.answered, run.failed, run.left_out) == (3, 1, 0)
    assert run.settled.tolist() == sorted(map(digest, (a, b, e, f)))
    assert [s.number for s in run.manifest.sessions] == [1, 2]
    assert run.session.number == 2
    close_run(run)
    run = opened(tmp_path / "run", plan, again=Again(retry_failed=True))
    assert run.settled.tolist() == sorted(map(digest, (a, e, f)))
    assert run.session.number == 3
    close_run(run)


def asked_again(
    path: Path, plan: Plan, *lines: bytes, ended_by: EndedBy | None = None, redo: str = "length"
) -> str:
    """One session of `--redo` that writes these lines. Which of the prompts a, b, c, ... it began to ask."""
    run = opened(path, plan, again=Again(redo=frozenset({redo}) if redo else frozenset()))
    run.session.ended_by = ended_by
    with run.journal.path.open("ab") as file:
        file.write(b"".join(lines))
    close_run(run)
    settled = set(run.settled.tolist())
    return "".join("abcdefgh"[r.index] for r in requests(plan) if digest(r) not in settled)


def test_a_redo_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    path, plan = tmp_path / "run", planned(tmp_path, *"abcd")
    a, b, c, d = requests(plan)
    cut: dict[str, Any] = {"finish_reason": "length"}
    begin(path, plan, *(answer(r, **cut) for r in (a, b, c)), answer(d, finish_reason="stop"))
    # Asked again and still too long, asked again and good, cut by Ctrl-C: only the last has no new answer.
    lines = [answer(a, session=2, **cut), answer(b, session=2, finish_reason="stop")]
    lines.append(answer(c, "cancelled", session=2, cancelled_by="user"))
    assert asked_again(path, plan, *lines, ended_by="interrupted") == "abc"
    # Whatever else came between: without --redo, or with another one.
    assert asked_again(path, plan, redo="", ended_by="finished") == ""
    assert asked_again(path, plan, redo="stop", ended_by="finished") == "bd"
    assert asked_again(path, plan) == "c"  # and is killed before it has anything
    assert asked_again(path, plan, answer(c, session=6, **cut), ended_by="finished") == "c"
    # It came to its end: a new one begins anew.
    assert asked_again(path, plan, ended_by="finished") == "ac"


def test_a_first_answer_of_a_redo_counts_as_asked(tmp_path: Path) -> None:
    path, plan = tmp_path / "run", planned(tmp_path, *"ab")
    a, b = requests(plan)
    begin(path, plan, answer(a, finish_reason="length"))
    assert asked_again(path, plan, answer(b, session=2, finish_reason="length"), ended_by="budget") == "ab"
    assert asked_again(path, plan, ended_by="pilot") == "a"


def test_a_session_keeps_what_it_was_to_send_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a")
    again = Again(retry_failed=True, kinds=frozenset({"timeout", "auth"}), redo=frozenset({"none", "length"}))
    close_run(opened(tmp_path / "run", plan, again=again, options={"concurrency": 3}))
    (session,) = load_manifest(tmp_path / "run").sessions
    assert session.options == {
        "concurrency": 3,
        "retry_failed": True,
        "kinds": ["auth", "timeout"],
        "redo": ["length", "none"],
    }


def test_a_redo_under_another_limit_says_how(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    begin(tmp_path / "run", plan, *(answer(r, finish_reason="length") for r in requests(plan)))
    other = planned(tmp_path, "a", "b", max_tokens=900)
    with pytest.raises(StoreError) as caught:
        opened(tmp_path / "run", other, again=Again(redo=frozenset({"length"})))
    message = str(caught.value)
    assert "(max_tokens: None -> 900)" in message
    assert f"`streamgauge export {tmp_path / 'run'} -o answers.jsonl`" in message
    assert "`streamgauge run some.jsonl --max-tokens 900 -o OTHER`" in message
    assert "--fresh" not in message


def test_what_failed_and_is_sent_again_does_not_count_as_failed(tmp_path: Path) -> None:
    path, plan = tmp_path / "run", planned(tmp_path, *"abc")
    a, b, c = requests(plan)
    kinds = (ErrorKind.BAD_REQUEST, ErrorKind.TOO_LARGE, ErrorKind.TOO_LARGE)
    begin(
        path, plan, *(answer(r, **failed(k, retryable=False)) for r, k in zip((a, b, c), kinds, strict=True))
    )
    for again, left in ((Again(), 3), (Again(True, frozenset({"too_large"})), 1), (Again(True), 0)):
        run = opened(path, plan, again=again)
        assert run.failed == left == len(run.settled)
        close_run(run)


def test_what_opened_a_circuit_breaker_goes_again(tmp_path: Path) -> None:
    """A wrong key proved nothing of the prompts; a refusal of another kind in the same session did."""
    plan = planned(tmp_path, *"abc")
    a, b, c = requests(plan)
    begin(
        tmp_path / "run",
        plan,
        answer(a, **failed(ErrorKind.AUTH, retryable=False)),
        answer(b, **failed(ErrorKind.BAD_REQUEST, retryable=False)),
        answer(c, **failed(ErrorKind.AUTH, retryable=False), session=2),
    )
    manifest = load_manifest(tmp_path / "run")
    manifest.sessions[0].stopped_on = "auth"
    rundir.write_manifest(tmp_path / "run", manifest)
    run = opened(tmp_path / "run", plan)
    assert (run.answered, run.failed) == (0, 2)
    assert run.settled.tolist() == sorted(map(digest, (b, c)))
    close_run(run)


def test_rows_added_and_removed(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b", "c", "a")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    plan = planned(tmp_path, "a", "c", "d", "c")
    run = opened(tmp_path / "run", plan)
    assert (run.answered, run.left_out) == (2, 2)  # a and c; b, and the second a
    a, c, d, again = requests(plan)
    assert run.settled.tolist() == sorted(map(digest, (a, c)))
    assert digest(again) not in run.settled
    assert np.fromfile(run.path / "current.u64", dtype="<u8").tolist() == plan.digests.tolist()
    assert digest(d) in plan.digests
    close_run(run)


def test_more_samples_than_before(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    run = opened(tmp_path / "run", planned(tmp_path, "a", "b", samples=3))
    assert (run.answered, len(run.settled), run.left_out) == (2, 2, 0)
    close_run(run)


def test_bad_lines_are_told(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    a, b = requests(plan)
    begin(tmp_path / "run", plan, answer(a), b"rubbish\n\0\0\0\n", answer(b))
    run = opened(tmp_path / "run", plan)
    assert run.notes == ["2 lines of the journal cannot be read and are skipped"]
    assert run.answered == 2
    close_run(run)


def test_killed_before_its_manifest(tmp_path: Path) -> None:
    """The folder, the journal and the digests are ours, and hold nothing yet."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("records.jsonl", "current.u64", ".run.json.123", ".records.jsonl.reserve", "records.torn"):
        (run / name).touch()
    close_run(opened(run, planned(tmp_path, "a")))


def test_other_ways_to_send_are_no_other_settings(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    a, _ = requests(plan)
    begin(tmp_path / "run", plan, answer(a))
    run = opened(tmp_path / "run", plan, url="http://127.0.0.1:8000/other/v1", options={"concurrency": 9})
    assert run.answered == 1
    close_run(run)


# -- another run's


@pytest.mark.parametrize(
    ("settings", "url", "says"),
    [
        ({"model": "n"}, URL, "(model: 'm' -> 'n')"),
        ({"params": {"temperature": 1}}, URL, "(params: {} -> {'temperature': 1})"),
        ({"max_tokens": 9}, URL, "(max_tokens: None -> 9)"),
        ({"system": "Be brief."}, URL, "(system: None -> 'Be brief.')"),
        ({"template": "{{ prompt }}"}, URL, "(template: None -> '{{ prompt }}')"),
        ({"api": "completions"}, URL, "(api: 'chat' -> 'completions')"),
        ({}, "http://127.0.0.1:8001/v1", "(target host: '127.0.0.1:8000' -> '127.0.0.1:8001')"),
        ({"model": "n", "max_tokens": 9}, URL, "(model: 'm' -> 'n'; max_tokens: None -> 9)"),
        ({"system": "x" * 500}, URL, "(system: None -> '" + "x" * 56 + "...)"),
    ],
)
def test_other_settings(tmp_path: Path, settings: dict[str, Any], url: str, says: str) -> None:
    plan = planned(tmp_path, "a", "b")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    before = snapshot(tmp_path / "run")
    with pytest.raises(StoreError) as caught:
        opened(tmp_path / "run", planned(tmp_path, "a", "b", **settings), url=url)
    assert str(caught.value) == (
        f"{tmp_path / 'run'} was begun with other settings {says}. Answers are not mixed. "
        "Choose: --fresh (sets the old run aside, keeps it), -o OTHER, or the old settings."
    )
    assert snapshot(tmp_path / "run") == before
    run = opened(tmp_path / "run", planned(tmp_path, "a", "b", **settings), url=url, fresh=True)
    close_run(run)


def snapshot(run: Path) -> dict[str, bytes]:
    return {place.name: place.read_bytes() for place in run.iterdir()}


def test_another_prompt_file(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    before = snapshot(tmp_path / "run")
    with pytest.raises(StoreError) as caught:
        opened(tmp_path / "run", planned(tmp_path, "c", "d", name="other.jsonl"))
    assert str(caught.value).startswith(
        f"{tmp_path / 'run'} belongs to another run: none of its 2 answers is to a prompt of this file "
        "(its own was prompts.jsonl). Choose: --fresh"
    )
    assert snapshot(tmp_path / "run") == before


def test_answers_without_a_manifest(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(StoreError, match=r"holds answers but no run\.json\. Choose: --fresh"):
        opened(tmp_path / "run", plan)


@pytest.mark.parametrize("more", [{}, {"fresh": True}])
def test_a_bench(tmp_path: Path, more: dict[str, Any]) -> None:
    """Also one that has no record yet."""
    plan = planned(tmp_path, "a")
    run = tmp_path / "run"
    run.mkdir()
    rundir.write_manifest(run, Manifest("bench", "2026-01-01T00:00:00Z", {}))
    with pytest.raises(StoreError, match=r"belongs to a `bench`\. Choose another folder with -o"):
        opened(run, plan, **more)
    assert [place.name for place in run.iterdir()] == ["run.json"]


def test_a_newer_version(tmp_path: Path) -> None:
    """It is not read, and not mended either."""
    plan = planned(tmp_path, "a")
    begin(tmp_path / "run", plan, b'{"id": "torn')
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    before = snapshot(tmp_path / "run")
    with pytest.raises(StoreError, match=r"schema version 99; this Streamgauge reads up to \d+\. Upgrade it"):
        opened(tmp_path / "run", plan)
    assert snapshot(tmp_path / "run") == before


def test_somebody_elses_folder(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a")
    place = tmp_path / "papers"
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError) as caught:
        opened(place, plan, fresh=True)
    assert str(caught.value) == (
        f"{place} holds other files (thesis.tex) and no run.json: it is not a run directory. "
        "Choose a new or empty folder with -o."
    )
    assert [p.name for p in place.iterdir()] == ["thesis.tex"]


def test_somebody_elses_run_json(tmp_path: Path) -> None:
    place = tmp_path / "web"
    place.mkdir()
    (place / "run.json").write_text('{"scripts": {}}')
    with pytest.raises(StoreError, match="is not a manifest"):
        opened(place, planned(tmp_path, "a"))
    assert [p.name for p in place.iterdir()] == ["run.json"]


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"is a file, not a folder for a run\. Choose another place with -o"):
        opened(tmp_path / "file", planned(tmp_path, "a"))


def test_while_another_writes(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a")
    first = opened(tmp_path / "run", plan)
    before = snapshot(tmp_path / "run")
    for fresh in (False, True):
        with pytest.raises(StoreError, match="is being written by another streamgauge"):
            opened(tmp_path / "run", plan, fresh=fresh)
    assert snapshot(tmp_path / "run") == before
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["run"]
    close_run(first)


# -- set aside


def test_fresh(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a", "b")
    begin(tmp_path / "run", plan, *map(answer, requests(plan)))
    before = snapshot(tmp_path / "run")
    for turn in range(3):  # within a second, too
        run = opened(tmp_path / "run", plan, fresh=True)
        assert (run.answered, len(run.settled), len(run.manifest.sessions)) == (0, 0, 1)
        (note,) = run.notes
        aside = Path(note.removeprefix("the earlier run is now "))
        if turn == 0:
            assert snapshot(aside) == before
        assert aside.name.startswith("run-")
        close_run(run)
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 4


def test_fresh_where_nothing_was(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", planned(tmp_path, "a"), fresh=True)
    assert run.notes == []
    close_run(run)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["run"]


def test_fresh_keeps_the_ending_of_a_datasets_folder(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a")
    begin(tmp_path / "answers.run", plan, *map(answer, requests(plan)))
    close_run(opened(tmp_path / "answers.run", plan, fresh=True))
    names = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert len(names) == 2
    assert all(name.startswith("answers") and name.endswith(".run") for name in names)


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_the_folder_one_stands_in_is_not_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    run, below = tmp_path / "run", tmp_path / "run" / "a" / "b"
    plan = planned(tmp_path, "a")
    begin(run, plan, *map(answer, requests(plan)))
    below.mkdir(parents=True)
    monkeypatch.chdir({".": run, "..": run / "a", "../..": below}[place])
    with pytest.raises(StoreError, match=r"aside: this command runs in it\. Start elsewhere, or choose -o"):
        opened(Path(place), plan, fresh=True)
    run_again = opened(Path(place), plan)
    assert run_again.answered == 1
    close_run(run_again)


@pytest.mark.parametrize("kind", ["settings", "prompts"])
def test_a_run_without_a_single_answer_gives_way(tmp_path: Path, kind: str) -> None:
    """A wrong key or model is mended by another command line: that must not need --fresh."""
    plan = planned(tmp_path, "a", "b")
    a, b = requests(plan)
    begin(
        tmp_path / "run",
        plan,
        answer(a, **failed(ErrorKind.BAD_REQUEST, retryable=False)),
        answer(b, "cancelled", cancelled_by="user", text="half"),
    )
    before = snapshot(tmp_path / "run")
    plan = planned(tmp_path, "a", "b", model="n") if kind == "settings" else planned(tmp_path, "c")
    run = opened(tmp_path / "run", plan)
    (note,) = run.notes
    assert note.endswith(" (its settings differ, and it holds no answer)")
    aside = note.removeprefix("the earlier run is now ").removesuffix(
        " (its settings differ, and it holds no answer)"
    )
    assert snapshot(Path(aside)) == before
    assert len(run.manifest.sessions) == 1
    close_run(run)


# -- runs/latest


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> Path:
        Path(name).mkdir(parents=True)
        return Path(name)

    return make


def test_latest(at: Callable[[str], Path]) -> None:
    elsewhere = at("elsewhere")
    link_latest(elsewhere)
    assert Path("runs/latest").resolve() == elsewhere.resolve()
    link_latest(at("runs/one"))
    assert Path("runs/latest").readlink() == Path("one")
    link_latest(at("runs/two"))
    assert Path("runs/latest").readlink() == Path("two")
    link_latest(elsewhere)
    assert Path("runs/latest").resolve() == elsewhere.resolve()
    assert sorted(p.name for p in Path("runs").iterdir()) == ["latest", "one", "two"]


def test_a_run_that_is_called_latest(at: Callable[[str], Path]) -> None:
    link_latest(at("runs/latest"))
    assert [p.name for p in Path("runs").iterdir()] == ["latest"]
    assert not Path("runs/latest").is_symlink()


# -- small parts


def test_inside() -> None:
    among = np.array([2, 5, 9], dtype=np.uint64)
    values = np.array([9, 1, 2, 2**64 - 1, 5, 0], dtype=np.uint64)
    assert inside(values, among).tolist() == [True, False, True, False, True, False]
    assert inside(values, among[:0]).tolist() == [False] * 6
    assert inside(values[:0], among).tolist() == []


def test_sessions_know_their_machine() -> None:
    session = rundir.new_session(4, {"c": 1})
    assert isinstance(session, Session)
    assert (session.number, session.options, session.ended_by, session.counts) == (4, {"c": 1}, None, {})
    assert session.anchor_ns > 0
    assert session.wall_ns > 1_600_000_000 * 10**9
    assert {"python", "aiohttp", "msgspec"} <= set(session.versions)
