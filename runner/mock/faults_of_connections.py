"""Faults of the connection: it breaks, it falls silent, or HTTP is spoken in odd ways."""

from __future__ import annotations

from typing import Any

from runner.mock import framing
from runner.mock.events import half, is_done, is_usage
from runner.mock.fault import GOOD, Fault, Recorded, Scope, encoded, failed, staged
from runner.mock.framing import written
from runner.mock.oddities import without
from runner.mock.refusals import JSON
from runner.mock.staging import Ending, changed, nothing

_CUT = failed("truncated", text="part")


def _silent(name: str, timer: str, what: str, *, text: Any = "none", **stage: Any) -> Fault:
    return staged(name, what, failed("timeout", timer=timer, text=text), **stage)


CONNECTION = (
    staged(
        "close-before-head",
        "closed before a byte of the response",
        failed("disconnected"),
        nothing,
        Scope.ANY,
        head=False,
        ending=Ending.CLOSE,
    ),
    staged(
        "reset-before-head",
        "reset before a byte of the response",
        failed("disconnected"),
        nothing,
        Scope.ANY,
        head=False,
        ending=Ending.RESET,
    ),
    staged(
        "stale",
        "a kept connection is closed when the next request comes on it",
        Recorded(wait_for="stale_connection"),
        nothing,
        Scope.REUSED,
        head=False,
        ending=Ending.CLOSE,
    ),
    Fault(name="reset", what="reset after half of the tokens", recorded=_CUT, ending=Ending.RESET),
    staged(
        "close",
        "closed after half of the tokens, the chunked body not ended",
        _CUT,
        changed(half),
        carry=framing.unended,
        ending=Ending.CLOSE,
    ),
    staged("cut", "half of the tokens, then an orderly end of the body", _CUT, changed(half)),
    staged(
        "cut-close",
        "half of the tokens of a body that lasts as long as the connection, then closed",
        _CUT,
        changed(half),
        carry=framing.until_close,
        ending=Ending.CLOSE,
    ),
    staged(
        "short-length",
        "`Content-Length` says more than comes: closed after half of the tokens",
        _CUT,
        changed(half),
        carry=framing.oversized,
        ending=Ending.CLOSE,
    ),
    staged(
        "bad-chunk-size",
        "after half of the tokens a chunk whose size is no number, the connection open",
        _CUT,
        changed(half),
        carry=framing.wrong_size,
        ending=Ending.STALL,
    ),
    staged(
        "reset-after-finish",
        "reset after the finish reason, before usage",
        Recorded(usage="none"),
        changed(without(is_done, is_usage)),
        carry=framing.unended,
        ending=Ending.RESET,
    ),
    staged(
        "reset-after-done",
        "reset after `[DONE]`",
        GOOD,
        written(),
        carry=framing.unended,
        ending=Ending.RESET,
    ),
    staged(
        "no-last-chunk",
        "closed after `[DONE]`, the chunked body not ended",
        GOOD,
        written(),
        carry=framing.unended,
        ending=Ending.CLOSE,
    ),
    staged(
        "hold-after-done",
        "`[DONE]`, and the connection held open",
        GOOD,
        written(),
        carry=framing.unended,
        ending=Ending.STALL,
    ),
    _silent(
        "stall-before-head",
        "first_token",
        "no response, the connection open",
        body=nothing,
        scope=Scope.ANY,
        head=False,
        ending=Ending.STALL,
    ),
    _silent(
        "stall-after-head",
        "byte_idle",
        "headers, and no byte after them",
        body=nothing,
        carry=framing.unended,
        ending=Ending.STALL,
    ),
    Fault(
        name="stall",
        what="silence after half of the tokens, the connection open",
        recorded=failed("timeout", timer="token_gap", text="part"),
        ending=Ending.STALL,
    ),
    _silent(
        "comments-before-token",
        "first_token",
        "comments for ever in place of tokens",
        body=nothing,
        carry=framing.unended,
        ending=Ending.COMMENTS,
    ),
    _silent(
        "comments-after-half",
        "token_gap",
        "comments for ever after half of the tokens",
        text="part",
        body=changed(half),
        carry=framing.unended,
        ending=Ending.COMMENTS,
    ),
)

CARRIED = (
    staged("http-length", "a stream with `Content-Length`", GOOD, written(), carry=framing.sized),
    staged(
        "http-close",
        "a body that lasts as long as the connection",
        GOOD,
        written(),
        carry=framing.until_close,
        ending=Ending.CLOSE,
    ),
    staged(
        "http-1xx",
        "102 and 103 before the response",
        GOOD,
        written(),
        before=b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n",
    ),
    staged(
        "http-odd-chunks", "chunks of 7 bytes, with extensions", GOOD, written(), carry=framing.odd_chunks
    ),
    staged("http-trailer", "headers after the body", GOOD, written(), carry=framing.with_trailer),
    staged(
        "gzip",
        "gzip, though it was not asked for",
        GOOD,
        written(framing.compressed(31)),
        headers=encoded("gzip"),
    ),
    staged(
        "deflate",
        "deflate, though it was not asked for",
        GOOD,
        written(framing.compressed(15)),
        headers=encoded("deflate"),
    ),
    staged("no-content-type", "no `Content-Type`", GOOD, written(), content_type=None),
    staged(
        "wrong-content-type",
        "the stream is called `text/plain` in Latin-1",
        GOOD,
        written(),
        content_type="text/plain; charset=iso-8859-1",
    ),
    staged(
        "whole", "the completion as one JSON body", Recorded(streamed=False), framing.whole, content_type=JSON
    ),
    staged(
        "whole-as-stream",
        "the same, called an event stream",
        Recorded(streamed=False),
        framing.whole,
    ),
)
