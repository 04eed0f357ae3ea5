"""What the workers of `test_shards.py` do: no network, no journal, quick to start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from runner import worker
from runner.pipe import Message, Pipe, reader


class Say(Message, frozen=True, tag=True):
    text: str


async def echo(pipe: Pipe) -> None:
    """Say everything once more, until it is told to end."""
    done = asyncio.Event()

    def take(message: Say) -> None:
        pipe.send(message)
        if message.text == "end":
            done.set()

    pipe.listen(reader(Say), take)
    await done.wait()


async def facts(pipe: Pipe) -> None:
    """Say what this process hears and shows."""
    ignored = [signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM)]
    shown = " ".join(sys.argv) + " ".join(os.environ.values())
    pipe.send(Say(f"{ignored} {shown} {sys.path[0]}"))
    os.kill(os.getpid(), signal.SIGINT)
    os.killpg(os.getpgid(0), signal.SIGTERM)
    pipe.send(Say(f"alive {os.getpgid(0) == os.getpid()}"))


async def raises(_pipe: Pipe) -> None:
    """Fail as a job can."""
    raise ValueError("no such thing")


async def vanishes(_pipe: Pipe) -> None:
    """Die as only a process can, with a word to stderr."""
    await asyncio.sleep(0.01)
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(7)


async def lingers(pipe: Pipe) -> None:
    """Leave a word in a file when the pipe closes."""
    named: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pipe.listen(reader(Say), lambda message: named.set_result(message.text))
    place = Path(await named)
    pipe.send(Say("here"))
    try:
        await asyncio.sleep(3600)
    finally:
        place.touch()  # noqa: ASYNC240 - it has nothing else to do


async def sticks(pipe: Pipe) -> None:
    """Say a word, and never give the loop its turn again."""
    worker.BEAT_S = worker.LAST_WORDS_S = 0.01
    pipe.send(Say("here"))
    await asyncio.sleep(0.01)
    time.sleep(3600)  # noqa: ASYNC251 - that is the point
