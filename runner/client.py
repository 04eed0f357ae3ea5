"""Request to answer over the transport. Every foreign exception becomes an `ErrorKind` here, nowhere else."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from runner.answer import META_KEYS, Answer
from runner.chunks import clean, ends_early, loads
from runner.errors import (
    EXCERPT_LIMIT,
    error_object,
    kind_of_payload,
    message_of,
    one_line,
    printable,
    request_id_of,
)
from runner.record import OWN_FAULT, CancelledBy, Error, ErrorKind, Status, Timer
from runner.redact import Redactor
from runner.retry import is_retryable
from runner.sse import Parser, TooLarge
from runner.stream import Stream, truncated_kind
from runner.target import PATHS, Target, redacted_url
from runner.timeouts import Timeouts
from runner.unpack import Corrupt, CutShort, can_undo, encodings

# Kept of every response; `--keep-header` adds to them.
KEPT_HEADERS = (
    "x-request-id",
    "openai-processing-ms",
    "x-envoy-upstream-service-time",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)
_TIMER_WORDS = {
    "connect": ("no connection within", "--connect-timeout"),
    "first_token": ("no token within", "--first-token-timeout"),
    "token_gap": ("no further token for", "--token-timeout"),
    "byte_idle": ("not a byte for", "--idle-timeout"),
    "total": ("not finished within", "--timeout"),
}


_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})  # open at once, in this process or on this machine


class Outcome(msgspec.Struct, frozen=True):
    """How one attempt ended."""

    status: Status
    error: Error | None = None
    cancelled_by: CancelledBy | None = None


class Client:
    """Sends requests to one target over one session."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        timeouts: Timeouts,
        redact: Redactor,
        keep_headers: tuple[str, ...] = (),
        *,
        stop_after: int | None = None,
    ) -> None:
        """`stop_after`: token-bearing chunks after which an answer is cut on purpose."""
        self._session = session
        self._target = target
        self._timeouts = timeouts
        self._redact = redact
        self._stop_after = stop_after
        self._kept = KEPT_HEADERS + tuple(name.lower() for name in keep_headers)
        self._connected = False  # at least once
        self._urls = {api: URL(target.url(api), encoded=True) for api in PATHS}

    async def attempt(
        self,
        api: str,
        body: bytes,
        opened: Callable[[Stream], None],
        *,
        fresh: bool = False,
        choices: int = 1,
        leave_after: int | None = None,
    ) -> tuple[Stream, Outcome]:
        """One request, one response.

        Args:
            api: endpoint family.
            body: the request's JSON.
            opened: is handed the stream before anything is sent, so that it can be cut from outside.
            fresh: on a connection of its own rather than a kept one.
            choices: how many the body asks for (`n`).
            leave_after: token-bearing chunks after which its user leaves.
        """
        stream = Stream(
            self._timeouts,
            fresh=fresh,
            choices=choices,
            stop_after=self._stop_after if leave_after is None else leave_after,
            stop_by="stop_rule" if leave_after is None else "abandon",
        )
        opened(stream)
        post = self._session.post(self._urls[api], data=body, allow_redirects=False)
        raised: BaseException | None = None
        try:
            await stream.run(post)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as exc:
            raised = exc.with_traceback(None)  # it leads to this frame, and this frame to it: a cycle
        self._connected = self._connected or stream.reused is not None
        return stream, self._outcome(stream, raised)

    def response_of(self, stream: Stream) -> dict[str, Any]:
        """What the server said of itself, with the headers that are kept."""
        found = {name: stream.headers[name] for name in self._kept if name in stream.headers}
        said = stream.answer.response
        # What only this server says may be an echo.
        out = {key: value if key in META_KEYS else self._redact.deep(value) for key, value in said.items()}
        if found:
            out = {**out, "headers": {name: self._redact(value) for name, value in found.items()}}
        return out

    def extra_of(self, stream: Stream, outcome: Outcome) -> dict[str, Any]:
        """What came beside the answer. Of a good one all is the model's; what failed may hold an echo."""
        extra = stream.answer.extra()
        if not extra or outcome.status == "ok":
            return extra
        redacted: dict[str, Any] = self._redact.deep(extra)
        return redacted

    # -- outcome

    def _outcome(self, stream: Stream, raised: BaseException | None) -> Outcome:
        if stream.cancelled_by is not None:
            return Outcome("cancelled", cancelled_by=stream.cancelled_by)
        if stream.held:
            return Outcome("cancelled", cancelled_by="fail_fast")
        if stream.timer is not None:
            # Nothing was sent yet when a connection did not come: that is no answer timed out.
            kind = ErrorKind.CONNECT if stream.timer == "connect" else ErrorKind.TIMEOUT
            return self._failed(stream, kind, self._timed_out(stream.timer), timer=stream.timer)
        if raised is not None and stream.headers_at is None:
            return self._failed(stream, *self._raised(stream, raised))
        if stream.mode == "refusal":
            return self._refusal(stream)
        if stream.too_large:
            return self._failed(stream, ErrorKind.TOO_LARGE, "the answer is larger than this client takes")
        if stream.mode == "document":
            return self._document(stream)
        verdict = stream.answer.verdict(broken=stream.broken is not None)
        if verdict is None:
            return Outcome("ok")
        kind, message, excerpt = verdict
        if _packed(stream) and not stream.answer.choices and stream.answer.error is None:
            return self._not_undone(stream)
        if stream.broken is not None and kind in {ErrorKind.TRUNCATED, ErrorKind.EMPTY_STREAM}:
            kind, message = self._broken(stream.broken)
        return self._failed(stream, kind, message, excerpt=excerpt)

    def _refusal(self, stream: Stream) -> Outcome:
        status = stream.status or 0
        body = b"" if _packed(stream) else b"".join(stream.document)
        excerpt = body[:EXCERPT_LIMIT].decode("utf-8", "replace")
        error = _error_in(body)
        kind = kind_of_payload(error, status)
        message = f"HTTP {status}: {message_of(error or excerpt)}"
        if kind is ErrorKind.REDIRECT:
            place = redacted_url(stream.headers.get("location", ""))
            message = (
                f"HTTP {status} to {place or 'nowhere'}: redirects are not followed, name that URL instead"
            )
        return self._failed(stream, kind, message, excerpt=excerpt)

    def _document(self, stream: Stream) -> Outcome:
        body = b"".join(stream.document)
        excerpt = body[:EXCERPT_LIMIT].decode("utf-8", "replace")
        try:
            payload = loads(body)
        except (ValueError, RecursionError):
            return self._no_document(stream, body, excerpt)
        error = error_object(payload)
        if error is not None:
            return self._failed(stream, kind_of_payload(error), message_of(error), excerpt=excerpt)
        if not isinstance(payload, dict) or not isinstance(payload.get("choices"), list):
            text = "the answer is JSON, but no completion"
            return self._failed(stream, ErrorKind.BAD_CONTENT_TYPE, text, excerpt=excerpt)
        stream.answer.whole(payload, stream.ended_at or 0)
        verdict = stream.answer.verdict(broken=False)
        if verdict is None:
            return Outcome("ok")
        return self._failed(stream, verdict[0], verdict[1], excerpt=excerpt)

    def _no_document(self, stream: Stream, body: bytes, excerpt: str) -> Outcome:
        """What a body is that is neither a stream nor JSON."""
        stray = _stray_error(body)
        if stray is not None:
            return self._failed(stream, stray[0], stray[1], excerpt=excerpt)
        if _packed(stream):
            return self._not_undone(stream)
        is_page = body.startswith(b"<")
        if stream.broken is not None and not is_page:
            return self._failed(stream, *self._broken(stream.broken), excerpt=excerpt)
        if body[:1] in {b"{", b"["} and _is_close_delimited(stream) and ends_early(body):
            text = "the connection closed before the answer ended"
            return self._failed(stream, ErrorKind.TRUNCATED, text, excerpt=excerpt)
        content_type = stream.headers.get("content-type", "no content type")
        text = f"the answer is neither a stream nor a completion ({content_type}): is this the API's URL?"
        return self._failed(stream, ErrorKind.BAD_CONTENT_TYPE, text, excerpt=excerpt)

    def _not_undone(self, stream: Stream) -> Outcome:
        text = f"this client does not know the response's encoding ({', '.join(_packed(stream))})"
        return self._failed(stream, ErrorKind.BAD_ENCODING, text, retryable=False)

    def _failed(
        self,
        stream: Stream,
        kind: ErrorKind,
        message: str,
        *,
        timer: Timer | None = None,
        excerpt: str | None = None,
        retryable: bool = True,
    ) -> Outcome:
        if kind is ErrorKind.TIMEOUT and timer is None:
            timer = "server"
        request_id, excerpt = self._redact(request_id_of(stream.headers)), self._redact(excerpt)
        error = Error(
            kind=kind,
            message=one_line(clean(self._redact(message))),
            http_status=stream.status,
            retryable=retryable and is_retryable(kind),
            request_id=None if request_id is None else one_line(request_id),
            timer=timer,
            excerpt=None if excerpt is None else printable(clean(excerpt)),
        )
        return Outcome("error", error)

    def _timed_out(self, timer: Timer) -> str:
        words, flag = _TIMER_WORDS[timer]
        hint = (
            "; is it an http:// server?"
            if timer == "connect" and self._target.base_url.startswith("https")
            else ""
        )
        limit = getattr(self._timeouts, timer)
        return f"{words} {limit:g} s (this client's limit, {flag}){hint}"

    # -- foreign exceptions

    def _broken(self, exc: BaseException) -> tuple[ErrorKind, str]:
        if isinstance(exc, Corrupt):
            return ErrorKind.BAD_ENCODING, "the response's content encoding cannot be undone"
        if isinstance(exc, CutShort):
            return ErrorKind.TRUNCATED, "the body ended before its content encoding did"
        if isinstance(exc, TooLarge):
            return ErrorKind.TOO_LARGE, "the answer is larger than this client takes"
        if isinstance(exc, HttpProcessingError):
            return ErrorKind.TRUNCATED, f"the response broke HTTP's rules half-way ({type(exc).__name__})"
        return ErrorKind.TRUNCATED, f"the connection broke before the answer ended ({_reason(exc)})"

    def _raised(self, stream: Stream, exc: BaseException) -> tuple[ErrorKind, str]:
        """What an exception before the response began means. TLS errors are connection errors too: first."""
        host = self._target.host
        # Without a connection before it is rather an address this machine has no way to (`::1`, say).
        if _errno(exc) == errno.EADDRNOTAVAIL and self._connected:
            lack = f"no port is left to connect to {host} (ip_local_port_range): does it keep connections?"
            return ErrorKind.CONNECT, f"{OWN_FAULT}{lack}"
        if _errno(exc) in _NO_FILES:
            return ErrorKind.CONNECT, f"{OWN_FAULT}{_reason(exc).lower()} to connect to {host} (ulimit -n)"
        if isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
            detail = getattr(exc, "os_error", exc)
            reason = (
                getattr(detail, "verify_message", "") or getattr(detail, "reason", "") or "handshake failed"
            )
            return ErrorKind.TLS, f"no secure connection to {host}: {reason}"
        if isinstance(exc, aiohttp.ClientHttpProxyError):
            kind = ErrorKind.AUTH if exc.status == 407 else ErrorKind.CONNECT
            return kind, f"the proxy did not connect to {host}: HTTP {exc.status}"
        if isinstance(exc, aiohttp.ClientProxyConnectionError):
            return ErrorKind.CONNECT, f"cannot connect to the proxy: {_reason(exc.os_error)}"
        if isinstance(exc, aiohttp.ClientConnectorDNSError):
            return ErrorKind.CONNECT, f"cannot resolve the name of {host}"
        if isinstance(exc, aiohttp.ClientConnectorError):
            return ErrorKind.CONNECT, f"cannot connect to {host}: {_reason(exc.os_error)}"
        if isinstance(exc, aiohttp.ClientResponseError | HttpProcessingError):
            return ErrorKind.PROTOCOL, f"{host} does not answer in HTTP ({_own_words(exc)})"
        if isinstance(exc, aiohttp.ServerDisconnectedError | OSError | aiohttp.ClientConnectionError):
            if stream.sent_at is None and stream.reused is None:
                return ErrorKind.CONNECT, f"cannot connect to {host}: {_reason(exc)}"
            return truncated_kind(stream), f"{host} closed the connection before answering ({_reason(exc)})"
        return ErrorKind.PROTOCOL, f"{host}: {type(exc).__name__}"


def _stray_error(body: bytes) -> tuple[ErrorKind, str] | None:
    """The error of a stream that begins with it as a bare line of JSON, and so did not look like a stream."""
    parser, answer = Parser(), Answer()
    for event in [*parser.feed(body, 0, 0), *parser.finish(0)]:
        answer.feed(event)
    return None if answer.error is None else answer.error[:2]


def _error_in(body: bytes) -> object | None:
    """What the body of a refusal says, be it JSON or an event stream; `None` where it is neither."""
    try:
        payload = loads(body)
    except (ValueError, RecursionError):
        return _error_in_events(body)
    if isinstance(payload, list) and payload:
        payload = payload[0]
    return error_object(payload) or (payload if isinstance(payload, dict) else None)


def _error_in_events(body: bytes) -> object | None:
    parser = Parser()
    for data, _, _ in [*parser.feed(body, 0, 0), *parser.finish(0)]:
        try:
            error = error_object(loads(data))
        except (ValueError, RecursionError):
            continue
        if error is not None:
            return error
    return None


def _packed(stream: Stream) -> list[str]:
    """The encodings of the body that cannot be undone, whatever it holds."""
    codings = encodings(stream.headers.get("transfer-encoding", ""))
    if codings:
        return codings
    names = encodings(stream.headers.get("content-encoding", ""))
    return [] if can_undo(names) else names


def _is_close_delimited(stream: Stream) -> bool:
    return "content-length" not in stream.headers and "transfer-encoding" not in stream.headers


def _errno(exc: BaseException) -> int:
    """Of the system, where it said no; else 0."""
    number = getattr(getattr(exc, "os_error", exc), "errno", None)
    return number if isinstance(number, int) and number > 0 else 0


def _reason(exc: BaseException) -> str:
    """Why, without any text a library made of the request (it can hold headers)."""
    number = _errno(exc)
    if number:
        return os.strerror(number)
    if isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "closed by the server"
    return type(exc).__name__


def _own_words(exc: BaseException) -> str:
    message = str(getattr(exc, "message", "") or type(exc).__name__)
    return message.splitlines()[0][:200] if message else type(exc).__name__
