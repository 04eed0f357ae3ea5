"""Summaries laid out as labelled facts and tables of text, for every format people read."""

from __future__ import annotations

from typing import Any

import msgspec

from reports.bench_tables import arrivals, bench_outcome, load_facts
from reports.cells import (
    NONE,
    amount,
    count,
    counts,
    duration,
    number,
    percentile,
    percentile_with_failures,
    several,
    share,
)
from reports.distribution import PERCENTILES, Distribution
from reports.expect import RESULTS
from reports.layout import Fact, Table, apart, cut, names
from reports.notes import wall_s
from reports.rows import STOP_RULE
from reports.summary import RATES, TIMES, Expected, Summary

_PS = [f"p{p}" for p in PERCENTILES]
_ENDED = {
    "budget": "--max-cost",
    "pilot": "pilot over",
    "worker_lost": "a worker died",
    "no_nodes": "no node left",
}
_BY = {"provider": "the provider", "prices": "--price"}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def model(summary: Summary) -> str:
    """The model asked for."""
    target = summary.scenario.get("target")
    named = target.get("model") if isinstance(target, dict) else None
    models = summary.scenario.get("models")  # the rows' own: name -> how many
    if not named and isinstance(models, dict) and models:
        return next(iter(models)) if len(models) == 1 else counts(models)
    return str(named or NONE)


def endpoint(summary: Summary) -> str:
    """The URL asked, or all of them."""
    target = summary.scenario.get("target")
    target = target if isinstance(target, dict) else {}
    several_urls = target.get("base_urls")
    if isinstance(several_urls, list) and several_urls:
        return ", ".join(map(str, several_urls))
    return str(target.get("base_url") or NONE)


def origin(summary: Summary) -> list[Fact]:
    """What was asked of whom; what the manifest does not say is left out."""
    scenario = summary.scenario
    target = scenario.get("target")
    out = [("run", summary.path)]
    if isinstance(target, dict) and target:
        api = f" ({target['api']})" if target.get("api") else ""
        out.append(("target", f"{model(summary)} at {endpoint(summary)}{api}"))
    out += load_facts(summary)
    if summary.prompts is not None and summary.bench is not None:
        out.append(("prompts", f"{summary.prompts} · {several(summary.prompt_rows or 0, 'row')}"))
    elif summary.prompts is not None:
        rows, requests = summary.prompt_rows or 0, summary.requests.expected or 0
        sizes = f"{several(rows, 'row')} · {several(requests, 'request')}"
        out.append(("prompts", f"{summary.prompts} · {sizes}"))
    params = scenario.get("params")
    params = dict(params) if isinstance(params, dict) else {}
    if scenario.get("max_tokens") is not None:
        params["max_tokens"] = scenario["max_tokens"]
    if params:
        out.append(("params", " ".join(f"{key}={cut(_value(v))}" for key, v in sorted(params.items()))))
    out += [(key, cut(str(scenario[key]))) for key in ("system", "template") if scenario.get(key)]
    if scenario.get("samples") not in {None, 1}:
        out.append(("samples", str(scenario["samples"])))
    return out


def _with(n: int, named: dict[str, int]) -> str:
    return f"{n:,}  {counts(named)}".rstrip()


def expect_line(expect: Expected | None) -> str | None:
    """What became of the expectations, in a line."""
    if expect is None or not (expect.judged or expect.left_out):
        return None
    failed = ", ".join(f"{name} {n:,}" for name, n in sorted(expect.failed.items(), key=lambda x: -x[1]))
    parts = [f"{expect.passed:,} of {expect.judged:,} answers are what their rows expect"]
    if failed:
        parts.append(f"did not hold: {failed} ({RESULTS} says of which)")
    if expect.slow:
        parts.append(f"{several(expect.slow, 'answer')} given up: the pattern or schema takes too long")
    if expect.left_out:
        parts.append(f"{several(expect.left_out, 'request')} cancelled, and not judged")
    return " · ".join(parts)


def outcome(summary: Summary) -> list[Fact]:
    """How the requests ended, what was sent again, which connections, how many tokens."""
    requests, attempts, tokens = summary.requests, summary.attempts, summary.tokens
    connections = summary.connections
    out = [("answered", _with(requests.ok, requests.finish_reasons))]
    part = f"  ({share(requests.errors_share)})" if requests.error else ""
    out.append(("failed", f"{requests.error:,}{part}  {counts(requests.error_kinds)}".rstrip()))
    if requests.cut:
        out.append(("cut", f"{count(requests.cut)}  cut on purpose by --stop-after-tokens (count as done)"))
    if requests.cancelled > requests.cut:
        by = {name: n for name, n in requests.cancelled_by.items() if name != STOP_RULE}
        left = f", {count(requests.left_unserved)} before any token" if requests.left_unserved else ""
        out.append(("cancelled", _with(requests.cancelled - requests.cut, by) + left))
    if requests.unsent:
        out.append(("not sent", count(requests.unsent)))
    if (bench := summary.bench) is not None:
        out += arrivals(bench)
    if requests.warmup:
        out.append(("warm-up", f"{count(requests.warmup)}  (counted nowhere else)"))
    if bench is not None and bench.load.scheduled_warmup and not requests.warmup:
        out.append(("warm-up", f"{count(bench.load.scheduled_warmup)} scheduled, none kept"))
    out += [("expected", line) for line in (expect_line(summary.expect),) if line is not None]
    if attempts.earlier:
        of = f"{counts(attempts.error_kinds)} · of {several(attempts.requests, 'request')}"
        out.append(("retries", f"{count(attempts.earlier)}  {of}"))
    if attempts.stale_connection:
        out.append(("resends", f"{count(attempts.stale_connection)}  a reused connection was already closed"))
    if connections.opened or connections.reused:
        opened = f"{count(connections.opened)} opened" if connections.opened else "none opened by them"
        of = f" ({share(connections.reused_share)} of requests)" if connections.opened else ""
        out.append(("connections", f"{opened} · {count(connections.reused)} reused{of}"))
    named = (("prompt", tokens.prompt), ("completion", tokens.completion))
    inner = (("reasoning", tokens.reasoning), ("cached", tokens.cached))
    known = [f"{name} {n:,}" for name, n in named if n is not None]
    known += [f"{name} {n:,}" for name, n in inner if n]
    if known:
        partial = tokens.with_usage < tokens.answers
        of = f"  (of {count(tokens.with_usage)} answers with usage)" if partial else ""
        counted = "  (counted here, not by the server)" if tokens.sources.get("tokenizer") else ""
        out.append(("tokens", " · ".join(known) + of + counted))
    if summary.bench is not None:
        out += bench_outcome(summary.bench)
    return out + costs(summary) + _held_back(summary)


def _between(cost: float | None, most: float | None) -> str:
    """A cost as far as it was told, and the most it can be."""
    if most is None:
        return "not known" if cost is None else f"at least {amount(cost)}"
    if cost is None:
        return f"at most {amount(most)}"
    return amount(cost) if most == cost else f"{amount(cost)}, at most {amount(most)}"


def costs(summary: Summary) -> list[Fact]:
    """What the answers cost, and apart from them all else; nothing where nobody gave prices or told."""
    cost = summary.cost
    if not cost.priced and cost.total is None:
        return []
    whose = " and ".join(_BY.get(name, name) for name in sorted(cost.sources))
    known = "" if cost.answers_known in {0, cost.answers} else f"{count(cost.answers_known)} of "
    of = f"{known}{several(cost.answers, 'answer')}"
    by = f", from {whose}" if whose else ""
    out = [("cost", f"{'not known' if cost.accepted is None else amount(cost.accepted)}  of {of}{by}")]
    if cost.lost is not None or cost.lost_at_most is not None or cost.lost_unknown:
        unknown = f" · of {count(cost.lost_unknown)} of them nothing is known" if cost.lost_unknown else ""
        lost = _between(cost.lost, cost.lost_at_most)
        out.append(("cost, lost", f"{lost}  of failed, cut and superseded attempts{unknown}"))
    if len(out) > 1 or cost.at_most != cost.accepted:
        out.append(("cost, all", _between(cost.total, cost.at_most)))
    return out


def _held_back(summary: Summary) -> list[Fact]:
    """What kept requests from going at once, over all sessions; nothing where nothing did."""
    paces = [s.pacing for s in summary.sessions if s.pacing is not None]
    out, cooldowns = [], sum(p.cooldowns for p in paces)
    if cooldowns:
        cooled = duration(sum(p.cooldown_s for p in paces))
        out.append(f"{several(cooldowns, 'cool-down')} after a 429 or 503, {cooled}")
    if paced := sum(p.paced_s for p in paces):
        out.append(f"{duration(paced)} by --rpm or --tpm")
    lowest = [p.lowest_concurrency for p in paces if p.lowest_concurrency is not None]
    highest = [p.highest_concurrency for p in paces if p.highest_concurrency is not None]
    if lowest and highest:
        out.append(f"{min(lowest)} to {max(highest)} at once (--adaptive)")
    if any(p.budget_lowered for p in paces):
        out.append("fewer at once for --max-cost")
    return [("held back", " · ".join(out))] if out else []


def endpoints(summary: Summary) -> Table:
    """A row an endpoint; no rows where there was one."""
    rows = [
        [
            e.base_url,
            count(e.requests),
            count(e.ok),
            count(e.error),
            count(e.cancelled),
            count(e.earlier_failed),
            number(e.ttft_p50_ms),
        ]
        for e in summary.endpoints
    ]
    header = ["endpoint", "requests", "ok", "failed", "cancelled", "retried", "ttft p50, ms"]
    return Table(header, rows if len(rows) > 1 else [])


def _times_row(name: str, d: Distribution) -> list[str]:
    return [name, count(d.n), *(percentile(d, p) for p in PERCENTILES), number(d.mean), number(d.max)]


def times(summary: Summary) -> Table:
    """Every latency that has values, in ms."""
    rows = [_times_row(name, summary.metrics[name]) for name in TIMES if summary.metrics[name].n]
    return Table(["ms", "n", *_PS, "mean", "max"], rows)


def rates(summary: Summary) -> Table:
    """Every per-stream rate that has values, in tokens/s."""
    rows = [_times_row(name, summary.metrics[name]) for name in RATES if summary.metrics[name].n]
    return Table(["tokens/s", "n", *_PS, "mean", "max"], rows)


def with_failures(summary: Summary) -> Table:
    """The second reading; no rows where nothing failed."""
    rows = []
    for name in TIMES:
        d = summary.metrics[name]
        if d.with_failures and d.with_failures.failures and d.n:
            cells = (percentile_with_failures(d.with_failures, p) for p in PERCENTILES)
            rows.append([name, count(d.with_failures.n), *cells])
    return Table(["ms, no answer as inf", "n", *_PS], rows)


def sessions(summary: Summary) -> Table:
    """A row a session; rates are of the whole session."""
    cut = any(s.cut for s in summary.sessions)
    rows = [
        [
            str(s.number),
            s.started or NONE,
            duration(s.wall_s),
            count(s.ok),
            *([count(s.cut)] if cut else []),
            count(s.error),
            count(s.cancelled - s.cut),
            number(s.requests_per_s),
            (">=" if s.with_usage < s.ok and s.output_tokens_per_s else "") + number(s.output_tokens_per_s),
            _ENDED.get(s.ended_by, s.ended_by) if s.ended_by else "not written",
        ]
        for s in summary.sessions
    ]
    named = ["session", "started", "wall", "ok", *(["cut"] if cut else []), "failed", "cancelled"]
    return Table([*named, "ok/s", "tokens/s", "ended"], rows)


def absent(summary: Summary) -> list[str]:
    """The metrics without a single value."""
    return [name for name in (*TIMES, *RATES) if not summary.metrics[name].n]


def _one_rate(summary: Summary) -> str:
    only = summary.sessions[0] if len(summary.sessions) == 1 else None
    return number(only.output_tokens_per_s) if only else NONE


def side_by_side(summaries: list[Summary]) -> Table:
    """A column a run; nothing is pooled."""

    def row(label: str, cells: list[str]) -> list[str]:
        return [label, *cells]

    any_cut = any(s.requests.cut for s in summaries)
    not_served = [count(s.bench.unserved.n) if s.bench else NONE for s in summaries]
    rows = [
        row("model", apart([model(s) for s in summaries])),
        row("answered", [count(s.requests.ok) for s in summaries]),
        row("failed", [count(s.requests.error) for s in summaries]),
        *([row("cut", [count(s.requests.cut) for s in summaries])] if any_cut else []),
        *([row("not served", not_served)] if any(s.bench for s in summaries) else []),
        row("cancelled", [count(s.requests.cancelled - s.requests.cut) for s in summaries]),
        row("errors", [share(s.requests.errors_share) for s in summaries]),
        row("sessions", [count(len(s.sessions)) for s in summaries]),
        row("wall", [duration(wall_s(s)) for s in summaries]),
        row("prompt tokens", [count(s.tokens.prompt) for s in summaries]),
        row("completion tokens", [count(s.tokens.completion) for s in summaries]),
        row("tokens/s, session", [_one_rate(s) for s in summaries]),
    ]
    if any(costs(s) for s in summaries):
        rows.append(row("cost", [amount(s.cost.accepted) for s in summaries]))
        rows.append(row("cost, all", [amount(s.cost.total) for s in summaries]))
        rows.append(row("cost, at most", [amount(s.cost.at_most) for s in summaries]))
    for name in (*TIMES, *RATES):
        metrics = [s.metrics[name] for s in summaries]
        if not any(d.n for d in metrics):
            continue
        rows.append(row(f"{name}  n", [count(d.n) for d in metrics]))
        rows += [
            row(f"{name}  p{p}, {metrics[0].unit}", [percentile(d, p) for d in metrics]) for p in PERCENTILES
        ]
        rows.append(row(f"{name}  mean, {metrics[0].unit}", [number(d.mean) for d in metrics]))
    return Table(["", *names(summaries)], rows)
