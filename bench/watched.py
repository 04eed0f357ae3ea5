"""A command and all its children, watched: what they cost, and the most memory they held at once."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from bench.children import BenchError, env

SAID = "said.txt"
"""What the command wrote, in its folder."""

_SAMPLE_S = 0.1


class Watched(msgspec.Struct, frozen=True):
    """How a command ended, and what it cost."""

    code: int
    wall_s: float
    cpu_s: float  # user and system, children included
    peak_mb: float  # of it and its children at once, shared pages counted once


def watched(command: list[str], folder: Path, *, timeout_s: float = 3600.0) -> Watched:
    """Run a command in `folder` to its end, whatever that is.

    Raises:
        BenchError: it took longer than it may.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (folder / SAID).open("wb") as out:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env()
        )
        try:
            with _watching(child.pid) as peak:
                status, usage = _ended(child.pid, began + timeout_s)
        except BaseException:
            child.terminate()
            child.wait()
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - began
    return Watched(child.returncode, wall_s, usage.ru_utime + usage.ru_stime, peak[0] / 1e6)


def _ended(pid: int, until: float) -> tuple[int, resource.struct_rusage]:
    while True:
        # Asked for, not waited for: wait4 has no time limit.
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, usage
        if time.monotonic() > until:
            raise BenchError("not finished in time")
        time.sleep(0.01)


@contextmanager
def _watching(pid: int) -> Iterator[list[float]]:
    """The most memory a process and its children held at once, in bytes."""
    peak = [0.0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], sum(map(held, family(pid))))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found: list[str] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):  # a child is the thread's that made it
        with suppress(OSError):
            found += thread.read_text().split()
    return [pid, *(one for child in found for one in family(int(child)))]


def held(pid: int) -> float:
    """Bytes of memory a process has for itself, with its part of what it shares; 0 where it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 0.0


def peak_mb(pid: int) -> float:
    """The most memory a process has had resident, shared pages included; 0 where it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far; children that ended are not in it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
