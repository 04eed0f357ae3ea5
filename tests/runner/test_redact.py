"""Secrets taken out of texts, however they were written there."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.redact import Redactor, proxy_secrets, secrets_of
from runner.target import make_target

# With all that somebody escapes.
SECRET = 'sk/very+"secret"<\\key>=&%41'


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


# -- in other forms


def codes(text: str, form: str) -> str:
    return "".join(c if c.isalnum() else form.format(ord(c)) for c in text)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": lambda s: json.dumps(s)[1:-1],
    "json, slashes escaped": lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
    "json, codes in capitals": lambda s: codes(s, "\\u{:04X}"),
    "json, codes": lambda s: codes(s, "\\u{:04x}"),
    "json, nothing but codes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "json inside json": lambda s: json.dumps(json.dumps(s))[1:-1],
    "json inside json inside json": lambda s: json.dumps(json.dumps(json.dumps(s)))[1:-1],
    "json, codes, inside json": lambda s: json.dumps(codes(s, "\\u{:04x}"))[1:-1],
    "a path": quote,
    "a query": lambda s: quote(s, safe=""),
    "a query, small letters": lambda s: codes(s, "%{:02x}"),
    "a query, every letter": lambda s: "".join(f"%{ord(c):02X}" for c in s),
    "a query in a query": lambda s: quote(quote(s, safe=""), safe=""),
    "html": html.escape,
    "html, numbers": lambda s: codes(s, "&#{};"),
    "html, hexadecimal": lambda s: codes(s, "&#x{:x};"),
    "html inside json": lambda s: json.dumps(html.escape(s))[1:-1],
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 of a login": lambda s: base64.b64encode(f"bob:{s}".encode()).decode(),
    "base64 of more": lambda s: base64.b64encode(f"<{s}>".encode()).decode(),
    "base64 of more yet": lambda s: base64.b64encode(f"<<{s}>>".encode()).decode(),
    "base64 for urls": lambda s: base64.urlsafe_b64encode(f"?{s}?".encode()).decode(),
    "base64 in json": lambda s: codes(base64.b64encode(s.encode()).decode(), "\\u{:04x}"),
    "base64 in a query": lambda s: quote(base64.b64encode(s.encode()).decode(), safe=""),
}


def cores(text: str) -> list[str]:
    """Stretches of a written secret that would betray it."""
    return [text[n : n + 10] for n in range(2, len(text) - 11)]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_known_in_every_form(form: str) -> None:
    written = FORMS[form](SECRET)
    text = str(Redactor([SECRET])(f"key {written}, again: {written}!"))
    assert not [core for core in cores(written) if core in text]
    assert text.startswith("key ")
    assert text.endswith("!")
    assert text.count("[secret]") == 2


@pytest.mark.parametrize("form", FORMS)
def test_half_a_secret_in_every_form(form: str) -> None:
    """Wherever a text is cut short: what is left of the secret is no more than a few letters."""
    written = FORMS[form](SECRET)
    redact = Redactor([SECRET])
    for size in range(len(written)):
        text = str(redact(f"the key is {written[:size]}"))
        assert text.startswith("the key is ")
        rest = text.removeprefix("the key is ")
        # Five letters at most, however long each was written (six, three times over), or a half one more.
        assert rest == "[secret]" or len(rest) < 48, (size, text)
        if form in {"as it is", "a query", "json"}:
            assert rest == "[secret]" or len(rest) < 12, (size, text)


def test_nothing_else_is_cut() -> None:
    redact = Redactor([SECRET, "hunter22"])
    for text in (
        "100% of \\n C:\\dir\\u00 %zz &amp; &nosuch; \\\\",
        '{"a": "\\u00e9\\ud83d\\ude00 \\ud800", "b": "\\/"}',
        "\\" * 5000,
        "%" * 5000,
        "&" * 5000,
        "%41" * 2000,
        "sk/very",
        "hunter2",
    ):
        assert redact(text) in {text, "[secret]"}
        assert redact(f"<{text}>") == f"<{text}>"


@given(st.text(alphabet='ab\\u0041%2&#;"/', max_size=60))
def test_any_text_is_taken(text: str) -> None:
    redact = Redactor(["a\\u0041b%2", 'b"/a&#'])
    cut = redact(text)
    assert cut is not None
    assert redact(f"{text}!a\\u0041b%2!") == f"{redact(text + '!')}[secret]!"


def test_values_of_json() -> None:
    value: Any = {"a": ["x sk-secret", 1, None, True, {"sk-secret": 1.5}], "b": "sk%2Dsecret"}
    assert Redactor(["sk-secret"]).deep(value) == {
        "a": ["x [secret]", 1, None, True, {"[secret]": 1.5}],
        "b": "[secret]",
    }
    for _ in range(5000):
        value = [value]
    assert "secret" not in repr(Redactor(["sk-secret"]).deep(value))


@pytest.mark.parametrize("shown", ["me:p@ssw", "p%40ssw", "p@ssw", base64.b64encode(b"me:p@ssw").decode()])
def test_the_login_of_a_proxy(shown: str) -> None:
    assert shown not in str(Redactor(proxy_secrets("http://me:p%40ssw@proxy:3128"))(f"<{shown}>"))


def test_the_login_of_a_proxy_without_a_password() -> None:
    redact = Redactor(proxy_secrets("http://someone@proxy:3128"))
    shown = base64.b64encode(b"someone:").decode()
    assert shown[:8] not in str(redact(shown))
    assert proxy_secrets(None) == proxy_secrets("http://proxy:3128") == []
