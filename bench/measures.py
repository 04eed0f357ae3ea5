"""The measures. Each starts its own mock server, and takes turns between what it compares.

CPU is that of the whole child process, user and system. A marginal cost is the difference between a large run
and a small one, so that start-up, imports and what is done once drop out.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.children import STREAMGAUGE, BenchError, Spent, mock, run, script, started
from bench.table import Row

SIXTH = 1 / 6
_FLOOR = "bare protocol"
_LOG = "server's log"


class Scale(msgspec.Struct, frozen=True):
    """How much of everything."""

    rounds: int = 3
    flooded: tuple[int, int] = (4000, 400)  # requests
    paced_streams: int = 100
    paced_requests: int = 200
    paced_tokens: tuple[int, int] = (200, 20)
    memory: tuple[int, int] = (200_000, 2_000)  # requests
    starts: int = 10
    first_requests: int = 5


QUICK = Scale(
    rounds=1, flooded=(1000, 100), paced_requests=100, memory=(20_000, 2_000), starts=3, first_requests=2
)


def write_prompts(folder: Path, count: int) -> Path:
    """A file of so many short prompts."""
    path = folder / f"prompts-{count}.jsonl"
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                file.write(json.dumps({"prompt": f"Tell me of river {number}."}) + "\n")
    return path


class _Client(msgspec.Struct, frozen=True):
    """One way to send a prompt file, as a child process with a fresh output folder."""

    folder: Path
    url: str
    concurrency: int

    def ours(self, prompts: Path, tokens: int, *, timeout_s: float = 600.0) -> Spent:
        return run(self.ours_command(prompts, tokens), self.folder, timeout_s=timeout_s)

    def ours_command(self, prompts: Path, tokens: int) -> list[str]:
        out = self.folder / "ours"
        shutil.rmtree(out, ignore_errors=True)
        options = {"--base-url": self.url, "-m": "mock", "-c": self.concurrency, "--max-tokens": tokens}
        given = [str(part) for option in options.items() for part in option]
        return [STREAMGAUGE, "run", str(prompts), "-o", str(out), *given]

    def script(self, prompts: Path, tokens: int) -> Spent:
        return run(self.script_command(prompts, tokens), self.folder)

    def script_command(self, prompts: Path, tokens: int) -> list[str]:
        out = self.folder / "script.jsonl"
        out.unlink(missing_ok=True)
        numbers = [str(self.concurrency), str(tokens)]
        return [*script("openai_script.py"), str(prompts), self.url, str(out), *numbers]

    def floor(self, prompts: Path, tokens: int) -> Spent:
        return run(
            [*script("floor.py"), str(prompts), self.url, str(self.concurrency), str(tokens)], self.folder
        )

    def each(self) -> dict[str, Callable[[Path, int], Spent]]:
        return {"ours": self.ours, "script": self.script, "floor": self.floor}


def flooded(folder: Path, scale: Scale) -> Iterator[Row]:
    """CPU of a request whose 32 tokens come as fast as they can be read."""
    many, few = scale.flooded
    large, small = write_prompts(folder, many), write_prompts(folder, few)
    whole: dict[str, list[float]] = {}
    marginal: dict[str, list[float]] = {}
    with mock(folder / "mock") as url:
        clients = _Client(folder, url, 32).each()
        for send in clients.values():
            send(small, 32)  # byte code and page cache are warm from here on
        for _ in range(scale.rounds):
            for name, send in clients.items():
                big = send(large, 32).cpu_s
                whole.setdefault(name, []).append(big / many * 1e3)
                marginal.setdefault(name, []).append((big - send(small, 32).cpu_s) / (many - few) * 1e3)
    yield _against_script(f"CPU a request of 32 tokens, of {many:,}, start to end", "ms", whole)
    yield _against_script("CPU a further request of 32 tokens", "ms", marginal)


def paced(folder: Path, scale: Scale) -> Iterator[Row]:
    """CPU of a token event of streams that send 100 tokens a second each."""
    prompts = write_prompts(folder, scale.paced_requests)
    many, few = scale.paced_tokens
    events = scale.paced_requests * (many - few)
    marginal: dict[str, list[float]] = {}
    with mock(folder / "mock", "--ttft", "50", "--itl", "10") as url:
        clients = _Client(folder, url, scale.paced_streams).each()
        for send in clients.values():
            send(prompts, few)
        for _ in range(scale.rounds):
            for name, send in clients.items():
                spent = send(prompts, many).cpu_s - send(prompts, few).cpu_s
                marginal.setdefault(name, []).append(spent / events * 1e6)
    yield _against_script(f"CPU a token event, {scale.paced_streams} streams of 100 tokens/s", "us", marginal)


def _against_script(measure: str, unit: str, found: dict[str, list[float]]) -> Row:
    return Row(
        measure=measure,
        unit=unit,
        ours=median(found["ours"]),
        script=median(found["script"]),
        reference=median(found["floor"]),
        reference_is=_FLOOR,
        ratio_goal=SIXTH,
    )


def memory(folder: Path, scale: Scale) -> Iterator[Row]:
    """How the peak of memory grows with the number of prompts."""
    many, few = scale.memory
    peaks: dict[int, float] = {}
    reports: dict[int, float] = {}
    with mock(folder / "mock") as url:
        client = _Client(folder, url, 64)
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
        client = _Client(folder, url, 32)
        for turn in range(scale.first_requests + 1):
            for name, command in (("ours", client.ours_command), ("script", client.script_command)):
                with started(command(prompts, 1), folder) as since:
                    seconds = (_first_received(log, since) - since) / 1e9
                if turn:
                    found[name].append(seconds)
    yield Row(
        measure="first request after start, file of 10,000 rows",
        unit="s",
        ours=median(found["ours"]),
        script=median(found["script"]),
        goal=1,
    )


def _first_received(log: Path, since: int) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        received = [entry["received_ns"] for entry in _json_lines(log) if entry["received_ns"] >= since]
        if received:
            return int(min(received))
        time.sleep(0.05)
    raise BenchError("no request reached the mock server within 60 s")


def timing(folder: Path, scale: Scale) -> Iterator[Row]:
    """Our times of tokens against those the server says it sent them at."""
    prompts = write_prompts(folder, scale.paced_requests)
    tokens = scale.paced_tokens[0]
    log = folder / "log.jsonl"
    rounds: dict[str, list[Times]] = {"ours": [], "script": []}
    with mock(folder / "mock", "--ttft", "50", "--itl", "10", "--log", str(log)) as url:
        client = _Client(folder, url, scale.paced_streams)
        for _ in range(scale.rounds):
            since = time.monotonic_ns()
            client.ours(prompts, tokens)
            rounds["ours"].append(our_times(folder / "ours", _entries(log, since, scale.paced_requests)))
            since = time.monotonic_ns()
            client.script(prompts, tokens)
            answers = folder / "script.jsonl"
            rounds["script"].append(script_times(answers, _entries(log, since, scale.paced_requests)))
    for measure, key, truth in (
        ("first token stamped after the server sent it", "first_lag", None),
        ("any token stamped after the server sent it", "lag", None),
        ("TTFT", "ttft", "true_ttft"),
        ("gap between tokens (ITL)", "itl", "true_itl"),
    ):
        for percent in (50, 99):
            yield _timing_row(f"{measure}, p{percent}", rounds, key, truth, percent)


# Milliseconds by what they are.
Times = dict[str, list[float]]


def our_times(folder: Path, entries: list[dict[str, Any]]) -> Times:
    """What a run directory says of its tokens, beside what the server's log says of them."""
    session = json.loads((folder / "run.json").read_text(encoding="utf-8"))["sessions"][-1]
    by_id = {entry["request_id"]: entry for entry in entries}
    times: Times = {}
    for record in _json_lines(folder / "records.jsonl"):
        entry = by_id[record["response"]["headers"]["x-request-id"]]
        first = record["first_token_at"] + session["anchor_ns"]
        sent = entry["first_token_sent_ns"]
        lags = [
            first - sent + (ours - theirs) * 1000
            for ours, theirs in zip(record["chunk_us"], entry["token_us"], strict=True)
        ]
        _add(times, "first_lag", [first - sent])
        _add(times, "lag", lags)
        _add(times, "ttft", [record["first_token_at"] - record["sent_at"]])
        _add(times, "true_ttft", [sent - entry["received_ns"]])
        _add(times, "itl", [(b - a) * 1000 for a, b in pairwise(record["chunk_us"])])
        _add(times, "true_itl", [(b - a) * 1000 for a, b in pairwise(entry["token_us"])])
    return times


def script_times(answers: Path, entries: list[dict[str, Any]]) -> Times:
    """The same of the openai script, which keeps the first token's time only."""
    by_prompt = {entry["prompt"]: entry for entry in entries}
    times: Times = {}
    for answer in _json_lines(answers):
        entry = by_prompt[answer["prompt"]]
        _add(times, "first_lag", [answer["first_token_ns"] - entry["first_token_sent_ns"]])
        _add(times, "ttft", [answer["first_token_ns"] - answer["sent_ns"]])
    return times


def percentile(values: list[float], percent: int) -> float:
    """The nearest rank: a value that was seen."""
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]


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


def _add(times: Times, key: str, nanoseconds: list[int]) -> None:
    times.setdefault(key, []).extend(value / 1e6 for value in nanoseconds)


def _entries(log: Path, since: int, count: int) -> list[dict[str, Any]]:
    """What the mock's log says of the requests that came after `since`, once it says it of all."""
    until = time.monotonic() + 10
    while True:
        found = [entry for entry in _json_lines(log) if entry["received_ns"] >= since]
        if len(found) >= count:
            return found
        if time.monotonic() > until:
            raise BenchError(f"the mock server's log has {len(found)} of {count} requests")
        time.sleep(0.05)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # the last one may still be on its way
                    yield json.loads(line)


MEASURES: dict[str, Callable[[Path, Scale], Iterator[Row]]] = {
    "start": start,
    "flooded": flooded,
    "paced": paced,
    "timing": timing,
    "memory": memory,
}
