"""What became of a load, for the manifest: of one process, or of several workers as one.

Counts add up. What is the worst of one worker stays the worst: percentiles are never averaged. No more than
this is joined here: times and throughputs are of the records, and those are read as one journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runner.course import Course
from runner.drive import LoadEnd
from runner.store import EndedBy

_SUMS = (
    *("started", "unwritten", "scheduled", "scheduled_warmup", "sent", "sent_warmup", "arrived"),
    *("unsent_wait_s", "held", "peak_in_flight"),
)


def joined(ends: Sequence[LoadEnd], first: EndedBy | None = None) -> LoadEnd:
    """The ends of a load's parts as that of the whole.

    The steady window is the time in which every part had its own. The peak in flight is the sum of the parts'
    peaks, and so the most it can have been: they need not have come at one moment.

    Args:
        ends: of each part.
        first: how the first part that ended early did.
    """
    begins, stops = zip(*(end.steady for end in ends), strict=True)
    early = {end.ended_by for end in ends} - {"finished"}
    how: EndedBy = "finished"
    if early:
        how = next((by for by in ("interrupted", first) if by in early), sorted(early)[0])
    return LoadEnd(
        ended_by=how,
        reason=next((end.reason for end in ends if end.ended_by == how and end.reason), None),
        status=dict(sum((Counter(end.status) for end in ends), Counter())),
        was_full=any(end.was_full for end in ends),
        steady=_common(begins, stops),
        unsafe=next((end.unsafe for end in ends if end.unsafe), None),
        **{name: sum(getattr(end, name) for end in ends) for name in _SUMS},
    )


def _common(begins: Sequence[int | None], stops: Sequence[int | None]) -> tuple[int | None, int | None]:
    known = [at for at in begins if at is not None], [at for at in stops if at is not None]
    if len(known[0]) < len(begins) or len(known[1]) < len(stops):
        return None, None
    begin, stop = max(known[0]), min(known[1])
    return (begin, stop) if stop > begin else (None, None)


def told(end: LoadEnd, course: Course, began_at: int, anchor_ns: int) -> dict[str, Any]:
    """What became of a load, for the manifest. Instants are since the session's anchor.

    Args:
        end: of the whole load.
        course: the same.
        began_at: the instant it started at.
        anchor_ns: of the session.
    """
    schedule = course.schedule

    def since_anchor(at: int | None) -> int | None:
        return None if at is None else at - anchor_ns

    out: dict[str, Any] = {
        "executor": course.executor,
        "scheduled": end.scheduled,
        "scheduled_warmup": end.scheduled_warmup,
        "sent": end.sent,
        "sent_warmup": end.sent_warmup,
        "arrived": end.arrived,
        "unsent": end.scheduled - end.arrived,
        "unsent_wait_s": round(end.unsent_wait_s, 6),
        "held": end.held,
        "was_full": end.was_full,
        "mean_gap_ms": None if schedule is None or not schedule.mean_gap_ns else schedule.mean_gap_ns / 1e6,
        "steady_begin_ns": since_anchor(end.steady[0]),
        "steady_end_ns": since_anchor(end.steady[1]),
        "max_in_flight": course.max_in_flight,
        "concurrency": max((places for _, places in course.places), default=None),
        "peak_in_flight": end.peak_in_flight,
    }
    if schedule is not None:
        out["schedule_begin_ns"] = since_anchor(began_at + schedule.begin_ns)
        out["schedule_end_ns"] = since_anchor(began_at + schedule.end_ns)
    return out
