"""`make streams`: thousands of slow streams at once, and what they take.

One `streamgauge bench` holds them against the mock server on the same machine, which runs with the soft limit
of open files that most systems give, so that both have to raise their own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.children import BenchError, mock
from bench.loads import benched, word_of
from bench.table import Row, markdown, quantity
from bench.watched import Watched, family, peak_mb

PLACE = Path(__file__).parent.parent / ".bench"
_GAP_MS = 500.0
_USUAL_FILES = 1024


def main(arguments: list[str] | None = None) -> int:
    """Hold the streams, print and write what they took. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=5000, metavar="N")
    parser.add_argument("--tokens", type=int, default=120, metavar="N", help="of each answer, two a second")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    given = parser.parse_args(arguments)
    if not Path("/proc/self/smaps_rollup").exists():
        print("make streams reads memory from /proc, which this system does not have", file=sys.stderr)
        return 1
    _lower_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="streamgauge-streams-") as folder:
            rows, said = _hold(Path(folder), given.streams, given.tokens, given.workers)
    except BenchError as exc:
        print(f"failed: {exc}", file=sys.stderr)
        return 1
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, {given.streams:,} streams of {given.tokens} tokens, "
        f"{1000 / _GAP_MS:g} tokens/s each; {platform.system()}, {os.cpu_count()} cores shared with the mock "
        f"server, load {os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}. "
        f"The bench's own word: {said}."
    )
    table = markdown(("measure", "", "goal", "met"), map(_cells, rows), numbers=(1, 2))
    print(f"{about}\n\n{table}")
    PLACE.mkdir(exist_ok=True)
    (PLACE / "streams.md").write_text(f"{about}\n\n{table}\n", encoding="utf-8")
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    goal = "" if row.goal is None else f"<= {row.goal:,.0f} {row.unit}".rstrip()
    met = "" if row.met is None else "yes" if row.met else "missed"
    value = f"{row.ours:,.0f}" if not row.unit else quantity(row.ours, row.unit)
    return row.measure, value, goal, met


def _lower_file_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_USUAL_FILES, hard))


def _hold(folder: Path, streams: int, tokens: int, workers: int) -> tuple[list[Row], str]:
    options = ["--ttft", "1000", "--ttft-dist", "normal", "--ttft-sd", "150", "--itl", str(_GAP_MS)]
    run = folder / "run"
    with mock(folder / "mock", *options) as url:
        spent = benched(folder, url, streams, streams, tokens, workers)
        server_mb = sum(map(peak_mb, family(os.getpid())[1:]))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return _rows(summary, run, spent, server_mb, streams, tokens), word_of(run)


def _rows(
    summary: dict[str, Any], run: Path, spent: Watched, server_mb: float, streams: int, tokens: int
) -> list[Row]:
    at_once = most_at_once(run)
    requests = summary["requests"]
    return [
        Row(measure="streams that were not open at once", unit="", ours=streams - at_once, goal=0),
        Row(measure="requests not answered", unit="", ours=streams - requests["ok"], goal=0),
        Row(measure="peak memory, workers included", unit="MB", ours=spent.peak_mb, goal=1000),
        Row(measure="peak memory of the mock server", unit="MB", ours=server_mb),
        Row(measure="CPU a token, start to end", unit="us", ours=spent.cpu_s / (streams * tokens) * 1e6),
        Row(measure="wall time, start to end", unit="s", ours=spent.wall_s),
    ]


def most_at_once(run: Path) -> int:
    """The most streams that were open at one moment: from the bytes sent to the end of the body."""
    changes: list[tuple[int, int]] = []
    for path in run.glob("records*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                if record["sent_at"] is not None and record["ended_at"] is not None:
                    changes += [(record["sent_at"], 1), (record["ended_at"], -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


if __name__ == "__main__":
    sys.exit(main())
