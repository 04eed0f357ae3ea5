from pathlib import Path

import pytest

from scenarios.formats import RowError
from scenarios.source import PromptError
from scenarios.template import compile_template, list_names, load_template


@pytest.mark.parametrize("text", ["{{ a }}", "{% if a %}b{% endif %}", "{# note #}plain"])
def test_a_text_with_a_mark_is_the_template(text: str) -> None:
    assert load_template(text) == text


def test_any_other_text_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "{{odd}}.j2"
    path.write_text("Say {{ word }}\n", "utf-8-sig")
    assert load_template(f"@{path}") == "Say {{ word }}\n"
    plain = tmp_path / "plain.j2"
    plain.write_text("x")
    assert load_template(str(plain)) == "x"


def test_a_missing_file_says_what_an_inline_template_is(tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        load_template(str(tmp_path / "no.j2"))
    assert "no.j2: the template file cannot be read: No such file" in str(caught.value)
    assert "the template itself, which has {{ }} in it" in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_bytes(b"\xff")
    with pytest.raises(PromptError, match="the template is not UTF-8"):
        load_template(str(tmp_path / "a.j2"))


def test_a_mistake_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.j2"
    path.write_text("fine\n{% if %}\n")
    with pytest.raises(PromptError) as caught:
        load_template(str(path))
    assert str(caught.value).startswith(f"{path}, line 2: the template does not compile: ")
    with pytest.raises(PromptError, match="template, line 1: the template does not compile"):
        load_template("{{ a")


def test_nothing_is_escaped_and_the_last_newline_goes() -> None:
    render = compile_template("<{{ a }}> {{ b | tojson }}\n")
    assert render({"a": "<&'\">", "b": {"x": "é<"}}) == '<<&\'">> {"x": "é<"}'


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RowError) as caught:
        compile_template("{{ x }}")({"a": 1, "b": 2, "c": 3})
    assert caught.value.reason == "column 'x' is missing (the row has a, b, c)"
    assert caught.value.missing == "x"


def test_default_and_is_defined_still_work() -> None:
    render = compile_template("{{ x | default('no') }}{% if y is defined %}y{% endif %}")
    assert render({}) == "no"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ a.b }}", "the template fails: 'dict object' has no attribute 'b'"),
        ("{{ 1 / 0 }}", "the template fails: ZeroDivisionError: division by zero"),
        ("{% include 'x' %}", "the template fails: TypeError: no loader"),
    ],
)
def test_a_template_that_fails_on_a_row(text: str, says: str) -> None:
    with pytest.raises(RowError) as caught:
        compile_template(text)({"a": {}})
    assert caught.value.reason.startswith(says)
    assert caught.value.missing is None


def test_many_names_are_cut() -> None:
    assert list_names(dict.fromkeys("abcdef"), most=4) == "a, b, c, d and 2 more"
    assert list_names({}) == "no columns"
