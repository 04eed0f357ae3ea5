"""A worker's process, from its first line to its last: what `runner/shards.py` starts.

It ends when its job does, or when the pipe to its parent closes, however the parent went. What stops a run
(Ctrl-C, SIGTERM) is the parent's to hear: a worker is told over the pipe. Once a second its loop says that it
still turns, so that the parent knows a worker that hangs from one that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from runner.on_loop import run_on_loop
from runner.pipe import Message, Pipe, open_pipe

BEAT_S = 1.0  # apart
LAST_WORDS_S = 10.0  # of a worker without a parent: enough to write the lines it holds


class Up(Message, frozen=True, tag=True):
    """It runs, and its job has begun."""


class Beat(Message, frozen=True, tag=True):
    """Its loop turns."""


class Broken(Message, frozen=True, tag=True):
    """Its job, or the way to it, raised. `kind`: of the exception. It may hold anything: redact it."""

    kind: str
    message: str


def main() -> None:
    """The process: `fd` of its end of the pipe and `module:function` of its job are its arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    fd, job = sys.argv[1:]
    code: list[int] = []
    run_on_loop(_work(socket.socket(fileno=int(fd)), job, code))
    sys.exit(code[0])


async def _work(end: socket.socket, name: str, code: list[int]) -> None:
    pipe = await open_pipe(end)
    try:
        job = asyncio.ensure_future(_job(name)(pipe))
        pipe.send(Up())
        while not (job.done() or pipe.closed.done()):
            await asyncio.wait({job, pipe.closed}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
            pipe.send(Beat())
        if not job.done():
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job
        else:
            await job
        code.append(0)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the parent is told
        pipe.send(Broken(type(exc).__name__, str(exc)))
        code.append(1)
    await pipe.close()


def _job(name: str) -> Callable[[Pipe], Any]:
    module, _, function = name.partition(":")
    found: Callable[[Pipe], Any] = getattr(importlib.import_module(module), function)
    return found


def _end_without(parent: int) -> None:
    """End what hangs where nobody else would any more: in a thread, for it may be the loop that does."""
    while os.getppid() == parent:
        time.sleep(BEAT_S)
    time.sleep(LAST_WORDS_S)
    os._exit(1)
