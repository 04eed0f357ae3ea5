"""Where requests go, and what must never be written."""

from __future__ import annotations

import base64

import pytest

from runner.target import Redactor, TargetError, make_target, redacted_url, secrets_of


@pytest.mark.parametrize(
    ("base", "chat"),
    [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h/", "http://h/v1/chat/completions"),
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        (" http://h/v1 ", "http://h/v1/chat/completions"),
        ("https://h/api/openai", "https://h/api/openai/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1/completions/", "http://h/v1/chat/completions"),
        ("http://h/chat/completions", "http://h/chat/completions"),
        ("http://h/v1?api-version=2#x", "http://h/v1/chat/completions?api-version=2"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("http://user:pass@h/v1", "http://h/v1/chat/completions"),
        ("HTTP://h/v1", "http://h/v1/chat/completions"),
    ],
)
def test_urls(base: str, chat: str) -> None:
    assert make_target(base, None).url("chat") == chat


def test_the_completions_endpoint() -> None:
    assert make_target("http://h/v1", None).url("completions") == "http://h/v1/completions"


@pytest.mark.parametrize(
    "base",
    [
        "",
        "h",
        "h:8000/v1",
        "/v1",
        "ftp://h/v1",
        "http://",
        "http:///v1",
        "http://h:port/v1",
        "http://h:99999",
        "http://[::1",
        "http://h]x",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_url_is_said_so(base: str) -> None:
    with pytest.raises(TargetError, match="--base-url"):
        make_target(base, None)


@pytest.mark.parametrize(
    "base", ["bob:hunter22@h/v1", "http:/bob:hunter22@h", "http://bob:hunter22@[h", "ftp://bob:hunter22@h"]
)
def test_a_bad_url_does_not_show_its_login(base: str) -> None:
    with pytest.raises(TargetError) as caught:
        make_target(base, None)
    assert "hunter22" not in str(caught.value)
    assert "hunter22" not in redacted_url(base)


def test_headers() -> None:
    sent = make_target("http://h", "sk-1").headers
    assert sent["Authorization"] == "Bearer sk-1"
    assert sent["Accept-Encoding"] == "identity"
    assert sent["Content-Type"] == "application/json"
    assert "Authorization" not in make_target("http://h", None).headers


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_the_users_own_header_replaces_ours_whatever_its_case(name: str) -> None:
    sent = make_target("http://h", "sk-1", {name: "Token x"}).headers
    assert {key: value for key, value in sent.items() if key.lower() == "authorization"} == {name: "Token x"}


@pytest.mark.parametrize(
    ("login", "plain"),
    [
        ("bob:hunter2", "bob:hunter2"),
        ("bob:p%40ss%3A", "bob:p@ss:"),
        ("b%C3%A9:x", "bé:x"),
        ("key", "key:"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_a_login_in_the_url_becomes_basic_authorization(login: str, plain: str) -> None:
    target = make_target(f"http://{login}@h/v1", None)
    scheme, _, value = target.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value).decode() == plain
    assert target.base_url == "http://h/v1"
    assert target.host == "h"


def test_a_login_and_a_key_are_one_too_many() -> None:
    with pytest.raises(TargetError, match="leave one out") as caught:
        make_target("http://bob:hunter2@h", "sk-secret")
    assert "hunter2" not in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h:1/x?y", "https://h:1/x?y"),
        ("https://h/x", "https://h/x"),
        ("//u:p@h/x", "//h/x"),
        ("/v1/other", "/v1/other"),
        ("", ""),
        ("http://[", "[unreadable]"),
    ],
)
def test_redacted_url(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def redactor(base: str, key: str | None = None, headers: dict[str, str] | None = None) -> Redactor:
    return Redactor(secrets_of(make_target(base, key, headers), base, key, headers or {}))


@pytest.mark.parametrize(
    "text", ["sk-secret", "Bearer sk-secret", "key sk-secret is bad", "sk-secretsk-secret"]
)
def test_the_key_is_redacted(text: str) -> None:
    assert "sk-secret" not in str(redactor("http://h", "sk-secret")(text))


@pytest.mark.parametrize("text", ["abcdefgh", "Token abcdefgh", "hidden value", "value x of abcdefgh"])
def test_header_values_are_redacted_with_and_without_their_scheme(text: str) -> None:
    redact = redactor("http://h", None, {"X-One": "Token abcdefgh", "X-Two": "hidden value"})
    assert "abcdefgh" not in str(redact(text))
    assert "hidden value" not in str(redact(text))


@pytest.mark.parametrize(
    "shown", ["p%40ssword", "p@ssword", "bob:p%40ssword", base64.b64encode(b"bob:p@ssword").decode()]
)
def test_a_login_is_redacted_in_every_form(shown: str) -> None:
    assert shown not in str(redactor("http://bob:p%40ssword@h")(f"<{shown}>"))


def test_a_key_that_stands_as_the_user_name_is_redacted() -> None:
    assert redactor("http://sk-secret@h")("key sk-secret is bad") == "key [secret] is bad"
    assert redactor("http://sk-secret:@h")("key sk-secret is bad") == "key [secret] is bad"


def test_the_longest_secret_goes_first() -> None:
    assert Redactor(["abcd", "abcdef"])("abcdef abcd") == "[secret] [secret]"


def test_texts_without_secrets_and_no_text() -> None:
    redact = redactor("http://h", "sk-secret")
    assert redact("nothing here") == "nothing here"
    assert redact(None) is None


def test_secrets_too_short_to_be_any_are_no_reason_to_shred_every_text() -> None:
    assert redactor("http://h", None, {"X-Flag": "1", "X-Empty": ""})("1 is one") == "1 is one"
