"""What is gated, and limits as people write them."""

from __future__ import annotations

import pytest

from reports.comparison import CompareError
from reports.gates import gates, max_added, max_regressions, name_of_metric


def test_the_usual_gates() -> None:
    found = gates(None, {}, {})
    assert [(g.name, g.scale, g.limit) for g in found] == [
        ("ttft", "ratio", 0.10),
        ("tpot", "ratio", 0.10),
        ("e2e", "ratio", 0.10),
        ("errors", "share", 0.01),
    ]
    assert not any(g.asked for g in found)


def test_a_limit_names_its_metric() -> None:
    found = {g.name: g for g in gates(None, {"": 0.2, "goodput": 0.05}, {"ttft": 20.0})}
    assert list(found) == ["ttft", "tpot", "e2e", "errors", "goodput"]
    assert (found["ttft"].scale, found["ttft"].limit) == ("added", 20.0)
    assert (found["tpot"].limit, found["errors"].limit) == (0.2, 0.01)
    assert found["goodput"].limit == 0.05
    assert found["goodput"].asked


@pytest.mark.parametrize(
    ("text", "name"),
    [("ttft", "ttft"), ("ttft:p50", "ttft"), ("ttft:p(95)", "ttft:p95"), (" e2e : p99 ", "e2e:p99")],
)
def test_names(text: str, name: str) -> None:
    assert name_of_metric(text) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tftt", "did you mean ttft"),
        ("ttft:p97", "of ttft there is ttft:p50"),
        ("errors:p95", "of errors there is errors"),
        ("ttft:", "cannot be compared"),
    ],
)
def test_names_of_nothing(text: str, words: str) -> None:
    with pytest.raises(CompareError, match=words):
        name_of_metric(text)


def test_limits() -> None:
    assert max_regressions(["10%", "ttft=5%", "e2e:p(95)=0.2"]) == {
        "": pytest.approx(0.1),
        "ttft": pytest.approx(0.05),
        "e2e:p95": 0.2,
    }
    assert max_regressions(["150%"]) == {"": 1.5}
    assert max_added(["ttft=20ms", "e2e=0.5s", "tpot=3"]) == {"ttft": 20.0, "e2e": 500.0, "tpot": 3.0}


@pytest.mark.parametrize(
    "text", ["", "10", "1", "ttft=1", "0%", "-5%", "=5%", "ttft=", "ttft=x", "5ms", "nan%"]
)
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(CompareError):
        max_regressions([text])


def test_a_percent_sign_that_was_left_out() -> None:
    """1 is 100 % of a share, and hardly ever what somebody means."""
    with pytest.raises(CompareError, match="write 1% if that is meant"):
        max_regressions(["errors=1"])


def test_a_limit_given_twice() -> None:
    with pytest.raises(CompareError, match="twice"):
        max_regressions(["5%", "10%"])


@pytest.mark.parametrize("text", ["", "20ms", "ttft=0ms", "ttft=20%", "ttft=20min", "nothing=20ms"])
def test_added_that_is_none(text: str) -> None:
    with pytest.raises(CompareError):
        max_added([text])
