"""The five timers of an attempt."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """The five timers, in seconds; `None` is never.

    connect: until a connection (name, TCP, TLS) is there. first_token: from the request's last byte to the
    first token. token_gap: between tokens. byte_idle: between bytes of any kind, once the response has begun.
    total: one attempt as a whole.
    """

    connect: float | None = 10.0
    first_token: float | None = 600.0
    token_gap: float | None = 120.0
    byte_idle: float | None = 120.0
    total: float | None = None
