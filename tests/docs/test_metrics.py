"""docs/metrics.md against the reports."""

from __future__ import annotations

import re

import msgspec

from reports.bench import Bench
from reports.distribution import EXACT_UP_TO, NEEDS, PERCENTILES, RELIABLE, RESOLUTION
from reports.frame import frame
from reports.labels import CACHED, DRIFT, GROWTH, LEAST_UNSENT, SHORT, UNSENT
from reports.server_metrics import NAMES
from reports.summary import RATES, TIMES, WITH_FAILURES, Summary
from reports.validity import COALESCED_LIMIT, FEW, LAG_SHARES, LIMITS, OWN_ERRORS
from reports.windows import LATE_GAP_SHARE, LATE_MS, SPANS
from runner.record import OWN_FAULT
from tests.docs.pages import DOCS, code, part, read, table

PAGE = DOCS / "metrics.md"


def test_every_metric_is_defined_and_no_other() -> None:
    rows = table(part(PAGE, "metrics"))
    assert [code(row[0]) for row in rows] == [*TIMES, *RATES]
    for name, definition, unit, population, _ in rows:
        assert definition
        assert population
        assert unit == ("tokens/s" if code(name) in RATES else "ms")


def test_the_second_reading_is_said_of_the_right_ones() -> None:
    assert tuple(code(row[0]) for row in table(part(PAGE, "metrics")) if row[-1] == "yes") == WITH_FAILURES


def test_samples_that_percentiles_need() -> None:
    rows = [[f"p{p}", str(NEEDS[p]), str(RELIABLE[p])] for p in PERCENTILES]
    assert table(part(PAGE, "samples")) == rows


def test_limits() -> None:
    page = read(PAGE)
    assert f"{COALESCED_LIMIT:.0%}".replace("%", " %") in page
    assert f"{EXACT_UP_TO:,}" in page
    assert f"{RESOLUTION * 100:g} %" in page


def test_every_number_of_a_summary_is_named() -> None:
    named = set(re.findall(r"`([\w.]+)`", part(PAGE, "summary")))
    for field in msgspec.structs.fields(Summary):
        inner = (
            field.type if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) else None
        )
        names = [f"{field.name}.{f.name}" for f in msgspec.structs.fields(inner)] if inner else [field.name]
        assert not [name for name in names if name not in named]


def test_every_column_of_load_is_named() -> None:
    assert sorted(re.findall(r"`(\w+)`", part(PAGE, "columns"))) == sorted(frame([]).columns)


def test_every_number_of_a_bench_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", part(PAGE, "bench")))
    assert {field.name for field in msgspec.structs.fields(Bench)} <= named


def is_named(limit: float, cell: str) -> bool:
    """Whether a cell names a limit: a share as a percentage, a time as it is."""
    wanted = f"{limit:.0%}".replace("%", " %") if limit < 1 else f"{limit:g} ms"
    return wanted in cell


def test_limits_of_validity() -> None:
    rows = {code(check): (warn, invalid) for check, _, warn, invalid in table(part(PAGE, "validity"))}
    assert list(rows) == list(LIMITS)
    for check, limits in LIMITS.items():
        if check == "nothing_succeeded":
            continue
        for limit, cell in zip(limits, rows[check], strict=True):
            assert cell == "never" if limit is None else is_named(limit, cell), (check, cell)
    assert all(is_named(x, cell) for x, cell in zip(LAG_SHARES, rows["loop_lag_p99_ms"], strict=True))
    said = {code(row[0]): row[1] for row in table(part(PAGE, "validity"))}
    assert f"{LATE_MS:g} ms" in said["late_sends"]
    assert is_named(LATE_GAP_SHARE, said["late_sends"])
    assert f"Below {FEW} of them" in read(PAGE)
    assert f"`{OWN_FAULT.strip()}`" in read(PAGE)
    assert OWN_ERRORS[0] == 0
    assert f"WARN (`own_errors`); above {OWN_ERRORS[1]:.0%}".replace("%", " %") in read(PAGE)


def test_labels() -> None:
    said = {code(row[0]): row[1] for row in table(part(PAGE, "labels"))}
    assert set(said) == {"UNSTABLE", "HELD", "DRIFT", "SHORT", "CACHED"}
    for name, share in (("UNSTABLE", UNSENT), ("UNSTABLE", GROWTH), ("DRIFT", DRIFT), ("SHORT", SHORT)):
        assert is_named(share, said[name]), name
    assert is_named(CACHED, said["CACHED"])
    assert f"{SPANS} parts" in said["UNSTABLE"]
    assert f"and {LEAST_UNSENT})" in said["UNSTABLE"]


def test_names_of_server_metrics() -> None:
    servers = ("vllm", "sglang", "llamacpp")
    found = {
        name: (server, row[0])
        for row in table(part(PAGE, "server"))
        for server, cell in zip(servers, row[1:], strict=True)
        for name in re.findall(r"`([^`]+)`", cell)
    }
    assert found == NAMES
