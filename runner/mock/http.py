"""Just enough HTTP/1.1, without input or output: bytes to requests, and answers to bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

import msgspec

HEAD_LIMIT_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 64 * 1024 * 1024
_CHUNK_LINE_LIMIT_BYTES = 4096

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(\d)\.(\d)")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00\r\n]*)?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class HttpError(Exception):
    """A request that is no HTTP, or more than we take. The connection cannot be used after it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head(msgspec.Struct, frozen=True):
    """Request line and headers: names in lower case, repeated ones joined by a comma."""

    method: str
    path: str  # without query string, scheme and host
    version: tuple[int, int]
    headers: dict[str, str]
    content_length: int  # 0 where the body is chunked
    chunked: bool
    keep_alive: bool
    expects_continue: bool


class Request(msgspec.Struct, frozen=True):
    """One request, whole."""

    head: Head
    body: bytes


# A client repeats its head byte for byte, but for the length of the body: parsed once, looked up after that.
@lru_cache(maxsize=512)
def parse_head(block: bytes) -> Head:
    """The head of a request, from its bytes without the blank line at the end."""
    first, *lines = block.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise HttpError(400, "the request line is not HTTP")
    version = (int(match[3]), int(match[4]))
    if version not in {(1, 0), (1, 1)}:
        raise HttpError(505, f"HTTP {version[0]}.{version[1]} is not spoken here, only 1.0 and 1.1")
    headers: dict[str, str] = {}
    for line in lines:
        field = _HEADER_LINE.fullmatch(line)
        if field is None:
            raise HttpError(400, "a header line is not `name: value`")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length, chunked = _body_framing(headers)
    connection = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keep_alive = "close" not in connection and (version == (1, 1) or "keep-alive" in connection)
    return Head(
        method=match[1].decode("ascii"),
        path=_path(match[2].decode("ascii")),
        version=version,
        headers=headers,
        content_length=length,
        chunked=chunked,
        keep_alive=keep_alive,
        expects_continue=version == (1, 1) and headers.get("expect", "").lower() == "100-continue",
    )


def _path(target: str) -> str:
    if "://" in target:  # the absolute form, as sent to a proxy
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0]


def _body_framing(headers: dict[str, str]) -> tuple[int, bool]:
    """Content length in bytes, and whether the body is chunked instead."""
    encoding = headers.get("transfer-encoding")
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise HttpError(501, f"transfer encoding {encoding!r} is not known here, only chunked")
        if "content-length" in headers:
            raise HttpError(400, "both Content-Length and Transfer-Encoding were given")
        return 0, True
    lengths = {value.strip() for value in headers.get("content-length", "0").split(",")}
    length = lengths.pop()
    if lengths or not _DIGITS.fullmatch(length):
        raise HttpError(400, "Content-Length is not one number")
    return int(length), False


class RequestParser:
    """Bytes in, requests out, one at a time: what follows a request stays raw until it is asked for.

    `feed` bytes as they come, then call `next_request` until it gives None. An `HttpError` is final.
    """

    def __init__(
        self, *, head_limit_bytes: int = HEAD_LIMIT_BYTES, body_limit_bytes: int = BODY_LIMIT_BYTES
    ) -> None:
        self._head_limit = head_limit_bytes
        self._body_limit = body_limit_bytes
        self._buffer = bytearray()
        self._scanned = 0  # bytes known to hold no end of head: one byte a packet stays linear
        self._head: Head | None = None  # set while its body is awaited
        self._body = bytearray()  # chunks so far
        self._in_trailer = False
        self._trailer_bytes = 0
        self._continue = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes not yet part of a request given out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._buffer += data

    def wants_continue(self) -> bool:
        """True once for a request whose sender waits for `100 Continue` before it sends the body."""
        wanted, self._continue = self._continue, False
        return wanted

    def next_request(self) -> Request | None:
        """The next whole request, or None until more bytes are fed."""
        head = self._head
        if head is None:
            head = self._read_head()
            if head is None:
                return None
            self._head = head
            self._continue = head.expects_continue
        body = self._read_chunks() if head.chunked else self._read_length(head.content_length)
        if body is None:
            return None
        self._head = None
        self._continue = False
        return Request(head, body)

    def _read_head(self) -> Head | None:
        buffer = self._buffer
        if self._scanned == 0:
            while buffer[:2] == b"\r\n":  # some clients send an empty line after a body
                del buffer[:2]
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if end > self._head_limit or (end < 0 and len(buffer) > self._head_limit):
            raise HttpError(431, f"the request's head is larger than {self._head_limit} bytes")
        if end < 0:
            # not at 0 while the bytes could still be the start of empty lines
            self._scanned = max(0, len(buffer) - 3)
            return None
        head = parse_head(bytes(buffer[:end]))
        if head.content_length > self._body_limit:
            raise HttpError(413, f"the request's body is larger than {self._body_limit} bytes")
        del buffer[: end + 4]
        self._scanned = 0
        return head

    def _read_length(self, length: int) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        body = bytes(buffer[:length])
        del buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        buffer = self._buffer
        while True:
            line_end = buffer.find(b"\r\n")
            if line_end > _CHUNK_LINE_LIMIT_BYTES or (line_end < 0 and len(buffer) > _CHUNK_LINE_LIMIT_BYTES):
                raise HttpError(400, "a chunk's size line is too long")
            if line_end < 0:
                return None
            if self._in_trailer:
                self._trailer_bytes += line_end
                if self._trailer_bytes > self._head_limit:
                    raise HttpError(431, f"the request's trailer is larger than {self._head_limit} bytes")
                del buffer[: line_end + 2]
                if line_end == 0:
                    return self._whole_body()
                continue
            match = _CHUNK_LINE.fullmatch(buffer[:line_end])
            if match is None:
                raise HttpError(400, "a chunk does not start with its size")
            size = int(match[1], 16)
            if size == 0:
                self._in_trailer = True
                del buffer[: line_end + 2]
                continue
            if len(self._body) + size > self._body_limit:
                raise HttpError(413, f"the request's body is larger than {self._body_limit} bytes")
            end = line_end + 2 + size
            if len(buffer) < end + 2:
                return None
            if buffer[end : end + 2] != b"\r\n":
                raise HttpError(400, "a chunk is not as long as it says")
            self._body += memoryview(buffer)[line_end + 2 : end].tobytes()
            del buffer[: end + 2]

    def _whole_body(self) -> bytes:
        body = bytes(self._body)
        self._body.clear()
        self._in_trailer = False
        self._trailer_bytes = 0
        return body


def response_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers, with the blank line at the end."""
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Error')}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
