"""A scenario as TOML, as a sentence, and what to warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.as_toml import to_toml
from scenarios.cautions import warnings
from scenarios.flags import Flags, scenario_from_flags
from scenarios.loading import Origin, build, library, load_scenario
from scenarios.scenario import Scenario
from scenarios.sentence import load_sentence

times = st.sampled_from(["30s", "500ms", "1.5m", "2h", 3, 0.25])
counts = st.integers(1, 10**6)
positive = st.floats(0.001, 1e6, allow_nan=False)
words = st.text(st.characters(codec="utf-8"), max_size=12)
files = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name.strip() not in {"", ".", ".."}
)
lengths = st.one_of(
    st.integers(1, 5000),
    st.fixed_dictionaries(
        {"mean": st.floats(10, 90)},
        optional={"stdev": st.floats(0, 50), "min": st.integers(1, 10), "max": st.integers(90, 999)},
    ),
)
stages = st.lists(
    st.fixed_dictionaries({"duration": times, "target": st.integers(1, 99)}), min_size=1, max_size=3
)
json_values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        words,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
ends = st.one_of(st.fixed_dictionaries({"duration": times}), st.fixed_dictionaries({"requests": counts}))
more = st.fixed_dictionaries(
    {},
    optional={
        "graceful_stop": times,
        "warmup": times,
        "cancel": st.fixed_dictionaries({"share": st.floats(0, 1), "tokens": counts}),
    },
)
arrivals = st.one_of(
    st.fixed_dictionaries({}, optional={"arrival": st.sampled_from(["constant", "poisson"])}),
    st.fixed_dictionaries({"arrival": st.just("gamma"), "burstiness": positive}),
)


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda tables: {key: value for one in tables for key, value in one.items()})


def load_of(executor: str, **keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"executor": st.just(executor), **keys})


loads = st.one_of(
    joined(load_of("constant-concurrency", concurrency=counts), ends, more),
    joined(load_of("constant-arrival-rate", rate=st.floats(0.01, 100)), arrivals, ends, more),
    joined(load_of("ramping-concurrency", stages=stages, start=st.integers(0, 9)), more),
    joined(load_of("ramping-arrival-rate", stages=stages, max_in_flight=counts), arrivals, more),
    joined(load_of("trace", trace=files, speed=positive), more),
)
prompts = st.one_of(
    st.fixed_dictionaries({"file": files}, optional={"multi_turn": st.booleans(), "output_tokens": lengths}),
    st.fixed_dictionaries(
        {
            "synthetic": st.fixed_dictionaries(
                {},
                optional={
                    "input_tokens": lengths,
                    "shared_prefix_tokens": st.integers(0, 99),
                    "unique": st.booleans(),
                },
            )
        },
        optional={"output_tokens": lengths, "tokenizer": files},
    ),
)
targets = st.fixed_dictionaries(
    {},
    optional={
        "model": words.filter(str.strip),
        "base_url": st.just("http://h/v1"),
        "api": st.sampled_from(["chat", "completions"]),
        "headers": st.dictionaries(st.sampled_from(["X-A", "B", "c.d"]), st.just("env:V"), max_size=2),
        "price": st.just({"input": 1, "output": 0.5}),
    },
)
scenarios = st.fixed_dictionaries(
    {"load": loads},
    optional={
        "description": words,
        "seed": st.integers(0, 2**63 - 1),
        "target": targets,
        "prompts": prompts,
        "request": st.dictionaries(words.map(lambda name: f"x{name}"), json_values, max_size=3),
        "slo": st.just({"ttft": "1s"}),
        "thresholds": st.just({"errors{kind:timeout}": ["rate<1%"], "ttft": ["p(95)<1s", "med<1s"]}),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(data=scenarios)
def test_it_comes_back_as_it_was(tmp_path: Path, data: dict[str, Any]) -> None:
    for section, key in (("prompts", "file"), ("prompts", "tokenizer"), ("load", "trace")):
        if key in data.get(section, {}):  # as loading a file leaves it
            data[section][key] = str(tmp_path / data[section][key])
    scenario = build(Origin("again", data, None), [])
    path = tmp_path / "again.toml"
    path.write_text(to_toml(scenario), encoding="utf-8", newline="")
    assert load_scenario(path) == scenario


@pytest.mark.parametrize("name", library())
def test_the_library_comes_back(tmp_path: Path, name: str) -> None:
    scenario = load_scenario(name, ["load.trace=t.jsonl"] if name == "replay" else [])
    path = tmp_path / f"{name}.toml"
    path.write_text(to_toml(scenario), encoding="utf-8")
    assert load_scenario(path) == scenario


def test_defaults_that_say_nothing_are_left_out() -> None:
    assert to_toml(scenario_from_flags(Flags(model="m", rate=2.0))) == (
        "seed = 0\n\n"
        '[target]\nmodel = "m"\n\n'
        "[prompts]\noutput_tokens = 128\n\n"
        "[prompts.synthetic]\ninput_tokens = 512\n\n"
        '[load]\nexecutor = "constant-arrival-rate"\nrate = 2.0\narrival = "poisson"\nduration = "60s"\n'
    )


@pytest.mark.parametrize(
    ("name", "sets", "sentence"),
    [
        ("chat", [], "2 requests/s (poisson) for 2 min after 10 s of warm-up, at most 256 in flight"),
        ("chat", ["load.rate=1", "load.requests=1"], "1 request/s (poisson) for 1 request after 10 s of"),
        ("bursty", ["load.duration=90"], "4 requests/s (gamma, burstiness 0.25) for 90 s after"),
        ("smoke", [], "2 requests at once, 10 requests in all"),
        ("reasoning", [], "16 requests at once for 10 min after 16 requests of warm-up"),
        ("ramp", ["load.start=0"], "requests/s (poisson) from 0 to 4 in 1 min, to 8 in 1 min, to 16"),
        ("replay", ["load.trace=a/t.jsonl"], "a replay of t.jsonl, at most 512 in flight"),
        (
            "replay",
            ["load.trace=t.csv", "load.trace_format=azure", "load.speed=2", "load.warmup_requests=1"],
            "a replay of t.csv (azure) at 2 times its speed after 1 request of warm-up, at most 512",
        ),
        ("code-completion", ["load.duration=1", "load.max_in_flight=7"], (
            "5 requests/s (gamma, burstiness 0.5) for 1 s after 10 s of warm-up, at most 7 in flight, "
            "30 % leave after 8 tokens"
        )),
        ("chat", ["load.cancel={share=0.125,patience='500ms'}", "load.max_in_flight=1000"], (
            "2 requests/s (poisson) for 2 min after 10 s of warm-up, at most 1,000 in flight, "
            "12.5 % leave without a token within 500 ms"
        )),
        (
            "smoke",
            ["prompts.file=p", "prompts.multi_turn=true", "load.concurrency=1", "load.requests=5"],
            "1 conversation at once, 5 conversations in all",
        ),
        (
            "chat",
            ["load.executor=ramping-concurrency", "load.stages=[{duration='5ms',target=8}]", "load.warmup=0"],
            "requests at once from 0 to 8 in 5 ms",
        ),
    ],
)  # fmt: skip
def test_sentences(name: str, sets: list[str], sentence: str) -> None:
    said = load_sentence(load_scenario(name, sets))
    assert said.startswith(sentence)


def warned(*sets: str) -> list[str]:
    return warnings(load_scenario("chat", sets))


def test_an_open_loop_judged_by_what_its_requests_did_not_wait() -> None:
    said = warned("thresholds.ttft=med<1s", "thresholds.e2e=['med<1s','avg<2s']", "thresholds.tpot=med<1s")
    why = "leaves out what a request waited before it was sent: in an open loop, use"
    assert said == [f"the threshold on {name} {why} {name}_sched" for name in ("ttft", "e2e")]
    assert warned("thresholds.ttft_sched=med<1s") == []
    assert warnings(load_scenario("smoke", ["thresholds.ttft=med<1s"])) == []


@pytest.mark.parametrize(
    ("threshold", "requests", "needed"),
    [("p(99)", 99, 100), ("p(95)", 19, 20), ("p(90)", 9, 10), ("p(99.9)", 999, 1000), ("p(1)", 99, 100)],
)
def test_a_percentile_that_too_few_requests_carry(threshold: str, requests: int, needed: int) -> None:
    sets = f"thresholds.tpot={threshold}<1s"
    (said,) = warned(sets, f"load.requests={requests}")
    assert said.startswith(
        f"the threshold tpot: {threshold}<1s needs {needed:,} answers, and this load sends about {requests}: "
    )
    assert warned(sets, f"load.requests={needed}") == []
    assert warned(sets.replace("tpot", "itl"), f"load.requests={requests}") == []


def test_requests_of_a_ramp_are_counted() -> None:
    ramp = ["load.executor=ramping-arrival-rate", "thresholds.tpot=p(99)<1s", "load.warmup=0"]
    assert warned(*ramp, "load.stages=[{duration='10s',target=19}]") != []  # 95 of them
    assert warned(*ramp, "load.stages=[{duration='10s',target=20}]") == []
    # How many a closed loop sends in a time is the server's.
    assert warnings(load_scenario("reasoning", ["thresholds.tpot=p(99)<1s"])) == []


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (["load.executor=ramping-concurrency", "load.stages=[{duration='9s',target=4}]"], "come and go have"),
        (["load.concurrency=8", "load.requests=8"], "8 requests at 8 at once have no steady window"),
        (["load.concurrency=8", "load.requests=9"], None),
        (["load.concurrency=8", "load.duration=1s"], None),
    ],
)
def test_a_throughput_without_a_steady_window(sets: list[str], why: str | None) -> None:
    said = warnings(load_scenario("smoke", [*sets, "thresholds.output_throughput=value>1"]))
    assert len(said) == (why is not None)
    assert why is None or f"output_throughput: value>1 cannot be judged: {why}" in said[0].replace(
        "places that ", ""
    )
    assert warnings(load_scenario("smoke", sets)) == []


def test_answers_without_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("[load]\nconcurrency = 4\nrequests = 9\n")
    assert warnings(load_scenario(path)) == [
        "nothing limits the answers: give prompts.output_tokens (--output-tokens) or request.max_tokens"
    ]
    assert warnings(load_scenario(path, ["request.max_tokens=9"])) == []
    assert warnings(load_scenario(path, ["prompts.file=p.jsonl"])) == []
    assert isinstance(load_scenario(path), Scenario)
