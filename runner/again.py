"""Which rows of a run are sent again on request, though they are done or have failed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from runner.store import FAILED, OK, Index, Session, read_blocks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Again(msgspec.Struct, frozen=True):
    """What is sent again beyond what has no answer yet."""

    retry_failed: bool = False  # what failed for good
    kinds: frozenset[str] = frozenset()  # of it, only errors of these kinds; empty: all
    redo: frozenset[str] = frozenset()  # good answers with these finish reasons (`none`: without one)

    def told(self) -> dict[str, Any]:
        """The same as a session's options keep it: what was asked for, and nothing else."""
        told = {"retry_failed": self.retry_failed, "kinds": sorted(self.kinds), "redo": sorted(self.redo)}
        return {name: value for name, value in told.items() if value}


class _Ending(msgspec.Struct):
    """What decides whether a settled request is sent again after all."""

    finish_reason: Any = None
    error: Any = None


def wanted_again(index: Index, again: Again, sessions: list[Session]) -> npt.NDArray[np.bool_]:
    """Which winning records the user wants sent again, though they are done or failed for good.

    Args:
        index: of the journal.
        again: what was asked for.
        sessions: those before this one.
    """
    import numpy as np

    failed = (index.state == FAILED) if again.retry_failed else np.zeros(len(index), dtype=bool)
    if not again.kinds and not again.redo:
        return failed
    # What the same --redo has asked already, before it was stopped, is not paid for twice.
    redone = np.isin(index.session, _unfinished(again, sessions))
    out = np.zeros(len(index), dtype=bool)
    place = 0
    for block in read_blocks(index, _Ending):
        for ending in block:
            if failed[place]:
                kind = ending.error.get("kind") if isinstance(ending.error, dict) else None
                out[place] = not again.kinds or kind in again.kinds
            elif index.state[place] == OK and not redone[place]:
                out[place] = (ending.finish_reason or "none") in again.redo
            place += 1
    return out


def _unfinished(again: Again, sessions: list[Session]) -> list[int]:
    """The sessions of the same --redo since the last one that came to its end."""
    out = []
    for session in reversed(sessions):
        if session.options.get("redo") == sorted(again.redo):
            if session.ended_by == "finished":
                break
            out.append(session.number)
    return out
