"""What `sweep` does before anything is sent: its points, checked; its folder, made or gone on with."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.options import plural
from runner.commands.salt import is_salted, salt_notes

if TYPE_CHECKING:
    from runner.commands.bench_setup import Checked
    from runner.search import Search
    from runner.sweep import Point, Sweep, Until
    from scenarios.axes import Axis
    from scenarios.changes import Change
    from scenarios.scenario import Scenario

_BY = {"rate": ("load", "rate"), "concurrency": ("load", "concurrency")}
_FIRST, _MOST = 1.0, 1024.0
_LEAST_TOLERANCE, _MOST_TOLERANCE = 0.005, 1.0


class SweepError(ValueError):
    """What is wrong with a sweep as such. Its text says what to do."""


class Plan(msgspec.Struct):
    """A sweep that can go: whatever can be wrong was looked for."""

    given: dict[str, Any]
    settings: Any  # runner.drive.Settings
    redact: Any  # runner.redact.Redactor
    sweep: Any  # runner.sweep.Sweep
    search: Any  # runner.search.Search, where one searches
    thresholds: dict[str, list[str]]  # what a search is for, beside the scenario's own
    notes: list[str]


def make_plan(given: dict[str, Any]) -> Plan:
    """Everything that can be wrong is found here; nothing is sent or written.

    Raises:
        ScenarioError, StoreError, PromptError, TargetError, PriceError, SweepError: with what to do.
    """
    from runner.commands.bench_notes import notes_on
    from runner.commands.bench_setup import settings_of, withheld_key
    from runner.redact import Redactor
    from runner.rundir import now_text
    from runner.sweep import Sweep
    from scenarios.axes import parse_over

    given = {**given, "targets": None}
    if bool(given["over"]) == bool(given["until"]):
        said = "--over and --until are both given" if given["over"] else "--over or --until is missing"
        raise SweepError(f"{said}: sweep over values, or search for the highest load")
    plan = Plan(given, settings_of(given), None, None, None, until_of(given["until"]), [])
    axes = [parse_over(text) for text in given["over"]]
    _keep_secrets(given, axes)
    until = None if axes else _until(plan)
    if until is not None:
        plan.search = _search(until)
    ends = _changes_of(axes, until)
    checked = [check_point(plan, changes) for changes in ends]
    first = checked[0]
    salted = is_salted(given["salt"], first)
    plan.redact = Redactor(sorted({secret for one in checked for secret in one.secrets}))
    plan.notes += [*notes_on(first, plan.settings), *salt_notes(given["salt"], "point", first)]
    plan.notes += [note for note in (withheld_key(first.target, ""),) if note is not None]
    plan.sweep = Sweep(
        created=now_text(),
        updated=now_text(),
        scenario=first.scenario.name,
        mode="until" if until is not None else "over",
        over=_told(axes),
        until=until,
        settings=_fingerprint(plan, first, axes),
        salt=secrets.token_hex(4) if salted else None,
    )
    plan.sweep.points = [] if until is not None else _planned(plan.sweep, ends)
    # As it reads when it comes back from the disk, so that both can be compared.
    plan.sweep = msgspec.json.decode(msgspec.json.encode(plan.sweep), type=Sweep)
    return plan


def _keep_secrets(given: dict[str, Any], axes: list[Axis]) -> None:
    """What is for one host must not go to all of them."""
    if not any("target.base_url" in axis.names for axis in axes):
        return
    flags = ("api_key", "api_key_env", "api_key_file", "headers")
    for name in flags:
        if given[name]:
            flag = f"--{name.replace('_', '-').removesuffix('s')}"
            raise SweepError(
                f"{flag} would go to every host of --over target.base_url: pair hosts with their keys, as in "
                '--over \'target.base_url:target.api_key_env="http://a:8000/v1":KEY_A,"http://b:8000/v1":KEY_B\''
            )


def check_point(plan: Plan, changes: Iterable[Change]) -> Checked:
    """A point's target and load.

    Raises:
        ScenarioError, PromptError, TargetError, PriceError: with what to do.
    """
    from runner.commands.bench_setup import check_targets, scenario_of
    from runner.replay import trace_rows
    from scenarios.warm_up import with_warm_up

    def tell(text: str) -> None:
        if text not in plan.notes:
            plan.notes.append(text)

    scenario = scenario_of(plan.given, tell, changes)
    for metric, texts in plan.thresholds.items():
        own = scenario.thresholds.get(metric, [])
        scenario.thresholds = {**scenario.thresholds, metric: [*own, *(t for t in texts if t not in own)]}
    scenario.load = with_warm_up(scenario.load, len(trace_rows(scenario) or ()))
    (checked,) = check_targets(scenario, plan.given, plan.settings)
    return checked


def changes_of(plan: Plan, point: Point) -> Sequence[Change]:
    """What a point sets in the scenario."""
    from scenarios.axes import grid, load_change, parse_over

    sweep: Sweep = plan.sweep
    if sweep.until is not None:
        key = sweep.until.key
        return load_change(_BY[key.rpartition(".")[2]], float(point.values[key]), "--until")
    found = grid([parse_over(text) for text in plan.given["over"]])
    return found[sweep.points.index(point)]


# -- a search


def until_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """What is searched for, as a scenario keeps thresholds.

    Raises:
        SweepError: one of them cannot be judged.
    """
    from scenarios.thresholds import ThresholdError, parse_line

    found: dict[str, list[str]] = {}
    for text in texts:
        try:
            threshold = parse_line(text)
        except ThresholdError as exc:
            raise SweepError(f"--until: {exc}") from None
        found.setdefault(threshold.name, []).append(threshold.text)
    return found


def _until(plan: Plan) -> Until:
    from runner.sweep import Until
    from scenarios.shape import dotted

    given = plan.given
    by = _key(given)
    first, most = given["first"] or _FIRST, given["most"] or max(_MOST, given["first"] or 0)
    if by[-1] == "concurrency":
        for name, value in (("--from", first), ("--to", most)):
            if value != int(value):
                raise SweepError(f"{name} is {value:g}: a whole number, of requests at once")
    if most < first:
        raise SweepError(f"--to {most:g} is below --from {first:g}")
    return Until(
        key=dotted(by),
        thresholds=[str(text) for text in given["until"]],
        first=first,
        most=most,
        tolerance=tolerance_of(given["tolerance"]),
        confirm=given["confirm"],
    )


def tolerance_of(text: str) -> float:
    """`5%` or `0.05` as a share.

    Raises:
        SweepError: it is none, or none that makes sense.
    """
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not _LEAST_TOLERANCE <= value <= _MOST_TOLERANCE:
        raise SweepError(f"--tolerance {text!r} is no share from 0.5% to 100%, as in 5%")
    return value


def _search(until: Until) -> Search:
    from runner.search import Search

    whole = until.key == "load.concurrency"
    return Search(
        first=until.first, most=until.most, tolerance=until.tolerance, whole=whole, confirm=until.confirm
    )


def _key(given: dict[str, Any]) -> tuple[str, str]:
    """What is searched: as `--by` says, or as the scenario's load is."""
    if given["by"] is not None:
        return _BY[given["by"]]
    if given["scenario"] is None and given["concurrency"] is None:
        return _BY["rate"]
    load = _base(given).load
    if load.executor == "constant-arrival-rate":
        return _BY["rate"]
    if load.executor == "constant-concurrency":
        return _BY["concurrency"]
    raise SweepError(
        f"the load is {load.executor}, which has no one rate to search: give --by rate or --by concurrency"
    )


def _base(given: dict[str, Any]) -> Scenario:
    from runner.commands.bench_setup import scenario_of

    return scenario_of(given, lambda _: None)


# -- points


def _changes_of(axes: list[Axis], until: Until | None) -> list[tuple[Change, ...]]:
    """Of a grid: all points. Of a search: its two ends, between which all others lie."""
    from scenarios.axes import grid, load_change

    if until is None:
        return grid(axes)
    key = _BY[until.key.rpartition(".")[2]]
    return [load_change(key, until.first, "--from"), load_change(key, until.most, "--to")]


def _planned(sweep: Sweep, ends: list[tuple[Change, ...]]) -> list[Point]:
    from scenarios.axes import values_of

    return [new_point(sweep, number, values_of(changes), len(ends)) for number, changes in enumerate(ends, 1)]


def new_point(sweep: Sweep, number: int, values: dict[str, Any], of: int = 0) -> Point:
    """A point that is to come."""
    from runner.sweep import Point, point_name

    run = point_name(number, values, max(2, len(str(of))))
    return Point(run=run, values=values, salt=None if sweep.salt is None else f"{sweep.salt}/{run}")


def _told(axes: list[Axis]) -> list[Any]:
    from runner.sweep import Over

    return [
        Over(keys=list(axis.names), values=[[change.value for change in point] for point in axis.points])
        for axis in axes
    ]


_NOT_COMPARED = {"prompts.file", "prompts.tokenizer", "description"}


def _fingerprint(plan: Plan, first: Checked, axes: list[Axis]) -> dict[str, Any]:
    """What all points share and no resume may change."""
    from runner.sweep import settings_of

    scenario = msgspec.to_builtins(first.scenario)
    swept = {name for axis in axes for name in axis.names}
    if plan.search is not None:
        swept.add("load.rate" if not plan.search.whole else "load.concurrency")
    told = first.workload.describe()
    settings = plan.settings
    limits = {
        "timeouts_s": msgspec.to_builtins(settings.timeouts),
        "include_usage": settings.include_usage,
        "proxy": plan.given["proxy"] is not None,
        "salted": is_salted(plan.given["salt"], first),
        "file_sha256": told.sha256,
        "tags": dict(plan.given["tags"]),
    }
    return settings_of({**scenario, **limits}, swept | _NOT_COMPARED)


# -- the folder


def open_folder(plan: Plan) -> Path:
    """Make the sweep's folder, or find the one to go on with.

    Raises:
        StoreError: there is something else, or a sweep with other settings.
    """
    from runner.benchdir import bench_place
    from runner.rundir import set_aside
    from runner.sweep import SWEEP, check_free, held, keep

    given = plan.given
    name = f"{plan.sweep.scenario}-sweep"
    folder = bench_place(name, given["output"])
    if given["resume"] and given["output"] is None:
        folder = _latest(name)
    if given["fresh"] and folder.is_dir() and any(folder.iterdir()):
        with held(folder):  # a sweep that still runs there would go on in the new one
            pass
        set_aside(folder)
    if (folder / SWEEP).exists():
        return folder
    if given["resume"]:
        raise SweepError(f"--resume: {folder} holds no sweep. Leave --resume out to begin one there.")
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder, plan.sweep)
    return folder


def _latest(name: str) -> Path:
    from runner.store import RUNS
    from runner.sweep import SWEEP

    found = sorted(place for place in RUNS.glob(f"{name}-*") if (place / SWEEP).exists())
    if not found:
        raise SweepError(f"--resume: there is no sweep {RUNS / name}-* to go on with. Name it with -o.")
    return found[-1]


def go_on(plan: Plan, folder: Path) -> list[str]:
    """Take up the sweep of a folder: what is finished stays, what is half made is set aside. Returns notes.

    Raises:
        SweepError: its settings are others.
    """
    from runner.sweep import changed, keep, load

    old = load(folder)
    differ = changed(old, plan.sweep)
    if differ:
        raise SweepError(
            f"{folder} is a sweep with other settings: {', '.join(differ)} changed. Choose another folder "
            "with -o, or --fresh, which renames the one that is there."
        )
    plan.sweep = old
    notes = _set_half_made_aside(plan, folder)
    done = sum(point.state == "done" for point in old.points)
    if done:
        of = f"{done} of {plural(len(old.points), 'point')}" if old.mode == "over" else plural(done, "point")
        notes.insert(0, f"resumed: {of} {'is' if done == 1 else 'are'} finished")
    old.ended_by = old.exit_code = old.answer = None
    keep(folder, old)
    return notes


def _set_half_made_aside(plan: Plan, folder: Path) -> list[str]:
    from runner.rundir import set_aside
    from runner.sweep import ended_by

    sweep, notes = plan.sweep, []
    for point in list(sweep.points):
        run = folder / point.run
        again = plan.given["redo_invalid"] and point.validity == "INVALID"
        if point.state == "done" and not again:
            continue
        if point.state in {"running", "cut"} and ended_by(run) == "finished":
            # Its process ended after its last record: only its summary is missing.
            point.state, point.ended_by = "running", "finished"
            continue
        if run.exists():
            why = "INVALID" if again else "not finished"
            notes.append(f"{point.run} is {why} and now {set_aside(run)}: it is run again")
        if sweep.mode == "until":
            sweep.points.remove(point)
            continue
        place = sweep.points.index(point)
        sweep.points[place] = type(point)(run=point.run, values=point.values, salt=point.salt)
    return notes


def describe(plan: Plan) -> str:
    """What will be done, in one line."""
    sweep: Sweep = plan.sweep
    if sweep.until is None:
        keys = " x ".join(":".join(axis.keys) for axis in sweep.over)
        return f"{plural(len(sweep.points), 'point')} over {keys}"
    found = sweep.until
    return (
        f"searching {found.key} from {found.first:g} to {found.most:g} for the highest that meets "
        f"{', '.join(found.thresholds)}, within {found.tolerance * 100:.3g} %"
    )
