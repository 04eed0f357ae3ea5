"""Child processes: what one cost, and the mock server while it is needed. None outlives its block."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

BIN = Path(sys.executable).parent
STREAMGAUGE = str(BIN / "streamgauge")
HERE = Path(__file__).parent
_STOP_S = 5.0
_OUTPUT_SHOWN = 4000


class BenchError(Exception):
    """Something did not run. The text holds the child's own words."""


class Spent(msgspec.Struct, frozen=True):
    """What a child process cost, from its start to its end."""

    cpu_s: float  # user and system
    wall_s: float
    peak_mb: float  # most memory resident at once


def script(name: str) -> list[str]:
    """The command that runs one of this folder's scripts, and imports nothing else of it."""
    return [sys.executable, "-P", str(HERE / name)]


def run(command: list[str], folder: Path, *, timeout_s: float = 600.0) -> Spent:
    """Run a child in `folder` to its end.

    Raises:
        BenchError: it failed, or took longer than it may.
    """
    started = time.monotonic()
    with _child(command, folder) as (child, output):
        while True:
            # Asked for, not waited for: wait4 has no time limit. Half a millisecond is no cost to speak of.
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            wall_s = time.monotonic() - started
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                break
            if wall_s > timeout_s:
                raise BenchError(f"{_shown(command)}: not finished within {timeout_s:g} s\n{_said(output)}")
            time.sleep(0.0005 if wall_s < 1 else 0.01)
        if child.returncode != 0:
            raise BenchError(f"{_shown(command)}: exit code {child.returncode}\n{_said(output)}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    peak = usage.ru_maxrss * unit
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # The kernel begins a child's peak with its parent's: a larger parent would hide what the child needs.
    return Spent(usage.ru_utime + usage.ru_stime, wall_s, float("nan") if peak <= own else peak / 1e6)


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[int]:
    """A child while the block runs; killed at its end. Gives the `monotonic_ns` before its start."""
    at = time.monotonic_ns()
    with _child(command, folder):
        yield at


@contextmanager
def mock(folder: Path, *options: str) -> Iterator[str]:
    """A mock server while the block runs. Gives its base URL.

    Raises:
        BenchError: it does not come up.
    """
    command = [STREAMGAUGE, "mock", "--port", "0", *options]
    with _child(command, folder) as (child, output):
        until = time.monotonic() + 20
        while True:
            found = [line for line in _said(output).splitlines() if line.startswith("listening on ")]
            if found:
                break
            if child.poll() is not None or time.monotonic() > until:
                raise BenchError(f"{_shown(command)}: does not come up\n{_said(output)}")
            time.sleep(0.02)
        yield found[0].removeprefix("listening on ").strip()
        if child.poll() is not None:
            raise BenchError(f"{_shown(command)}: ended by itself\n{_said(output)}")


@contextmanager
def _child(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"output-{time.monotonic_ns()}.txt"
    with output.open("wb") as out:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env()
        )
    try:
        yield child, output
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def env() -> dict[str, str]:
    """Ours without what would send a client elsewhere or change what it says."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("OPENAI_")
    }


def _shown(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def _said(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")[-_OUTPUT_SHOWN:]
