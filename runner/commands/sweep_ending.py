"""How `sweep` ends: its curve, what a search found, the exit code. `report DIR` makes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.commands.options import plural, say, show, stop

if TYPE_CHECKING:
    from reports.summary import Summary
    from reports.sweep import Answer, Curve
    from runner.sweep import Sweep

_TOLD = {
    "interrupted": "interrupted: what is below is of the points that were finished by then",
    "terminated": "stopped by SIGTERM: what is below is of the points that were finished by then",
    "disk_full": "stopped: the disk is full; what is below is of the points that were finished by then",
    "target_gone": "ended early, because the target was gone",
    "error": "ended early, because of an error",
}
_UNITS = {"load.rate": "requests/s", "load.concurrency": "requests at once"}
_INVALID, _FAIL, _INCONCLUSIVE = 97, 99, 98
_EARLY = {"interrupted": 130, "target_gone": 1, "terminated": 75, "disk_full": 75}


def finish(folder: Path, sweep: Sweep, summaries: Mapping[str, Summary], given: dict[str, Any]) -> int:
    """Print the curve, write the files that were asked for; return the exit code."""
    from reports.sweep_formats import RENDERERS
    from runner.commands.report import SWEEP_PAGE, write_file

    if sweep.ended_by in _TOLD:
        say(f"streamgauge: {_TOLD[sweep.ended_by]}")
    curve = curve_of_folder(folder, sweep, summaries)
    files = {"markdown": given["markdown"], "html": folder / SWEEP_PAGE if given["html"] else None}
    for form, path in files.items():
        if path is None:
            continue
        try:
            write_file(path, RENDERERS[form](curve))
        except OSError as exc:
            stop(f"cannot write {path}: {exc.strerror or exc}", 1)
    shown = show(RENDERERS[given["form"]](curve))
    if given["html"]:
        say(f"report: {folder / SWEEP_PAGE}")
    if sweep.ended_by != "finished":
        say(f"the same command with -o {folder} goes on from here")
    return code_of(sweep) if shown else 1


def curve_of_folder(folder: Path, sweep: Sweep, summaries: Mapping[str, Summary] | None = None) -> Curve:
    """The curve of a sweep's folder.

    Args:
        folder: of all runs.
        sweep: its file.
        summaries: of runs that were summed up already.

    Raises:
        StoreError: a run cannot be read.
    """
    from reports.metrics import summarize
    from reports.sweep import Planned, curve_of
    from runner.commands.report import refresh, shown

    known = dict(summaries or {})
    for point in sweep.points:
        if point.state == "done" and point.run not in known:
            known[point.run] = summarize(folder / point.run)
            refresh(folder / point.run, known[point.run])
    planned = [
        Planned(
            run=point.run,
            values=point.values,
            stage=point.stage,
            state=point.state,
            summary=known.get(point.run),
        )
        for point in sweep.points
    ]
    keys = [sweep.until.key] if sweep.until is not None else [key for axis in sweep.over for key in axis.keys]
    return curve_of(
        planned,
        path=str(shown(folder)),
        scenario=sweep.scenario,
        mode=sweep.mode,
        keys=keys,
        answer=answer_of(sweep),
        ended_by=sweep.ended_by,
    )


def code_of(sweep: Sweep) -> int:
    """The exit code: what was found, or how it ended."""
    if sweep.ended_by == "finished":
        return _searched(sweep) if sweep.mode == "until" else _swept(sweep)
    return _EARLY.get(sweep.ended_by or "", 1)


def _swept(sweep: Sweep) -> int:
    """A curve was made: 0, unless there is no point in it that was measured."""
    return _INVALID if all(point.validity == "INVALID" for point in sweep.points) else 0


def _is_unfit(validity: str | None, meets: bool | None) -> bool:
    return validity == "INVALID" and meets is None


def _searched(sweep: Sweep) -> int:
    answer = sweep.answer
    if answer is None:
        return 1
    if answer.outcome == "unknown":
        return _INVALID if _unknown_is_invalid(sweep) else _INCONCLUSIVE
    return _FAIL if answer.outcome == "fails_at_lowest" else 0


def _unknown_is_invalid(sweep: Sweep) -> bool:
    return any(_is_unfit(point.validity, point.meets) for point in _unknown(sweep))


def _unknown(sweep: Sweep) -> list[Any]:
    assert sweep.until is not None
    assert sweep.answer is not None
    return [
        point
        for point in sweep.points
        if point.state == "done"
        and point.meets is None
        and point.values[sweep.until.key] == sweep.answer.unknown
    ]


def answer_of(sweep: Sweep) -> Answer | None:
    """What a search found, in words; of one that is not over, how far it is."""
    from reports.sweep import Answer

    until = sweep.until
    if until is None:
        return None
    found = sweep.answer
    if found is None:
        return Answer(key=until.key, outcome="unfinished", best=None, fails=None, words=_unfinished(sweep))
    return Answer(
        key=until.key, outcome=found.outcome, best=found.best, fails=found.fails, words=_words(sweep)
    )


def _unfinished(sweep: Sweep) -> str:
    assert sweep.until is not None
    key = sweep.until.key
    met = [point.values[key] for point in sweep.points if point.state == "done" and point.meets]
    so_far = f"; the highest that met it so far is {_amount(sweep, max(met))}" if met else ""
    return f"the search is not over{so_far}"


def _amount(sweep: Sweep, value: float) -> str:
    assert sweep.until is not None
    return f"{value:.6g} {_UNITS[sweep.until.key]}"


def _words(sweep: Sweep) -> str:
    until, found = sweep.until, sweep.answer
    assert until is not None
    assert found is not None
    slo = ", ".join(until.thresholds)
    if found.outcome == "unknown":
        return _unknown_words(sweep, slo)
    fails = "" if found.fails is None else _amount(sweep, found.fails)
    if found.outcome == "fails_at_lowest":
        runs = f" in {plural(found.fails_runs - found.fails_met, 'run')} of {found.fails_runs}"
        return (
            f"{slo} is not met at the lowest: {fails} fails{runs}, and nothing below it was tried "
            f"(--from {until.first:g})"
        )
    best = _amount(sweep, found.best or 0.0)
    held = f"{best} is stable and meets {slo}, in {plural(found.best_runs, 'run')} of {found.best_runs}"
    if found.outcome == "never_fails":
        return f"{held}; it never failed up to --to {until.most:g}, so the limit lies higher"
    unsteady = f" (in {found.fails_met} of them it did: the limit is not sharp)" if found.fails_met else ""
    return (
        f"{held}; {fails} does not, in {plural(found.fails_runs, 'run')}{unsteady}. "
        f"Tolerance {until.tolerance * 100:g} %"
    )


def _unknown_words(sweep: Sweep, slo: str) -> str:
    found = sweep.answer
    assert found is not None
    why = next((point.why for point in _unknown(sweep) if point.why), "it could not be judged")
    what = f"the search ended at {_amount(sweep, found.unknown or 0.0)}, of which nobody can tell: {why}"
    if found.best is None:
        return f"{slo}: {what}"
    return f"{slo} is met at {_amount(sweep, found.best)} at least; {what}"
