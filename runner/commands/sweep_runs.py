"""The points of `sweep`, one after the other: each a bench of its own in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.options import say

if TYPE_CHECKING:
    from reports.summary import Summary
    from runner.bench import Aim
    from runner.commands.sweep_setup import Plan
    from runner.sweep import Point, Sweep

_ENDS = {"circuit_breaker": "target_gone"}
_ADVICE = "Check that the server runs, --base-url, --model and the key."


class Points:
    """Runs a sweep to its end, or to where it makes no sense to go on; `sweep.ended_by` says which.

    Args:
        folder: of all runs.
        plan: the sweep, checked. It is kept on the disk after every run.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._sweep: Sweep = plan.sweep
        self._fits: dict[tuple[str | None, ...], Any] = {}  # by whom it was asked of
        self.summaries: dict[str, Summary] = {}  # of what ran, by directory

    def run(self) -> None:
        """Run what is left. Blocks.

        Raises:
            OSError, StoreError, ScenarioError, ...: a point's run cannot be made.
        """
        from runner.commands.ab_runs import import_what_summaries_need
        from runner.sweep import keep

        import_what_summaries_need()
        while (point := self._next()) is not None:
            self._announce(point)
            began = time.monotonic()
            asked_to_end: str | None = None
            try:
                if point.state != "running":  # else it was over when its process was killed
                    point.state = "running"
                    keep(self._folder, self._sweep)
                    asked_to_end = self._one(point)
                    point.wall_s = round(time.monotonic() - began, 3)
                if point.ended_by == "finished":
                    self._sum_up(point)
            finally:
                point.state = "done" if point.run in self.summaries else "cut"
            keep(self._folder, self._sweep)
            how = asked_to_end if point.state == "done" else point.ended_by
            if how is not None:
                self._sweep.ended_by = _ENDS.get(how, how)
                return
        self._sweep.ended_by = "finished"

    # -- which one

    def _next(self) -> Point | None:
        from runner.commands.sweep_setup import new_point
        from runner.search import Next, next_point
        from runner.sweep import Answer, history

        sweep = self._sweep
        left = next((point for point in sweep.points if point.state in {"planned", "running"}), None)
        if left is not None or sweep.until is None:
            return left
        step = next_point(history(sweep), self._plan.search)
        if not isinstance(step, Next):
            sweep.answer = msgspec.convert(msgspec.to_builtins(step), Answer)
            return None
        number = max((int(one.run.partition("-")[0]) for one in sweep.points), default=0) + 1
        value = int(step.value) if self._plan.search.whole else step.value
        point = new_point(sweep, number, {sweep.until.key: value})
        point.stage = step.stage
        sweep.points.append(point)
        return point

    def _announce(self, point: Point) -> None:
        from reports.sweep import shown
        from runner.commands.forecast_words import span

        sweep = self._sweep
        where = ", ".join(f"{key}={shown(value)}" for key, value in point.values.items())
        number = sweep.points.index(point) + 1
        if sweep.until is not None:
            stage = {"bracket": "doubling", "bisect": "halving the bracket", "confirm": "once more"}
            say(f"point {number}: {where} ({stage[point.stage or 'bracket']})")
            return
        left = [one for one in sweep.points if one.state == "planned"]
        took = [one.wall_s for one in sweep.points if one.wall_s is not None]
        more = f", about {span(sum(took) / len(took) * len(left))} left" if took else ""
        say(f"point {number} of {len(sweep.points)}: {where}{more}")

    # -- one run

    def _one(self, point: Point) -> str | None:
        """Run it. Returns how it was asked to end all, where it was."""
        from runner.bench import run_bench
        from runner.commands.bench_ending import close

        aim, whom = self._aim(point)
        settings = self._plan.settings
        aim.proven = whom in self._fits
        if aim.proven:  # no need to wait for it again
            settings = msgspec.structs.replace(settings, wait_ready=False)
        try:
            outcome = run_bench([aim], self._plan.redact, settings, fit=self._fits.get(whom))
        finally:
            point.ended_by = aim.opened.session.ended_by or "error"
            close(aim)
        session = aim.opened.session
        if session.counts.get("ok"):
            self._fits[whom] = outcome.fit
        if point.ended_by == "circuit_breaker":
            say(f"streamgauge: {point.run}: the target is gone: {session.reason}. {_ADVICE}")
        elif point.ended_by in {"disk_full", "error", "worker_lost"}:
            say(f"streamgauge: {point.run} ended early: {session.reason or 'an error'}")
        return outcome.asked_to_end

    def _aim(self, point: Point) -> tuple[Aim, tuple[str | None, ...]]:
        from runner.commands.bench_setup import open_aim
        from runner.commands.sweep_setup import changes_of, check_point

        checked = check_point(self._plan, changes_of(self._plan, point))
        tags = {**dict(self._plan.given["tags"]), "point": point.run.partition("-")[0]}
        aim = open_aim(checked, self._folder / point.run, self._plan.settings, tags, point.salt)
        target = checked.scenario.target
        return aim, (target.base_url, target.model, target.api)

    def _sum_up(self, point: Point) -> None:
        """Its numbers, kept beside its records, and a line about them."""
        from reports.metrics import summarize
        from reports.sweep import Planned, point_of, standing
        from reports.sweep_tables import line
        from runner.commands.bench_ending import judge_answers
        from runner.commands.report import refresh

        run = self._folder / point.run
        judge_answers(run)
        summary = summarize(run)
        refresh(run, summary)
        self.summaries[point.run] = summary
        held = standing(summary)
        point.validity = summary.bench.validity.level if summary.bench is not None else None
        point.meets, point.why = held.meets, held.why
        say(f"{point.run}: {line(point_of(Planned(run=point.run, values=point.values, summary=summary)))}")
