"""The canary: says what has moved when aiohttp's private parts, on which the stamps stand, move.

When one of these fails after an upgrade, runner/transport.py takes its stamps somewhere else from now on, or
not at all. Mend that file first; the pin in pyproject.toml is let out when these pass again.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

from runner.stream import Stream
from runner.transport import CURRENT, Connector, Handler, open_session
from tests.runner.streams import (
    END,
    HELLO,
    NEVER,
    Peer,
    answering,
    attempt,
    chunked,
    chunked_head,
    client_of,
    delta,
    piece,
    serving,
    sse,
    until,
)


def moved(what: str) -> str:
    return (
        f"aiohttp {aiohttp.__version__} has moved {what}: mend runner/transport.py before letting the pin out"
    )


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "names"),
    [
        (aiohttp.TCPConnector, "_get", ["self", "key", "traces"]),
        (aiohttp.TCPConnector, "_create_connection", ["self", "req", "traces", "timeout"]),
        (aiohttp.ClientRequest, "send", ["self", "conn"]),
        (ResponseHandler, "feed_data", ["self", "data", "size"]),
        (ResponseHandler, "data_received", ["self", "data"]),
        (ResponseHandler, "connection_lost", ["self", "exc"]),
        (ResponseHandler, "start_timeout", ["self"]),
        (ResponseHandler, "resume_reading", ["self", "resume_parser"]),
        (ResponseHandler, "abort", ["self"]),
        (ResponseHandler, "exception", ["self"]),
        (StreamReader, "_read_nowait", ["self", "n"]),
        (StreamReader, "is_eof", ["self"]),
        (StreamReader, "exception", ["self"]),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_the_methods_under_the_stamps_are_where_they_were(owner: type, name: str, names: list[str]) -> None:
    method = getattr(owner, name, None)
    assert method is not None, moved(f"{owner.__name__}.{name} (it is gone)")
    assert parameters(method) == names, moved(
        f"{owner.__name__}.{name}'s parameters, to {parameters(method)}"
    )


@pytest.mark.parametrize("name", ["_get", "_create_connection"])
def test_the_connector_awaits_what_we_override(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(aiohttp.TCPConnector, name)), moved(
        f"TCPConnector.{name}: no coroutine"
    )


async def test_the_handler_has_the_attributes_we_read() -> None:
    handler = ResponseHandler(asyncio.get_running_loop())
    for name in ("_reading_paused", "_buffer_paused"):
        assert getattr(handler, name, None) is False, moved(f"ResponseHandler.{name}")
    assert hasattr(handler, "transport"), moved("ResponseHandler.transport")
    reader = StreamReader(handler, 1 << 16, loop=asyncio.get_running_loop())
    assert getattr(reader, "total_bytes", None) == 0, moved("StreamReader.total_bytes")


async def test_what_is_taken_out_of_a_body_is_all_there_is() -> None:
    handler = ResponseHandler(asyncio.get_running_loop())
    reader = StreamReader(handler, 1 << 16, loop=asyncio.get_running_loop())
    reader.feed_data(b"ab")
    reader.feed_data(b"cd")
    assert reader.total_bytes == 4, moved("StreamReader.total_bytes: it counts something else")
    assert reader._read_nowait(-1) == b"abcd", moved("StreamReader._read_nowait")
    assert reader.total_bytes == 4, moved("StreamReader.total_bytes: reading takes from it")


async def test_the_connector_makes_its_connections_with_the_factory() -> None:
    plain = aiohttp.TCPConnector()
    factory = getattr(plain, "_factory", None)
    await plain.close()
    assert isinstance(factory, functools.partial), moved("TCPConnector._factory")
    assert factory.func is ResponseHandler, moved("TCPConnector._factory: it makes something else")
    connector = Connector()
    made = connector._factory()
    await connector.close()
    assert isinstance(made, Handler), moved("TCPConnector._factory: ours is overwritten")


async def test_the_session_uses_our_connector_and_request() -> None:
    session = open_session({})
    try:
        assert isinstance(session.connector, Connector)
        assert session._request_class.__mro__[1] is aiohttp.ClientRequest, moved(
            "ClientSession._request_class"
        )
    finally:
        await session.close()


class Seen:
    """A sink that writes down what it is told."""

    fresh = False

    def __init__(self) -> None:
        self.may_go: Callable[[], bool] = lambda: True
        self.calls: list[tuple[str, Any]] = []
        self.stamps: list[int] = []

    def connected(self, handler: Handler, connect_ns: int | None) -> None:
        assert handler.sink is self
        self.calls.append(("connected", connect_ns is None))

    def sent(self, at: int) -> None:
        self._note("sent", None, at)

    def head(self, message: Any, at: int) -> None:
        self._note("head", message.code, at)

    def body(self, data: bytes, at: int) -> None:
        self._note("body", data, at)

    def ended(self, exc: BaseException | None, at: int) -> None:
        self._note("ended", exc, at)

    def _note(self, name: str, what: Any, at: int) -> None:
        self.calls.append((name, what))
        self.stamps.append(at)


async def test_a_sink_is_told_everything_in_order() -> None:
    gates = [asyncio.Event() for _ in range(2)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" + chunked_head())
        await gates[0].wait()
        await peer.send(piece(b"one"))
        await gates[1].wait()
        await peer.send(piece(b"two") + END)
        await peer.left()

    seen = Seen()
    async with serving(script) as server:
        session = open_session({})
        CURRENT.set(seen)
        before = monotonic_ns()
        response = await session.post(server.url, data=b"{}")
        gates[0].set()
        await until(lambda: ("body", b"one") in seen.calls)
        gates[1].set()
        await until(lambda: seen.calls[-1][0] == "ended")
        response.close()
        await session.close()
    assert seen.calls == [
        ("connected", False),
        ("sent", None),
        ("head", 200),
        ("body", b"one"),
        ("body", b"two"),
        ("ended", None),
    ], moved("the order or number of the calls under the stamps")
    assert seen.stamps == sorted(seen.stamps)
    assert before <= seen.stamps[0]
    assert seen.stamps[-1] <= monotonic_ns()


def _live(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> list[Stream]:
    body = sse(*HELLO, done=True)

    async def scenario() -> list[Stream]:
        async with serving(answering(chunked(body))) as server, client_of(server.url, NEVER) as client:
            return [(await attempt(client))[0] for _ in range(2)]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(scenario())


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def test_the_stamps_are_really_taken(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    for number, stream in enumerate(_live(make_loop)):
        times = {
            "sent_at": stream.sent_at,
            "headers_at": stream.headers_at,
            "first_token_at": stream.answer.first_token_at,
            "last_token_at": stream.answer.last_token_at,
            "done_at": stream.answer.done_at,
            "ended_at": stream.ended_at,
        }
        missing = [name for name, at in times.items() if at is None]
        assert not missing, moved(f"what gives {missing}")
        order = [at for at in times.values() if at is not None]
        assert order == sorted(order), moved("the order of the stamps")
        assert stream.reused is (number == 1), moved("what tells a kept connection")
        assert (stream.connect_ns is None) == (number == 1), moved("what times the connecting")


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def test_a_stamp_is_the_reads_and_not_the_tasks(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A loop that is busy right after a read does not make the read late."""
    busy_ns = 60_000_000

    async def scenario() -> tuple[int, int]:
        woken = 0

        def block() -> None:
            nonlocal woken
            until = monotonic_ns() + busy_ns
            while monotonic_ns() < until:
                pass
            woken = monotonic_ns()

        def opened(stream: Stream) -> None:
            stream.on_first_token = block

        script = answering(chunked(sse(delta("a", finish="stop"))))
        async with serving(script) as server, client_of(server.url, NEVER) as client:
            stream, _ = await client.attempt("chat", b"{}", opened)
        assert stream.answer.first_token_at is not None
        return stream.answer.first_token_at, woken

    with asyncio.Runner(loop_factory=make_loop) as runner:
        stamp, woken = runner.run(scenario())
    assert woken - stamp >= busy_ns


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def test_long_reads_and_cuts_on_both_loops(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    body = sse(*[delta("abcdefgh")] * 5000, delta(finish="stop"), done=True)

    async def hold(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked_head() + piece(sse(HELLO[1])))
        await peer.left()

    async def scenario() -> None:
        async with serving(answering(chunked(body))) as server, client_of(server.url, NEVER) as client:
            for _ in range(2):
                stream, outcome = await attempt(client)
                assert outcome.status == "ok"
                assert len(stream.answer.text()) == 40_000
        async with serving(hold) as server, client_of(server.url, NEVER) as client:

            def opened(stream: Stream) -> None:
                stream.on_first_token = lambda: asyncio.get_running_loop().call_soon(
                    functools.partial(stream.cut, by="user")
                )

            async with asyncio.timeout(20):
                _, outcome = await client.attempt("chat", b"{}", opened)
                assert outcome.cancelled_by == "user"
                await server.peers[0].gone.wait()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scenario())
