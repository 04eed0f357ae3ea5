"""The steady way says what the full way says, or nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.answer import Answer
from runner.sse import Parser
from runner.steady import Steady
from runner.stream import Stream
from runner.timeouts import Timeouts


def event(text: Any, **more: Any) -> bytes:
    body = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def taught(text: str = "one") -> Steady:
    steady = Steady()
    steady.learn(event(text), text)
    return steady


def test_knows_nothing_at_first() -> None:
    assert Steady().text_of(event("x")) is None
    assert Steady().text_of(b"") is None


@pytest.mark.parametrize(
    "text", ["two", " ", 'a "quote"', "back\\slash", "\n", "\u2028", "é", "😀", '"}]}', "{"]
)
def test_the_same_shape_with_another_text(text: str) -> None:
    assert taught().text_of(event(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        event(""),
        event(None),
        event("x", finish_reason="stop"),
        event("x").replace(b'"c1"', b'"c2"'),
        event("x")[:-1],
        event("x") + event("y"),
        event("x") + b": ping\n\n",
        b": ping\n\n" + event("x"),
        event("x").replace(b'"x"', b'"x", "role": "assistant"'),
        event("x").replace(b'"x"', b'"x", "content": "y"'),
        event("x").replace(b'"x"', b'"\xff"'),
        event("x").replace(b'"x"', b'"\\ud800"'),
        event("x").replace(b'"x"', b'"a\nb"'),
        event("x").replace(b'"x"', b'"x'),
        event("x").replace(b'"x"', b"1"),
        event("x").replace(b'"x"', b'"'),
        b"data: [DONE]\n\n",
        b"",
    ],
)
def test_any_doubt_is_none(data: bytes) -> None:
    assert taught().text_of(data) is None


def test_learns_nothing_from_two_texts_or_another_text() -> None:
    steady = Steady()
    steady.learn(b'data: {"choices":[{"delta":{"content":"a","x":{"content":"a"}}}]}\n\n', "a")
    assert steady.text_of(b'data: {"choices":[{"delta":{"content":"b","x":{"content":"a"}}}]}\n\n') is None
    steady.learn(event("a"), "b")
    assert steady.text_of(event("c")) is None


def test_gives_up_on_padding_and_not_on_a_steady_stream() -> None:
    steady = Steady()
    for n in range(10):
        steady.learn(event("a", pad="p" * n), "a")
    assert steady.text_of(event("b", pad="p" * 9)) is None
    steady = Steady()
    for n in range(10):
        steady.learn(event("a", pad="p" * n), "a")
        assert steady.text_of(event("b", pad="p" * n)) == "b"


@pytest.mark.parametrize(
    "said", [["a"], ["a", "b", "c"], ["\\", '"', "\\\\", 'x"}]}'], ["\n", "é", "😀"], ["a\\", '","', "b"]]
)
def test_texts_of_one_read_end_where_the_shape_does(said: list[str]) -> None:
    whole = b"".join(event(text) for text in said)
    for rest in (
        b"",
        event("x", finish_reason="stop"),
        b"data: [DONE]\n\n",
        event("half")[:-9],
        b": ping\n\n",
    ):
        assert taught().texts_of(b"xyz" + whole + rest, 3) == (said, 3 + len(whole))


@pytest.mark.parametrize(
    "odd",
    [
        event(""),
        event("x").replace(b'"x"', b'"x\\"'),
        event("x").replace(b'"x"', b'"x","y"'),
        event("x").replace(b'"x"', b'"\xff"'),
        event("x").replace(b"\n\n", b"\r\n\r\n"),
        event("x", finish_reason="stop"),
        b": ping\n\n",
    ],
)
def test_any_doubt_about_one_of_them_is_about_all(odd: bytes) -> None:
    steady = taught()
    found, end = steady.texts_of(event("a") + odd + event("b"), 0)
    assert (found, end) in (([], 0), (["a"], len(event("a"))))
    assert Steady().texts_of(event("a"), 0) == ([], 0)


FAR = 1 << 62  # stamps from here on: no timer of a stream looks at the clock and finds itself late


class _Line:
    """Stands for the connection: nothing is paused, nothing is sent."""

    transport = None

    def flush(self) -> None:
        pass

    def drop(self) -> None:
        pass


async def _through_a_stream(reads: list[bytes]) -> Answer:
    stream = Stream(Timeouts())
    stream.connected(_Line(), None)  # type: ignore[arg-type]
    stream.mode = "sse"
    for at, data in enumerate(reads, FAR):
        stream.body(data, at)
        await asyncio.sleep(0)
    stream.ended(None, FAR + len(reads))
    return stream.answer


def _in_full(reads: list[bytes]) -> Answer:
    parser, answer = Parser(), Answer(quick=False)
    for at, data in enumerate(reads, FAR):
        for one in parser.feed(data, at, at - 1):
            answer.feed(one)
    return answer


def _said(answer: Answer) -> dict[str, Any]:
    return {
        "choices": [answer.choices[index].as_dict() for index in sorted(answer.choices)],
        "token_at": answer.token_at,
        "first": (answer.first_token_at, answer.first_content_at, answer.last_token_at),
        "usage": answer.usage,
        "tokens": answer.chunk_tokens(),
        "done": answer.done_at,
        "error": answer.error,
        "extra": answer.extra(),
    }


texts = st.text(max_size=6)
events = st.one_of(
    texts.map(event),
    texts.map(lambda t: event(t, finish_reason="stop")),
    texts.map(lambda t: event(t, logprobs={"content": [{"token": t}]})),
    texts.map(lambda t: event(t).replace(b'"content"', b'"reasoning_content"')),
    texts.map(lambda t: event(t).replace(b"\n\n", b"\r\n\r\n")),
    texts.map(lambda t: event(t).replace(b'"index": 0', b'"index": 1')),
    texts.map(lambda t: event(t).replace(b"}]}\n", b'}], "usage": {"completion_tokens": 3}}\n')),
    st.just(b": ping\n\n"),
    st.just(b"event: x\n"),
    st.just(b'data: {"error": "no"}\n\n'),
    st.just(b"data: [DONE]\n\n"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=14), st.lists(st.integers(0, 400), max_size=3))
def test_a_stream_read_either_way_says_the_same(sent: list[bytes], cuts: list[int]) -> None:
    reads: list[bytes] = []
    for place, data in enumerate(sent):
        # Some events come in two reads, or share one with the next.
        at = cuts[place % len(cuts)] if cuts else 0
        if cuts and at % 3 == 0:
            reads += [part for part in (data[:at], data[at:]) if part]
        elif cuts and at % 3 == 1 and reads:
            reads[-1] += data
        else:
            reads.append(data)
    assert _said(asyncio.run(_through_a_stream(reads))) == _said(_in_full(reads))


nasty = st.sampled_from(["\\", '"', '\\"', "\\\\", '","', '"}]}', "\n\n", "a", " ", "\ud83d\ude00", "é"])
alike = st.lists(st.one_of(nasty, texts), min_size=1, max_size=8).map(lambda said: b"".join(map(event, said)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(alike, alike, events), max_size=6), st.lists(st.integers(1, 900), max_size=8))
def test_many_events_a_read_say_what_they_say_one_by_one(sent: list[bytes], sizes: list[int]) -> None:
    body = b"".join(sent)
    reads, place = [], 0
    for size in [*sizes, len(body) or 1]:
        reads.append(body[place : place + size])
        place += size
    reads = [read for read in reads if read]
    assert _said(asyncio.run(_through_a_stream(reads))) == _said(_in_full(reads))


def test_a_flood_is_not_read_event_by_event(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[Any] = []
    feed = Answer.feed

    def counted(self: Answer, one: Any) -> None:
        fed.append(one)
        feed(self, one)

    monkeypatch.setattr(Answer, "feed", counted)
    body = b"".join(event(f"w{n}") for n in range(1000)) + event("", finish_reason="stop")
    reads = [body[n : n + 8000] for n in range(0, len(body), 8000)]
    answer = asyncio.run(_through_a_stream(reads))
    assert len(answer.token_at) == 1000
    assert len(fed) < 3 * len(reads) + 10


@pytest.mark.parametrize("half", [b": com", b"event: error\n", b"data: {\n", b"x"])
def test_what_is_half_read_closes_the_steady_way(half: bytes) -> None:
    reads = [event("a"), event("b"), half, event("c"), event("d")]
    assert _said(asyncio.run(_through_a_stream(reads))) == _said(_in_full(reads))
