"""How `ab` judges: its limits, checked before anything is sent, and the verdict on the pairs at its end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from runner.commands.judged import put_comparison, put_files, put_page
from runner.commands.options import plural, say, show

if TYPE_CHECKING:
    from reports.compare import Compared
    from reports.comparison import Comparison
    from runner.ab import Ab
    from runner.commands.ab_setup import Sides

_TOLD = {
    "interrupted": "interrupted: the verdict is on the pairs that were complete by then",
    "terminated": "stopped by SIGTERM: the verdict is on the pairs that were complete by then",
    "disk_full": "stopped: the disk is full; the verdict is on the pairs that were complete by then",
    "target_gone": "ended early, because a target was gone",
    "too_few_valid": "ended early: too many runs are INVALID for three valid pairs to come",
}


class GateError(ValueError):
    """Limits that cannot be used. The text says what to do."""


class Gate(msgspec.Struct, kw_only=True):
    """What the pairs are held to, and where the verdict goes."""

    max_regression: dict[str, float]
    max_added_ms: dict[str, float]
    metrics: list[str] | None
    on_inconclusive: Literal["fail", "pass"] | None
    markdown: Path | None
    junit: Path | None
    html: bool
    as_json: bool


def gate_of(given: dict[str, Any]) -> Gate:
    """What the command line asks for.

    Raises:
        GateError: it cannot be judged.
    """
    from reports.comparison import CompareError
    from reports.gates import gates, max_added, max_regressions

    metrics = list(given["metrics"]) or None
    try:
        relative, added = max_regressions(given["max_regression"]), max_added(given["max_added"])
        gates(metrics, relative, added)
    except CompareError as exc:
        raise GateError(str(exc)) from None
    return Gate(
        max_regression=relative,
        max_added_ms=added,
        metrics=metrics,
        on_inconclusive=given["on_inconclusive"],
        markdown=given["markdown"],
        junit=given["junit"],
        html=given["html"],
        as_json=given["as_json"],
    )


def check_measurable(gate: Gate, ab: Ab, sides: Sides) -> None:
    """Refuse what no run could measure, before any is made.

    Raises:
        GateError: a metric was named that the runs will not have.
    """
    from reports.gates import gates
    from reports.intervals import reliable
    from reports.summary import POOLED
    from runner.commands.ab_plan import forecast_of

    asked = [one for one in gates(gate.metrics, gate.max_regression, gate.max_added_ms) if one.asked]
    scenarios = [side.scenario for side in sides.checked.values()]
    if any(one.metric == "goodput" for one in asked) and not all(one.slo for one in scenarios):
        raise GateError("goodput is judged, and no [slo] says what is good. Set one: --set slo.ttft=1s")
    tails = [one for one in asked if one.p not in {None, 50} and one.metric not in POOLED]
    if not tails or any(one.prompts.multi_turn for one in scenarios):
        return
    planned = forecast_of(ab, sides)
    counts = [one.requests - (one.warmup or 0) for one in (planned.a, planned.b) if one.requests is not None]
    for tail in tails:
        least = reliable(tail.p or 50)
        if counts and min(counts) < least:
            raise GateError(
                f"{tail.name} takes {least:,} answers a run, and a run asks for {min(counts):,}. "
                f"Ask for more (-n {least}), or judge a lower percentile"
            )


def judges_failures(gate: Gate) -> bool:
    """Whether one of the metrics counts failures."""
    from reports.gates import gates

    asked = gates(gate.metrics, gate.max_regression, gate.max_added_ms)
    return any(one.scale == "share" for one in asked)


def finish(folder: Path, ab: Ab, sides: Sides, gate: Gate) -> int:
    """Judge the complete pairs, print and write the verdict; return the exit code.

    Raises:
        OSError: a file could not be written.
    """
    from reports.comparison import CompareError
    from runner.ab import complete
    from runner.store import StoreError

    if ab.ended_by in _TOLD:
        say(f"streamgauge: {_TOLD[ab.ended_by]}")
    pairs = complete(ab.runs)
    if not pairs:
        say("streamgauge: INVALID: no pair is complete, so there is nothing to judge")
        _write_nothing(folder, ab, gate)
        return _code(ab, 97)
    try:
        found = _compared(folder, ab, sides, gate, pairs)
    except (CompareError, StoreError) as exc:
        say(f"streamgauge: the runs are kept in {folder}, but they could not be compared: {exc}")
        return _code(ab, 1)
    _write(found, folder, gate)
    return _code(ab, _judged(found.comparison, gate))


def _compared(folder: Path, ab: Ab, sides: Sides, gate: Gate, pairs: list[int]) -> Compared:
    from reports.compare import compared
    from runner.commands.ab_setup import declared_fields

    base, new = (
        [folder / slot.run for pair in pairs for slot in ab.runs if (slot.pair, slot.side) == (pair, side)]
        for side in ("a", "b")
    )
    say(f"comparing {plural(len(pairs), 'pair')}")
    return compared(
        base,
        new,
        max_regression=gate.max_regression,
        max_added_ms=gate.max_added_ms,
        metrics=gate.metrics,
        paired=True,
        declared=declared_fields(sides.declared),
    )


def _judged(found: Comparison, gate: Gate) -> int:
    from reports.comparison import exit_code

    return exit_code(found, gate.on_inconclusive)


def _code(ab: Ab, judged: int) -> int:
    """The exit code: how it ended, and what was found."""
    # As for `bench`: what there is is judged; where that passes, it did not go to its end still.
    early = {"target_gone": 1, "terminated": 75, "disk_full": 75}
    if ab.ended_by in early:
        return judged or early[ab.ended_by]
    if ab.ended_by in {"finished", "too_few_valid"}:
        return judged
    return 130 if ab.ended_by == "interrupted" else 1


# -- where it goes


def _write(found: Compared, folder: Path, gate: Gate) -> None:
    from reports.comparison_formats import RENDERERS

    put_comparison(found.comparison, "ab", _files(gate))
    if gate.html:
        from reports.comparison_html import FILE

        put_page(found, "ab", folder / FILE)
    if not show(RENDERERS["json" if gate.as_json else "text"](found.comparison)):
        raise OSError(errno.EIO, "the verdict could not be shown")


def _write_nothing(folder: Path, ab: Ab, gate: Gate) -> None:
    """Without a complete pair: a summary that is read still says why there is none."""
    from reports.markdown import escape
    from reports.verdicts import VALIDITY, Row, Sheet

    words = f"no pair of runs is complete: {ab.reason or 'the log says why'}"
    sheet = Sheet(title=f"ab: {folder}", rows=[Row(name=VALIDITY, verdict="INVALID", words=words)])
    put_files([sheet], f"## INVALID: {escape(words)}\n", _files(gate))


def _files(gate: Gate) -> dict[str, Any]:
    return {"junit": gate.junit, "markdown": gate.markdown, "on_inconclusive": gate.on_inconclusive}
