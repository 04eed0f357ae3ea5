"""The part of a summary that only a bench has: set up before the one pass, put together after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec import Struct

from reports.bench import Bench, Client, Conversations, Load, Unserved, Validity
from reports.distribution import NEEDS
from reports.frame import ChunkTimes, chunk_times, frame
from reports.gauge import read_cpu, read_gc, read_lag, read_load, read_workers, session_of, table
from reports.gpu import gpu_of
from reports.judge import judge
from reports.labels import labels
from reports.rows import Row
from reports.server_metrics import read_server
from reports.summary import Summary
from reports.validity import STOPPED, assess
from reports.windows import BenchTally
from runner.store import Manifest, Session
from scenarios.thresholds import SLO_METRICS, Threshold, ThresholdError, with_defaults
from scenarios.units import seconds


class Plan(Struct):
    """What a bench asks of the pass over its records."""

    session: Session | None
    load: Load
    tally: BenchTally
    thresholds: list[Threshold]
    unjudged: dict[str, str]

    def add(self, rows: Sequence[Row], block: pd.DataFrame, chunks: ChunkTimes) -> None:
        """Take a block of measured records, with their frame and their chunks."""
        if self.session is not None:
            here = (block["session"] == self.session.number).to_numpy(dtype=bool)
            if not here.all():
                rows, block = [row for row, use in zip(rows, here, strict=True) if use], block[here]
                chunks = chunks.of(here)
        self.tally.add(rows, block, chunks)

    def add_warmup(self, rows: Sequence[Row]) -> None:
        """Take a block of warm-up records; other sessions' have no part in the window of this one."""
        number = self.session.number if self.session is not None else None
        here = [row for row in rows if number is None or row.session == number]
        if not here:
            return  # an empty frame takes as long as a full one
        chunks = chunk_times(here)
        self.tally.add_warmup(frame(here, chunks), chunks)

    def missed(self) -> int:
        """Arrivals never sent, and in no record: unless this side ended the run, users nobody served."""
        if self.load.ended_early in STOPPED:
            return 0
        # Where arrivals are counted as they start, what was never sent has no record.
        recorded = self.tally.never_sent if self.load.arrived is None else 0
        return max(0, (self.load.unsent or 0) - recorded)


def _slo_ms(scenario: dict[str, Any], unjudged: dict[str, str]) -> dict[str, float]:
    out = {}
    for name, limit in table(scenario.get("slo")).items():
        try:
            if name not in SLO_METRICS:
                raise ValueError(f"{name} is no time that each request has one of")
            out[name] = seconds(limit) * 1e3
        except (TypeError, ValueError) as exc:
            unjudged["goodput"] = f"slo.{name}: {exc}"
    return {} if "goodput" in unjudged else out


def own_thresholds(manifest: Manifest) -> list[Threshold]:
    """Those a run is judged by where nobody gives others: the scenario's, and the defaults; a `run` has none.

    Raises:
        ThresholdError: the manifest's cannot be judged.
    """
    if manifest.kind != "bench":
        return []
    try:
        return with_defaults(table(manifest.scenario.get("thresholds")))
    except (TypeError, AttributeError) as exc:
        raise ThresholdError(str(exc)) from None


def plan(manifest: Manifest, thresholds: Sequence[Threshold] | None = None) -> Plan | None:
    """What to count; `None` for a run that is no bench. `thresholds`: to judge instead of its own."""
    if manifest.kind != "bench":
        return None
    session, unjudged = session_of(manifest), dict[str, str]()
    load = read_load(manifest, session)
    try:
        judged = own_thresholds(manifest) if thresholds is None else list(thresholds)
    except ThresholdError as exc:
        judged, unjudged["thresholds"] = [], str(exc)
    tally = BenchTally(load, _slo_ms(manifest.scenario, unjudged))
    return Plan(session, load, tally, judged, unjudged)


def _client(summary: Summary, found: Plan) -> Client:
    tally, gauge = found.tally, found.session.gauge if found.session else {}
    chunks, attempts, connections = summary.chunks, summary.attempts, summary.connections
    return Client(
        sends=tally.sends,
        late=tally.late,
        late_over_ms=tally.late_over_ms,
        late_share=tally.late / tally.sends if tally.sends else None,
        delay_free_n=tally.delay_free.n,
        delay_free_p50_ms=tally.delay_free.percentile(50),
        delay_free_p99_ms=tally.delay_free.percentile(99) if tally.delay_free.n >= NEEDS[99] else None,
        sent_share=_sent_share(found),
        coalesced_share=chunks.coalesced / chunks.gaps if chunks.gaps else None,
        lag=read_lag(gauge),
        gc=read_gc(gauge),
        cpu=read_cpu(gauge),
        workers=read_workers(gauge),
        opened=connections.opened,
        reused=connections.reused,
        stale_resends=attempts.stale_connection,
        own_errors=tally.own_errors,
    )


def _sent_share(found: Plan) -> float | None:
    """Sent of what was scheduled, but for arrivals that no place was ever free for."""
    load, tally = found.load, found.tally
    sent = load.sent if load.arrived is None else load.arrived
    if not load.is_open or load.scheduled is None or sent is None:
        return None
    of = load.scheduled - ((load.unsent or 0) if tally.was_full else 0)
    # A request that could not even connect was tried at its time: that is the server's.
    return min(1.0, max(sent, tally.tried) / of) if of > 0 else None


def _unserved(found: Plan, missed: int) -> Unserved:
    tally, n = found.tally, missed + found.tally.cut
    due = found.load.scheduled
    of = max(tally.arrivals + missed if due is None else due, n)
    return Unserved(share=n / of if of else None, n=n, never_sent=missed, cut=tally.cut, of=of)


def _in_flight_mean(found: Plan) -> tuple[float | None, bool]:
    """The mean in flight or waiting in the window, and whether it is only a lower bound."""
    means, span, load = found.tally.in_flight(), found.tally.span, found.load
    if means is None or span is None:
        return None, False
    waited_s = load.unsent_wait_s or 0.0
    return float(means.mean()) + waited_s / ((span[1] - span[0]) / 1e9), bool(
        load.unsent and load.unsent_wait_s is None
    )


def _finish_goodput(found: Plan, missed: int) -> None:
    good = found.tally.goodput
    if not good.slo_ms:
        return
    good.of += missed
    everyone = good.of + good.unknown
    if everyone:
        good.low, good.high = good.met / everyone, (good.met + good.unknown) / everyone
        good.share = good.low if not good.unknown else None


def finish(summary: Summary, found: Plan, run: Path) -> Bench:
    """Everything of a bench, with its verdicts; put into the summary as well."""
    tally, load, missed = found.tally, found.load, found.missed()
    gauge = found.session.gauge if found.session else {}
    span = tally.span
    client = _client(summary, found)
    _finish_goodput(found, missed)
    given, unjudged = labels(summary, tally, missed)
    in_flight, at_least = _in_flight_mean(found)
    steady = tally.steady.window(*(span or (None, None)))
    bench = Bench(
        load=load,
        steady=steady,
        whole=tally.whole.window(tally.first_scheduled, tally.last_ended),
        in_flight_mean=in_flight,
        in_flight_at_least=at_least,
        goodput=tally.goodput,
        unserved=_unserved(found, missed),
        conversations=Conversations(begun=tally.arrivals, cut_short=tally.cut_short, of=load.scheduled)
        if load.multi_turn
        else None,
        held=tally.held,
        held_max_ms=tally.held_max_ms,
        missed=missed,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        client=client,
        server=read_server(run, *(span or (None, None))),
        gpu=gpu_of(summary.scenario, steady),
        fit=table(gauge.get("fit")) or None,
        calibration=table(gauge.get("calibration")) or None,
        labels=given,
        unjudged=found.unjudged | unjudged,
        validity=Validity(level="OK"),
    )
    summary.bench = bench
    bench.validity = assess(summary, client, load)
    bench.verdicts = judge(summary, found.thresholds)
    return bench
