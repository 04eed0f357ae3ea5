"""What a session says of the machine and the software it ran on."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from pathlib import Path


def boot_id() -> str | None:
    """Which boot of which machine this is: its monotonic clock is that of all its processes. Linux only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def versions() -> dict[str, str]:
    """Of Python, of ourselves, and of what the times depend on."""
    out = {"python": platform.python_version()}
    for name in ("streamgauge", "aiohttp", "uvloop", "msgspec"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            out[name] = metadata.version(name)
    return out
