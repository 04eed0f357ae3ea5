"""`make loads`: what this machine carries, load by load, with the error of the times beside it.

Each load is a `streamgauge bench` against the mock server on the same machine. The server's log says when it
handed every token to the kernel; the error of a time is ours less that. CPU is that of the tool as a whole,
its workers included, less that of the same load with a tenth of the tokens: what a token costs.

Not for real-time priority where there are workers: memory is read from /proc, and two real-time threads that
reap workers while somebody looks at them can keep a kernel of two cores to themselves (seen for 20 minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.children import STREAMGAUGE, BenchError, mock
from bench.table import markdown
from bench.times import entries, our_times, percentile
from bench.watched import SAID, Watched, watched

PLACE = Path(__file__).parent.parent / ".bench"
HEADINGS = (
    "load",
    "workers",
    "token events/s",
    "time stamped after it was sent: p50",
    "p99",
    "TTFT p99, off by",
    "CPU a token",
    "memory",
    "the bench's own word",
)
_CODES = (0, 97, 98, 99)  # of a bench that came to its end, whatever it found
_LIMIT_S = 300.0


class Load(msgspec.Struct, frozen=True):
    """So many streams at once, each with a token every `gap_ms` (0: as fast as they come)."""

    name: str
    streams: int
    gap_ms: float
    tokens: int
    requests: int  # a stream
    lockstep: bool = False
    workers: tuple[int, ...] = (1, 2)


LOADS = (
    Load("100 streams x 100/s, spread out", 100, 10, 200, 3),
    Load("100 streams x 100/s, lock-step", 100, 10, 200, 3, lockstep=True),
    Load("256 streams x 40/s, lock-step", 256, 25, 100, 3, lockstep=True),
    Load("256 streams x 100/s, lock-step", 256, 10, 200, 3, lockstep=True),
    Load("200 streams x 100/s, spread out", 200, 10, 200, 3),
    Load("1,000 streams x 10/s, spread out", 1000, 100, 60, 2),
    Load("5,000 streams x 2/s, spread out", 5000, 500, 20, 1),
    Load("32 streams, flooded", 32, 0, 2000, 8),
)


class Result(msgspec.Struct, frozen=True):
    """What one run of a load showed. Times in ms."""

    events_per_s: float
    lag_p50: float | None
    lag_p99: float | None
    ttft_off: float | None
    cpu_s: float
    events: int
    peak_mb: float
    word: str


def main(arguments: list[str] | None = None) -> int:
    """Run the loads, print and write the table. Returns the exit code: 1 where a load did not run."""
    parser = argparse.ArgumentParser(prog="python -m bench.loads", description=__doc__)
    parser.add_argument("--only", metavar="WORDS", help="loads whose name holds this")
    parser.add_argument("--workers", type=int, metavar="N", help="with so many, and no other number")
    given = parser.parse_args(arguments)
    loads = [load for load in LOADS if given.only is None or given.only in load.name]
    if not loads:
        parser.error(
            f"--only {given.only}: no load's name holds that: {'; '.join(load.name for load in LOADS)}"
        )
    rows: list[tuple[str, ...]] = []
    failed = False
    for load in loads:
        for workers in (given.workers,) if given.workers else load.workers:
            print(f"{load.name}, {workers} workers ...", file=sys.stderr, flush=True)
            try:
                rows.append(_row(load, workers))
            except BenchError as exc:
                failed = True
                print(f"  failed: {exc}", file=sys.stderr)
                rows.append((load.name, str(workers), *["failed"] * (len(HEADINGS) - 2)))
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores "
        f"shared with the mock server, load {os.getloadavg()[0]:.1f} at the end; "
        f"Python {platform.python_version()}."
    )
    table = markdown(HEADINGS, rows, numbers=range(1, 8))
    print(f"{about}\n\n{table}")
    PLACE.mkdir(exist_ok=True)
    (PLACE / ("loads.md" if given.only is None else "loads-partial.md")).write_text(f"{about}\n\n{table}\n")
    return 1 if failed else 0


def _row(load: Load, workers: int) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="streamgauge-loads-") as folder:
        few = max(load.tokens // 10, 2)
        whole = _run(Path(folder) / "whole", load, workers, load.tokens)
        little = _run(Path(folder) / "little", load, workers, few)
    cpu_us = (whole.cpu_s - little.cpu_s) / (whole.events - little.events) * 1e6
    return (
        load.name,
        str(workers),
        f"{whole.events_per_s:,.0f}",
        _ms(whole.lag_p50),
        _ms(whole.lag_p99),
        _ms(whole.ttft_off),
        f"{cpu_us:.1f} us",
        f"{whole.peak_mb:,.0f} MB",
        whole.word,
    )


def _run(folder: Path, load: Load, workers: int, tokens: int) -> Result:
    log = folder / "log.jsonl"
    options = ["--ttft", "50", "--itl", str(load.gap_ms)] if load.gap_ms else []
    if load.gap_ms and not load.lockstep:
        # Their first tokens spread over two gaps, and so do all that follow.
        options += ["--ttft-dist", "normal", "--ttft-sd", "10"]
    options += ["--lockstep"] if load.lockstep else []
    count = load.streams * load.requests
    with mock(folder / "mock", *options, "--log", str(log)) as url:
        since = time.monotonic_ns()
        spent = benched(folder, url, load.streams, count, tokens, workers)
        logged = entries(log, since, count)
    return _result(folder, logged, spent)


def _result(folder: Path, logged: list[dict[str, Any]], spent: Watched) -> Result:
    times = our_times(folder / "run", logged)
    first = min(entry["first_token_sent_ns"] for entry in logged)
    last = max(entry["first_token_sent_ns"] + entry["token_us"][-1] * 1000 for entry in logged)
    events = len(times["lag"])
    ours, true = percentile(times["ttft"], 99), percentile(times["true_ttft"], 99)
    return Result(
        events_per_s=events / max((last - first) / 1e9, 1e-9),
        lag_p50=percentile(times["lag"], 50),
        lag_p99=percentile(times["lag"], 99),
        ttft_off=abs(ours - true),
        cpu_s=spent.cpu_s,
        events=events,
        peak_mb=spent.peak_mb,
        word=word_of(folder / "run"),
    )


def benched(folder: Path, url: str, streams: int, requests: int, tokens: int, workers: int) -> Watched:
    """A closed loop of so many streams, measured into `folder`/run.

    Raises:
        BenchError: it did not come to its end, or not within five minutes.
    """
    command = [STREAMGAUGE, "bench", "--base-url", url, "-m", "mock", "-c", str(streams)]
    command += ["-n", str(requests), "--output-tokens", str(tokens), "--input-tokens", "32"]
    command += ["-o", str(folder / "run"), "--set", "load.warmup_requests=0"]
    command += ["--workers", str(workers)] if workers > 1 else []
    spent = watched(command, folder, timeout_s=_LIMIT_S)
    if spent.code not in _CODES:
        said = (folder / SAID).read_text(encoding="utf-8", errors="replace")
        raise BenchError(f"exit code {spent.code}\n{said[-2000:]}")
    return spent


def word_of(run: Path) -> str:
    """What a bench said of its own fitness: OK, WARN or INVALID."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return str(summary["bench"]["validity"]["level"])


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
