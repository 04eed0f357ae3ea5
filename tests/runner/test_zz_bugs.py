from __future__ import annotations

import asyncio
import json
from time import monotonic_ns

import pytest

from runner import stream as module
from runner.answer import Answer
from runner.stream import Stream, Timeouts
from tests.runner.streams import (
    HELLO,
    Peer,
    answering,
    ask,
    attempt,
    chunked,
    client_of,
    delta,
    serving,
    sized,
    sse,
    usage,
)
from tests.runner.test_answer import everything, said
from tests.runner.test_stream import Play


async def test_a_finished_answer_ends_without_any_timer(monkeypatch):
    monkeypatch.setattr(module, "_AFTER_FINISH_NS", 50_000_000)
    play = Play()

    async def rest(_: Stream) -> None:
        play.body(sse(delta("a")))
        play.body(sse(delta(finish="stop")))

    async with asyncio.timeout(2):
        stream = await play.run(rest)
    assert not stream.was_cut


@pytest.mark.parametrize("last", [sse(delta("a", finish="stop")), sse({"error": "x"})])
async def test_pings_do_not_keep(monkeypatch, last):
    monkeypatch.setattr(module, "_AFTER_FINISH_NS", 50_000_000)
    monkeypatch.setattr(module, "LINGER_NS", 50_000_000)
    play = Play(Timeouts(None, None, None, 0.05, None))

    async def rest(_: Stream) -> None:
        play.body(last)
        for _ in range(200):
            await asyncio.sleep(0.005)
            play.body(b": ping\n\n")
        pytest.fail("it is still read")

    await play.run(rest)


async def test_total_in_linger_after_done():
    play = Play(Timeouts(None, None, None, None, 0.05))

    async def rest(_: Stream) -> None:
        play.body(sse(*HELLO[:3], done=True))

    stream = await play.run(rest)
    assert not stream.was_cut


async def test_total_in_linger_after_error():
    play = Play(Timeouts(None, None, None, None, 0.05))

    async def rest(_: Stream) -> None:
        play.body(sse(*HELLO[:3], {"error": "x"}))

    stream = await play.run(rest)
    assert not stream.was_cut


async def test_total_in_refusal():
    play = Play(Timeouts(None, None, None, None, 0.05))

    async def post(_):
        play.begin(401)

    stream = await play.run(post=post)
    assert not stream.was_cut


async def test_outer_timeout():
    play = Play()

    async def post():
        play.connect()
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await play.stream.run(post())


async def test_cut_after_ended_backlog():
    play = Play()

    async def rest(stream):
        play.body(sse(*[delta("a")] * 3000, *HELLO, done=True))
        stream.ended(None, monotonic_ns())
        stream.cut(by="user")

    stream = await play.run(rest)
    assert play.line.drops == 0


async def test_plain_text_type_one_byte():
    play = Play()

    async def post(_):
        play.connect()
        play.send()
        play.head(200, "text/plain")

    async def rest(stream):
        for b in sse(*HELLO, done=True):
            play.body(bytes([b]))
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest, post)
    assert stream.mode == "sse"
    assert stream.answer.text() == "Hello"


async def test_plain_text_database():
    play = Play()

    async def post(_):
        play.connect()
        play.send()
        play.head(200, "text/plain")

    async def rest(stream):
        play.body(b"database is down")
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest, post)
    assert stream.mode == "document"


async def test_bom_then_json_bytes():
    play = Play()

    async def rest(stream):
        for b in b'\xef\xbb\xbf{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}':
            play.body(bytes([b]))
        stream.ended(None, monotonic_ns())

    stream = await play.run(rest)
    assert stream.mode == "document"


def agree(*c):
    assert everything(said(*c)) == everything(said(*c, quick=False))


def test_q_meta():
    agree({"model": "m", "choices": [{"delta": {"content": "x"}}]})


def test_q_meta2():
    agree(
        {"id": "1", "model": "m", "choices": [{"delta": {"content": "x"}}]},
        {"id": "1", "service_tier": "x", "choices": [{"delta": {"content": "x"}}]},
    )


def test_q_usage_empty():
    agree({"id": "1", "choices": [], "usage": usage(2)}, {"id": "1", "choices": [], "usage": {}})


def test_q_usage_empty2():
    assert said(
        {"id": "1", "choices": [], "usage": usage(2)}, {"id": "1", "choices": [], "usage": {}}
    ).usage == usage(2)


def test_q_float():
    agree({"choices": [{"index": 1.0, "delta": {"content": "x"}}]})


def test_q_meta_types():
    agree({"id": "1", "created": 5, "choices": []}, {"id": "2", "choices": []})


def test_deep_extra():
    a = Answer()
    for n in range(2):
        a.feed(
            (
                b'{"choices":[{"index":0,"delta":{"content":"x","z":'
                + b'{"a":' * 900
                + b"1"
                + b"}" * 900
                + b'},"finish_reason":"stop"}]}',
                "",
                1,
            )
        )
    everything(a)


def test_deep_clean():
    from runner.chunks import clean

    a = Answer()
    a.feed(
        (
            b'{"choices":[{"index":0,"delta":{"content":"\\ud800","z":'
            + b"[" * 900
            + b"1"
            + b"]" * 900
            + b'},"finish_reason":"stop"}]}',
            "",
            1,
        )
    )
    if a.error is None:
        clean(a.extra())


def test_error_event_empty():
    a = said(*HELLO[:3])
    a.feed((b"", "error", 9))
    assert a.error is not None


def test_bool_index():
    agree({"choices": [{"index": True, "delta": {"content": "x"}}]})


def test_completion_tokens_bool():
    assert said({**delta("x"), "usage": {"completion_tokens": True}}).chunk_tokens() is None


def test_tool_args_surrogate():

    agree(
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "tool_calls": [
                            {"index": 0, "function": {"name": "f", "arguments": {"x": float("nan")}}}
                        ]
                    },
                }
            ]
        }
    )


def test_name_fragment_repeats():
    # a name streamed in pieces whose second piece repeats the first: "get" + "get"
    a = said(
        *[
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **x}]}}]}
            for x in ({"id": "a", "function": {"name": "no", "arguments": ""}}, {"function": {"name": "no"}})
        ]
    )
    assert a.main_choice()["tool_calls"][0]["function"]["name"] in ("no", "nono")


BODY = lambda b: answering(chunked(b))


async def test_completion_with_surrogate():
    s, o = await ask(
        answering(sized(b'{"choices":[{"message":{"content":"a\\ud800b"},"finish_reason":"stop"}]}'))
    )
    assert o.status == "ok", o


async def test_completion_with_bad_utf8():
    s, o = await ask(
        answering(sized(b'{"choices":[{"message":{"content":"a\xffb"},"finish_reason":"stop"}]}'))
    )
    assert o.status == "ok", o


async def test_refusal_bad_utf8():
    s, o = await ask(answering(sized(b'{"error":{"message":"a\xffb","type":"insufficient_quota"}}', "429 X")))
    assert o.error.kind == "quota", o


async def test_refusal_bom():
    s, o = await ask(
        answering(sized(b'\xef\xbb\xbf{"error":{"message":"m","type":"insufficient_quota"}}', "429 X"))
    )
    assert o.error.kind == "quota", o


async def test_secret_cut_at_excerpt():
    from tests.runner.streams import KEY

    for n in (480, 490, 1990):
        s, o = await ask(answering(sized(b"x" * n + KEY.encode() + b"yyy", "401 X")))
        assert KEY[:8] not in json.dumps([o.error.message, o.error.excerpt])


async def test_secret_cut_json():
    from tests.runner.streams import KEY

    s, o = await ask(answering(sized(json.dumps({"error": {"message": "x" * 1990 + KEY}}).encode(), "401 X")))
    assert KEY[:8] not in json.dumps([o.error.message, o.error.excerpt])


async def test_secret_cut_stream():
    from tests.runner.streams import KEY

    s, o = await ask(answering(chunked(sse({"error": {"message": "x" * 1990 + KEY}}))))
    assert KEY[:8] not in json.dumps([o.error.message, o.error.excerpt])


async def test_bad_location():
    s, o = await ask(answering(sized(b"", "307 X", Location="http://[bad")))
    assert o.error.kind == "redirect"


async def test_bare_error_first_then_done():
    s, o = await ask(answering(chunked(b'{"error":{"code":503,"message":"x"}}\n\ndata: [DONE]\n\n')))
    assert o.error.kind == "overloaded", o


async def test_google_list():
    s, o = await ask(answering(sized(b'[{"error":{"code":400,"message":"m"}}]', "400 X")))
    assert "m" in o.error.message


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_answer_before_body_is_written():
    async def script(peer: Peer):
        await peer._reader.readuntil(b"\r\n\r\n")
        await peer.send(sized(b'{"error":"too big"}', "413 X"))
        await asyncio.sleep(0.3)

    s, o = await ask(script, body=None) if False else (None, None)
    async with serving(script) as server, client_of(server.url) as client:
        s, o = await attempt(client, body=b'{"x":"' + b"y" * 20_000_000 + b'"}')
    assert o.error.kind == "bad_request", o
    assert s.sent_at is None or s.sent_at <= s.headers_at, (s.sent_at, s.headers_at)
