"""What the earlier sessions of a run spent, for `--max-cost`: never less than they can have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from runner.prices import Prices, cost_of
from runner.store import Session, journal_files, lines


class _Model(Struct):
    model: str | None = None


class _Attempt(Struct):
    cost: float | None = None
    cost_bound: float | UnsetType = UNSET
    usage: dict[str, Any] | None = None
    usage_partial: dict[str, Any] | None = None


class _Paid(_Attempt):
    status: str = ""
    attempts: list[_Attempt] = []
    request: _Model | None = None


class Spent(Struct, frozen=True):
    """Earlier spending, in the currency of the prices."""

    amount: float = 0.0
    unknown: int = 0  # good answers of which nobody knows what they cost
    killed: float = 0.0  # of `amount`: what sessions that wrote no end had in flight, at most


def spent_before(run: Path, sessions: list[Session], prices: Prices) -> Spent:
    """Sum up every attempt of every line of the journal, superseded ones too.

    Args:
        run: the run directory.
        sessions: those before this one.
        prices: for answers of sessions that were given none.
    """
    decode = msgspec.json.Decoder(_Paid).decode
    amount, unknown = 0.0, 0
    for path in journal_files(run):
        for _, line in lines(path):
            try:
                paid = decode(line)
            except (msgspec.MsgspecError, RecursionError):
                continue  # a bad line: readers count and name them
            model = paid.request.model if paid.request is not None else None
            known = [_most(attempt, prices, model) for attempt in (paid, *paid.attempts)]
            amount += sum(cost for cost in known if cost is not None)
            unknown += paid.status == "ok" and known[0] is None
    open_ends = [s for s in sessions if s.ended_by is None or s.counts.get("unwritten")]
    killed = sum(s.reserved_cost or 0.0 for s in open_ends)
    asked = sum(s.gauge.get("ready", {}).get("cost_bound", 0.0) for s in sessions)  # by --wait-ready
    return Spent(amount + killed + asked, unknown, killed)


def _most(attempt: _Attempt, prices: Prices, model: str | None) -> float | None:
    if not isinstance(attempt.cost_bound, UnsetType):
        return attempt.cost_bound
    if attempt.cost is not None:
        return attempt.cost
    return cost_of(attempt.usage or attempt.usage_partial, prices.of(model))[0]
