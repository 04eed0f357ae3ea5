"""The client's times against the log's, by hand."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from runner.accuracy import Answered, accuracy, lateness, off
from runner.mock.log import Entry

MS = 1_000_000


def entry(request_id: str, received_ms: float, first_ms: float, token_us: list[int]) -> Entry:
    return Entry(
        ordinal=0,
        connection=0,
        request_id=request_id,
        completion_id=None,
        method="POST",
        path="/v1/chat/completions",
        model="mock",
        stream=True,
        prompt=None,
        received_ns=int(received_ms * MS),
        first_token_sent_ns=int(first_ms * MS),
        token_us=token_us,
    )


ENTRIES = {"a": entry("a", 10, 60, [0, 10_000, 20_000]), "b": entry("b", 20, 70, [0, 10_000])}
ANSWERS = [
    # sent 0.5 ms before it was received; first token 1 ms after it was sent, the others 3 and 2 ms after.
    Answered("a", int(9.5 * MS), 61 * MS, [0, 12_000, 21_000]),
    Answered("b", 20 * MS, 72 * MS, [0, 10_000]),
]


def test_each_error_by_hand() -> None:
    seen = accuracy(ANSWERS, ENTRIES)
    assert (seen.first.n, seen.first.p50_ms, seen.first.p99_ms) == (2, 1, 2)
    assert (seen.token.n, seen.token.p50_ms, seen.token.p99_ms) == (5, 2, 3)
    assert (seen.gap.n, seen.gap.p50_ms, seen.gap.p99_ms) == (3, 1, 2)  # off by 2, 1 and 0
    assert (seen.ttft.n, seen.ttft.p50_ms, seen.ttft.p99_ms) == (2, 1.5, 2)  # 51.5 for 50, 52 for 50


def test_other_tokens_are_not_compared() -> None:
    with pytest.raises(ValueError, match="2 tokens came, 3 were sent"):
        accuracy([Answered("a", 0, 0, [0, 1])], ENTRIES)


def test_nothing_is_no_number() -> None:
    with pytest.raises(ValueError, match="nothing"):
        accuracy([], {})


def test_lateness_is_counted_from_the_schedule_and_is_never_early() -> None:
    plans = [count(59 * MS, 10 * MS), count(71 * MS, 10 * MS)]
    late = lateness(ENTRIES.values(), plans)
    assert (late.n, late.p50_ms, late.p99_ms) == (5, 1, 1)


def test_percentiles_are_values() -> None:
    seen = off(np.arange(1, 101) * MS)
    assert (seen.n, seen.p50_ms, seen.p99_ms) == (100, 50, 99)
