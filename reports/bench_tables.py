"""The parts of a report that only a bench has, laid out for every format people read."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from reports.bench import Bench, Goodput, Server, Verdict, Window, Worker
from reports.cells import NONE, amount, count, duration, number, percentile, several, share
from reports.distribution import NEEDS, PERCENTILES, Distribution
from reports.layout import Fact, Table, apart, cut, names
from reports.noise import noise_facts
from reports.summary import TIMES, Summary

UNKNOWN = "n/a"
_PS = [f"p{p}" for p in PERCENTILES]
_HEADLINES = {
    "OK": "validity: OK, the client was fit to measure this",
    "WARN": "validity: WARN, read these numbers with care",
    "INVALID": "INVALID: the client was not fit to measure this; the numbers below are no result",
}
_NOTHING = "INVALID: nothing succeeded, so there is nothing to measure"
_EARLY = {
    "circuit_breaker": "nobody answered",
    "interrupted": "Ctrl-C",
    "terminated": "SIGTERM",
    "disk_full": "the disk was full",
    "killed": "it was killed, or still runs",
    "budget": "--max-cost was reached",
    "pilot": "the pilot was over",
    "error": "an error",
    "worker_lost": "a worker died",
}
_SERVER = {"running": "requests running", "waiting": "requests queued", "kv_cache": "KV-cache use"}


class Section(Struct):
    """A titled part of a report."""

    title: str
    facts: list[Fact] = []
    tables: list[tuple[Table, int]] = []  # and its columns of text
    bullets: list[str] = []


def headline(summary: Summary) -> tuple[str, list[str]]:
    """The client's fitness in a line, and its reasons, each with what to do."""
    assert summary.bench is not None
    validity = summary.bench.validity
    reasons = [f"{reason.level}: {reason.words} {reason.next_step}" for reason in validity.reasons]
    told = [reason.check for reason in validity.reasons if reason.level == "INVALID"]
    return _NOTHING if told == ["nothing_succeeded"] else _HEADLINES[validity.level], reasons


def load_facts(summary: Summary) -> list[Fact]:
    """The load, and the tags."""
    out, bench = [], summary.bench
    if bench is not None and bench.load.sentence:
        how = bench.load.ended_early
        early = f" · ended early: {_EARLY.get(how, how)}" if how else ""
        out.append(("load", bench.load.sentence + early))
    if summary.tags:
        out.append(("tags", " ".join(f"{key}={cut(value)}" for key, value in sorted(summary.tags.items()))))
    return out


def arrivals(bench: Bench) -> list[Fact]:
    """Arrivals that nobody served; conversations, where arrivals are those."""
    out, unserved, talks = [], bench.unserved, bench.conversations
    if unserved.n:
        parts = [(unserved.never_sent, "never sent"), (unserved.cut, "cut when the run ended")]
        how = " · ".join(f"{n:,} {what}" for n, what in parts if n)
        out.append(("not served", f"{unserved.n:,} of {unserved.of:,}  ({share(unserved.share)})  {how}"))
    if talks is not None:
        of = f" of {talks.of:,}" if talks.of is not None else ""
        short = (
            f" · {talks.cut_short:,} cut short, and their further turns never came" if talks.cut_short else ""
        )
        out.append(("talks", f"{talks.begun:,}{of} conversations begun{short}"))
    return out


def goodput_cell(good: Goodput) -> str:
    """The share, or the two it lies between."""
    if good.low is None or good.high is None:
        return UNKNOWN
    return f"{share(good.low)} to {share(good.high)}" if good.unknown else share(good.low)


def bench_outcome(bench: Bench) -> list[Fact]:
    """Goodput, and tokens asked for and reached."""
    out, good = [], bench.goodput
    if good.slo_ms:
        slo = ", ".join(f"{name} <= {number(limit)} ms" for name, limit in good.slo_ms.items())
        met = f"{good.met:,} of {good.of:,}"
        of = f"{met} judged, {good.unknown:,} unknown: met" if good.unknown else f"{met} met"
        out.append(("goodput", f"{goodput_cell(good)}  {of} {slo}"))
    else:
        out.append(("goodput", f"{UNKNOWN}  the scenario has no [slo]"))
    for name, asked in (("input", bench.input_tokens), ("output", bench.output_tokens)):
        if asked.n:
            of = f"{count(asked.reached)} of {count(asked.asked)} tokens"
            out.append((f"{name} asked", f"{share(asked.share)} reached  {of}, {several(asked.n, 'answer')}"))
    return out


def _window_row(name: str, window: Window) -> list[str]:
    begin = NONE if window.begin_ns is None else f"{window.begin_ns / 1e9:.2f}"
    return [
        name,
        begin,
        duration(window.seconds),
        count(window.answers) if window.seconds else UNKNOWN,
        *(UNKNOWN if rate is None else number(rate) for rate in (window.request_throughput,)),
        *(_rate(window, name) for name in ("output_throughput", "input_throughput")),
    ]


def _rate(window: Window, name: str) -> str:
    value = getattr(window, name)
    return UNKNOWN if value is None else (">=" if window.at_least(name) else "") + number(value)


def throughput(bench: Bench) -> Table:
    """The steady window, and the whole run beside it."""
    header = ["window", "from, s", "length", "answers", "requests/s", "output tokens/s", "input tokens/s"]
    return Table(header, [_window_row("steady", bench.steady), _window_row("whole run", bench.whole)])


def intervals(summary: Summary) -> Table:
    """The interval of each percentile that has one."""
    rows = []
    for name in TIMES:
        d = summary.metrics[name]
        cells = [_interval(d, f"p{p}") for p in PERCENTILES]
        if any(cell != NONE for cell in cells):
            rows.append([name, *cells])
    return Table(["ms, 99 % interval", *_PS], rows)


def _interval(d: Distribution, name: str) -> str:
    low, high = d.ci.get(name, (None, None))
    if low is None and high is None:
        return NONE
    return f"{'?' if low is None else number(low)} to {'?' if high is None else number(high)}"


def thresholds(verdicts: Iterable[Verdict]) -> Table:
    """A row a threshold."""
    rows = [
        [verdict.threshold + (" (default)" if verdict.default else ""), verdict.verdict, verdict.words]
        for verdict in verdicts
    ]
    return Table(["threshold", "verdict", "measured"], rows)


def client_facts(bench: Bench) -> list[Fact]:
    """What the client measured of itself."""
    client, out = bench.client, []
    lag = client.lag
    if lag is None:
        out.append(("loop lag", "not measured"))
    else:
        missed = f" · {several(lag.missed, 'missed tick')}" if lag.missed else ""
        lags = f"p50 {number(lag.p50_ms)} · p99 {number(lag.p99_ms)} · max {number(lag.max_ms)} ms"
        out.append(("loop lag", lags + missed))
    if client.late_share is not None:
        late = f"{count(client.late)} of {count(client.sends)} over {client.late_over_ms:g} ms late"
        out.append(("sends", f"{late} with a place free ({share(client.late_share)})"))
    if client.delay_free_n:
        p99 = client.delay_free_p99_ms
        tail = f"p99 {UNKNOWN} (needs {NEEDS[99]})" if p99 is None else f"p99 {number(p99)} ms"
        delays = f"p50 {number(client.delay_free_p50_ms)} ms · {tail}"
        out.append(("delay", f"{delays} with a place free, connecting left out"))
    if client.coalesced_share is not None:
        out.append(("coalesced", f"{share(client.coalesced_share)} of chunks"))
    if client.gc is not None:
        gc = client.gc
        out.append(
            (
                "gc",
                f"{several(gc.pauses, 'pause')} · {number(gc.total_ms)} ms, longest {number(gc.max_ms)} ms",
            )
        )
    if client.cpu is not None:
        cpu = client.cpu
        part = "" if cpu.share is None else f" · {share(cpu.share)} of one core"
        out.append(("cpu", f"{number(cpu.user_s)} s user, {number(cpu.system_s)} s system{part}"))
    if client.workers:
        out.append(("workers", _workers(client.workers)))
    return out


def _workers(workers: list[Worker]) -> str:
    known = [worker.cpu_share for worker in workers if worker.cpu_share is not None]
    busiest = f" · the busiest took {share(max(known))} of a core" if known else ""
    return f"{len(workers)} processes{busiest}"


def server_section(server: Server) -> Section:
    """The server's own view."""
    rows = [
        [_SERVER[what], count(found.n), *_server_cells(what, found.mean, found.max)]
        for what in _SERVER
        if (found := server.values.get(what))
    ]
    told = [f"{several(server.inside, 'page')} of {count(server.pages)} in the steady window"]
    if server.kind:
        told.insert(0, server.kind)
    if server.failed:
        told.append(f"{several(server.failed, 'scrape')} failed")
    if server.unknown:
        told.append(f"{several(server.unknown, 'page')} without a name we know")
    if server.bad_lines:
        told.append(f"{several(server.bad_lines, 'bad line')} left out")
    table = Table(["in the window", "pages", "mean", "max"], rows)
    return Section(
        "Server, by its own metrics", [("scraped", " · ".join(told))], [(table, 1)] if rows else []
    )


def _server_cells(what: str, *values: float) -> list[str]:
    return [share(value) if what == "kv_cache" else number(value) for value in values]


def above(summary: Summary) -> list[Section]:
    """What stands above the requests: verdicts and labels."""
    bench = summary.bench
    if bench is None:
        return []
    out = []
    if bench.verdicts:
        beside = [f"{v.threshold}: {warning}" for v in bench.verdicts for warning in v.warnings]
        out.append(Section("Thresholds", [], [(thresholds(bench.verdicts), 3)], beside))
    if bench.labels:
        out.append(Section("Labels", [], [], [f"{label.name}: {label.words}" for label in bench.labels]))
    return out


def below(summary: Summary) -> list[Section]:
    """What stands below the times: throughput, the client, the server, the noise floor."""
    bench = summary.bench
    if bench is None:
        return []
    out = [Section("Throughput", [*_in_flight(bench), *gpu_facts(bench)], [(throughput(bench), 1)])]
    out.append(Section("Client", client_facts(bench)))
    if bench.server is not None:
        out.append(server_section(bench.server))
    if bench.calibration is not None:
        title = "This machine's own noise at this load (calibration)"
        out.append(Section(title, noise_facts(bench.calibration)))
    if bench.unjudged:
        out.append(
            Section("Not judged", [], [], [f"{name}: {why}" for name, why in sorted(bench.unjudged.items())])
        )
    return out


def _in_flight(bench: Bench) -> list[Fact]:
    mean, load = bench.in_flight_mean, bench.load
    least = ">=" if bench.in_flight_at_least else ""
    told = (
        [f"{least}{number(mean)} sent or waiting on average in the steady window"] if mean is not None else []
    )
    if load.peak_in_flight is not None:
        told.append(f"{count(load.peak_in_flight)} sent at most")  # a sum of workers' peaks is that, too
    if bench.held:
        told.append(f"{count(bench.held)} waited for a place and were sent")
    if bench.missed:
        told.append(f"{count(bench.missed)} never were")
    return [("in flight", " · ".join(told))] if told else []


def gpu_facts(bench: Bench) -> list[Fact]:
    """Throughput by GPU, and what a million output tokens cost."""
    gpu = bench.gpu
    if gpu is None:
        return []
    each = UNKNOWN if gpu.output_tokens_per_s is None else number(gpu.output_tokens_per_s)
    told = [f"{each} output tokens/s on each of {several(gpu.gpus, 'GPU')}, steady window"]
    if gpu.gpu_hour_usd is not None:
        cost = gpu.usd_per_million_output_tokens
        shown = UNKNOWN if cost is None else f"${amount(cost)}"
        told.append(f"{shown} a million output tokens at ${amount(gpu.gpu_hour_usd)} a GPU hour")
    return [("per GPU", " · ".join(told))]


def per_thousand(summary: Summary) -> float | None:
    """Cost of 1,000 accepted answers; `None` where one of them is not known."""
    cost = summary.cost
    if cost.accepted is None or not cost.answers or cost.answers_known < cost.answers:
        return None
    return cost.accepted / cost.answers * 1000


def compared(summaries: list[Summary]) -> Table:
    """What runs are compared by, a column a run. No rows where none is a bench."""
    if not any(s.bench for s in summaries):
        return Table([""], [])

    def metric(label: str, name: str, p: int) -> list[str]:
        cells = [percentile(s.metrics[name], p) for s in summaries]
        return [label, *(UNKNOWN if cell == NONE else cell for cell in cells)]

    def row(label: str, cells: Iterable[str | None]) -> list[str]:
        return [label, *(cell or UNKNOWN for cell in cells)]

    def of_bench(name: str, s: Summary) -> str | None:
        return _rate(s.bench.steady, name) if s.bench else None

    rows = [
        row("validity", (s.bench.validity.level if s.bench else None for s in summaries)),
        row("thresholds", (_verdicts(s) for s in summaries)),
        row("labels", (_labels(s) for s in summaries)),
        row("target", apart([_target(s) for s in summaries])),
        row("load", apart([(s.bench.load.sentence or "") if s.bench else "" for s in summaries])),
        *(
            row(f"tag {cut(key, 30)}", apart([s.tags.get(key, "") for s in summaries]))
            for key in sorted({key for s in summaries for key in s.tags})
        ),
        metric("ttft p50, ms", "ttft", 50),
        metric("ttft p95, ms", "ttft", 95),
        metric("ttft_sched p50, ms", "ttft_sched", 50),
        metric("ttft_sched p95, ms", "ttft_sched", 95),
        metric("tpot p50, ms", "tpot", 50),
        metric("output rate p50, tokens/s", "output_rate", 50),
        row("output tokens/s, steady", (of_bench("output_throughput", s) for s in summaries)),
        row("requests/s, steady", (of_bench("request_throughput", s) for s in summaries)),
        row("goodput", (_goodput(s) for s in summaries)),
        row("errors", (_share(s.requests.errors_share) for s in summaries)),
        row("cost per 1,000 answers", (_amount(per_thousand(s)) for s in summaries)),
    ]
    return Table(["", *names(summaries)], rows)


def _target(summary: Summary) -> str:
    target = summary.scenario.get("target")
    url = str(target.get("base_url") or "") if isinstance(target, dict) else ""
    return url.partition("://")[2] or url


def _labels(summary: Summary) -> str | None:
    if summary.bench is None:
        return None
    return " ".join(label.name for label in summary.bench.labels) or "none"


def _verdicts(summary: Summary) -> str | None:
    if summary.bench is None or not summary.bench.verdicts:
        return None
    found = [verdict.verdict for verdict in summary.bench.verdicts]
    told = [f"{found.count(o)} {o}" for o in ("FAIL", "INCONCLUSIVE", "PASS") if o in found]
    return ", ".join(told)


def _goodput(summary: Summary) -> str | None:
    return goodput_cell(summary.bench.goodput) if summary.bench else None


def _share(value: float | None) -> str | None:
    return None if value is None else share(value)


def _amount(value: float | None) -> str | None:
    return None if value is None else amount(value)
