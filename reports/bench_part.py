"""The part of a summary that only a bench has: set up before the one pass, put together after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec import Struct, field

from reports.bench import Bench, Client, Load, Validity
from reports.distribution import NEEDS, Values
from reports.gauge import read_cpu, read_gc, read_lag, read_load, session_of, table
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
    selected: dict[str, tuple[Threshold, Values]] = field(default_factory=dict)

    def percentiles(self, metric: str) -> set[float]:
        """Percentiles that thresholds ask of a metric."""
        return {t.p for t in self.thresholds if t.metric == metric and t.p is not None}

    def add(self, rows: Sequence[Row], block: pd.DataFrame) -> None:
        """Take a block of measured records."""
        if self.session is not None:
            here = (block["session"] == self.session.number).to_numpy(dtype=bool)
            if not here.all():
                rows, block = [row for row, use in zip(rows, here, strict=True) if use], block[here]
        self.tally.add(rows, block)
        for threshold, values in self.selected.values():
            values.add(_selected(block, threshold))

    def missed(self) -> int:
        """Arrivals never sent, and in no record: unless this side ended the run, users nobody served."""
        if self.load.ended_early in STOPPED:
            return 0
        return max(0, (self.load.unsent or 0) - self.tally.never_sent)


def _selected(block: pd.DataFrame, threshold: Threshold) -> Any:
    """The values of a threshold's metric in the records its selector names."""
    keep = (block["status"] == "ok") & block["streamed"]
    for key, value in threshold.selector.items():
        if key not in block:
            return pd.Series([], dtype="float64").to_numpy()
        keep &= block[key].astype("str") == value
    column = "output_rate_tokens_per_s" if threshold.metric == "output_rate" else f"{threshold.metric}_ms"
    if column not in block:  # itl: its gaps are pooled
        return pd.Series([], dtype="float64").to_numpy()
    return block[column].to_numpy(dtype="float64")[keep.to_numpy(dtype=bool)]


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


def plan(manifest: Manifest) -> Plan | None:
    """What to count; `None` for a run that is no bench."""
    if manifest.kind != "bench":
        return None
    session, unjudged = session_of(manifest), dict[str, str]()
    load = read_load(manifest, session)
    try:
        thresholds = with_defaults(table(manifest.scenario.get("thresholds")))
    except (ThresholdError, TypeError, AttributeError) as exc:
        thresholds, unjudged["thresholds"] = [], str(exc)
    tally = BenchTally(load, _slo_ms(manifest.scenario, unjudged))
    found = Plan(session, load, tally, thresholds, unjudged)
    found.selected = {t.name: (t, Values()) for t in thresholds if t.selector and t.metric != "errors"}
    return found


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
        opened=connections.opened,
        reused=connections.reused,
        stale_resends=attempts.stale_connection,
        own_errors=tally.own_errors,
    )


def _sent_share(found: Plan) -> float | None:
    """Sent of what was scheduled, but for arrivals that no place was ever free for."""
    load, tally = found.load, found.tally
    if not load.is_open or load.scheduled is None or load.sent is None:
        return None
    of = load.scheduled - ((load.unsent or 0) if tally.was_full else 0)
    # A request that could not even connect was tried at its time: that is the server's.
    return min(1.0, max(load.sent, tally.tried) / of) if of > 0 else None


def finish(summary: Summary, found: Plan, run: Path) -> Bench:
    """Everything of a bench, with its verdicts; put into the summary as well."""
    tally, load, missed = found.tally, found.load, found.missed()
    gauge = found.session.gauge if found.session else {}
    span = tally.span
    client = _client(summary, found)
    goodput = tally.goodput
    if goodput.slo_ms:
        goodput.of += missed
        goodput.share = goodput.met / goodput.of if goodput.of else None
    given, unjudged = labels(summary, tally, missed)
    in_flight = tally.in_flight()
    bench = Bench(
        load=load,
        steady=tally.steady.window(*(span or (None, None))),
        whole=tally.whole.window(tally.first_scheduled, tally.last_ended),
        in_flight_mean=None if in_flight is None else float(in_flight.mean()),
        goodput=goodput,
        held=tally.held,
        held_max_ms=tally.held_max_ms,
        missed=missed,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        client=client,
        server=read_server(run, *(span or (None, None))),
        fit=table(gauge.get("fit")) or None,
        calibration=table(gauge.get("calibration")) or None,
        labels=given,
        unjudged=found.unjudged | unjudged,
        selected={
            name: values.distribution("ms", more=[t.p] if t.p else (), intervals=True)
            for name, (t, values) in found.selected.items()
            if values.n
        },
        validity=Validity(level="OK"),
    )
    summary.bench = bench
    bench.validity = assess(summary, client, load)
    bench.verdicts = judge(summary, found.thresholds)
    return bench
