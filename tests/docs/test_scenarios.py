"""docs/scenarios.md against the structs it describes, and what they are checked by."""

from __future__ import annotations

import re
import tomllib
from typing import get_args

import msgspec
import pytest

from scenarios.checks import LOAD_KEYS
from scenarios.flags import DURATION, INPUT_TOKENS, LEAST_REQUESTS, NAMES, OUTPUT_TOKENS, ROUNDS
from scenarios.loading import Origin, build, library, load_scenario
from scenarios.scenario import (
    OPEN,
    Cancel,
    Executor,
    Lengths,
    Load,
    Prompts,
    Scenario,
    ScenarioError,
    Stage,
    Synthetic,
    Target,
)
from scenarios.sentence import load_sentence
from scenarios.shape import dotted
from scenarios.thresholds import METRICS, SLO_METRICS, Metric
from tests.docs.pages import DOCS, check_part, code, markdown_table, part, read, table

PAGE = DOCS / "scenarios.md"


@pytest.mark.parametrize("struct", [Scenario, Target, Prompts, Synthetic, Lengths, Load, Stage, Cancel])
def test_every_key_is_documented_and_no_other(struct: type[msgspec.Struct]) -> None:
    rows = table(part(PAGE, struct.__name__))
    fields = [field for field in msgspec.structs.fields(struct) if (struct, field.name) != (Scenario, "name")]
    assert [code(row[0]) for row in rows] == [field.name for field in fields]
    assert all(row[1] for row in rows)
    assert [row[-1] == "required" for row in rows] == [field.required for field in fields]


def test_defaults_are_said_as_they_are() -> None:
    for struct in (Scenario, Target, Prompts, Synthetic, Lengths, Load, Stage, Cancel):
        said = {code(row[0]): row[-1].strip('`"') for row in table(part(PAGE, struct.__name__))}
        for field in msgspec.structs.fields(struct):
            if isinstance(field.default, str | int | float) and said.get(field.name) and field.default != "":
                written = str(field.default).lower()
                assert said[field.name] in (
                    written,
                    written.removesuffix(".0"),
                    "follows from `rate`, `concurrency` or `trace",
                )


def test_which_keys_are_for_which_executor() -> None:
    for name, _, executors, _ in table(part(PAGE, "Load")):
        takers = [one for one in get_args(Executor) if code(name) in LOAD_KEYS[one]]
        every = takers == list(get_args(Executor))
        said = list(get_args(Executor)) if executors == "all" else re.findall(r"`([\w-]+)`", executors)
        assert sorted(said) == sorted(takers), name
        assert every == (executors == "all"), name


def test_executors_and_what_they_need() -> None:
    rows = table(part(PAGE, "executors"))
    assert [code(row[0]) for row in rows] == list(get_args(Executor))
    for name, kind, _, needs in rows:
        assert (kind == "open") == (code(name) in OPEN)
        with pytest.raises(ScenarioError, match=rf"load\.{code(needs)} is missing"):
            build(Origin("x", {"load": {"executor": code(name)}}, None), [])


def test_the_metrics_of_an_slo() -> None:
    assert re.findall(r"`(\w+)`", part(PAGE, "slo")) == list(SLO_METRICS)


def test_what_thresholds_may_say() -> None:
    groups: dict[Metric, list[str]] = {}
    for name, metric in METRICS.items():
        groups.setdefault(metric, []).append(name)
    rows = [
        [
            ", ".join(f"`{name}`" for name in names),
            ", ".join("`p(N)`" if agg == "p" else f"`{agg}`" for agg in metric.aggregations),
            f"none is {metric.unit}"
            + "; " * bool(metric.units)
            + ", ".join(f"`{unit}`" for unit in metric.units),
        ]
        for metric, names in groups.items()
    ]
    check_part(PAGE, "thresholds", markdown_table(["metrics", "aggregations", "units"], rows))


def test_the_library() -> None:
    rows = []
    for name in library():
        scenario = load_scenario(name, ["load.trace=TRACE"] if name == "replay" else [])
        rows.append([f"`{name}`", scenario.description, load_sentence(scenario)])
    check_part(PAGE, "library", markdown_table(["name", "what", "load"], rows))


def test_flags_and_the_keys_they_set() -> None:
    rows = table(part(PAGE, "flags"))
    assert [(code(row[0]), code(row[1])) for row in rows] == [
        (flag, dotted(key)) for flag, key in NAMES.values()
    ]
    without = {code(row[0]): row[2] for row in rows}
    assert (
        without["-n"] == f"closed, without `--duration`: {ROUNDS} for each place, at least {LEAST_REQUESTS}"
    )
    assert without["--duration"] == f"open, without `-n`: `{DURATION}`"
    assert without["--input-tokens"] == str(INPUT_TOKENS)
    assert without["--output-tokens"].startswith(f"{OUTPUT_TOKENS};")


def test_what_stands_for_the_flags_of_others_is_there() -> None:
    flags = {flag for flag, _ in NAMES.values()} | {"--tag", "--metrics-url"}
    for row in table(part(PAGE, "others")):
        name = code(row[0])
        if name.startswith("-"):
            assert name in flags
        elif name.startswith("["):
            assert name.strip("[]") in Scenario.__struct_fields__
        else:
            section, *_, key = name.partition(" = ")[0].split(".")
            assert (
                key
                in {"load": Load, "prompts": Prompts}[section].__struct_fields__ + Synthetic.__struct_fields__
            )


def test_the_example_loads() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", read(PAGE), re.S)
    scenario = build(Origin("example", tomllib.loads(text), None), [])
    assert scenario.load.rate == 4.0


def test_the_message_is_what_is_said() -> None:
    (shown,) = re.findall(r"```text\n(.*?)\n```", read(PAGE), re.S)
    data = {"load": {"rate": 1, "duration": "5s", "arrival": "poison"}}
    with pytest.raises(ScenarioError) as caught:
        build(Origin("chat", data, "chat.toml"), [])
    assert str(caught.value) == shown
