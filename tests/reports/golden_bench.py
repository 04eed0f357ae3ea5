"""Made `schema-3/`, a bench that every later version must read: `python -m tests.reports.golden_bench`.

Kept as the key to its numbers. Do not run it again over the fixture: its point is that it does not change.

An open loop at 10 requests/s: 4 of warm-up from 1.0 s on, then 24 measured from 1.4 to 3.8 s (steady window),
constant gaps. A usual answer is sent 1 ms late, has its first token 50 ms later, 5 chunks of one token 10 ms
apart, ends 1 ms after the last, and has 20 prompt tokens, 2 of them cached. Beside them:

    warm-up 3   chunks 30 ms apart (1351 ... 1471 ms): 3 of 5 tokens inside the window
    3           its third chunk shares a read with the second: one gap of 0
    5           HTTP 503
    7           sent 8 ms late: the one late send
    10          its user left after 2 tokens
    20          held 80 ms (max_in_flight), so sent 81 ms late
    21          first token 250 ms after its send, chunks 20 ms apart (3751 ... 3831 ms): 3 of 5 inside
    22          cut by the deadline, at 5.0 s
    23          never sent, in no record
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from runner.record import Connection, Error, ErrorKind, Record
from runner.store import Manifest, Session

MS = 1_000_000
PLACE = Path(__file__).parent / "schema-3"
URL = "http://127.0.0.1:8000/v1"


def _id(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def answer(index: int, scheduled_ms: int, **changes: Any) -> Record:
    late, wait, gap = changes.pop("late", 1), changes.pop("wait", 50), changes.pop("gap", 10)
    sent = scheduled_ms + late
    first = sent + wait
    chunks = changes.pop("chunks", [0, gap, 2 * gap, 3 * gap, 4 * gap])
    last = first + chunks[-1]
    values: dict[str, Any] = {
        "id": _id(f"request {index}"),
        "prompt_id": _id(f"prompt {index}"),
        "index": index,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        "scheduled_at": scheduled_ms * MS,
        "sent_at": sent * MS,
        "headers_at": (sent + 10) * MS,
        "first_token_at": first * MS,
        "first_content_at": first * MS,
        "last_token_at": last * MS,
        "ended_at": (last + 1) * MS,
        "status": "ok",
        "finish_reason": "stop",
        "text": "a b c d e",
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 5,
            "total_tokens": 25,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
        "usage_source": "server",
        "cost": 0.0002,
        "cost_source": "prices",
        "connection": Connection(reused=True, base_url=URL),
        "asked_input_tokens": 20,
        "asked_output_tokens": 6,
        "chunk_us": [1000 * ms for ms in chunks],
    }
    return Record(**{**values, **changes})


NOTHING: dict[str, Any] = {
    "finish_reason": None,
    "text": "",
    "usage": None,
    "usage_source": "none",
    "cost": None,
    "cost_source": "none",
}
NO_TOKENS: dict[str, Any] = {
    "first_token_at": None,
    "first_content_at": None,
    "last_token_at": None,
    "chunk_us": msgspec.UNSET,
}


def records() -> list[Record]:
    opened = Connection(reused=False, connect_ns=400_000, base_url=URL)
    out = [answer(i, 1000 + 100 * i, phase="warmup", connection=opened) for i in range(3)]
    out.append(answer(3, 1300, phase="warmup", gap=30, connection=opened))
    for k in range(23):
        index, scheduled = 4 + k, 1400 + 100 * k
        if k == 3:
            out.append(answer(index, scheduled, chunks=[0, 10, 10, 30, 40]))
        elif k == 5:
            error = Error(ErrorKind.OVERLOADED, "HTTP 503: come back later", http_status=503, retryable=True)
            refused = {**NOTHING, **NO_TOKENS, "status": "error", "error": error}
            out.append(answer(index, scheduled, **refused, ended_at=(scheduled + 12) * MS))
        elif k == 7:
            out.append(answer(index, scheduled, late=8))
        elif k == 10:
            left = {**NOTHING, "status": "cancelled", "cancelled_by": "abandon", "text": "a b"}
            out.append(answer(index, scheduled, chunks=[0, 10], **left))
        elif k == 20:
            out.append(answer(index, scheduled, late=81, held_ns=80 * MS))
        elif k == 21:
            out.append(answer(index, scheduled, wait=250, gap=20))
        elif k == 22:
            cut = {**NOTHING, "status": "cancelled", "cancelled_by": "deadline", "ended_at": 5000 * MS}
            out.append(answer(index, scheduled, chunks=[0], **cut))
        else:
            out.append(answer(index, scheduled))
    return out


def manifest() -> Manifest:
    scenario = {
        "name": "golden",
        "description": "a bench to check by hand",
        "seed": 42,
        "target": {"base_url": URL, "model": "river-1", "api": "chat"},
        "prompts": {"synthetic": {"input_tokens": 20, "unique": True}, "output_tokens": 6},
        "request": {"temperature": 0.0},
        "load": {
            "executor": "constant-arrival-rate",
            "rate": 10.0,
            "arrival": "constant",
            "duration": "2.4s",
            "warmup": "400ms",
            "max_in_flight": 4,
            "graceful_stop": "1200ms",
        },
        "slo": {"ttft": "200ms", "tpot": "15ms"},
        "thresholds": {
            "ttft_sched": ["p(95)<800ms", "p(99)<2s"],
            "goodput": ["rate>80%"],
        },
    }
    load = {
        "executor": "constant-arrival-rate",
        "scheduled": 24,
        "scheduled_warmup": 4,
        "sent": 23,
        "unsent": 1,
        "held": 2,
        "mean_gap_ms": 100.0,
        "schedule_begin_ns": 1400 * MS,
        "schedule_end_ns": 3800 * MS,
        "steady_begin_ns": 1400 * MS,
        "steady_end_ns": 3800 * MS,
        "max_in_flight": 4,
        "concurrency": None,
        "peak_in_flight": 4,
    }
    session = Session(
        number=1,
        started="2026-11-25T21:00:00+00:00",
        anchor_ns=5_000_000_000_000,
        wall_ns=1_795_640_400_000_000_000,
        boot_id=None,
        host="gauge-house",
        pid=101,
        versions={"python": "3.11.9", "streamgauge": "0.1.0"},
        options={"concurrency": 4, "prices": {"river-1": {"input": 5.0, "output": 20.0}}},
        ended_at=5001 * MS,
        ended_by="finished",
        gauge={
            "cpu_s": 0.5,
            "load": load,
            "lag": {"n": 400, "p50_ms": 0.2, "p99_ms": 6.0, "max_ms": 9.0, "missed": 1},
            "gc": {"pauses": 2, "total_ms": 3.0, "max_ms": 2.0},
            "cpu": {"user_s": 0.4, "system_s": 0.1, "wall_s": 4.0},
            "clock": {"late": 1},
            "fit": {"probes": 3, "tokens_per_word": 1.25, "overhead_tokens": 9, "source": "usage"},
            "calibration": {"ttft": {"p50_ms": 0.2, "p99_ms": 1.1}, "itl": {"p50_ms": 0.1, "p99_ms": 0.9}},
        },
    )
    return Manifest(
        kind="bench",
        created="2026-11-25T21:00:00+00:00",
        scenario=scenario,
        seed=42,
        tags={"build": "a1", "gpu": "none"},
        sessions=[session],
    )


def page(running: int, waiting: int, cache: float) -> str:
    label = '{engine="0",model_name="river-1"}'
    return (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{label} {running}.0\n"
        f"vllm:num_requests_waiting{label} {waiting}.0\n"
        f"vllm:kv_cache_usage_perc{label} {cache}\n"
        f"vllm:num_preemptions_total{label} 0.0\n"
    )


def pages() -> bytes:
    """Before the window, two inside, one failed inside, one after; and a line cut short."""
    scrapes: list[dict[str, Any]] = [
        {"at": 1000 * MS, "status": 200, "text": page(9, 9, 0.9)},
        {"at": 2000 * MS, "status": 200, "text": page(2, 0, 0.25)},
        {"at": 2500 * MS, "status": 503, "text": ""},
        {"at": 3000 * MS, "status": 200, "text": page(4, 3, 0.75)},
        {"at": 4000 * MS, "status": 200, "text": page(9, 9, 0.9)},
    ]
    return b"".join(msgspec.json.encode(scrape) + b"\n" for scrape in scrapes) + b'{"at": 45000'


def write(place: Path) -> None:
    place.mkdir(exist_ok=True)
    (place / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest()), indent=2) + b"\n")
    lines = [msgspec.json.encode(record) + b"\n" for record in records()]
    (place / "records.jsonl").write_bytes(b"".join(lines))
    (place / "metrics.jsonl").write_bytes(pages())


if __name__ == "__main__":
    write(PLACE)
