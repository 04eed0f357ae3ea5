"""Whole responses, byte for byte: what HTTP, encodings and closed connections can do to an answer."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Literal

from runner.record import ErrorKind as Kind
from tests.runner.streams_json import HELLO, sse, usage

BODY = sse(*HELLO, done=True)
_PART = sse(*HELLO[:3])
_FINISHED = sse(*HELLO[:4])
_LONG = _PART * 20
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_WHOLE = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        ],
        "usage": usage(2),
    }
).encode()
_QUOTA = b'{"error": {"message": "m", "code": "insufficient_quota"}}'
_BUSY = b'{"error": {"message": "m", "code": 503}}'


@dataclass(frozen=True)
class Http:
    """A response, how the connection goes on, and what a correct client makes of it."""

    response: bytes
    kind: Kind | None = None
    text: str = "Hello"
    then: Literal["hold", "close", "reset"] = "hold"
    status: int | None = 200
    retryable: bool | None = None  # None: as the kind is


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _sized(length: int, body: bytes) -> bytes:
    return _OK + b"Content-Length: %d\r\n\r\n" % length + body


def _with(header: bytes, body: bytes = BODY) -> bytes:
    """A chunked response with one more header line."""
    return _CHUNKED[:-2] + header + b"\r\n\r\n" + _piece(body) + _END


def _packed(encoding: bytes, body: bytes) -> bytes:
    return _with(b"Content-Encoding: " + encoding, body)


def _refused(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n"
    return head % (status, headers, len(body)) + body


def _flushed(data: bytes, wbits: int = 31) -> bytes:
    """As a server packs a stream: all of it can be read, and the end is missing."""
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def _bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


_BAD_CRC = gzip.compress(_PART)[:-8] + b"\0" * 8

HTTP: dict[str, Http] = {
    # heads
    "100 continue": Http(b"HTTP/1.1 100 Continue\r\n\r\n" + _CHUNKED + _piece(BODY) + _END),
    "fifty 102s": Http(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + _CHUNKED + _piece(BODY) + _END),
    "101": Http(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        Kind.PROTOCOL,
        "",
        status=101,
    ),
    "102, then nothing": Http(b"HTTP/1.1 102 P\r\n\r\n", Kind.DISCONNECTED, "", "close", None),
    "half a status line": Http(b"HTTP/1.", Kind.TRUNCATED, "", "close", None),
    "half a head": Http(b"HTTP/1.1 200 OK\r\nContent-Ty", Kind.TRUNCATED, "", "close", None),
    "half a head, reset": Http(b"HTTP/1.1 200 OK\r\nContent-Ty", Kind.TRUNCATED, "", "reset", None),
    "102 and half a head": Http(b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 2", Kind.TRUNCATED, "", "close", None),
    "nothing, closed": Http(b"", Kind.DISCONNECTED, "", "close", None),
    "nothing, reset": Http(b"", Kind.DISCONNECTED, "", "reset", None),
    "no reason phrase": Http(_CHUNKED.replace(b"200 OK", b"200") + _piece(BODY) + _END),
    "a reason phrase of odd bytes": Http(_CHUNKED.replace(b"OK", b"\xff\xc3\xa9") + _piece(BODY) + _END),
    "a header of odd bytes": Http(_with(b"X-A: \xe9\xff")),
    "a folded header": Http(_with(b"X-A: a\r\n b")),
    "an odd cookie": Http(_with(b"Set-Cookie: \x01=;;;=,")),
    "an odd content type": Http(_CHUNKED.replace(b"text/event-stream", b";;=/") + _piece(BODY) + _END),
    "two content types": Http(_with(b"Content-Type: text/html")),
    "an upgrade that is none": Http(_with(b"Upgrade: h2c\r\nConnection: upgrade")),
    "a header of 65,000 bytes": Http(_with(b"X-A: " + b"a" * 65_000)),
    "a header of 70,000 bytes": Http(_with(b"X-A: " + b"a" * 70_000), Kind.PROTOCOL, "", status=None),
    "a header with a nul": Http(_with(b"X-A: a\0b"), Kind.PROTOCOL, "", status=None),
    "a header without a name": Http(_with(b": a"), Kind.PROTOCOL, "", status=None),
    "line feeds alone in the head": Http(_CHUNKED.replace(b"\r\n", b"\n") + _piece(BODY) + _END),
    "a blank line before the head": Http(b"\r\n" + _CHUNKED + _piece(BODY) + _END),
    "http 1.0, kept": Http(_sized(len(BODY), BODY).replace(b"1.1", b"1.0")),
    "http 1.0, chunked": Http(_CHUNKED.replace(b"1.1", b"1.0") + _piece(BODY) + _END),
    "http 2": Http(b"HTTP/2 200 OK\r\n\r\n", Kind.PROTOCOL, "", status=None),
    "http 2 frames": Http(b"\0\0\x12\x04\0\0\0\0\0", Kind.PROTOCOL, "", status=None),
    "http 0.9": Http(b"<html>hi</html>", Kind.PROTOCOL, "", "close", None),
    "shoutcast": Http(b"ICY 200 OK\r\n\r\n", Kind.PROTOCOL, "", status=None),
    "status 600": Http(_refused(b"600 X", b""), Kind.PROTOCOL, "", status=600),
    "status 99": Http(_refused(b"099 X", b""), Kind.PROTOCOL, "", status=99),
    "status of two digits": Http(_refused(b"20 X", b""), Kind.PROTOCOL, "", status=None),
    # lengths
    "length too long, closed after done": Http(_sized(9999, BODY), then="close"),
    "length too long, held after done": Http(_sized(9999, BODY)),
    "length too long, closed": Http(_sized(9999, _PART), Kind.TRUNCATED, then="close"),
    "length too long, reset": Http(_sized(9999, _PART), Kind.TRUNCATED, then="reset"),
    "length too long, no body": Http(_sized(9999, b""), Kind.TRUNCATED, "", "close"),
    "length too short": Http(_sized(len(_PART), BODY), Kind.TRUNCATED),
    "length too short by the last bytes": Http(_sized(len(BODY) - 4, BODY)),
    "length too short for the finish": Http(_sized(len(_FINISHED) - 10, BODY), Kind.TRUNCATED),
    "length twice": Http(
        _OK + b"Content-Length: 9\r\nContent-Length: 8\r\n\r\n" + BODY, Kind.PROTOCOL, "", status=None
    ),
    "length negative": Http(_OK + b"Content-Length: -5\r\n\r\n" + BODY, Kind.PROTOCOL, "", status=None),
    "length of words": Http(_OK + b"Content-Length: many\r\n\r\n" + BODY, Kind.PROTOCOL, "", status=None),
    "length of no number ever": Http(
        _OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", Kind.PROTOCOL, "", status=None
    ),
    "length 0": Http(_sized(0, b""), Kind.EMPTY_STREAM, ""),
    "closed is the end": Http(_OK + b"\r\n" + BODY, then="close"),
    "closed is the end, nothing in it": Http(_OK + b"\r\n", Kind.EMPTY_STREAM, "", "close"),
    "closed is the end, and it is reset": Http(_OK + b"\r\n", Kind.TRUNCATED, "", "reset"),
    "closed is the end, cut": Http(_OK + b"\r\n" + _PART, Kind.TRUNCATED, then="close"),
    "closed is the end, reset mid-stream": Http(_OK + b"\r\n" + _PART, Kind.TRUNCATED, then="reset"),
    "closed is the end, reset after the finish": Http(_OK + b"\r\n" + _FINISHED, then="reset"),
    # chunks
    "chunk extensions": Http(_CHUNKED + b'%x;a=b;c="d"\r\n%s\r\n' % (len(BODY), BODY) + _END),
    "chunk sizes with zeros and capitals": Http(_CHUNKED + b"000%X\r\n%s\r\n" % (len(BODY), BODY) + _END),
    "chunk sizes with spaces": Http(_CHUNKED + b"%x  \r\n%s\r\n" % (len(BODY), BODY) + _END),
    "chunks of one byte": Http(_CHUNKED + b"".join(_piece(bytes([b])) for b in BODY) + _END),
    "chunked in capitals": Http(_CHUNKED.replace(b"chunked", b"Chunked") + _piece(BODY) + _END),
    "trailers": Http(_CHUNKED + _piece(BODY) + b"0\r\nA: b\r\nC: d\r\n\r\n"),
    "trailers that are none": Http(_CHUNKED + _piece(BODY) + b"0\r\nA b\r\n\r\n"),
    "trailers that are none, cut": Http(_CHUNKED + _piece(_PART) + b"0\r\nA b\r\n\r\n", Kind.TRUNCATED),
    "no chunk at all": Http(_CHUNKED + _END, Kind.EMPTY_STREAM, ""),
    "no chunk at all, closed": Http(_CHUNKED, Kind.TRUNCATED, "", "close"),
    "no chunk at all, reset": Http(_CHUNKED, Kind.TRUNCATED, "", "reset"),
    "a chunk size that is none": Http(_CHUNKED + _piece(_PART) + b"zz\r\n", Kind.TRUNCATED),
    "a chunk size that is none, first": Http(_CHUNKED + b"zz\r\n", Kind.TRUNCATED, ""),
    "a chunk size that is none, after the finish": Http(_CHUNKED + _piece(_FINISHED) + b"zz\r\n"),
    "a chunk size that is none, after done": Http(_CHUNKED + _piece(BODY) + b"zz\r\n"),
    "a chunk size that is none, behind a 103": Http(
        b"HTTP/1.1 103 E\r\n\r\n" + _CHUNKED + _piece(_PART) + b"zz\r\n", Kind.TRUNCATED
    ),
    "a chunk size of 0x": Http(_CHUNKED + _piece(_PART) + b"0x5\r\nhello\r\n", Kind.TRUNCATED),
    "a chunk size below zero": Http(_CHUNKED + _piece(_PART) + b"-5\r\nhello\r\n", Kind.TRUNCATED),
    "a chunk size beyond all": Http(_CHUNKED + _piece(_PART) + b"f" * 20 + b"\r\n", Kind.TRUNCATED),
    "a chunk longer than its size": Http(
        _CHUNKED + b"%x\r\n%s\r\n" % (len(_PART), BODY) + _END, Kind.TRUNCATED
    ),
    "a chunk shorter than its size": Http(
        _CHUNKED + b"%x\r\n%s\r\n" % (len(_PART) + 3, _PART) + _END, Kind.TRUNCATED
    ),
    "chunked, and no chunks": Http(_CHUNKED + BODY, Kind.TRUNCATED, ""),
    "line feeds alone between chunks": Http(
        _CHUNKED + b"%x\n%s\n0\n\n" % (len(BODY), BODY), Kind.TRUNCATED, ""
    ),
    "no last chunk, closed after the finish": Http(_CHUNKED + _piece(_FINISHED), then="close"),
    "no last chunk, reset after the finish": Http(_CHUNKED + _piece(_FINISHED), then="reset"),
    "no last chunk, reset after done": Http(_CHUNKED + _piece(BODY), then="reset"),
    "no last chunk, held after done": Http(_CHUNKED + _piece(BODY)),
    "no last chunk, closed": Http(_CHUNKED + _piece(_PART), Kind.TRUNCATED, then="close"),
    "no last chunk, reset": Http(_CHUNKED + _piece(_PART), Kind.TRUNCATED, then="reset"),
    "half a last chunk": Http(_CHUNKED + _piece(_FINISHED) + b"0\r\n", then="close"),
    "half a last chunk, cut": Http(_CHUNKED + _piece(_PART) + b"0\r\n", Kind.TRUNCATED, then="close"),
    "chunked and with a length": Http(_with(b"Content-Length: 5"), Kind.PROTOCOL, "", status=None),
    "chunked twice": Http(_with(b"Transfer-Encoding: chunked")),
    "identity": Http(_OK + b"Transfer-Encoding: identity\r\n\r\n" + BODY, then="close"),
    "packed and chunked": Http(
        _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _piece(gzip.compress(BODY)) + _END,
        Kind.BAD_ENCODING,
        "",
        retryable=False,
    ),
    "two responses at once": Http((_CHUNKED + _piece(BODY) + _END) * 2),
    "junk behind the response": Http(_CHUNKED + _piece(BODY) + _END + b"junk"),
    # encodings
    "gzip": Http(_packed(b"gzip", gzip.compress(BODY))),
    "gzip in capitals": Http(_packed(b"GZIP", gzip.compress(BODY))),
    "gzip by its old name": Http(_packed(b"x-gzip", gzip.compress(BODY))),
    "gzip twice": Http(_packed(b"gzip, gzip", gzip.compress(gzip.compress(BODY)))),
    "deflate, then gzip": Http(_packed(b"deflate, gzip", gzip.compress(zlib.compress(BODY)))),
    "gzip of several members": Http(_packed(b"gzip", b"".join(gzip.compress(sse(c)) for c in HELLO))),
    "gzip with zeros behind": Http(_packed(b"gzip", gzip.compress(BODY) + b"\0" * 9)),
    "gzip, flushed and without an end": Http(_packed(b"gzip", _flushed(BODY))),
    "gzip, flushed and held": Http(_packed(b"gzip", _flushed(BODY)).removesuffix(_END)),
    "gzip with a length": Http(
        _OK
        + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(BODY))
        + gzip.compress(BODY)
    ),
    "gzip until the end": Http(_OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY), then="close"),
    "gzip, cut": Http(_packed(b"gzip", gzip.compress(_LONG)[:40]), Kind.TRUNCATED, ""),
    "gzip, flushed and cut": Http(_packed(b"gzip", _flushed(_PART)), Kind.TRUNCATED),
    "gzip of a cut stream": Http(_packed(b"gzip", gzip.compress(_PART)), Kind.TRUNCATED),
    "gzip of nothing": Http(_packed(b"gzip", gzip.compress(b"")), Kind.EMPTY_STREAM, ""),
    "gzip, one byte": Http(_packed(b"gzip", b"\x1f"), Kind.TRUNCATED, ""),
    "gzip, no body": Http(
        _OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", Kind.EMPTY_STREAM, ""
    ),
    "gzip that is none": Http(_packed(b"gzip", BODY), Kind.BAD_ENCODING, "", retryable=True),
    "gzip, broken after a while": Http(_packed(b"gzip", _flushed(_PART) + b"\xff" * 50), Kind.BAD_ENCODING),
    "gzip, broken after the finish": Http(_packed(b"gzip", _flushed(_FINISHED) + b"\xff" * 50)),
    "gzip with a wrong sum": Http(_packed(b"gzip", _BAD_CRC), Kind.BAD_ENCODING),
    "deflate": Http(_packed(b"deflate", zlib.compress(BODY))),
    "deflate, bare": Http(_packed(b"deflate", _bare_deflate(BODY))),
    "deflate, flushed and without an end": Http(_packed(b"deflate", _flushed(BODY, 15))),
    "deflate, cut": Http(_packed(b"deflate", zlib.compress(_LONG)[:40]), Kind.TRUNCATED, ""),
    "deflate that is none": Http(_packed(b"deflate", BODY), Kind.BAD_ENCODING, ""),
    "brotli": Http(_packed(b"br", b"\x1b\x03\0\xf8"), Kind.BAD_ENCODING, "", retryable=False),
    "zstd": Http(_packed(b"zstd", b"\x28\xb5\x2f\xfd"), Kind.BAD_ENCODING, "", retryable=False),
    "brotli that is none": Http(_packed(b"br", BODY)),
    "an encoding nobody knows": Http(
        _packed(b"x-own", b"\0\1\2" * 9), Kind.BAD_ENCODING, "", retryable=False
    ),
    "an encoding nobody knows, no stream": Http(
        _packed(b"x-own", b"\0\1").replace(b"text/event-stream", b"application/json"),
        Kind.BAD_ENCODING,
        "",
        retryable=False,
    ),
    "encodings that are none": Http(_packed(b"identity, utf-8,", BODY)),
    # whole documents
    "a completion, length too long": Http(_sized(9999, _WHOLE), then="close"),
    "a completion, reset": Http(_CHUNKED + _piece(_WHOLE), then="reset"),
    "a completion, cut by the length": Http(_sized(len(_WHOLE) - 20, _WHOLE), Kind.BAD_CONTENT_TYPE, ""),
    "a completion, cut by the close": Http(_OK + b"\r\n" + _WHOLE[:-20], Kind.TRUNCATED, "", "close"),
    "a completion, cut inside a text": Http(_OK + b"\r\n" + _WHOLE[:90], Kind.TRUNCATED, "", "close"),
    "a completion, gzip": Http(_packed(b"gzip", gzip.compress(_WHOLE))),
    "an error, reset": Http(_CHUNKED + _piece(_BUSY), Kind.OVERLOADED, "", "reset"),
    "an error as a list": Http(_CHUNKED + _piece(b"[" + _BUSY + b"]") + _END, Kind.OVERLOADED, ""),
    "a page": Http(_sized(15, b"<html>x</html>\n"), Kind.BAD_CONTENT_TYPE, ""),
    "a page, reset": Http(_CHUNKED + _piece(b"<html>"), Kind.BAD_CONTENT_TYPE, "", "reset"),
    "a page, endless": Http(_CHUNKED + _piece(b"<html>" + b"x" * 70_000), Kind.BAD_CONTENT_TYPE, ""),
    "lines of json": Http(_sized(38, b'{"choices": []}\n' * 2 + b'{"a":1'), Kind.BAD_CONTENT_TYPE, ""),
    "lines of json, an error in them": Http(
        _CHUNKED + _piece(b'{"choices": []}\n' + _BUSY + b"\n") + _END, Kind.OVERLOADED, ""
    ),
    "204": Http(b"HTTP/1.1 204 No Content\r\n\r\n", Kind.EMPTY_STREAM, "", status=204),
    "204 with a body": Http(
        b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", Kind.EMPTY_STREAM, "", status=204
    ),
    "205": Http(_refused(b"205 Reset", b""), Kind.EMPTY_STREAM, "", status=205),
    "201": Http(_CHUNKED.replace(b"200 OK", b"201 Created") + _piece(BODY) + _END, status=201),
    "299": Http(_CHUNKED.replace(b"200 OK", b"299 Odd") + _piece(BODY) + _END, status=299),
    # refusals
    "300": Http(_refused(b"300 X", b""), Kind.REDIRECT, "", status=300),
    "304": Http(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", Kind.REDIRECT, "", status=304),
    "308": Http(_refused(b"308 X", b"", b"Location: https://u:p@h/\r\n"), Kind.REDIRECT, "", status=308),
    "429, quota in a stream": Http(
        _refused(b"429 X", b"data: " + _QUOTA + b"\n\ndata: [DONE]\n\n"), Kind.QUOTA, "", status=429
    ),
    "429, quota in a stream, cut": Http(_refused(b"429 X", b"data: " + _QUOTA), Kind.QUOTA, "", status=429),
    "429, quota in a list": Http(_refused(b"429 X", b"[" + _QUOTA + b", {}]"), Kind.QUOTA, "", status=429),
    "429, quota in gzip": Http(
        _refused(b"429 X", gzip.compress(_QUOTA), b"Content-Encoding: gzip\r\n"), Kind.QUOTA, "", status=429
    ),
    "429, broken gzip": Http(
        _refused(b"429 X", b"abcd", b"Content-Encoding: gzip\r\n"), Kind.RATE_LIMIT, "", status=429
    ),
    "429, brotli": Http(
        _refused(b"429 X", b"\x1b\3\0\xf8", b"Content-Encoding: br\r\n"), Kind.RATE_LIMIT, "", status=429
    ),
    "429, an answer": Http(
        _CHUNKED.replace(b"200", b"429") + _piece(BODY) + _END, Kind.RATE_LIMIT, "", status=429
    ),
    "402": Http(_refused(b"402 X", b""), Kind.QUOTA, "", status=402),
    "403, quota": Http(_refused(b"403 X", _QUOTA), Kind.QUOTA, "", status=403),
    "400, a bill": Http(
        _refused(b"400 X", b'{"code": "Arrearage", "message": "m"}'), Kind.QUOTA, "", status=400
    ),
    "400, over a gateway's budget": Http(
        _refused(b"400 X", b'{"error": {"message": "m", "type": "budget_exceeded", "code": "400"}}'),
        Kind.QUOTA,
        "",
        status=400,
    ),
    "401, a text": Http(_refused(b"401 X", b'{"error": "Unauthorized"}'), Kind.AUTH, "", status=401),
    "403, a page": Http(
        _refused(b"403 X", b"<!DOCTYPE html><title>Just a moment...</title>"), Kind.AUTH, "", status=403
    ),
    "413, tokens a minute": Http(
        _refused(b"413 X", b'{"error": {"type": "tokens", "code": "rate_limit_exceeded"}}'),
        Kind.BAD_REQUEST,
        "",
        status=413,
    ),
    "424, tgi": Http(
        _refused(b"424 X", b'{"error": "Request failed during generation", "error_type": "generation"}'),
        Kind.SERVER_ERROR,
        "",
        status=424,
    ),
    "498, groq": Http(_refused(b"498 X", b""), Kind.OVERLOADED, "", status=498),
    "503, hugging face": Http(
        _refused(b"503 X", b'{"error": "Model is currently loading", "estimated_time": 20.0}'),
        Kind.OVERLOADED,
        "",
        status=503,
    ),
    "an event stream of amazon's": Http(
        _CHUNKED.replace(b"text/event-stream", b"application/vnd.amazon.eventstream")
        + _piece(b"\0\0\0\x8b\0\0\0\x4b\xd1\x0b\xf9\x16\r:content-type")
        + _END,
        Kind.BAD_CONTENT_TYPE,
        "",
    ),
    "google's list over several lines": Http(
        _CHUNKED.replace(b"text/event-stream", b"application/json")
        + _piece(json.dumps([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], indent=2).encode())
        + _END,
        Kind.RATE_LIMIT,
        "",
    ),
    "lm studio, 200 anyway": Http(
        _refused(
            b"200 OK",
            b'{"error":"Unexpected endpoint or method. Returning 200 anyway"}',
            b"Content-Type: application/json\r\n",
        ),
        Kind.STREAM_ERROR,
        "",
    ),
    "null": Http(_sized(4, b"null"), Kind.EMPTY_STREAM, ""),
    "a text in quotes": Http(
        _refused(b"200 OK", b'"ok"', b"Content-Type: application/json\r\n"), Kind.BAD_CONTENT_TYPE, ""
    ),
    "envoy's words": Http(
        _refused(b"200 OK", b"upstream connect error", b"Content-Type: text/plain\r\n"),
        Kind.BAD_CONTENT_TYPE,
        "",
    ),
    "451": Http(_refused(b"451 X", b""), Kind.BAD_REQUEST, "", status=451),
    "500 until the end": Http(b"HTTP/1.1 500 X\r\n\r\nsorry", Kind.SERVER_ERROR, "", "close", 500),
    "500 without a body, reset": Http(b"HTTP/1.1 500 X\r\n\r\n", Kind.SERVER_ERROR, "", "reset", 500),
    "502, half its body": Http(
        b"HTTP/1.1 502 X\r\nContent-Length: 99\r\n\r\n<html>", Kind.SERVER_ERROR, "", "close", 502
    ),
    "503, a broken chunk": Http(
        b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Kind.OVERLOADED, "", status=503
    ),
    "522 page": Http(
        _refused(b"522 X", b"<!DOCTYPE html><title>522</title>"), Kind.SERVER_ERROR, "", status=522
    ),
    "529": Http(_refused(b"529 X", _BUSY), Kind.OVERLOADED, "", status=529),
    "500, endless": Http(b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 70_000, Kind.SERVER_ERROR, "", status=500),
}
