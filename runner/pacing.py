"""How fast requests may go: requests and tokens a minute, and the concurrency a server bears.

Nothing here waits or looks at a clock: instants (`monotonic_ns`) come in, instants and limits go out.
"""

from __future__ import annotations

import statistics

_MINUTE_NS = 60_000_000_000
# A timer that rings late may be made up for by so much, so that the mean rate holds; no burst comes of it.
_SLACK_NS = 10_000_000


class Meter:
    """A rate a minute, evenly spread: providers cut their minute into seconds, and refuse bursts.

    Virtual scheduling (GCRA without burst tolerance): what is taken moves the instant of the next turn on.
    """

    def __init__(self, per_minute: float) -> None:
        self._unit_ns = _MINUTE_NS / per_minute
        self._next_at = 0.0

    @property
    def next_at(self) -> int:
        """The instant from which the next turn may be taken."""
        return int(self._next_at)

    def take(self, now: int, amount: float = 1.0) -> None:
        """Take a turn of so many units."""
        self._next_at = max(self._next_at, now - _SLACK_NS) + amount * self._unit_ns

    def correct(self, amount: float) -> None:
        """What was taken has turned out to be so much more (or less)."""
        self._next_at += amount * self._unit_ns


class TokenMeter(Meter):
    """Tokens a minute. What a request will take is guessed, and put right once its usage is known."""

    _FIRST_OUTPUT = 256.0  # tokens of an answer before any is known
    _FIRST_RATIO = 0.25  # tokens a byte of a body
    _WEIGHT = 0.05  # of the latest answer in the running means

    def __init__(self, per_minute: float) -> None:
        super().__init__(per_minute)
        self._output = self._FIRST_OUTPUT
        self._ratio = self._FIRST_RATIO

    def guess(self, size: int, most: int | None) -> float:
        """Tokens of a request with a body of `size` bytes and an answer of at most `most` tokens."""
        return size * self._ratio + (self._output if most is None else min(self._output, most))

    def learn(self, size: int, guessed: float, prompt: int, completion: int, *, whole: bool = True) -> None:
        """Put right what was guessed for a request and, where its answer is `whole`, guess better."""
        self.correct(prompt + completion - guessed)
        if size:
            self._ratio += self._WEIGHT * (prompt / size - self._ratio)
        if whole:
            self._output += self._WEIGHT * (completion - self._output)


class Adaptive:
    """The concurrency a server bears: additive increase, multiplicative decrease (Chiu and Jain 1989).

    Two signs of too much: a refusal (429, 503), and a time to first token that has doubled since the server
    was at ease, for servers that queue and never refuse. One judgement takes as many first tokens as there
    are streams, and only of requests sent since the limit last changed: their times are its doing.

    Args:
        most: never above this.
    """

    FIRST = 4
    _AT_EASE = 1.5  # times the lowest median seen: grow; up to the next, stay
    _TOO_MUCH = 2.0
    _NOISE_NS = 50_000_000
    _ON_REFUSAL, _ON_DELAY = 0.5, 0.7
    _FORGET = 1.001  # the lowest median rises by so much a judgement: servers and prompts change

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(self.FIRST, most)
        self.lowest = self.highest = self.limit
        self._doubling = True  # until the first sign of too much
        self._since = 0  # sent before this: no word on the limit of now
        self._times: list[int] = []
        self._ease: float | None = None

    def refused(self, sent_at: int, now: int) -> bool:
        """Take a refusal. Returns whether the limit changed."""
        if sent_at < self._since:
            return False
        return self._change(self.limit * self._ON_REFUSAL, now)

    def first_token(self, sent_at: int, ttft_ns: int, now: int) -> bool:
        """Take a time to first token. Returns whether the limit changed."""
        if sent_at < self._since:
            return False
        self._times.append(ttft_ns)
        if len(self._times) < max(self.FIRST, self.limit):
            return False
        median = statistics.median(self._times)
        self._times.clear()
        self._ease = median if self._ease is None else min(self._ease * self._FORGET, median)
        over = median - self._NOISE_NS
        if over > self._ease * self._TOO_MUCH:
            return self._change(self.limit * self._ON_DELAY, now)
        if over > self._ease * self._AT_EASE:
            self._doubling = False
            return False
        return self._change(self.limit * 2 if self._doubling else self.limit + 1, now)

    def _change(self, limit: float, now: int) -> bool:
        wanted = max(1, min(self.most, int(limit)))
        if wanted < self.limit or limit < self.limit:
            self._doubling = False
        changed, self.limit = wanted != self.limit, wanted
        self._since = now
        self._times.clear()
        self.lowest, self.highest = min(self.lowest, wanted), max(self.highest, wanted)
        return changed
