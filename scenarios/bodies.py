"""From a row's columns to a final body. Pure: no file, no clock, no counter.

A row gives one of
  prompt     text; for chat it becomes one user message
  messages   a list of messages (chat)
  body       the whole body: parameters and `system` do not apply to it, only the model does
  columns    with a template: its text becomes the prompt, and every column stays the caller's
or is a line of an OpenAI Batch file (`custom_id`, `method`, `url`, `body`), whose url names the api.

What is in a body: the row's own fields (`request.FIELDS`, a closed list) beat
the parameters; the model of the settings beats the row's. A null, or an
empty cell of a table, is no value. All other columns come back in `row` untouched.
"""

from typing import Any, NoReturn

import msgspec

from scenarios.formats import Columns, RowError, json_kind
from scenarios.request import FIELDS, NEVER_IN_IDENTITY, TEXT_FIELDS, Api
from scenarios.source import Format, PromptError
from scenarios.template import compile_template, list_names

WAYS = ("prompt", "messages", "body")
"""The columns a row may give its prompt in; exactly one of them."""

NO_MODEL = "no model: give --model or a `model` column"

_TABLES: frozenset[Format] = frozenset({"csv", "tsv", "parquet"})
CAPS = frozenset({"max_tokens", "max_completion_tokens"})
_BATCH_KEYS = ("method", "url", "body")
_URLS: dict[str, Api] = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}
_SHAPES_KEPT = 256


class Settings(msgspec.Struct, frozen=True):
    """What every row of a run has in common. `template` is its text, not its path."""

    api: Api = "chat"
    model: str | None = None
    params: dict[str, Any] = {}
    max_tokens: int | None = None
    system: str | None = None
    template: str | None = None
    samples: int = 1


class Built(msgspec.Struct):
    """A final body and what is to be said about how it came to be."""

    api: Api
    body: dict[str, Any]
    row: Columns
    custom_id: str | None
    fields: tuple[str, ...] = ()
    """Columns that went into the body."""
    overrode: bool = False
    """The row names another model than the one that is used."""
    whole: bool = False
    """The row gives its body whole."""


class NoModelError(RowError):
    """A row without a model, where the settings have none either."""

    def __init__(self) -> None:
        super().__init__(NO_MODEL)


class BodyBuilder:
    """Settings made ready: parameters merged, template compiled, shapes of rows remembered."""

    def __init__(self, settings: Settings, format: Format = "jsonl") -> None:  # noqa: A002
        check_settings(settings)
        self._model = settings.model
        self._api = settings.api
        self._system = settings.system
        self._params = dict(settings.params)
        if settings.max_tokens is not None:
            self._params["max_tokens"] = settings.max_tokens
        self._render = None if settings.template is None else compile_template(settings.template)
        self._table = format in _TABLES
        self._batch = format == "openai-batch"
        self._shapes: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def build(self, columns: Columns) -> Built:
        """Return the row's body; RowError says why there is none."""
        custom_id = _custom_id(columns.get("custom_id"))
        if self._render is not None:
            prompt = self._render(columns)
            if not prompt.strip():
                raise RowError("the template gives an empty prompt")
            return self._compose(columns, self._content(prompt), custom_id, WAYS)
        if self._batch or self._looks_like_batch(columns):
            return self._from_batch(columns, custom_id)
        way = self._way(columns)
        if way == "body":
            return self._whole(columns, self._api, custom_id, ("body",))
        content = self._content(columns["prompt"]) if way == "prompt" else self._messages(columns["messages"])
        return self._compose(columns, content, custom_id, ())

    def _looks_like_batch(self, columns: Columns) -> bool:
        return (
            "prompt" not in columns
            and "messages" not in columns
            and not self._table
            and all(key in columns for key in _BATCH_KEYS)
        )

    def _way(self, columns: Columns) -> str:
        given = [way for way in WAYS if not self._absent(columns.get(way))]
        if len(given) == 1:
            return given[0]
        if given:
            raise RowError(f"gives {' and '.join(given)}: one of them, or a template that chooses")
        if any(way in columns for way in WAYS):
            raise RowError("the prompt is empty")
        raise RowError(
            f"no prompt: give `prompt`, `messages`, `body` or a template (the row has {list_names(columns)})"
        )

    def _absent(self, value: Any) -> bool:
        return value is None or (self._table and value == "")

    def _content(self, prompt: Any) -> dict[str, Any]:
        tokens = (
            self._api == "completions" and isinstance(prompt, list) and all(type(t) is int for t in prompt)
        )
        if not (tokens and prompt):
            if not isinstance(prompt, str):
                hint = "; a list of messages goes under `messages`" if isinstance(prompt, list) else ""
                raise RowError(f"prompt is {json_kind(prompt)}, not text{hint}")
            if not prompt or prompt.isspace():
                raise RowError("the prompt is empty")
        if self._api == "completions":
            return {"prompt": prompt}
        message = {"role": "user", "content": prompt}
        if self._system is not None:
            return {"messages": [{"role": "system", "content": self._system}, message]}
        return {"messages": [message]}

    def _messages(self, value: Any) -> dict[str, Any]:
        if self._api == "completions":
            raise RowError("messages are for chat; text completions take `prompt`")
        messages = self._cell("messages", value)
        check_messages(messages)
        if self._system is not None and messages[0]["role"] not in ("system", "developer"):
            messages = [{"role": "system", "content": self._system}, *messages]
        return {"messages": messages}

    def _compose(
        self, columns: Columns, content: dict[str, Any], custom_id: str | None, own: tuple[str, ...]
    ) -> Built:
        names, rest = self._split(columns, own)
        fields = {name: self._cell(name, columns[name]) for name in names if not self._absent(columns[name])}
        model, overrode = self._choose_model(fields.get("model"))
        body: dict[str, Any] = {"model": model, **content, **self._params}
        if fields and CAPS & fields.keys():
            # One limit under two names: a row's own replaces the one of the settings, whichever name it has.
            for name in CAPS:
                body.pop(name, None)
        body.update(fields)
        body["model"] = model
        row = {name: columns[name] for name in rest}
        return Built(self._api, body, row, custom_id, tuple(fields), overrode)

    def _split(self, columns: Columns, own: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the body's columns and of the caller's, to whom those in `own` belong too."""
        shape = tuple(columns)
        known = self._shapes.get(shape)
        if known is None:
            fields = FIELDS[self._api]
            known = (
                tuple(name for name in shape if name in fields),
                tuple(name for name in shape if name not in fields and (name in own or name not in WAYS)),
            )
            if len(self._shapes) < _SHAPES_KEPT:
                self._shapes[shape] = known
        return known

    def _cell(self, name: str, value: Any) -> Any:
        """Return the value of a body's field: the cell of a table holds JSON where it parses as JSON."""
        if not self._table:
            return value
        if not isinstance(value, str):
            return _without_nulls(value)
        if name in TEXT_FIELDS and not (name == "stop" and value[:1] in '["'):
            return value
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            if name in WAYS:
                raise RowError(f"{name} is not JSON: {value[:60]!r}") from None
            return value

    def _choose_model(self, own: Any) -> tuple[str, bool]:
        if own is not None and not isinstance(own, str):
            raise RowError(f"model is {json_kind(own)}, not text")
        if self._model is not None:
            return self._model, bool(own) and own != self._model
        if not own:
            raise NoModelError
        return own, False

    def _from_batch(self, columns: Columns, custom_id: str | None) -> Built:
        if self._batch and custom_id is None:
            raise RowError("no custom_id: a line of a batch file needs one")
        method, url = columns.get("method"), columns.get("url")
        if method != "POST":
            raise RowError(f"method is {method!r}; only 'POST' can be sent")
        api = _URLS.get(url) if isinstance(url, str) else None
        if api is None:
            raise RowError(f"url is {url!r}, not one of {', '.join(_URLS)}")
        return self._whole(columns, api, custom_id, ("custom_id", *_BATCH_KEYS))

    def _whole(self, columns: Columns, api: Api, custom_id: str | None, ours: tuple[str, ...]) -> Built:
        given = self._cell("body", columns.get("body"))
        if not isinstance(given, dict):
            raise RowError(f"body is {json_kind(given)}, not an object")
        _check_content(api, given)
        model, overrode = self._choose_model(given.get("model"))
        body = {key: value for key, value in given.items() if key not in NEVER_IN_IDENTITY}
        body["model"] = model
        row = {key: value for key, value in columns.items() if key not in ours}
        return Built(api, body, row, custom_id, (), overrode, whole=True)


def check_settings(settings: Settings) -> None:
    """Raise PromptError where settings contradict each other or a body."""
    if settings.api not in FIELDS:
        _refuse(f"unknown api {settings.api!r}", "one of " + ", ".join(FIELDS))
    if settings.samples < 1:
        _refuse(f"samples is {settings.samples}", "1 or more")
    if settings.max_tokens is not None and settings.max_tokens < 1:
        _refuse(f"max_tokens is {settings.max_tokens}", "1 or more")
    if settings.model is not None and not settings.model.strip():
        _refuse("the model is empty", "name one, or leave it to a `model` column")
    if settings.system is not None and settings.api == "completions":
        _refuse("a system message needs the chat api", "put it into the prompt, with a template for instance")
    if settings.max_tokens is not None and "max_tokens" in settings.params:
        _refuse("max_tokens is given twice", "as --max-tokens or as --param, not both")
    for name, instead in _NOT_PARAMS.items():
        if name in settings.params:
            _refuse(f"{name!r} cannot be a parameter", instead)


_NOT_PARAMS = {
    "model": "use --model",
    "messages": "they come from the rows",
    "prompt": "it comes from the rows",
    "stream": "every answer is streamed",
    "stream_options": "usage is asked for unless --no-usage is given",
}


def check_messages(messages: Any) -> None:
    """Raise RowError where a list of messages cannot be meant; what a server accepts is its own affair."""
    if not isinstance(messages, list):
        raise RowError(f"messages is {json_kind(messages)}, not a list")
    if not messages:
        raise RowError("messages is an empty list")
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise RowError(f"messages[{place}] is {json_kind(message)}, not an object")
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise RowError(f"messages[{place}] has no role")
        content = message.get("content")
        if content is None:
            if not (message.get("tool_calls") or message.get("function_call")):
                raise RowError(f"messages[{place}] has no content")
        elif not isinstance(content, (str, list)):
            raise RowError(f"messages[{place}].content is {json_kind(content)}, not text or a list of parts")


def _check_content(api: Api, body: dict[str, Any]) -> None:
    if api == "chat":
        if "messages" not in body:
            other = "; a `prompt` is for text completions" if "prompt" in body else ""
            raise RowError(f"body has no messages{other}")
        check_messages(body["messages"])
    elif body.get("prompt") in (None, "", []):
        other = "; `messages` are for chat" if "messages" in body else ""
        raise RowError(f"body has no prompt{other}")


def _custom_id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise RowError(f"custom_id is {json_kind(value)}, not text or a whole number")


def _without_nulls(value: Any) -> Any:
    """Drop the keys a Parquet struct fills up with null: a server may not take `"tool_calls": null`."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _refuse(reason: str, hint: str) -> NoReturn:
    raise PromptError(reason, hint=hint)
