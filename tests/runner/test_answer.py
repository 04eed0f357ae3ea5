"""Events to one answer: every class of stream, down both ways, in any pieces."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.answer import Answer
from runner.chunks import clean, loads
from runner.record import ErrorKind
from runner.sse import Parser
from tests.runner.streams import CORPUS, HANDY, HELLO, delta, sse, usage

NAMES = list(CORPUS)


def read(body: bytes, *, quick: bool = True, size: int | None = None) -> Answer:
    """The answer of a body that came in reads of `size` bytes, the n-th stamped n."""
    answer, parser = Answer(quick=quick), Parser()
    size = size or max(len(body), 1)
    pieces = [body[n : n + size] for n in range(0, len(body), size)]
    for at, data in enumerate(pieces):
        for event in parser.feed(data, at, max(at - 1, 0)):
            answer.feed(event)
    for event in parser.finish(max(len(pieces) - 1, 0)):
        answer.tail(event)
    return answer


def said(*payloads: Any, done: bool = False, quick: bool = True) -> Answer:
    """The answer of events that came in one read each."""
    answer = Answer(quick=quick)
    for at, payload in enumerate(payloads):
        parser = Parser()
        for event in parser.feed(sse(payload), at, at):
            answer.feed(event)
    if done:
        answer.feed((b"[DONE]", "", len(payloads)))
    return answer


def everything(answer: Answer) -> dict[str, Any]:
    """All an answer says, in a form that compares (NaN equals itself)."""
    return {
        "choice": answer.main_choice(),
        "choices": answer.all_choices(),
        "extra": repr(answer.extra()),
        "usage": repr(answer.usage),
        "response": repr(sorted(answer.response.items())),
        "first_token": answer.first_token_at,
        "first_content": answer.first_content_at,
        "last_token": answer.last_token_at,
        "token_at": answer.token_at,
        "chunk_tokens": answer.chunk_tokens(),
        "done": answer.done_at,
        "closing": answer.closing_at,
        "finished": answer.finished,
        "error": answer.error,
        "verdicts": [answer.verdict(broken=True), answer.verdict(broken=False)],
    }


# -- every stream


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """At the limit of recursion, where some of these go, nothing that others left behind can be finalised."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", NAMES)
def test_every_stream_is_read_right(name: str) -> None:
    case = CORPUS[name]
    answer = read(case.body)
    verdict = answer.verdict(broken=False)
    assert (verdict and verdict[0]) is case.kind
    main = answer.main_choice()
    assert main["text"] == case.text
    assert main["finish_reason"] == case.finish
    assert answer.usage == case.usage
    assert {key: main[key] for key in case.more} == case.more
    if case.tokens is not None:
        assert len(answer.token_at) == case.tokens


@pytest.mark.parametrize("name", NAMES)
def test_both_ways_agree(name: str) -> None:
    body = CORPUS[name].body
    assert everything(read(body)) == everything(read(body, quick=False))


def test_both_ways_agree_on_two_ends_in_one_read() -> None:
    """The second of them says more of the server: that counts, though its stamp is the first one's."""
    odd = {**delta("a", finish="length"), "vendor": 1}
    del odd["created"]
    body = sse(odd, {**delta(finish="stop"), "vendor": 1})
    quick, general = read(body), read(body, quick=False)
    assert everything(quick) == everything(general)
    assert general.response["created"] == 1_700_000_000


@pytest.mark.parametrize("quick", [True, False])
def test_what_has_a_field_of_its_own_is_kept_nowhere_else(quick: bool) -> None:
    delta_keys: dict[str, Any] = {
        "refusal": None,
        "tool_calls": None,
        "function_call": None,
        "reasoning_content": None,
    }
    odd = {**delta("a", role="assistant", reasoning="hm", **delta_keys), "vendor": 1}
    whole = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    failed = {**delta(finish="error"), "error": {"message": "m"}}
    for payloads in ((odd, delta(finish="stop")), (odd, {"choices": [whole]}), (odd, failed)):
        answer = said(*payloads, quick=quick)
        assert answer.extra() == {}
        assert answer.response.keys() <= {"id", "model", "created", "vendor"}
    answer = said({"choices": [{**whole, "error": None, "text": None, "usage": usage(1)}]}, quick=quick)
    assert answer.extra() == {}


@pytest.mark.parametrize(
    ("chunk", "plain"),
    [
        (delta("a"), "a"),
        (delta("a", role="assistant", reasoning=None, refusal="", tool_calls=[]), "a"),
        (delta("a", refusal="no"), None),
        (delta("a", reasoning="hm"), None),
        (delta("a", tool_calls=[{"index": 0, "function": {"name": "f"}}]), None),
        (delta("a", finish="stop"), None),
        (delta("a", index=1), None),
        (delta(""), None),
        (delta(), None),
        ({**delta("a"), "usage": usage(1)}, None),
        ({**delta("a"), "choices": [*delta("a")["choices"], *delta("b")["choices"]]}, None),
        ({**delta("a"), "vendor": 1}, None),
    ],
)
def test_what_the_steady_way_may_take_for_more_of_the_same(chunk: Any, plain: str | None) -> None:
    assert said(delta("x"), chunk).plain == plain


_TIMED = {"closing", "first_token", "first_content", "last_token", "token_at", "done"}


def untimed(answer: Answer) -> dict[str, Any]:
    """All an answer says, but for the reads its times are the numbers of."""
    return {key: value for key, value in everything(answer).items() if key not in _TIMED} | {
        "tokens": len(answer.token_at)
    }


def read_pieces(pieces: list[bytes], *, quick: bool = True) -> Answer:
    """The answer of a body that came in these reads."""
    answer, parser = Answer(quick=quick), Parser()
    for data in pieces:
        for event in parser.feed(data, 1, 1):
            answer.feed(event)
    for event in parser.finish(1):
        answer.tail(event)
    return answer


_PLACES = st.lists(st.integers(0, 5000), max_size=8)


def cut_at(body: bytes, places: list[int]) -> list[bytes]:
    """The body in reads that end at these places, counted from the start again where it is shorter."""
    ends = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[a:b] for a, b in pairwise(ends)]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(HANDY), _PLACES, st.booleans())
def test_reads_may_end_anywhere(name: str, places: list[int], quick: bool) -> None:
    body = CORPUS[name].body
    assert untimed(read_pieces(cut_at(body, places), quick=quick)) == untimed(read(body))


@pytest.mark.parametrize("name", HANDY)
def test_a_read_may_end_at_every_byte(name: str) -> None:
    # All of them at once, and every one once: the borders lie seven apart, and one byte later each time.
    body = CORPUS[name].body
    whole = untimed(read(body))
    single = everything(read(body, size=1))
    assert {k: single[k] for k in whole if k != "tokens"} | {"tokens": len(single["token_at"])} == whole
    timed = everything(read(body))
    assert {k for k, v in single.items() if v is None} == {k for k, v in timed.items() if v is None}
    for first in range(7):
        assert untimed(read_pieces(cut_at(body, list(range(first, len(body), 7))))) == whole


_ENDED = [n for n in HANDY if CORPUS[n].body.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))]


def test_what_says_nothing_may_follow() -> None:
    for name in _ENDED:
        body = CORPUS[name].body
        whole = untimed(read(body))
        for behind in (b"\n", b"\r\n", b": ping\n\n", b"id: 9\nretry: 1\n\n", b"event: x\n\n"):
            assert untimed(read(body + behind)) == whole, name


def test_nothing_after_done_counts() -> None:
    for name in [name for name in HANDY if CORPUS[name].body.endswith(b"data: [DONE]\n\n")]:
        body = CORPUS[name].body
        whole = untimed(read(body))
        for behind in (b"data: {oops\n\n", sse({"error": "x"}), sse(delta("x")), b"\xff\0{", b"data: x"):
            assert untimed(read(body + behind)) == whole, name


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HANDY), st.data())
def test_a_stream_of_wrong_bytes_is_read_the_same_both_ways(name: str, data: st.DataObject) -> None:
    body = bytearray(CORPUS[name].body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=4))
    pieces = cut_at(bytes(body), data.draw(_PLACES))
    quick = everything(read_pieces(pieces))
    assert quick == everything(read_pieces(pieces, quick=False))
    assert len(quick["token_at"]) <= len(body)


def test_every_stream_can_be_written_as_strict_json() -> None:
    for case in CORPUS.values():
        answer = read(case.body)
        out = clean(
            [answer.main_choice(), answer.all_choices(), answer.extra(), answer.usage, answer.response]
        )
        json.dumps(out, ensure_ascii=False).encode("utf-8")


@given(st.sampled_from(HANDY), st.data())
def test_a_stream_cut_anywhere_is_never_called_ok_for_its_end_alone(name: str, data: st.DataObject) -> None:
    body = CORPUS[name].body
    place = data.draw(st.integers(0, len(body)))
    answer = read(body[:place])
    if answer.verdict(broken=True) is None:
        assert answer.finished or (answer.done_at is not None and answer.token_at)


_TEXTS = st.sampled_from([None, "", "a", "b\u2028", "é"])
_DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": _TEXTS,
        "reasoning_content": _TEXTS,
        "reasoning": _TEXTS,
        "refusal": _TEXTS,
        "function_call": st.none(),
        "audio": st.sampled_from([None, {"id": "x"}]),
        "tool_calls": st.sampled_from(
            [
                None,
                [],
                [None],
                [{"index": 0}],
                [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}],
                [{"index": 0, "function": {"arguments": "{}"}}],
                [{"index": 0, "function": {"arguments": ""}}],
                [{"id": "b", "function": {"name": "g"}}],
            ]
        ),
    },
)
_CHUNKS = st.fixed_dictionaries(
    {
        "id": st.just("c"),
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.sampled_from([0, 1, 7, -1]),
                    "delta": st.one_of(st.none(), _DELTAS),
                    "text": _TEXTS,
                    "finish_reason": st.sampled_from([None, "", "null", "stop", "abort"]),
                    "logprobs": st.sampled_from([None, {"content": [1]}]),
                    "stop_reason": st.none(),
                },
            ),
            max_size=2,
        ),
    },
    optional={
        "usage": st.sampled_from([None, usage(3), {"completion_tokens": None}, {"completion_tokens": 5}]),
        "error": st.sampled_from([None, "", {}]),
        "obfuscation": st.just("x"),
    },
)


@given(st.lists(_CHUNKS, max_size=6))
def test_both_ways_agree_on_any_chunks(chunks: list[dict[str, Any]]) -> None:
    assert everything(said(*chunks, done=True)) == everything(said(*chunks, done=True, quick=False))


@given(st.lists(st.binary(max_size=40), max_size=5), st.sampled_from(["", "error", "ping", "\0bare"]))
def test_no_payload_raises(payloads: list[bytes], kind: str) -> None:
    answer = Answer()
    for payload in payloads:
        answer.feed((payload, kind, 1))
        answer.tail((payload, kind, 1))
    everything(answer)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "index",
                    "finish_reason",
                    "usage",
                    "error",
                    "tool_calls",
                    "function",
                    "arguments",
                    "name",
                    "id",
                    "type",
                    "message",
                    "text",
                    "x_v",
                    "code",
                    "logprobs",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=4))
def test_no_json_raises_and_all_of_it_can_be_written(payloads: list[Any]) -> None:
    for quick in (True, False):
        answer = said(*payloads, quick=quick)
        out = everything(answer)
        json.dumps(clean([out["choice"], out["choices"], answer.extra(), answer.response]))


# -- times


def test_stamps_are_those_of_tokens_only() -> None:
    answer = said(
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(""),
        delta("a"),
        delta("b"),
        delta(finish="stop"),
        {"choices": [], "usage": usage(3)},
        done=True,
    )
    assert (answer.first_token_at, answer.first_content_at, answer.last_token_at) == (1, 3, 4)
    assert answer.token_at == [1, 3, 4]
    assert answer.done_at == 7


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    "payload",
    [
        delta(role="assistant"),
        delta(""),
        delta(reasoning_content=""),
        delta(reasoning=""),
        delta(refusal=""),
        delta(tool_calls=[]),
        delta(
            tool_calls=[
                {"index": 0, "id": "a", "type": "function", "function": {"name": "", "arguments": ""}}
            ]
        ),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}]),
        delta(finish="stop"),
        {"choices": [], "usage": usage(3)},
        {"choices": [{"index": 0, "text": ""}]},
    ],
    ids=lambda p: json.dumps(p.get("choices")),
)
def test_what_is_no_token(payload: dict[str, Any], quick: bool) -> None:
    answer = said(payload, quick=quick)
    assert (answer.first_token_at, answer.first_content_at, answer.last_token_at, answer.token_at) == (
        None,
        None,
        None,
        [],
    )


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    ("payload", "is_content"),
    [
        (delta(" "), True),
        (delta("\n"), True),
        ({"choices": [{"index": 0, "text": "x"}]}, True),
        (delta([{"type": "text", "text": "x"}]), True),
        (delta(reasoning_content="x"), False),
        (delta(reasoning="x"), False),
        (delta(refusal="x"), False),
        (delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]), False),
        (delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]), False),
    ],
    ids=lambda p: json.dumps(p.get("choices")) if isinstance(p, dict) else str(p),
)
def test_what_is_a_token(payload: dict[str, Any], is_content: bool, quick: bool) -> None:
    answer = said({"choices": []}, payload, quick=quick)
    assert (answer.first_token_at, answer.last_token_at, answer.token_at) == (1, 1, [1])
    assert answer.first_content_at == (1 if is_content else None)


def test_a_whole_completion_has_no_token_times() -> None:
    answer = Answer()
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    answer.whole(
        {
            "id": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage(2),
        },
        9,
    )
    assert not answer.streamed
    assert answer.verdict(broken=False) is None
    assert (answer.first_token_at, answer.first_content_at, answer.last_token_at) == (None, None, None)
    assert answer.token_at == []
    assert answer.chunk_tokens() is None
    assert answer.main_choice()["text"] == "Hello"
    assert answer.main_choice()["reasoning"] == "hm"
    assert answer.usage == usage(2)


# -- tokens a chunk


def test_chunk_tokens_from_cumulative_usage() -> None:
    answer = said(*[{**delta("x"), "usage": usage(n)} for n in (1, 4, 4, 6)], delta(finish="stop"))
    assert answer.chunk_tokens() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [delta("x"), delta("y")],
        [{**delta("x"), "usage": usage(1)}, delta("y")],
        [delta("x"), {**delta("y"), "usage": usage(2)}],
        [{**delta("x"), "usage": usage(5)}, {**delta("y"), "usage": usage(2)}],
        [{**delta("x"), "usage": {"completion_tokens": "1"}}],
        [{**delta("x"), "usage": usage(1)}, {**delta("y", index=1), "usage": usage(2)}],
    ],
    ids=["none", "untold", "untold later", "untold first", "going down", "no number", "two choices"],
)
def test_chunk_tokens_are_absent_where_they_are_not_told(chunks: list[dict[str, Any]]) -> None:
    assert said(*chunks).chunk_tokens() is None


# -- verdicts


def test_an_empty_stream_says_what_came_in_place_of_a_token() -> None:
    for answer, word in ((said(done=True), "[DONE]"), (said(), "the end of the body")):
        verdict = answer.verdict(broken=False)
        assert verdict is not None
        assert verdict[:2] == (ErrorKind.EMPTY_STREAM, f"{word} came before a single token")


def test_a_broken_transport_after_the_finish_is_ok() -> None:
    assert said(*HELLO[:4]).verdict(broken=True) is None
    assert said(*HELLO[:3], done=True).verdict(broken=True) is None


@pytest.mark.parametrize("broken", [True, False])
def test_a_broken_transport_before_is_not(broken: bool) -> None:
    verdict = said(*HELLO[:3]).verdict(broken=broken)
    assert verdict is not None
    assert verdict[0] is ErrorKind.TRUNCATED


def test_nothing_and_broken_is_truncated_and_not_empty() -> None:
    verdict = Answer().verdict(broken=True)
    assert verdict is not None
    assert verdict[0] is ErrorKind.TRUNCATED


def test_nothing_counts_after_an_error() -> None:
    answer = said(
        delta("a"),
        {"error": "boom"},
        delta("b", finish="stop"),
        {"choices": [], "usage": usage(1)},
        done=True,
    )
    assert answer.text() == "a"
    assert answer.usage is None
    assert answer.done_at is None


def test_an_error_keeps_message_and_excerpt() -> None:
    answer = said({"error": {"message": "m" * 5000, "type": "overloaded_error"}})
    assert answer.error is not None
    kind, message, excerpt = answer.error
    assert kind is ErrorKind.OVERLOADED
    assert message == "m" * 2000
    assert excerpt is not None
    assert len(excerpt) == 500


@pytest.mark.parametrize("payload", [b"null", b"{}", b'""', b"7"])
def test_an_error_event_is_an_error_whatever_it_holds(payload: bytes) -> None:
    answer = said(*HELLO, ("error", payload), done=True)
    assert answer.error is not None
    assert answer.error[1]


@pytest.mark.parametrize(
    "payload",
    [{"error": None}, {"error": ""}, {"error": False}, {"type": "ping"}, {"choices": [], "message": "hi"}],
)
def test_what_is_no_error(payload: dict[str, Any]) -> None:
    assert said(payload, *HELLO).verdict(broken=False) is None


# -- what else is kept


def test_logprobs_and_strangers_are_kept_merged() -> None:
    answer = said(
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": "a", "note": "x"},
                    "logprobs": {"content": [1], "refusal": None},
                }
            ]
        },
        {"choices": [{"index": 0, "delta": {"content": "b", "note": "y"}, "logprobs": {"content": [2, 3]}}]},
        {"choices": [{"index": 0, "delta": {"annotations": [{"u": 1}], "n": 1}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"annotations": [{"u": 2}], "n": 2}}]},
    )
    assert answer.extra() == {
        "logprobs": {"content": [1, 2, 3]},
        "note": "xy",
        "annotations": [{"u": 1}, {"u": 2}],
        "n": 2,
    }


def test_keys_that_hold_nothing_are_not_kept() -> None:
    answer = said({"choices": [{"delta": {"content": "a", "note": None}, "logprobs": None, "zz": None}]})
    assert answer.extra() == {}


def test_an_object_without_choices_says_nothing_of_the_answer() -> None:
    assert said({"status": "working", "queue": 3}, HELLO[1]).response.keys() == {"id", "created", "model"}


def test_numbers_stay_whole_where_msgspec_refuses_the_rest() -> None:
    found = loads(b'{"a": 7, "b": NaN}')["a"]
    assert (found, type(found)) == (7, int)


def test_what_the_server_says_of_itself() -> None:
    answer = said(
        {"id": "", "model": "", "created": 0, "choices": []},
        {**HELLO[1], "system_fingerprint": "fp", "provider": "P", "service_tier": "default"},
        {**HELLO[3], "timings": {"n": 1}},
    )
    assert answer.response == {
        "id": "c-1",
        "model": "m",
        "created": 1_700_000_000,
        "system_fingerprint": "fp",
        "provider": "P",
        "service_tier": "default",
        "timings": {"n": 1},
    }


def test_choices_stand_side_by_side() -> None:
    answer = read(CORPUS["several choices"].body)
    choices = answer.all_choices()
    assert choices is not None
    assert [(c["index"], c["text"], c["finish_reason"]) for c in choices] == [
        (0, "Hello", "stop"),
        (1, "Bye!", "length"),
    ]
    assert read(CORPUS["plain"].body).all_choices() is None


def test_the_lowest_choice_is_the_main_one() -> None:
    assert said(delta("b", index=3, finish="stop"), delta("a", index=2, finish="stop")).text() == "a"


def test_clean_joins_pairs_and_replaces_halves() -> None:
    assert clean({"a\ud800": ["\ud83d\ude00", "x\udc00", 1, None, True, 1.5]}) == {
        "a\ufffd": ["\U0001f600", "x\ufffd", 1, None, True, 1.5]
    }


# -- once wrong

_X = {"index": 0, "delta": {"content": "x"}}


@pytest.mark.parametrize(
    "chunks",
    [
        [{"model": "m", "choices": [_X]}],
        [{"id": "1", "choices": [_X]}, {"id": "1", "service_tier": "flex", "choices": [_X]}],
        [{"id": "1", "choices": [_X]}, {"id": "1", "provider": "P", "choices": [], "usage": usage(2)}],
    ],
    ids=["no id", "later", "with the usage"],
)
def test_both_ways_agree_on_what_the_server_says_of_itself(chunks: list[dict[str, Any]]) -> None:
    assert everything(said(*chunks)) == everything(said(*chunks, quick=False))


def test_an_empty_usage_object_is_none() -> None:
    answer = said({"id": "1", "choices": [], "usage": usage(2)}, {"id": "1", "choices": [], "usage": {}})
    assert answer.usage == usage(2)


def test_an_error_event_is_one_even_when_it_is_empty() -> None:
    answer = said(*HELLO[:3])
    answer.feed((b"", "error", 9))
    assert answer.error is not None


def deep(opening: bytes, closing: bytes, depth: int = 900) -> bytes:
    inner = opening * depth + b"1" + closing * depth
    return (
        b'{"choices":[{"index":0,"delta":{"content":"\\ud800x","z":' + inner + b'},"finish_reason":"stop"}]}'
    )


def test_deep_extras_can_be_merged() -> None:
    answer = Answer()
    for at in range(2):
        answer.feed((deep(b'{"a":', b"}"), "", at))
    answer.extra()


def test_deep_extras_can_be_cleaned() -> None:
    answer = Answer()
    answer.feed((deep(b"[", b"]"), "", 1))
    clean(answer.extra())


def test_a_truth_value_is_no_count() -> None:
    assert said({**delta("x"), "usage": {"completion_tokens": True}}).chunk_tokens() is None
