from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.answer import BYTES_A_TOKEN
from runner.pacing import Adaptive, Meter, TokenMeter

S = 1_000_000_000
MS = 1_000_000


def turns(meter: Meter, seconds: float, amount: float = 1.0) -> list[int]:
    """The instants of all turns a sender with nothing else to do takes."""
    now, out = S, []
    while now < S + seconds * S:
        now = max(now, meter.next_at)
        meter.take(now, amount)
        out.append(now)
    return out


def test_turns_are_spread_evenly() -> None:
    taken = turns(Meter(600), 2)
    assert {b - a for a, b in itertools.pairwise(taken[1:])} == {100 * MS}


@given(st.floats(1, 100_000), st.lists(st.floats(0, 5), max_size=60))
def test_never_more_than_the_rate(per_minute: float, pauses: list[float]) -> None:
    meter, now, taken = Meter(per_minute), S, []
    for pause in pauses:
        now = max(now + int(pause * S), meter.next_at)
        meter.take(now)
        taken.append(now)
    gap = 60e9 / per_minute
    for count in range(2, len(taken) + 1):
        for first, last in zip(taken, taken[count - 1 :], strict=False):
            # All turns but the first have had their time; 10 ms may be made up for a timer that rang late.
            assert last - first >= (count - 1) * gap - 10 * MS - 2


def test_a_pause_is_not_saved_up_for_a_burst() -> None:
    meter = Meter(60)
    meter.take(S)
    meter.take(100 * S)
    assert meter.next_at >= int(100.9 * S)


def test_tokens_are_put_right_by_usage() -> None:
    meter = TokenMeter(60_000)  # one a millisecond
    guessed = meter.guess(400, 100)
    assert guessed == 100 + 100
    meter.take(S, guessed)
    before = meter.next_at
    meter.learn(400, guessed, 50, 30)
    assert before - meter.next_at == 120 * MS


def test_an_answer_that_broke_off_is_put_right_and_no_example() -> None:
    meter = TokenMeter(60_000)
    before = meter.guess(0, None)
    meter.take(S, 256)
    at = meter.next_at
    meter.learn(0, 256, 50, 6, whole=False)
    assert at - meter.next_at == 200 * MS
    assert meter.guess(0, None) == before


def rate_of(prompt: int, answer: int, size: int, told: tuple[int, int], tpm: float) -> float:
    """Tokens a minute that really went, of a sender with always something to send, after ten minutes."""
    meter, now = TokenMeter(tpm), 0
    flying: deque[tuple[int, float]] = deque()
    sent = 0
    while now < 10 * 60 * S:
        now = max(now, meter.next_at)
        while flying and flying[0][0] <= now:
            meter.learn(size, flying.popleft()[1], *told)
        guessed = meter.guess(size, None)
        meter.take(now, guessed)
        flying.append((now + 5 * S, guessed))
        sent += prompt + answer
    return sent / (now / (60 * S))


@pytest.mark.parametrize(("prompt", "answer"), [(750, 2000), (750, 10), (50, 400), (3000, 50)])
def test_the_rate_is_kept_once_usage_tells(prompt: int, answer: int) -> None:
    rate = rate_of(prompt, answer, 4 * prompt, (prompt, answer), 100_000)
    assert 0.9 * 100_000 <= rate <= 1.05 * 100_000


@pytest.mark.parametrize(("prompt", "answer"), [(750, 2000), (750, 10), (50, 400), (3000, 50)])
def test_nor_is_it_passed_where_only_bytes_tell(prompt: int, answer: int) -> None:
    # English, four bytes a token: taken for three.
    told = (4 * prompt // BYTES_A_TOKEN, 4 * answer // BYTES_A_TOKEN)
    rate = rate_of(prompt, answer, 4 * prompt, told, 100_000)
    assert 0.65 * 100_000 <= rate <= 1.0 * 100_000


def test_the_guess_learns() -> None:
    meter = TokenMeter(60_000)
    first = meter.guess(1000, None)
    for _ in range(200):
        meter.learn(1000, 0.0, 500, 10)
    assert first == 250 + 256
    assert meter.guess(1000, None) == pytest.approx(510, rel=0.01)
    assert meter.guess(0, 4) == 4


# -- adaptive concurrency, against simulated servers


def simulate(adaptive: Adaptive, ttft_ns: Callable[[int], int], requests: int) -> list[int]:
    """A closed load of that many requests; the limit after each. A server's answer takes its TTFT."""
    now, out = S, []
    flying: list[tuple[int, int]] = []  # (first token at, sent at)
    left = requests
    while left or flying:
        while left and len(flying) < adaptive.limit:
            left -= 1
            heapq.heappush(flying, (now + ttft_ns(len(flying) + 1), now))
        now, sent_at = heapq.heappop(flying)
        adaptive.first_token(sent_at, now - sent_at, now)
        assert 1 <= adaptive.limit <= adaptive.most
        out.append(adaptive.limit)
    return out


def test_a_server_at_ease_gets_all_there_is() -> None:
    limits = simulate(Adaptive(64), lambda _: 100 * MS, 2000)
    assert limits[0] == 4
    assert limits[-1] == 64


def test_a_server_that_queues_is_not_flooded() -> None:
    # Ten at once are served at ease; the eleventh waits for a place, and so on.
    limits = simulate(Adaptive(256), lambda n: 200 * MS * max(1, n) // 10 if n > 10 else 200 * MS, 5000)
    settled = limits[1000:]
    assert max(settled) <= 40
    assert min(settled) >= Adaptive.FIRST


def test_small_times_are_noise() -> None:
    assert simulate(Adaptive(32), lambda n: n * MS, 2000)[-1] == 32  # 1 to 32 ms: nobody waits


class Played:
    """A closed load against a simulated server: the limit, and the instant, after each answer.

    Args:
        places: requests it serves at once; the others wait, without a token.
        prefill_ms: from place to first token, given how many answers there were.
        decode_ms: from first to last token.
        spread: sigma of the lognormal both are multiplied with.
    """

    def __init__(
        self,
        adaptive: Adaptive,
        answers: int,
        *,
        seed: int,
        places: int = 1_000_000,
        prefill_ms: Callable[[int], float] = lambda _: 200,
        decode_ms: float = 1000,
        spread: float = 0.3,
    ) -> None:
        self.limits: list[int] = []
        self.at: list[int] = []
        rng, now, busy, flying = random.Random(seed), S, 0, 0
        waiting: deque[int] = deque()
        events: list[tuple[int, int, int | None]] = []  # when, in which order, sent when (None: an end)
        order = itertools.count()
        while len(self.limits) < answers:
            while flying < adaptive.limit:
                flying += 1
                waiting.append(now)
            while waiting and busy < places:
                busy += 1
                sent_at = waiting.popleft()
                first = now + int(prefill_ms(len(self.limits)) * MS * rng.lognormvariate(0, spread))
                heapq.heappush(events, (first, next(order), sent_at))
                last = first + int(decode_ms * MS * rng.lognormvariate(0, spread))
                heapq.heappush(events, (last, next(order), None))
            now, _, sent = heapq.heappop(events)
            if sent is not None:
                adaptive.first_token(sent, now - sent, now)
                assert 1 <= adaptive.limit <= adaptive.most
                continue
            busy -= 1
            flying -= 1
            self.limits.append(adaptive.limit)
            self.at.append(now)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decode_ms", [200, 2000, 10_000])
@pytest.mark.parametrize("places", [10, 32])
def test_it_settles_near_what_a_server_serves_at_once(places: int, decode_ms: float, seed: int) -> None:
    played = Played(Adaptive(256), 3000, seed=seed, places=places, decode_ms=decode_ms)
    half = len(played.limits) // 2
    assert 0.8 * places <= statistics.mean(played.limits[half:]) <= 1.6 * places
    took_ms = (played.at[-1] - played.at[half - 1]) / MS
    best = places / ((200 + decode_ms) * math.exp(0.3**2 / 2))
    assert half / took_ms >= 0.8 * best


def test_a_server_of_two_places_is_not_flooded() -> None:
    assert max(Played(Adaptive(256), 2000, seed=1, places=2).limits[1000:]) <= 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("most", [64, 256])
@pytest.mark.parametrize("times", [1.3, 3.0, 10.0])
def test_times_that_rise_for_another_reason_are_learned(times: float, most: int, seed: int) -> None:
    begin = 10 * most
    adaptive = Adaptive(most)
    played = Played(
        adaptive, 22 * most, seed=seed, prefill_ms=lambda n: 200 * (times if n >= begin else 1), spread=0.5
    )
    assert played.limits[begin - 1] == most
    # It may fall to look; within eight answers a stream it is back, and stays.
    assert min(played.limits[begin + 8 * most :]) >= most / 2


@pytest.mark.parametrize("seed", range(3))
def test_times_that_rise_a_little_are_doubted_after_a_while(seed: int) -> None:
    # Between at ease and too much: nothing grows, nothing falls, until it is looked into.
    played = Played(
        Adaptive(64), 64 * 20, seed=seed, prefill_ms=lambda n: 1700 if n >= 8 else 1000, spread=0.1
    )
    stuck = played.limits[150]
    assert 8 <= stuck <= 32
    assert set(played.limits[150:250]) == {stuck}
    assert played.limits[-1] > stuck + 8


@pytest.mark.parametrize("seed", range(3))
def test_times_that_rise_slowly_are_followed(seed: int) -> None:
    played = Played(Adaptive(64), 8000, seed=seed, prefill_ms=lambda n: 200 * (1 + n / 1000), spread=0.5)
    assert statistics.mean(played.limits[1000:]) >= 48


def test_a_server_that_others_slow_down_is_left_some_air_and_used_again_afterwards() -> None:
    def prefill_ms(n: int) -> float:
        return 600 if 1000 <= n < 3000 else 200

    played = Played(Adaptive(64), 5000, seed=1, prefill_ms=prefill_ms)
    assert min(played.limits[1000:2000]) == Adaptive.FIRST
    assert played.limits[-1] == 64


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_load(seed: int) -> None:
    played = Played(Adaptive(64), 8000, seed=seed, spread=0.8)
    assert statistics.mean(played.limits[1000:]) >= 48


def test_a_baseline_of_a_lucky_few_is_put_right() -> None:
    adaptive = Adaptive(64)
    for _ in range(4):
        adaptive.first_token(S, 20 * MS, S)  # the first four hit a cache
    assert statistics.mean(Played(adaptive, 4000, seed=1).limits[2000:]) >= 48


def test_a_server_that_refuses_is_backed_off_from_by_halves_and_approached_by_ones() -> None:
    adaptive = Adaptive(64)
    changes, now = [], S
    for _ in range(4000):
        now += S
        before = adaptive.limit
        if adaptive.limit > 20:
            assert adaptive.refused(now, now)
        else:
            adaptive.first_token(now, 200 * MS, now)
        if adaptive.limit != before:
            changes.append((before, adaptive.limit))
    falls = [(a, b) for a, b in changes if b < a]
    assert len(falls) > 3
    assert all(b == a // 2 for a, b in falls)
    steps = changes[changes.index(falls[0]) + 1 :]
    assert all(b == a + 1 for a, b in steps if b > a)
    assert min(b for _, b in steps) >= 10


def test_a_refusal_halves_once_a_burst() -> None:
    adaptive = Adaptive(64)
    adaptive.limit = 64
    assert adaptive.refused(sent_at=S, now=2 * S)
    assert adaptive.limit == 32
    assert not adaptive.refused(sent_at=S, now=2 * S + 1)  # sent before the limit changed
    assert adaptive.limit == 32
    assert adaptive.refused(sent_at=3 * S, now=4 * S)
    assert adaptive.limit == 16


def test_after_a_refusal_it_grows_by_one() -> None:
    adaptive = Adaptive(64)
    adaptive.limit = 16
    adaptive.refused(sent_at=S, now=2 * S)
    grown = []
    for round_ in range(3, 6):
        for _ in range(adaptive.limit):
            adaptive.first_token(round_ * S, 100 * MS, round_ * S + 100 * MS)
        grown.append(adaptive.limit)
    assert grown == [9, 10, 11]


def test_never_below_one_nor_above_what_was_asked() -> None:
    adaptive = Adaptive(3)
    assert adaptive.limit == 3
    for second in range(1, 9):
        adaptive.refused(second * S, second * S)
    assert adaptive.limit == adaptive.lowest == 1
    assert adaptive.highest == 3
