"""The promise: whatever kills the process, nothing acknowledged is lost and nothing is doubled."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from tests.conftest import Mock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")

PROMPTS = 2500
KILLS = 30
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


def records(journal: Path) -> list[dict[str, Any]]:
    """Every line on its own; a glued or torn one would not parse."""
    data = journal.read_bytes()
    assert data.endswith(b"\n")
    return [msgspec.json.decode(line) for line in data.split(b"\n")[:-1]]


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
    lines_after: int = 0
    synced_bytes: int = 0
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
        self.snapshot = b""  # all whole lines there were just before the last kill

    def start(self) -> subprocess.Popen[str]:
        lines = self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0
        self.sessions.append(Session(time.monotonic_ns(), lines))
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
        if progress.exists():
            session.synced_bytes = json.loads(progress.read_bytes())["synced_bytes"]
        before = whole_lines(self.journal.read_bytes()) if self.journal.exists() else b""
        assert before.startswith(self.snapshot), "a line that was there is gone, or another stands before it"
        assert session.synced_bytes <= len(before), "more was acknowledged than was written"
        session.in_flight = self.mock.stats()["in_flight"]
        child.kill()
        assert child.wait(timeout=60) == -signal.SIGKILL, "it had ended before the kill"
        after = self.journal.read_bytes() if self.journal.exists() else b""
        assert after.startswith(before)
        self.snapshot = before
        session.lines_after = after.count(b"\n")

    def requests(self) -> list[dict[str, Any]]:
        """The mock's account, in the order it saw them."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return sorted((e for e in entries if e["ordinal"] is not None), key=lambda e: e["received_ns"])


def test_killed_at_random_moments(
    tmp_path: Path, mock_process: Callable[..., Mock], spawn: Spawn, until: Until
) -> None:
    rng = random.Random(20)
    log = tmp_path / "mock.jsonl"
    mock = mock_process("--ttft", "60", "--itl", "8", "--echo", "--log", str(log))
    crash = Crash(tmp_path, mock, spawn, until)
    kills = 0
    for number in range(KILLS + EARLY_KILLS):
        received = mock.completions
        child = crash.start()
        if number % 9 == 4:  # at any moment of its start
            time.sleep(rng.uniform(0.02, 0.5))
        else:
            # So many requests into the session, and then some: whatever the machine's speed, it is mid-run. The
            # long ones go past several fsyncs and notes of progress.
            more = rng.randint(80, 120) if number % 3 == 0 else rng.randint(1, 50)
            until(lambda floor=received + more: mock.completions >= floor, child)
            time.sleep(rng.uniform(0, 0.02))
            kills += 1
        crash.kill(child)
    child = crash.start()
    assert child.wait(timeout=100) == 0

    # Every prompt once, in the journal and in the export.
    found = records(crash.journal)
    assert crash.journal.read_bytes().startswith(crash.snapshot)
    assert all(record["status"] == "ok" for record in found)
    assert sorted(record["index"] for record in found) == list(range(PROMPTS))
    assert len({record["id"] for record in found}) == PROMPTS
    rows = exported(spawn, crash.run)
    assert [row["index"] for row in rows] == list(range(PROMPTS))
    assert [(row["place"], row["prompt"], row["answer"]) for row in rows] == [
        (n, prompt, prompt) for n, prompt in enumerate(crash.prompts)
    ]
    assert not (crash.run / "records.torn").exists()  # a line is one write(), and a kill does not split it

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
        known = {record["request"]["messages"][0]["content"] for record in found[: session.lines_before]}
        assert not known & {r["prompt"] for r in sent}, "an answered prompt was sent again"
        unwritten = len(sent) - (session.lines_after - session.lines_before)
        assert 0 <= unwritten <= CONCURRENCY
        lost.append(unwritten)
    assert len(requests) == PROMPTS + sum(lost) <= PROMPTS + sum(map(bool, lost)) * CONCURRENCY
    again = Counter(r["prompt"] for r in requests)
    assert set(again) == set(crash.prompts)
    cut = sum(r["peer_left_ns"] is not None for r in requests)
    assert cut <= sum(lost)
    assert kills == KILLS >= 25
    assert 1 <= len(manifest["sessions"]) <= len(crash.sessions)
    print(  # noqa: T201
        f"\ncrash test: {PROMPTS} prompts, {kills} SIGKILLs mid-run and {EARLY_KILLS} during start-up, "
        f"{len(requests)} requests at the mock = {PROMPTS} + {sum(lost)} in flight at the kills "
        f"({cut} cut, {sum(lost) - cut} answered and not yet written; the mock counted "
        f"{sum(s.in_flight for s in killed)} in flight), {sum(n > 1 for n in again.values())} prompts sent more "
        f"than once, at most {max(again.values())} times; {len(found)} lines in the journal, {len(rows)} rows in "
        f"the export, 0 lost, 0 doubled, 0 glued"
    )
