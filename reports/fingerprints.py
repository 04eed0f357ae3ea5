"""What differs between the sides before any number is compared.

What the target is, is under test, and so is what was declared. Any other difference in prompts, schedule,
limits or request parameters makes every verdict INCONCLUSIVE: it would be judged as the target's doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from reports.comparison import Fingerprint, Part
from reports.sides import Run, Sides

_SAME_NS = 1_000_000  # arrivals of one schedule are equal to the nanosecond; of another, seldom to the ms
_NOT_SENT = {
    "name",
    "description",
    "sentence",
    "slo",
    "thresholds",
    "price",
    "gpus",
    "gpu_hour_usd",
    "api_key_env",
}
_REQUEST = {"request", "params", "max_tokens", "system", "template", "samples"}
_REQUEST_OF_PROMPTS = {"output_tokens", "force_output"}
_LIMITS_OF_LOAD = {"max_in_flight", "concurrency", "graceful_stop"}
_LIMITS = (
    "concurrency",
    "max_in_flight",
    "retries",
    "timeouts_s",
    "rpm",
    "tpm",
    "adaptive",
    "pilot",
    "stop_after_tokens",
    "include_usage",
)
_OF_TARGET = ("proxy", "verify_tls")


def fingerprints(
    sides: Sides, declared: frozenset[str], also: frozenset[str] = frozenset()
) -> list[Fingerprint]:
    """Everything that differs, what is under test first.

    Args:
        sides: the runs.
        declared: fields that are meant to differ; `request` is all below it.
        also: tables of a scenario that send nothing, and matter to what is judged.
    """
    found = [*_settings(sides, also), *_asked(sides)]
    for one in found:
        one.declared = one.part == "target" or _is_declared(one.field, declared)
    return sorted(found, key=lambda one: not one.declared)


def _is_declared(name: str, declared: frozenset[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in declared)


# -- settings, by the manifests


def _settings(sides: Sides, also: frozenset[str]) -> Iterator[Fingerprint]:
    base, new = ([_fields(run, also) for run in side] for side in (sides.base, sides.new))
    names = dict.fromkeys(name for fields in (*base, *new) for name in fields)
    for name in names:
        # What one side does not say is as different as what it says otherwise.
        left, right = ([_text(fields.get(name)) for fields in side] for side in (base, new))
        same = left == right if sides.paired else set(left) == set(right)
        if not same:
            yield Fingerprint(
                field=name,
                part=_part(name),
                base=_several(left),
                new=_several(right),
                declared=False,
            )


def _fields(run: Run, also: frozenset[str]) -> dict[str, Any]:
    """Every setting of a run that shapes what is sent, and those named, by its dotted name."""
    manifest = run.manifest
    scenario = {key: value for key, value in manifest.scenario.items() if key not in _NOT_SENT - also}
    scenario["target"] = {
        key: value for key, value in _table(scenario.get("target")).items() if key not in _NOT_SENT
    }
    # Files are known by what they hold: the prompts are compared one by one.
    scenario["prompts"] = {k: v for k, v in _table(scenario.get("prompts")).items() if k != "file"}
    out = dict(_flat(scenario))
    out["kind"] = manifest.kind
    if manifest.kind == "run" and manifest.prompts is not None:
        out["prompts.requests"] = manifest.prompts.requests
    options = manifest.sessions[-1].options if manifest.sessions else {}
    out |= dict(_flat({"limits": {name: options.get(name) for name in _LIMITS}}))
    out |= {f"target.{name}": options[name] for name in _OF_TARGET if name in options}
    return out


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        elif value is not None and value != []:
            yield f"{before}{key}", value


def _part(name: str) -> Part:
    top, _, rest = name.partition(".")
    if top in {"target", "models"}:
        return "target"
    if top in {"limits", "slo"} or (top == "load" and rest in _LIMITS_OF_LOAD):
        return "limits"
    if top in _REQUEST or (top == "prompts" and rest.partition(".")[0] in _REQUEST_OF_PROMPTS):
        return "request"
    return "prompts" if top == "prompts" else "schedule"


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


def _several(values: Iterable[str]) -> str:
    found = list(dict.fromkeys(values))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(value if len(value) <= 60 else f"{value[:57]}..." for value in found[:3]) + more


# -- what was asked and when, by the records


def _asked(sides: Sides) -> Iterator[Fingerprint]:
    if sides.paired:
        pairs = list(zip(sides.base, sides.new, strict=True))
    else:
        pairs = _likest(sides.base, sides.new) + [(base, new) for new, base in _likest(sides.new, sides.base)]
    for name, part, differs in (("prompts", "prompts", _prompts), ("arrivals", "schedule", _arrivals)):
        for base, new in pairs:
            if found := differs(base, new):
                which: Part = "prompts" if part == "prompts" else "schedule"
                yield Fingerprint(field=name, part=which, base=found[0], new=found[1], declared=False)
                break


def _likest(runs: Sequence[Run], others: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Each run with one of the other side that was asked the same; with the first, where there is none."""
    return [
        (run, next((other for other in others if not (_prompts(run, other) or _arrivals(run, other))), first))
        for run in runs
        for first in others[:1]
    ]


def _common(base: Run, new: Run) -> tuple[Any, Any]:
    _, left, right = np.intersect1d(base.asked.key, new.asked.key, return_indices=True)
    return left, right


def _prompts(base: Run, new: Run) -> tuple[str, str] | None:
    """Where the prompts of two runs are not the same.

    A load that ends by the clock gets further with a faster server: what both of them came to must be the
    same, place by place. So must be the rest where it is in another order.
    """
    left, right = _common(base, new)
    ours, theirs = base.asked.prompt[left], new.asked.prompt[right]
    if len(left) and (ours == theirs).all():
        return None
    if np.array_equal(np.sort(base.asked.prompt), np.sort(new.asked.prompt)):
        return None
    shared = len(np.intersect1d(base.asked.prompt, new.asked.prompt))
    return (
        f"{len(np.unique(base.asked.prompt)):,} different ones, {shared:,} of them on both sides",
        f"{len(np.unique(new.asked.prompt)):,} different ones",
    )


def _arrivals(base: Run, new: Run) -> tuple[str, str] | None:
    """Where two open loops did not send at the same times."""
    if not (_is_open(base) and _is_open(new)):
        return None
    left, right = _common(base, new)
    first = base.asked.key["turn"][left] <= 0  # later turns wait for the answer before them
    ours, theirs = base.asked.scheduled_ns[left][first], new.asked.scheduled_ns[right][first]
    apart = np.abs(ours - theirs) > _SAME_NS
    if not apart.any():
        return None
    at = int(np.argmax(apart))
    return f"{int(apart.sum()):,} at other times, as {ours[at] / 1e9:.3f} s", f"{theirs[at] / 1e9:.3f} s"


def _is_open(run: Run) -> bool:
    bench = run.summary.bench
    return bench is not None and bench.load.is_open and bench.load.schedule_begin_ns is not None
