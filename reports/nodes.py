"""Workers on other machines, as sessions tell of them: where, how well their clocks are known, and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from reports.cells import number, several
from runner.store import Session


class Node(Struct, kw_only=True):
    """One of them. Times of its records are on the session's clock, and off by `error_ms` at most."""

    session: int
    shard: int | None
    place: str
    offset_ms: float | None
    error_ms: float | None
    lost: str | None = None


def nodes_of(sessions: Sequence[Session]) -> list[Node]:
    """Those of all sessions. Anybody may have written a manifest: odd values count as absent."""
    return [_node(session.number, told) for session in sessions for told in session.nodes]


def _node(session: int, told: dict[str, Any]) -> Node:
    found = told.get("clock")
    clock: dict[str, Any] = found if isinstance(found, dict) else {}
    shard, place, lost = told.get("shard"), told.get("ip") or told.get("host"), told.get("lost")
    return Node(
        session=session,
        shard=shard if type(shard) is int else None,
        place=place if isinstance(place, str) else "unknown",
        offset_ms=_ms(clock.get("offset_ns")),
        error_ms=_ms(clock.get("error_ns")),
        lost=lost if isinstance(lost, str) else None,
    )


def _ms(value: Any) -> float | None:
    return value / 1e6 if type(value) in {int, float} else None


def node_notes(nodes: Sequence[Node]) -> list[str]:
    """What a reader has to know of times that come from several clocks, and of nodes that are gone."""
    if not nodes:
        return []
    errors = [node.error_ms for node in nodes]
    known = [error for error in errors if error is not None]
    places = list(dict.fromkeys(node.place for node in nodes))
    shown = ", ".join(places[:4]) + (", ..." if len(places) > 4 else "")
    if len(known) == len(errors):
        how = (
            f"their clocks are known to within {number(max(known))} ms, so times since a request was "
            "scheduled (ttft_sched, e2e_sched, delay) may be off by that; all others are of one clock each"
        )
    else:
        how = "nobody wrote how far their clocks are off: times since a request was scheduled mean nothing"
    out = [f"records came from {several(len(nodes), 'worker')} elsewhere ({shown}): {how}."]
    out += [
        f"worker {node.shard} {node.lost}; its open prompts went elsewhere." for node in nodes if node.lost
    ]
    return out
