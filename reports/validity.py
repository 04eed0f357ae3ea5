"""Was the client fit to measure this? OK, WARN or INVALID, with reasons, and what to do about each.

It speaks of the client only: a server that fails or drowns is a result, and thresholds judge it. The table is
METRICS' (docs/metrics.md). What was not measured is a warning, and never silently fine.
"""

from __future__ import annotations

from reports.bench import Client, Level, Load, Reason, Validity
from reports.cells import several
from reports.distribution import NEEDS
from reports.summary import Summary

# Checks and their limits: (WARN beyond, INVALID beyond); `None`: never that.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "late_sends": (0.01, 0.05),
    "delay_p50_ms": (2.0, 10.0),
    "delay_p99_ms": (20.0, 100.0),
    "sent": (0.99, 0.97),  # below
    "loop_lag_p99_ms": (5.0, 20.0),
    "coalesced": (0.05, None),
    "nothing_succeeded": (None, 0.0),
}
LAG_SHARES = (0.02, 0.10)  # of ttft p50, where that is more
OWN_ERRORS = (0.0, 0.01)  # share of finished requests that failed for want of something on this machine
FEW = 20  # sends with a place free, below which nothing about them is INVALID
COALESCED_LIMIT = 0.30  # itl is withheld above it; the rest stands


def _carry(client: Client) -> str:
    """What to do where the client did not keep up."""
    n = len(client.workers)
    more = f"more --workers than {n}, as far as there are cores" if n > 1 else "--workers 2 or more"
    return (
        f"Use {more}, a lower rate or concurrency, or a faster or less busy machine; `streamgauge calibrate` "
        "says how much one process here can carry."
    )


def _beyond(measured: float, limits: tuple[float | None, float | None]) -> tuple[Level, float | None]:
    warn, invalid = limits
    if invalid is not None and measured > invalid:
        return "INVALID", invalid
    if warn is not None and measured > warn:
        return "WARN", warn
    return "OK", None


def _beyond_of(measured: float, check: str, n: int) -> tuple[Level, float | None]:
    """The same, of so many sends: a handful never condemns a run.

    Where a server drowned, hardly a send ever had a place free, and those were the first ones.
    """
    warn, invalid = LIMITS[check]
    return _beyond(measured, (warn, invalid if n >= FEW else None))


def _unmeasured(check: str, what: str) -> Reason:
    return Reason(
        check=check,
        level="WARN",
        measured=None,
        limit=None,
        words=f"{what} was not measured.",
        next_step="Run again, and let it end by itself: what the client did is written at the end.",
    )


def _late(client: Client, load: Load, *, lags: bool) -> Reason | None:
    if client.late_share is None:
        return None
    level, limit = _beyond_of(client.late_share, "late_sends", client.sends)
    if level == "OK":
        return None
    if not load.is_open and not lags:
        # What is answered at once is asked again one by one: lock-step streams, on a loop that keeps up. It
        # stands in `ttft_sched`. Where the loop lags as well, it is this client that cannot keep up.
        level, limit = "WARN", LIMITS["late_sends"][0]
    return Reason(
        check="late_sends",
        level=level,
        measured=client.late_share,
        limit=limit,
        words=f"{client.late:,} of {client.sends:,} sends ({client.late_share:.1%}) were more than "
        f"{client.late_over_ms:g} ms late though a place was free (limit {limit:.0%}).",
        next_step=_carry(client),
    )


def _delay(client: Client) -> list[Reason]:
    out = []
    for check, name, value in (
        ("delay_p50_ms", "p50", client.delay_free_p50_ms),
        ("delay_p99_ms", "p99", client.delay_free_p99_ms),
    ):
        if value is None:
            continue
        level, limit = _beyond_of(value, check, client.delay_free_n)
        if level != "OK":
            out.append(
                Reason(
                    check=check,
                    level=level,
                    measured=value,
                    limit=limit,
                    words=f"sends left {value:.1f} ms after their time at {name}, though a place was free "
                    f"(limit {limit:g} ms).",
                    next_step=_carry(client),
                )
            )
    return out


def _sent(client: Client, load: Load) -> Reason | None:
    if not load.is_open or load.ended_early in {*STOPPED, "circuit_breaker"}:
        return None
    if client.sent_share is None:
        return _unmeasured("sent", "How many of the scheduled requests were sent")
    warn, invalid = LIMITS["sent"]
    assert warn is not None
    assert invalid is not None
    if client.sent_share >= warn:
        return None
    level: Level = "INVALID" if client.sent_share < invalid else "WARN"
    limit = invalid if level == "INVALID" else warn
    return Reason(
        check="sent",
        level=level,
        measured=client.sent_share,
        limit=limit,
        words=f"only {client.sent_share:.1%} of the scheduled requests were sent, though a place was free "
        f"(limit {limit:.0%}): the load was lighter than asked.",
        next_step=_carry(client),
    )


def _lag(client: Client, ttft_p50_ms: float | None) -> Reason | None:
    if client.lag is None or client.lag.p99_ms is None:
        return _unmeasured("loop_lag_p99_ms", "How late the event loop ran")
    warn, invalid = (
        max(limit or 0.0, share * (ttft_p50_ms or 0.0))
        for limit, share in zip(LIMITS["loop_lag_p99_ms"], LAG_SHARES, strict=True)
    )
    level, limit = _beyond(client.lag.p99_ms, (warn, invalid))
    if level == "OK":
        return None
    return Reason(
        check="loop_lag_p99_ms",
        level=level,
        measured=client.lag.p99_ms,
        limit=limit,
        words=f"the client's event loop was {client.lag.p99_ms:.1f} ms late at p99 (limit {limit:.3g} ms): "
        "times of tokens are wrong by as much.",
        next_step=_carry(client),
    )


def _coalesced(client: Client) -> Reason | None:
    share = client.coalesced_share
    if share is None:
        return None
    level, limit = _beyond(share, LIMITS["coalesced"])
    if level == "OK":
        return None
    withheld = share > COALESCED_LIMIT
    what = "itl is withheld, the rest stands" if withheld else "itl is a little too small there"
    return Reason(
        check="coalesced",
        level=level,
        measured=share,
        limit=COALESCED_LIMIT if withheld else limit,
        words=f"{share:.1%} of chunks came in the same read as the one before: {what}.",
        next_step="Use tpot. If the loop lag is high as well, the client read too late: lower the load.",
    )


def _own_errors(client: Client, summary: Summary) -> Reason | None:
    """A machine without a socket to spare is no server that refuses."""
    finished = summary.requests.ok + summary.requests.error
    if not client.own_errors or not finished:
        return None
    share = client.own_errors / finished
    level, limit = _beyond(share, OWN_ERRORS)
    if level == "OK":
        return None
    return Reason(
        check="own_errors",
        level=level,
        measured=share,
        limit=limit,
        words=f"{client.own_errors:,} requests ({share:.1%}) failed on this machine: too many files were "
        f"open, or no port was left (limit {limit:.0%}).",
        next_step="Raise the limit of open files (`ulimit -n`), or lower the concurrency or max_in_flight; "
        "where no port was left, have the server keep connections, or lower the rate.",
    )


def _nothing(summary: Summary) -> Reason | None:
    requests = summary.requests
    # Who left on purpose had been served so far, if a token had come.
    if requests.ok or requests.cut or requests.cancelled_by.get("abandon", 0) > requests.left_unserved:
        return None
    return Reason(
        check="nothing_succeeded",
        level="INVALID",
        measured=0.0,
        limit=0.0,
        words="no measured request succeeded: there is nothing to measure.",
        next_step="See the errors below; `streamgauge probe` asks the endpoint a handful of requests.",
    )


def only_failed(summary: Summary) -> bool:
    """Whether a bench is INVALID for the one reason that every request failed: its client was fit."""
    if summary.bench is None or not summary.requests.error:
        return False
    checks = {reason.check for reason in summary.bench.validity.reasons if reason.level == "INVALID"}
    return checks == {"nothing_succeeded"}


STOPPED = ("interrupted", "terminated", "budget", "disk_full", "pilot", "error", "worker_lost")
"""How a session ends that ran its load to no end, for reasons that are not the server's."""


def _died(client: Client) -> Reason | None:
    """Without a worker the load was not what was asked, and what it had under way is in no record."""
    died = [worker for worker in client.workers if worker.died is not None]
    if not died:
        return None
    which = "; ".join(f"worker {worker.number} {worker.died}" for worker in died)
    open_ = sum(worker.in_flight or 0 for worker in died)
    under_way = f" In no record: about {several(open_, 'request')} that it had under way." if open_ else ""
    return Reason(
        check="workers",
        level="INVALID",
        measured=float(len(died)),
        limit=0.0,
        words=f"{which}: its part of the load was not sent.{under_way}",
        next_step="Run it again. The kernel's log (`dmesg`) says whether memory ran out.",
    )


def assess(summary: Summary, client: Client, load: Load) -> Validity:
    """Judge the client of a bench."""
    ttft = summary.metrics["ttft"]
    lag = _lag(client, ttft.percentiles["p50"] if ttft.n >= NEEDS[50] else None)
    found = [
        _died(client),
        _nothing(summary),
        _own_errors(client, summary),
        _late(client, load, lags=lag is not None and lag.measured is not None),
        *_delay(client),
        _sent(client, load),
        lag,
        _coalesced(client),
    ]
    reasons = [reason for reason in found if reason is not None]
    reasons.sort(key=lambda reason: reason.level != "INVALID")
    worst: Level = "OK"
    if reasons:
        worst = reasons[0].level
    return Validity(level=worst, reasons=reasons)
