"""What servers say when they refuse: statuses, words, shapes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import error_object, kind_of_payload, kind_of_status, message_of, request_id_of
from runner.record import ErrorKind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(s, "redirect") for s in (300, 301, 302, 303, 304, 307, 308, 399)],
        *[(s, "bad_request") for s in (400, 404, 405, 413, 415, 422, 499)],
        (401, "auth"),
        (402, "quota"),
        (403, "auth"),
        (408, "timeout"),
        (409, "server_error"),
        (429, "rate_limit"),
        *[(s, "server_error") for s in (500, 501, 502, 504, 520, 522, 524, 599)],
        (399, "redirect"),
        (400, "bad_request"),
        (424, "server_error"),
        (498, "overloaded"),
        (503, "overloaded"),
        (529, "overloaded"),
        *[(s, "protocol") for s in (0, 600, 999)],
    ],
)
def test_statuses(status: int, kind: str) -> None:
    assert kind_of_status(status) == kind


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"code": "insufficient_quota"}, 429, "quota"),
        ({"type": "insufficient_quota"}, 429, "quota"),
        ({"type": "insufficient_quota"}, 403, "quota"),
        ({"code": "Arrearage"}, 400, "quota"),
        ({"type": "budget_exceeded"}, 400, "quota"),
        ({"type": "insufficient_quota"}, 401, "auth"),
        ({"code": "model_overloaded"}, 424, "server_error"),
        ({"message": "your quota is exceeded: insufficient_quota"}, 429, "rate_limit"),
        ("insufficient_quota", 429, "rate_limit"),
        ({"type": "insufficient_quota"}, 500, "server_error"),
        ({"type": "overloaded_error"}, 400, "bad_request"),
        (None, 503, "overloaded"),
        ({"code": 200}, 500, "server_error"),
    ],
)
def test_the_status_decides_but_for_quota(error: Any, status: int, kind: str) -> None:
    assert kind_of_payload(error, status) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429}, "rate_limit"),
        ({"code": "429"}, "rate_limit"),
        ({"status": 503}, "overloaded"),
        ({"status_code": 401}, "auth"),
        ({"type": "BadRequestError", "code": 400}, "bad_request"),
        ({"type": "server_error", "code": None}, "server_error"),
        ({"type": "Overloaded_Error"}, "overloaded"),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "bad_request"),
        ({"type": "insufficient_quota", "code": 429}, "quota"),
        ({"type": "timeout"}, "timeout"),
        ({"type": "RateLimitError"}, "rate_limit"),
        ({"code": "com.amazon.coral#ThrottlingException"}, "rate_limit"),
        ({"code": "unauthenticated:bad-credentials"}, "auth"),
        ({"status": "RESOURCE_EXHAUSTED"}, "rate_limit"),
        ({"error_type": "overloaded"}, "overloaded"),
        ({"error_code": 429}, "rate_limit"),
        ({"code": "forbidden"}, "auth"),
        ({"code": "gateway_timeout"}, "timeout"),
        ({"code": "tool_use_failed"}, "bad_request"),
        ({"code": 300}, "redirect"),
        ({"code": 299}, "stream_error"),
        ({"code": 599}, "server_error"),
        ({"code": 600}, "stream_error"),
        ({"code": "Throttling.Any"}, "rate_limit"),
        ({"type": "any.module.RateLimitError"}, "rate_limit"),
        ({"code": "1.throttling"}, "stream_error"),
        ({"code": "a.throttling.b"}, "stream_error"),
        ({"http_status_code": 422}, "bad_request"),
        ({"type": "error", "code": "error"}, "stream_error"),
        ({"message": "rate_limit_exceeded"}, "stream_error"),
        ({"code": 200}, "stream_error"),
        ({"code": True}, "stream_error"),
        ({"code": {"a": 1}, "type": ["x"]}, "stream_error"),
        ({}, "stream_error"),
        ("rate_limit_exceeded", "stream_error"),
        (None, "stream_error"),
        (["x"], "stream_error"),
    ],
)
def test_inside_a_200_words_and_codes_decide(error: Any, kind: str) -> None:
    assert kind_of_payload(error) == kind


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("server_error", (1000, 1013, 1024, 1033)),
        ("timeout", (1001,)),
        ("rate_limit", (1002, 1039, 1041, 2045, 2056)),
        ("auth", (1004, 2049)),
        ("quota", (1008,)),
        ("bad_request", (1026, 1027, 1042, 2013)),
        ("stream_error", (1, 999, 1003, 1007, 1040, 2044, 9999)),
    ],
)
def test_the_numbers_of_minimax(kind: str, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        error = error_object({"choices": [], "base_resp": {"status_code": number, "status_msg": "m"}})
        assert kind_of_payload(error) == kind, number


@pytest.mark.parametrize("code", ["²", "9" * 5000, "٤٢٩", "-429", "429.0", " 429", ""])
def test_codes_that_only_look_like_numbers_do_no_harm(code: str) -> None:
    assert kind_of_payload({"code": code}) is ErrorKind.STREAM_ERROR


_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "detail", "object", "status"]), inner
        ),
    ),
    max_leaves=8,
)


@given(_ANY, st.one_of(st.none(), st.integers(100, 599)))
def test_nothing_a_server_says_raises(payload: Any, status: int | None) -> None:
    found = error_object(payload)
    assert kind_of_payload(found, status) in ErrorKind
    assert 0 < len(message_of(found)) <= 2000


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"error": {"message": "m", "type": "t"}}, "m"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"error": {"type": "t"}}, "t"),
        ({"error": {"code": 5}}, "5"),
        ({"error": ["a"]}, "a"),
        ({"error": 7}, "7"),
        ({"error": True}, "True"),
        ({"error": {"message": None, "detail": "d"}}, "d"),
        ({"object": "error", "message": "m"}, "m"),
        ({"type": "error", "error": {"message": "m"}}, "m"),
        ({"type": "error", "message": "m"}, "m"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "bad"}]}, "[{'loc': ['body'], 'msg': 'bad'}]"),
        ({"message": "no Route matched"}, "no Route matched"),
        ({"error_message": "m"}, "m"),
        ({"error": {"message": "m"}, "choices": []}, "m"),
        ([{"error": {"message": "m", "code": 400}}], "m"),
        ({"error": "Bad Request", "message": "m", "statusCode": 400}, "m"),
        ({"error": {"message": {"message": "m"}}}, "m"),
        ({"error": {"message": {"a": 1}}}, "{'a': 1}"),
        ({"errors": [{"message": "m"}, {"message": "n"}]}, "m"),
        ({"errors": ["m"]}, "m"),
        ({"internalServerException": {"message": "m"}}, "m"),
        ({"base_resp": {"status_code": 1004, "status_msg": "m"}}, "m"),
        ({"base_resp": {"status_code": 7}}, "base_resp 7"),
        ({"choices": [{"index": 0, "error": "m"}]}, "m"),
        ({"choices": [], "x_groq": {"error": "over_capacity"}}, "over_capacity"),
        ({"object": "error"}, "the server gave no message"),
        ({"type": "error"}, "error"),
    ],
)
def test_errors_in_any_shape(payload: Any, message: str) -> None:
    found = error_object(payload)
    assert found is not None
    assert message_of(found) == message


@pytest.mark.parametrize(
    "payload",
    [
        None,
        7,
        "error",
        [],
        [{"a": 1}, {"error": "x"}],
        {},
        {"error": None},
        {"error": ""},
        {"error": False},
        {"choices": [], "message": "m"},
        {"choices": [], "detail": "m"},
        {"object": "chat.completion.chunk", "choices": []},
        {"usage": {}},
        {"message": ""},
        {"errors": []},
        {"errors": "none"},
        {"noException": "x"},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"base_resp": {"status_code": "1004"}},
        {"base_resp": None},
        {"choices": [None, {"error": None}, {"error": {}}]},
        {"choices": {"error": "x"}},
        {"choices": [], "x_groq": {"error": None}},
        {"choices": [], "x_groq": "error"},
    ],
)
def test_what_is_no_error(payload: Any) -> None:
    assert error_object(payload) is None


def test_messages_are_cut() -> None:
    assert message_of({"message": "x" * 3000}) == "x" * 2000
    assert message_of("y" * 3000) == "y" * 2000


@pytest.mark.parametrize("blank", ["  ", "\x1b", "\n\n"])
def test_blanks_are_no_message(blank: str) -> None:
    assert message_of({"message": blank}) == "the server gave no message"


def test_request_ids() -> None:
    assert request_id_of({"x-request-id": "a", "cf-ray": "b"}) == "a"
    assert request_id_of({"cf-ray": "b" * 500}) == "b" * 200
    assert request_id_of({"apim-request-id": "c"}) == "c"
    assert request_id_of({"x-request-id": ""}) is None
    assert request_id_of({}) is None
