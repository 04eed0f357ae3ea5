"""What throughput comes to by GPU and by money, where the scenario says how many GPUs there are."""

from __future__ import annotations

from typing import Any

from reports.bench import Gpu, Window

_MILLION = 1_000_000
_HOUR_S = 3600


def gpu_of(scenario: dict[str, Any], steady: Window) -> Gpu | None:
    """By the steady window; `None` where nobody said how many GPUs.

    Args:
        scenario: as the manifest keeps it: `target.gpus`, `target.gpu_hour_usd`.
        steady: its output tokens a second.
    """
    target = scenario.get("target")
    gpus = target.get("gpus") if isinstance(target, dict) else None
    if not isinstance(target, dict) or not isinstance(gpus, int) or gpus < 1:
        return None
    price = target.get("gpu_hour_usd")
    usd = float(price) if isinstance(price, int | float) and price >= 0 else None
    rate = steady.output_throughput
    known = rate is not None and rate > 0 and not steady.at_least("output_throughput")
    found = Gpu(gpus=gpus, gpu_hour_usd=usd)
    if known and rate is not None:
        found.output_tokens_per_s = rate / gpus
        if usd is not None:
            found.usd_per_million_output_tokens = gpus * usd / _HOUR_S / rate * _MILLION
    return found
