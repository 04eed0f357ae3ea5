"""Durations as people write them."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)\Z")


def seconds(value: str | float) -> float:
    """Seconds of "30s", "500ms", "10m", "1h", or of a number of seconds.

    Raises:
        ValueError: it is none, or not finite, or below 0.
    """
    if isinstance(value, str):
        found = _DURATION.match(value.strip().lower())
        if not found:
            raise ValueError(f"{value!r} is not a duration like 30s, 500ms or 10m")
        return float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a duration like 30s, 500ms or 10m")
    return float(value)
