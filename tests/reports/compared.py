"""Benches to compare: each a level of its own, requests spread around it the same way in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.record import Record
from tests.reports.conftest import MS, Make, Write

Bench = Callable[..., Path]
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("headers_at", "first_token_at", "first_content_at", "last_token_at", "usage")),
    "status": "cancelled",
    "cancelled_by": "deadline",
    "usage_source": "none",
    "chunk_us": [],
}


def bench_of(write: Write, record: Make, failed: Make) -> Bench:
    """How to make one: `bench("base/1", ttft_ms=100, ...)`."""

    def make(
        name: str,
        *,
        ttft_ms: float = 100.0,
        tpot_ms: float = 10.0,
        n: int = 60,
        errors: int = 0,
        hung: int = 0,
        untold: int = 0,
        tokens: int = 20,
        prompts: str = "prompt",
        seed: int = 0,
        **more: Any,
    ) -> Path:
        drawn = np.random.default_rng(seed).standard_normal(n)
        lines: list[Record] = []
        for i in range(n):
            first = round(ttft_ms * math.exp(0.05 * drawn[i]) * MS)
            last = first + round(tpot_ms * (tokens - 1) * MS)
            sent = i * 50 * MS + MS
            fields: dict[str, Any] = {
                "prompt_id": _prompt_id(prompts, i),
                "scheduled_at": i * 50 * MS,
                "sent_at": sent,
                "headers_at": sent + first // 2,
                "first_token_at": sent + first,
                "first_content_at": sent + first,
                "last_token_at": sent + last,
                "ended_at": sent + last + MS,
                "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens},
                "chunk_us": [0, (last - first) // 1000],
            }
            if i >= n - hung:  # no byte ever came, and the run's end cut it
                kept = {name: fields[name] for name in ("prompt_id", "scheduled_at", "sent_at", "ended_at")}
                lines.append(record(i, **{**_NOTHING, **kept}))
                continue
            if i < untold:
                fields |= {"usage": None, "usage_source": "none"}
            else:
                fields |= {"cost": 0.001, "cost_source": "provider"}
            lines.append(failed(i, **{**fields, "usage": None}) if i < errors else record(i, **fields))
        return write(lines, name=name, **more)

    return make


def _prompt_id(prompts: str, i: int) -> str:
    from hashlib import sha256

    return sha256(f"{prompts} {i}".encode()).hexdigest()[:32]


def sides(
    bench: Bench,
    base_ms: Sequence[float],
    new_ms: Sequence[float],
    *,
    tagged: bool = True,
    base: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[list[Path], list[Path]]:
    """Runs of both sides with these medians, in `base/1` ... and `new/1` ...; pairs where they are tagged."""
    out = []
    for side, mark, levels, own in (("base", "a", base_ms, base), ("new", "b", new_ms, new)):
        out.append(
            [
                bench(
                    f"{side}/{k}",
                    ttft_ms=level,
                    tags={"pair": str(k), "side": mark} if tagged else {},
                    **{**more, **(own or {})},
                )
                for k, level in enumerate(levels, 1)
            ]
        )
    return out[0], out[1]
