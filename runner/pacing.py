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

    What "at ease" means has to be learned, and learned again: times rise with longer prompts too, and with a
    server that others slow down. A baseline that only falls, as in TCP Vegas (Brakmo and Peterson 1995),
    would then take every time for a queue. As in BBR's ProbeRTT (Cardwell et al. 2016) the one way up is an
    experiment: with four streams there is no queue of ours, and what the times are then is the baseline.
    The experiment is made where a decrease has led down to four streams anyway, and where no judgement has
    come near the baseline for a while. After it, the limit doubles back to where it was before, if the times
    had risen for another reason (a spurious decrease is undone, as in RFC 4015), else to half of that, and
    grows by one from there.

    Args:
        most: never above this.
    """

    FIRST = 4  # streams to begin with, and those of the experiment
    PATIENCE = 16  # judgements far from the baseline until it is doubted
    _NEAR = 1.25  # times the baseline
    _AT_EASE = 1.5  # grow; up to the next, stay
    _TOO_MUCH = 2.0
    _NOISE_NS = 50_000_000
    _ON_REFUSAL, _ON_DELAY = 0.5, 0.7
    _DOWN = 0.25  # of a lower median in the baseline: one lucky judgement of few must not set it

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(self.FIRST, most)
        self.lowest = self.highest = self.limit
        self._double_to: float = most  # up to this by doubling, from there by one
        self._fell_from = 0.0  # the limit before times rose, or before it was lowered to look
        self._looking = False  # lowered only to look
        self._far = 0  # judgements since one was near the baseline
        self._since = 0  # sent before this: no word on the limit of now
        self._times: list[int] = []
        self._ease: float | None = None

    def refused(self, sent_at: int, now: int) -> bool:
        """Take a refusal. Returns whether the limit changed."""
        if sent_at < self._since:
            return False
        limit = self._double_to = max(1.0, self.limit * self._ON_REFUSAL)
        self._fell_from, self._looking = 0.0, False
        return self._change(limit, now)

    def first_token(self, sent_at: int, ttft_ns: int, now: int) -> bool:
        """Take a time to first token. Returns whether the limit changed."""
        if sent_at < self._since:
            return False
        self._times.append(ttft_ns)
        # A baseline of few times is a matter of luck; the first one is only to begin with.
        few = self.FIRST if self._ease is None else 2 * self.FIRST
        if len(self._times) < max(few, self.limit):
            return False
        median = statistics.median(self._times)
        self._times.clear()
        if self._ease is None or self.limit <= self.FIRST:
            return self._learned(median, now)
        self._ease += self._DOWN * min(0.0, median - self._ease)
        return self._judged((median - self._NOISE_NS) / self._ease, now)

    def _learned(self, median: float, now: int) -> bool:
        """Take the times of so few streams that none waits for another: the baseline."""
        before, self._ease, self._far = self._ease, median, 0
        if self._fell_from:
            spurious = before is not None and median > before * self._NEAR
            self._double_to = self._fell_from * (1.0 if spurious or self._looking else 0.5)
            self._fell_from, self._looking = 0.0, False
        return self._grow(now)

    def _judged(self, times_ease: float, now: int) -> bool:
        """Take the median of a judgement, as a multiple of the baseline."""
        self._far = 0 if times_ease <= self._NEAR else self._far + 1
        if times_ease > self._TOO_MUCH:
            self._fell_from = max(self._fell_from, self.limit)
            self._double_to = 0.0
            return self._change(max(self.FIRST, self.limit * self._ON_DELAY), now)
        if self._far >= self.PATIENCE:
            self._fell_from, self._looking = max(self._fell_from, self.limit), True
            return self._change(self.FIRST, now)
        if times_ease > self._AT_EASE:
            self._double_to = 0.0
            return False
        if times_ease <= self._NEAR:
            self._fell_from = 0.0
        return self._grow(now)

    def _grow(self, now: int) -> bool:
        doubled = min(self.limit * 2, self._double_to)
        return self._change(max(doubled, self.limit + 1), now)

    def _change(self, limit: float, now: int) -> bool:
        wanted = max(1, min(self.most, int(limit)))
        changed, self.limit = wanted != self.limit, wanted
        self._since = now
        self._times.clear()
        self.lowest, self.highest = min(self.lowest, wanted), max(self.highest, wanted)
        return changed
