"""The project's own version of the promises on accuracy and speed, against the mock server's log.

Streams of 100 tokens a second each, spread out (every read is a turn of the loop) and in lock-step (one turn
has many); then twice as many; then as fast as they come. Times are compared with the log, costs with those of
a bare protocol client in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.children import mock
from bench.clients import Client, Scale, write_prompts
from bench.table import Row
from bench.times import Times, entries, json_lines, our_times, percentile

SPREAD = ("--ttft", "50", "--ttft-dist", "normal", "--ttft-sd", "5", "--itl", "10")
LOCKSTEP = ("--ttft", "50", "--itl", "10", "--lockstep")
_LOG = "server's log"
# (what, how, percentile, at most so many ms)
_PROMISES = (
    ("TTFT", "ttft", 50, 1.0),
    ("TTFT", "ttft", 99, 5.0),
    ("ITL", "itl", 50, 0.1),
    ("ITL", "itl", 99, 3.0),
)
_CPU_RATIO = 2.5
_FLOOD_US = 1e6 / 250_000
_RULER = 1 / 5  # at most so much of the mock's rate is ours: else it is no ruler


def spread(folder: Path, scale: Scale) -> Iterator[Row]:
    """100 streams, spread out."""
    yield from _paced(folder, scale, "spread out", SPREAD)


def lockstep(folder: Path, scale: Scale) -> Iterator[Row]:
    """100 streams, in lock-step."""
    yield from _paced(folder, scale, "lock-step", LOCKSTEP)


def _paced(folder: Path, scale: Scale, how: str, options: tuple[str, ...]) -> Iterator[Row]:
    streams, (many, few) = scale.paced_streams, scale.accuracy_tokens
    prompts = write_prompts(folder, streams * scale.accuracy_requests)
    events = streams * scale.accuracy_requests * (many - few)
    log = folder / "log.jsonl"
    seen: list[Times] = []
    cost: dict[str, list[float]] = {"ours": [], "floor": []}
    with mock(folder / "mock", *options, "--log", str(log)) as url:
        client = Client(folder, url, streams)
        client.ours(prompts, few)
        client.floor(prompts, few)
        for _ in range(scale.rounds):
            floor_s = client.floor(prompts, many).cpu_s - client.floor(prompts, few).cpu_s
            few_s = client.ours(prompts, few).cpu_s
            since = time.monotonic_ns()
            ours_s = client.ours(prompts, many).cpu_s - few_s
            seen.append(our_times(client.out, entries(log, since, streams * scale.accuracy_requests)))
            cost["ours"].append(ours_s / events * 1e6)
            cost["floor"].append(floor_s / events * 1e6)
    load = f"{streams} x 100/s {how}"
    for what, key, percent, goal in _PROMISES:
        yield _off(f"{load}: {what} p{percent}, off by", seen, key, percent, goal)
    yield _stamped(load, seen)
    ours, floor = median(cost["ours"]), median(cost["floor"])
    yield Row(
        measure=f"{load}: CPU a token, {ours:.1f} us, over a bare protocol's {floor:.1f} us",
        unit="x",
        ours=ours / floor,
        goal=_CPU_RATIO,
    )


def carried(folder: Path, scale: Scale) -> Iterator[Row]:
    """200 streams of 100 tokens a second: 20,000 events a second in one process."""
    streams, tokens = 2 * scale.paced_streams, scale.accuracy_tokens[0]
    count = streams * scale.accuracy_requests
    prompts = write_prompts(folder, count)
    log = folder / "log.jsonl"
    load = f"{streams} x 100/s spread out"
    seen: list[Times] = []
    lost = 0
    with mock(folder / "mock", *SPREAD, "--log", str(log)) as url:
        client = Client(folder, url, streams)
        for _ in range(scale.rounds):
            since = time.monotonic_ns()
            client.ours(prompts, tokens)
            kept = sum(len(record["chunk_us"]) for record in json_lines(client.out / "records.jsonl"))
            lost = max(lost, count * tokens - kept)
            if kept == count * tokens:  # else there is nothing to compare one by one
                seen.append(our_times(client.out, entries(log, since, count)))
    yield Row(measure=f"{load}: tokens lost, of {count * tokens:,}", unit="tokens", ours=float(lost), goal=0)
    if seen:
        yield _off(f"{load}: TTFT p99, off by", seen, "ttft", 99, 15.0)
        yield _stamped(load, seen)


def flood(folder: Path, scale: Scale) -> Iterator[Row]:
    """Tokens as fast as they come, with text and times kept; and how fast the mock can send them."""
    (many, few), tokens = scale.flood, scale.flood_tokens
    large, small = write_prompts(folder, many), write_prompts(folder, few)
    events = (many - few) * tokens
    cpu_us: list[float] = []
    rate: dict[str, list[float]] = {"ours": [], "floor": []}
    with mock(folder / "mock") as url:
        client = Client(folder, url, 32)
        client.ours(small, tokens)
        client.floor(small, tokens)
        for _ in range(scale.rounds):
            big, little = client.ours(large, tokens), client.ours(small, tokens)
            cpu_us.append((big.cpu_s - little.cpu_s) / events * 1e6)
            rate["ours"].append(events / (big.wall_s - little.wall_s))
            big, little = client.floor(large, tokens), client.floor(small, tokens)
            rate["floor"].append(events / (big.wall_s - little.wall_s))
    ours_us = median(cpu_us)
    yield Row(
        measure=f"flooded: CPU a token ({1e6 / ours_us:,.0f} tokens/s on a core)",
        unit="us",
        ours=ours_us,
        goal=_FLOOD_US,
    )
    ours, fastest = median(rate["ours"]), median(rate["floor"])
    yield Row(
        measure=f"flooded: our {ours:,.0f} tokens/s as a share of the {fastest:,.0f} the mock sends",
        unit="x",
        ours=ours / fastest,
        goal=_RULER,
    )


def _off(measure: str, seen: list[Times], key: str, percent: int, goal: float) -> Row:
    """How far a percentile of ours is from the same percentile of the log's."""
    true = [percentile(times[f"true_{key}"], percent) for times in seen]
    ours = [percentile(times[key], percent) for times in seen]
    return Row(
        measure=measure,
        unit="ms",
        ours=median(abs(a - b) for a, b in zip(ours, true, strict=True)),
        reference=median(true),
        reference_is=_LOG,
        goal=goal,
    )


def _stamped(load: str, seen: list[Times]) -> Row:
    late = median(percentile(times["lag"], 99) for times in seen)
    return Row(measure=f"{load}: any token stamped after it was sent, p99", unit="ms", ours=late)
