"""What a worker elsewhere has to say: in batches, each kept until the other side has seen to it."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.far_worker import FarWorker, Outbox
from runner.orders import Line
from runner.pipe import Frames, frame, reader
from runner.worker import Broken

_decode = reader(Line, Broken)


def read(data: bytes) -> list[Any]:
    return [_decode(payload) for payload in Frames().feed(data)]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["put", "take", "lose", "keep"]), max_size=60))
def test_every_message_comes_once_and_in_order_whatever_answers_are_lost(steps: list[str]) -> None:
    async def main() -> None:
        out, sent, got = Outbox(), 0, list[int]()
        received = kept = 0
        for step in [*steps, "take", "take"]:
            if step == "put":
                out.put(Line(sent, b"x"))
                sent += 1
            elif step == "keep":
                kept = received
            else:
                number, data = await out.take(received, kept, wait_s=0)
                if step == "take" and number > received:
                    received = number
                    got += [line.number for line in read(data)]
        assert got == list(range(sent))
        await out.take(received, received, wait_s=0)
        assert not out._batches, "what is in the journal is kept here all the same"

    asyncio.run(main())


def test_a_batch_has_an_end() -> None:
    async def main() -> list[int]:
        out = Outbox()
        for number in range(3):
            out.put(Line(number, b"x" * (3 << 20)))
        sizes, received = [], 0
        for _ in range(2):
            received, data = await out.take(received, 0)
            sizes.append(len(read(data)))
        return sizes

    assert asyncio.run(main()) == [2, 1]


def test_who_takes_waits_for_something_to_say() -> None:
    async def main() -> tuple[int, bytes]:
        out = Outbox()
        taken = asyncio.create_task(out.take(0, 0))
        await asyncio.sleep(0)
        out.put(Line(7, b"late"))
        return await taken

    number, data = asyncio.run(main())
    assert number == 1
    assert read(data) == [Line(7, b"late")]


def test_no_call_raises_and_what_breaks_a_worker_is_told() -> None:
    async def main() -> list[Any]:
        worker = FarWorker()
        await worker.push(frame(Line(1, b"no order")))  # it knows no such order
        await asyncio.sleep(0)
        return read((await worker.pull(0, 0))[1])

    (said,) = asyncio.run(main())
    assert isinstance(said, Broken)
    assert said.kind == "ValidationError"
