"""examples/github-actions-gate.yml: its shell lines do what they say, as far as they are shell."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, read

WORKFLOW = ROOT / "examples" / "github-actions-gate.yml"
BIN = Path(sys.executable).parent
WAIT_S = 100

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the workflow's lines are for a Unix shell")


def steps() -> dict[str, str]:
    """The shell lines of each step, by its name: what follows `run:`."""
    found: dict[str, str] = {}
    for step in re.split(r"^      - ", read(WORKFLOW), flags=re.M)[1:]:
        name = re.match(r"name: (.*)", step)
        block = re.search(r"^        run: \|\n((?: {10}.*\n|\n)+)", step, re.M)
        line = re.search(r"^        run: ([^|\n].*)$", step, re.M)
        if name is not None and (block or line):
            found[name[1]] = re.sub(r"^ {10}", "", block[1], flags=re.M) if block else str(line and line[1])
    return found


def variables() -> dict[str, str]:
    """The job's `env`."""
    block = re.search(r"^    env:\n((?: {6}.*\n)+)", read(WORKFLOW), re.M)
    assert block is not None
    return dict(re.findall(r'^ {6}([A-Z]+): "?([^"#\n]*?)"?(?: #.*)?$', block[1], re.M))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def workflow(folder: Path, **changed: str) -> Iterator[dict[str, int]]:
    """Run every step but the installation, in order, and as GitHub does; gives their exit codes."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    env |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    # So few requests that it takes some seconds; what they are to show is larger than any noise.
    env |= {**variables(), "PAIRS": "3", "REQUESTS": "8", "GITHUB_ACTIONS": "true", **changed}
    env |= {name: f"127.0.0.1:{_free_port()}" for name in ("SERVER", "GATEWAY")}
    groups: list[int] = []
    try:
        yield {name: _run(lines, folder, env, groups) for name, lines in steps().items() if name != "Install"}
    finally:
        for group in groups:  # what a step started and left running
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _run(lines: str, folder: Path, env: dict[str, str], groups: list[int]) -> int:
    with (folder / "log.txt").open("ab") as log:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", lines],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    groups.append(shell.pid)
    return shell.wait(WAIT_S)


def test_the_steps_are_found() -> None:
    assert list(steps()) == [
        "Install",
        "Start the server, and the gateway before it",
        "Measure both in turns",
        "Show the verdict",
    ]
    assert variables() == {
        "SERVER": "127.0.0.1:8000",
        "GATEWAY": "127.0.0.1:8001",
        "DELAY": "0",
        "PAIRS": "6",
        "REQUESTS": "200",
    }


def test_a_slow_gateway_turns_the_job_red(tmp_path: Path) -> None:
    with workflow(tmp_path, DELAY="300") as codes:
        log = (tmp_path / "log.txt").read_text()
        assert codes["Start the server, and the gateway before it"] == 0
        assert codes["Measure both in turns"] in {99, 97}, log  # 97: on a machine this busy
        assert codes["Show the verdict"] == 0
    word = {99: "FAIL", 97: "INVALID"}[codes["Measure both in turns"]]
    assert (tmp_path / "summary.md").read_text().startswith(f"## {word}: ")
    assert "::error " in log
    assert (tmp_path / "gate.xml").exists()
    assert (tmp_path / "gate" / "ab.json").exists()


def test_the_page_names_what_is_shipped() -> None:
    page = read(DOCS / "ci-gate.md")
    for path in ("examples/github-actions-gate.yml", "examples/gateway.py"):
        assert path in page
        assert (ROOT / path).exists()
