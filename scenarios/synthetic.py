"""Prompts made up from the seed: plain words, in the number that makes the tokens asked for.

    maker = Maker(seed=42, fit=fit, most_tokens=4096)
    made = maker.prompt(k, 512)          # shared prefix + salt + a piece of the pool
    made = maker.blocks(k, 1100, ids)    # a row of a Mooncake trace: equal ids, equal text

All words have four letters, so a piece of the pool is one slice of one string, whose ends follow from the
numbers of its words: making 30,000 tokens takes some 10 us, on the loop that also reads answers.

How many words make a token, one of three says: the server (`fit`, from a few answers of one token and their
`usage.prompt_tokens`), a local tokenizer (`Counts`), or nobody (a word a token).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b, shake_256
from itertools import accumulate
from typing import Any, Literal

from msgspec import Struct

from scenarios.answer_limit import ASK_FOR_MORE
from scenarios.bodies import CAPS
from scenarios.draws import uniform
from scenarios.scenario import Scenario
from scenarios.source import PromptError
from scenarios.trace import BLOCK_TOKENS
from scenarios.words import WORDS

_STEP = 5  # four letters and a space
_CODE_WORDS = 6
_POOL_WORDS = 1 << 17
_TRIES = 32
_PROBE_WORDS = (16, 128, 512)


class Fit(Struct, frozen=True):
    """How many tokens words make, and how many come on top of each prompt (the chat template's)."""

    tokens_per_word: float = 1.0
    overhead_tokens: float = 0.0
    source: Literal["usage", "tokenizer", "none"] = "none"
    probes: int = 0


class Counts(Struct, frozen=True):
    """Tokens of each word, at the beginning of a text and after a space."""

    first: tuple[int, ...]
    rest: tuple[int, ...]


class Made(Struct, frozen=True):
    """A prompt. `salt` stands between `prefix` and `text`, and is no part of what is asked."""

    salt: str
    text: str
    recipe: str
    """What `text` follows from: the same for the same text, and short."""

    prefix: str = ""

    @property
    def content(self) -> str:
        """What is sent. A shared prefix comes first, or it would share nothing."""
        return " ".join(part for part in (self.prefix, self.salt, self.text) if part)


def probe_bodies(scenario: Scenario) -> list[tuple[int, dict[str, Any]]]:
    """Return bodies of one answer token each, with their numbers of words: what `fit` is to be asked about.

    Fields are those of the load, because they may change the chat template; but for those that ask for more
    than one token.
    """
    maker = Maker(scenario.seed, Fit(), most_tokens=max(_PROBE_WORDS))
    left_out = CAPS | ASK_FOR_MORE
    fields = {name: value for name, value in scenario.request.items() if name not in left_out}
    cap = "max_completion_tokens" if "max_completion_tokens" in scenario.request else "max_tokens"
    bodies = []
    for number, words in enumerate(_PROBE_WORDS):
        text = maker.prompt(-1 - number, words).content
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        if scenario.target.api == "completions":
            asked = {"prompt": text}
        bodies.append((words, {"model": scenario.target.model, **asked, **fields, cap: 1}))
    return bodies


def fit(points: Sequence[tuple[int, int]]) -> Fit:
    """Return the least-squares line through (words, `usage.prompt_tokens`), or a word a token without one."""
    n = len(points)
    words = sum(x for x, _ in points) / n if n else 0.0
    spread = sum((x - words) ** 2 for x, _ in points)
    if spread == 0:
        return Fit(probes=n)
    tokens = sum(y for _, y in points) / n
    slope = sum((x - words) * (y - tokens) for x, y in points) / spread
    if slope < 0.1:  # a server that counts something else
        return Fit(probes=n)
    return Fit(slope, tokens - slope * words, "usage", n)


def load_tokenizer(path: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text by a local `tokenizer.json`.

    Raises:
        PromptError: it cannot be read, or `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer  # an extra
    except ImportError as error:
        raise PromptError(
            "prompts.tokenizer needs tokenizers, which is not installed",
            file=path,
            hint="pip install 'streamgauge[tokenizers]'",
        ) from error
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        raise PromptError(
            f"is not a readable tokenizer: {error}", file=path, hint="name a tokenizer.json"
        ) from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def counts(count: Callable[[str], int], name: str = "prompts.tokenizer") -> Counts:
    """Return the tokens of each word.

    Raises:
        PromptError: those of a text are not the sum of its words'.
    """
    anchor = WORDS[0]
    alone = count(anchor)
    found = Counts(
        first=tuple(count(word) for word in WORDS),
        rest=tuple(count(f"{anchor} {word}") - alone for word in WORDS),
    )
    ids = _ids(0, "pool", 512)
    if min(found.rest) < 1 or count(_text(ids)) != _cost(found, ids, at_start=True):
        raise PromptError(
            "this tokenizer joins words into tokens, so that lengths cannot be counted word by word",
            file=name,
            hint="leave prompts.tokenizer out: a few probes then measure the length",
        )
    return found


class Maker:
    """Makes prompts of one seed. Each is a function of its number alone."""

    def __init__(
        self,
        seed: int,
        fit: Fit,
        most_tokens: int,
        *,
        shared_prefix_tokens: int = 0,
        unique: bool = True,
        counts: Counts | None = None,
    ) -> None:
        self._seed, self._unique, self._counts = seed, unique, counts
        self._per_word = 1.0 if counts else fit.tokens_per_word
        self._overhead = 0.0 if counts else fit.overhead_tokens
        # Half of the pool at least is places to begin at, however long the prompt.
        self._size = max(_POOL_WORDS, 2 * math.ceil(most_tokens / self._per_word) + 2 * _TRIES)
        self._ids = _ids(seed, "pool", self._size)
        self._pool = _text(self._ids)
        self._sums = [0, *accumulate(counts.rest[i] for i in self._ids)] if counts else None
        self._mark = blake2b(
            repr((self._per_word, self._overhead, counts)).encode(), digest_size=8
        ).hexdigest()
        words = math.ceil(shared_prefix_tokens / self._per_word) if shared_prefix_tokens else 0
        self._prefix = self._head(_ids(seed, "prefix", words), shared_prefix_tokens, at_start=True)
        self._prefix = self._prefix if shared_prefix_tokens else b""
        self._prefix_cost = self._cost(self._prefix, at_start=True)
        self._prefix_text = _text(self._prefix)
        self._salts = _Codes(seed, "salt")
        self._blocks = _Codes(seed, "block")
        self._block = lru_cache(maxsize=4096)(self._block_of)

    def prompt(self, k: int, tokens: int) -> Made:
        """Return prompt `k` of so many tokens, those of salt and chat template included."""
        left = max(1.0, tokens - self._overhead)
        prefix, prefix_text, cost = self._prefix, self._prefix_text, self._prefix_cost
        salt = b""
        if self._unique:
            salt = self._head(self._salts.of(k), left, at_start=not prefix)
            if prefix and cost + self._cost(salt) > left:  # too short for both: it has to be its own
                prefix, prefix_text, cost = b"", "", 0.0
                salt = self._head(self._salts.of(k), left, at_start=True)
            cost += self._cost(salt, at_start=not prefix)
        elif cost > left:
            prefix = self._head(prefix, left, at_start=True)
            prefix_text, cost = _text(prefix), self._cost(prefix, at_start=True)
        place, words = self._piece(uniform(self._seed, "place", k), left - cost, not (salt or prefix))
        text = self._slice(place, words) if words else ""
        recipe = f"{self._seed} {len(prefix)} {place if words else 0} {words}"
        return Made(_text(salt), text, recipe, prefix_text)

    def blocks(self, k: int, tokens: int, hash_ids: Sequence[int]) -> Made:
        """Return a prompt that begins with the blocks of these ids. What they leave, only prompt `k` has."""
        left = max(1.0, tokens - self._overhead)
        parts: list[str] = []
        for number in hash_ids:
            if left < self._per_word and parts:
                break
            text, cost = self._block(number, min(left, BLOCK_TOKENS), not parts)
            parts.append(text)
            left -= cost
        head = self._head(self._salts.of(k), left)
        _, words = place_words = self._piece(uniform(self._seed, "place", k), left - self._cost(head), False)
        parts += [text for text in (_text(head), self._slice(*place_words)) if text]
        alone = k if head or words else ""
        recipe = f"{self._seed} blocks {self._mark} {tokens} {alone} {list(hash_ids)}"
        return Made("", " ".join(parts), recipe)

    def _block_of(self, number: int, tokens: float, at_start: bool) -> tuple[str, float]:
        """Return a block's text, cut at so many tokens, and what it costs. Its first words are its number."""
        code = self._blocks.of(number)
        head = self._head(code, tokens, at_start=at_start)
        cost = self._cost(head, at_start=at_start)
        place = int.from_bytes(code, "big") % (_POOL_WORDS // 2)
        words = self._words(place, tokens - cost)
        if self._sums:
            cost += self._sums[place + words] - self._sums[place]
        else:
            cost += words * self._per_word
        return " ".join(text for text in (_text(head), self._slice(place, words)) if text), cost

    def _piece(self, u: float, left: float, at_start: bool) -> tuple[int, int]:
        """Return a drawn place in the pool, and how many words from there make the tokens that are left."""
        least = 1 if at_start else 0
        if self._sums is None or self._counts is None:
            words = max(least, round(left / self._per_word))
            return int(u * (self._size - words)), words
        sums, counts, ids = self._sums, self._counts, self._ids
        wanted = max(0, round(left))
        drawn = int(u * (self._size - wanted - _TRIES))
        for place in range(drawn, drawn + _TRIES):  # where words have several tokens, not every place will do
            more = counts.first[ids[place]] - counts.rest[ids[place]] if at_start else 0
            end = bisect_left(sums, sums[place] + wanted - more)
            if sums[end] == sums[place] + wanted - more and end - place >= least:
                return place, end - place
        return drawn, max(least, self._words(drawn, left))

    def _words(self, place: int, left: float) -> int:
        """Return how many words from a place make so many tokens, or just less."""
        if self._sums is None:
            return max(0, round(left / self._per_word))
        return max(0, bisect_right(self._sums, self._sums[place] + left) - 1 - place)

    def _slice(self, place: int, words: int) -> str:
        return self._pool[_STEP * place : _STEP * (place + words) - 1] if words else ""

    def _head(self, ids: bytes, left: float, *, at_start: bool = False) -> bytes:
        """Return the first words, as many as make so many tokens; one at least at the start of a text."""
        least = 1 if at_start else 0
        if self._counts is None:
            return ids[: max(least, round(left / self._per_word))]
        sums = accumulate(self._counts.rest[i] for i in ids)
        more = self._counts.first[ids[0]] - self._counts.rest[ids[0]] if at_start and ids else 0
        return ids[: max(least, sum(1 for total in sums if total + more <= left))]

    def _cost(self, ids: bytes, *, at_start: bool = False) -> float:
        """Return the tokens of these words."""
        if self._counts is None:
            return len(ids) * self._per_word
        return _cost(self._counts, ids, at_start=at_start)


class _Codes:
    """Six words for each number, no two alike: numbers times an odd one, modulo 2**48, is one to one."""

    def __init__(self, seed: int, purpose: str) -> None:
        drawn = blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
        self._step = int.from_bytes(drawn[:8], "big") | 1
        self._start = int.from_bytes(drawn[8:], "big")

    def of(self, number: int) -> bytes:
        """Return the words' places in `WORDS`."""
        value = (self._start + number * self._step) % (1 << 8 * _CODE_WORDS)
        return value.to_bytes(_CODE_WORDS, "big")


def _ids(seed: int, purpose: str, words: int) -> bytes:
    """Return random places in `WORDS`; more words begin with the same ones."""
    return shake_256(f"{seed}/{purpose}".encode()).digest(words)


def _text(ids: bytes) -> str:
    return " ".join([WORDS[i] for i in ids])


def _cost(counts: Counts, ids: bytes, *, at_start: bool) -> int:
    if not ids:
        return 0
    more = counts.first[ids[0]] - counts.rest[ids[0]] if at_start else 0
    return sum(counts.rest[i] for i in ids) + more
