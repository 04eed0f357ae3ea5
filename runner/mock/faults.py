"""What can go wrong on purpose. A fault is data; a new one is a new line in `FAULTS`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import Enum, auto

import msgspec


class Ending(Enum):
    """How a stream ends."""

    FINISH = auto()  # finish reason, usage where asked, [DONE]
    RESET = auto()  # the connection is reset (RST)
    STALL = auto()  # nothing more comes, and the connection stays open


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal (`status` is set: answered at once, no token sent), or a stream that ends in another way."""

    name: str
    status: int | None = None
    message: str = ""
    error_type: str = ""
    code: str | None = None
    retry_after: bool = False  # send Retry-After with the refusal
    ending: Ending = Ending.FINISH
    after: float = 0.5  # share of the reply's tokens sent before the ending


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            name="429",
            status=429,
            message="Rate limit reached for requests. Please try again later.",
            error_type="requests",
            code="rate_limit_exceeded",
            retry_after=True,
        ),
        Fault(
            name="500",
            status=500,
            message="The server had an error while processing your request. Sorry about that!",
            error_type="server_error",
        ),
        Fault(name="reset", ending=Ending.RESET),
        Fault(name="stall", ending=Ending.STALL),
    )
}


def draw_fault(shares: Mapping[str, float], rng: random.Random) -> Fault | None:
    """The fault of one request, or None. `shares`: names to shares of all requests. Draws exactly once."""
    point = rng.random()
    for name, share in shares.items():
        if point < share:
            return FAULTS[name]
        point -= share
    return None
