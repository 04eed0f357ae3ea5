"""A sweep: runs of one scenario at several points -> a curve, and its knee. The schema of its JSON.

A point is quotable where the client was fit to measure it and it is stable. Percentiles of a saturated
(UNSTABLE) point depend on how long it went on: they are kept in JSON, and no format people read shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from reports.bench import Bench, Gpu
from reports.cells import number
from reports.summary import Summary

CURVE_VERSION = 1
LOADS = ("load.rate", "load.concurrency")
"""Keys that say how hard, and what a knee is a value of."""


class Planned(Struct, kw_only=True):
    """A point as the sweep keeps it, and its run's summary where there is one."""

    run: str
    values: dict[str, Any]
    stage: str | None = None
    state: str = "done"
    summary: Summary | None = None


class Standing(Struct, kw_only=True):
    """What a run is worth."""

    fit: bool  # the client was fit to measure it
    stable: bool
    meets: bool | None  # stable, and all thresholds hold; `None`: nobody can tell
    why: str = ""


class Point(Struct, kw_only=True):
    """One point. `None` is "not known", never 0."""

    run: str
    values: dict[str, Any]
    stage: str | None = None
    state: str = "done"
    fit: bool = False
    stable: bool = False
    meets: bool | None = None
    why: str = ""
    validity: str | None = None
    labels: list[str] = []
    rate_asked_per_s: float | None = None
    concurrency_asked: int | None = None
    rate_sent_per_s: float | None = None
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    output_tokens_at_least: bool = False  # some answers told no tokens
    goodput_share: float | None = None
    goodput_per_s: float | None = None  # requests that met every SLO, a second
    answers: int = 0
    ttft_sched_n: int = 0
    ttft_sched_p50_ms: float | None = None
    ttft_sched_p95_ms: float | None = None
    tpot_n: int = 0
    tpot_p50_ms: float | None = None
    errors_share: float | None = None
    gpu: Gpu | None = None

    @property
    def quotable(self) -> bool:
        """Whether its percentiles say something of the target."""
        return self.fit and self.stable

    @property
    def nothing_succeeded(self) -> bool:
        """Whether it has no numbers for the target's sake: no request was answered."""
        return self.state == "done" and not self.fit and self.meets is False


class Knee(Struct, kw_only=True):
    """The highest point of one curve that is stable and meets all thresholds."""

    where: dict[str, Any]  # what else is swept
    run: str | None  # `None`: there is none
    words: str


class Answer(Struct, kw_only=True):
    """What a search found."""

    key: str
    outcome: str
    best: float | None
    fails: float | None
    words: str


class Curve(Struct, kw_only=True):
    """All of a sweep."""

    curve_version: int = CURVE_VERSION
    path: str
    scenario: str
    target: str
    load: str  # of the first point, in one sentence
    mode: str
    keys: list[str]
    thresholds: list[str] = []  # that each point is held to
    points: list[Point] = []
    knees: list[Knee] = []
    answer: Answer | None = None
    ended_by: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def load_key(self) -> str | None:
        """The key that says how hard, where it is swept."""
        return next((key for key in self.keys if key in LOADS), None)


# -- one point


def standing(summary: Summary) -> Standing:
    """Whether a run can be quoted, and whether it meets what it is held to.

    A saturated run never does. One whose client was not fit never does either, and says nothing about the
    target; but where all that is wrong is that nothing succeeded, that is the target's doing.
    """
    bench = summary.bench
    if bench is None:
        return Standing(fit=False, stable=False, meets=None, why="it is no bench")
    reasons = [reason for reason in bench.validity.reasons if reason.level == "INVALID"]
    of_client = [
        f"{reason.words} {reason.next_step}".strip()
        for reason in reasons
        if reason.check != "nothing_succeeded"
    ]
    if of_client:
        return Standing(fit=False, stable=False, meets=None, why=f"INVALID: {' '.join(of_client)}")
    if reasons:
        return Standing(fit=False, stable=False, meets=False, why="nothing succeeded")
    unstable = next((label for label in bench.labels if label.name == "UNSTABLE"), None)
    if unstable is not None:
        return Standing(fit=True, stable=False, meets=False, why=f"UNSTABLE: {unstable.words}")
    meets, why = _thresholds(bench)
    return Standing(fit=True, stable=True, meets=meets, why=why)


def _thresholds(bench: Bench) -> tuple[bool | None, str]:
    for outcome, meets in (("FAIL", False), ("INCONCLUSIVE", None)):
        found = [f"{one.threshold} is {one.words}" for one in bench.verdicts if one.verdict == outcome]
        if found:
            return meets, f"{outcome}: {'; '.join(found)}"
    return True, ""


def point_of(planned: Planned) -> Point:
    """The numbers of a point."""
    point = Point(run=planned.run, values=planned.values, stage=planned.stage, state=planned.state)
    summary = planned.summary
    bench = summary.bench if summary is not None else None
    if summary is None or bench is None or planned.state != "done":
        return point
    held = standing(summary)
    point.fit, point.stable, point.meets, point.why = held.fit, held.stable, held.meets, held.why
    point.validity = bench.validity.level
    point.labels = [label.name for label in bench.labels]
    _rates(point, summary, bench)
    _times(point, summary)
    point.errors_share = summary.requests.errors_share
    point.gpu = bench.gpu
    return point


def _rates(point: Point, summary: Summary, bench: Bench) -> None:
    load, steady = bench.load, bench.steady
    asked = summary.scenario.get("load")
    asked = asked if isinstance(asked, dict) else {}
    point.rate_asked_per_s = asked.get("rate") if load.is_open else None
    point.concurrency_asked = None if load.is_open else load.concurrency
    point.requests_per_s = steady.request_throughput
    point.rate_sent_per_s = _sent_per_s(bench)
    point.output_tokens_per_s = steady.output_throughput
    point.output_tokens_at_least = steady.at_least("output_throughput")
    point.answers = summary.requests.ok
    good = bench.goodput
    point.goodput_share = good.share
    span_s = _schedule_s(bench) if load.is_open else bench.whole.seconds
    if good.share is not None and span_s:
        point.goodput_per_s = good.met / span_s


def _schedule_s(bench: Bench) -> float | None:
    begin, end = bench.load.schedule_begin_ns, bench.load.schedule_end_ns
    return (end - begin) / 1e9 if begin is not None and end is not None and end > begin else None


def _sent_per_s(bench: Bench) -> float | None:
    """Arrivals that were started in the time of the schedule; of a closed loop, answers a second."""
    if not bench.load.is_open:
        return bench.steady.request_throughput
    span_s, sent = _schedule_s(bench), bench.load.arrived
    return sent / span_s if span_s and sent is not None else None


def _times(point: Point, summary: Summary) -> None:
    ttft, tpot = summary.metrics["ttft_sched"], summary.metrics["tpot"]
    point.ttft_sched_n, point.tpot_n = ttft.n, tpot.n
    point.ttft_sched_p50_ms = ttft.percentiles.get("p50")
    point.ttft_sched_p95_ms = ttft.percentiles.get("p95")
    point.tpot_p50_ms = tpot.percentiles.get("p50")


# -- the curve


def curve_of(
    planned: Sequence[Planned],
    *,
    path: str,
    scenario: str,
    mode: str,
    keys: Sequence[str],
    answer: Answer | None = None,
    ended_by: str | None = None,
) -> Curve:
    """All points of a sweep, in the order of their values, with the knee of each curve."""
    points = sorted((point_of(one) for one in planned), key=lambda point: _order(point, keys))
    first = next((one.summary for one in planned if one.summary is not None), None)
    curve = Curve(
        path=path,
        scenario=scenario,
        target=_target(first),
        load=_load(first),
        mode=mode,
        keys=list(keys),
        thresholds=[verdict.threshold for verdict in first.bench.verdicts] if first and first.bench else [],
        points=points,
        answer=answer,
        ended_by=ended_by,
    )
    if answer is None:
        curve.knees = [_knee(where, group, curve.load_key) for where, group in groups(curve)]
    curve.notes = _notes(curve)
    return curve


def groups(curve: Curve) -> list[tuple[dict[str, Any], list[Point]]]:
    """The points of each curve: those that differ in their load alone. All, where no load is swept."""
    key = curve.load_key
    if key is None:
        return [({}, curve.points)]
    found: list[tuple[dict[str, Any], list[Point]]] = []
    for point in curve.points:
        where = {name: value for name, value in point.values.items() if name != key}
        group = next((points for other, points in found if other == where), None)
        if group is None:
            found.append((where, [point]))
        else:
            group.append(point)
    return found


def at(values: dict[str, Any]) -> str:
    """Where a point is, for people: `load.rate 4`."""
    return ", ".join(f"{key} {shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A value of a key."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _order(point: Point, keys: Sequence[str]) -> list[tuple[bool, float, str]]:
    """By the load last, so that a curve's points stand together."""
    ordered = sorted(keys, key=lambda key: key in LOADS)
    return [_rank(point.values.get(key)) for key in ordered]


def _rank(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return False, float(value), ""
    return True, 0.0, str(value)


def _knee(where: dict[str, Any], points: list[Point], key: str | None) -> Knee:
    done = [point for point in points if point.state == "done"]
    good = [point for point in done if point.meets]
    if not good:
        told = "no point is measured yet"
        if done:
            fit = any(point.fit or point.nothing_succeeded for point in done)
            told = f"no point {'is stable and meets the thresholds' if fit else 'could be measured: INVALID'}"
        return Knee(where=where, run=None, words=told)
    if key is None:
        best = max(good, key=lambda point: point.output_tokens_per_s or 0.0)
        words = (
            f"{at(best.values)}: of the points that meet the thresholds, the one with most output tokens/s"
        )
        return Knee(where=where, run=best.run, words=words)
    best = good[-1]
    parts = [f"{key} {shown(best.values[key])}: the highest that is stable and meets the thresholds"]
    if best.output_tokens_per_s is not None:
        parts.append(f"{number(best.output_tokens_per_s)} output tokens/s")
    above = [point for point in done if _rank(point.values[key]) > _rank(best.values[key])]
    below = [point for point in done if not point.meets and point not in above]
    parts.append(_says(above[:1], key) if above else "nothing above it was measured")
    if below:
        parts.append(f"but of those below it, {_says(below, key)}")
    return Knee(where=where, run=best.run, words="; ".join(parts))


def _says(points: list[Point], key: str) -> str:
    """What is wrong with points, each by its value."""
    told = []
    for point in points:
        what = "could not be measured" if not point.fit else "is unstable" if not point.stable else ""
        what = "got no answer at all" if point.nothing_succeeded else what
        what = what or ("does not meet them" if point.meets is False else "could not be judged")
        told.append(f"{shown(point.values[key])} {what}")
    return ", ".join(told)


def _target(summary: Summary | None) -> str:
    target = summary.scenario.get("target") if summary is not None else None
    if not isinstance(target, dict):
        return ""
    return " at ".join(str(part) for part in (target.get("model"), target.get("base_url")) if part)


def _load(summary: Summary | None) -> str:
    bench = summary.bench if summary is not None else None
    return bench.load.sentence or "" if bench is not None else ""


def _notes(curve: Curve) -> list[str]:
    done = [point for point in curve.points if point.state == "done"]
    out = []
    missing = len(curve.points) - len(done)
    if missing:
        out.append(f"{missing} of {len(curve.points)} points are not measured")
    if any(point.fit and not point.stable for point in done):
        out.append(
            "unstable: more came than were answered, so latencies and goodput grow with the duration and are "
            "not quoted. Output tokens/s there are what the server can do at most."
        )
    if any(not point.fit and point.validity == "INVALID" and point.meets is None for point in done):
        out.append(
            "INVALID: this client was not fit to measure that point, which says nothing of the target."
        )
    return out
