"""Workers as processes: what they are given, how they die, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from runner import shards
from runner.shards import Death, Silence, Worker, WorkerError, start_worker, start_workers
from tests.runner.shard_jobs import Say

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
JOBS = "tests.runner.shard_jobs"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need socket pairs")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited())


def start(
    job: str, text: str = "hello", take: Callable[[Any], None] = lambda _: None, number: int = 0
) -> Coroutine[Any, Any, Worker]:
    name = job if ":" in job else f"{JOBS}:{job}"
    return start_worker(number, name, Say(text), kinds=(Say,), take=take)


def test_a_worker_says_what_it_is_told_and_one_dies_alone() -> None:
    async def main() -> tuple[list[list[str]], list[Death]]:
        said: list[list[str]] = [[], []]
        heard = [(lambda m, to=to: to.append(m.text)) for to in said]
        one, other = await start_workers([start("echo", "hello", heard[n], n) for n in range(2)])
        one.kill()
        deaths = [await one.ended]
        other.send(Say("still there"))
        other.send(Say("end"))
        deaths.append(await other.end())
        one.send(Say("to nobody"))
        return said, deaths

    said, deaths = run(main())
    assert said[0] in ([], ["hello"])
    assert said[1] == ["hello", "still there", "end"]
    assert [death.code for death in deaths] == [-9, 0]
    assert deaths[0].words == "was killed by signal 9 (SIGKILL)"


def test_a_worker_hears_no_signal_of_the_run_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a file here must not be taken for a module
    (tmp_path / "msgspec.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    async def main() -> list[str]:
        said: list[str] = []
        worker = await start("facts", "sk-secret", lambda m: said.append(m.text))
        assert (await worker.end()).code == 0
        return said

    said = run(main())
    assert said[0].startswith("[True, True]")
    assert "sk-secret" not in said[0]
    assert said[1] == "alive True"


def test_what_keeps_a_worker_from_starting_is_told() -> None:
    async def why(job: str) -> str:
        with pytest.raises(WorkerError) as caught:
            await start(job, number=3)
        return str(caught.value)

    async def main() -> list[str]:
        return list(await asyncio.gather(why("tests.no_such_module:job"), why("no_such_job")))

    module, name = run(main())
    assert module == (
        "worker 3 did not start: it broke (ModuleNotFoundError: No module named 'tests.no_such_module')"
    )
    assert "no attribute 'no_such_job'" in name


def test_a_loop_that_ends_takes_its_workers_with_it() -> None:
    pids = []

    async def main() -> None:
        worker = await start("lingers")
        pids.append(worker.pid)

    run(main())
    assert not _runs(pids[0])


def test_where_the_start_is_given_up_no_worker_is_left(tmp_path: Path) -> None:
    async def main() -> tuple[Worker, bool]:
        begun: list[Worker] = []
        here = asyncio.Event()

        async def first() -> Worker:
            begun.append(await start("lingers", str(tmp_path / "word")))
            here.set()
            return begun[0]

        never = asyncio.get_running_loop().create_future()
        starting = asyncio.create_task(start_workers([first(), never]))
        await here.wait()
        starting.cancel()
        await asyncio.wait({starting})
        return begun[0], starting.cancelled() and begun[0].ended.done()

    worker, is_over = run(main())
    assert is_over
    assert not _runs(worker.pid)


def test_a_start_that_is_given_up_has_the_time_to_end_its_worker() -> None:
    async def main() -> list[str]:
        said: list[str] = []
        here = asyncio.Semaphore(0)

        async def begins(name: str, turns: int) -> Worker:
            here.release()
            try:
                return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
            finally:
                for _ in range(turns):
                    await asyncio.sleep(0)
                said.append(name)

        starting = asyncio.create_task(start_workers([begins("quick", 0), begins("slow", 20)]))
        for _ in range(2):
            await here.acquire()
        starting.cancel()
        await asyncio.wait({starting})
        return said

    assert run(main()) == ["quick", "slow"]


def test_a_process_nobody_waits_for_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[subprocess.Popen[bytes]] = []
    spawn, forking, go = shards._spawn, threading.Event(), threading.Event()

    def slow(*given: Any) -> subprocess.Popen[bytes]:
        forking.set()
        assert go.wait(30)
        made.append(spawn(*given))
        return made[0]

    monkeypatch.setattr(shards, "_spawn", slow)

    async def main() -> None:
        starting = asyncio.create_task(start("lingers"))
        assert await asyncio.to_thread(forking.wait, 30)
        starting.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait({starting})
        assert starting.cancelled()

    run(main())
    assert made[0].returncode == -9


def test_how_a_job_ended_is_told() -> None:
    async def main() -> list[Death]:
        async def death(job: str) -> Death:
            return await (await start(job)).ended

        return list(await asyncio.gather(death("raises"), death("vanishes")))

    raised, vanished = run(main())
    assert (raised.code, raised.words) == (1, "broke (ValueError: no such thing)")
    assert (vanished.code, vanished.words) == (7, "ended with code 7 (out of luck)")


def test_a_worker_of_another_version_is_told_as_one() -> None:
    async def main() -> Death:
        worker = await start_worker(0, f"{JOBS}:echo", Say("hello"), kinds=(), take=lambda _: None)
        return await worker.ended

    assert run(main()).words == (
        "broke (VersionError: it is of another Streamgauge, installed while this one ran)"
    )


def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_TICK_S", 0.005)

    async def main() -> Death:
        worker = await start("lingers")
        os.kill(worker.pid, signal.SIGSTOP)
        return await worker.ended

    # Of one that has not beaten yet. How long the others have: below.
    assert run(main()).words == "gave no sign of life for 120 s and was killed"


def test_a_second_in_which_the_parent_did_not_run_is_not_one_of_silence() -> None:
    silence = Silence()

    def seconds(count: int) -> int:
        return max(silence.tick() for _ in range(count))

    assert not seconds(120)
    silence.broken()
    assert not seconds(120)
    silence.broken(beat=True)
    assert not seconds(29)
    # An hour of sleep, of the parent or of the machine: its timer rings once.
    assert not seconds(1)
    silence.broken()
    assert not seconds(30)
    assert seconds(1) == 30


def test_no_worker_outlives_its_parent_not_even_one_that_hangs(tmp_path: Path) -> None:
    place = tmp_path / "last"
    code = (
        "import asyncio, os, signal, sys\n"
        "from runner.shards import start_workers\n"
        "from tests.runner.test_shards import start\n"
        "async def main():\n"
        "    here = asyncio.Semaphore(0)\n"
        f"    begin = lambda job: start(job, {str(place)!r}, lambda m: here.release())\n"
        "    workers = await start_workers([begin('lingers'), begin('sticks')])\n"
        "    await here.acquire()\n"
        "    await here.acquire()\n"
        "    print(*(worker.pid for worker in workers), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -9, done.stderr
    deadline = time.monotonic() + 30
    for pid in map(int, done.stdout.split()):
        while _runs(pid):
            assert time.monotonic() < deadline, "the worker is still there"
            time.sleep(0.01)
    assert place.exists(), "its job was not given the time to end"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
