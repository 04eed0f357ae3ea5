"""What a load asks: the k-th arrival's request, for any k.

    workload = Workload(scenario, fit)
    item = workload.item(k)              # a function of scenario, seed and k alone
    item.first                           # the request
    item.rest                            # the turns after it, where the row is a conversation
    item.leave                           # a user who leaves before the end

Whatever waits for a disk is done when it is made; `item` runs on the event loop.

Ids: the same row a second time is another request, told apart by its occurrence (`request.py`). Where a limit
is drawn, the prompt is made up, or it is a later turn, the occurrence is k. A made-up text stands in both
digests as its recipe (see `synthetic.Made`): hashing 100,000 tokens twice would keep the loop from reading.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from scenarios.bodies import CAPS, NO_MODEL, BodyBuilder, Settings
from scenarios.dialogue import Conversation, Dialogue, Message
from scenarios.draws import cut_normal, longest, tokens, uniform
from scenarios.request import Api, Request, body_digest, prompt_id, request_id
from scenarios.rows import FileRow, read_rows
from scenarios.salt import Salt
from scenarios.scenario import Lengths, Scenario, Synthetic
from scenarios.source import PromptError, Source, file_sha256
from scenarios.synthetic import Counts, Fit, Made, Maker, counts, load_tokenizer
from scenarios.trace import TraceRow, rows_of
from scenarios.units import seconds

_RECIPE = "streamgauge.synthetic.1 "


class Leave(msgspec.Struct, frozen=True):
    """A user who leaves: after so many tokens, or where none came by then."""

    tokens: int | None
    patience_s: float | None


class Item(msgspec.Struct, frozen=True):
    """What one arrival sends."""

    first: Request
    rest: Conversation | None = None
    leave: Leave | None = None
    asked_input_tokens: int | None = None
    asked_output_tokens: int | None = None


class Described(msgspec.Struct, frozen=True):
    """Where the prompts come from, for the manifest."""

    kind: str
    """file, synthetic or trace."""
    name: str | None = None
    """Path of the file or the trace."""
    format: str | None = None
    sha256: str | None = None
    rows: int | None = None
    left_out: int = 0
    """Rows of the file that cannot be sent."""
    expects: int = 0
    """Rows that say what they expect of their answer."""
    distinct: int | None = None
    """Different prompts; `None`: as many as are asked."""


class _Prompt(msgspec.Struct, frozen=True):
    """A prompt on its way to a request: everything but the limit of its answer and its id."""

    api: Api
    body: dict[str, Any]
    prompt_id: str
    whole: bool = False
    """The row gives its body whole: fields of the scenario do not apply."""
    stands_for: dict[str, Any] = {}
    """What takes the place of long texts in the digest."""
    limit: int | None = None
    """Of the answer, where the row or the trace says one; before all others."""
    hint: int | None = None
    """Length of the recorded answer: the limit where nothing else is said."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """What was asked of the answer, where its limit stands in the body already."""
    custom_id: str | None = None
    row: dict[str, Any] = {}
    dialogue: Dialogue | None = None


class Workload:
    """Everything a load asks.

    Args:
        scenario: paths in it are those of this process.
        fit: how many tokens words make, for made-up prompts.
        rows: of the trace, where they are not to be read from `load.trace`.
        skip_bad_rows: rows of a file that cannot be sent are left out, and not an error.

    Raises:
        PromptError: prompts, trace or tokenizer cannot be read, or contradict the rest.
    """

    def __init__(
        self,
        scenario: Scenario,
        fit: Fit | None = None,
        rows: list[TraceRow] | None = None,
        *,
        skip_bad_rows: bool = False,
    ) -> None:
        self._scenario, self._seed = scenario, scenario.seed
        self._prompts, self._load, self._api = scenario.prompts, scenario.load, scenario.target.api
        self._caps = {name: value for name, value in scenario.request.items() if name in CAPS}
        self._cap = "max_completion_tokens" if "max_completion_tokens" in self._caps else "max_tokens"
        params = {name: value for name, value in scenario.request.items() if name not in CAPS}
        self._settings = Settings(api=self._api, model=scenario.target.model, params=params)
        self._rows = (rows or rows_of(self._load)) if self._load.executor == "trace" else []
        path = self._prompts.tokenizer
        self._count = load_tokenizer(path) if path is not None else None
        self._prompt: Callable[[int], _Prompt]
        self._described: Described
        self._salt: Salt | None = None
        self._counts: Counts | None = None
        self._identity: Callable[[int], tuple[int, int]] | None = None
        if self._prompts.file is not None:
            self._make_of_file(skip_bad_rows)
        else:
            self._make_of_words(fit or Fit())

    def item(self, k: int) -> Item:
        """Return what the `k`-th arrival sends."""
        prompt = self._prompt(k)
        first, asked = self._request(prompt, k, 0)
        return Item(
            first=first,
            rest=self._rest(prompt, k),
            leave=self._leave(k),
            asked_input_tokens=prompt.input_tokens,
            asked_output_tokens=prompt.output_tokens if asked is None else asked,
        )

    def salted(self, text: str) -> Workload:
        """Return the same, as a run with this salt asks it (`salt.py`). Its `prompt_id`s stay."""
        tokens_of = self._counts
        kinds = None if tokens_of is None else list(zip(tokens_of.first, tokens_of.rest, strict=True))
        other = copy.copy(self)
        other._salt = Salt(text, kinds)  # noqa: SLF001 (of the same class)
        return other

    def describe(self) -> Described:
        """Return where the prompts come from."""
        return self._described

    # Where prompts come from: each sets _prompt and _described.

    def _make_of_file(self, skip_bad_rows: bool) -> None:
        prompts = self._prompts
        assert prompts.file is not None
        if prompts.multi_turn and self._api == "completions":
            raise PromptError("prompts.multi_turn needs messages", hint='set target.api = "chat"')
        found = read_rows(
            prompts.file,
            prompts.format,
            self._settings,
            multi_turn=prompts.multi_turn,
            skip_bad_rows=skip_bad_rows,
            count=self._count,
        )
        ready = [_of_file(row) for row in found.rows]
        self._described = Described(
            kind="file",
            name=found.path,
            format=found.format,
            sha256=found.sha256,
            rows=len(ready),
            left_out=found.left_out,
            expects=sum(row.expects for row in found.rows),
            distinct=len({prompt.prompt_id for prompt in ready}),
        )
        if self._rows:
            self._prompt = lambda k: self._with_limit(ready[k % len(ready)], k)
        else:
            self._prompt = lambda k: ready[k % len(ready)]
        if not self._rows and self._stays(ready):
            self._identity = self._identities(ready)

    def _stays(self, ready: list[_Prompt]) -> bool:
        """Whether the same row has the same body each time: a limit that is drawn makes it another."""
        drawn = isinstance(self._prompts.output_tokens, Lengths)
        return not drawn or all(CAPS & prompt.body.keys() for prompt in ready)

    def _make_of_words(self, fit: Fit) -> None:
        if self._prompts.multi_turn:
            raise PromptError("prompts.multi_turn is about a file of conversations", hint="name prompts.file")
        if self._settings.model is None and not (self._rows and all(row.body for row in self._rows)):
            raise PromptError(NO_MODEL.replace("a `model` column", "target.model"))
        synthetic = self._prompts.synthetic or Synthetic()
        lengths = [row.input_tokens for row in self._rows if row.input_tokens]
        self._lengths = synthetic.input_tokens
        if self._count is not None:
            self._counts = counts(self._count, self._prompts.tokenizer or "")
        self._maker = Maker(
            self._seed,
            fit,
            max([longest(synthetic.input_tokens), *lengths]),
            shared_prefix_tokens=synthetic.shared_prefix_tokens,
            unique=synthetic.unique,
            counts=self._counts,
        )
        self._plain = BodyBuilder(self._settings).build({"prompt": "x"}).body if self._settings.model else {}
        if not self._rows:
            self._prompt = self._of_words
            self._described = Described(kind="synthetic", distinct=None)
            return
        self._replayed = {
            number: self._of_body(row, row.body)
            for number, row in enumerate(self._rows)
            if row.body is not None
        }
        self._prompt = self._of_trace
        replayed = list(self._replayed.values())
        if len(replayed) == len(self._rows) and self._stays(replayed):
            self._identity = self._identities(replayed)
        name = self._load.trace
        self._described = Described(
            kind="trace",
            name=name,
            format=self._load.trace_format,
            sha256=file_sha256(Source(name, "jsonl")) if name and Path(name).is_file() else None,
            rows=len(self._rows),
        )

    # One prompt.

    def _of_words(self, k: int) -> _Prompt:
        asked = tokens(self._lengths, uniform(self._seed, "input", k))
        return self._of_made(self._maker.prompt(k, asked), asked)

    def _of_trace(self, k: int) -> _Prompt:
        number = k % len(self._rows)
        if number in self._replayed:
            return self._replayed[number]
        row = self._rows[number]
        asked = row.input_tokens or tokens(self._lengths, uniform(self._seed, "input", k))
        made = self._maker.blocks(k, asked, row.hash_ids) if row.hash_ids else self._maker.prompt(k, asked)
        return self._of_made(made, asked, row.output_tokens)

    def _of_body(self, row: TraceRow, body: dict[str, Any]) -> _Prompt:
        """Return what was sent once, as it was meant then, so that it pairs with its record."""
        model = self._settings.model
        return _Prompt(
            "chat" if "messages" in body else "completions",
            {**body, "model": model} if model is not None else body,
            row.prompt_id or prompt_id(body),
            whole=True,
            input_tokens=row.asked_input_tokens,
            output_tokens=row.asked_output_tokens,
        )

    def _of_made(self, made: Made, asked: int, limit: int | None = None) -> _Prompt:
        key = "messages" if self._api == "chat" else "prompt"
        recipe = _RECIPE + made.recipe
        return _Prompt(
            self._api,
            {**self._plain, key: self._content(made.content)},
            prompt_id({key: recipe}),
            stands_for={key: f"{recipe} {made.salt}"},
            limit=limit,
            input_tokens=asked,
        )

    def _content(self, text: str) -> Any:
        return [{"role": "user", "content": text}] if self._api == "chat" else text

    def _with_limit(self, prompt: _Prompt, k: int) -> _Prompt:
        return msgspec.structs.replace(prompt, limit=self._rows[k % len(self._rows)].output_tokens)

    # From a prompt to a request.

    def _request(self, prompt: _Prompt, k: int, turn: int) -> tuple[Request, int | None]:
        body, asked = self._limited(prompt, k, turn)
        if turn == 0 and self._identity is not None:
            digest, occurrence = self._identity(k)
        else:
            digest, occurrence = self._digest(prompt, body), k
        if self._salt is not None:
            digest ^= self._salt.digest
            body = self._salt.of(body, made=bool(prompt.stands_for))
        request = Request(
            id=request_id(digest, occurrence, 0),
            prompt_id=prompt.prompt_id,
            index=k,
            sample=0,
            custom_id=prompt.custom_id,
            api=prompt.api,
            body=body,
            row=prompt.row,
        )
        return request, asked

    def _limited(self, prompt: _Prompt, k: int, turn: int) -> tuple[dict[str, Any], int | None]:
        """Return the body with the limit of its answer, and the limit where a length was asked for."""
        body = prompt.body
        asked = self._asked(prompt, k, turn)
        if asked is not None:
            body = {name: value for name, value in body.items() if name not in CAPS}
            body[self._cap] = asked
        elif self._caps and not prompt.whole and not CAPS & body.keys():
            body = {**body, **self._caps}
        if self._prompts.force_output:
            limit = asked or next((body[name] for name in CAPS if type(body.get(name)) is int), None)
            if limit is not None:
                return {"ignore_eos": True, "min_tokens": limit, **body}, limit
        return body, asked

    def _asked(self, prompt: _Prompt, k: int, turn: int) -> int | None:
        """Return the length asked of an answer: the trace's, else the drawn one, else the recorded one."""
        if prompt.limit is not None:
            return prompt.limit
        if CAPS & prompt.body.keys():
            return None  # the row's own
        drawn = self._prompts.output_tokens
        if drawn is not None:
            return tokens(drawn, uniform(self._seed, "output", k, turn))
        return None if self._caps or prompt.whole else prompt.hint

    def _digest(self, prompt: _Prompt, body: dict[str, Any]) -> int:
        return body_digest(prompt.api, {**body, **prompt.stands_for} if prompt.stands_for else body)

    def _identities(self, ready: list[_Prompt]) -> Callable[[int], tuple[int, int]]:
        """Return a function from k to the body's digest and how many equal bodies are sent before it."""
        total: Counter[int] = Counter()
        found: list[tuple[int, int]] = []
        for k, prompt in enumerate(ready):
            digest = self._digest(prompt, self._limited(prompt, k, 0)[0])
            found.append((digest, total[digest]))
            total[digest] += 1

        def identity(k: int) -> tuple[int, int]:
            again, row = divmod(k, len(found))
            digest, before = found[row]
            return digest, before + again * total[digest]

        return identity

    # The turns after the first, and users who leave.

    def _rest(self, prompt: _Prompt, k: int) -> Conversation | None:
        dialogue = prompt.dialogue
        if dialogue is None or len(dialogue.turns) < 2:
            return None
        return Conversation(dialogue, partial(self._turn, prompt, dialogue, k), partial(self._think_s, k))

    def _turn(
        self, prompt: _Prompt, dialogue: Dialogue, k: int, turn: int, said: list[Message], own: list[Message]
    ) -> tuple[Request, int | None]:
        later = msgspec.structs.replace(
            prompt,
            body={**prompt.body, "messages": said},
            prompt_id=prompt_id({"messages": own}),
            hint=dialogue.turns[turn].answer_tokens,
        )
        return self._request(later, k, turn)

    def _think_s(self, k: int, turn: int) -> float:
        asked = self._load.think_time
        if asked is None:
            return 0.0
        if isinstance(asked, Lengths):
            return cut_normal(asked, uniform(self._seed, "think", k, turn), 0.0)
        return seconds(asked)

    def _leave(self, k: int) -> Leave | None:
        cancel = self._load.cancel
        if cancel is None or uniform(self._seed, "leave", k) >= cancel.share:
            return None
        return Leave(cancel.tokens, None if cancel.patience is None else seconds(cancel.patience))


def _of_file(row: FileRow) -> _Prompt:
    built = row.built
    return _Prompt(
        api=built.api,
        body=built.body,
        prompt_id=prompt_id(built.body),
        whole=built.whole,
        hint=row.answer_tokens,
        custom_id=built.custom_id,
        row=built.row,
        dialogue=row.dialogue,
    )
