"""A run's salt: another beginning for each run, of the same length, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.salt import SALTED_WORDS, Salt
from scenarios.scenario import Lengths, Load, Prompts, Scenario, Synthetic, Target
from scenarios.trace import TraceRow
from scenarios.words import WORDS
from scenarios.workload import Workload

TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
SALTS = st.text("abc019/", max_size=20)


def chat(text: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def said(body: dict[str, Any]) -> Any:
    return body["messages"][0]["content"]


def made(**synthetic: Any) -> Workload:
    prompts = Prompts(synthetic=Synthetic(**{"input_tokens": 40, **synthetic}), output_tokens=8)
    return Workload(Scenario(target=Target(model="m"), prompts=prompts, seed=7))


def asked(workload: Workload, count: int = 20) -> list[str]:
    return [said(workload.item(k).first.body) for k in range(count)]


# -- made-up prompts


@given(SALTS, TEXTS)
def test_only_the_first_words_change_and_none_in_length(salt: str, text: str) -> None:
    before, after = text.split(), said(Salt(salt).of(chat(text), made=True)).split()
    assert len(after) == len(before)
    assert after[SALTED_WORDS:] == before[SALTED_WORDS:]
    assert set(after) <= set(WORDS)
    assert {len(word) for word in after} == {4}


@given(SALTS, TEXTS, TEXTS)
def test_equal_beginnings_stay_equal_and_others_different(salt: str, one: str, other: str) -> None:
    change = Salt(salt)
    first, second = (said(change.of(chat(text), made=True)) for text in (one, other))
    assert (first == second) == (one == other)
    for count in range(1, SALTED_WORDS + 1):
        same_before = one.split()[:count] == other.split()[:count]
        assert (first.split()[:count] == second.split()[:count]) == same_before


@given(SALTS)
def test_a_word_becomes_one_of_its_own_kind(salt: str) -> None:
    kinds = [len(set(word)) for word in WORDS]
    table = Salt(salt, kinds)
    of = dict(zip(WORDS, kinds, strict=True))
    for start in range(0, len(WORDS) - SALTED_WORDS, SALTED_WORDS):
        words = WORDS[start : start + SALTED_WORDS]
        after = said(table.of(chat(" ".join(words)), made=True)).split()
        assert [of[word] for word in after] == [of[word] for word in words]


@pytest.mark.parametrize(
    "synthetic",
    [
        {},
        {"unique": False},
        {"shared_prefix_tokens": 16},
        {"input_tokens": Lengths(mean=30, stdev=20, min=8)},
    ],
)
def test_runs_share_no_beginning_and_have_the_same_prompts(synthetic: dict[str, Any]) -> None:
    plain = made(**synthetic)
    runs = [plain.salted(f"x/{n:02d}") for n in range(12)]
    texts = [asked(run) for run in [plain, *runs]]
    lengths = [[len(text) for text in of_run] for of_run in texts]
    assert all(of_run == lengths[0] for of_run in lengths)
    beginnings = [{" ".join(text.split()[:SALTED_WORDS]) for text in of_run} for of_run in texts]
    assert len(set().union(*beginnings)) == sum(map(len, beginnings))
    for k in range(20):
        items = [run.item(k).first for run in [plain, *runs]]
        assert len({item.prompt_id for item in items}) == 1
        assert len({item.id for item in items}) == 13


def test_a_shared_prefix_is_still_shared_within_the_run() -> None:
    texts = asked(made(shared_prefix_tokens=16).salted("x"))
    assert len({" ".join(text.split()[:16]) for text in texts}) == 1
    assert len(set(texts)) == 20


def test_the_same_salt_asks_the_same() -> None:
    assert asked(made().salted("x")) == asked(made().salted("x"))
    assert asked(made().salted("x")) != asked(made().salted("y"))


def test_blocks_of_a_trace_stay_equal_where_they_were() -> None:
    rows = [TraceRow(at_s=float(n), input_tokens=600, output_tokens=4, hash_ids=(1, n)) for n in range(4)]
    scenario = Scenario(target=Target(model="m"), load=Load(executor="trace"))
    plain = Workload(scenario, rows=rows)
    before, after = asked(plain, 4), asked(plain.salted("x"), 4)
    assert len({text[:2000] for text in after}) == 1  # the first block, which all have
    assert after[0][:29] != before[0][:29]
    assert [text[29:] for text in after] == [text[29:] for text in before]


# -- prompts of a file


def of_file(folder: Path, rows: list[dict[str, Any]], **prompts: Any) -> Workload:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Workload(Scenario(target=Target(model="m"), prompts=Prompts(file=str(path), **prompts)))


def test_a_file_s_prompt_gets_a_line_before_it(tmp_path: Path) -> None:
    plain = of_file(tmp_path, [{"prompt": "How high is it?"}])
    one, other = asked(plain.salted("a"), 1)[0], asked(plain.salted("b"), 1)[0]
    assert one.endswith("\n\nHow high is it?")
    assert one.startswith("Reference: ")
    assert one != other
    assert len(one) == len(other)
    assert len({run.item(0).first.prompt_id for run in (plain, plain.salted("a"))}) == 1
    assert asked(plain, 1) == ["How high is it?"]


def test_it_stands_before_the_first_text_whatever_that_is(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be short."}
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [picture, {"type": "text", "text": "What is this?"}]
    rows: list[dict[str, Any]] = [
        {"messages": [system, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": parts}]},
    ]
    salted = of_file(tmp_path, rows).salted("a")
    first, second = (salted.item(k).first.body["messages"] for k in (0, 1))
    assert first[0]["content"].endswith("\n\nBe short.")
    assert first[1] == {"role": "user", "content": "Hi"}
    assert second[0]["content"][0] == picture
    assert second[0]["content"][1]["text"].endswith("\n\nWhat is this?")


@pytest.mark.parametrize(
    "body", [{"prompt": [[1, 2], [3]]}, {"messages": []}, {"messages": [{"role": "user"}]}, {"input": "x"}]
)
def test_what_has_no_text_is_sent_as_it_is(body: dict[str, Any]) -> None:
    assert Salt("a").of(body, made=False) == body


def test_plain_prompts_of_completions() -> None:
    assert Salt("a").of({"prompt": "x"}, made=False)["prompt"].endswith("\n\nx")
    assert all(text.endswith("\n\nx") for text in Salt("a").of({"prompt": ["x", "x"]}, made=False)["prompt"])


def test_later_turns_of_a_conversation_begin_as_its_first(tmp_path: Path) -> None:
    plain = of_file(tmp_path, [{"turns": ["one", "two"]}], multi_turn=True)
    item = plain.salted("a").item(0)
    assert item.rest is not None
    following = item.rest.next("answer")
    assert following is not None
    messages = following[1].body["messages"]
    assert messages[0] == item.first.body["messages"][0]
    assert [message["content"] for message in messages[1:]] == ["answer", "two"]
