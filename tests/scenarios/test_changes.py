"""`--set` and the flags of bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.changes import merged, parse_set
from scenarios.flags import NAMES, Flags, scenario_from_flags
from scenarios.loading import load_scenario
from scenarios.scenario import Scenario, ScenarioError, Synthetic
from scenarios.shape import type_at


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("load.rate=8", ("load", "rate"), 8),
        (" load.rate = 8.5 ", ("load", "rate"), 8.5),
        ("load.duration=30s", ("load", "duration"), "30s"),
        ("load.duration=30", ("load", "duration"), 30),
        ("target.model=m", ("target", "model"), "m"),
        ("target.model=org/name-7B", ("target", "model"), "org/name-7B"),
        ("target.model=7", ("target", "model"), "7"),
        ("target.model=2024-01-01", ("target", "model"), "2024-01-01"),
        ("target.model=1_000", ("target", "model"), "1_000"),
        ('target.model="7"', ("target", "model"), "7"),
        ("target.base_url=http://h/v1?a=b", ("target", "base_url"), "http://h/v1?a=b"),
        ('thresholds.ttft=["p(95)<1s"]', ("thresholds", "ttft"), ["p(95)<1s"]),
        ("thresholds.ttft=p(95)<=1s", ("thresholds", "ttft"), ["p(95)<=1s"]),
        ("thresholds.errors{kind:timeout}=count==0", ("thresholds", "errors{kind:timeout}"), ["count==0"]),
        ('thresholds."errors{kind:timeout}"=count==0', ("thresholds", "errors{kind:timeout}"), ["count==0"]),
        ("thresholds.errors=[]", ("thresholds", "errors"), []),
        (
            'load.stages=[{duration="5s",target=8}]',
            ("load", "stages"),
            [{"duration": "5s", "target": 8}],
        ),
        ("prompts.synthetic.unique=false", ("prompts", "synthetic", "unique"), False),
        ("request.stop=end", ("request", "stop"), "end"),
        ("request.logprobs=true", ("request", "logprobs"), True),
        ("request.since=2024-01-01", ("request", "since"), "2024-01-01"),
        ('request.chat_template_kwargs={a="b"}', ("request", "chat_template_kwargs"), {"a": "b"}),
        ("request.a.b=1", ("request", "a", "b"), 1),
        ('target.headers."X.Y"=env:Z', ("target", "headers", "X.Y"), "env:Z"),
        ("description=", ("description",), ""),
        ("description=1\nx = 2", ("description",), "1\nx = 2"),
    ],
)
def test_what_a_set_says(text: str, key: tuple[str, ...], value: Any) -> None:
    change = parse_set(text)
    assert change.key == key
    assert change.value == value
    assert type(change.value) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("load.rate", "--set: has to be KEY=VALUE, as in load.rate=8"),
        ("=8", "--set: has to be KEY=VALUE"),
        (
            "load.rat=8",
            "--set load.rat: is no key there is; did you mean load.rate? load is a table of executor",
        ),
        (
            "rate=8",
            "--set rate: is no key there is; did you mean load.rate? there are description, seed, target",
        ),
        ("name=x", "--set name: is no key there is"),
        ("load.rate.x=8", "--set load.rate.x: is no key there is"),
        (
            "load.stages[0].target=8",
            "--set: load.stages[0].target is no key; dotted names, as in load.rate; a list",
        ),
        ("load.stages=[{", "--set load.stages: has a value that is not TOML"),
        ("load.rate=x", '--set load.rate: is "x"; it has to be a number'),
        ("load.rate=0", "--set load.rate: is 0; above 0"),
        (
            "load.concurrency=8",
            '--set load.concurrency: is for "constant-concurrency"; this executor is constant-arr',
        ),
        ("load.executor=trace", "--set load.executor: load.trace is missing"),
        ("load.cancel.share=0.1", "--set load.cancel.share: load.cancel needs tokens or patience"),
        ("load={executor='trace'}", "--set load: load.trace is missing"),
        (
            "thresholds.tftt=med<1s",
            "--set thresholds.tftt: cannot be judged: there is no metric 'tftt'; did you mean",
        ),
        (
            "prompts.synthetic.input_tokens.mean=1",
            "--set prompts.synthetic.input_tokens.mean: is 1; from 32 to 2048",
        ),
    ],
)
def test_what_a_set_is_told(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("chat", [text])
    assert str(caught.value).startswith(said)


def test_two_sets_that_contradict_each_other() -> None:
    with pytest.raises(ScenarioError, match=r"--set load.duration: is given beside load.requests"):
        load_scenario("chat", ["load.duration=5s", "load.requests=5"])


@pytest.mark.parametrize(
    ("name", "sets", "gone", "there"),
    [
        ("chat", ["load.requests=9"], "load.duration", {"load.requests": 9}),
        ("smoke", ["load.duration=9s"], "load.requests", {"load.duration": "9s"}),
        ("chat", ["load.warmup_requests=9"], "load.warmup", {"load.warmup_requests": 9}),
        ("chat", ["request.max_tokens=9"], "prompts.output_tokens", {"request.max_tokens": 9}),
        ("code-completion", ["load.cancel.patience=9s"], "load.cancel.tokens", {"load.cancel.share": 0.3}),
        (
            "code-completion",
            ["load.executor=constant-concurrency", "load.concurrency=4"],
            "load.rate",
            {"load.concurrency": 4, "load.burstiness": 1.0, "load.duration": "2m"},
        ),
        (
            "ramp",
            ["load.executor=constant-arrival-rate", "load.rate=4", "load.duration=5"],
            "load.stages",
            {},
        ),
        (
            "chat",
            ["prompts.synthetic={input_tokens=9}"],
            "prompts.file",
            {"prompts.synthetic.input_tokens": 9},
        ),
    ],
)
def test_of_keys_that_exclude_each_other_the_file_s_goes(
    name: str, sets: list[str], gone: str, there: dict[str, Any]
) -> None:
    scenario = load_scenario(name, sets)
    assert at(scenario, gone) in (None, [])
    for key, value in there.items():
        assert at(scenario, key) == value


def at(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def test_a_file_of_prompts_in_place_of_synthetic_ones(tmp_path: Path) -> None:
    scenario = load_scenario("chat", [f"prompts.file={tmp_path / 'p.jsonl'}"])
    assert scenario.prompts.synthetic is None
    assert scenario.prompts.file == str(tmp_path / "p.jsonl")
    assert scenario.prompts.output_tokens is not None


def test_what_belongs_to_a_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        "[prompts]\nfile = 'p.json'\nformat = 'sharegpt'\nmulti_turn = true\n"
        "[load]\nconcurrency = 4\nrequests = 9\nthink_time = '1s'\n"
    )
    scenario = load_scenario(path, ["prompts.synthetic.input_tokens=9"])
    assert scenario.prompts.synthetic == Synthetic(input_tokens=9)
    assert (scenario.prompts.file, scenario.prompts.format, scenario.prompts.multi_turn) == (
        None,
        None,
        False,
    )
    assert scenario.load.think_time is None


def test_an_executor_that_followed_follows_again(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("[load]\nconcurrency = 4\nrequests = 9\n")
    assert load_scenario(path, ["load.rate=2"]).load.executor == "constant-arrival-rate"


def test_the_last_set_of_a_key_wins() -> None:
    assert load_scenario("chat", ["load.rate=3", "load.rate=5"]).load.rate == 5


def test_the_file_s_data_is_left_alone() -> None:
    data = {"load": {"rate": 1, "duration": "5s"}}
    assert merged(data, [parse_set("load.requests=5")]) == {"load": {"rate": 1, "requests": 5}}
    assert data == {"load": {"rate": 1, "duration": "5s"}}


@given(
    st.text(max_size=30), st.sampled_from(["", "load.rate=", "request.a=", "target.model=", "load.stages="])
)
def test_no_text_ends_otherwise_than_in_a_scenario_error(text: str, before: str) -> None:
    try:
        load_scenario("chat", [before + text])
    except ScenarioError:
        return


# Flags


def test_every_flag_sets_a_key_there_is() -> None:
    assert set(NAMES) == set(Flags.__struct_fields__)
    assert all(type_at(Scenario, key) is not None for _, key in NAMES.values())


def test_without_anything() -> None:
    scenario = scenario_from_flags(Flags())
    assert scenario.name == "bench"
    assert (scenario.load.executor, scenario.load.concurrency) == ("constant-concurrency", 1)
    assert (scenario.load.requests, scenario.load.duration, scenario.load.warmup) == (100, None, None)
    assert scenario.prompts.synthetic == Synthetic(input_tokens=512)
    assert scenario.prompts.output_tokens == 128


def test_all_of_them() -> None:
    scenario = scenario_from_flags(
        Flags(
            base_url="http://127.0.0.1:8000/v1",
            model="m",
            api="completions",
            api_key_env="K",
            concurrency=64,
            requests=500,
            input_tokens=100,
            output_tokens=10,
            seed=3,
        )
    )
    assert scenario.target.base_url == "http://127.0.0.1:8000/v1"
    assert (scenario.target.model, scenario.target.api, scenario.target.api_key_env) == (
        "m",
        "completions",
        "K",
    )
    assert (scenario.load.concurrency, scenario.load.requests, scenario.seed) == (64, 500, 3)
    assert scenario.prompts.synthetic == Synthetic(input_tokens=100)
    assert scenario.prompts.output_tokens == 10


@pytest.mark.parametrize(
    ("flags", "executor", "requests", "duration"),
    [
        (Flags(concurrency=4), "constant-concurrency", 100, None),
        (Flags(concurrency=64), "constant-concurrency", 640, None),
        (Flags(concurrency=64, duration="5s"), "constant-concurrency", None, "5s"),
        (Flags(duration="5s"), "constant-concurrency", None, "5s"),
        (Flags(requests=7), "constant-concurrency", 7, None),
        (Flags(rate=2.0), "constant-arrival-rate", None, "60s"),
        (Flags(rate=2.0, requests=7), "constant-arrival-rate", 7, None),
        (Flags(rate=2.0, duration=30), "constant-arrival-rate", None, 30),
    ],
)
def test_how_it_ends(flags: Flags, executor: str, requests: int | None, duration: Any) -> None:
    load = scenario_from_flags(flags).load
    assert (load.executor, load.requests, load.duration) == (executor, requests, duration)


def test_sets_without_a_file() -> None:
    load = scenario_from_flags(Flags(), overrides=["load.rate=3", "load.max_in_flight=9"]).load
    assert (load.executor, load.rate, load.duration, load.max_in_flight) == (
        "constant-arrival-rate",
        3,
        "60s",
        9,
    )
    ramp = ["load.executor=ramping-concurrency", "load.stages=[{duration='5s',target=4}]"]
    assert len(scenario_from_flags(Flags(), overrides=ramp).load.stages) == 1
    assert scenario_from_flags(Flags(), overrides=["load.trace=t.jsonl"]).prompts.output_tokens is None
    # The one set by hand wins over the flag.
    assert scenario_from_flags(Flags(model="a"), overrides=["target.model=b"]).target.model == "b"


def test_a_prompt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = scenario_from_flags(Flags(prompts="p.jsonl")).prompts
    assert (prompts.file, prompts.synthetic, prompts.output_tokens) == (str(tmp_path / "p.jsonl"), None, None)
    assert scenario_from_flags(Flags(prompts="p.jsonl", output_tokens=9)).prompts.output_tokens == 9


def test_flags_change_a_scenario() -> None:
    opened = scenario_from_flags(Flags(rate=3.0), "batch").load
    assert (opened.executor, opened.rate, opened.concurrency) == ("constant-arrival-rate", 3.0, None)
    assert opened.requests == 2000
    closed = scenario_from_flags(Flags(concurrency=3, duration="9s"), "bursty").load
    assert (closed.executor, closed.concurrency, closed.rate, closed.burstiness) == (
        "constant-concurrency",
        3,
        None,
        1,
    )
    assert scenario_from_flags(Flags(output_tokens=9), "chat").prompts.output_tokens == 9


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        (Flags(rate=1.0, concurrency=1), None, "-c and --rate: are both given: a closed loop or an open one"),
        (Flags(requests=1, duration=1), None, "-n and --duration: are both given: either ends the load"),
        (Flags(prompts="p", input_tokens=1), None, "--prompts and --input-tokens: are both given"),
        (Flags(rate=0.0), None, "--rate: load.rate is 0; above 0"),
        (Flags(rate=float("inf")), None, "--rate: load.rate is inf; it has to be a number"),
        (Flags(concurrency=0), None, "-c: load.concurrency is 0; 1 or more"),
        (Flags(requests=0), None, "-n: load.requests is 0; 1 or more"),
        (Flags(duration="0s"), None, '--duration: load.duration is "0s"; a duration above 0'),
        (Flags(duration="soon"), "chat", '--duration: load.duration is "soon"; a duration above 0'),
        (Flags(input_tokens=0), "chat", "--input-tokens: prompts.synthetic.input_tokens is 0; 1 or more"),
        (Flags(output_tokens=0), None, "--output-tokens: prompts.output_tokens is 0; 1 or more"),
        (Flags(seed=-1), None, "--seed: seed is -1; 0 or more"),
        (Flags(api="chats"), None, '--api: target.api is "chats"; did you mean chat?'),
        (Flags(base_url="nowhere"), None, "--base-url: target.base_url is no URL"),
        (Flags(requests=5), "ramp", "-n: load.requests is for"),
        (Flags(rate=5.0), "ramp", "--rate: load.duration is missing"),
        (Flags(), "nope", "nope: is neither a file nor a scenario of the library"),
    ],
)
def test_flags_that_cannot_be_meant(flags: Flags, name: str | None, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario_from_flags(flags, name)
    assert str(caught.value).startswith(said)


def test_secrets_of_a_url_stay_out_of_the_scenario() -> None:
    flags = Flags(base_url="https://user:hunter2@h:1/v1?key=hunter2#hunter2")
    assert scenario_from_flags(flags).target.base_url == "https://h:1/v1"
    with pytest.raises(ScenarioError) as caught:
        scenario_from_flags(Flags(base_url="https://user:hunter2@[h/v1"))
    assert "hunter2" not in str(caught.value)


# -- a host of its own


NAMED = {
    "target": {
        "base_url": "https://a.example/v1",
        "model": "m",
        "api_key_env": "A_KEY",
        "headers": {"X-A": "env:A_HEADER"},
        "price": {"input": 1.0, "output": 2.0},
    },
    "load": {"concurrency": 1, "requests": 1},
}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        (["target.base_url=http://b.example/v1"], {}),
        (["target.base_url=http://a.example/v1"], {}),  # in the clear: another one
        (["target.base_url=https://a.example:444/v1"], {}),
        (["target.base_url=http://b.example/v1", "target.api_key_env=B_KEY"], {"api_key_env": "B_KEY"}),
        (
            ["target.headers.X-B=env:B_HEADER", "target.base_url=http://b.example/v1"],
            {"headers": {"X-B": "env:B_HEADER"}},
        ),
    ],
)
def test_what_is_for_a_host_does_not_go_to_another(changes: list[str], kept: dict[str, Any]) -> None:
    before = repr(NAMED)
    target = merged(NAMED, [parse_set(text) for text in changes])["target"]
    assert {name: target[name] for name in ("api_key_env", "headers", "price") if name in target} == kept
    assert target["model"] == "m"
    assert repr(NAMED) == before


@pytest.mark.parametrize(
    "change", ["target.base_url=https://A.example:443/v2", "target.model=other", "load.requests=5"]
)
def test_the_same_host_keeps_what_is_its_own(change: str) -> None:
    target = merged(NAMED, [parse_set(change)])["target"]
    assert (target["api_key_env"], target["headers"]) == ("A_KEY", {"X-A": "env:A_HEADER"})


def test_a_file_that_names_no_host_means_whichever_it_is() -> None:
    data = {"target": {"model": "m", "api_key_env": "A_KEY"}}
    assert merged(data, [parse_set("target.base_url=http://b/v1")])["target"]["api_key_env"] == "A_KEY"


def test_what_is_left_behind_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[target]\nbase_url = "http://a/v1"\nmodel = "m"\napi_key_env = "A_KEY"\n'
        "[load]\nconcurrency = 1\nrequests = 1\n"
    )
    told: list[str] = []
    found = scenario_from_flags(Flags(base_url="http://b/v1"), path, (), told.append)
    assert found.target.api_key_env is None
    (text,) = told
    assert text.startswith(f"target.api_key_env of {path} is for the host it names, and is left out")
    scenario_from_flags(Flags(model="n"), path, (), told.append)
    assert len(told) == 1
