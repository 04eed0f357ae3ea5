"""Where requests go, and what must never be written."""

from __future__ import annotations

import base64

import pytest

from runner.target import TargetError, make_target, redacted_url


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


STRAY = [
    "http://bob:hunter22/x@h/v1",
    "http://bob:22/hunter22@h/v1",
    "http://bob:?hunter22@h/v1",
    "http://bob:#hunter22@h/v1",
    "http://bob/hunter22@h",
    "http://hunter22/x@h:8000/v1",
    "http://hunter22#@h/v1",
    "http://hunter22?@[h",
    "https://bob:hunter22/@a@h/v1",
    "http://bob:hunter22\\/x@h/v1",
    "http://bob:@/hunter22@h/v1",
]


@pytest.mark.parametrize("base", STRAY)
def test_a_login_that_is_not_encoded_is_refused_and_not_shown(base: str) -> None:
    """Read as a URL it would be host and path: printed, written, and sent to whom it names."""
    with pytest.raises(TargetError, match="write / as %2F, \\? as %3F and # as %23") as caught:
        make_target(base, None)
    assert "hunter22" not in str(caught.value)
    assert "hunter22" not in redacted_url(base)


@pytest.mark.parametrize(
    "base",
    [
        "bob:hunter22@h/v1",
        "http:/bob:hunter22@h",
        "http://bob:hunter22@[h",
        "ftp://bob:hunter22@h",
        "ftp://h/?key=hunter22",
    ],
)
def test_a_bad_url_does_not_show_its_login(base: str) -> None:
    with pytest.raises(TargetError) as caught:
        make_target(base, None)
    assert "hunter22" not in str(caught.value)
    assert "hunter22" not in redacted_url(base.partition("?")[0])


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
        ("http://u:p/w@h:1/x", "http://...@h:1/x"),
        ("http://u:p?w@h", "http://...@h"),
        ("http://u:p#w@h/x", "http://...@h/x"),
        ("//u:p/w@h/x", "...@h/x"),
        ("/u:p@h", "...@h"),
    ],
)
def test_redacted_url(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
