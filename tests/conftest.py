"""What tests of whole commands share: a mock server in a thread or as a process, and the command line."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

ROOT = Path(__file__).parents[1]
WORKERS = os.environ.get("STREAMGAUGE_TEST_WORKERS")
"""`make test WORKERS=2`: whole commands run with so many workers, where a test does not say."""

# What a machine was found to carry is no part of a test, and no test leaves any such thing behind.
os.environ["XDG_CACHE_HOME"] = os.devnull

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# Started in the background by a script, this process ignores Ctrl-C, and what it starts would do so as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_LEFT_OUT = ("OPENAI_", "SLURM_ARRAY_")  # of the environment: what commands would heed
COMMAND = [sys.executable, "-c", "from runner.cli import main; main()"]


class Mock:
    """A mock server that runs elsewhere, and what it has counted so far."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.looks = 0  # how often `stats` has asked: these requests are counted too
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        self.stop: Callable[[], None] = lambda: None  # ends it; its log is whole then

    def stats(self) -> dict[str, Any]:
        self.looks += 1
        self._connection.request("GET", "/stats")
        found: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return found

    @property
    def completions(self) -> int:
        """Requests that were no look at the counts."""
        requests: int = self.stats()["requests"]
        return requests - self.looks

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _in_thread(**config: Any) -> Iterator[Mock]:
    from runner.mock.config import MockConfig
    from runner.mock.server import serve

    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def main() -> None:
        stop = asyncio.Event()
        async with serve(MockConfig(**config)) as server:
            ready.put((server.base_url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    base_url, loop, stop = ready.get(timeout=30)
    mock = Mock(base_url)

    def end() -> None:
        mock.close()
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)

    mock.stop = end
    try:
        yield mock
    finally:
        end()


@contextmanager
def _as_process(*options: str) -> Iterator[Mock]:
    with subprocess.Popen(
        [*COMMAND, "mock", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        try:
            mock = Mock(process.stdout.readline().removeprefix("listening on ").strip())

            def end() -> None:
                mock.close()
                process.terminate()
                process.wait(timeout=30)

            mock.stop = end
            yield mock
            end()
        finally:
            process.kill()


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    return {**clean, "PYTHONPATH": str(ROOT), **(more or {})}


def words(arguments: tuple[object, ...]) -> list[str]:
    """A command line, with the workers the suite is run with."""
    said = [str(argument) for argument in arguments]
    if (
        WORKERS is not None
        and said[:1] in (["run"], ["bench"], ["ab"], ["sweep"])
        and "--workers" not in said
    ):
        said[1:1] = ["--workers", WORKERS]
    return said


def journal_of(run: Path | str) -> list[dict[str, Any]]:
    """The whole lines of a run's journal; those of several workers in the order they were written."""
    from runner.store import journal_files

    files = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in journal_files(Path(run))]
    lines = [json.loads(line) for file in files for line in file]
    if sum(map(bool, files)) > 1:
        lines.sort(key=lambda line: (line["session"], line["ended_at"] or 0))
    return lines


def children_of(pid: int) -> list[int]:
    """The processes a process has started, whichever of its threads it was (Linux)."""
    return [
        int(child)
        for children in Path(f"/proc/{pid}/task").glob("*/children")
        for child in children.read_text().split()
    ]


def rewrite_journal(run: Path | str, lines: list[dict[str, Any]]) -> None:
    """Have a run's journal hold these lines and no others."""
    for path in Path(run).glob("records-*.jsonl"):
        path.unlink()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (Path(run) / "records.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def mock() -> Iterator[Callable[..., Mock]]:
    """Starts mock servers in threads: `mock(ttft_ms=10, ...)`, the fields of `MockConfig`."""
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(_in_thread(**config))


@pytest.fixture
def mock_process() -> Iterator[Callable[..., Mock]]:
    """Starts `streamgauge mock` with these options."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(_as_process(*options))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no key or URL in the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(_LEFT_OUT)]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def cli(here: Path) -> Callable[..., Result]:
    """The command line in this process: `cli("run", file, ...)`, in the folder `here`."""
    from runner.cli import group

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        data = None if stdin is None else io.BufferedReader(io.BytesIO(stdin))  # as the real one is
        result = CliRunner().invoke(group, words(arguments), input=data, prog_name="streamgauge")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line as a process in `cwd`; what is left running is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, cwd: Path = tmp_path, **more: Any) -> subprocess.Popen[str]:
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        }
        command = options.pop("command", COMMAND)
        process = subprocess.Popen(
            [*command, *words(arguments)], cwd=cwd, text=True, env=_environment(), **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until a condition holds; fails after a minute, or when `alive` (a process) has ended before."""

    def wait(condition: Callable[[], object], alive: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited for a minute"
            if alive is not None and alive.poll() is not None and not condition():
                said = alive.stderr.read() if alive.stderr is not None else ""
                pytest.fail(f"ended early with {alive.returncode}: {said}")
            time.sleep(0.002)

    return wait
