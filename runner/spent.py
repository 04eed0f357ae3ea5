"""What the earlier sessions of a run spent, for `--max-cost`: never less than they can have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from runner.prices import Prices, amount, cost_of, worst_case
from runner.record import STALE_NS, refused_unworked
from runner.store import Session, journal_files, lines

_STALE = "stale_connection"  # `Attempt.wait_for`


class _Refusal(Struct, frozen=True):
    kind: str = ""
    http_status: int | None = None


class _Reused(Struct, frozen=True):
    reused: bool | None = None


class _Attempt(Struct):
    sent_at: int | None = None
    ended_at: int | None = None
    error: _Refusal | None = None
    wait_for: str = ""
    cost: float | None = None
    cost_bound: float | UnsetType = UNSET
    usage: dict[str, Any] | None = None
    usage_partial: dict[str, Any] | None = None


class _Paid(_Attempt):
    status: str = ""
    attempts: list[_Attempt] = []
    request: dict[str, Any] | None = None
    connection: _Reused = _Reused()


class Spent(Struct, frozen=True):
    """Earlier spending, in the currency of the prices."""

    amount: float = 0.0
    unknown: int = 0  # good answers of which nobody knows what they cost
    unknown_lost: int = 0  # failed and cancelled attempts of which nobody knows the most they cost
    killed: float = 0.0  # of `amount`: what sessions that wrote no end had in flight, at most
    killed_blind: int = 0  # sessions that wrote no end, and nothing of what they had in flight

    def words(self, most: float) -> str:
        """What of `--max-cost` (`most`) is gone, and what nobody can count."""
        killed = (
            f" ({amount(self.killed)} of it at most, by a session that was killed)" if self.killed else ""
        )
        parts = [
            (self.unknown, "good answers"),
            (self.unknown_lost, "failed or cancelled attempts"),
            (self.killed_blind, "what killed sessions had in flight"),
        ]
        named = ", ".join(f"{what} ({count:,})" for count, what in parts if count)
        unknown = f"; not counted, for nobody knows what they cost: {named}" if named else ""
        spent = f"{amount(self.amount)} of --max-cost {amount(most)} is spent by earlier sessions"
        return f"{spent}{killed}{unknown}"


def spent_before(
    run: Path, sessions: list[Session], prices: Prices, files: list[Path] | None = None
) -> Spent:
    """Sum up every attempt of every line of the journal, superseded ones too, and what no line tells of.

    Args:
        run: the run directory.
        sessions: those before this one.
        prices: for what sessions that were given none left without a cost.
        files: of the journal, where not all of them count.
    """
    decode = msgspec.json.Decoder(_Paid).decode
    total, unknown, unknown_lost = 0.0, 0, 0
    for path in journal_files(run) if files is None else files:
        for _, line in lines(path):
            try:
                paid = decode(line)
            except (msgspec.MsgspecError, RecursionError):
                continue  # a bad line: readers count and name them
            for attempt in (paid, *paid.attempts):
                most, told = _most(attempt, paid, prices)
                total += most
                unknown += not told and attempt is paid and paid.status == "ok"
                unknown_lost += not told and not (attempt is paid and paid.status == "ok")
    open_ends = [session for session in sessions if session.ended_by is None]
    # After an orderly end: what no record tells of, such as answers the disk did not take. Of a session that
    # was killed: a ceiling over all it had in flight.
    unrecorded = sum(session.reserved_cost or 0.0 for session in sessions)
    asked = sum(_of_wait_ready(session) for session in sessions if session.reserved_cost is None)
    return Spent(
        total + unrecorded + asked,
        unknown,
        unknown_lost,
        sum(session.reserved_cost or 0.0 for session in open_ends),
        sum(_is_blind(session) for session in open_ends),
    )


def _is_blind(session: Session) -> bool:
    """It wrote nothing of what was in flight. Under `--max-cost` that means that nothing was yet."""
    return session.reserved_cost is None and session.options.get("max_cost") is None


def _of_wait_ready(session: Session) -> float:
    """What its `--wait-ready` cost where no budget held it."""
    return session.gauge.get("ready", {}).get("cost_bound") or 0.0


def _worst(body: dict[str, Any] | None, prices: Prices) -> float | None:
    """The most a request that was sent can cost at today's prices; `None` where nobody can say."""
    model = None if body is None else body.get("model")
    price = prices.of(model if isinstance(model, str) else None)
    if body is None or price is None:
        return None
    return worst_case(body, len(msgspec.json.encode(body)), price)


def _most(attempt: _Attempt, of: _Paid, prices: Prices) -> tuple[float, bool]:
    """The most an attempt can have cost as far as it is known, and whether that is all of it."""
    if not isinstance(attempt.cost_bound, UnsetType):
        return attempt.cost_bound, True
    cost = attempt.cost
    if cost is None:
        model = None if of.request is None else of.request.get("model")
        price = prices.of(model if isinstance(model, str) else None)
        cost = cost_of(attempt.usage or attempt.usage_partial, price)[0]
    if attempt is of and of.status == "ok" and cost is not None:
        return cost, True
    if not _may_be_billed(attempt, of):
        return cost or 0.0, True
    worst = _worst(of.request, prices)
    return max(worst or 0.0, cost or 0.0), worst is not None


def _may_be_billed(attempt: _Attempt, of: _Paid) -> bool:
    """As `runner/billed.py` has it of a live attempt."""
    if attempt is of and of.status == "ok":
        return True
    if attempt.sent_at is None or attempt.wait_for == _STALE:
        return False
    error = attempt.error
    if error is None:
        return True
    stale = attempt is of and error.kind == "disconnected" and of.connection.reused
    if stale and (attempt.ended_at or attempt.sent_at) - attempt.sent_at <= STALE_NS:
        return False
    return not refused_unworked(error.http_status)
