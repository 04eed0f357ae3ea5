from __future__ import annotations

import msgspec
import pytest

from scenarios.scenario import Load, Stage
from scenarios.warm_up import longer, with_warm_up

CLOSED = Load(concurrency=4, requests=100)


@pytest.mark.parametrize(
    ("load", "rows", "warmup", "warmup_requests"),
    [
        (CLOSED, 0, None, 10),
        (msgspec.structs.replace(CLOSED, requests=20), 0, None, 4),  # all places once
        (msgspec.structs.replace(CLOSED, requests=100_000), 0, None, 200),
        (Load(concurrency=4, duration="30s"), 0, 3.0, None),
        (Load(executor="constant-arrival-rate", rate=2.0, duration="10m"), 0, 10.0, None),
        (Load(executor="constant-arrival-rate", rate=2.0, requests=31), 0, None, 4),
        (
            Load(executor="ramping-arrival-rate", stages=[Stage(duration="20s", target=5.0)]),
            0,
            2.0,
            None,
        ),
        (Load(executor="trace", trace="t"), 55, None, 6),
        (Load(executor="trace", trace="t", duration="50s"), 55, 5.0, None),
    ],
)
def test_a_tenth_where_nothing_is_said(
    load: Load, rows: int, warmup: float | None, warmup_requests: int | None
) -> None:
    found = with_warm_up(load, rows)
    assert (found.warmup, found.warmup_requests) == (warmup, warmup_requests)


@pytest.mark.parametrize("said", [{"warmup": "2s"}, {"warmup": 0}, {"warmup_requests": 0}])
def test_what_is_said_stays(said: dict[str, str | int]) -> None:
    load = msgspec.structs.replace(CLOSED, **said)
    assert with_warm_up(load) is load


def test_the_longer_one_of_both() -> None:
    by_number = with_warm_up(CLOSED), with_warm_up(msgspec.structs.replace(CLOSED, concurrency=16))
    assert [load.warmup_requests for load in longer(*by_number)] == [16, 16]
    times = [with_warm_up(Load(concurrency=1, duration=length)) for length in ("20s", "50s")]
    assert [load.warmup for load in longer(*times)] == [5.0, 5.0]
    assert longer(by_number[0], times[0]) == (by_number[0], times[0])
