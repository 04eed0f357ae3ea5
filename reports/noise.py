"""What `bench --calibrate` found of this machine's own noise, laid out. Anybody may have written it."""

from __future__ import annotations

from typing import Any

from reports.cells import number
from reports.gauge import table
from reports.layout import Fact, cut

_ROWS = (
    ("first token", "first", "stamped after it was sent"),
    ("any token", "token", "stamped after it was sent"),
    ("itl", "gap", "off by"),
    ("ttft", "ttft", "off by, the request's way included"),
)


def noise_facts(calibration: dict[str, Any]) -> list[Fact]:
    """The floor as rows; where it has another shape, as it is."""
    floor = table(calibration.get("floor"))
    accuracy = table(floor.get("accuracy"))
    rows: list[Fact] = []
    for name, key, words in _ROWS:
        off = table(accuracy.get(key))
        p50, p99 = off.get("p50_ms"), off.get("p99_ms")
        if isinstance(p50, int | float) and isinstance(p99, int | float):
            rows.append((name, f"p50 {number(float(p50))} · p99 {number(float(p99))} ms {words}"))
    if not rows:
        return [("measured", " · ".join(f"{name} {value}" for name, value in _flat(calibration)))]
    streams, rate = floor.get("streams"), floor.get("rate")
    if isinstance(streams, int) and isinstance(rate, int | float):
        rows.insert(0, ("load", f"{streams:,} streams x {number(float(rate))} tokens/s, on the mock server"))
    notes = calibration.get("notes")
    return rows + [("note", str(note)) for note in notes if note] if isinstance(notes, list) else rows


def _flat(said: dict[str, Any], before: str = "") -> list[Fact]:
    """A mapping of numbers and texts, whatever its depth, as facts."""
    out: list[Fact] = []
    for key, value in said.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            out += _flat(value, f"{name}.")
        elif isinstance(value, float):
            out.append((name, number(value)))
        else:
            out.append((name, cut(str(value))))
    return out
