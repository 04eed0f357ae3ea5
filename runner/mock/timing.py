"""When each token goes: absolute times on the monotonic clock, drawn from seeded distributions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import count

from runner.mock.config import MockConfig, Spread

NS_PER_MS = 1_000_000
_UNUSED = random.Random(0)  # noqa: S311 - never drawn from


def request_rng(seed: int, ordinal: int) -> random.Random:
    """The generator of request number `ordinal`: the same one in every run with this seed."""
    return random.Random(f"{seed}/{ordinal}")  # noqa: S311 - a schedule, no secret


def drawer(spread: Spread, mean_ms: float, sd_ms: float) -> Callable[[random.Random], int]:
    """A function that draws one time in ns. `mean_ms` and `sd_ms` are those of the drawn time itself.

    Normal times below 0 become 0, which lifts their mean where the spread is wide.
    """
    if spread is Spread.FIXED or sd_ms <= 0:
        fixed = round(mean_ms * NS_PER_MS)
        return lambda _rng: fixed
    if spread is Spread.NORMAL:
        mean, sd = mean_ms * NS_PER_MS, sd_ms * NS_PER_MS
        return lambda rng: max(0, int(rng.gauss(mean, sd)))
    variance = math.log1p((sd_ms / mean_ms) ** 2)
    mu, sigma = math.log(mean_ms * NS_PER_MS) - variance / 2, math.sqrt(variance)
    return lambda rng: int(math.exp(rng.gauss(mu, sigma)))


class Timing:
    """Makes the schedule of each request from the configured distributions."""

    def __init__(self, config: MockConfig) -> None:
        self._draw_ttft = drawer(config.ttft_dist, config.ttft_ms, config.ttft_sd_ms)
        self._draw_gap = drawer(config.itl_dist, config.itl_ms, config.itl_sd_ms)
        self._gap = round(config.itl_ms * NS_PER_MS)
        self._fixed_gap = config.itl_dist is Spread.FIXED or config.itl_sd_ms <= 0
        self._lockstep = config.lockstep
        self.at_once = self._fixed_gap and self._gap == 0  # all tokens are due with the first

    def schedule(self, start_ns: int, rng: random.Random | None) -> Iterator[int]:
        """Endless times (ns, monotonic clock), one a token: start + ttft + the sum of the gaps so far.

        A late token never moves the ones after it. `rng` may be None where nothing is drawn.
        """
        if rng is None:
            rng = _UNUSED
        first = start_ns + self._draw_ttft(rng)
        if self._lockstep:
            first = (
                -(-first // self._gap) * self._gap
            )  # up to the next line of the grid, never before its time
        if self._fixed_gap:
            return count(first, self._gap)
        return self._drawn(first, rng)

    def _drawn(self, due: int, rng: random.Random) -> Iterator[int]:
        draw = self._draw_gap
        while True:
            yield due
            due += draw(rng)
