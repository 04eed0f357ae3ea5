"""Synthetic prompts: their length, their salt, what they share, and how the length is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.scenario import Scenario, Target
from scenarios.source import PromptError
from scenarios.synthetic import Fit, Maker, counts, fit, load_tokenizer, probe_bodies
from scenarios.words import WORDS

Count = Callable[[str], int]


def a_word_a_token(text: str) -> int:
    return len(text.split())


def uneven(text: str) -> int:
    """One to three tokens a word, another for the first of a text."""
    return sum(1 + sum(word.encode()) % 3 for word in text.split()) + 1


def letters(text: str) -> int:
    return len(text)


def test_the_words_can_be_sliced_and_stay_for_ever() -> None:
    assert len(set(WORDS)) == len(WORDS) == 256
    assert {len(word) for word in WORDS} == {4}
    made = Maker(42, Fit(), 100).prompt(0, 12)
    assert made.salt == "away like city date load gone"
    assert made.text == "down fish food door knew chip"


MAKER = Maker(42, Fit(), 30_000, shared_prefix_tokens=40)
PLAIN = Maker(42, Fit(), 30_000, shared_prefix_tokens=40, unique=False)


@given(st.integers(0, 10**9), st.integers(1, 30_000))
def test_without_a_fit_a_word_is_a_token(k: int, tokens: int) -> None:
    assert len(MAKER.prompt(k, tokens).content.split()) == tokens
    assert len(PLAIN.prompt(k, tokens).content.split()) == tokens


def test_a_prompt_is_a_function_of_seed_and_number() -> None:
    again = Maker(42, Fit(), 30_000, shared_prefix_tokens=40)
    for k in (5, 3, 4):
        assert again.prompt(k, 200) == MAKER.prompt(k, 200)
    assert Maker(43, Fit(), 30_000, shared_prefix_tokens=40).prompt(5, 200) != MAKER.prompt(5, 200)


def test_salt_stands_behind_what_is_shared_is_of_one_length_and_never_the_same() -> None:
    made = [MAKER.prompt(k, 60) for k in range(2000)]
    assert len({one.salt for one in made}) == 2000
    assert {len(one.salt) for one in made} == {29}
    assert all(one.content == f"{one.prefix} {one.salt} {one.text}" for one in made)
    assert len({one.prefix for one in made}) == 1
    # Prefix caches compare from the first token on: few prompts go on alike.
    assert len({one.salt.split()[0] for one in made}) > 200
    assert all(PLAIN.prompt(k, 60).salt == "" for k in range(10))


def test_the_prefix_is_shared_and_the_rest_is_not() -> None:
    texts = [PLAIN.prompt(k, 100).content.split() for k in range(50)]
    assert len({" ".join(words[:40]) for words in texts}) == 1
    assert len({" ".join(words[40:]) for words in texts}) == 50
    salted = [MAKER.prompt(k, 100).content.split() for k in range(50)]
    assert len({" ".join(words[:40]) for words in salted}) == 1
    assert len({" ".join(words[40:42]) for words in salted}) == 50


def test_a_prompt_too_short_for_prefix_and_salt_is_its_own() -> None:
    made = [MAKER.prompt(k, 20) for k in range(50)]
    assert {one.prefix for one in made} == {""}
    assert len({one.content for one in made}) == 50


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60)), min_size=2, max_size=30))
def test_equal_recipes_are_equal_texts(asked: list[tuple[int, int]]) -> None:
    for maker in (MAKER, PLAIN):
        made = [maker.prompt(k, tokens) for k, tokens in asked]
        texts = [f"{one.prefix} {one.text}".strip() for one in made]
        pairs = set(zip((one.recipe for one in made), texts, strict=True))
        assert len({one.recipe for one in made}) == len(pairs) == len(set(texts))


@given(st.floats(0.5, 4), st.floats(0, 60), st.integers(1, 5000))
@settings(max_examples=30)
def test_a_fit_gives_the_words_for_the_tokens(per_word: float, overhead: float, tokens: int) -> None:
    maker = Maker(1, Fit(per_word, overhead, "usage"), 5000, shared_prefix_tokens=10)
    words = len(maker.prompt(0, tokens).content.split())
    assert words >= 1
    if tokens > overhead + 20 * per_word:
        # Salt, prefix and rest are each a whole number of words.
        assert abs(words * per_word + overhead - tokens) <= per_word


def test_the_line_through_probes() -> None:
    found = fit([(words, round(12 + 1.25 * words)) for words in (16, 128, 512)])
    assert found == Fit(1.25, 12, "usage", 3)
    assert fit([]) == Fit()
    assert fit([(16, 30)]) == Fit(probes=1)
    assert fit([(16, 30), (16, 31)]) == Fit(probes=2)
    assert fit([(16, 7), (128, 7), (512, 7)]) == Fit(probes=3)


def test_probes_are_the_load_s_own_bodies_with_one_token_to_answer() -> None:
    scenario = Scenario(
        target=Target(model="m"),
        request={
            "temperature": 0.5,
            "max_completion_tokens": 99,
            **dict.fromkeys(["min_tokens", "n", "best_of", "ignore_eos"], 9),
        },
        seed=3,
    )
    bodies = probe_bodies(scenario)
    assert [words for words, _ in bodies] == [16, 128, 512]
    for words, body in bodies:
        (message,) = body.pop("messages")
        assert len(message["content"].split()) == words
        assert body == {"model": "m", "temperature": 0.5, "max_completion_tokens": 1}
    scenario.target.api = "completions"
    scenario.request = {"max_tokens": 99}
    _, body = probe_bodies(scenario)[0]
    assert (set(body), body["max_tokens"]) == ({"model", "prompt", "max_tokens"}, 1)


@pytest.mark.parametrize("count", [a_word_a_token, uneven], ids=lambda count: count.__name__)
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("prefix", [0, 64])
def test_counted_lengths_are_exact(count: Count, unique: bool, prefix: int) -> None:
    maker = Maker(5, Fit(), 4000, shared_prefix_tokens=prefix, unique=unique, counts=counts(count))
    for k in range(40):
        tokens = 100 + 97 * k
        assert count(maker.prompt(k, tokens).content) == tokens


@pytest.mark.parametrize("tokens", range(1, 30))
def test_short_counted_prompts_are_never_empty(tokens: int) -> None:
    maker = Maker(5, Fit(), 4000, shared_prefix_tokens=8, counts=counts(uneven))
    assert 2 <= uneven(maker.prompt(1, tokens).content) <= max(4, tokens)


def test_lengths_that_cannot_be_met_are_met_from_below() -> None:
    maker = Maker(5, Fit(), 4000, counts=counts(letters))
    for k, tokens in enumerate(range(100, 140)):
        assert tokens - 5 < letters(maker.prompt(k, tokens).content) <= tokens


def test_a_tokenizer_that_joins_words_is_refused() -> None:
    with pytest.raises(PromptError, match=r"prompts\.tokenizer: .*joins words.*probes"):
        counts(lambda text: -(-len(text.split()) // 2))


def test_equal_ids_are_equal_blocks() -> None:
    maker = Maker(42, Fit(), 4096)
    first = maker.blocks(0, 1100, [46, 47, 48]).content.split()
    second = maker.blocks(1, 1100, [46, 47, 49]).content.split()
    assert (len(first), len(second)) == (1100, 1100)
    assert first[:1024] == second[:1024]
    assert first[1024:] != second[1024:]
    # The last block of a row may be a part: it is the front of the whole one.
    longer = maker.blocks(2, 1536, [46, 47, 48]).content.split()
    assert longer[:1100] == first
    assert len({maker.blocks(0, 6, [number]).content for number in range(3000)}) == 3000


def test_what_ids_do_not_cover_is_a_prompt_s_own() -> None:
    maker = Maker(42, Fit(), 4096)
    first, second = (maker.blocks(k, 600, [46]).content.split() for k in (0, 1))
    assert first[:512] == second[:512]
    assert first[512] != second[512]
    assert len(first) == 600
    # More ids than the length has room for: the rest of them is not used.
    assert maker.blocks(0, 600, [46, 47, 48, 49]).content == maker.blocks(0, 600, [46, 47]).content


@pytest.mark.parametrize("count", [a_word_a_token, uneven], ids=lambda count: count.__name__)
def test_counted_blocks_share_text_and_meet_the_length(count: Count) -> None:
    maker = Maker(5, Fit(), 4000, counts=counts(count))
    first, second = maker.blocks(0, 1500, [1, 2]), maker.blocks(1, 1300, [1, 2, 3])
    assert abs(count(first.content) - 1500) <= 3
    assert abs(count(second.content) - 1300) <= 3
    words = (first.content.split(), second.content.split())
    same = next(i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b)
    assert count(" ".join(words[0][:same])) >= 1020


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 1200), st.lists(st.integers(0, 2), max_size=3)),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=30)
def test_equal_recipes_of_blocks_are_equal_texts(asked: list[tuple[int, int, list[int]]]) -> None:
    made = [PLAIN.blocks(k, tokens, ids) for k, tokens, ids in asked]
    assert len({one.recipe for one in made}) == len({(one.recipe, one.text) for one in made})


def test_a_local_tokenizer_counts(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    vocabulary = {"[unk]": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}
    tokenizer = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="[unk]"))
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    found = counts(load_tokenizer(str(path)))
    assert set(found.first) == set(found.rest) == {1}
    maker = Maker(5, Fit(9.0, 99.0), 4000, counts=found)
    assert len(tokenizer.encode(maker.prompt(0, 321).content).ids) == 321


def test_no_tokenizer_at_the_path(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(PromptError, match="is not a readable tokenizer"):
        load_tokenizer(str(tmp_path / "tokenizer.json"))


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(PromptError, match=r"pip install 'streamgauge\[tokenizers\]'"):
        load_tokenizer("tokenizer.json")


def test_text_needs_no_escapes() -> None:
    content = MAKER.prompt(3, 500).content
    assert msgspec.json.encode(content) == f'"{content}"'.encode()
