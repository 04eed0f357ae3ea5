"""Times of tokens: what a client says of them, and what the mock server's log says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.children import BenchError

# Milliseconds by what they are.
Times = dict[str, list[float]]


def our_times(folder: Path, entries: list[dict[str, Any]]) -> Times:
    """What a run directory says of its tokens, beside what the server's log says of them."""
    session = json.loads((folder / "run.json").read_text(encoding="utf-8"))["sessions"][-1]
    by_id = {entry["request_id"]: entry for entry in entries}
    times: Times = {}
    for record in (line for path in sorted(folder.glob("records*.jsonl")) for line in json_lines(path)):
        if record.get("first_token_at") is None:
            continue
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
    for answer in json_lines(answers):
        entry = by_prompt[answer["prompt"]]
        _add(times, "first_lag", [answer["first_token_ns"] - entry["first_token_sent_ns"]])
        _add(times, "ttft", [answer["first_token_ns"] - answer["sent_ns"]])
    return times


def percentile(values: list[float], percent: int) -> float:
    """The nearest rank: a value that was seen."""
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]


def _add(times: Times, key: str, nanoseconds: list[int]) -> None:
    times.setdefault(key, []).extend(value / 1e6 for value in nanoseconds)


def entries(log: Path, since: int, count: int) -> list[dict[str, Any]]:
    """What the mock's log says of the requests that came after `since`, once it says it of all."""
    until = time.monotonic() + 10
    while True:
        found = [entry for entry in json_lines(log) if entry["received_ns"] >= since]
        if len(found) >= count:
            return found
        if time.monotonic() > until:
            raise BenchError(f"the mock server's log has {len(found)} of {count} requests")
        time.sleep(0.05)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSONL file."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # the last one may still be on its way
                    yield json.loads(line)


def first_received(log: Path, since: int) -> int:
    """When the first request after `since` reached the mock server, once its log says so."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        received = [entry["received_ns"] for entry in json_lines(log) if entry["received_ns"] >= since]
        if received:
            return int(min(received))
        time.sleep(0.05)
    raise BenchError("no request reached the mock server within 60 s")
