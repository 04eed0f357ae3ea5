"""Conversations: what is read of ShareGPT files and rows, and how one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scenarios.dialogue import Conversation, Dialogue, Turn, of_row, read_sharegpt
from scenarios.formats import RowError
from scenarios.request import Request
from scenarios.source import PromptError


def share(*said: tuple[str, str | None], name: str = "a_0") -> dict[str, Any]:
    return {"id": name, "conversations": [{"from": voice, "value": text} for voice, text in said]}


ROWS = [
    share(("system", "Be short."), ("human", "Hi"), ("gpt", "Hello there."), ("human", "Why?"), ("gpt", "x")),
    share(("gpt", "left over"), ("user", "One"), ("chatgpt", "Two words"), name="b_1"),
    share(("gpt", "nobody asked")),
    share(("human", "Hi"), ("alien", "Hm")),
    {"id": "c_2", "conversations": []},
    {"id": "d_3"},
    share(("human", " "), ("gpt", "x"), ("human", None)),
]
WANTED = [
    Dialogue(
        ({"role": "system", "content": "Be short."},),
        (Turn({"role": "user", "content": "Hi"}, 3), Turn({"role": "user", "content": "Why?"}, 1)),
        "a_0",
    ),
    Dialogue((), (Turn({"role": "user", "content": "One"}, 3),), "b_1"),
]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "list"])
def test_sharegpt_is_a_list_or_lines(tmp_path: Path, lines: bool, mark: str) -> None:
    path = tmp_path / "share.json"
    text = "\n\n".join(map(json.dumps, ROWS)) if lines else json.dumps(ROWS, indent=1)
    path.write_text(mark + text, "utf-8")
    assert read_sharegpt(str(path)) == (WANTED, 5)


def test_a_tokenizer_counts_recorded_answers(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    path.write_text(json.dumps(ROWS[:1]), "utf-8")
    ((dialogue,), _) = read_sharegpt(str(path), lambda text: len(text.split()))
    assert [turn.answer_tokens for turn in dialogue.turns] == [2, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no conversation"),
        ("[]", "holds no conversation"),
        (json.dumps(ROWS[2:]), "holds no conversation"),
        ('[{"id": 1, "conversations": 7}]', r"conversations"),
        ("[{]", "not a ShareGPT file"),
        (json.dumps(ROWS[0]) + "\nnonsense", "line 2: not a ShareGPT row"),
        (json.dumps(ROWS[0]) + '\n{"conversations": [{"value": "x"}]}', "line 2: .*from"),
    ],
)
def test_what_is_no_sharegpt_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "share.json"
    path.write_text(text, "utf-8")
    with pytest.raises(PromptError, match=words) as caught:
        read_sharegpt(str(path))
    assert str(path) in str(caught.value)


def test_a_sharegpt_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="No such file"):
        read_sharegpt(str(tmp_path / "none.json"))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


SYSTEM = {"role": "system", "content": "s"}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("columns", "before", "turns"),
    [
        ({"turns": ["a", "b"]}, (), [("a", None), ("b", None)]),
        ({"turns": ["a"], "system": "s"}, (SYSTEM,), [("a", None)]),
        ({"turns": '["a", "b"]'}, (), [("a", None), ("b", None)]),
        ({"prompt": "a", "messages": None}, (), [("a", None)]),
        (
            {"messages": [SYSTEM, user("a"), assistant("12345"), user("b")]},
            (SYSTEM,),
            [("a", 2), ("b", None)],
        ),
        ({"messages": [{**user("a"), "tool_calls": None}, assistant("")]}, (), [("a", None)]),
    ],
)
def test_rows_that_are_conversations(
    columns: dict[str, Any], before: tuple[Any, ...], turns: list[tuple[str, int | None]]
) -> None:
    found = of_row(columns)
    assert found == Dialogue(before, tuple(Turn(user(text), count) for text, count in turns))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "none of them"),
        ({"prompt": "a", "turns": ["a"]}, "turns and prompt"),
        ({"turns": "a"}, "turns is text, not a list"),
        ({"turns": []}, "empty list"),
        ({"turns": ["a", 3]}, r"turns\[1\] is a number"),
        ({"turns": ["a", " "]}, r"turns\[1\] is empty"),
        ({"messages": {}}, "messages is an object"),
        ({"messages": ["a"]}, r"messages\[0\] is text"),
        ({"messages": [SYSTEM]}, "no turn of the user"),
        ({"messages": [assistant("a")]}, r"messages\[0\] cannot be sent turn by turn"),
        ({"messages": [user("a"), {"role": "tool", "content": "x"}]}, r"messages\[1\] cannot be sent"),
        ({"messages": [user("a"), SYSTEM]}, r"messages\[1\] cannot be sent"),
    ],
)
def test_rows_that_are_none(columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        of_row(columns)


def test_a_conversation_keeps_the_model_s_own_answers() -> None:
    made: list[tuple[int, list[Any], list[Any]]] = []

    def make(turn: int, said: list[Any], own: list[Any]) -> tuple[Request, int | None]:
        made.append((turn, said, own))
        return Request(str(turn), "p", 0, 0, None, "chat", {}, {}), 10 * turn

    dialogue = Dialogue((SYSTEM,), tuple(Turn(user(text)) for text in "abc"))
    conversation = Conversation(dialogue, make, lambda turn: turn / 2)
    first = conversation.next("A")
    second = conversation.next("B")
    assert (first is not None and (first[0], first[1].id, first[2])) == (0.5, "1", 10)
    assert (second is not None and (second[0], second[1].id, second[2])) == (1.0, "2", 20)
    assert conversation.next("C") is None
    assert made == [
        (1, [SYSTEM, user("a"), assistant("A"), user("b")], [SYSTEM, user("a"), user("b")]),
        (
            2,
            [SYSTEM, user("a"), assistant("A"), user("b"), assistant("B"), user("c")],
            [SYSTEM, user("a"), user("b"), user("c")],
        ),
    ]


def test_half_a_surrogate_pair_in_an_answer_ends_no_conversation() -> None:
    dialogue = of_row({"turns": ["one", "two"]})
    sent: list[list[dict[str, Any]]] = []

    def make(turn: int, said: list[dict[str, Any]], _: list[dict[str, Any]]) -> tuple[Request, None]:
        sent.append(said)
        return Request("0", "0", turn, 0, None, "chat", {"messages": said}, {}), None

    following = Conversation(dialogue, make, lambda _: 0.0).next("hi \ud83d \u00e9")
    assert following is not None
    json.dumps(following[1].body, ensure_ascii=False).encode()  # UTF-8 throughout
    assert sent[0][1] == {"role": "assistant", "content": "hi ? \u00e9"}
