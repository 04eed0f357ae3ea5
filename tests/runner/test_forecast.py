"""What a comparison takes, told before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.course import course_of
from runner.forecast import RunForecast, forecast, forecast_run
from runner.prices import Price, Prices
from scenarios.scenario import Load, Prompts, Scenario, Synthetic, Target
from scenarios.workload import Workload

PRICES = Prices({"*": Price(input=2.0, output=10.0)})


def of(load: Load, prices: Prices | None = PRICES, **keys: object) -> RunForecast:
    prompts = Prompts(synthetic=Synthetic(input_tokens=100), output_tokens=50)
    scenario = Scenario(**{"target": Target(model="m"), "prompts": prompts, "load": load, **keys})  # type: ignore[arg-type]
    return forecast_run(scenario, Workload(scenario), course_of(load, 0, None, 64), prices)


def test_a_number_of_requests_costs_what_they_cost() -> None:
    found = of(Load(concurrency=2, requests=10, warmup_requests=2))
    assert (found.requests, found.warmup, found.seconds) == (12, 2, None)
    assert found.likely_cost == pytest.approx(12 * (100 * 2 + 50 * 10) / 1e6)
    assert (found.most_cost or 0) > (found.likely_cost or 0)  # every byte a token


def test_an_open_loop_knows_its_time() -> None:
    found = of(
        Load(executor="constant-arrival-rate", arrival="constant", rate=4.0, duration="10s", warmup="5s")
    )
    assert (found.requests, found.warmup, found.seconds, found.grace_s) == (60, 20, 15.0, 30.0)


def test_a_closed_loop_for_a_time_does_not_know_how_many() -> None:
    found = of(Load(concurrency=2, duration="10s", warmup="1s"))
    assert (found.requests, found.seconds, found.most_cost) == (None, 11.0, None)
    assert "depends on how fast" in str(found.why_no_cost)


def test_what_has_no_price_or_no_limit_says_so(tmp_path: Path) -> None:
    load = Load(concurrency=1, requests=1)
    assert "no prices" in str(of(load, None).why_no_cost)
    assert "no price for the model 'm'" in str(of(load, Prices({"x": Price(1, 1)})).why_no_cost)
    path = tmp_path / "p.txt"
    path.write_text("hello\n")
    assert "no limit of tokens" in str(of(load, prompts=Prompts(file=str(path))).why_no_cost)


def test_all_pairs() -> None:
    a = of(Load(executor="constant-arrival-rate", rate=4.0, duration="10s"))
    b = of(Load(concurrency=2, duration="10s"))
    both = forecast(a, a, 6, probed=True)
    assert (both.runs, both.seconds, both.most_s) == (12, 120.0, 480.0)
    assert both.requests == 12 * (a.requests or 0) + 3
    assert both.most_cost == pytest.approx(12 * (a.most_cost or 0))
    mixed = forecast(a, b, 6, probed=False)
    assert (mixed.requests, mixed.most_cost, mixed.seconds) == (None, None, 120.0)
