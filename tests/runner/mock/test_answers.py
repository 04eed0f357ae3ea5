"""The bytes of answers: the fast way and the plain way say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.mock import words
from runner.mock.answers import MAX_RUN, Answer, Answers, Identity
from runner.mock.ask import AskError, read_ask
from runner.mock.config import MockConfig

WHO = Identity(serial="a" * 24, created=1_700_000_000)


def answer(config: MockConfig | None = None, *, chunked: bool = False, **body: Any) -> Answer:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]} | body
    ask = read_ask("chat", json.dumps(body).encode())
    return Answers(config or MockConfig()).answer(ask, WHO, chunked=chunked)


def contents(data: bytes) -> list[str]:
    """The text of each event."""
    events = [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-1]]
    assert all(event["id"] == f"chatcmpl-{WHO.serial}" for event in events)
    return [event["choices"][0]["delta"]["content"] for event in events]


@pytest.mark.parametrize("step", [1, 2, 7, MAX_RUN])
def test_tokens_come_the_same_in_any_runs_and_past_the_end_of_the_ring(step: int) -> None:
    total = 2 * words.CYCLE + 100
    made = answer(max_tokens=total)
    pieces = b"".join(made.frames(start, min(start + step, total)) for start in range(0, total, step))
    ask = read_ask("chat", b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    expected = words.reply(ask.key(0, 0), total, words.make_cycle(0))
    assert contents(pieces) == expected
    assert json.loads(made.whole())["choices"][0]["message"]["content"] == "".join(expected)


def test_chunks_are_the_events_with_their_lengths() -> None:
    plain, chunked = answer(max_tokens=3), answer(max_tokens=3, chunked=True)
    data = chunked.frames(0, 3) + chunked.closing()
    events = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        events += rest[:length]
        data = rest[length + 2 :]
    assert events == plain.frames(0, 3) + plain.closing()


def test_words_follow_from_prompt_and_seed() -> None:
    def text(prompt: str, seed: int = 0, choice: int = 0) -> str:
        made = answer(MockConfig(seed=seed), n=2, messages=[{"role": "user", "content": prompt}])
        content: str = json.loads(made.whole())["choices"][choice]["message"]["content"]
        return content

    assert text("a") == text("a")
    assert len({text("a"), text("b"), text("a", seed=1), text("a", choice=1)}) == 4


def test_first_tokens_tell_prompts_apart() -> None:
    asks = [read_ask("text", b'{"model":"m","prompt":"%d"}' % k) for k in range(10_000)]
    assert len({words.name(ask.key(0, 0)) for ask in asks}) == 10_000


def test_echo_gives_the_prompt_back() -> None:
    prompt = "  two  words\nand more "
    made = answer(MockConfig(echo=True), messages=[{"role": "user", "content": prompt}])
    assert "".join(contents(made.frames(0, made.tokens))) == prompt
    assert b'"finish_reason":"stop"' in made.closing()
    cut = answer(MockConfig(echo=True), max_tokens=2, messages=[{"role": "user", "content": prompt}])
    assert "".join(contents(cut.frames(0, cut.tokens))) == "  two  words"
    assert b'"finish_reason":"length"' in cut.closing()
    assert answer(MockConfig(echo=True), messages=[{"role": "user", "content": ""}]).tokens == 0


@pytest.mark.parametrize(
    ("kind", "body", "said", "param"),
    [
        ("chat", "nonsense", "could not parse", None),
        ("chat", "[1]", "Expected `object`", None),
        ("chat", '{"messages":[]}', "model", "model"),
        ("chat", '{"model":"m"}', "'messages'", "messages"),
        ("chat", '{"model":"m","messages":[]}', "empty array", "messages"),
        ("chat", '{"model":"m","messages":"hi"}', "Expected `array", "messages"),
        ("chat", '{"model":"m","messages":[{"content":"x"}]}', "role", "messages[0]"),
        ("text", '{"model":"m"}', "'prompt'", "prompt"),
        ("text", '{"model":"m","prompt":[]}', "empty array", "prompt"),
        ("text", '{"model":"m","prompt":[1,"a"]}', "Invalid 'prompt'", "prompt"),
        ("text", '{"model":"m","prompt":"a","max_tokens":0}', "Expected a value >= 1", "max_tokens"),
        ("text", '{"model":"m","prompt":"a","max_tokens":"7"}', "Expected `int | null`", "max_tokens"),
        ("text", '{"model":"m","prompt":["a","b"],"n":100}', "choices", "n"),
        ("text", '{"model":"m","prompt":"a","stream_options":{}}', "only allowed when", "stream_options"),
    ],
)
def test_bodies_that_ask_for_nothing_sensible(kind: Any, body: str, said: str, param: str | None) -> None:
    with pytest.raises(AskError, match=said.replace("|", r"\|")) as caught:
        read_ask(kind, body.encode())
    assert caught.value.param == param


def test_bodies_are_read() -> None:
    chat = read_ask(
        "chat",
        json.dumps(
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "be short"},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
                    {"role": "assistant", "content": None, "tool_calls": []},
                ],
                "max_tokens": 3,
                "max_completion_tokens": 5,
                "temperature": 0.5,
            }
        ).encode(),
    )
    assert (chat.prompt, chat.max_tokens, chat.choices, chat.stream) == ("a", 5, 1, False)
    text = read_ask("text", b'{"model":"m","prompt":[[1,2],[3]],"n":2}')
    assert (text.prompts, text.choices) == (["1 2", "3"], 4)
    assert read_ask("text", b'{"model":"m","prompt":[1,2]}').prompt == "1 2"
    assert read_ask("text", b'{"model":"m","prompt":"12345678901"}').prompt_tokens == 2
