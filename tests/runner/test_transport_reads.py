"""Reads of one poll: all stamped, then parsed, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.stream import Stream
from runner.timeouts import Timeouts
from runner.transport import Handler, Reads


class FakeLoop:
    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class FakeHandler:
    def __init__(self, log: list[Any], reads: Reads, raises: bool = False) -> None:
        self.log = log
        self.reads = reads
        self.raises = raises

    def parse(self, data: bytes, stamp: int) -> None:
        self.log.append((data, stamp))
        if self.raises:
            raise KeyError(data)
        self.reads.parse()  # somebody cuts, and wants to know what came: what waits has its turn all the same

    def abort(self) -> None:
        self.log.append("abort")


def made() -> tuple[FakeLoop, Reads, list[Any]]:
    loop = FakeLoop()
    return loop, Reads(loop), []  # type: ignore[arg-type]


def test_a_poll_is_parsed_in_order_in_one_go_after_it() -> None:
    loop, reads, log = made()
    handler: Any = FakeHandler(log, reads)
    for stamp in range(3):
        reads.add(handler, b"%d" % stamp, stamp)
    assert log == []
    assert len(loop.soon) == 1
    loop.turn()
    assert log == [(b"0", 0), (b"1", 1), (b"2", 2)]
    reads.add(handler, b"3", 3)
    assert len(loop.soon) == 1


def test_a_flush_leaves_nothing_for_later() -> None:
    loop, reads, log = made()
    handler: Any = FakeHandler(log, reads)
    reads.add(handler, b"x", 1)
    reads.parse()
    assert log == [(b"x", 1)]
    loop.turn()
    assert log == [(b"x", 1)]


def test_one_that_raises_is_aborted_and_the_others_go_on() -> None:
    loop, reads, log = made()
    bad: Any = FakeHandler(log, reads, raises=True)
    good: Any = FakeHandler(log, reads)
    reads.add(bad, b"bad", 1)
    reads.add(good, b"good", 2)
    with pytest.raises(KeyError):
        loop.turn()
    loop.turn()
    assert log == [(b"bad", 1), "abort", (b"good", 2)]


class Heard:
    """A sink that notes what it is told."""

    fresh = False

    def __init__(self) -> None:
        self.log: list[Any] = []

    def connected(self, handler: Handler, connect_ns: int | None) -> None:
        pass

    def sent(self, at: int) -> None:
        pass

    def head(self, message: Any, at: int) -> None:  # noqa: ARG002
        self.log.append(("head", at))

    def body(self, data: bytes, at: int) -> None:
        self.log.append((data, at))

    def ended(self, exc: BaseException | None, at: int) -> None:  # noqa: ARG002
        self.log.append(("ended", exc))


async def _handler() -> tuple[Handler, Heard]:
    loop = asyncio.get_running_loop()
    handler = Handler(loop, Reads(loop))
    handler.set_response_params(read_bufsize=1 << 20)
    heard = Heard()
    handler.attach(heard)  # type: ignore[arg-type]
    return handler, heard


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_the_stamp_is_that_of_the_read_and_not_of_the_parsing() -> None:
    handler, heard = await _handler()
    handler.data_received(HEAD + b"2\r\nab\r\n")
    assert heard.log == []
    between = asyncio.get_running_loop().time() * 1e9
    await asyncio.sleep(0.002)
    assert [what for what, _ in heard.log] == ["head", b"ab"]
    assert all(at <= between + 1e6 for _, at in heard.log)


async def test_what_was_read_before_the_end_is_told_before_it() -> None:
    handler, heard = await _handler()
    handler.data_received(HEAD + b"2\r\nab\r\n")
    handler.connection_lost(None)
    assert [what for what, _ in heard.log] == ["head", b"ab", "ended"]


async def test_a_large_read_is_not_kept_waiting() -> None:
    handler, heard = await _handler()
    data = b"x" * 20_000
    handler.data_received(HEAD)
    handler.data_received(b"%x\r\n%b\r\n" % (len(data), data))
    assert [what for what, _ in heard.log] == ["head", data]


async def test_what_was_dropped_is_parsed_no_more() -> None:
    handler, heard = await _handler()
    handler.data_received(HEAD + b"2\r\nab\r\n")
    handler.drop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard.log == []


async def test_a_cut_keeps_what_had_been_read() -> None:
    handler, _ = await _handler()
    stream = Stream(Timeouts())
    handler.attach(stream)
    data = b'data: {"choices":[{"index":0,"delta":{"content":"kept"}}]}\n\n'
    handler.data_received(HEAD + b"%x\r\n%b\r\n" % (len(data), data))
    stream.cut(by="user")
    assert stream.cancelled_by == "user"
    assert stream.answer.text() == "kept"
