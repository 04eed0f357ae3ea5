"""Every format of a report: Summary -> str. A new format is a function and a line here.

JSON is the `Summary` itself (a list of them for several runs). CSV is long: a row a run and metric, counts
and sums in `value`, distributions in the columns after it; an empty cell is "no such number". Where
`lower_bound` is True some answers did not tell, and the true value is higher.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from reports import markdown, text
from reports.bench_tables import per_thousand
from reports.cells import csv_cell
from reports.distribution import PERCENTILES, Distribution
from reports.notes import wall_s
from reports.summary import Summary

_PS = tuple(f"p{p}" for p in PERCENTILES)
_SECOND = ("n_with_failures", *(f"{p}_with_failures" for p in _PS))
COLUMNS = (
    "run",
    "metric",
    "unit",
    "n",
    "value",
    "mean",
    "stdev",
    "min",
    "max",
    *_PS,
    *_SECOND,
    "exact",
    "resolution",
    *(f"{p}_{end}" for p in _PS for end in ("low", "high")),
    "lower_bound",
)


def _single(summary: Summary) -> Iterator[dict[str, Any]]:
    requests, tokens, cost = summary.requests, summary.tokens, summary.cost
    values: list[tuple[str, str, int, float | None]] = [
        ("requests", "1", requests.total, requests.total),
        ("ok", "1", requests.total, requests.ok),
        ("error", "1", requests.total, requests.error),
        ("cancelled", "1", requests.total, requests.cancelled),
        ("cut", "1", requests.total, requests.cut),
        ("unsent", "1", requests.total, requests.unsent),
        ("errors", "share", requests.ok + requests.error, requests.errors_share),
        ("wall", "s", len(summary.sessions), wall_s(summary)),
        ("prompt_tokens", "1", tokens.with_usage, tokens.prompt),
        ("completion_tokens", "1", tokens.with_usage, tokens.completion),
        ("reasoning_tokens", "1", tokens.with_usage, tokens.reasoning),
        ("cached_tokens", "1", tokens.with_usage, tokens.cached),
        ("lost_prompt_tokens", "1", tokens.lost_with_usage, tokens.lost_prompt),
        ("lost_completion_tokens", "1", tokens.lost_with_usage, tokens.lost_completion),
        ("cost", "currency", cost.answers_known, cost.accepted),
        ("lost_cost", "currency", cost.lost_known, cost.lost),
        ("cost_per_1000_answers", "currency", cost.answers_known, per_thousand(summary)),
        ("total_cost", "currency", cost.answers_known + cost.lost_known, cost.total),
        ("total_cost_at_most", "currency", cost.answers + cost.lost_attempts, cost.at_most),
    ]
    if (expect := summary.expect) is not None and expect.judged:
        values.append(("expect", "share", expect.judged, expect.passed / expect.judged))
    for name, unit, n, value in values:
        yield {"metric": name, "unit": unit, "n": n, "value": value}


def _bench(summary: Summary) -> Iterator[dict[str, Any]]:
    """The fitness of the client comes first: whoever reads the numbers below has read it."""
    bench = summary.bench
    if bench is not None:
        yield {"metric": "validity", "unit": "level", "value": bench.validity.level}
        for reason in bench.validity.reasons:
            yield {"metric": f"validity.{reason.check}", "unit": reason.level, "value": reason.measured}
    for key, value in sorted(summary.tags.items()):
        yield {"metric": f"tag.{key}", "unit": "text", "value": value}
    if bench is None:
        return
    for verdict in bench.verdicts:
        yield {"metric": f"threshold.{verdict.threshold}", "unit": verdict.verdict, "value": verdict.value}
    for label in bench.labels:
        yield {"metric": f"label.{label.name}", "unit": "label", "value": label.value}
    for span, window in (("steady", bench.steady), ("whole", bench.whole)):
        yield {"metric": f"{span}.seconds", "unit": "s", "n": window.answers, "value": window.seconds}
        for rate in ("request_throughput", "output_throughput", "input_throughput"):
            yield {
                "metric": f"{span}.{rate}",
                "unit": "1/s",
                "n": window.answers,
                "value": getattr(window, rate),
                "lower_bound": window.at_least(rate) if getattr(window, rate) is not None else "",
            }
    good = bench.goodput
    yield {
        "metric": "goodput",
        "unit": "share",
        "n": good.of,
        "value": good.share,
        "min": good.low,
        "max": good.high,
    }
    yield {"metric": "unserved", "unit": "share", "n": bench.unserved.of, "value": bench.unserved.share}
    if bench.in_flight_mean is not None:
        yield {
            "metric": "in_flight",
            "unit": "1",
            "mean": bench.in_flight_mean,
            "lower_bound": bench.in_flight_at_least,
        }
    for which, asked in (("input", bench.input_tokens), ("output", bench.output_tokens)):
        yield {"metric": f"{which}_tokens_reached", "unit": "share", "n": asked.n, "value": asked.share}
    yield {"metric": "held", "unit": "1", "n": bench.load.scheduled, "value": bench.held}
    lag = bench.client.lag
    yield {"metric": "loop_lag_p99", "unit": "ms", "n": lag and lag.n, "value": lag and lag.p99_ms}
    for what, found in (bench.server.values if bench.server else {}).items():
        yield {"metric": f"server.{what}", "unit": "1", "n": found.n, "mean": found.mean, "max": found.max}


def _distribution(name: str, d: Distribution) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": name, **msgspec.structs.asdict(d), **d.percentiles}
    if d.with_failures is not None:
        second = d.with_failures
        row["n_with_failures"] = second.n
        row |= {f"{p}_with_failures": value for p, value in second.percentiles.items()}
    for p, ends in d.ci.items():
        row |= {f"{p}_{end}": value for end, value in zip(("low", "high"), ends, strict=True)}
    return row


def to_csv(summaries: list[Summary]) -> str:
    """A row a run and metric."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for summary in summaries:
        rows = [
            *_bench(summary),
            *_single(summary),
            *(_distribution(name, d) for name, d in summary.metrics.items()),
        ]
        for row in rows:
            writer.writerow({key: csv_cell(cell) for key, cell in {"run": summary.path, **row}.items()})
    return out.getvalue()


def to_json(summaries: list[Summary]) -> str:
    """The summary; a list of them for any other number than one."""
    what: Any = summaries[0] if len(summaries) == 1 else summaries
    return msgspec.json.format(msgspec.json.encode(what), indent=2).decode() + "\n"


def _html(summaries: list[Summary]) -> str:
    from reports.html import render  # plotly is not for those who read text

    return render(summaries)


RENDERERS: dict[str, Callable[[list[Summary]], str]] = {
    "text": text.render,
    "json": to_json,
    "csv": to_csv,
    "markdown": markdown.render,
    "html": _html,
}
