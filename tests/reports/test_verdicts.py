"""Verdicts as people and CI systems read them: text, Markdown, JUnit XML, annotations."""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.annotations import MOST, escape_data, escape_property, to_annotations, wanted
from reports.junit import clean, to_junit
from reports.summary import Expected
from reports.verdicts import Row, Sheet, Word, exit_code, headline, to_markdown, to_text

WORDS: tuple[Word, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "INVALID")


def row(verdict: Word, name: str = "ttft: p(95)<800ms", words: str = "812 ms") -> Row:
    return Row(name=name, verdict=verdict, words=words, notes=["few samples"])


# GitHub carries out `::error::` at the begin of a line (blanks apart) and `##[error]` anywhere in it.
PLANTED = ("::error::pwned", "::stop-commands::x", "::add-mask::PASS", "##[error]pwned", "##vso[task.x]y")


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("before", ["", "x" * 96, " ".join("x" * n for n in range(30)) + " "])
def test_what_a_server_said_is_no_command_to_who_reads_the_log(planted: str, before: str) -> None:
    said = f"{before}{planted} {planted}"
    sheet = Sheet(title=said, rows=[Row(name=said, verdict="FAIL", words=said, notes=[said])])
    for line in (to_text([sheet]) + to_markdown([sheet])).splitlines():
        assert not line.lstrip().startswith(planted[:4])
        assert "##[" not in line
        assert "##vso[" not in line
    assert "std::vector" in to_text([Sheet(title="std::vector [::1]:80")])


def fails(n: int) -> list[Word]:
    return ["FAIL"] * n


def sheet(*verdicts: Word, title: str = "runs/a") -> Sheet:
    return Sheet(title=title, rows=[row(verdict, f"row {n}") for n, verdict in enumerate(verdicts)])


@pytest.mark.parametrize(
    ("verdicts", "word", "codes"),
    [
        ((), "PASS", (0, 0, 0)),
        (("PASS", "PASS"), "PASS", (0, 0, 0)),
        (("PASS", "INCONCLUSIVE"), "INCONCLUSIVE", (98, 0, 99)),
        (("INCONCLUSIVE", "FAIL"), "FAIL", (99, 99, 99)),
        (("FAIL", "INVALID"), "INVALID", (97, 97, 97)),
    ],
)
def test_the_verdict_and_the_exit_code(verdicts: tuple[Word, ...], word: str, codes: tuple[int, ...]) -> None:
    made = sheet(*verdicts)
    assert made.verdict == word
    assert (exit_code([made]), exit_code([made], "pass"), exit_code([made], "fail")) == codes
    assert exit_code([sheet("PASS"), made]) == codes[0]


def test_the_verdict_stands_first() -> None:
    made = sheet("PASS", "FAIL", "PASS")
    assert headline(made) == "FAIL: 3 verdicts, 1 FAIL, 2 PASS"
    assert to_text([made]).startswith(
        "FAIL: 3 verdicts, 1 FAIL, 2 PASS · runs/a\n\n  verdict  what   measured\n  FAIL "
    )
    assert to_markdown([made]).startswith("## ❌ FAIL: 3 verdicts, 1 FAIL, 2 PASS\n\nruns/a\n")
    assert "row 1: few samples" in to_text([made])


def test_expectations_stand_below() -> None:
    made = sheet("PASS")
    made.expect = Expected(judged=10, passed=8, failed={"equals": 1, "regex": 2}, left_out=1)
    for text in (to_text([made]), to_markdown([made])):
        said = " ".join(text.split())
        assert "8 of 10 answers are what their rows expect" in said
        assert "regex 2, equals 1" in said
        assert "1 request cancelled, and not judged" in said


def test_a_name_is_no_markup() -> None:
    made = Sheet(title="<img src=x>", rows=[row("FAIL", "a|b\nc", "<b>`x`")])
    text = to_markdown([made])
    assert "<img" not in text
    assert "<b>" not in text
    assert r"| FAIL | a\|b c |" in text


# -- JUnit


def parsed(*sheets: Sheet, on_inconclusive: Literal["pass", "fail"] | None = None) -> Xml.Element:
    return Xml.fromstring(to_junit(sheets, on_inconclusive).encode())


@pytest.mark.parametrize(
    ("verdict", "on_inconclusive", "inside", "counted"),
    [
        ("PASS", None, "system-out", None),
        ("FAIL", None, "failure", "failures"),
        ("FAIL", "pass", "failure", "failures"),
        ("INVALID", None, "error", "errors"),
        ("INCONCLUSIVE", None, "skipped", "skipped"),
        ("INCONCLUSIVE", "fail", "failure", "failures"),
        ("INCONCLUSIVE", "pass", "system-out", None),
    ],
)
def test_a_test_case(
    verdict: Word, on_inconclusive: Literal["pass", "fail"] | None, inside: str, counted: str | None
) -> None:
    root = parsed(sheet(verdict, "PASS"), on_inconclusive=on_inconclusive)
    assert root.tag == "testsuites"
    [suite] = root
    assert [case.get("classname") for case in suite] == ["runs/a"] * 2
    assert [child.tag for child in suite[0]] == [inside]
    for element in (root, suite):
        counts = {name: int(element.get(name, "-1")) for name in ("failures", "errors", "skipped")}
        assert counts == {name: int(name == counted) for name in counts}
        assert element.get("tests") == "2"
    if counted is not None:
        assert suite[0][0].get("message") == f"{verdict}: 812 ms"


def test_a_suite_a_sheet() -> None:
    root = parsed(sheet("FAIL", title="a"), sheet("FAIL", "PASS", title="b"))
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [("a", "1"), ("b", "2")]
    assert (root.get("tests"), root.get("failures")) == ("3", "2")


@settings(deadline=None)
@given(name=st.text(max_size=30), words=st.text(max_size=30), verdict=st.sampled_from(WORDS))
def test_any_text_comes_back_out_of_the_xml(name: str, words: str, verdict: Word) -> None:
    [case] = parsed(Sheet(title=name, rows=[Row(name=name, verdict=verdict, words=words)]))[0]
    assert case.get("name") == clean(name)
    if verdict != "PASS":
        assert case[0].get("message") == clean(f"{verdict}: {words}")


def test_what_xml_cannot_hold_is_marked() -> None:
    assert clean("a\x00b\x1b[31m\ufffe\ud800\tc") == "a\ufffdb\ufffd[31m\ufffd\ufffd\tc"


# -- annotations


def test_only_in_a_github_workflow() -> None:
    assert wanted({"GITHUB_ACTIONS": "true"})
    assert not wanted({})
    assert not wanted({"GITHUB_ACTIONS": "false"})


def test_a_line_for_what_did_not_pass() -> None:
    lines = to_annotations([sheet("PASS", "FAIL", "INCONCLUSIVE", "INVALID")])
    assert lines == [
        "::error title=FAIL%3A row 1::812 ms (runs/a)%0Afew samples",
        "::error title=INVALID%3A row 3::812 ms (runs/a)%0Afew samples",
        "::warning title=INCONCLUSIVE%3A row 2::812 ms (runs/a)%0Afew samples",
    ]
    assert to_annotations([sheet("INCONCLUSIVE")], "fail")[0].startswith("::error ")


def test_what_a_runner_would_not_show_is_named_in_the_last() -> None:
    lines = to_annotations([sheet(*fails(MOST + 3), "INCONCLUSIVE")])
    errors = [line for line in lines if line.startswith("::error")]
    assert (len(errors), len(lines)) == (MOST, MOST + 1)
    assert "title=4 more::" in errors[-1]
    assert "FAIL: row 12" in errors[-1]
    assert len(to_annotations([sheet(*fails(MOST))])) == MOST


def undone(text: str) -> str:
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


@settings(deadline=None)
@given(st.text())
def test_no_text_ends_a_line_or_a_property(text: str) -> None:
    data, value = escape_data(text), escape_property(text)
    assert not {"\r", "\n"} & set(data)
    assert not {"\r", "\n", ":", ","} & set(value)
    assert undone(value) == text
    assert data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") == text
