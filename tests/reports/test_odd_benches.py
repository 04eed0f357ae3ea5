"""Manifests of benches that somebody else wrote, or broke: every report is made all the same."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.formats import RENDERERS
from reports.metrics import summarize
from runner.store import Manifest
from tests.reports.golden_bench import manifest, records

LINES = b"".join(msgspec.json.encode(record) + b"\n" for record in records()[:12])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 40), 1 << 63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["30s", "trace", "constant-concurrency", "ramping-arrival-rate", "p(95)<1s"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def report_on(said: Manifest) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        (run / "run.json").write_bytes(msgspec.json.encode(said))
        (run / "records.jsonl").write_bytes(LINES)
        summary = summarize(run)
        assert summary.bench is not None
        for form, render in RENDERERS.items():
            if form != "html":  # drawing takes a quarter of a second: fewer examples, below
                assert render([summary])
                assert render([summary, summary])


def mutable(mapping: dict[str, Any], keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """The mapping with some of its keys at odd values."""
    return st.dictionaries(st.sampled_from(keys), anything, min_size=1, max_size=4).map(
        lambda odd: mapping | odd
    )


SCENARIO = manifest().scenario
GAUGE = manifest().sessions[0].gauge


def odd_scenarios() -> st.SearchStrategy[dict[str, Any]]:
    load = [*SCENARIO["load"], "stages", "start", "trace", "executor"]
    return st.one_of(
        mutable(SCENARIO, list(SCENARIO)),
        mutable(SCENARIO["load"], load).map(lambda odd: SCENARIO | {"load": odd}),
    )


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(odd_scenarios(), st.data())
def test_odd_values_on_a_page(scenario: dict[str, Any], data: st.DataObject) -> None:
    said = manifest()
    said.scenario = scenario
    said.sessions[0].gauge = data.draw(mutable(GAUGE, list(GAUGE)))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr("reports.page._plotly_script", lambda: "")
        (Path(name) / "run.json").write_bytes(msgspec.json.encode(said))
        (Path(name) / "records.jsonl").write_bytes(LINES)
        assert RENDERERS["html"]([summarize(name)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_odd_values_anywhere(data: st.DataObject) -> None:
    said = manifest()
    said.scenario = data.draw(odd_scenarios())
    if data.draw(st.booleans()):
        said.scenario["thresholds"] = data.draw(
            st.dictionaries(st.sampled_from(["ttft", "errors"]), anything, max_size=2)
        )
    said.sessions[0].gauge = data.draw(
        st.one_of(
            mutable(GAUGE, list(GAUGE)),
            mutable(GAUGE["load"], list(GAUGE["load"])).map(lambda load: GAUGE | {"load": load}),
            mutable(GAUGE["lag"], list(GAUGE["lag"])).map(lambda lag: GAUGE | {"lag": lag}),
        )
    )
    report_on(said)


@pytest.mark.parametrize("sessions", [0, 2])
def test_other_numbers_of_sessions(sessions: int) -> None:
    said = manifest()
    said.sessions = [msgspec.structs.replace(said.sessions[0], number=n) for n in range(1, sessions + 1)]
    report_on(said)
