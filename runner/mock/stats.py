"""What a mock has counted."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct):
    """Counts since the start; also the body of GET /stats."""

    requests: int = 0  # of every path
    by_status: dict[str, int] = msgspec.field(default_factory=dict)
    connections: int = 0
    open_connections: int = 0
    tokens_sent: int = 0
    in_flight: int = 0  # completions being answered
    peak_in_flight: int = 0
    client_disconnects: int = 0  # peers that left before the end of their answer
