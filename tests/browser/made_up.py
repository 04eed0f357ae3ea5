"""Runs that nobody made: what a bench would have written, drawn from a seed, the same on every machine.

An open loop against a server that is slow for a tenth of the time and fails now and then. The pages of these
runs are looked at by the tests of this folder, and are what the pictures in docs/images show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from runner.record import Connection, Error, ErrorKind, Record
from runner.store import Manifest, PromptFile, Session

MS = 1_000_000
URL = "http://gauge.example:8000/v1"
PLANTED = "<script>window.__planted = 1</script><img src=x onerror='window.__planted = 2'>"
# fmt: off
_WORDS = [
    "river", "stone", "water", "level", "rises", "falls", "slow", "bank",
    "mill", "gauge", "rain", "flood", "dry", "measure", "stream", "bed",
]
# fmt: on


Floats = npt.NDArray[np.float64]


class Server(msgspec.Struct, kw_only=True):
    """How the server that never was behaves."""

    ttft_ms: float = 120.0
    per_prompt_token_ms: float = 0.25
    itl_ms: float = 14.0
    failing: float = 0.02  # share of requests
    spell: tuple[float, float] = (0.45, 0.55)  # of the run: everything takes twice as long
    most_per_s: float | None = None  # requests beyond wait for those before them


def write_run(
    run: Path,
    records: Iterable[Record],
    *,
    kind: Literal["run", "bench"] = "bench",
    scenario: dict[str, Any] | None = None,
    load: dict[str, Any] | None = None,
    end_ns: int = 0,
    expects: int = 0,
    wall_s: int = 0,
    model: str = "river-7b",
    target: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Write a run directory.

    Args:
        run: where.
        records: its journal.
        kind: as in the manifest.
        scenario: beside the target.
        load: what the session says of its load.
        end_ns: of the session.
        expects: rows that say what they expect.
        wall_s: of its start, after that of the first.
        model: that was asked.
        target: more of it.
        tags: of the run.
    """
    run.mkdir(parents=True)
    clock = f"{9 + wall_s // 3600:02d}:{wall_s // 60 % 60:02d}:{wall_s % 60:02d}"
    session = Session(
        number=1,
        started=f"2026-03-02T{clock}Z",
        anchor_ns=10**15,
        wall_ns=1_772_442_000 * 10**9 + wall_s * 10**9,
        boot_id=None,
        host="gauge-1",
        pid=1,
        versions={"streamgauge": "0.1.0", "python": "3.11.2"},
        options={"concurrency": 64},
        ended_at=end_ns,
        ended_by="finished",
        gauge={
            "load": load,
            "lag": {"n": end_ns // (10 * MS) + 1, "p50_ms": 0.12, "p99_ms": 0.9, "max_ms": 3.1, "missed": 0},
            "cpu": {"user_s": 0.08 * end_ns / 1e9, "system_s": 0.02 * end_ns / 1e9, "wall_s": end_ns / 1e9},
        }
        if load is not None
        else {},
    )
    asked = {"base_url": URL, "model": model, "api": "chat", **(target or {})}
    manifest = Manifest(
        kind=kind,
        created=session.started,
        scenario={"target": asked, **(scenario or {})},
        prompts=PromptFile("prompts.jsonl", "0" * 64, expects, expects, expects) if expects else None,
        sessions=[session],
        seed=42,
        tags=tags or {},
    )
    (run / "run.json").write_bytes(msgspec.json.encode(manifest))
    encode = msgspec.json.Encoder().encode
    with (run / "records.jsonl").open("wb") as journal:
        journal.writelines(encode(record) + b"\n" for record in records)
    return run


def bench(
    run: Path,
    *,
    n: int = 600,
    rate: float = 10.0,
    seed: int = 1,
    server: Server | None = None,
    planted: str = "",
    expect: bool = False,
    wrong: float = 0.0,
    pages: bool = False,
    prompts: str = "prompt",
    **more: Any,
) -> Path:
    """An open loop of n requests.

    Args:
        run: where.
        n: requests to measure.
        rate: of arrivals, a second.
        seed: draws everything.
        server: how it behaves.
        planted: what stands in every text that somebody else wrote.
        expect: rows say what they expect of their answers.
        wrong: share of answers that are not what is expected.
        pages: the server's own metrics were scraped.
        prompts: other words here are other prompts.
        more: for `write_run`.
    """
    server = server or Server()
    rng = np.random.default_rng(seed)
    due_ms = 1000 + np.cumsum(rng.exponential(1000 / rate, n))
    records = list(_answers(rng, due_ms, server, planted, expect, wrong, prompts))
    span = (1000 * MS, round(float(due_ms.max(initial=1000)) * MS) + 1)
    scenario: dict[str, Any] = {
        "name": "chat",
        "prompts": {"synthetic": {"input_tokens": 400}, "output_tokens": 48},
        "load": {
            "executor": "constant-arrival-rate",
            "rate": rate,
            "requests": n,
            "arrival": "poisson",
            "max_in_flight": 512,
        },
        "slo": {"ttft": "400ms", "tpot": "25ms"},
        "thresholds": {"ttft_sched": ["p(95)<600ms"], "goodput": ["rate>80%"], "errors": ["rate<1%"]},
    }
    load = {
        "executor": "constant-arrival-rate",
        "scheduled": n,
        "sent": n,
        "arrived": n,
        "unsent": 0,
        "held": 0,
        "mean_gap_ms": 1000 / rate,
        "schedule_begin_ns": span[0],
        "schedule_end_ns": span[1],
        "steady_begin_ns": span[0],
        "steady_end_ns": span[1],
        "max_in_flight": 512,
        "peak_in_flight": 24,
    }
    end_ns = max([record.ended_at or 0 for record in records], default=0) + 10 * MS
    write_run(run, records, scenario=scenario, load=load, end_ns=end_ns, expects=n if expect else 0, **more)
    if pages:
        _write_pages(run, records, end_ns)
    return run


def _answers(
    rng: np.random.Generator,
    due_ms: Floats,
    server: Server,
    planted: str,
    expect: bool,
    wrong: float,
    prompts: str,
) -> Iterator[Record]:
    n = len(due_ms)
    asked = rng.lognormal(5.6, 0.7, n).astype(int) + 8
    tokens = rng.integers(16, 64, n)
    late_ms = 0.05 + rng.exponential(0.15, n)
    place = np.arange(n) / max(n, 1)
    slow = np.where((place >= server.spell[0]) & (place < server.spell[1]), 2.0, 1.0)
    ttft_ms = (server.ttft_ms + server.per_prompt_token_ms * asked) * rng.lognormal(0, 0.16, n) * slow
    ttft_ms += _queued_ms(due_ms, server.most_per_s, rng)
    fails, holds = rng.random(n) < server.failing * slow, rng.random(n) >= wrong
    for i in range(n):
        gaps = (server.itl_ms * slow[i] * rng.lognormal(0, 0.25, tokens[i] - 1)).round(3)
        words = " ".join(rng.choice(_WORDS, int(tokens[i])))
        sent = round((due_ms[i] + late_ms[i]) * MS)
        first = sent + round(ttft_ms[i] * MS)
        chunks = [0, *(np.cumsum(gaps) * 1000).astype(int).tolist()]
        common: dict[str, Any] = {
            "id": _id(f"{prompts} {i} request"),
            "prompt_id": _id(f"{prompts} {i}"),
            "index": i,
            "custom_id": None,
            "sample": 0,
            "session": 1,
            "phase": "measure",
            "scheduled_at": round(due_ms[i] * MS),
            "sent_at": sent,
            "connection": Connection(reused=i > 12, connect_ns=None if i > 12 else 700_000, base_url=URL),
            "asked_input_tokens": int(asked[i]),
            "asked_output_tokens": int(tokens[i]),
            "request": {
                "model": "river-7b",
                "messages": [{"role": "user", "content": f"How high is the water at gauge {i}? {planted}"}],
            },
            "row": {"expect": {"contains": f"Gauge {i}"}} if expect else {},
        }
        if fails[i]:
            yield _failed(common, i, first, chunks, planted)
            continue
        last = first + chunks[-1] * 1000
        yield Record(
            **common,
            headers_at=sent + (first - sent) // 3,
            first_token_at=first,
            first_content_at=first,
            last_token_at=last,
            ended_at=last + MS // 2,
            status="ok",
            finish_reason="stop" if i % 9 else "length",
            text=f"{'Gauge' if holds[i] else 'No idea'} {i}: {words}. {planted}",
            usage={
                "prompt_tokens": int(asked[i]),
                "completion_tokens": int(tokens[i]),
                "total_tokens": int(asked[i] + tokens[i]),
            },
            usage_source="server",
            chunk_us=chunks,
        )


def _queued_ms(due_ms: Floats, most_per_s: float | None, rng: np.random.Generator) -> Floats:
    """How long each request waits for those before it (Lindley's recursion)."""
    waits = np.zeros(len(due_ms))
    if most_per_s is None:
        return waits
    service_ms = rng.exponential(1000 / most_per_s, len(due_ms))
    for i in range(1, len(due_ms)):
        waits[i] = max(0.0, waits[i - 1] + service_ms[i - 1] - (due_ms[i] - due_ms[i - 1]))
    return waits


def _failed(common: dict[str, Any], i: int, first: int, chunks: list[int], planted: str) -> Record:
    sent = common["sent_at"]
    none: dict[str, Any] = {"first_content_at": None, "finish_reason": None, "usage": None}
    if i % 3 == 0:
        error = Error(ErrorKind.TRUNCATED, f"the body broke off {planted}", retryable=True)
        half = chunks[: len(chunks) // 2 + 1]
        last = first + half[-1] * 1000
        times = {"headers_at": sent + MS, "first_token_at": first, "last_token_at": last, "ended_at": last}
        return Record(**common, **none, **times, status="error", error=error, text="half", chunk_us=half)
    error = Error(
        ErrorKind.OVERLOADED, f"HTTP 503: no room {planted}", http_status=503, retryable=True, excerpt=planted
    )
    times = {"headers_at": sent + 9 * MS, "ended_at": sent + 10 * MS}
    return Record(
        **common, **none, **times, first_token_at=None, last_token_at=None, status="error", error=error
    )


def _id(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _write_pages(run: Path, records: list[Record], end_ns: int) -> None:
    """A scrape a second, as vLLM tells."""
    lines = []
    for at in range(0, end_ns, 1000 * MS):
        here = [r for r in records if r.sent_at is not None and r.sent_at <= at < (r.ended_at or 0)]
        running = min(len(here), 12)
        text = (
            f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {len(here) - running}\n"
            f"vllm:kv_cache_usage_perc {min(1.0, 0.04 * len(here)):.3f}\n"
        )
        lines.append(msgspec.json.encode({"at": at, "status": 200, "text": text}))
    (run / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
