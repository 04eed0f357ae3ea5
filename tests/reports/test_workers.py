"""What reports say of a load that several processes sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.gauge import read_workers
from reports.metrics import summarize
from reports.notes import notes
from reports.text import render

Bench = Callable[..., Path]


def cpu(user_s: float) -> dict[str, Any]:
    return {"cpu": {"user_s": user_s, "system_s": 0.0, "wall_s": 10.0}}


@pytest.mark.parametrize(
    ("gauge", "said"),
    [
        (cpu(8.1), "the client took 81% of a core: more --workers than 1 "),
        (cpu(8.0), None),
        ({**cpu(12.0), "workers": [cpu(3.0), cpu(9.0)]}, "the busiest worker took 90% of a core"),
        ({**cpu(12.0), "workers": [cpu(6.0), cpu(6.0)]}, None),
        ({}, None),
    ],
)
def test_a_process_near_its_limit_is_told(
    bench: Bench, record: Any, gauge: dict[str, Any], said: str | None
) -> None:
    found = [note for note in notes(summarize(bench([record(0)], gauge=gauge))) if "of a core" in note]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_their_number_and_the_busiest_of_them_are_shown(bench: Bench, record: Any) -> None:
    text = render([summarize(bench([record(0)], gauge={"workers": [cpu(3.0), cpu(4.5)]}))])
    assert "2 processes · the busiest took 45.00% of a core" in text


def test_odd_workers_are_read_as_far_as_they_go() -> None:
    assert read_workers({"workers": "two"}) == []
    (one, other) = read_workers({"workers": [{"shard": -1, "died": 7, "in_flight": "x"}, {"died": "broke"}]})
    assert (one.number, one.died, one.in_flight) == (0, None, None)
    assert (other.number, other.died) == (1, "broke")
