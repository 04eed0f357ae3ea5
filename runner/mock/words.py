"""The words of the mock: which tokens a reply is made of. Same seed and key, same words, in every run."""

from __future__ import annotations

import random
import re

# Plain words, and what clients get wrong: UTF-8 of two to four bytes, quotes, backslashes, line ends.
_VOCABULARY = (
    "the a of and to in that it is was for on are with as at be this from have or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about "
    "out many then them these so some her would make like him into time has look two more write go see "
    "number no way could people my than first water been call who oil its now find long down day did get "
    "come made may part river bank flood gauge level stream flow bed ford weir mill bridge boat salmon "
    "heron reed stone gravel mud rain cloud snow thaw spring summer autumn winter north south east west "
    "measure mark staff float meter reading record table curve slope depth width speed discharge basin "
    "catchment tributary mouth delta tide marsh meadow willow alder otter eel trout ferry lock canal dam "
    "turbine sluice café naïve Zürich 河川 поток 🌊 — … “quoted” it's \\n"
)
_RARE = ("\n", "\n\n", ' "', "\\", "\t", ",", ".", ";")

_SYLLABLES = [consonant + vowel for vowel in "aiou" for consonant in "bdfghjklmnprstvz"]

CYCLE = 1024


def make_cycle(seed: int) -> list[str]:
    """`CYCLE` tokens in a fixed order; each reply is a stretch of this ring."""
    vocabulary = _VOCABULARY.split()
    rng = random.Random(f"words/{seed}")  # noqa: S311 - words, no secret
    return [rng.choice(_RARE) if rng.random() < 0.08 else f" {rng.choice(vocabulary)}" for _ in range(CYCLE)]


def name(key: int) -> str:
    """The first token of a reply: a made-up name of 12 letters (36 bits), which tells prompts apart."""
    return "".join([_SYLLABLES[key >> shift & 63] for shift in range(0, 36, 6)]).capitalize()


def reply(key: int, tokens: int, cycle: list[str]) -> list[str]:
    """The `tokens` tokens of the reply with this key: its name, then words of the ring."""
    return [name(key), *(cycle[(key + place) % CYCLE] for place in range(1, tokens))][:tokens]


def split_words(text: str) -> list[str]:
    """`text` as tokens, each a word with the space before it: joined they are `text` again."""
    return re.findall(r"\s*\S+|\s+$", text)
