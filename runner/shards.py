"""Workers: child processes, each with a pipe of its own, so that each can die alone.

What a worker is to do comes over its pipe, secrets too: a process's arguments and environment are seen by
others. It is in a process group of its own, and so never hears a terminal's Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from runner.pipe import Message, Pipe, open_pipe, reader
from runner.worker import Beat, Broken, Up

START_S = 120.0  # a machine may be busy
_TICK_S = 1.0
_MOST_TICKS = 30  # of silence: a worker that hangs says nothing; one that is only slow says so every second
_FIRST_TICKS = 120  # until its first beat: what it is to do may be much to read
_END_S = 20.0  # from the end of its pipe to that of its process
_KEPT = 4096  # bytes of what it writes to stderr: of its end
_ROOT = Path(__file__).parents[1]
# The folder the package was found in goes last: nothing of it hides what the parent found elsewhere.
_CODE = f"import sys; sys.path.append({str(_ROOT)!r}); from runner.worker import main; main()"


class WorkerError(Exception):
    """A worker that did not start. The text says which and why; a secret may be in it: redact it."""


class Death(msgspec.Struct, frozen=True):
    """How a worker ended."""

    code: int  # exit code; below 0 a signal
    broken: Broken | None = None  # what its job raised, if it came to say so
    said: str = ""  # the end of what it wrote to stderr
    lost: str = ""  # of one on another machine: how it went
    silent_s: int = 0  # it was killed because it had said nothing for so long

    @property
    def words(self) -> str:
        """What became of it, to go after its name."""
        if self.lost:
            return self.lost
        if self.broken is not None:
            return f"broke ({self.broken.kind}: {self.broken.message})"
        if self.silent_s:
            return f"gave no sign of life for {self.silent_s} s and was killed"
        if self.code >= 0:
            last = self.said.strip().rpartition("\n")[2]
            return f"ended with code {self.code}" + (f" ({last})" if last else "")
        with contextlib.suppress(ValueError):
            return f"was killed by signal {-self.code} ({signal.Signals(-self.code).name})"
        return f"was killed by signal {-self.code}"


class AnyWorker(Protocol):
    """One of them, as the parent has it: a `Worker` here, or a `Node` elsewhere."""

    number: int
    about: dict[str, Any]  # for the manifest
    ended: asyncio.Future[Death]

    def send(self, message: Message) -> None: ...  # noqa: D102
    async def close(self, within_s: float = ...) -> Death: ...  # noqa: D102
    async def end(self, within_s: float = ...) -> Death: ...  # noqa: D102


W = TypeVar("W", bound=AnyWorker)


class Silence:
    """How long a worker has said nothing: in ticks of the parent's own loop, not by a clock.

    A parent that was stopped, or slept with its machine, has not listened meanwhile. Such a gap, however
    long, is one tick, and what came during it is heard before the next.
    """

    def __init__(self) -> None:
        self._ticks = 0
        self._most = _FIRST_TICKS

    def broken(self, *, beat: bool = False) -> None:
        """It said something. `beat`: that its loop turns."""
        self._ticks = 0
        if beat:
            self._most = _MOST_TICKS

    def tick(self) -> int:
        """Another second of the parent's went by. Returns how many it was silent, where that is too long."""
        self._ticks += 1
        return self._most if self._ticks > self._most else 0


class Worker:
    """One of them, as the parent has it. Made by `start_worker`."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], pipe: Pipe) -> None:
        self.number = number
        self.pid = process.pid
        self.about: dict[str, Any] = {"pid": process.pid}
        self.ended: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self._process = process
        self._pipe = pipe
        self._broken: Broken | None = None
        self._said = bytearray()
        self._silence = Silence()
        self._silent_s = 0
        self._watching = asyncio.create_task(self._watch())

    def send(self, message: Message) -> None:
        """Send it a message at the end of this turn; to one that has ended, nothing goes."""
        self._pipe.send(message)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(OSError):
            self._process.kill()

    async def close(self, within_s: float = _END_S) -> Death:
        """Close its pipe, which ends it, and wait for its end."""
        self._pipe.abort()
        return await self.end(within_s)

    async def end(self, within_s: float = _END_S) -> Death:
        """Wait for an end that it knows of; kill it where that does not come in time."""
        done, _ = await asyncio.wait({self.ended}, timeout=within_s)
        if not done:
            self.kill()
        return await self.ended

    # -- inside

    async def _up(self, kinds: tuple[type[Message], ...], take: Callable[[Any], None]) -> None:
        """Listen to it, and wait until its job has begun."""
        up = asyncio.get_running_loop().create_future()

        def mine(message: Any) -> None:
            self._silence.broken(beat=isinstance(message, Beat))
            if isinstance(message, Beat):
                return
            if isinstance(message, Broken):
                self._broken = message
            elif isinstance(message, Up):
                up.set_result(None)
                asyncio.get_running_loop().call_later(_TICK_S, self._tick)
            else:
                take(message)

        self._pipe.listen(reader(Up, Beat, Broken, *kinds), mine)
        await asyncio.wait({up, self.ended}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            running = not self.ended.done()
            if running:
                self.kill()
            death = await self.ended
            words = f"has not begun within {START_S:g} s" if running else death.words
            raise WorkerError(f"worker {self.number} did not start: it {words}")

    def _tick(self) -> None:
        if self._pipe.closed.done():
            return
        self._silent_s = self._silence.tick()
        if self._silent_s:
            self.kill()
        else:
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    async def _watch(self) -> None:
        loop, err = asyncio.get_running_loop(), self._process.stderr
        assert err is not None
        os.set_blocking(err.fileno(), False)
        loop.add_reader(err.fileno(), self._hear)
        try:
            await self._pipe.closed
            code = await asyncio.to_thread(self._reap)
        except asyncio.CancelledError:  # the loop ends, and nobody would see to it any more
            self.kill()
            code = self._process.wait()
        loop.remove_reader(err.fileno())
        self._hear()
        err.close()
        if self._pipe.garbled:
            self._broken = Broken(
                "VersionError", "it is of another Streamgauge, installed while this one ran"
            )
        said = self._said.decode("utf-8", "replace")
        self.ended.set_result(Death(code, self._broken, said, silent_s=self._silent_s))

    def _hear(self) -> None:
        """Keep the end of what it writes to stderr: all there is where it dies before it can speak."""
        err = self._process.stderr
        assert err is not None
        while True:
            try:
                data = os.read(err.fileno(), 1 << 16)
            except OSError:  # nothing just now
                return
            if not data:
                asyncio.get_running_loop().remove_reader(err.fileno())
                return
            self._said += data
            del self._said[:-_KEPT]

    def _reap(self) -> int:
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


async def start_worker(
    number: int,
    job: str,
    first: Message,
    *,
    kinds: tuple[type[Message], ...],
    take: Callable[[Any], None],
) -> Worker:
    """Start a worker, and wait until its job has begun.

    Args:
        number: its own, for messages.
        job: `module:function` of what it does: a coroutine function that is given its pipe.
        first: the message it finds there.
        kinds: of messages it sends.
        take: is given each of them, on the loop; the first may come before this returns. After the last one,
            `Worker.ended` tells.

    Raises:
        WorkerError: it did not start.
    """
    ours, theirs = socket.socketpair()
    try:
        process = await _spawned(theirs, job)
    except BaseException as exc:
        ours.close()
        if not isinstance(exc, OSError):
            raise
        raise WorkerError(f"worker {number} could not be started: {exc.strerror}") from None
    finally:
        theirs.close()
    worker = Worker(number, process, await open_pipe(ours))
    worker.send(first)
    try:
        await worker._up(kinds, take)  # noqa: SLF001 - it and this function are one thing
    except BaseException:
        worker.kill()
        await worker.ended
        raise
    return worker


async def start_workers(starts: list[Awaitable[W]]) -> list[W]:
    """Wait for several `start_worker(...)` at once; where one fails, or this is cancelled, all are ended.

    Raises:
        WorkerError: of the first that did not start.
    """
    tasks = [asyncio.ensure_future(one) for one in starts]
    try:
        # `gather` would cancel them itself, and the first that is over would have the others cancelled twice.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return [task.result() for task in tasks]
    except BaseException:
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in found if not isinstance(one, BaseException)))
        raise


async def _spawned(end: socket.socket, job: str) -> subprocess.Popen[bytes]:
    """A process, which is not left alone where nobody waits for it any more."""
    # A fork takes its time where the process is large; the loop has others to see to.
    spawning = asyncio.create_task(asyncio.to_thread(_spawn, end, job))
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            process = await spawning
            process.kill()
            process.communicate()
        raise


def _spawn(end: socket.socket, job: str) -> subprocess.Popen[bytes]:
    # -P: a file in the working directory is no module of ours.
    return subprocess.Popen(  # noqa: S603 - this interpreter, and names of our own
        [sys.executable, "-P", "-c", _CODE, str(end.fileno()), job],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(end.fileno(),),
        process_group=0,
    )
