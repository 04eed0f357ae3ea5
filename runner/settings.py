"""How a run sends, as opposed to what."""

from __future__ import annotations

import msgspec

from runner.delivery import Keep
from runner.prices import Prices
from runner.timeouts import Timeouts


class Settings(msgspec.Struct, frozen=True):
    """As the command line said, or by default. It goes to workers as it is."""

    concurrency: int = 32
    workers: int = 1
    retries: int = 3
    timeouts: Timeouts = Timeouts()
    include_usage: bool = True
    keep: Keep = Keep()
    keep_headers: tuple[str, ...] = ()
    grace_s: float | None = 25.0
    verify: bool = True
    ca_file: str | None = None
    rpm: float | None = None
    tpm: float | None = None
    adaptive: bool = False
    prices: Prices | None = None
    max_cost: float | None = None
    least_cost: float = 0.0  # under `max_cost`: no request's worst case is below it
    pilot: int | None = None
    stop_after: int | None = None
    wait_ready: bool = False
    ready_limit_s: float | None = None
