"""The same run in other tools' definitions, each number with what sets it apart from ours.

Their formulas are applied to our records, so what differs is the definition and never the measurement: of
`vllm bench serve` (0.32, benchmarks/serve.py), aiperf (0.13, its metrics reference) and guidellm (0.8, its
request statistics). Where a tool counts tokens with a tokenizer of its own, this is the server's usage, or
n/a. Percentiles are linearly interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct, field

from reports.distribution import EXACT_UP_TO, RESOLUTION, Values
from reports.frame import Floats, frame, gaps_us
from reports.rows import Row, decoded, is_believable, latest_instants, open_index
from runner.store import load_manifest

Tool = Literal["vllm", "aiperf", "guidellm"]
TOOLS: tuple[Tool, ...] = ("vllm", "aiperf", "guidellm")

STATS: dict[Tool, tuple[str, ...]] = {
    "vllm": ("mean", "median", "p99"),
    "aiperf": ("avg", "p50", "p90", "p99"),
    "guidellm": ("mean", "median", "p95"),
}
_P = {"median": 50.0, "p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


class OtherNumber(Struct, kw_only=True):
    """One number as that tool prints it."""

    name: str
    unit: str
    stats: dict[str, float | None]
    differs: str


class Other(Struct, kw_only=True):
    """A run in one tool's definitions."""

    tool: Tool
    run: str
    requests: int
    seconds: float | None
    numbers: list[OtherNumber]
    note: str


_NOTES: dict[Tool, str] = {
    "vllm": "successful requests only, times from the actual send; a failure is in no number, and neither is "
    "the wait of an arrival beyond --max-concurrency.",
    "aiperf": "successful requests only, times from the actual send; when aiperf falls behind it moves its "
    "schedule, so its offered rate is lower than asked. Ours is not.",
    "guidellm": "successful requests only, times from the actual send, by the wall clock in the tool itself; "
    "means of its token metrics are weighted by tokens.",
}


class _Weighted:
    """Values that stand for as many as their weights say, without being repeated.

    Beyond as many as `Values` keeps, they are rounded to its resolution and those that are equal then put
    together.
    """

    def __init__(self) -> None:
        self._values = np.empty(0)
        self._weights = np.empty(0)

    def add(self, values: Floats, weights: Floats) -> None:
        good = ~np.isnan(values) & (weights >= 1)
        values, weights = np.append(self._values, values[good]), np.append(self._weights, weights[good])
        if len(values) > EXACT_UP_TO:
            step = np.log1p(RESOLUTION)
            places = np.round(np.log(np.maximum(values, 1e-4)) / step)
            found, where = np.unique(places, return_inverse=True)
            values = np.asarray(np.exp(found * step), dtype=np.float64)
            weights = np.bincount(where, weights).astype(np.float64)
        order = np.argsort(values, kind="stable")
        self._values, self._weights = values[order], weights[order]

    @property
    def mean(self) -> float | None:
        return float(np.average(self._values, weights=self._weights)) if len(self._values) else None

    def percentile(self, p: float) -> float | None:
        """As `np.percentile` of the values repeated."""
        if not len(self._values):
            return None
        ends = np.cumsum(self._weights)
        place = (ends[-1] - 1) * p / 100
        low, high = (
            self._values[min(int(np.searchsorted(ends, rank, side="right")), len(ends) - 1)]
            for rank in (np.floor(place), np.ceil(place))
        )
        return float(low + (high - low) * (place - np.floor(place)))


class _Sums(Struct):
    """What one pass keeps, whatever the tool."""

    requests: int = 0
    told: int = 0
    output_tokens: float = 0.0
    input_tokens: float = 0.0
    input_told: int = 0
    latency_s: float = 0.0
    begin_ns: float = np.inf
    end_ns: float = -np.inf
    values: dict[str, Values | _Weighted] = field(default_factory=dict)

    def add(self, name: str, values: Floats) -> None:
        to = self.values.setdefault(name, Values())
        assert isinstance(to, Values)
        to.add(values)

    def add_weighted(self, name: str, values: Floats, weights: Floats) -> None:
        to = self.values.setdefault(name, _Weighted())
        assert isinstance(to, _Weighted)
        to.add(values, weights)


def _add(to: _Sums, tool: Tool, rows: Sequence[Row]) -> None:
    block = frame(rows)
    at = {
        name: block[f"{name}_at_ns"].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in ("sent", "first_token", "last_token", "ended")
    }
    n = block["completion_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    prompt = block["prompt_tokens"].to_numpy(dtype=np.float64, na_value=np.nan)
    end = at["last_token" if tool == "aiperf" else "ended"]
    more = np.where(n > 1, n - 1, np.nan)
    to.requests += len(rows)
    to.told += int((~np.isnan(n)).sum())
    to.output_tokens += float(np.nansum(n))
    to.input_told += int((~np.isnan(prompt)).sum())
    to.input_tokens += float(np.nansum(prompt))
    to.latency_s += float(np.nansum(at["ended"] - at["sent"])) / 1e9
    to.begin_ns = min(to.begin_ns, float(np.nanmin(at["sent"], initial=np.inf)))
    to.end_ns = max(to.end_ns, float(np.nanmax(end, initial=-np.inf)))
    latency, ttft = (end - at["sent"]) / 1e6, (at["first_token"] - at["sent"]) / 1e6
    to.add("latency", latency)
    to.add("ttft", ttft)
    if tool == "vllm":
        to.add("tpot", (latency - ttft) / more)
        to.add("itl", gaps_us(rows) / 1e3)
    elif tool == "aiperf":
        itl = (latency - ttft) / more
        to.add("itl", itl)
        to.add("per_user", 1e3 / np.where(itl > 0, itl, np.nan))
    else:
        decode = (at["last_token"] - at["first_token"]) / 1e6 / more
        to.add_weighted("itl", decode, np.nan_to_num(more))
        counted = np.where(n > 0, n, np.nan)
        to.add_weighted("tpot", (at["last_token"] - at["sent"]) / 1e6 / counted, np.nan_to_num(n))


def as_other(run: Path, tool: Tool) -> Other:
    """A run in a tool's definitions: of measured requests that are ok and were streamed.

    Raises:
        StoreError: the manifest or the journal cannot be read.
    """
    sums, ends = _Sums(), latest_instants(load_manifest(run).sessions)
    for rows in decoded(open_index(run), Row):
        chosen = [r for r in rows if r.phase == "measure" and r.status == "ok" and r.streamed]
        chosen = [r for r in chosen if is_believable(r, ends)]
        if chosen:
            _add(sums, tool, chosen)
    seconds = (sums.end_ns - sums.begin_ns) / 1e9 if sums.end_ns > sums.begin_ns else None
    return Other(
        tool=tool,
        run=str(run),
        requests=sums.requests,
        seconds=seconds,
        numbers=_NUMBERS[tool](sums, seconds),
        note=_NOTES[tool],
    )


def _number(sums: _Sums, tool: Tool, key: str, name: str, unit: str, differs: str) -> OtherNumber:
    values = sums.values.get(key, Values())
    scale = 1e-3 if unit == "s" else 1.0
    stats: dict[str, float | None] = {}
    for stat in STATS[tool]:
        value = values.percentile(_P[stat]) if stat in _P else values.mean
        stats[stat] = None if value is None else value * scale
    return OtherNumber(name=name, unit=unit, stats=stats, differs=differs)


def _rate(
    tool: Tool, name: str, unit: str, total: float | None, seconds: float | None, differs: str
) -> OtherNumber:
    first = STATS[tool][0]
    value = total / seconds if total is not None and seconds else None
    return OtherNumber(name=name, unit=unit, stats={first: value}, differs=differs)


def _rates(
    sums: _Sums, tool: Tool, seconds: float | None, names: Sequence[tuple[str, str]]
) -> list[OtherNumber]:
    known = sums.output_tokens if sums.requests and sums.told == sums.requests else None
    given = sums.input_tokens if sums.requests and sums.input_told == sums.requests else None
    totals = {
        "requests": float(sums.requests) if sums.requests else None,
        "output": known,
        "total": None if known is None or given is None else known + given,
    }
    span = (
        "from the first send to the last answer, start and end of the load included; ours is of the steady "
        "window"
    )
    return [
        _rate(tool, name, "requests/s" if key == "requests" else "tokens/s", totals[key], seconds, span)
        for key, name in names
    ]


_VLLM_ITL = (
    "vLLM takes a gap for every chunk with choices behind the first such one: the finish chunk too, and the "
    "first token where a chunk that only names the role came before it. These are the gaps between chunks "
    "that bear tokens, pooled, as ours: one or two fewer a request"
)


def _vllm(sums: _Sums, seconds: float | None) -> list[OtherNumber]:
    names = [
        ("requests", "Request throughput"),
        ("output", "Output token throughput"),
        ("total", "Total token throughput"),
    ]
    return [
        *_rates(sums, "vllm", seconds, names),
        _number(
            *(sums, "vllm", "ttft", "TTFT", "ms"),
            "vLLM stamps the first chunk, even one that only names the role: where a server sends that early "
            "its TTFT is too low (2 ms reported where 50 was true). This is the first token, as ours",
        ),
        _number(
            *(sums, "vllm", "tpot", "TPOT", "ms"),
            "(E2EL - TTFT) / (tokens - 1): what comes behind the last token is in it (the finish and usage "
            "chunks; here all up to the end of the stream), and hidden reasoning tokens are counted; ours "
            "ends at the last token",
        ),
        _number(*(sums, "vllm", "itl", "ITL", "ms"), _VLLM_ITL),
        _number(
            *(sums, "vllm", "latency", "E2EL", "ms"),
            "from the actual send, to the last chunk before [DONE], usage chunk included. This is to the end "
            "of the stream, as our e2e: later by what the server takes to close it",
        ),
    ]


def _aiperf(sums: _Sums, seconds: float | None) -> list[OtherNumber]:
    names = [("output", "Output Token Throughput"), ("requests", "Request Throughput")]
    return [
        _number(
            *(sums, "aiperf", "ttft", "Time to First Token", "ms"), "first non-empty response: as our ttft"
        ),
        _number(
            *(sums, "aiperf", "latency", "Request Latency", "ms"),
            "to the last chunk with content; our e2e goes on to the end of the stream",
        ),
        _number(
            *(sums, "aiperf", "itl", "Inter Token Latency", "ms"),
            "one mean a request, (latency - TTFT) / (tokens - 1): our tpot, not our itl",
        ),
        _number(
            *(sums, "aiperf", "per_user", "Output Token Throughput Per User", "tokens/s/user"),
            "1 / Inter Token Latency; our output_rate counts the first token as well",
        ),
        *_rates(sums, "aiperf", seconds, names),
    ]


def _guidellm(sums: _Sums, seconds: float | None) -> list[OtherNumber]:
    names = [("requests", "Requests Per Second"), ("output", "Output Tokens Per Second")]
    concurrency = sums.latency_s if sums.requests else None
    return [
        _number(
            *(sums, "guidellm", "latency", "Request Latency", "s"),
            "from the actual send, in seconds: our e2e",
        ),
        _number(*(sums, "guidellm", "ttft", "Time to First Token", "ms"), "as our ttft"),
        _number(
            *(sums, "guidellm", "itl", "Inter-Token Latency", "ms"),
            "one mean a request, (last - first token) / (tokens - 1), weighted by tokens - 1: our tpot, long "
            "answers count for more",
        ),
        _number(
            *(sums, "guidellm", "tpot", "Time Per Output Token", "ms"),
            "(last token - send) / tokens, weighted by tokens: the wait for the first token is in it; not "
            "our tpot",
        ),
        *_rates(sums, "guidellm", seconds, names),
        _rate(
            *("guidellm", "Request Concurrency", "requests", concurrency, seconds),
            "sum of latencies / duration: the mean in flight of answered requests, over the whole run",
        ),
    ]


_NUMBERS = {"vllm": _vllm, "aiperf": _aiperf, "guidellm": _guidellm}
