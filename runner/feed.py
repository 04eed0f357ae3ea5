"""What a run still has to send, in the order of its prompt file, read a block ahead in a thread."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator
from contextlib import aclosing

from runner.rundir import Opened
from scenarios.prompts import Plan
from scenarios.request import Request, digest64

_TURN_S = 0.0005  # how long rows may be skipped before the loop gets its turn


async def feed(plan: Plan, opened: Opened, pilot: int | None) -> AsyncGenerator[Request]:
    """The requests to send: all that are left, or of a pilot so many, spread evenly over them."""
    to_send = plan.requests - len(opened.settled)
    async with aclosing(_left(plan, opened)) as left:
        if pilot is None or pilot >= to_send:
            async for request in left:
                yield request
            return
        place, sent = 0, 0
        async for request in left:
            # The middle of each of `pilot` equal stretches.
            if place == (2 * sent + 1) * to_send // (2 * pilot):
                yield request
                sent += 1
                if sent == pilot:
                    return
            place += 1


def first_of(plan: Plan) -> Request | None:
    """The plan's first request. Reads the file: not for the event loop."""
    builder = plan.builder()
    for block in plan.blocks():
        for request in builder.feed(block):
            return request
    return next(iter(builder.end()), None)


async def _left(plan: Plan, opened: Opened) -> AsyncGenerator[Request]:
    settled, part = array("Q", opened.settled.tobytes()), opened.part

    def is_left(request: Request) -> bool:
        digest = digest64(request.id)
        return not _among(settled, digest) and (part is None or part.has(digest))

    blocks, builder = plan.blocks(), plan.builder(opened.not_needed())
    turn = time.perf_counter()
    block = await asyncio.to_thread(next, blocks, None)
    while block is not None:
        ahead = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
        try:
            for request in builder.feed(block):
                if is_left(request):
                    yield request
                elif time.perf_counter() - turn > _TURN_S:
                    await asyncio.sleep(0)
                    turn = time.perf_counter()
            if builder.done:
                return
        finally:
            block = await ahead
    for request in builder.end():
        if is_left(request):
            yield request


def _among(sorted_digests: array[int], digest: int) -> bool:
    place = bisect_left(sorted_digests, digest)
    return place < len(sorted_digests) and sorted_digests[place] == digest
