from __future__ import annotations

from scenarios.differences import differences
from scenarios.scenario import Lengths, Load, Prompts, Scenario, Synthetic, Target


def test_equal_scenarios_have_none() -> None:
    assert differences(Scenario(), Scenario()) == {}


def test_each_key_is_named_with_both_values() -> None:
    one = Scenario(target=Target(model="x"), request={"temperature": 0.5, "stop": ["a"]}, load=Load(rate=2.0))
    other = Scenario(target=Target(model="y"), request={"temperature": 0.5, "stop": ["b"], "top_p": 1})
    assert differences(one, other) == {
        "target.model": ("x", "y"),
        "request.stop": (["a"], ["b"]),
        "request.top_p": (None, 1),
        "load.rate": (2.0, None),
    }


def test_a_number_and_a_distribution_differ_as_a_whole() -> None:
    one = Scenario(prompts=Prompts(synthetic=Synthetic(input_tokens=5)))
    other = Scenario(prompts=Prompts(synthetic=Synthetic(input_tokens=Lengths(mean=5))))
    assert list(differences(one, other)) == ["prompts.synthetic.input_tokens"]


def test_names_that_need_quotes_have_them() -> None:
    one, other = Scenario(thresholds={"ttft{turn:1}": ["avg<1s"]}), Scenario()
    assert list(differences(one, other)) == ['thresholds."ttft{turn:1}"']
