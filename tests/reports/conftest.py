"""Run directories written by hand, so that every number in the tests can be checked on paper."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from runner.record import Attempt, Connection, Error, ErrorKind, Record
from runner.store import Manifest, PromptFile, Session

MS = 1_000_000

Make = Callable[..., Record]
Write = Callable[..., Path]


def _id(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()[:32]


def _record(name: object = 0, **changes: Any) -> Record:
    """An answer of three chunks and five tokens: each metric of it is another number.

    ttft 10, ttft_sched 12, ttfc 20, ttfb 7, itl 10 and 30, tpot 10, e2e 51, e2e_sched 53, delay 2,
    connect 1.5, stall 30 (ms), output_rate 125 tokens/s.
    """
    values: dict[str, Any] = {
        "id": _id(name),
        "prompt_id": _id(f"prompt {name}"),
        "index": name if isinstance(name, int) else 0,
        "custom_id": None,
        "sample": 0,
        "session": 1,
        "phase": "measure",
        "scheduled_at": 1 * MS,
        "sent_at": 3 * MS,
        "headers_at": 10 * MS,
        "first_token_at": 13 * MS,
        "first_content_at": 23 * MS,
        "last_token_at": 53 * MS,
        "ended_at": 54 * MS,
        "status": "ok",
        "finish_reason": "stop",
        "text": "so be it",
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        "usage_source": "server",
        "connection": Connection(reused=False, connect_ns=1_500_000),
        "chunk_us": [0, 10_000, 40_000],
    }
    return Record(**{**values, **changes})


def _failed(name: object = 0, kind: ErrorKind = ErrorKind.TIMEOUT, **changes: Any) -> Record:
    retryable = changes.pop("retryable", True)
    http_status = changes.pop("http_status", None)
    values: dict[str, Any] = {
        "status": "error",
        "error": Error(kind, f"{kind}!", http_status=http_status, retryable=retryable),
        "finish_reason": None,
        "text": "",
        "usage": None,
        "usage_source": "none",
    }
    return _record(name, **{**values, **changes})


def _session(number: int = 1, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "number": number,
        "started": f"2026-01-0{number}T00:00:00Z",
        "anchor_ns": 10**15,
        "wall_ns": 10**18,
        "boot_id": None,
        "host": "here",
        "pid": 1,
        "versions": {},
        "options": {"concurrency": 8},
        "ended_at": 2_000 * MS,
        "ended_by": "finished",
    }
    return Session(**{**values, **changes})


@pytest.fixture
def record() -> Make:
    return _record


@pytest.fixture
def failed() -> Make:
    return _failed


@pytest.fixture
def session() -> Callable[..., Session]:
    return _session


@pytest.fixture
def attempt() -> Callable[..., Attempt]:
    def make(kind: ErrorKind, wait_for: str = "backoff", **changes: Any) -> Attempt:
        values: dict[str, Any] = {
            "sent_at": 2 * MS,
            "first_token_at": None,
            "ended_at": 2 * MS,
            "error": Error(kind, "no"),
            "text": "",
            "usage_partial": None,
            "wait_ns": 1,
            "wait_for": wait_for,
        }
        return Attempt(**{**values, **changes})

    return make


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a run directory: records, or raw lines where one is bytes."""

    def make(
        lines: Sequence[Record | bytes],
        *,
        name: str = "run",
        sessions: Sequence[Session] | None = None,
        scenario: dict[str, Any] | None = None,
        prompts: int | None = None,
        kind: Literal["run", "bench"] = "run",
        tags: dict[str, str] | None = None,
    ) -> Path:
        run = tmp_path / name
        run.mkdir(parents=True)
        manifest = Manifest(
            kind=kind,
            tags=tags or {},
            created="2026-01-01T00:00:00Z",
            scenario=scenario or {},
            prompts=PromptFile("prompts.jsonl", "0" * 64, prompts, prompts) if prompts is not None else None,
            sessions=list(sessions) if sessions is not None else [_session()],
        )
        (run / "run.json").write_bytes(msgspec.json.encode(manifest))
        encoded = [line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines]
        (run / "records.jsonl").write_bytes(b"".join(line + b"\n" for line in encoded))
        return run

    return make


@pytest.fixture
def bench(write: Write) -> Write:
    """Write a bench: an open loop measured from 0 to 10 s, its client fit; `load`, `gauge` and `scenario`
    change what its manifest says.
    """

    def make(
        lines: Sequence[Record | bytes],
        *,
        load: dict[str, Any] | None = None,
        gauge: dict[str, Any] | None = None,
        scenario: dict[str, Any] | None = None,
        ended_by: Any = "finished",
        **more: Any,
    ) -> Path:
        said: dict[str, Any] = {
            "executor": "constant-arrival-rate",
            "scheduled": len(lines),
            "sent": len(lines),
            "unsent": 0,
            "held": 0,
            "mean_gap_ms": 100.0,
            "schedule_begin_ns": 0,
            "schedule_end_ns": 10_000 * MS,
            "steady_begin_ns": 0,
            "steady_end_ns": 10_000 * MS,
            "max_in_flight": 100,
            "peak_in_flight": 5,
        }
        measured: dict[str, Any] = {
            "load": {**said, **(load or {})},
            "lag": {"n": 1000, "p50_ms": 0.1, "p99_ms": 0.5, "max_ms": 2.0, "missed": 0},
            **(gauge or {}),
        }
        asked = {"load": {"executor": said["executor"], "rate": 10.0, "duration": "10s"}, **(scenario or {})}
        sessions = [_session(gauge=measured, ended_by=ended_by)]
        return write(lines, kind="bench", scenario=asked, sessions=sessions, **more)

    return make
