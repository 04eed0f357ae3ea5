"""The journal's writing side: an append-only file of whole lines, one writer, repaired when it is opened.

Two threads stand behind it, both nearly always inside a system call that releases the GIL: one writes each
line with one `write()` as soon as it comes, the other fsyncs in groups, so that no line waits for an fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import msgspec

from runner.reserve import Reserve
from runner.store import StoreError

if sys.platform != "win32":
    import fcntl

SYNC_INTERVAL_S = 0.5
SYNC_LINES = 1000
RETRY_S = 0.5
DYING_TRIES = 200  # to lock what a process writes whose parent is dead
_BLOCK = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a write that say that there is no room."""


class _Identified(msgspec.Struct):
    id: str


def sync(fd: int) -> None:
    """Have a file's bytes on the disk, and not only on their way."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # its fsync stops at the drive's cache
    else:
        os.fsync(fd)


def lock(fd: int, path: Path, tries: int = 5) -> None:
    """Take the kernel's lock on an open journal; it ends with its holder.

    Args:
        fd, path: of the journal.
        tries: 50 ms apart. `status` looks at the lock by holding it for an instant.

    Raises:
        StoreError: another process holds it.
    """
    if sys.platform == "win32":
        return
    for _ in range(tries):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StoreError(
        f"{path} is being written by another streamgauge. Wait for it, or choose another folder with -o."
    )


def is_locked(path: Path) -> bool:
    """Whether a process is writing this journal."""
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def mend(path: Path) -> None:
    """Repair a journal whose writer is dead, or dying of its parent's death, and have it all on the disk.

    The room its writer had set aside is given back.

    Raises:
        StoreError: a process still writes it.
    """
    fd = os.open(path, _OPEN, 0o644)
    try:
        lock(fd, path, DYING_TRIES)
        _reserve_of(path).unlink(missing_ok=True)
        repair(fd, path.with_suffix(".torn"))
        sync(fd)
    finally:
        os.close(fd)


def _reserve_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.reserve")


def repair(fd: int, torn: Path) -> int:
    """Cut the file's tail to the end of its last line that parses. Returns the size after.

    What is cut (a fragment, NULs after a power loss) is appended to `torn` where it holds anything but NULs.
    A last line that lacks only its end gets it.
    """
    size = os.fstat(fd).st_size
    last = _last_newline(fd, size) + 1
    if last < size and _is_record(_read(fd, last, size)):
        os.write(fd, b"\n")  # the file is open for appending
        sync(fd)
        return size + 1
    keep = _end_of_good_lines(fd, last)
    if keep == size:
        return size
    tail = _read(fd, keep, size)
    if tail.strip(b"\0\n"):
        with contextlib.suppress(OSError), torn.open("ab") as file:
            file.write(tail.strip(b"\0") + b"\n")
    os.ftruncate(fd, keep)
    sync(fd)
    return keep


def _end_of_good_lines(fd: int, end: int) -> int:
    """`end`: of the last line, its newline included; 0 where there is none."""
    while end > 0:
        start = _last_newline(fd, end - 1) + 1
        if _is_record(_read(fd, start, end - 1)):
            return end
        end = start
    return 0


def _last_newline(fd: int, end: int) -> int:
    block = 1 << 12  # small at first: a tail of rubbish can be many short lines
    while end > 0:
        start = max(0, end - block)
        found = _read(fd, start, end).rfind(b"\n")
        if found >= 0:
            return start + found
        end = start
        block = min(block * 4, _BLOCK)
    return -1


def _read(fd: int, start: int, end: int) -> bytes:
    pieces = []
    os.lseek(fd, start, os.SEEK_SET)
    while start < end:
        piece = os.read(fd, min(end - start, 1 << 24))
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def _is_record(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=_Identified)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


class Journal:
    """An open journal. `append` is called on the event loop; everything that can wait for disk is not.

    Args:
        path: the file; made where there is none.
        write: `os.write`, or a stand-in for tests.
        tries: to lock it; more, where the last writer may only just be dying.

    A full disk takes what is in flight all the same, out of a reserve set aside before (`runner/reserve.py`).
    It counts as full until that reserve can be set aside again.
    """

    def __init__(
        self,
        path: Path,
        write: Callable[[int, bytes], int] = os.write,
        *,
        tries: int = 5,
    ) -> None:
        self._fd = os.open(path, _OPEN, 0o644)
        try:
            lock(self._fd, path, tries)
            self._size = repair(self._fd, path.with_suffix(".torn"))
        except BaseException:
            os.close(self._fd)
            raise
        self.path = path
        self.full = False
        self.synced_bytes = self._size
        self.synced_lines = 0
        self.written_lines = 0
        self.failure: OSError | None = None
        self._on_full: Callable[[bool], None] = lambda _: None
        self._write = write
        self._reserve = Reserve(_reserve_of(path))
        self._queue: SimpleQueue[tuple[bytes, asyncio.Future[bool]] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._give_up = threading.Event()
        self._wake_sync = threading.Event()
        self._closing = False
        self._stuck = False  # a line is waiting for room
        self._unsure = (
            False  # an fsync failed: the kernel forgets those pages, and a later one proves nothing
        )
        self._threads: list[threading.Thread] = []

    def start(self, on_full: Callable[[bool], None] = lambda _: None) -> None:
        """Begin to write. Must be called on the event loop.

        Args:
            on_full: called on the loop with `True` when a write found no room, `False` once there is again.
        """
        self._on_full = on_full
        self._loop = asyncio.get_running_loop()
        self._reserve.take()
        for target in (self._write_lines, self._sync_lines):
            thread = threading.Thread(target=target, name=target.__name__, daemon=True)
            thread.start()
            self._threads.append(thread)

    def append(self, line: bytes) -> asyncio.Future[bool]:
        """Queue one line (with its `\\n`). The future tells, once, whether it was written."""
        assert self._loop is not None
        done: asyncio.Future[bool] = self._loop.create_future()
        self._queue.put((line, done))
        return done

    @property
    def unsafe(self) -> bool:
        """An fsync failed: what is written may not last, and more of it should not be bought."""
        return self._unsure

    @property
    def why(self) -> str:
        """Why it cannot be written."""
        if self.failure is None or self.failure.errno in NO_ROOM:
            return "the disk is full"
        return f"the journal cannot be written ({self.failure.strerror})"

    @property
    def room_needed(self) -> int:
        """Bytes that have to be free before a full disk counts as having room again."""
        return self._reserve.needed

    def give_up(self) -> None:
        """Stop waiting for room: lines that cannot be written are answered with `False`."""
        self._give_up.set()

    def close(self) -> None:
        """Write what is queued, fsync, let go. Blocks; not for the event loop."""
        if self._threads:
            self._queue.put(None)
            self._threads[0].join()
            self._closing = True
            self._wake_sync.set()
            self._threads[1].join()
            self._threads.clear()
        self._reserve.release()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- the writing thread

    def _write_lines(self) -> None:
        while (item := self._queue.get()) is not None:
            batch = [item]
            stop = False
            # One wake-up of the loop for all lines that are waiting; still one write() a line.
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    stop = True
                    break
                batch.append(more)
            results = [(done, self._write_line(line)) for line, done in batch]
            if self.written_lines - self.synced_lines >= SYNC_LINES:
                self._wake_sync.set()
            self._tell(self._resolve, results)
            if stop:
                return

    @staticmethod
    def _resolve(results: list[tuple[asyncio.Future[bool], bool]]) -> None:
        for done, written in results:
            if not done.done():
                done.set_result(written)

    def _write_line(self, line: bytes) -> bool:
        while True:
            failure = self._try(line)
            if failure is None:
                self._size += len(line)
                self.written_lines += 1
                if self._stuck:
                    self._stuck = False
                    self.failure = self.failure if self._unsure else None
                return True
            self.failure = failure
            self._stuck = True
            self._report_full(True)
            if self._reserve.release():
                continue
            if self._give_up.wait(RETRY_S):
                return False

    def _try(self, line: bytes) -> OSError | None:
        try:
            written = self._write(self._fd, line)
        except OSError as exc:
            failure: OSError = exc
            written = 0
        else:
            failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if written == len(line):
            return None
        # A short write is a torn line: cut it off again, or the next append would be glued to it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
        return failure

    def _report_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            self._tell(self._on_full, full)

    def _tell(self, what: Callable[..., None], argument: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting any more
            self._loop.call_soon_threadsafe(what, argument)

    # -- the syncing thread

    def _sync_lines(self) -> None:
        while True:
            self._wake_sync.wait(SYNC_INTERVAL_S)
            self._wake_sync.clear()
            closing = self._closing
            lines, size = self.written_lines, self._size
            if lines != self.synced_lines:
                try:
                    sync(self._fd)
                except OSError as exc:
                    self.failure, self._unsure = exc, True
                else:
                    if not self._unsure:
                        self.synced_lines, self.synced_bytes = lines, size
            if self.full and not closing and not self._stuck and self._reserve.take():
                self._report_full(False)
            if closing:
                return
