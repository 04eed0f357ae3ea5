"""What each path answers, apart from any connection: requests in, replies and exchanges out."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache, partial
from hmac import compare_digest
from time import monotonic_ns

import msgspec

from runner.mock.answers import Answer, Answers, Identity
from runner.mock.ask import Ask, AskError, Kind, read_ask
from runner.mock.config import MockConfig, RoleChunk, Spread
from runner.mock.exchange import Exchange, Line
from runner.mock.fault import Fault
from runner.mock.faults import draw_fault
from runner.mock.http import Head, Request, response_head
from runner.mock.log import Entry, RequestLog
from runner.mock.refusals import JSON, Headers, Refusal, error_body
from runner.mock.staged import StagedExchange, pieces_of
from runner.mock.staging import EVENT_STREAM, Stage
from runner.mock.stats import Stats
from runner.mock.timing import Timing, request_rng
from runner.mock.wheel import Wheel

_COMPLETIONS: dict[str, Kind] = {"/chat/completions": "chat", "/completions": "text"}
_Streamed = tuple[Exchange | StagedExchange, bytes]


class Reply(msgspec.Struct, frozen=True):
    """An answer that is sent at once."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON


class Service:
    """One server's behaviour and state, shared by its connections."""

    def __init__(self, config: MockConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.stats = Stats()
        self.wheel = Wheel(loop)
        self.log = RequestLog(config.log, loop) if config.log is not None else None
        self._answers = Answers(config)
        self._timing = Timing(config)
        spreads = {config.ttft_dist, config.itl_dist}
        self._draws = bool(config.faults) or spreads != {Spread.FIXED}
        self._run_id = os.urandom(6).hex()
        self._ordinal = 0

    async def close(self) -> None:
        """Write the log's rest and release the timer."""
        self.wheel.close()
        if self.log is not None:
            await self.log.close()

    def respond(
        self, request: Request, line: Line, connection: int, received_ns: int, start_ns: int, *, reused: bool
    ) -> bytes | _Streamed:
        """The whole answer, or an exchange with the opening of its stream, to be started.

        `received_ns`: when its last byte came; `start_ns`: when its turn came, which is later where requests
        are sent ahead on one connection; `reused`: the connection has had a request before.
        """
        self.stats.requests += 1
        head = request.head
        path = head.path.removeprefix("/v1")
        kind = _COMPLETIONS.get(path)
        entry = Entry(
            ordinal=None,
            connection=connection,
            request_id=f"req_{self._run_id}{self.stats.requests:020x}",
            completion_id=None,
            method=head.method,
            path=head.path,
            model=None,
            stream=False,
            prompt=None,
            received_ns=received_ns,
        )
        result: Reply | _Streamed
        if kind is None:
            result = self._look(head, path)
        elif head.method != "POST":
            result = _refuse(
                405, f"Not allowed to {head.method} on {head.path}.", headers=(("allow", "POST"),)
            )
        else:
            entry.ordinal = self._ordinal
            self._ordinal += 1
            result = self._complete(kind, request, entry, line, start_ns, reused=reused)
        if isinstance(result, Reply):
            return self._reply(result, head, entry, log=path not in {"/health", "/stats"})
        return result

    def refuse(self, status: int, message: str) -> bytes:
        """The answer to what is no request."""
        self.stats.requests += 1
        reply = _refuse(status, message)
        self._count(reply.status)
        request_id = f"req_{self._run_id}{self.stats.requests:020x}"
        headers = _headers(int(time.time()), request_id, 0, keep_alive=False)
        headers += [("content-type", reply.content_type), ("content-length", str(len(reply.body)))]
        return response_head(status, headers) + reply.body

    def _look(self, head: Head, path: str) -> Reply:
        """The paths that are only looked at."""
        if path not in {"/health", "/stats", "/models"} and not path.startswith("/models/"):
            return _refuse(404, f"Invalid URL ({head.method} {head.path})")
        if head.method not in {"GET", "HEAD"}:
            return _refuse(
                405, f"Not allowed to {head.method} on {head.path}.", headers=(("allow", "GET, HEAD"),)
            )
        if path == "/health":
            return Reply(200, b'{"status":"ok"}')
        if path == "/stats":
            return Reply(200, msgspec.json.encode(self.stats))
        return self._check_key(head) or self._models(path)

    def _models(self, path: str) -> Reply:
        models = self.config.models or ("mock",)
        cards = [
            {"id": model, "object": "model", "created": 0, "owned_by": "streamgauge"} for model in models
        ]
        if path == "/models":
            return Reply(200, msgspec.json.encode({"object": "list", "data": cards}))
        wanted = path.removeprefix("/models/")
        card = next((card for card in cards if card["id"] == wanted), None)
        return Reply(200, msgspec.json.encode(card)) if card else _unknown_model(wanted)

    def _complete(
        self, kind: Kind, request: Request, entry: Entry, line: Line, start_ns: int, *, reused: bool
    ) -> Reply | _Streamed:
        assert entry.ordinal is not None
        refusal = self._check_key(request.head)
        if refusal is not None:
            return refusal
        try:
            ask = read_ask(kind, request.body)
        except AskError as error:
            return _refuse(400, error.message, param=error.param)
        entry.model, entry.stream, entry.prompt = ask.model, ask.stream, ask.prompt
        if self.config.models and ask.model not in self.config.models:
            return _unknown_model(ask.model)
        rng = request_rng(self.config.seed, entry.ordinal) if self._draws else None
        fault = self._fault(ask, entry, rng, reused=reused) if rng else None
        if fault is not None and fault.refusal is not None:
            return self._refusal(fault.refusal)
        times = self._timing.schedule(start_ns, rng)
        return self._exchange(ask, request.head, entry, line, times, fault=fault)

    def _fault(self, ask: Ask, entry: Entry, rng: random.Random, *, reused: bool) -> Fault | None:
        fault = draw_fault(
            self.config.faults, rng
        )  # drawn for every request: the times after it stay the same
        first = self.config.fault_first
        assert entry.ordinal is not None
        if fault is None or (first is not None and entry.ordinal >= first):
            return None
        if not fault.meets(ask, reused=reused):
            return None
        entry.fault = fault.name
        return fault

    def _refusal(self, refusal: Refusal) -> Reply:
        hint = refusal.hint
        hints = hint(self.config.retry_after_s, time.time()) if hint is not None else ()
        return Reply(refusal.status, refusal.body, (*refusal.headers, *hints), refusal.content_type)

    def _exchange(
        self, ask: Ask, head: Head, entry: Entry, line: Line, times: Iterator[int], *, fault: Fault | None
    ) -> _Streamed:
        identity = Identity(serial=f"{self._run_id}{entry.ordinal:012x}", created=int(time.time()))
        stage = fault.stage if fault is not None else None
        answer = self._answers.answer(ask, identity, chunked=stage is None and head.version == (1, 1))
        entry.completion_id = identity.completion_id(ask.kind)
        entry.tokens_planned = answer.tokens * answer.choices
        stats = self.stats
        stats.in_flight += 1
        stats.peak_in_flight = max(stats.peak_in_flight, stats.in_flight)
        if stage is not None:
            return self._staged(stage, answer, head, entry, line, times), b""
        role = answer.opening() if ask.stream else b""
        when = self.config.role_chunk
        exchange = Exchange(
            line,
            entry,
            answer,
            times,
            fault,
            head=partial(self._completion_head, entry, head),
            stats=self.stats,
            role=role if when is RoleChunk.WITH_FIRST else b"",
            at_once=self._timing.at_once,
            stamped=self.log is not None,
            on_end=self._ended,
        )
        return exchange, role if when is RoleChunk.EARLY else b""

    def _staged(
        self, stage: Stage, answer: Answer, head: Head, entry: Entry, line: Line, times: Iterator[int]
    ) -> StagedExchange:
        chunked = head.version == (1, 1)
        headers, pieces = pieces_of(stage, answer, self.config.role_chunk, chunked=chunked)
        return StagedExchange(
            line,
            entry,
            pieces,
            times,
            stage.ending,
            stats=self.stats,
            head=partial(self._staged_head, entry, head, stage.before, headers) if stage.head else None,
            stamped=self.log is not None,
            on_end=self._ended,
        )

    def _staged_head(self, entry: Entry, head: Head, before: bytes, headers: Headers) -> bytes:
        self._count(200)
        processing_ms = (monotonic_ns() - entry.received_ns) // 1_000_000
        ours = _headers(int(time.time()), entry.request_id, processing_ms, keep_alive=head.keep_alive)
        return before + response_head(200, [*ours, *headers])

    def _completion_head(self, entry: Entry, head: Head, length: int) -> bytes:
        self._count(200)
        processing_ms = (monotonic_ns() - entry.received_ns) // 1_000_000
        if length < 0:
            chunked = head.version == (1, 1)
            # without chunks, the end of the connection is the end of the stream
            opened = _stream_head(int(time.time()), keep_alive=head.keep_alive and chunked, chunked=chunked)
            return opened % (entry.request_id.encode(), processing_ms)
        headers = _headers(int(time.time()), entry.request_id, processing_ms, keep_alive=head.keep_alive)
        return response_head(200, [*headers, ("content-type", JSON), ("content-length", str(length))])

    def _ended(self, entry: Entry) -> None:
        stats = self.stats
        stats.in_flight -= 1
        if entry.peer_left_ns is not None:
            stats.client_disconnects += 1
        if self.log is not None:
            self.log.add(entry)

    def _reply(self, reply: Reply, head: Head, entry: Entry, *, log: bool) -> bytes:
        self._count(reply.status)
        entry.status = reply.status
        now = monotonic_ns()
        entry.headers_sent_ns = entry.done_sent_ns = now
        if log and self.log is not None:
            self.log.add(entry)
        processing_ms = (now - entry.received_ns) // 1_000_000
        headers = _headers(int(time.time()), entry.request_id, processing_ms, keep_alive=head.keep_alive)
        length = str(len(reply.body))
        headers += [("content-type", reply.content_type), ("content-length", length), *reply.headers]
        return response_head(reply.status, headers) + (b"" if head.method == "HEAD" else reply.body)

    def _count(self, status: int) -> None:
        by_status = self.stats.by_status
        by_status[str(status)] = by_status.get(str(status), 0) + 1

    def _check_key(self, head: Head) -> Reply | None:
        key = self.config.api_key
        if key is None:
            return None
        given = head.headers.get("authorization", "")
        if compare_digest(given.encode(), f"Bearer {key}".encode()):
            return None
        if not given:
            return _refuse(
                401, "You didn't provide an API key: send the header Authorization: Bearer YOUR_KEY."
            )
        return _refuse(401, "Incorrect API key provided.", code="invalid_api_key")


def _headers(
    second: int, request_id: str, processing_ms: int | str, *, keep_alive: bool
) -> list[tuple[str, str]]:
    """The headers of every answer sent in this second (Unix time)."""
    headers = [
        ("date", _date(second)),
        ("server", "streamgauge-mock"),
        ("x-request-id", request_id),
        ("openai-processing-ms", str(processing_ms)),
    ]
    return headers if keep_alive else [*headers, ("connection", "close")]


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


@lru_cache(maxsize=8)
def _stream_head(second: int, *, keep_alive: bool, chunked: bool) -> bytes:
    """The head of a stream, with `%b` for the request id and `%d` for the ms."""
    headers = _headers(second, "%b", "%d", keep_alive=keep_alive)
    headers += [("content-type", EVENT_STREAM), ("cache-control", "no-cache")]
    if chunked:
        headers.append(("transfer-encoding", "chunked"))
    return response_head(200, headers)


def _refuse(
    status: int,
    message: str,
    error_type: str = "invalid_request_error",
    *,
    param: str | None = None,
    code: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    return Reply(status, error_body(message, error_type, param, code), headers)


def _unknown_model(model: str) -> Reply:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return _refuse(404, message, code="model_not_found")
