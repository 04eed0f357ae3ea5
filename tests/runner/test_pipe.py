"""Frames and pipes: every message once, whole and in order, however the bytes come."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runner.pipe import Frames, Message, frame, open_pipe, reader


class Word(Message, frozen=True, tag=True):
    text: str


class Number(Message, frozen=True, tag=True):
    value: int


READ = reader(Word, Number)
messages = st.lists(st.builds(Word, st.text()) | st.builds(Number, st.integers(-(2**63), 2**63 - 1)))


@given(messages, st.data())
def test_messages_come_out_as_they_went_in_wherever_the_bytes_are_cut(
    sent: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(frame(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    frames, found = Frames(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += [READ(payload) for payload in frames.feed(stream[start:end])]
    assert found == sent


def test_a_frame_of_a_megabyte_comes_in_small_pieces() -> None:
    stream, frames = frame(Word("x" * (1 << 20))) + frame(Number(1)), Frames()
    found = [one for at in range(0, len(stream), 999) for one in frames.feed(stream[at : at + 999])]
    assert [READ(payload) for payload in found] == [Word("x" * (1 << 20)), Number(1)]


def test_both_ends_talk_and_what_comes_before_anybody_listens_is_kept() -> None:
    async def talk() -> tuple[list[Any], list[Any]]:
        one, other = [await open_pipe(end) for end in socket.socketpair()]
        for value in range(3):
            one.send(Number(value))
        await asyncio.sleep(0.01)
        here: list[Any] = []
        there: list[Any] = []

        def answer(message: Message) -> None:
            there.append(message)
            other.send(message)

        one.listen(READ, here.append)
        other.listen(READ, answer)
        one.send(Word("last"))
        await one.close()  # what was sent in this turn still goes
        await other.closed
        return here, there

    here, there = asyncio.run(talk())
    assert there == [Number(0), Number(1), Number(2), Word("last")]
    assert here in ([], there[:3])


def test_a_turn_s_messages_leave_in_one_write() -> None:
    async def writes() -> int:
        one, other = [await open_pipe(end) for end in socket.socketpair()]
        written: list[bytes] = []
        assert one._transport is not None
        one._transport.write = written.append  # type: ignore[method-assign, assignment]
        for value in range(100):
            one.send(Number(value))
        assert not written
        await asyncio.sleep(0)
        one.abort()
        other.abort()
        return len(written)

    assert asyncio.run(writes()) == 1
