"""The request parser: whole, one byte at a time, in any pieces; and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.mock.http import HttpError, Request, RequestParser, chunk, parse_head, response_head

PLAIN = (
    b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    b"content-length: 13\r\n\r\n"
    b'{"prompt":""}'
)
CHUNKED = (
    b"POST /completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name=value\r\n{"pro\r\n8\r\nmpt":""}\r\n0\r\nTrailer: yes\r\n\r\n'
)
GET = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


def parse(pieces: list[bytes]) -> list[Request]:
    parser = RequestParser()
    requests = []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next_request()) is not None:
            requests.append(request)
    assert parser.buffered_bytes == 0
    return requests


def refusal(data: bytes, **limits: int) -> int:
    parser = RequestParser(**limits)
    parser.feed(data)
    with pytest.raises(HttpError) as caught:
        parser.next_request()
    return caught.value.status


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, GET], ids=["plain", "chunked", "get"])
def test_request_split_at_every_byte(data: bytes) -> None:
    whole = parse([data])
    assert len(whole) == 1
    assert whole[0].body in {b'{"prompt":""}', b""}
    for cut in range(1, len(data)):
        assert parse([data[:cut], data[cut:]]) == whole
    assert parse([data[i : i + 1] for i in range(len(data))]) == whole


@given(st.lists(st.sampled_from([PLAIN, CHUNKED, GET, b"\r\n" + PLAIN]), max_size=4), st.data())
def test_requests_sent_ahead_come_out_the_same_in_any_pieces(
    requests: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(pieces) == parse([stream])
    assert len(parse(pieces)) == len(requests)


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=8))
def test_any_body_comes_out_of_any_chunks(body: bytes, sizes: list[int]) -> None:
    chunks, rest = [], body
    for size in sizes:
        if rest[:size]:
            chunks.append(chunk(rest[:size]))
            rest = rest[size:]
    if rest:
        chunks.append(chunk(rest))
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    [request] = parse([head, *chunks, b"0\r\n\r\n"])
    assert request.body == body


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    parser = RequestParser(head_limit_bytes=100, body_limit_bytes=100)
    statuses = set()
    try:
        for start in range(0, len(data), 7):
            parser.feed(data[start : start + 7])
            while parser.next_request() is not None:
                pass
    except HttpError as error:
        statuses.add(error.status)
    assert statuses <= {400, 413, 431, 501, 505}


def test_head_is_read() -> None:
    head = parse_head(b"GET http://proxy.example/v1/models?a=b HTTP/1.1\r\nX-A: 1\r\nx-a:2 \r\nEmpty:")
    assert (head.method, head.path, head.version) == ("GET", "/v1/models", (1, 1))
    assert head.headers == {"x-a": "1, 2", "empty": ""}
    assert head.keep_alive
    assert not parse_head(b"GET / HTTP/1.1\r\nConnection: Close").keep_alive
    assert not parse_head(b"GET / HTTP/1.0").keep_alive
    assert parse_head(b"GET / HTTP/1.0\r\nConnection: keep-alive").keep_alive


def test_expect_continue_is_told_once() -> None:
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert parser.next_request() is None
    assert parser.wants_continue()
    assert not parser.wants_continue()
    parser.feed(b"{}")
    assert parser.next_request() is not None
    assert not parser.wants_continue()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n63\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 500, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2000 + b"\r\n\r\n", 431),
    ],
)
def test_refused(data: bytes, status: int) -> None:
    assert refusal(data, head_limit_bytes=1000, body_limit_bytes=90) == status


def test_response_head() -> None:
    assert (
        response_head(429, [("retry-after", "1")])
        == b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n\r\n"
    )
