"""The runs of `ab`, one after the other: each a bench of its own in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.options import say

if TYPE_CHECKING:
    from reports.summary import Summary
    from runner.ab import Ab, Slot
    from runner.bench import Aim
    from runner.commands.ab_setup import Sides

_ADVICE = {
    "a": "Check that the server of side a runs, --base-url, --model and the key (--api-key-env).",
    "b": "Check that the server of side b runs, --base-url-b, --model-b and the key (--api-key-env-b).",
}
_OVER = {"finished", "worker_lost"}  # a run without a worker is INVALID: it costs its pair, not the others
_ENDS = {"interrupted": "interrupted", "terminated": "terminated", "circuit_breaker": "target_gone"}


class Turns:
    """Runs a plan to its end, or to where it makes no sense to go on; `ab.ended_by` says which.

    Args:
        folder: of all runs.
        ab: the plan. It is kept on the disk after every run.
        sides: both of them, checked.
        tags: of every run.
        judges_failures: a side b that fails everything can be judged by that.
    """

    def __init__(
        self, folder: Path, ab: Ab, sides: Sides, tags: dict[str, str], *, judges_failures: bool = True
    ) -> None:
        from runner.ab import Progress

        self._judges_failures = judges_failures
        self._folder, self._ab, self._sides, self._tags = folder, ab, sides, tags
        self._fit: Any = None
        self._answered: set[str] = set()  # sides
        planned_s = {name: _planned_s(side.course) for name, side in sides.checked.items()}
        self._progress = Progress(ab.runs, planned_s)

    def run(self) -> None:
        """Run what is planned. Blocks.

        Raises:
            OSError, StoreError: a run directory cannot be made.
        """
        from runner.ab import can_reach, keep

        import_what_summaries_need()
        for slot in self._ab.runs:
            self._announce(slot)
            began = time.monotonic()
            slot.state = "running"
            keep(self._folder, self._ab)
            try:
                asked_to_end = self._one(slot)
            finally:
                slot.wall_s = round(time.monotonic() - began, 3)
                slot.state = "done" if slot.ended_by in _OVER else "cut"
                keep(self._folder, self._ab)
            if slot.ended_by not in _OVER:
                self._ab.ended_by = _ENDS.get(str(slot.ended_by), slot.ended_by)
                return
            if asked_to_end is not None:
                self._ab.ended_by = _ENDS[asked_to_end]
                return
            if not can_reach(self._ab.runs):
                self._ab.ended_by = "too_few_valid"
                return
        self._ab.ended_by = "finished"

    def _announce(self, slot: Slot) -> None:
        from runner.commands.forecast_words import span

        left_s = self._progress.left_s()
        left = "" if left_s is None else f", about {span(left_s)} left"
        target = self._ab.sides[slot.side].base_url
        say(f"pair {slot.pair} of {self._ab.pairs}, side {slot.side} ({target}){left}")

    def _one(self, slot: Slot) -> str | None:
        """Run one. Returns how it was asked to end all, where it was."""
        from runner.ab import completes_pair
        from runner.bench import run_bench
        from runner.commands.bench_ending import close

        aim = self._aim(slot)
        settings = self._sides.settings
        aim.proven = slot.side in self._answered
        if aim.proven:  # no need to wait for it again
            settings = msgspec.structs.replace(settings, wait_ready=False)
        patient = completes_pair(self._ab.runs, slot)
        try:
            outcome = run_bench([aim], self._sides.redact, settings, fit=self._fit, patient=patient)
        finally:
            slot.ended_by = aim.opened.session.ended_by or "error"
            close(aim)
        self._fit = outcome.fit
        if aim.opened.session.counts.get("ok"):
            self._answered.add(slot.side)
        self._tell(slot, aim)
        return outcome.asked_to_end

    def _aim(self, slot: Slot) -> Aim:
        from runner.commands.bench_setup import open_aim

        checked = self._sides.checked[slot.side]
        tags = {**self._tags, "pair": str(slot.pair), "side": slot.side}
        return open_aim(checked, self._folder / slot.run, self._sides.settings, tags, slot.salt)

    def _tell(self, slot: Slot, aim: Aim) -> None:
        """One line about a run that is over; more where it did not end as it should."""
        from reports.metrics import summarize
        from reports.validity import only_failed
        from runner.commands.bench_ending import judge_answers
        from runner.commands.report import refresh

        session = aim.opened.session
        if session.counts:  # else it never began
            judge_answers(aim.opened.path)
            summary = summarize(aim.opened.path)
            refresh(aim.opened.path, summary)
            slot.validity = summary.bench.validity.level if summary.bench is not None else None
            slot.only_failed = self._judges_failures and only_failed(summary)
            say(f"{slot.run}: {_words(summary)}")
        if slot.ended_by == "circuit_breaker":
            why = (session.reason or "nobody answers").rstrip(".")
            self._ab.reason = f"side {slot.side} is gone: {why}. {_ADVICE[slot.side]}"
        elif slot.ended_by in {"disk_full", "error"}:
            self._ab.reason = f"{slot.run} ended early: {session.reason or 'an error'}"
        if self._ab.reason is not None:
            say(f"streamgauge: {self._ab.reason}")


def import_what_summaries_need() -> None:
    """Before the first run, so that it finds the process as all others do."""
    import runner.bench
    import runner.commands.bench_ending
    import runner.commands.report  # noqa: F401


def _planned_s(course: Any) -> float | None:
    return None if course.end_ns is None else course.end_ns / 1e9


def _words(summary: Summary) -> str:
    """What a run was like, for who watches."""
    parts = []
    for name in ("ttft", "tpot", "e2e"):
        middle = summary.metrics[name].percentiles.get("p50") if name in summary.metrics else None
        if middle is not None:
            parts.append(f"{name} p50 {middle:,.1f} ms")
    requests = summary.requests
    if requests.ok + requests.error:
        parts.append(f"{requests.error:,} of {requests.ok + requests.error:,} failed")
    else:
        parts.append("nothing was measured")
    validity = summary.bench.validity if summary.bench is not None else None
    if validity is not None and validity.level != "OK":
        why = " ".join(one.words for one in validity.reasons if one.level == validity.level)
        parts.append(f"{validity.level}: {why}")
    return ", ".join(parts)
