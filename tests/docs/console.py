"""Runs what a page shows: blocks of ```console, their commands on lines that begin with `$ `.

What a page shows below a command is compared with what the command says: each line of the page has to be
among the lines that were printed, numbers, times and white space apart. `...` stands for lines left out.

Commands are run by `sh` as they stand, in one folder, one after the other, and have to succeed. Five are not
taken at their word:
- `streamgauge bench` may find this machine too busy to measure, and say so;
- `streamgauge mock ... &` is started on a free port, which takes the place of 8000 in all other commands;
- `sleep` sleeps until there are answers to kill a run over, however fast the machine is;
- `make run` runs the script behind that target; other targets are only looked for in the Makefile;
- what makes a virtual environment or installs is not run: the tests run in such an environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import ROOT, read

BIN = Path(sys.executable).parent
SHOWN_PORT = "127.0.0.1:8000"
# Answers of any run of this folder; the shell's own `sleep` is `command sleep`.
_SLEEP = (
    'sleep() { until [ "$(cat runs/*/records.jsonl 2>/dev/null | wc -l)" -ge 20 ]; '
    "do command sleep 0.05; done; }\n"
)
_NOT_RUN = re.compile(r"python3? -m venv|(\S*/)?pip install|git clone|make (?!run\b)")


@dataclass
class Step:
    """A command of a page, and what the page shows of its output."""

    command: str
    line: int
    shown: list[str] = field(default_factory=list)


def steps(page: Path) -> list[Step]:
    """The commands of a page, in order."""
    out: list[Step] = []
    inside = False
    for number, line in enumerate(read(page).splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            out.append(Step(line[2:], number))
        elif inside and out[-1].command.endswith("\\") and not out[-1].shown:
            out[-1].command += f"\n{line.removeprefix('> ')}"
        elif inside:
            out[-1].shown.append(line)
    return out


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "TIME", line)
    line = re.sub(r"\b[0-9a-f]{16,}\b", "ID", line)
    line = re.sub(r"n/a \(needs \d+\)|\bwithheld\b", "#", line)
    line = re.sub(r"^(validity|INVALID): .*", "VALIDITY", line)
    line = re.sub(r"~?\d[\d,]*(\.\d+)?", "#", line)
    line = re.sub(r"# min # s|# ms", "# s", line)
    return " ".join(line.split())


class Shell:
    """A folder in which the steps of a page are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("OPENAI_") and not name.lower().endswith("_proxy")
        }
        self.env |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
        self._address = SHOWN_PORT
        self._mocks: list[subprocess.Popen[str]] = []

    def run(self, step: Step) -> str | None:
        """Run a step; returns what it said, `None` where it is not run."""
        if _NOT_RUN.match(step.command):
            return None
        if re.match(r"streamgauge mock\b.*&$", step.command):
            return self._start(step.command)
        command = f"sh examples/demo.sh {BIN}" if step.command == "make run" else step.command
        done = subprocess.run(
            ["sh", "-c", _SLEEP + command.replace(SHOWN_PORT, self._address)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
        said = done.stdout.replace(self._address, SHOWN_PORT)
        fine = {0, 97} if step.command.startswith("streamgauge bench") else {0}
        assert done.returncode in fine, f"{step.command} ended with {done.returncode}:\n{said}"
        return said

    def _start(self, command: str) -> str:
        options = command.removesuffix("&").split()[1:]
        mock = subprocess.Popen(
            [BIN / "streamgauge", *options, "--port", "0"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._mocks.append(mock)
        assert mock.stdout is not None
        line = mock.stdout.readline()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found is not None, line
        self._address = found[0]
        return line.replace(self._address, SHOWN_PORT)

    def close(self) -> None:
        """End the mock servers."""
        for mock in self._mocks:
            mock.kill()
            mock.communicate()


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A folder with the shipped examples in it."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    opened = Shell(folder)
    try:
        yield opened
    finally:
        opened.close()


def missing(step: Step, said: str) -> list[str]:
    """The lines a page shows that the command did not say."""
    there = {masked(line) for line in said.splitlines()}
    return [
        line for line in step.shown if masked(line) and line.strip() != "..." and masked(line) not in there
    ]


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
