"""`make million`: a million prompts sent, resumed, reported, exported, against the mock server.

Memory is that of a command and all its children at once, beside the same command over 10,000 rows. With
`--folder` everything is kept there, and what was measured already is not done again. A sending that broke
off goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from bench.children import STREAMGAUGE, BenchError, env, mock
from bench.clients import write_prompts
from bench.table import markdown
from bench.watched import SAID, cpu_s, family, watched

PLACE = Path(__file__).parent.parent / ".bench"
HEADINGS = ("step", "wall", "CPU", "peak memory", "of it over 10,000 rows", "goal", "met")
FEW = 10_000
TOKENS = 4
_LIMIT_S = 600.0


class Step(msgspec.Struct):
    """One command over the whole. Of the start of a resumed run: until its first request is sent."""

    wall_s: float
    cpu_s: float
    peak_mb: float | None
    more_mb: float | None  # of `peak_mb`, over that of the same with 10,000 rows


class Kept(msgspec.Struct):
    """What is known already, in the folder."""

    port: int = 0
    steps: dict[str, Step] = msgspec.field(default_factory=dict)


# Step -> (what must not be more, in which unit)
GOALS: dict[str, tuple[float, str]] = {
    "run": (50, "MB more"),
    "resume": (20, "s"),
    "report": (120, "s"),
    "export jsonl": (120, "s"),
    "export csv": (120, "s"),
    "export parquet": (120, "s"),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit code: 0 where all ran, missed goals or not."""
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--concurrency", "-c", type=int, default=200, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep everything here; go on with what is here"
    )
    given = parser.parse_args(arguments)
    if not Path("/proc/self/smaps_rollup").exists():
        print("make million reads memory from /proc, which this system does not have", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that children are ended
    before = os.getloadavg()[0]
    folder = given.folder or Path(tempfile.mkdtemp(prefix="streamgauge-million-"))
    try:
        kept = _Million(folder.absolute(), given.rows, given.concurrency, given.workers).measure()
    except BenchError as exc:
        print(f"failed: {exc}", file=sys.stderr)
        return 1
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    workers = f"{given.workers} worker{'s' * (given.workers > 1)}"
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, {given.rows:,} rows, {given.concurrency} at once, {workers}, "
        f"answers of {TOKENS} tokens; {platform.system()}, "
        f"{os.cpu_count()} cores shared with the mock server, load {before:.1f} before; "
        f"Python {platform.python_version()}."
    )
    rows = [_cells(name, step) for name, step in kept.steps.items()]
    table = markdown(HEADINGS, rows, numbers=range(1, 5))
    print(f"{about}\n\n{table}")
    PLACE.mkdir(exist_ok=True)
    name = "million.md" if given.rows == 1_000_000 else "million-partial.md"
    (PLACE / name).write_text(f"{about}\n\n{table}\n", encoding="utf-8")
    return 0


class _Million:
    """The steps, one after the other, in one folder."""

    def __init__(self, folder: Path, rows: int, concurrency: int, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rows = folder, rows
        self._options = ["-m", "mock", "-c", str(concurrency), "--max-tokens", str(TOKENS)]
        self._options += ["--workers", str(workers)] if workers > 1 else []
        self._place = folder / "steps.json"
        self._kept = Kept()
        if self._place.exists():
            self._kept = msgspec.json.decode(self._place.read_bytes(), type=Kept)
        self.big, self.little = folder / "big", folder / "little"

    def measure(self) -> Kept:
        """All steps that are not known yet."""
        big, little = str(self.big), str(self.little)
        self._step("run", self._send)
        self._step("resume", self._resume)
        for name, command in {
            "report": ["report", "RUN"],
            "export jsonl": ["export", "RUN", "--to", "jsonl"],
            "export csv": ["export", "RUN", "--to", "csv"],
            "export parquet": ["export", "RUN", "--to", "parquet"],
            "status": ["status", "RUN"],
            "check": ["check", "RUN", "-t", "ttft: p(95)<60s"],
        }.items():
            small, large = ([part.replace("RUN", run) for part in command] for run in (little, big))
            self._step(name, partial(self._read, small, large))
        self._step("compare", self._compare)
        return self._kept

    def _step(self, name: str, measure: Callable[[], Step]) -> None:
        if name in self._kept.steps:
            return
        print(f"{name} ...", file=sys.stderr, flush=True)
        step = self._kept.steps[name] = measure()
        print(f"  {step.wall_s:,.0f} s", file=sys.stderr, flush=True)
        self._place.write_bytes(msgspec.json.format(msgspec.json.encode(self._kept)))

    def _spent(self, command: list[str], codes: tuple[int, ...] = (0,)) -> Step:
        spent = watched([STREAMGAUGE, *command], self._folder)
        if spent.code not in codes:
            said = (self._folder / SAID).read_text(encoding="utf-8", errors="replace")
            raise BenchError(f"streamgauge {' '.join(command)}: exit code {spent.code}\n{said[-2000:]}")
        return Step(spent.wall_s, spent.cpu_s, spent.peak_mb, None)

    def _run(self, prompts: Path, out: Path, url: str) -> list[str]:
        return ["run", str(prompts), "-o", str(out), "--base-url", url, *self._options]

    def _send(self) -> Step:
        many, few = (write_prompts(self._folder, count) for count in (self._rows, FEW))
        with mock(self._folder / "mock", "--port", str(self._kept.port)) as url:
            self._kept.port = int(url.rsplit(":", 1)[1].split("/")[0])  # a run is of one host and port
            little = self._spent([*self._run(few, self.little, url), "--fresh"])
            big = self._spent(self._run(many, self.big, url))
        assert big.peak_mb is not None
        big.more_mb = big.peak_mb - (little.peak_mb or 0)
        return big

    def _resume(self) -> Step:
        """One row more at the end of the file: how long until it is sent."""
        prompts = write_prompts(self._folder, self._rows + 1)
        log = self._folder / "log.jsonl"
        log.unlink(missing_ok=True)
        with mock(self._folder / "mock", "--port", str(self._kept.port), "--log", str(log)) as url:
            command = [STREAMGAUGE, *self._run(prompts, self.big, url)]
            began = time.monotonic()
            with (self._folder / SAID).open("wb") as out:
                child = subprocess.Popen(command, cwd=self._folder, stdout=out, stderr=out, env=env())
            try:
                while not (log.exists() and log.stat().st_size):
                    if child.poll() is not None or time.monotonic() - began > _LIMIT_S:
                        raise BenchError(
                            f"the resumed run sent nothing:\n{(self._folder / SAID).read_text()}"
                        )
                    time.sleep(0.02)
                wall_s, cpu = time.monotonic() - began, sum(map(cpu_s, family(child.pid)))
            finally:
                child.terminate()  # its report is another step
                child.wait()
        return Step(wall_s, cpu, None, None)

    def _read(self, small: list[str], large: list[str]) -> Step:
        little, big = self._spent(small), self._spent(large)
        assert big.peak_mb is not None
        big.more_mb = big.peak_mb - (little.peak_mb or 0)
        return big

    def _compare(self) -> Step:
        """With its own records under another name."""
        twin = self._folder / "twin"
        shutil.rmtree(twin, ignore_errors=True)
        twin.mkdir()
        shutil.copy(self.big / "run.json", twin)
        for journal in self.big.glob("records*.jsonl"):
            os.link(journal, twin / journal.name)
        return self._spent(["compare", str(self.big), str(twin)], (0, 98, 99))


def _cells(name: str, step: Step) -> tuple[str, ...]:
    goal, met = "", ""
    if name in GOALS:
        most, unit = GOALS[name]
        goal = f"<= {most:g} {unit}"
        value = step.wall_s if unit == "s" else step.more_mb
        met = "" if value is None else "yes" if value <= most else "missed"
    shown = f"`{name}`" if name != "resume" else "`run` again, until the first request is sent"
    return (
        shown,
        f"{step.wall_s:,.1f} s",
        f"{step.cpu_s:,.1f} s",
        "" if step.peak_mb is None else f"{step.peak_mb:,.0f} MB",
        "" if step.more_mb is None else f"{step.more_mb:+,.0f} MB",
        goal,
        met,
    )


if __name__ == "__main__":
    sys.exit(main())
