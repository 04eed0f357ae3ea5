"""The promise: whatever kills the process, nothing acknowledged is lost and nothing is doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from runner.journal import is_locked
from runner.store import journal_files
from tests.conftest import children_of

if TYPE_CHECKING:
    from tests.conftest import Mock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")

# STREAMGAUGE_CRASHES=30 is the test at size; by default it is one that a suite of five minutes can carry.
KILLS = int(os.environ.get("STREAMGAUGE_CRASHES", "7"))
PROMPTS = 70 * KILLS + 400
EARLY_KILLS = 4  # while the command starts
CONCURRENCY = 16

Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]


def write_prompts(path: Path, count: int) -> list[str]:
    prompts = [f"prompt {n} of the crash test, word {n * 7919 % 10007}" for n in range(count)]
    rows = (json.dumps({"prompt": prompt, "place": n}) for n, prompt in enumerate(prompts))
    path.write_text("".join(row + "\n" for row in rows))
    return prompts


def whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def port_of(mock: Mock) -> str:
    return mock.base_url.removesuffix("/v1").rpartition(":")[2]


def journals(run: Path) -> dict[str, bytes]:
    """What stands in a run's journal, or in each of its workers', by its name."""
    return {path.name: path.read_bytes() for path in journal_files(run)}


def records(journal: Path) -> list[dict[str, Any]]:
    """Every line of a run on its own; a glued or torn one would not parse."""
    found = journals(journal.parent)
    assert any(found.values())
    assert all(data.endswith(b"\n") for data in found.values() if data)
    return [msgspec.json.decode(line) for data in found.values() for line in data.split(b"\n")[:-1]]


def synced(progress: Path) -> dict[str, int]:
    """How many bytes of each journal a run says are on the disk."""
    told = json.loads(progress.read_bytes())
    return {"records.jsonl": told["synced_bytes"], **told["synced"]}


def exported(spawn: Spawn, run: Path, status: str = "ok") -> list[dict[str, Any]]:
    out = run.with_suffix(f".{status}.jsonl")
    process = spawn("export", run, "-o", out, "--status", status)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


class Session(msgspec.Struct):
    """One killed start of the command."""

    started_ns: int
    lines_before: int
    known: frozenset[str]  # prompts with a record
    lines_after: int = 0
    in_flight: int = 0  # as the mock said just before the kill


class Crash:
    """A run that is killed again and again."""

    def __init__(self, folder: Path, mock: Mock, spawn: Spawn, until: Until) -> None:
        self.run = folder / "run"
        self.journal = self.run / "records.jsonl"
        self.log = folder / "mock.jsonl"
        self.file = folder / "prompts.jsonl"
        self.prompts = write_prompts(self.file, PROMPTS)
        self.mock = mock
        self.spawn = spawn
        self.until = until
        self.sessions: list[Session] = []
        self.snapshot: dict[str, bytes] = {}  # all whole lines there were just before the last kill

    def start(self) -> subprocess.Popen[str]:
        found = records(self.journal) if any(journals(self.run).values()) else []
        known = frozenset(record["request"]["messages"][0]["content"] for record in found)
        self.sessions.append(Session(time.monotonic_ns(), len(found), known))
        return self.spawn(
            "run",
            self.file,
            *("--base-url", self.mock.base_url, "--model", "mock"),
            *("-c", CONCURRENCY, "-o", self.run),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self, child: subprocess.Popen[str]) -> None:
        session = self.sessions[-1]
        progress = self.run / "progress.json"
        said = synced(progress) if progress.exists() else {}
        before = {name: whole_lines(data) for name, data in journals(self.run).items()}
        for name, data in self.snapshot.items():
            assert before[name].startswith(data), "a line that was there is gone, or another is before it"
        for name, size in said.items():
            assert size <= len(before[name]), "more was acknowledged than was written"
        session.in_flight = self.mock.stats()["in_flight"]
        child.kill()
        assert child.wait(timeout=60) == -signal.SIGKILL, "it had ended before the kill"
        # Workers see it, write what they hold, and go.
        self.until(lambda: not any(is_locked(path) for path in journal_files(self.run)))
        after = journals(self.run)
        assert all(after[name].startswith(data) for name, data in before.items())
        self.snapshot = before
        session.lines_after = sum(data.count(b"\n") for data in after.values())

    def requests(self) -> list[dict[str, Any]]:
        """The mock's account, in the order it saw them."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return sorted((e for e in entries if e["ordinal"] is not None), key=lambda e: e["received_ns"])


@pytest.mark.timeout(600)  # on a machine that is busy with other things
def test_killed_at_random_moments(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    rng = random.Random(20)
    log = tmp_path / "mock.jsonl"
    mock = mock_process("--ttft", "40", "--itl", "6", "--echo", "--log", str(log))
    crash = Crash(tmp_path, mock, spawn, until)
    kills = 0
    for number in range(KILLS + EARLY_KILLS):
        received = mock.completions
        child = crash.start()
        if number % 9 == 4:  # at any moment of its start
            time.sleep(rng.uniform(0.02, 0.5))
        else:
            # So many requests into the session, and then some: mid-run, whatever the machine's speed. Some
            # sessions last for several fsyncs and notes of progress.
            more = rng.randint(100, 140) if number % 5 == 0 else rng.randint(1, 40)
            until(lambda floor=received + more: mock.completions >= floor, child)
            time.sleep(rng.uniform(0, 0.02))
            kills += 1
        crash.kill(child)
    child = crash.start()
    assert child.wait(timeout=100) == 0

    # Every prompt once, in the journal and in the export.
    found = records(crash.journal)
    assert all(journals(crash.run)[name].startswith(data) for name, data in crash.snapshot.items())
    assert all(record["status"] == "ok" for record in found)
    assert sorted(record["index"] for record in found) == list(range(PROMPTS))
    assert len({record["id"] for record in found}) == PROMPTS
    rows = exported(spawn, crash.run)
    assert [row["index"] for row in rows] == list(range(PROMPTS))
    assert [(row["place"], row["prompt"], row["answer"]) for row in rows] == [
        (n, prompt, prompt) for n, prompt in enumerate(crash.prompts)
    ]
    assert not list(crash.run.glob("*.torn"))  # a line is one write(), and a kill does not split it

    # And paid for once, but for what was in flight at the kills.
    mock.stop()
    requests = crash.requests()
    manifest = json.loads((crash.run / "run.json").read_text())
    killed = crash.sessions[:-1]
    starts = [session.started_ns for session in crash.sessions] + [time.monotonic_ns()]
    lost = []
    for place, session in enumerate(killed):
        sent = [r for r in requests if starts[place] <= r["received_ns"] < starts[place + 1]]
        assert len({r["prompt"] for r in sent}) == len(sent), "the same prompt twice in one session"
        assert not session.known & {r["prompt"] for r in sent}, "an answered prompt was sent again"
        unwritten = len(sent) - (session.lines_after - session.lines_before)
        assert 0 <= unwritten <= CONCURRENCY
        lost.append(unwritten)
    assert len(requests) == PROMPTS + sum(lost) <= PROMPTS + sum(map(bool, lost)) * CONCURRENCY
    again = Counter(r["prompt"] for r in requests)
    assert set(again) == set(crash.prompts)
    cut = sum(r["peer_left_ns"] is not None for r in requests)
    assert cut <= sum(lost)
    assert kills >= KILLS
    assert 1 <= len(manifest["sessions"]) <= len(crash.sessions)
    print(
        f"\ncrash test: {PROMPTS} prompts, {kills} SIGKILLs mid-run and {EARLY_KILLS} during start-up; "
        f"{len(requests)} requests at the mock = {PROMPTS} + {sum(lost)} in flight at the kills "
        f"({cut} cut, {sum(lost) - cut} answered and not yet written; "
        f"the mock counted {sum(s.in_flight for s in killed)} just before); "
        f"{sum(n > 1 for n in again.values())} prompts sent again, up to {max(again.values())} times in all; "
        f"{len(found)} lines in the journal, {len(rows)} rows in the export, 0 lost, 0 doubled, 0 glued"
    )


def test_power_loss(tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until) -> None:
    """What was not fsynced may be gone, cut anywhere, and padded; what was acknowledged is still there."""
    rng = random.Random(4)
    mock = mock_process("--ttft", "30", "--itl", "2", "--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    prompts = write_prompts(file, 400)
    journal, progress = run / "records.jsonl", run / "progress.json"
    arguments = ["run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 4, "-o", run]
    acknowledged: dict[str, bytes] = {}

    def noted(session: int, more_than: int) -> bool:
        if not progress.exists():
            return False
        told = json.loads(progress.read_bytes())["session"]
        return bool(told == session and sum(synced(progress).values()) > more_than)

    for number, tail in enumerate([b"", b"\0" * 700, b'{"id": "0', b"\0" * 5000 + b"rubbish\n"]):
        child = spawn(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = sum(map(len, acknowledged.values()))
        until(lambda session=number + 1, size=before: noted(session, size), child)
        child.kill()
        child.wait(timeout=60)
        until(lambda: not any(is_locked(path) for path in journal_files(run)))
        for name, size in synced(progress).items():
            data = (run / name).read_bytes()
            acknowledged[name] = data[:size]
            assert not size or acknowledged[name].endswith(b"\n")
            (run / name).write_bytes(data[: rng.randint(size, len(data))] + tail)
    child = spawn(*arguments)
    err = child.communicate(timeout=100)[1]
    assert child.returncode == 0, err
    assert "cannot be read" not in err
    assert all(journals(run)[name].startswith(data) for name, data in acknowledged.items())
    assert sorted(record["index"] for record in records(journal)) == list(range(400))
    assert [row["answer"] for row in exported(spawn, run)] == prompts


def test_interrupt_drains(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    mock = mock_process("--ttft", "20", "--itl", "40", "--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    write_prompts(file, 12)
    arguments = ["run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 3, "-o", run]
    child = spawn(*arguments)
    until(lambda: mock.stats()["in_flight"] == 3, child)
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "3 in flight; once more" in err
    assert err.endswith("interrupted. Run the same command again to go on.\n")
    found = records(run / "records.jsonl")
    assert 3 <= len(found) < 12
    assert {record["status"] for record in found} == {"ok"}
    assert mock.completions == len(found)
    session = json.loads((run / "run.json").read_text())["sessions"][-1]
    assert (session["ended_by"], session["counts"]["ok"]) == ("interrupted", len(found))
    child = spawn(*arguments)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0
    assert f"resumed: {len(found)} of 12 are answered, {12 - len(found)} to send" in err
    assert sorted(record["index"] for record in records(run / "records.jsonl")) == list(range(12))
    assert mock.completions == 12


@pytest.mark.parametrize("how", ["interrupted twice", "terminated", "terminated, then interrupted"])
def test_streams_are_cut(
    how: str, tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    """Partial answers are kept as cancelled, and asked for again: nothing is doubled."""
    mock = mock_process("--fault-stall", "1", "--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    prompts = write_prompts(file, 9)
    arguments = ["run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 3, "-o", run]
    child = spawn(*arguments, "--grace", "200ms" if how == "terminated" else "1h")
    until(lambda: mock.stats()["in_flight"] == 3, child)
    child.send_signal(signal.SIGINT if how == "interrupted twice" else signal.SIGTERM)
    if how != "terminated":
        assert child.stderr is not None
        until(lambda: "once more" in child.stderr.readline(), child)
        child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == (75 if how == "terminated" else 130)
    assert err.rstrip().endswith("Run the same command again to go on.")
    assert "\n0/9 done, " in err
    assert " 3 cancelled" in err
    found = records(run / "records.jsonl")
    assert len(found) == 3
    assert {record["status"] for record in found} == {"cancelled"}
    assert {record["cancelled_by"] for record in found} == {"deadline" if how == "terminated" else "user"}
    for record in found:
        assert record["text"]
        assert record["text"] != prompts[record["index"]]
        assert prompts[record["index"]].startswith(record["text"])
    until(lambda: mock.stats()["client_disconnects"] == 3)  # closing is the only cancel: the server sees it
    assert mock.completions == 3
    session = json.loads((run / "run.json").read_text())["sessions"][-1]
    assert session["ended_by"] == ("terminated" if how == "terminated" else "interrupted")

    mock.stop()
    mended = mock_process("--port", port_of(mock), "--echo")
    child = spawn(*arguments)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert mended.completions == 9
    assert [row["answer"] for row in exported(spawn, run)] == prompts
    assert len(records(run / "records.jsonl")) == 12
    assert exported(spawn, run, "cancelled") == []


def limited(size: int, disk_wait_s: float) -> list[str]:
    """The command on a disk where no file grows beyond `size`."""
    code = (
        "import resource, runner.engine\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        f"runner.engine.DISK_WAIT_S = {disk_wait_s}\n"
        "from runner.cli import main; main()"
    )
    return [sys.executable, "-c", code]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk(tmp_path: Path, small_disk: Path, mock_process: Callable[..., Mock], spawn: Spawn) -> None:
    """A real one. What was in flight is kept, out of the reserve: nothing is paid for twice."""
    mock = mock_process("--ttft", "5", "--itl", "1", "--echo")
    file, run = tmp_path / "prompts.jsonl", small_disk / "run"
    prompts = write_prompts(file, 300)
    (small_disk / "filler").write_bytes(bytes(8_000_000))
    arguments = ["run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 8, "-o", run]
    wait = "import runner.engine; runner.engine.DISK_WAIT_S = 0.3; from runner.cli import main; main()"
    child = spawn(*arguments, command=[sys.executable, "-c", wait])
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 75, err
    assert "the disk is full: nothing new is sent" in err
    assert "found no room" not in err
    first = records(run / "records.jsonl")
    assert 8 <= len(first) < 300
    assert mock.completions == len(first)

    (small_disk / "filler").unlink()
    child = spawn(*arguments)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert mock.completions == 300
    assert sorted(record["index"] for record in records(run / "records.jsonl")) == list(range(300))
    assert [row["answer"] for row in exported(spawn, run)] == prompts


def test_no_file_may_grow(tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn) -> None:
    mock = mock_process("--ttft", "5", "--itl", "1", "--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    prompts = write_prompts(file, 80)
    arguments = ["run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 8, "-o", run]
    child = spawn(*arguments, command=limited(40_000, 0.3))
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 75, err
    assert "the disk is full: nothing new is sent" in err
    assert f"stopped: the disk is full ({run}). Make room. Run the same command again to go on." in err
    journal = run / "records.jsonl"
    assert all(len(data) <= 40_000 for data in journals(run).values())
    first = records(journal)
    lost = mock.completions - len(first)
    assert 1 <= lost <= 8
    assert f"{lost} finished answers found no room on the disk and will be asked again" in err
    assert json.loads((run / "run.json").read_text())["sessions"][-1]["ended_by"] == "disk_full"

    before = journals(run)
    child = spawn(*arguments)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert all(journals(run)[name].startswith(data) for name, data in before.items())
    assert mock.completions == 80 + lost
    assert sorted(record["index"] for record in records(journal)) == list(range(80))
    assert [row["answer"] for row in exported(spawn, run)] == prompts


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
def test_a_file_may_grow_again(tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn) -> None:
    """Finished answers wait in memory: none is asked for again, and the run goes on by itself."""
    import resource

    mock = mock_process("--ttft", "5", "--itl", "1", "--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    prompts = write_prompts(file, 80)
    child = spawn(
        *("run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 8, "-o", run),
        command=limited(40_000, 60),
    )
    assert child.stderr is not None
    while "the disk is full" not in (line := child.stderr.readline()):
        assert line, "ended without a word"
    for pid in (child.pid, *children_of(child.pid)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert "there is room on the disk again: sending goes on" in err
    assert mock.completions == 80
    assert sorted(record["index"] for record in records(run / "records.jsonl")) == list(range(80))
    assert [row["answer"] for row in exported(spawn, run)] == prompts


def test_interrupt_on_a_full_disk(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    """Two signals end a run that waits for room; it is not held hostage by the disk."""
    mock = mock_process("--echo")
    file, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    write_prompts(file, 80)
    child = spawn(
        *("run", file, "--base-url", mock.base_url, "--model", "mock", "-c", 4, "-o", run),
        command=limited(20_000, 3600),
    )
    assert child.stderr is not None
    for words in ("the disk is full", "once more"):
        until(lambda words=words: words in child.stderr.readline(), child)
        child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "found no room on the disk and will be asked again" in err
    assert len(records(run / "records.jsonl")) >= 1
