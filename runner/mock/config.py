"""What the mock serves: one frozen record, checked when it is made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from runner.mock.faults import FAULTS, unknown_fault


class Spread(StrEnum):
    """How a time is drawn: always its mean, or around it."""

    FIXED = "fixed"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"


class RoleChunk(StrEnum):
    """When a chat stream sends its chunk without text, the one that names the role."""

    EARLY = "early"  # with the headers, before the first token
    WITH_FIRST = "with-first"  # in the same write as the first token
    NEVER = "never"


class MockConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The behaviour of one mock server. Raises `ValueError` where a value makes no sense."""

    ttft_ms: float = 0.0  # mean time from the last byte of the request to the first token
    ttft_dist: Spread = Spread.FIXED
    ttft_sd_ms: float = 0.0
    itl_ms: float = 0.0  # mean gap between two tokens
    itl_dist: Spread = Spread.FIXED
    itl_sd_ms: float = 0.0
    lockstep: bool = False  # tokens of all streams leave on one common grid of itl_ms
    tokens: int = 32  # length of a reply whose request names no maximum
    echo: bool = False  # the reply is the words of the prompt
    seed: int = 0
    role_chunk: RoleChunk = RoleChunk.EARLY
    api_key: str | None = None
    models: tuple[str, ...] = ()  # the only models there are; empty: any
    faults: dict[str, float] = msgspec.field(default_factory=dict)  # name in `FAULTS` -> share of requests
    fault_first: int | None = None  # only so many completion requests can have a fault, the first ones
    retry_after_s: float = 1  # sent with 429
    keep_alive_s: float | None = (
        None  # idle connections are closed after this; 0: after each answer, unannounced
    )
    log: Path | None = None  # JSON lines, appended

    def __post_init__(self) -> None:
        """Refuse what could not be served."""
        for name in ("ttft_ms", "ttft_sd_ms", "itl_ms", "itl_sd_ms", "retry_after_s", "keep_alive_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e9:
                raise ValueError(f"{name} must be at least 0, not {value}")
        for what, spread, mean in (
            ("ttft", self.ttft_dist, self.ttft_ms),
            ("itl", self.itl_dist, self.itl_ms),
        ):
            if spread is Spread.LOGNORMAL and mean <= 0:
                raise ValueError(f"a lognormal {what} needs a mean above 0")
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, not {self.tokens}")
        if self.lockstep and (self.itl_dist is not Spread.FIXED or self.itl_ms <= 0):
            raise ValueError("lockstep needs a fixed itl above 0: it is the grid")
        for fault, share in self.faults.items():
            if fault not in FAULTS:
                raise ValueError(unknown_fault(fault))
            if not 0 <= share <= 1:
                raise ValueError(f"the share of fault {fault} must be from 0 to 1, not {share}")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError(
                f"the shares of faults add up to {sum(self.faults.values()):g}, more than 1: one request can "
                "have one fault. Give each its share, as in 429=0.2"
            )
        if self.fault_first is not None and self.fault_first < 0:
            raise ValueError(f"fault_first must be at least 0, not {self.fault_first}")
