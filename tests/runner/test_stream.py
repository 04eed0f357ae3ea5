"""One attempt as it is read, with the transport's part played by hand: timers, turns, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from time import monotonic_ns
from typing import Any, cast

import pytest
from aiohttp.http import RawResponseMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import stream as module
from runner.answer import Answer
from runner.record import Timer
from runner.sse import Parser
from runner.stream import Stream
from runner.timeouts import Timeouts
from runner.transport import Handler
from tests.runner.streams import CORPUS, HANDY, HELLO, NEVER, delta, sse, usage

LIMIT_S = 0.08
_S = 1_000_000_000


class FakeTransport:
    def __init__(self) -> None:
        self.log: list[str] = []

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")


class Line:
    """A connection played by the test."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.drops = 0

    def flush(self) -> None:
        pass

    def drop(self) -> None:
        self.drops += 1


class Response:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Message:
    def __init__(self, code: int = 200, content_type: str = "text/event-stream") -> None:
        self.code = code
        self.headers = {"content-type": content_type}


Step = Callable[[Stream], Awaitable[None]]


def now() -> int:
    """By the stream's own clock, which a test may have taken in hand."""
    return int(vars(module)["monotonic_ns"]())


class Play:
    """One attempt: `post` does what a test says up to the response, `rest` what comes after it."""

    def __init__(self, timeouts: Timeouts = NEVER) -> None:
        self.line = Line()
        self.response = Response()
        self.stream = Stream(timeouts)

    def connect(self) -> None:
        self.stream.connected(cast("Handler", self.line), 5)

    def send(self) -> None:
        self.stream.sent(now())

    def head(self, code: int = 200, content_type: str = "text/event-stream") -> None:
        self.stream.head(cast("RawResponseMessage", Message(code, content_type)), now())

    def body(self, data: bytes) -> None:
        self.stream.body(data, now())

    def begin(self, code: int = 200) -> None:
        self.connect()
        self.send()
        self.head(code)

    async def run(self, rest: Step | None = None, post: Step | None = None) -> Stream:
        """Run it to its end, which must come by itself."""

        async def answered() -> Response:
            if post is not None:
                await post(self.stream)
            else:
                self.begin()
            return self.response

        async def go_on() -> None:
            await asyncio.sleep(0)
            if rest is not None:
                await rest(self.stream)

        goes_on = asyncio.create_task(go_on())
        try:
            async with asyncio.timeout(20):
                await self.stream.run(answered())
        finally:
            goes_on.cancel()
            await asyncio.wait([goes_on])
            if not goes_on.cancelled():
                failure = goes_on.exception()
                if failure is not None:
                    raise failure
        return self.stream


async def forever(_: Stream) -> None:
    await asyncio.Event().wait()


# -- the five timers, on a clock the test turns


class Clock:
    """`monotonic_ns` as the test wants it. Limits are so long that no timer of the loop ever fires."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * _S
        monkeypatch.setattr(module, "monotonic_ns", lambda: self.now)

    def to(self, stream: Stream, seconds: float) -> None:
        """Turn to this many seconds after the start, and let the stream look at its deadlines."""
        self.now = 1_000 * _S + int(seconds * _S)
        stream._fire()


def test_the_defaults() -> None:
    assert Timeouts() == Timeouts(10.0, 600.0, 120.0, 120.0, None)


async def test_every_timer_at_its_very_nanosecond(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begun(timeouts: Timeouts, *steps: str) -> tuple[Clock, Stream]:
        clock = Clock(monkeypatch)
        play = Play(timeouts)
        for step in steps:
            clock.now += _S  # a second passes before each
            if step == "connect":
                play.connect()
            elif step == "send":
                play.stream.sent(clock.now)
            elif step == "head":
                play.stream.head(cast("RawResponseMessage", Message()), clock.now)
            else:
                play.stream.body(step.encode(), clock.now)
        return clock, play.stream

    token, ping = sse(delta("a")).decode(), ": ping\n\n"
    none, some = Timeouts(None, None, None, None, None), ("connect", "send", "head")
    cases = [
        (Timeouts(100, None, None, None, None), (), 100, "connect"),
        (Timeouts(None, 100, None, None, None), ("connect",), 100, "first_token"),
        (Timeouts(None, 100, None, None, None), ("connect", "send"), 102, "first_token"),
        (Timeouts(None, 100, None, None, None), (*some, ping, ping), 102, "first_token"),
        (Timeouts(None, 9, 100, None, None), (*some, token), 104, "token_gap"),
        (Timeouts(None, 9, 100, None, None), (*some, token, token, ping), 105, "token_gap"),
        (Timeouts(None, None, None, 100, None), some, 103, "byte_idle"),
        (Timeouts(None, None, None, 100, None), (*some, ping, ping), 105, "byte_idle"),
        (Timeouts(None, None, None, 100, None), (*some, token, ping), 105, "byte_idle"),
        (Timeouts(None, None, None, None, 100), (), 100, "total"),
        (Timeouts(None, None, None, None, 100), (*some, token, ping), 100, "total"),
        (Timeouts(101, 101, 101, 101, 100), (*some, token), 100, "total"),
        (Timeouts(200, 98, 200, 99, 200), (*some, ping), 100, "first_token"),
        (Timeouts(1, 1, 98, 98, 200), (*some, token, ping), 102, "token_gap"),
        (Timeouts(1, 1, 99, 97, 200), (*some, token, ping), 102, "byte_idle"),
    ]
    for timeouts, steps, seconds, timer in cases:
        clock, stream = await begun(timeouts, *steps)
        clock.to(stream, seconds - 1e-6)
        assert not stream.was_cut, (timeouts, steps)
        clock.to(stream, seconds)
        assert stream.timer == timer, (timeouts, steps)
        clock, stream = await begun(none, *steps)
        clock.to(stream, 1e9)
        assert not stream.was_cut, steps


async def test_tokens_that_keep_coming_never_set_off_the_gap_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    play = Play(Timeouts(None, None, 100, None, None))
    play.begin()
    for number in range(50):
        clock.to(play.stream, number * 99)
        assert not play.stream.was_cut
        play.stream.body(sse(delta("a")), clock.now)
    clock.to(play.stream, 49 * 99 + 100)
    assert play.stream.timer == "token_gap"


@pytest.mark.parametrize("code", [200, 299, 300, 503])
async def test_who_waits_for_the_head_is_told_once(code: int) -> None:
    play = Play()
    told = []
    play.stream.on_head = lambda: told.append(play.stream.status)
    play.begin(code)
    play.body(sse(delta("a")))
    assert told == [code]
    assert play.stream.mode == ("sse" if code < 300 else "refusal")


async def test_comments_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    play = Play(Timeouts(None, None, None, 100, None))
    play.begin()
    for number in range(50):
        clock.to(play.stream, number * 99)
        assert not play.stream.was_cut
        play.stream.body(b": ping\n\n", clock.now)
    clock.to(play.stream, 49 * 99 + 100)
    assert play.stream.timer == "byte_idle"


# -- and on the real one


async def test_the_connect_timer() -> None:
    play = Play(Timeouts(LIMIT_S, None, None, None, None))
    stream = await play.run(post=forever)
    assert stream.timer == "connect"
    assert stream.was_cut
    assert stream.ended_at is not None
    assert stream.ended_at - stream.started_at >= LIMIT_S * _S


async def test_the_connect_timer_ends_with_the_connection() -> None:
    play = Play(Timeouts(LIMIT_S, None, None, None, LIMIT_S * 3))

    async def post(_: Stream) -> None:
        play.connect()
        await asyncio.Event().wait()

    stream = await play.run(post=post)
    assert stream.timer == "total"


@pytest.mark.parametrize("before_response", [True, False])
async def test_the_first_token_timer_sees_through_comments(before_response: bool) -> None:
    play = Play(Timeouts(None, LIMIT_S, None, None, None))
    sent = 0

    async def post(_: Stream) -> None:
        nonlocal sent
        play.connect()
        await asyncio.sleep(0.02)
        sent = monotonic_ns()
        play.send()
        if before_response:
            await asyncio.Event().wait()
        play.head()
        play.body(sse(HELLO[0]))

    async def comments(_: Stream) -> None:
        while True:
            await asyncio.sleep(0.005)
            if play.stream.mode == "sse":
                play.body(b": ping\n\n")

    stream = await play.run(comments, post)
    assert stream.timer == "first_token"
    assert stream.ended_at is not None
    assert stream.ended_at - sent >= LIMIT_S * _S
    assert stream.answer.first_token_at is None
    assert play.line.drops == 1


async def test_the_token_gap_timer_sees_through_comments_and_starts_with_every_token() -> None:
    play = Play(Timeouts(None, None, LIMIT_S, None, None))
    last = 0

    async def rest(_: Stream) -> None:
        nonlocal last
        for text in ("a", "b", "c"):
            play.body(sse(delta(text)))
            last = monotonic_ns()
            await asyncio.sleep(0.02)
        while True:
            play.body(b": ping\n\n" + sse(delta("")))
            await asyncio.sleep(0.005)

    stream = await play.run(rest)
    assert stream.timer == "token_gap"
    assert stream.ended_at is not None
    assert stream.answer.last_token_at is not None
    assert stream.ended_at - stream.answer.last_token_at >= LIMIT_S * _S
    assert play.line.drops == 1


async def test_the_byte_idle_timer() -> None:
    play = Play(Timeouts(None, None, None, LIMIT_S, None))

    async def rest(_: Stream) -> None:
        play.body(sse(delta("a")))
        await asyncio.sleep(0.02)
        play.body(b": ping\n\n")

    stream = await play.run(rest)
    assert stream.timer == "byte_idle"
    assert stream.ended_at is not None
    assert stream.ended_at - stream._last_byte_at >= LIMIT_S * _S


async def test_the_byte_idle_timer_starts_with_the_response_only() -> None:
    play = Play(Timeouts(None, None, None, LIMIT_S, LIMIT_S * 3))

    async def post(_: Stream) -> None:
        play.connect()
        play.send()
        await asyncio.Event().wait()

    assert (await play.run(post=post)).timer == "total"


@pytest.mark.parametrize("when", ["connecting", "waiting", "streaming", "document"])
async def test_the_total_timer(when: str) -> None:
    play = Play(Timeouts(None, None, None, None, LIMIT_S))

    async def post(_: Stream) -> None:
        if when == "connecting":
            await asyncio.Event().wait()
        play.begin()
        if when == "waiting":
            await asyncio.Event().wait()

    async def rest(_: Stream) -> None:
        while True:
            if when == "streaming":
                play.body(sse(delta("a")))
            elif when == "document":
                play.body(b"{ ")
            await asyncio.sleep(0.005)

    stream = await play.run(rest, post)
    assert stream.timer == "total"
    assert stream.ended_at is not None
    assert stream.ended_at - stream.started_at >= LIMIT_S * _S


@pytest.mark.parametrize(
    ("timeouts", "timer"),
    [
        (Timeouts(9, 9, 9, 9, 0.02), "total"),
        (Timeouts(9, 0.02, 9, 9, 9), "first_token"),
        (Timeouts(9, 9, 9, 0.02, 9), "byte_idle"),
    ],
)
async def test_the_nearest_of_several_timers_fires(timeouts: Timeouts, timer: Timer) -> None:
    assert (await Play(timeouts).run()).timer == timer


async def test_no_timers_no_end() -> None:
    play = Play(NEVER)

    async def rest(stream: Stream) -> None:
        await asyncio.sleep(LIMIT_S)
        assert stream.ended_at is None
        stream.ended(None, monotonic_ns())

    assert not (await play.run(rest)).was_cut


async def test_a_timer_that_wakes_early_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # As uvloop's do, by up to 1.4 ms: here by half the time.
    play = Play(Timeouts(None, None, None, None, LIMIT_S))
    loop = asyncio.get_running_loop()
    real = loop.call_later

    def early(delay: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
        return real(delay / 2, callback, *args, **more)

    monkeypatch.setattr(loop, "call_later", early)
    stream = await play.run()
    assert stream.timer == "total"
    assert stream.ended_at is not None
    assert stream.ended_at - stream.started_at >= LIMIT_S * _S


# -- ends


async def test_after_done_it_lingers_for_the_last_chunk_and_leaves() -> None:
    play = Play()

    async def rest(_: Stream) -> None:
        play.body(sse(*HELLO, done=True))

    before = monotonic_ns()
    stream = await play.run(rest)
    assert monotonic_ns() - before >= module.LINGER_NS
    assert not stream.was_cut
    assert stream.ended_at == stream.answer.done_at
    assert play.line.drops == 1
    assert play.response.closed == 1


async def test_after_done_the_end_of_the_body_keeps_the_connection() -> None:
    play = Play()

    async def rest(stream: Stream) -> None:
        play.body(sse(*HELLO, done=True))
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest)
    assert stream.ended_at == stream.answer.done_at
    assert play.line.drops == 0


async def test_pings_after_done_do_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_NS", 50_000_000)
    play = Play()

    async def rest(_: Stream) -> None:
        play.body(sse(*HELLO, done=True))
        for _number in range(400):
            await asyncio.sleep(0.005)
            play.body(b": ping\n\n")
        pytest.fail("it is still read")

    assert not (await play.run(rest)).was_cut


async def test_without_done_it_ends_with_the_body() -> None:
    play = Play()
    at = 0

    async def rest(stream: Stream) -> None:
        nonlocal at
        play.body(sse(*HELLO))
        at = monotonic_ns()
        stream.ended(None, at)

    stream = await play.run(rest)
    assert stream.ended_at == at
    assert stream.answer.verdict(broken=False) is None


async def test_usage_after_the_finish_reason_is_waited_for() -> None:
    play = Play(Timeouts(None, None, 0.01, None, None))

    async def rest(stream: Stream) -> None:
        play.body(sse(delta("a"), delta(finish="stop")))
        await asyncio.sleep(LIMIT_S)
        play.body(sse({"choices": [], "usage": usage(1)}, done=True))
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest)
    assert not stream.was_cut
    assert stream.answer.usage == usage(1)


@pytest.mark.parametrize("limit", ["byte_idle", "total"])
async def test_a_finished_answer_is_not_spoilt_by_a_timer(limit: str) -> None:
    play = Play(Timeouts(**{**dict.fromkeys(Timeouts.__struct_fields__), limit: LIMIT_S}))

    async def rest(_: Stream) -> None:
        play.body(sse(*HELLO))

    stream = await play.run(rest)
    assert not stream.was_cut
    assert stream.answer.verdict(broken=False) is None
    assert play.line.drops == 1


async def test_the_body_of_a_refusal_has_a_short_timer_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ERROR_BODY_NS", 50_000_000)
    play = Play()

    async def post(_: Stream) -> None:
        play.begin(503)

    async def rest(_: Stream) -> None:
        while True:
            play.body(b"x")
            await asyncio.sleep(0.005)

    stream = await play.run(rest, post)
    assert not stream.was_cut
    assert stream.mode == "refusal"
    assert b"".join(stream.document).startswith(b"x")


async def test_the_body_of_a_refusal_is_read_so_far_and_no_further() -> None:
    play = Play()

    async def post(_: Stream) -> None:
        play.begin(503)

    async def rest(_: Stream) -> None:
        while True:
            play.body(b"x" * 10_000)
            await asyncio.sleep(0)

    stream = await play.run(rest, post)
    assert 65_536 <= sum(map(len, stream.document)) < 65_536 + 10_000
    assert play.line.drops == 1


async def test_a_document_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DOCUMENT_BYTES", 1000)
    play = Play()

    async def rest(_: Stream) -> None:
        play.body(b"{" + b" " * 500)
        play.body(b" " * 500)

    stream = await play.run(rest)
    assert stream.too_large
    assert play.line.drops == 1


# -- cuts


@pytest.mark.parametrize("when", ["connecting", "waiting", "streaming"])
async def test_cut_from_outside(when: str) -> None:
    play = Play()

    async def post(_: Stream) -> None:
        if when != "connecting":
            play.connect()
            play.send()
        if when != "streaming":
            await asyncio.Event().wait()
        play.head()

    async def rest(stream: Stream) -> None:
        if when == "streaming":
            play.body(sse(delta("part")))
        await asyncio.sleep(0.01)
        stream.cut(by="user")
        stream.cut(by="deadline")

    stream = await play.run(rest, post)
    assert stream.cancelled_by == "user"
    assert stream.timer is None
    assert play.line.drops == (0 if when == "connecting" else 1)
    assert stream.answer.text() == ("part" if when == "streaming" else "")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_cancelling_the_task_closes_the_connection() -> None:
    play = Play()
    play.begin()
    task = asyncio.create_task(play.stream.run(_never()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert play.line.drops == 1
    assert play.stream.cancelled_by == "user"


async def _never() -> None:
    await asyncio.Event().wait()


async def test_what_waits_to_be_parsed_is_kept_when_it_is_cut() -> None:
    play = Play()
    texts = [f"{n:04}" for n in range(2000)]

    async def rest(stream: Stream) -> None:
        play.body(sse(*map(delta, texts)))
        stream.cut(by="user")

    stream = await play.run(rest)
    assert stream.answer.text() == "".join(texts)


async def test_an_exception_before_the_response_is_raised_as_it_is() -> None:
    async def post(_: Stream) -> None:
        raise ConnectionResetError("x")

    play = Play()
    with pytest.raises(ConnectionResetError):
        await play.run(post=post)
    assert play.stream.ended_at is not None


# -- long reads


async def test_a_long_read_is_parsed_over_several_turns() -> None:
    play = Play()
    texts = [f"{n:05}" for n in range(4000)]
    data = sse(*map(delta, texts), delta(finish="stop"), done=True)
    turns: list[int] = []

    async def rest(stream: Stream) -> None:
        play.body(data)
        stream.ended(None, monotonic_ns())
        while stream.ended_at is None:
            turns.append(len(stream.answer.token_at))
            await asyncio.sleep(0)

    stream = await play.run(rest)
    assert len(data) > 500_000
    steps = [b - a for a, b in pairwise(turns)]
    assert len(turns) > 10
    assert max(steps) < 1000
    assert stream.answer.text() == "".join(texts)
    assert set(stream.answer.token_at) == {stream.answer.first_token_at}  # all of them came in one read
    assert play.line.transport.log == ["pause", "resume"]


async def test_reads_that_come_meanwhile_keep_their_order_and_stamps() -> None:
    play = Play()
    big = sse(*[delta("a")] * 3000)

    async def rest(stream: Stream) -> None:
        stream.body(big + b"data: ", 1000)
        stream.body(sse(delta("b"))[6:], 2000)
        stream.body(sse(delta("c"), delta(finish="stop")), 3000)
        stream.ended(None, 4000)

    stream = await play.run(rest)
    assert stream.answer.text() == "a" * 3000 + "bc"
    assert stream.answer.token_at == [1000] * 3000 + [2000, 3000]
    assert stream.ended_at == 4000


async def test_a_line_end_in_a_later_read_makes_no_token_late() -> None:
    play = Play()

    async def rest(stream: Stream) -> None:
        stream.body(sse(HELLO[0]), 1000)
        stream.body(sse(HELLO[1])[:-2], 2000)
        stream.body(b"\n", 3000)
        stream.body(b"\n", 4000)
        stream.ended(None, 5000)

    assert (await play.run(rest)).answer.token_at == [2000]


async def test_a_slice_may_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sse(*HELLO, done=True).replace(b"\n", b"\r\n")
    for size in range(1, 60, 7):
        monkeypatch.setattr(module, "_SLICE", size)
        play = Play()

        async def rest(stream: Stream, play: Play = play) -> None:
            play.body(data)
            stream.ended(None, monotonic_ns())

        stream = await play.run(rest)
        assert stream.answer.text() == "Hello"
        assert stream.answer.usage == usage(2)
        assert stream.answer.done_at is not None


async def test_an_end_that_comes_before_the_parsing_does_is_not_late() -> None:
    play = Play()

    async def rest(stream: Stream) -> None:
        stream.body(sse(*[delta("a")] * 3000, delta(finish="stop")), 1000)
        stream.ended(None, 1500)

    assert (await play.run(rest)).ended_at == 1500


def _repeated() -> list[bytes]:
    """Chunks that differ in their text alone, with everything that must not be taken for one in between."""
    same = [
        sse(delta(text)) for text in ("a", " b", 'q"q', "back\\slash", "é", "\u2028", "\x00", "", "}", '"}}')
    ]
    odd = [
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n',
        sse(delta("x", index=1)),
        sse(delta("x", role="assistant")),
        sse({**delta("x"), "usage": usage(3)}),
        sse({**delta("x"), "error": {"message": "a", "x": delta("b")}}),
        sse(delta("x")).replace(b"\n\n", b"\r\n\r\n"),
        sse(delta("x")).replace(b"data: ", b"data:"),
        b"event: error\n" + sse(delta("x")),
        sse(delta("x")).replace(b'"content": "x"', b'"content": "x", "content": "y"'),
        sse(delta("x")).replace(b'"x"', b'"x\xff"'),
        sse(delta("x")).replace(b'"x"', b'"x\\"'),
        sse(delta("x")).replace(b'"x"', b"7"),
        sse(delta("x")) + sse(delta("y")),
        sse(delta("x"))[:-1],
        b": ping\n\n",
        b"data: [DONE]\n\n",
        sse(delta("x", finish="stop")),
    ]
    return same + odd


def _seen(answer: Answer) -> dict[str, Any]:
    return {
        "choices": [answer.main_choice(), answer.all_choices()],
        "said": [repr(answer.extra()), repr(answer.usage), sorted(answer.response.items()), answer.error],
        "times": [answer.first_token_at, answer.first_content_at, answer.last_token_at, answer.done_at],
        "chunks": [answer.token_at, answer.chunk_tokens()],
        "verdict": answer.verdict(broken=False),
    }


async def _both_ways(reads: list[bytes]) -> None:
    play = Play()
    play.begin()
    plain, parser = Answer(quick=False), Parser()
    for at, data in enumerate(reads, 1):
        play.stream.body(data, at)
        for event in parser.feed(data, at, at - 1):
            plain.feed(event)
    for event in parser.finish(len(reads)):
        plain.tail(event)
    play.stream.ended(None, len(reads) + 1)
    assert _seen(play.stream.answer) == _seen(plain)


@pytest.mark.parametrize("name", HANDY)
async def test_an_event_a_read_is_read_as_ever(name: str) -> None:
    parts = CORPUS[name].body.split(b"\n\n")
    await _both_ways([part + b"\n\n" for part in parts[:-1]] + [part for part in parts[-1:] if part])


async def test_reads_that_look_alike_are_read_as_ever() -> None:
    for odd in _repeated():
        await _both_ways([*_repeated()[:3], odd, *_repeated()[:10]])


@given(st.lists(st.sampled_from(_repeated()), max_size=12))
def test_any_order_of_reads_that_look_alike(reads: list[bytes]) -> None:
    asyncio.run(_both_ways([sse(delta("a")), *reads]))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(HANDY), st.data())
def test_wrong_bytes_are_read_as_ever(name: str, data: st.DataObject) -> None:
    parts = [part + b"\n\n" for part in CORPUS[name].body.split(b"\n\n")] * 2
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(parts) - 1))
        at = data.draw(st.integers(0, len(parts[place])))
        end = at + data.draw(st.integers(0, 3))
        parts[place] = parts[place][:at] + data.draw(st.binary(max_size=3)) + parts[place][end:]
    asyncio.run(_both_ways([sse(delta("a")), *[part for part in parts if part]]))


async def test_ids_that_come_and_go_are_read_as_ever() -> None:
    one, two = sse(delta("a")), sse({**delta("x"), "id": "c-2"})
    await _both_ways([one, two, one, two, one, two])


async def test_the_first_token_is_told_once() -> None:
    play = Play()
    told: list[int] = []
    play.stream.on_first_token = lambda: told.append(1)

    async def rest(stream: Stream) -> None:
        play.body(sse(HELLO[0]))
        assert not told
        play.body(sse(HELLO[1]))
        play.body(sse(*HELLO[2:], done=True))
        stream.ended(None, monotonic_ns())

    await play.run(rest)
    assert told == [1]


async def test_nothing_is_armed_when_it_is_over() -> None:
    play = Play(Timeouts())

    async def rest(stream: Stream) -> None:
        play.body(sse(*HELLO, done=True))
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest)
    handle = stream._handle
    assert handle is None or handle.cancelled()
    stream.cut(by="user")
    assert stream.cancelled_by is None


async def test_the_document_and_the_stream_are_told_apart_by_the_first_byte() -> None:
    found = {}
    for start in (
        b"{",
        b" [",
        b"\n<html",
        b"\xef\xbb\xbf{",
        b"data: x\n\n",
        b": c\n\n",
        b"event: x\n",
        b"\xef\xbb\xbfdata: x",
    ):
        play = Play()
        play.begin()
        play.body(start)
        found[start] = play.stream.mode
        play.stream.cut(by="user")
    assert list(found.values()) == ["document"] * 4 + ["sse"] * 4


# -- once wrong


async def test_a_finished_answer_ends_without_any_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AFTER_FINISH_NS", 50_000_000)
    play = Play()

    async def rest(_: Stream) -> None:
        play.body(sse(delta("a")))
        play.body(sse(delta(finish="stop")))

    async with asyncio.timeout(1):
        stream = await play.run(rest)
    assert not stream.was_cut


@pytest.mark.parametrize("last", [delta("a", finish="stop"), {"error": "x"}], ids=["finish", "error"])
async def test_pings_do_not_keep_what_is_over(monkeypatch: pytest.MonkeyPatch, last: dict[str, Any]) -> None:
    monkeypatch.setattr(module, "_AFTER_FINISH_NS", 50_000_000)
    monkeypatch.setattr(module, "LINGER_NS", 50_000_000)
    play = Play(Timeouts(None, None, None, 0.05, None))

    async def rest(_: Stream) -> None:
        play.body(sse(last))
        for _number in range(150):
            await asyncio.sleep(0.005)
            play.body(b": ping\n\n")
        pytest.fail("it is still read")

    assert not (await play.run(rest)).was_cut


@pytest.mark.parametrize("known", ["done", "error", "refusal"])
async def test_a_known_answer_is_not_spoilt_by_the_total_timer(known: str) -> None:
    play = Play(Timeouts(None, None, None, None, 0.05))

    async def post(_: Stream) -> None:
        play.begin(401 if known == "refusal" else 200)

    async def rest(_: Stream) -> None:
        if known == "done":
            play.body(sse(*HELLO[:3], done=True))
        elif known == "error":
            play.body(sse(*HELLO[:3], {"error": "x"}))

    stream = await play.run(rest, post)
    assert not stream.was_cut
    assert stream.mode == ("refusal" if known == "refusal" else "sse")


async def test_a_time_limit_of_the_callers_is_a_timeout() -> None:
    play = Play()

    async def post() -> None:
        play.connect()
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await play.stream.run(post())


async def test_a_cut_after_the_end_of_the_body_leaves_the_connection_alone() -> None:
    play = Play()

    async def rest(stream: Stream) -> None:
        play.body(sse(*[delta("a")] * 3000, *HELLO, done=True))
        stream.ended(None, monotonic_ns())
        stream.cut(by="user")

    stream = await play.run(rest)
    assert stream.answer.text() == "a" * 3000 + "Hello"
    assert play.line.drops == 0


async def sniffed(reads: list[bytes], content_type: str) -> Stream:
    play = Play()

    async def post(_: Stream) -> None:
        play.connect()
        play.send()
        play.head(200, content_type)

    async def rest(stream: Stream) -> None:
        for data in reads:
            play.body(data)
        stream.ended(None, monotonic_ns())

    return await play.run(rest, post)


def single(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


async def test_a_stream_under_a_wrong_label_in_single_bytes() -> None:
    stream = await sniffed(single(sse(*HELLO, done=True)), "text/plain")
    assert stream.mode == "sse"
    assert stream.answer.text() == "Hello"


async def test_plain_text_that_begins_like_a_field() -> None:
    assert (await sniffed([b"database is down"], "text/plain")).mode == "document"


async def test_a_document_behind_a_bom_in_single_bytes() -> None:
    stream = await sniffed(single(b'\xef\xbb\xbf{"choices": []}'), "application/json")
    assert stream.mode == "document"
    assert b"".join(stream.document) == b'{"choices": []}'


# -- an answer that is all there


@pytest.mark.parametrize("done", [False, True])
async def test_a_cut_does_not_undo_a_whole_answer(done: bool) -> None:
    play = Play()

    async def rest(stream: Stream) -> None:
        play.body(sse(delta("a"), delta(finish="stop"), done=done))
        stream.cut(by="user")

    stream = await play.run(rest)
    assert not stream.was_cut
    assert stream.answer.text() == "a"


async def test_a_cut_before_the_start_sends_nothing() -> None:
    stream = Stream(NEVER)
    stream.cut(by="user")

    async def post() -> None:
        pytest.fail("it was sent")

    await stream.run(post())
    assert stream.cancelled_by == "user"


async def test_a_choice_that_starts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AFTER_FINISH_NS", 20_000_000)
    play = Play()
    play.stream = Stream(NEVER, choices=2)

    def choice(index: int, **fields: Any) -> bytes:
        return sse({"choices": [{"index": index, **fields}]})

    async def rest(_: Stream) -> None:
        play.body(choice(0, delta={"content": "one"}, finish_reason="stop"))
        await asyncio.sleep(0.1)
        play.body(choice(1, delta={"content": "two"}, finish_reason="stop"))
        await asyncio.sleep(0.5)

    stream = await play.run(rest)
    assert [one["text"] for one in stream.answer.all_choices() or []] == ["one", "two"]
