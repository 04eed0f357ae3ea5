"""What a sweep varies."""

from __future__ import annotations

from typing import Any

import pytest

from scenarios.axes import grid, load_change, parse_over, values_of
from scenarios.flags import Flags, scenario_from_flags
from scenarios.scenario import ScenarioError


def points(*texts: str) -> list[dict[str, Any]]:
    return [values_of(changes) for changes in grid([parse_over(text) for text in texts])]


def test_a_key_and_its_values() -> None:
    assert points("load.rate=1,2, 4.5") == [{"load.rate": 1}, {"load.rate": 2}, {"load.rate": 4.5}]
    assert points("request.temperature=0.1,0.9")[1] == {"request.temperature": 0.9}


def test_short_names_are_those_of_the_flags() -> None:
    assert points("rate=1") == [{"load.rate": 1}]
    assert points("model=a,b") == [{"target.model": "a"}, {"target.model": "b"}]


def test_pairs_change_together_and_axes_make_a_grid() -> None:
    found = points("input_tokens:output_tokens=1024:128,8192:1024", "concurrency=1,2")
    assert len(found) == 4
    assert found[1] == {
        "prompts.synthetic.input_tokens": 1024,
        "prompts.output_tokens": 128,
        "load.concurrency": 2,
    }
    assert [one["load.concurrency"] for one in found] == [1, 2, 1, 2]


def test_marks_inside_of_brackets_and_quotes_are_part_of_a_value() -> None:
    found = points("input_tokens={mean=10, stdev=2},20", 'thresholds.ttft=["p(95)<1s", "avg<1s"],p(99)<2s')
    assert found[0]["prompts.synthetic.input_tokens"] == {"mean": 10, "stdev": 2}
    assert found[0]["thresholds.ttft"] == ["p(95)<1s", "avg<1s"]
    assert found[1]["thresholds.ttft"] == ["p(99)<2s"]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["load.rate"], "KEY=VALUE,VALUE"),
        (["load.rate="], "KEY=VALUE,VALUE"),
        (["load.rte=1"], "did you mean load.rate"),
        (["load.rate=1,,2"], "empty value"),
        (["load.rate=1,2,1"], "names 1 twice"),
        (["input_tokens:output_tokens=1:2,3"], "1 values in '3', and 2 keys"),
        (["rate:load.rate=1:2"], "names a key twice"),
        (["load.rate=1", "rate=2"], "--over load.rate: is given twice"),
        (["rate=1", "concurrency=2"], "load.rate and load.concurrency"),
        (["seed=" + ",".join(map(str, range(1001)))], "1,001 points"),
    ],
)
def test_what_cannot_be_meant(texts: list[str], told: str) -> None:
    with pytest.raises(ScenarioError, match=r".") as caught:
        points(*texts)
    assert told in str(caught.value)
    assert "--over" in str(caught.value)


def test_a_point_beats_the_flags_and_brings_its_executor() -> None:
    flags = Flags(rate=3.0, model="m")
    (change,) = grid([parse_over("load.rate=8")])
    assert scenario_from_flags(flags, "chat", more=change).load.rate == 8
    scenario = scenario_from_flags(Flags(), "chat", more=load_change(("load", "concurrency"), 4.0, "--from"))
    assert (scenario.load.executor, scenario.load.concurrency) == ("constant-concurrency", 4)
    assert (scenario.load.rate, scenario.load.max_in_flight) == (None, None)
    with pytest.raises(ScenarioError, match=r"--over load\.rate: load\.rate is -1"):
        scenario_from_flags(Flags(), "chat", more=grid([parse_over("load.rate=-1")])[0])
