from __future__ import annotations

from typing import Any

import pytest

from scenarios.answer_limit import choices_asked, most_tokens, why_unlimited


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20}, 20),
        ({"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ({"max_tokens": None, "max_completion_tokens": 20}, 20),
        ({"max_tokens": 10, "n": None}, 10),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "n": 2, "best_of": 5}, 50),
        ({"max_tokens": 10, "prompt": "a"}, 10),
        ({"max_tokens": 10, "prompt": ["a", "b"]}, 20),
        ({"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        ({"max_tokens": 10, "prompt": [[1], [2], [3]]}, 30),
        ({"max_tokens": 10, "prompt": [1, "b"]}, 20),
    ],
)
def test_most_tokens(body: dict[str, Any], most: int) -> None:
    assert most_tokens(body) == most
    assert why_unlimited(body) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1000.0, "1000.0"),
        (-1, "-1"),
        (0, "0"),
        ("8", "'8'"),
        (True, "true"),
        (False, "false"),
        (float("inf"), "inf"),
        (10**400, "1000"),
        ([5], "[5]"),
    ],
)
def test_what_is_no_plain_whole_number_is_no_limit(value: Any, shown: str) -> None:
    for name in ("max_tokens", "max_completion_tokens", "n", "best_of"):
        body = {"max_tokens": 10, "max_completion_tokens": 10, name: value}
        assert most_tokens(body) is None
        why = why_unlimited(body)
        assert why is not None
        assert why.startswith(f"{name} is {shown}")
        assert why.endswith(", not a whole number above 0")


@pytest.mark.parametrize("body", [{}, {"max_tokens": None}, {"n": 3}])
def test_without_a_limit(body: dict[str, Any]) -> None:
    assert most_tokens(body) is None
    assert why_unlimited(body) == "there is no limit of tokens"


@pytest.mark.parametrize(
    ("n", "choices"), [(None, 1), (1, 1), (3, 3), (0, 1), (-2, 1), (2.0, 1), ("2", 1), (True, 1)]
)
def test_choices(n: Any, choices: int) -> None:
    assert choices_asked({"n": n}) == choices
    assert choices_asked({}) == 1
