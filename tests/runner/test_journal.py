from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner import journal as module
from runner.journal import Journal, is_locked
from runner.record import Record
from runner.reserve import Reserve
from runner.store import StoreError, build_index, lines

ROOT = Path(__file__).parents[2]


def line(number: int, **changes: Any) -> bytes:
    """A real record's line."""
    values: dict[str, Any] = {
        "id": f"{number:032x}",
        "prompt_id": "p" * 32,
        "index": number,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        "scheduled_at": 1,
        "sent_at": 2,
        "headers_at": 3,
        "first_token_at": 4,
        "first_content_at": 4,
        "last_token_at": 5,
        "ended_at": 6,
        "status": "ok",
        "text": 'a "quoted" {brace} \n line, 河',
        "row": {"deep": [{"er": "}\n"}]},
        **changes,
    }
    return msgspec.json.encode(Record(**values)) + b"\n"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits, and nothing is fsynced: what is tested is which bytes stay."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(module, "RETRY_S", 0.005)
    monkeypatch.setattr(module, "SYNC_INTERVAL_S", 0.005)


def whole(path: Path) -> list[bytes]:
    """The lines, each of which parses on its own."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    found = [text for _, text in lines(path)]
    for text in found:
        msgspec.json.decode(text, type=Record)
    return [text + b"\n" for text in found]


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def add(path: Path, *more: bytes) -> None:
    journal = Journal(path)
    journal.start()
    try:
        for text in more:
            assert await journal.append(text)
    finally:
        await asyncio.to_thread(journal.close)


# -- torn tails


@pytest.mark.usefixtures("fast")
async def test_cut_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reserve, "take", lambda _: False)
    first, second = line(1), line(2)
    data = first + second
    path = tmp_path / "records.jsonl"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        torn = tmp_path / "records.torn"
        torn.unlink(missing_ok=True)
        await add(path, line(2, session=2), line(3, session=2))
        found = whole(path)
        # A line that lacks only its end is kept; any shorter piece is cut, and kept aside.
        kept = [text for text, end in ((first, len(first)), (second, len(data))) if size >= end - 1]
        assert found == [*kept, line(2, session=2), line(3, session=2)], size
        index = build_index(tmp_path)
        assert sorted(index.digest.tolist()) == sorted({int(text[7:23], 16) for text in found}), size
        assert index.bad_count == 0
        piece = data[sum(map(len, kept)) : size]
        assert (torn.read_bytes() if torn.exists() else b"") == (piece + b"\n" if piece else b""), size


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("nuls", [1, 511, 4096, (1 << 20) + 3])
@pytest.mark.parametrize("before", ["nothing", "a line", "a piece", "a line without its end"])
async def test_nuls_after_a_power_loss(tmp_path: Path, nuls: int, before: str) -> None:
    first = line(1)
    start = {
        "nothing": b"",
        "a line": first,
        "a piece": first + line(2)[:100],
        "a line without its end": first + line(2)[:-1],
    }[before]
    path = tmp_path / "records.jsonl"
    path.write_bytes(start + b"\0" * nuls)
    await add(path, line(3))
    assert whole(path) == ([line(3)] if before == "nothing" else [first, line(3)])
    torn = tmp_path / "records.torn"
    assert (torn.read_bytes() if torn.exists() else b"") == (
        start[len(first) :] + b"\n" if "line " not in before and "piece" in before else b""
    ) or before == "a line without its end"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "rubbish",
    [
        b"rubbish",
        b"rubbish\n",
        b"\n",
        b"\n\n\n",
        b"{}\n",
        b"[1, 2]\n",
        b'"id"\n',
        b'{"id": 5}\n',
        b"\xff\xfe\n" * 3,
        b'{"id": "a"} {"id": "b"}\n',
        b"\0" * 100 + line(9),
        b"[" * 100_000 + b"\n",
        b'{"a":' + b"[" * 100_000 + b"\n",
        b"rubbish\n" * 50 + b'{"id": "torn',
        b"x" * (3 << 20) + b"\n" + b"y" * (2 << 20),
    ],
)
async def test_rubbish_at_the_end_is_cut(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(1) + line(2) + rubbish)
    await add(path, line(3))
    assert whole(path) == [line(1), line(2), line(3)]
    if rubbish.strip(b"\n"):
        assert (tmp_path / "records.torn").read_bytes().strip(b"\n") == rubbish.strip(b"\n\0")


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("before", [b"", line(1), line(1) + b"rubbish\n", b"\0\0\n"])
async def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(before + line(2)[:-1])
    await add(path, line(3))
    assert path.read_bytes() == before + line(2) + line(3)
    assert not (tmp_path / "records.torn").exists()


@pytest.mark.usefixtures("fast")
async def test_rubbish_in_the_middle_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(1) + b"rubbish\n\0\0\n" + line(2))
    await add(path, line(3))
    assert path.read_bytes() == line(1) + b"rubbish\n\0\0\n" + line(2) + line(3)
    assert build_index(tmp_path).bad_count == 2


@pytest.mark.usefixtures("fast")
def test_a_long_tail_of_short_lines_is_cut_in_time_that_grows_with_it(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(1) + b"\n" * 300_000)
    reads = 0
    read = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal reads
        reads += size
        return read(fd, size, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", counted)
        Journal(path).close()
    assert path.read_bytes() == line(1)
    assert reads < 3 << 30  # blocks of a megabyte would be 300 GB


def test_repaired_twice_is_repaired_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(1) + line(2)[:50])
    Journal(path).close()
    assert path.read_bytes() == line(1)
    Journal(path).close()
    assert (path.read_bytes(), (tmp_path / "records.torn").read_bytes()) == (line(1), line(2)[:50] + b"\n")


def test_a_journal_that_is_whole_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(1) + line(2))
    before = path.stat()
    Journal(path).close()
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )
    assert list(tmp_path.iterdir()) == [path]


# -- writing


async def test_lines_stand_in_the_order_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    journal = Journal(path)
    journal.start()
    told = await asyncio.gather(*(journal.append(line(n)) for n in range(500)))
    assert told == [True] * 500
    assert (journal.written_lines, path.stat().st_size) == (500, len(path.read_bytes()))
    await asyncio.to_thread(journal.close)
    assert whole(path) == [line(n) for n in range(500)]
    assert (journal.synced_lines, journal.synced_bytes) == (500, path.stat().st_size)
    assert names(tmp_path) == [path.name]  # what was set aside is given back


async def test_one_write_a_line(tmp_path: Path) -> None:
    written = []

    def write(fd: int, data: bytes) -> int:
        written.append(bytes(data))
        return os.write(fd, data)

    journal = Journal(tmp_path / "records.jsonl", write)
    journal.start()
    await asyncio.gather(*(journal.append(line(n)) for n in range(50)))
    await asyncio.to_thread(journal.close)
    assert written == [line(n) for n in range(50)]


async def test_close_writes_what_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    told = [journal.append(line(n)) for n in range(200)]
    await asyncio.to_thread(journal.close)
    assert await asyncio.gather(*told) == [True] * 200
    assert whole(tmp_path / "records.jsonl") == [line(n) for n in range(200)]
    journal.close()  # a second time is harmless


async def test_an_answer_nobody_waits_for_any_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    journal.append(line(1)).cancel()
    assert await journal.append(line(2))
    await asyncio.to_thread(journal.close)
    assert whole(tmp_path / "records.jsonl") == [line(1), line(2)]


# -- fsync


class Fsync:
    """Stands in for `os.fsync`: counts, and waits or fails as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.go = threading.Event()
        self.go.set()
        self.error: OSError | None = None
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, _: int) -> None:
        assert self.go.wait(30)
        self.count += 1
        if self.error is not None:
            raise self.error


async def test_no_line_waits_for_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = Fsync(monkeypatch)
    fsync.go.clear()
    monkeypatch.setattr(module, "SYNC_LINES", 1)
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    for number in range(20):
        assert await journal.append(line(number))
    assert (journal.written_lines, journal.synced_lines, journal.synced_bytes) == (20, 0, 0)
    fsync.go.set()
    await until(lambda: journal.synced_lines == 20)
    assert fsync.count <= 3  # one that was under way, and one for all the rest
    await asyncio.to_thread(journal.close)


async def test_fsync_after_so_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = Fsync(monkeypatch)
    monkeypatch.setattr(module, "SYNC_LINES", 10)
    monkeypatch.setattr(module, "SYNC_INTERVAL_S", 3600)
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    for number in range(9):
        await journal.append(line(number))
    assert (fsync.count, journal.synced_lines) == (0, 0)
    await journal.append(line(9))
    await until(lambda: journal.synced_lines)
    assert (fsync.count, journal.synced_lines) == (1, 10)
    assert journal.synced_bytes == sum(len(line(n)) for n in range(10))
    await journal.append(line(10))
    assert journal.synced_lines == 10
    await asyncio.to_thread(journal.close)
    assert (fsync.count, journal.synced_lines) == (2, 11)


async def test_fsync_after_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = Fsync(monkeypatch)
    monkeypatch.setattr(module, "SYNC_INTERVAL_S", 0.01)
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    await journal.append(line(1))
    await until(lambda: journal.synced_lines == 1)
    count = fsync.count
    await asyncio.sleep(0.1)
    assert fsync.count == count  # nothing new, nothing to do
    await asyncio.to_thread(journal.close)


async def test_a_failed_fsync_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = Fsync(monkeypatch)
    fsync.error = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(module, "SYNC_INTERVAL_S", 0.005)
    journal = Journal(tmp_path / "records.jsonl")
    journal.start()
    assert await journal.append(line(1))
    await until(lambda: fsync.count)
    assert (journal.written_lines, journal.synced_lines, journal.synced_bytes) == (1, 0, 0)
    assert journal.failure is not None
    fsync.error = None  # the kernel forgets what it could not write: a later success proves nothing of it
    assert await journal.append(line(2))
    await asyncio.to_thread(journal.close)
    assert (journal.synced_lines, journal.synced_bytes) == (0, 0)
    assert whole(tmp_path / "records.jsonl") == [line(1), line(2)]


# -- a disk without room


class Disk:
    """Stands in for `os.write`: takes `room` bytes, then as much of a line as fits, then nothing."""

    def __init__(self, room: int, number: int = errno.ENOSPC) -> None:
        self.room = room
        self.number = number
        self.refused = 0

    def __call__(self, fd: int, data: bytes) -> int:
        part = data[: self.room]
        if not part:
            self.refused += 1
            raise OSError(self.number, os.strerror(self.number))
        written = os.write(fd, part)
        self.room -= written
        return written


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("over", [0, 1, 100])
async def test_no_room(tmp_path: Path, number: int, over: int) -> None:
    path = tmp_path / "records.jsonl"
    disk = Disk(len(line(1)) + over, number)
    journal = Journal(path, disk)
    told: list[bool] = []
    journal.start(told.append)
    assert await journal.append(line(1))
    waiting = [journal.append(line(n)) for n in (2, 3, 4)]
    await until(lambda: disk.refused >= 4)
    assert told == [True]
    assert not any(future.done() for future in waiting)
    assert path.read_bytes() == line(1)  # the torn piece is cut off again, at once
    disk.room = 1 << 30
    assert await asyncio.gather(*waiting) == [True] * 3
    await until(lambda: told == [True, False])
    assert not journal.full
    assert await journal.append(line(5))
    await asyncio.to_thread(journal.close)
    assert whole(path) == [line(n) for n in (1, 2, 3, 4, 5)]
    assert journal.synced_bytes == path.stat().st_size


@pytest.mark.usefixtures("fast")
async def test_short_writes_that_pass(tmp_path: Path) -> None:
    """Any other write is cut short somewhere: every line is whole all the same, once."""
    path, count = tmp_path / "records.jsonl", 0

    def write(fd: int, data: bytes) -> int:
        nonlocal count
        count += 1
        return os.write(fd, data[: count % len(data)] if count % 2 else data)

    journal = Journal(path, write)
    told: list[bool] = []
    journal.start(told.append)
    assert await asyncio.gather(*(journal.append(line(n)) for n in range(100))) == [True] * 100
    await asyncio.to_thread(journal.close)
    assert whole(path) == [line(n) for n in range(100)]
    assert told[0]


@pytest.mark.usefixtures("fast")
async def test_giving_up(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    disk = Disk(len(line(1)) + 7)
    journal = Journal(path, disk)
    journal.start()
    assert await journal.append(line(1))
    waiting = [journal.append(line(n)) for n in (2, 3)]
    await until(lambda: disk.refused)
    journal.give_up()
    assert await asyncio.gather(*waiting) == [False, False]
    assert not await journal.append(line(4))
    assert path.read_bytes() == line(1)
    disk.room = 1 << 30  # giving up is about waiting: a line that can be written is
    assert await journal.append(line(5))
    await asyncio.to_thread(journal.close)
    assert whole(path) == [line(1), line(5)]


# -- one writer

HOLD = """
import sys
from pathlib import Path
from runner.journal import Journal
Journal(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such lock there")
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    torn = line(1) + line(2)[:30]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with path.open("ab") as file:
                file.write(torn)  # as if it were half-way through a line
            assert is_locked(path)
            with pytest.raises(StoreError) as caught:
                Journal(path)
            assert str(caught.value) == (
                f"{path} is being written by another streamgauge. "
                "Wait for it, or choose another folder with -o."
            )
            assert path.read_bytes() == torn  # the refused one has repaired nothing
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait(timeout=30)
    assert not is_locked(path)
    Journal(path).close()  # the lock has ended with its holder
    assert path.read_bytes() == line(1)


def test_two_in_one_process(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    first = Journal(path)
    with pytest.raises(StoreError, match="is being written by another streamgauge"):
        Journal(path)
    first.close()
    Journal(path).close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such lock there")
def test_a_look_at_the_lock_does_not_keep_a_writer_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` holds it for an instant; a run that starts just then waits for it."""
    import fcntl

    path = tmp_path / "records.jsonl"
    path.touch()
    with path.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(file.fileno(), fcntl.LOCK_UN))
        Journal(path).close()


def test_nobody_writes_what_is_not_there(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "records.jsonl")
