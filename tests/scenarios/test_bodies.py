from typing import Any

import pytest

from scenarios.bodies import BodyBuilder, Built, NoModelError, Settings
from scenarios.formats import RowError
from scenarios.request import CHAT_FIELDS, COMPLETION_FIELDS
from scenarios.source import PromptError

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}


def build(columns: dict[str, Any], format_: Any = "jsonl", **settings: Any) -> Built:
    return BodyBuilder(Settings(**{"model": "m", **settings}), format_).build(columns)


def refusal(columns: dict[str, Any], format_: Any = "jsonl", **settings: Any) -> str:
    with pytest.raises(RowError) as caught:
        build(columns, format_, **settings)
    return caught.value.reason


def test_a_prompt_becomes_a_user_message() -> None:
    built = build({"prompt": "hi", "id": 7})
    assert built == Built("chat", {"model": "m", "messages": [USER]}, {"id": 7}, None)


def test_messages_go_as_they_are() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "n"}
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    assert build({"messages": [USER, call, parts]}).body["messages"] == [USER, call, parts]


def test_a_body_is_taken_whole() -> None:
    body = {"messages": [USER], "user": "u", "stream": False, "stream_options": {}, "temperature": None}
    built = build(
        {"body": body, "temperature": 3, "x": 1}, params={"top_p": 1}, max_tokens=5, system="be brief"
    )
    assert built.body == {"model": "m", "messages": [USER], "user": "u", "temperature": None}
    assert built.row == {"temperature": 3, "x": 1}
    assert built.whole
    assert built.fields == ()
    assert body["stream"] is False


def test_the_row_beats_the_parameters() -> None:
    built = build(
        {"prompt": "hi", "temperature": 0, "seed": None}, params={"temperature": 1, "seed": 4, "user": "u"}
    )
    assert built.body == {"model": "m", "messages": [USER], "temperature": 0, "seed": 4, "user": "u"}
    assert built.fields == ("temperature",)
    assert built.row == {}


@pytest.mark.parametrize("own", ["max_tokens", "max_completion_tokens"])
def test_a_rows_own_limit_replaces_that_of_the_settings(own: str) -> None:
    assert build({"prompt": "hi", own: 9}, max_tokens=5).body == {"model": "m", "messages": [USER], own: 9}
    assert build({"prompt": "hi"}, max_tokens=5).body["max_tokens"] == 5


@pytest.mark.parametrize("name", sorted(CHAT_FIELDS - {"model"}))
def test_every_chat_field_goes_into_the_body(name: str) -> None:
    assert build({"prompt": "hi", name: 1}).body[name] == 1


@pytest.mark.parametrize("name", sorted(COMPLETION_FIELDS - {"model"}))
def test_every_completion_field_goes_into_the_body(name: str) -> None:
    assert build({"prompt": "hi", name: 1}, api="completions").body[name] == 1


@pytest.mark.parametrize(
    "name", ["user", "metadata", "store", "best_of", "echo", "suffix", "stream", "expect"]
)
def test_any_other_column_is_the_callers(name: str) -> None:
    built = build({"prompt": "hi", name: {"a": [1]}})
    assert name not in built.body
    assert built.row == {name: {"a": [1]}}


def test_tools_are_the_callers_where_completions_have_none() -> None:
    assert build({"prompt": "hi", "tools": [1]}, api="completions").row == {"tools": [1]}


def test_models() -> None:
    assert build({"prompt": "hi", "model": "own"}, model=None).body["model"] == "own"
    won = build({"prompt": "hi", "model": "own"})
    assert (won.body["model"], won.overrode) == ("m", True)
    assert not build({"prompt": "hi", "model": "m"}).overrode
    assert build({"body": {"messages": [USER], "model": "own"}}).overrode
    assert build({"body": {"messages": [USER], "model": "own"}}, model=None).body["model"] == "own"
    for columns in ({"prompt": "hi"}, {"prompt": "hi", "model": ""}, {"body": {"messages": [USER]}}):
        with pytest.raises(NoModelError, match="no model: give --model or a `model` column"):
            build(columns, model=None)
    assert refusal({"prompt": "hi", "model": 4}) == "model is a number, not text"


@pytest.mark.parametrize("first", ["system", "developer"])
def test_a_system_message_of_the_row_stays_alone(first: str) -> None:
    own = [{"role": first, "content": "own"}, USER]
    assert build({"messages": own}, system="be brief").body["messages"] == own


def test_a_system_message_goes_first() -> None:
    assert build({"prompt": "hi"}, system="be brief").body["messages"] == [SYSTEM, USER]
    messages = [USER]
    assert build({"messages": messages}, system="be brief").body["messages"] == [SYSTEM, USER]
    assert messages == [USER]


def test_completions() -> None:
    assert build({"prompt": "hi"}, api="completions").body == {"model": "m", "prompt": "hi"}
    assert build({"prompt": [1, 2]}, api="completions").body["prompt"] == [1, 2]
    assert build({"body": {"prompt": ["a", "b"]}}, api="completions").body["prompt"] == ["a", "b"]
    assert refusal({"prompt": ["a"]}, api="completions").startswith("prompt is a list, not text")
    assert refusal({"messages": [USER]}, api="completions").startswith("messages are for chat")
    assert (
        refusal({"body": {"messages": [USER]}}, api="completions")
        == "body has no prompt; `messages` are for chat"
    )


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": 1, "y": 2}, "no prompt: give `prompt`, `messages`, `body` or a template (the row has x, y)"),
        ({}, "no prompt: give `prompt`, `messages`, `body` or a template (the row has no columns)"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is empty"),
        ({"prompt": 5}, "prompt is a number, not text"),
        ({"prompt": [USER]}, "prompt is a list, not text; a list of messages goes under `messages`"),
        (
            {"prompt": "a", "messages": [USER]},
            "gives prompt and messages: one of them, or a template that chooses",
        ),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": "hi"}, "messages is text, not a list"),
        ({"messages": ["hi"]}, "messages[0] is text, not an object"),
        ({"messages": [USER, {"content": "x"}]}, "messages[1] has no role"),
        ({"messages": [{"role": "user"}]}, "messages[0] has no content"),
        (
            {"messages": [{"role": "user", "content": 1}]},
            "messages[0].content is a number, not text or a list of parts",
        ),
        ({"body": "x"}, "body is text, not an object"),
        ({"body": {}}, "body has no messages"),
        ({"body": {"prompt": "x"}}, "body has no messages; a `prompt` is for text completions"),
        ({"body": {"messages": []}}, "messages is an empty list"),
        ({"prompt": "x", "custom_id": 1.5}, "custom_id is a number, not text or a whole number"),
        ({"prompt": "x", "custom_id": True}, "custom_id is true or false, not text or a whole number"),
    ],
)
def test_rows_without_a_body_say_why(columns: dict[str, Any], says: str) -> None:
    assert refusal(columns) == says


def test_custom_ids() -> None:
    built = build({"prompt": "hi", "custom_id": 12})
    assert (built.custom_id, built.row) == ("12", {"custom_id": 12})
    assert build({"prompt": "hi", "custom_id": "é"}).custom_id == "é"
    assert build({"prompt": "hi", "custom_id": None}).custom_id is None


def batch(**other: Any) -> dict[str, Any]:
    body = {"model": "b", "messages": [USER], "max_tokens": 4}
    return {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body, **other}


@pytest.mark.parametrize("format_", ["jsonl", "openai-batch"])
def test_batch_rows(format_: str) -> None:
    built = build(batch(note="mine"), format_, model=None, max_tokens=9)
    body = {"model": "b", "messages": [USER], "max_tokens": 4}
    assert built == Built("chat", body, {"note": "mine"}, "c", whole=True)
    text = build(batch(url="/v1/completions", body={"prompt": "x"}), format_)
    assert (text.api, text.body) == ("completions", {"prompt": "x", "model": "m"})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"method": "GET"}, "method is 'GET'; only 'POST' can be sent"),
        (
            {"url": "/v1/embeddings"},
            "url is '/v1/embeddings', not one of /v1/chat/completions, /v1/completions",
        ),
        ({"url": 5}, "url is 5, not one of /v1/chat/completions, /v1/completions"),
        ({"body": None}, "body is null, not an object"),
    ],
)
def test_bad_batch_rows(other: dict[str, Any], says: str) -> None:
    assert refusal(batch(**other)) == says


def test_a_batch_file_is_held_to_its_form() -> None:
    assert refusal({"prompt": "x"}, "openai-batch").startswith("no custom_id")
    assert refusal({"prompt": "x", "custom_id": "c"}, "openai-batch").startswith("method is None")
    assert build({k: v for k, v in batch().items() if k != "custom_id"}).custom_id is None


def test_with_a_template_every_column_is_the_callers() -> None:
    columns = {"prompt": "p", "messages": 1, "body": 2, "method": "GET", "url": "u", "word": "hi", "seed": 3}
    built = build(columns, template="{{ word }}", system="be brief")
    assert built.body == {"model": "m", "messages": [SYSTEM, USER], "seed": 3}
    assert built.row == {k: v for k, v in columns.items() if k != "seed"}
    assert refusal({"word": " "}, template="{{ word }}") == "the template gives an empty prompt"
    assert build({"word": "hi"}, api="completions", template="{{ word }}").body["prompt"] == "hi"


def test_cells_of_a_csv_file() -> None:
    cells = {
        "prompt": "5",
        "messages": "",
        "temperature": "0.5",
        "seed": "7",
        "top_p": "",
        "stop": "5",
        "model": "4",
        "response_format": '{"type": "json_object"}',
        "logit_bias": "{oops",
        "score": "1.50",
        "note": "",
        "custom_id": "",
    }
    built = build(cells, "csv", model=None)
    assert built.body == {
        "model": "4",
        "messages": [{"role": "user", "content": "5"}],
        "temperature": 0.5,
        "seed": 7,
        "stop": "5",
        "response_format": {"type": "json_object"},
        "logit_bias": "{oops",
    }
    assert built.row == {"score": "1.50", "note": "", "custom_id": ""}
    assert built.custom_id is None


def test_lists_and_objects_in_cells() -> None:
    assert build({"prompt": "", "messages": '[{"role":"user","content":"hi"}]'}, "csv").body["messages"] == [
        USER
    ]
    assert build({"prompt": "x", "stop": '["a", "b"]'}, "csv").body["stop"] == ["a", "b"]
    assert build({"body": '{"messages": [{"role":"user","content":"hi"}]}'}, "csv").body["messages"] == [USER]
    assert refusal({"messages": "[oops"}, "csv") == "messages is not JSON: '[oops'"
    assert refusal({"body": "5"}, "csv") == "body is a number, not an object"


def test_nulls_parquet_fills_in_are_left_out() -> None:
    messages = [{"role": "user", "content": "hi", "name": None, "tool_calls": None}]
    assert build({"messages": messages, "prompt": None, "seed": None}, "parquet").body == {
        "model": "m",
        "messages": [USER],
    }


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"api": "embeddings"}, "unknown api 'embeddings'; one of chat, completions"),
        ({"samples": 0}, "samples is 0; 1 or more"),
        ({"max_tokens": 0}, "max_tokens is 0; 1 or more"),
        ({"model": " "}, "the model is empty; name one, or leave it to a `model` column"),
        (
            {"api": "completions", "system": "x"},
            "a system message needs the chat api; put it into the prompt",
        ),
        (
            {"max_tokens": 1, "params": {"max_tokens": 1}},
            "max_tokens is given twice; as --max-tokens or as --param",
        ),
        ({"params": {"model": "x"}}, "'model' cannot be a parameter; use --model"),
        ({"params": {"messages": []}}, "'messages' cannot be a parameter; they come from the rows"),
        ({"params": {"prompt": ""}}, "'prompt' cannot be a parameter; it comes from the rows"),
        ({"params": {"stream": False}}, "'stream' cannot be a parameter; every answer is streamed"),
        ({"params": {"stream_options": {}}}, "'stream_options' cannot be a parameter; usage is asked for"),
        ({"template": "{% x %}"}, "template, line 1: the template does not compile"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError) as caught:
        BodyBuilder(Settings(**settings))
    assert str(caught.value).startswith(says)


def test_rows_of_many_shapes_do_not_fill_the_memory() -> None:
    builder = BodyBuilder(Settings(model="m"))
    for number in range(1000):
        assert builder.build({"prompt": "x", f"c{number}": 1}).row == {f"c{number}": 1}
    assert len(builder._shapes) <= 256
