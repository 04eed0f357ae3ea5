"""What a stream costs is what its bytes cost: counted in calls and in bytes copied, never in seconds."""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex

import pytest

from runner import stream as module
from runner.answer import Answer
from runner.sse import Parser
from runner.stream import Stream
from runner.unpack import Unpacker
from tests.runner.streams import NEVER, delta, sse, until
from tests.runner.streams_json import call, fn
from tests.runner.test_stream import Play


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called meanwhile, those of C included."""
    count = 0

    def note(_frame: Any, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def read(pieces: list[bytes]) -> Answer:
    parser, answer = Parser(), Answer()
    for at, data in enumerate(pieces):
        for event in parser.feed(data, at, at - 1):
            answer.feed(event)
    for event in parser.finish(0):
        answer.tail(event)
    answer.main_choice()
    answer.all_choices()
    answer.extra()
    answer.chunk_tokens()
    return answer


def in_bytes(data: bytes, size: int = 1) -> list[bytes]:
    return [data[n : n + size] for n in range(0, len(data), size)]


def _text(n: int) -> str:
    return "x" * n


STREAMS: dict[str, Callable[[int], list[bytes]]] = {
    "events in one read": lambda n: [sse(delta("a")) * n],
    "an event a read": lambda n: [sse(delta("a"))] * n,
    "events of the general way": lambda n: [sse({**delta("a"), "zz": 1})] * n,
    "comments": lambda n: [b": ping\n\n"] * n,
    "blank lines": lambda n: [b"\n"] * n,
    "one event in single bytes": lambda n: in_bytes(sse(delta(_text(n)))),
    "one event in reads of 100": lambda n: in_bytes(sse(delta(_text(100 * n))), 100),
    "one event of many lines": lambda n: [b"data: \n"] * n + [b"data: 1\n\n"],
    "bare lines inside one event": lambda n: [b"data: 1\n", *[b"{}\n"] * n, b"\n"],
    "tool arguments": lambda n: [sse(call(index=0, function=fn(None, "{}")))] * n,
    "tool names": lambda n: [sse(*[call(index=0, function=fn(f"{k % 7}")) for k in range(n)])],
    "tool calls": lambda n: [sse(*[call(index=k, id=f"i{k}", function=fn("f")) for k in range(n)])],
    "tool calls without an index": lambda n: [sse(*[call(id=f"i{k}", function=fn("f")) for k in range(n)])],
    "tool calls, by turns": lambda n: [
        sse(*[call(index=k % 50, id=f"i{k % 50}", function=fn("f", "{")) for k in range(n)])
    ],
    "extra lists": lambda n: [sse(delta("a", annotations=[{"n": 1}], note="x", more={"k": [1]}))] * n,
    "choices": lambda n: [sse(*[delta("a", index=k) for k in range(n)])],
    "messages": lambda n: [sse({"choices": [{"message": {"content": "a"}}]})] * n,
    "lines that are events": lambda n: [b"data: {}\n" * n + b"\n"],
}


@pytest.mark.parametrize("name", list(STREAMS))
def test_twice_as_much_costs_twice_as_much(name: str) -> None:
    make = STREAMS[name]
    small, large = make(300), make(600)
    read(small)  # what is done once only is done
    assert calls_of(lambda: read(large)) <= 2.05 * calls_of(lambda: read(small)) + 50


# Where a single call could hide the copying, so much of it that a square would not end in this test's time.


def test_a_name_in_a_hundred_thousand_pieces() -> None:
    answer = Answer()
    answer.feed((sse(call(index=0, function=fn("f")))[6:-2], "", 0))
    part = sse(call(index=0, function=fn("0123456789")))[6:-2]
    for at in range(100_000):
        answer.feed((part, "", at))
    assert len(answer.main_choice()["tool_calls"][0]["function"]["name"]) == 1_000_001


def test_arguments_in_a_hundred_thousand_pieces() -> None:
    answer = Answer()
    part = sse(call(index=0, function=fn(None, "0123456789")))[6:-2]
    for at in range(100_000):
        answer.feed((part, "", at))
    assert len(answer.main_choice()["tool_calls"][0]["function"]["arguments"]) == 1_000_000


def test_five_megabytes_in_reads_of_a_kilobyte() -> None:
    text = "x" * 5_000_000
    assert len(read(in_bytes(sse(delta(text, finish="stop")), 1000)).text()) == len(text)


def test_a_hundred_kilobytes_in_single_bytes() -> None:
    text = "x" * 100_000
    assert len(read(in_bytes(sse(delta(text, finish="stop")))).text()) == len(text)


class Copied(bytes):
    """Bytes that count what is cut out of them."""

    total = 0

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        part = super().__getitem__(place)
        if isinstance(part, bytes):
            Copied.total += len(part)
        return part


async def test_a_long_read_is_cut_up_once() -> None:
    play = Play()
    play.begin()
    data = Copied(sse(delta("a")) * 10_000)
    Copied.total = 0
    play.body(data)
    await until(lambda: not play.stream._backlog)
    play.stream.cut(by="user")
    assert len(data) > 30 * module._SLICE
    assert Copied.total == len(data)
    assert len(play.stream.answer.token_at) == 10_000


async def test_what_is_left_of_a_long_read_is_parsed_at_a_cut_and_nothing_twice() -> None:
    play = Play()
    play.begin()
    texts = [f"{n:05}" for n in range(10_000)]
    play.body(sse(*map(delta, texts)))
    play.body(sse(delta("end")))
    for _ in range(3):
        await asyncio.sleep(0)
    play.stream.cut(by="user")
    assert play.stream.answer.text() == "".join([*texts, "end"])


async def test_a_cut_while_a_long_read_is_parsed_parses_nothing_twice() -> None:
    play = Play()
    play.stream = Stream(NEVER, stop_after=3)
    play.begin()
    texts = [f"{n:05}" for n in range(10_000)]
    play.body(sse(*map(delta, texts)))
    await until(lambda: play.stream.ended_at is not None)
    assert play.stream.cancelled_by == "stop_rule"
    text = play.stream.answer.text()
    assert text == "".join(texts)[: len(text)]


@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b" \t"])
async def test_white_space_before_the_first_byte_is_not_kept(lead: bytes, space: bytes) -> None:
    play = Play()
    play.begin()
    for data in in_bytes(lead + space * 1000):
        play.body(data)
        assert sum(map(len, play.stream.document)) <= 4
    play.body(b"\n" + sse(delta("Hello", finish="stop")))
    play.stream.ended(None, 1)
    assert play.stream.answer.text() == "Hello"


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_unpacking_in_single_bytes(packed: str) -> None:
    def work(n: int) -> Iterator[bytes]:
        data = bytes(range(256)) * n
        unpacker = Unpacker(packed)
        for one in in_bytes(gzip.compress(data) if packed == "gzip" else zlib.compress(data)):
            yield from unpacker.feed(one)

    list(work(1))
    one, two = calls_of(lambda: list(work(500))), calls_of(lambda: list(work(1000)))
    assert two <= 2.2 * one
