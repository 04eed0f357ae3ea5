"""An event loop for one job, and the process as it was afterwards."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

# What a request leaves behind goes by its count of references. Looking for cycles as often as Python does
# stops a loop of 100 streams for 5 ms at a time (25 ms in 4 s), and finds next to nothing.
_SELDOM = (50_000, 20, 100)
T = TypeVar("T")


def run_on_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a job to its end, under uvloop where there is one. Blocks."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*_SELDOM)
    try:
        _run(main)
    finally:
        gc.set_threshold(*thresholds)


async def unless(stopped: Coroutine[Any, Any, Any], what: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
    """Do something, or as much of it as comes before `stopped` returns: it is cancelled then.

    Returns:
        Whether it was done, and its result.
    """
    doing, stopping = asyncio.create_task(what), asyncio.create_task(stopped)
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    return (False, None) if doing.cancelled() else (True, doing.result())


def _run(main: Coroutine[Any, Any, None]) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(main)
        finally:
            # uvloop leaves its own behind, deaf: what follows must still end by Ctrl-C.
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
