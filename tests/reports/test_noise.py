from __future__ import annotations

from typing import Any

import pytest

from reports.noise import noise_facts


def off(p50: float, p99: float) -> dict[str, Any]:
    return {"n": 10, "p50_ms": p50, "p99_ms": p99}


def test_the_floor_is_told_row_by_row() -> None:
    floor = {
        "streams": 1200,
        "rate": 50.0,
        "accuracy": {
            "first": off(0.1, 0.9),
            "token": off(0.2, 0.8),
            "gap": off(0.3, 0.7),
            "ttft": off(0.4, 2.0),
        },
    }
    rows = dict(noise_facts({"floor": floor, "largest": [], "notes": ["a busy machine"]}))
    assert rows["load"].startswith("1,200 streams x 50.00 tokens/s")
    assert rows["first token"] == "p50 0.100 · p99 0.900 ms stamped after it was sent"
    assert rows["itl"] == "p50 0.300 · p99 0.700 ms off by"
    assert rows["ttft"].startswith("p50 0.400 · p99 2.00 ms off by")
    assert rows["note"] == "a busy machine"


@pytest.mark.parametrize(
    "odd", [{}, {"floor": 3}, {"floor": {"accuracy": {"first": {"p50_ms": "x"}}}}, {"x": 1}]
)
def test_what_has_another_shape_is_shown_as_it_is(odd: dict[str, Any]) -> None:
    assert [name for name, _ in noise_facts(odd)] == ["measured"]
