"""What is tried again, how often, after how long."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.record import ErrorKind
from runner.retry import HINT_CAP_S, LIMITS, attempts_left, hint_s, is_retryable, wait_s

NOW = 1_792_000_000.0  # Wed, 14 Oct 2026 17:46:40 GMT
RETRIED = {
    "connect",
    "disconnected",
    "timeout",
    "rate_limit",
    "overloaded",
    "server_error",
    "bad_encoding",
    "bad_json",
    "truncated",
    "empty_stream",
    "protocol",
}


class Fixed(random.Random):
    """Always the same draw."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def hinted(**headers: str) -> tuple[float, str] | None:
    """The wait that headers ask for; a draw of 1 tells back-off from any hint."""
    return wait_s({name.replace("_", "-"): value for name, value in headers.items()}, 0, Fixed(1.0), NOW)


BACKOFF = (0.5, "backoff")


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_which_kinds(kind: ErrorKind) -> None:
    assert is_retryable(kind) == (kind in RETRIED)
    assert attempts_left(kind, 3, 0) == (kind in RETRIED)
    assert not attempts_left(kind, 0, 0)
    assert not attempts_left(kind, 3, 3)


def test_how_often() -> None:
    assert [sum(attempts_left(kind, 100, made) for made in range(200)) for kind in LIMITS] == [
        {"timeout": 2, "protocol": 1}.get(kind, 100) for kind in LIMITS
    ]


def test_fewer_than_a_kinds_own_limit() -> None:
    assert attempts_left(ErrorKind.TIMEOUT, 1, 0)
    assert not attempts_left(ErrorKind.TIMEOUT, 1, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("1.5", 1.5), ("600", 600.0), ("1e2", 100.0)],
)
def test_retry_after_in_seconds(text: str, seconds: float) -> None:
    assert hinted(retry_after=text) == (seconds, "retry-after")


@pytest.mark.parametrize(
    "date",
    [
        "Wed, 14 Oct 2026 17:47:10 GMT",
        "Wed, 14 Oct 2026 17:47:10 -0000",
        "Wed, 14 Oct 2026 17:47:10",
        "Wed, 14 Oct 2026 19:47:10 +0200",
    ],
)
def test_retry_after_as_a_date(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "NPT-5:45")
    time.tzset()
    try:
        assert hinted(retry_after=date) == (30.0, "retry-after")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e300",
        "604801",
        "Wed, 14 Oct 2026 17:46:00 GMT",
        "Wed, 99 Oct 2026 17:46:00 GMT",
        "Fri, 14 Oct 9999 17:46:00 GMT",
        "5 seconds",
        "0x10",
        "²",
        "\x00",
    ],
)
def test_hints_that_count_as_absent(text: str) -> None:
    assert hinted(retry_after=text) == BACKOFF
    assert hinted(retry_after_ms=text if text != "604801" else "604800001") == BACKOFF


def test_milliseconds_come_first() -> None:
    assert hinted(retry_after_ms="1500", retry_after="9") == (1.5, "retry-after-ms")
    assert hinted(retry_after_ms="nonsense", retry_after="9") == (9.0, "retry-after")
    assert hinted(retry_after_ms="-5", retry_after="9") == (9.0, "retry-after")


def test_a_gateway_that_hands_on_its_providers_hint() -> None:
    assert wait_s({"llm_provider-retry-after": "9"}, 0, Fixed(1.0), NOW) == (9.0, "retry-after")
    assert wait_s({"llm_provider-retry-after-ms": "90"}, 0, Fixed(1.0), NOW) == (0.09, "retry-after-ms")
    assert wait_s({"llm_provider-retry-after": "9", "retry-after": "2"}, 0, Fixed(1.0), NOW) == (
        2,
        "retry-after",
    )


def test_a_hint_above_the_cap_ends_the_request() -> None:
    assert hinted(retry_after=str(HINT_CAP_S)) is not None
    assert hinted(retry_after=str(HINT_CAP_S + 1)) is None
    assert hinted(retry_after="Wed, 14 Oct 2026 23:46:40 GMT") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1s", 1.0),
        ("1m30.5s", 90.5),
        ("0s", 0.0),
        ("12", 12.0),
        (str(int(NOW) + 30), 30.0),
        (str((int(NOW) + 30) * 1000), 30.0),
        ("1s500ms", 1.5),
    ],
)
def test_the_reset_of_a_limit_with_nothing_left(text: str, seconds: float) -> None:
    found = hinted(x_ratelimit_reset_requests=text, x_ratelimit_remaining_requests="0")
    assert found is not None
    assert found[0] == pytest.approx(seconds)
    assert found[1] == "x-ratelimit-reset"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1d", 86_400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("2h", 7200.0),
        ("604800", 604_800.0),
        ("168h", 604_800.0),
    ],
)
def test_long_resets(text: str, seconds: float) -> None:
    """They are believed up to a week, and end the request rather than make it wait."""
    headers = {"x-ratelimit-reset-tokens": text, "x-ratelimit-remaining-tokens": "0"}
    found = hint_s(headers, NOW)
    assert found is not None
    assert found[0] == pytest.approx(seconds)
    assert wait_s(headers, 0, Fixed(1.0), NOW) is None


@pytest.mark.parametrize("what", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_every_limit_has_its_reset(what: str) -> None:
    headers = {f"x-ratelimit-reset-{what}": "9s", f"x-ratelimit-remaining-{what}": "0"}
    assert wait_s(headers, 0, Fixed(1.0), NOW) == (9.0, "x-ratelimit-reset")


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-inf", "604801", "169h", "", "soon", "-3", "ms", "1x", "3000000000000000", "1700000000"],
)
def test_resets_that_count_as_absent(text: str) -> None:
    assert hinted(x_ratelimit_reset_tokens=text, x_ratelimit_remaining_tokens="0") == BACKOFF


def test_the_reset_of_a_limit_with_something_left_is_no_hint() -> None:
    assert hinted(x_ratelimit_reset_requests="9s", x_ratelimit_remaining_requests="1") == BACKOFF
    assert hinted(x_ratelimit_reset_requests="9s") == BACKOFF


def test_the_later_reset_counts_and_retry_after_before_any() -> None:
    both = {
        "x_ratelimit_reset_requests": "9s",
        "x_ratelimit_remaining_requests": "0",
        "x_ratelimit_reset_tokens": "2s",
        "x_ratelimit_remaining_tokens": "0",
    }
    assert hinted(**both) == (9.0, "x-ratelimit-reset")
    assert hinted(**both, retry_after="1") == (1.0, "retry-after")


def test_backoff_doubles_up_to_a_minute() -> None:
    waits = [wait_s({}, made, Fixed(1.0), NOW) for made in range(9)]
    assert waits == [(s, "backoff") for s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)]
    assert wait_s({}, 5000, Fixed(1.0), NOW) == (60.0, "backoff")


def test_backoff_has_full_jitter() -> None:
    assert wait_s({}, 3, Fixed(0.0), NOW) == (0.0, "backoff")
    assert wait_s({}, 3, Fixed(0.25), NOW) == (1.0, "backoff")


@given(st.text(max_size=30), st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]))
def test_no_header_raises_or_asks_for_a_negative_wait(text: str, name: str) -> None:
    found = wait_s({name: text, "x-ratelimit-remaining-tokens": "0"}, 0, Fixed(1.0), NOW)
    assert found is None or 0 <= found[0] <= HINT_CAP_S


def test_limits_a_gateway_handed_on() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "llm_provider-x-ratelimit-reset-requests": "2s"}
    assert wait_s(headers, 0, Fixed(1.0), NOW) == (2.0, "x-ratelimit-reset")
    headers = {
        "llm_provider-x-ratelimit-remaining-tokens": "0",
        "llm_provider-x-ratelimit-reset-tokens": "3s",
    }
    assert wait_s(headers, 0, Fixed(1.0), NOW) == (3.0, "x-ratelimit-reset")
