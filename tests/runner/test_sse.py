"""Bytes to events: against a plain reading of the standard, whole, byte by byte and in any pieces."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.sse import BARE, Event, Parser, TooLarge
from tests.runner.streams import CORPUS, HANDY

AWKWARD = (
    b"\xef\xbb\xbf: hi\r\n\r\ndata: a\rdata:b\n\ndata:  c\r\n\r\nevent: error\rdata\r\rid: 1\nretry: 5\n\n"
    b'data: \xe2\x80\xa8\xc2\x85\n\nevent: x\n\ndata: d\n\n\n\n{"error":1}\n\nda\xff: no\ndata: e\r\n'
)


def feed_all(pieces: list[bytes], *, limit: int = 64 << 20, finish: bool = True) -> list[Event]:
    """Events of a stream that came in these pieces; the n-th piece is stamped n."""
    parser = Parser(limit)
    events = []
    for number, data in enumerate(pieces):
        events += parser.feed(data, number, max(number - 1, 0))
    if finish:
        events += parser.finish(max(len(pieces) - 1, 0))
    return events


def bare(events: list[Event]) -> list[tuple[bytes, str]]:
    return [(data, kind) for data, kind, _ in events]


def reference(stream: bytes) -> list[tuple[bytes, str, int]]:
    """The same, read whole and plainly; in place of a stamp, the offset of the last data line's last byte."""
    skipped = 3 if stream.startswith(b"\xef\xbb\xbf") else 0
    found: list[tuple[bytes, str, int]] = []
    data: list[bytes] = []
    strays: list[tuple[bytes, str, int]] = []
    kind, last, at = "", 0, skipped
    ends = [*re.finditer(rb"\r\n|\n|\r", stream[skipped:]), None]
    for end in ends:
        stop = len(stream) if end is None else skipped + end.start()
        line = stream[at:stop]
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
            last = stop - 1
        elif name == b"event":
            kind = value.decode("utf-8", "replace").replace("\0", "")
        elif line.startswith(b"{") or (name == b"error" and value.startswith(b"{")):
            # Behind the event it stands in.
            (strays if data else found).append((line if name != b"error" else value, BARE, stop - 1))
        if not line or end is None:
            if data:
                found.append((b"\n".join(data), kind, last))
                found += strays
            data, kind, strays = [], "", []
        at = stop if end is None else skipped + end.end()
    return found


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[a:b] for a, b in pairwise(places)]


def expected(stream: bytes, pieces: list[bytes]) -> list[Event]:
    """What the reference reads, each event stamped with the number of the piece that holds its offset."""
    ends, total = [], 0
    for item in pieces:
        total += len(item)
        ends.append(total)
    return [
        (data, kind, next(n for n, end in enumerate(ends) if offset < end))
        for data, kind, offset in reference(stream)
    ]


# -- the grammar


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end(end: bytes) -> None:
    stream = b"data: a\ndata: b\n\nevent: e\ndata: c\n\n".replace(b"\n", end)
    assert bare(feed_all([stream], finish=False)) == [(b"a\nb", ""), (b"c", "e")]


def test_line_ends_mixed() -> None:
    assert bare(feed_all([b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r"])) == [(b"a\nb\nc", ""), (b"d", "")]


def test_crlf_split_between_reads_is_one_line_end() -> None:
    assert bare(feed_all([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"], finish=False)) == [(b"a\nb", "")]


def test_a_cr_inside_what_looks_like_a_single_line() -> None:
    assert bare(feed_all([b"\n", b"data: a\rdata: b\n\n"], finish=False)) == [(b"a\nb", "")]


def test_an_lf_in_a_read_of_its_own_after_cr_is_no_blank_line() -> None:
    assert feed_all([b"data: a\r", b"\n"], finish=False) == []


def test_an_empty_read_between_cr_and_lf_changes_nothing() -> None:
    assert feed_all([b"data: a\r", b"", b"\n"], finish=False) == []


@pytest.mark.parametrize(
    "value", [b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\0"]
)
def test_other_separators_are_no_line_ends(value: bytes) -> None:
    assert bare(feed_all([b"data: a" + value + b"b\n\n"])) == [(b"a" + value + b"b", "")]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"data:x", b"x"),
        (b"data: x", b"x"),
        (b"data:  x", b" x"),
        (b"data:\tx", b"\tx"),
        (b"data: x ", b"x "),
        (b"data:", b""),
        (b"data", b""),
        (b"data: ", b""),
        (b"data:a:b", b"a:b"),
        (b"data::", b":"),
        (b"data:[DONE]", b"[DONE]"),
    ],
)
def test_one_space_after_the_colon_is_not_data(line: bytes, value: bytes) -> None:
    assert bare(feed_all([line + b"\n\n"], finish=False)) == [(value, "")]
    assert bare(feed_all([b"\n" + line + b"\n\n"], finish=False)) == [(value, "")]


@pytest.mark.parametrize(
    "line",
    [
        b": comment",
        b":",
        b"::",
        b":data: x",
        b"id: 1",
        b"retry: 9",
        b"event: ping",
        b"Data: x",
        b" data: x",
        b"datax",
        b"data : x",
        b"\xff\xfe",
        b"foo",
    ],
)
def test_lines_that_make_no_event(line: bytes) -> None:
    assert feed_all([line + b"\n\n"]) == []
    assert bare(feed_all([line + b"\ndata: x\n\n"]))[0][0] == b"x"


def test_the_type_ends_with_its_event_and_the_last_wins() -> None:
    events = feed_all([b"event: a\nevent: b\ndata: 1\n\ndata: 2\n\nevent: c\n\ndata: 3\n\n"])
    assert bare(events) == [(b"1", "b"), (b"2", ""), (b"3", "")]


def test_the_type_is_kept_over_reads_for_the_quick_way() -> None:
    assert bare(feed_all([b"\n", b"event: error\n", b"data: x\n\n", b"data: y\n\n"])) == [
        (b"x", "error"),
        (b"y", ""),
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"da", b"data: x\n\n"],
        [b"data: a\n", b"data: b\n\n"],
        [b"data: a\r", b"data: b\n\n"],
        [b"data: a\r\r", b"data: b\n\n", b"\ndata: c\n\n"],
        [b"data: a\n\n", b"data: b\n\n", b"data: c\r\n\r\n", b"data: d\n\n"],
        [b": ping\n\n", b"data:a\n\n", b"event\n\n"],
        [b"data: a\ndata: b\n\n"],
        [b"data: a\n\ndata: b\n\n"],
        [b"data: a\n\n\n", b"data: b\n\n"],
        [b"data: a\n", b"\n"],
        [b"data: a", b"\n\n"],
        [b"data: a\nx", b"data: b\n\n", b"data: c\n\n"],
        [b"data: \n\n", b"data: a\n\n"],
        [b"event: e\n", b"data: a\n\n", b"data: b\n\n"],
        [b"event: e\n", b"data: a\n", b"\n", b"data: b\n\n"],
    ],
)
def test_reads_that_end_where_lines_end(pieces: list[bytes]) -> None:
    """Most reads are one event. What is not, or comes in the middle of another, is not taken for one."""
    pieces = [b"\n", *pieces]
    assert feed_all(pieces) == expected(b"".join(pieces), pieces)


@pytest.mark.parametrize(
    ("pieces", "idle"),
    [
        ([], False),
        ([b"\n"], True),
        ([b"data: a\n\n"], True),
        ([b": a\n"], True),
        ([b"data: a\n"], False),
        ([b"\n", b"da"], False),
        ([b"event: e\n"], False),
        ([b"event: e\n\n"], True),
        ([b"data: a\r\n\r"], False),
        ([b"data: a\r\n\r", b"\n"], True),
    ],
)
def test_idle_is_where_nothing_is_pending(pieces: list[bytes], idle: bool) -> None:
    parser = Parser()
    for number, data in enumerate(pieces):
        parser.feed(data, number, number)
    assert parser.idle is idle


def test_no_type_a_server_sends_is_taken_for_a_bare_line() -> None:
    assert bare(feed_all([b"event: " + BARE.encode() + b"\ndata: x\n\n"])) == [(b"x", "bare")]


def test_one_bom_at_the_start_and_nowhere_else() -> None:
    assert bare(feed_all([b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"])) == [(b"a", "")]
    assert feed_all([b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n"]) == []


def test_a_bom_of_three_reads() -> None:
    assert bare(feed_all([b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"])) == [(b"a", "")]


def test_what_only_begins_like_a_bom_is_kept() -> None:
    assert bare(feed_all([b"\xef", b"\xbb", b"data: a\n\ndata: b\n\n"])) == [(b"b", "")]


def test_an_object_without_data_is_told_apart() -> None:
    assert bare(feed_all([b'{"error": 1}\n\n'])) == [(b'{"error": 1}', BARE)]
    assert bare(feed_all([b'{"error": 1}'])) == [(b'{"error": 1}', BARE)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_the_event_the_end_of_the_body_cut_short(end: bytes) -> None:
    assert bare(feed_all([b"data: a\n\nevent: e\ndata: b\ndata: c" + end])) == [(b"a", ""), (b"b\nc", "e")]


@pytest.mark.parametrize("stream", [b"", b"\n", b"event: e", b": c", b"data: a\n\n", b"\xef\xbb", b"\r"])
def test_nothing_is_left_where_nothing_was_begun(stream: bytes) -> None:
    parser = Parser()
    parser.feed(stream, 1, 0)
    assert parser.finish(1) == []


# -- pieces


@pytest.mark.parametrize("name", HANDY)
def test_an_event_a_read_gives_the_same_events(name: str) -> None:
    body = CORPUS[name].body
    pieces = [b"\n", *re.split(rb"(?<=\n\n)", body)]
    assert feed_all(pieces) == expected(b"".join(pieces), pieces)


@pytest.mark.parametrize("name", HANDY)
def test_one_byte_a_read_gives_the_same_events(name: str) -> None:
    stream = CORPUS[name].body
    single = [stream[n : n + 1] for n in range(len(stream))]
    assert feed_all([stream]) == expected(stream, [stream])
    assert feed_all(single) == expected(stream, single)


@pytest.mark.parametrize("stream", [AWKWARD, AWKWARD.replace(b"\n", b"\r"), AWKWARD.replace(b"\n", b"\r\n")])
def test_every_split_in_two_gives_the_same_events(stream: bytes) -> None:
    for place in range(len(stream) + 1):
        pieces = [part for part in (stream[:place], stream[place:]) if part]
        assert feed_all(pieces) == expected(stream, pieces), place


LINES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: error",
        b"event:",
        b":",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"{",
        b"error: {",
        b"}",
        b"x",
        b"\xe2\x80\xa8",
        b"\xff",
        b"\xef\xbb\xbf",
        b"[DONE]",
        b" ",
        b"id: 1",
        b"\0",
        b'data: {"a":1}\n\n',
    ]
)


@given(st.lists(LINES, max_size=30).map(b"".join), st.lists(st.integers(0, 400), max_size=12))
@example(b"data: a\r\n\r\n", [8, 9, 10])
def test_any_pieces_give_the_events_and_stamps_of_a_plain_reading(stream: bytes, at: list[int]) -> None:
    pieces = cut(stream, at)
    assert feed_all(pieces) == expected(stream, pieces)


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(1, 100))
def test_no_bytes_raise_anything_but_too_large(pieces: list[bytes], limit: int) -> None:
    try:
        feed_all(pieces, limit=limit)
    except TooLarge:
        assert sum(map(len, pieces)) > limit


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_arbitrary_bytes_in_arbitrary_pieces(stream: bytes, at: list[int]) -> None:
    pieces = cut(stream, at)
    assert feed_all(pieces) == expected(stream, pieces)


# -- stamps


def stamps(*pieces: bytes) -> list[int]:
    return [at for _, _, at in feed_all(list(pieces))]


def test_an_event_is_stamped_with_its_own_read() -> None:
    assert stamps(b"data: a\n\n", b"data: b\n\n", b"data: c\n\ndata: d\n\n") == [0, 1, 2, 2]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_line_end_that_trails_in_later_makes_no_token_late(end: bytes) -> None:
    single = [end[n : n + 1] for n in range(len(end))]
    assert stamps(b"\n", b"data: a", *single, b"data: b\n\n") == [1, len(end) + 2]
    assert stamps(b"\n", b"data: a" + end[:1], end[1:]) == [1]


def test_a_line_end_in_one_read_with_the_next_event() -> None:
    assert stamps(b"data: a", b"\n\ndata: b\n\n") == [0, 1]


def test_the_last_data_line_counts() -> None:
    assert stamps(b"data: a\n", b"data: b", b"c\n", b"id: 1\n", b"\n") == [2]


def test_a_comment_before_the_blank_line_does_not_count() -> None:
    assert stamps(b"data: a\n", b": c\n", b"\n") == [0]


def test_what_the_end_of_the_body_cut_short_has_the_last_stamp() -> None:
    assert stamps(b"data: a", b"b") == [1]
    assert stamps(b"data: ab\n", b"id: 1\n") == [0]


# -- size


def test_a_huge_event_in_small_pieces_costs_what_it_holds() -> None:
    # Joining what there is with every piece would move 3 TB: this test would not end.
    value = b"x" * (20 << 20)
    stream = b"data: " + value + b"\n\n"
    events = feed_all([stream[n : n + 64] for n in range(0, len(stream), 64)])
    assert [(len(data), at) for data, _, at in events] == [(len(value), (len(value) + 5) // 64)]


def test_a_huge_event_of_many_lines() -> None:
    pieces = [b"data: x\n"] * 200_000 + [b"\n"]
    assert [len(data) for data, _, _ in feed_all(pieces)] == [399_999]


def test_a_hundred_thousand_events_in_one_read() -> None:
    assert feed_all([b"data: x\n\n" * 100_000]) == [(b"x", "", 0)] * 100_000


def test_a_hundred_thousand_comments_in_single_bytes() -> None:
    assert feed_all([b":", b"\n"] * 100_000) == []


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: ", *[b"x" * 10] * 11],
        [b"data: xxxxxxxxxx\n"] * 11,
        [b"data:xxxxxxxxxx\n"] * 11,
        [b"\n", b"data: " + b"x" * 101],
        [b":", *[b"x" * 10] * 11],
        [b"data: " + b"x" * 60 + b"\n", b"data: " + b"x" * 60],
    ],
    ids=["one line", "lines", "lines without space", "one read", "comment", "line and partial line"],
)
def test_an_event_above_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(TooLarge):
        feed_all(pieces, limit=100)


def test_the_limit_is_an_events_and_not_a_streams() -> None:
    events = feed_all([b"data: " + b"x" * 50 + b"\n\n", b"data: ", b"x" * 50 + b"\n", b"\n"] * 50, limit=100)
    assert len(events) == 100
