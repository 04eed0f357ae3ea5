from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert min(settled) >= 5


def test_small_times_are_noise() -> None:
    assert simulate(Adaptive(32), lambda n: n * MS, 2000)[-1] == 32  # 1 to 32 ms: nobody waits


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
