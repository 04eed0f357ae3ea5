"""The measures. Each starts its own mock server, and takes turns between what it compares.

CPU is that of the whole child process, user and system. A marginal cost is the difference between a large run
and a small one, so that start-up, imports and what is done once drop out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench.accuracy import carried, flood, lockstep, spread
from bench.children import STREAMGAUGE, mock, run, started
from bench.clients import Client, Scale, write_prompts
from bench.table import Row
from bench.times import Times, entries, first_received, our_times, percentile, script_times

SIXTH = 1 / 6
REQUEST_MS = 0.5
_FLOOR = "bare protocol"
_LOG = "server's log"


def flooded(folder: Path, scale: Scale) -> Iterator[Row]:
    """CPU of a request whose 32 tokens come as fast as they can be read."""
    many, few = scale.flooded
    large, small = write_prompts(folder, many), write_prompts(folder, few)
    whole: dict[str, list[float]] = {}
    marginal: dict[str, list[float]] = {}
    with mock(folder / "mock") as url:
        clients = Client(folder, url, 32).each()
        for send in clients.values():
            send(small, 32)  # byte code and page cache are warm from here on
        for _ in range(scale.rounds):
            for name, send in clients.items():
                big = send(large, 32).cpu_s
                whole.setdefault(name, []).append(big / many * 1e3)
                marginal.setdefault(name, []).append((big - send(small, 32).cpu_s) / (many - few) * 1e3)
    yield _against_script(f"CPU a request of 32 tokens, of {many:,}, start to end", "ms", whole)
    yield _against_script(
        "CPU a further request of 32 tokens", "ms", marginal, ratio_goal=None, goal=REQUEST_MS
    )


def paced(folder: Path, scale: Scale) -> Iterator[Row]:
    """CPU of a token event of streams that send 100 tokens a second each."""
    prompts = write_prompts(folder, scale.paced_requests)
    many, few = scale.paced_tokens
    events = scale.paced_requests * (many - few)
    marginal: dict[str, list[float]] = {}
    with mock(folder / "mock", "--ttft", "50", "--itl", "10") as url:
        clients = Client(folder, url, scale.paced_streams).each()
        for send in clients.values():
            send(prompts, few)
        for _ in range(scale.rounds):
            for name, send in clients.items():
                spent = send(prompts, many).cpu_s - send(prompts, few).cpu_s
                marginal.setdefault(name, []).append(spent / events * 1e6)
    yield _against_script(f"CPU a token event, {scale.paced_streams} streams of 100 tokens/s", "us", marginal)


def _against_script(
    measure: str,
    unit: str,
    found: dict[str, list[float]],
    *,
    ratio_goal: float | None = SIXTH,
    goal: float | None = None,
) -> Row:
    return Row(
        measure=measure,
        unit=unit,
        ours=median(found["ours"]),
        script=median(found["script"]),
        reference=median(found["floor"]),
        reference_is=_FLOOR,
        ratio_goal=ratio_goal,
        goal=goal,
    )


def memory(folder: Path, scale: Scale) -> Iterator[Row]:
    """How the peak of memory grows with the number of prompts."""
    many, few = scale.memory
    peaks: dict[int, float] = {}
    reports: dict[int, float] = {}
    with mock(folder / "mock") as url:
        client = Client(folder, url, 64)
        for count in (few, many):
            peaks[count] = client.ours(write_prompts(folder, count), 2, timeout_s=1800).peak_mb
            reports[count] = run([STREAMGAUGE, "report", str(folder / "ours")], folder).peak_mb
    for what, found in (("run", peaks), ("report", reports)):
        yield Row(
            measure=f"peak memory of `{what}`, {many:,} prompts over {few:,}",
            unit="MB",
            ours=found[many] - found[few],
            reference=found[many],
            reference_is=f"at {many:,}",
            goal=30,
        )


def start(folder: Path, scale: Scale) -> Iterator[Row]:
    """How long it takes to say anything, and to send the first request."""
    helped = [run([STREAMGAUGE, "--help"], folder).wall_s for _ in range(scale.starts + 1)][1:]
    yield Row(measure="`streamgauge --help`", unit="s", ours=median(helped), goal=0.25)
    prompts = write_prompts(folder, 10_000)
    log = folder / "log.jsonl"
    found: dict[str, list[float]] = {"ours": [], "script": []}
    with mock(folder / "mock", "--log", str(log)) as url:
        client = Client(folder, url, 32)
        for turn in range(scale.first_requests + 1):
            for name, command in (("ours", client.ours_command), ("script", client.script_command)):
                with started(command(prompts, 1), folder) as since:
                    seconds = (first_received(log, since) - since) / 1e9
                if turn:
                    found[name].append(seconds)
    yield Row(
        measure="first request after start, file of 10,000 rows",
        unit="s",
        ours=median(found["ours"]),
        script=median(found["script"]),
        goal=1,
    )


def timing(folder: Path, scale: Scale) -> Iterator[Row]:
    """Our times of tokens against those the server says it sent them at."""
    prompts = write_prompts(folder, scale.paced_requests)
    tokens = scale.paced_tokens[0]
    log = folder / "log.jsonl"
    rounds: dict[str, list[Times]] = {"ours": [], "script": []}
    with mock(folder / "mock", "--ttft", "50", "--itl", "10", "--log", str(log)) as url:
        client = Client(folder, url, scale.paced_streams)
        for _ in range(scale.rounds):
            since = time.monotonic_ns()
            client.ours(prompts, tokens)
            rounds["ours"].append(our_times(folder / "ours", entries(log, since, scale.paced_requests)))
            since = time.monotonic_ns()
            client.script(prompts, tokens)
            answers = folder / "script.jsonl"
            rounds["script"].append(script_times(answers, entries(log, since, scale.paced_requests)))
    for measure, key, truth in (
        ("first token stamped after the server sent it", "first_lag", None),
        ("any token stamped after the server sent it", "lag", None),
        ("TTFT", "ttft", "true_ttft"),
        ("gap between tokens (ITL)", "itl", "true_itl"),
    ):
        for percent in (50, 99):
            yield _timing_row(f"{measure}, p{percent}", rounds, key, truth, percent)


def _timing_row(
    measure: str, rounds: dict[str, list[Times]], key: str, truth: str | None, percent: int
) -> Row:
    def middle(who: str, what: str) -> float | None:
        found = [percentile(times[what], percent) for times in rounds[who] if what in times]
        return median(found) if found else None

    ours = middle("ours", key)
    assert ours is not None
    return Row(
        measure=measure,
        unit="ms",
        ours=ours,
        script=middle("script", key),
        reference=middle("ours", truth) if truth else None,
        reference_is=_LOG,
    )


MEASURES: dict[str, Callable[[Path, Scale], Iterator[Row]]] = {
    "start": start,
    "flooded": flooded,
    "paced": paced,
    "timing": timing,
    "spread": spread,
    "lockstep": lockstep,
    "carried": carried,
    "flood": flood,
    "memory": memory,
}
