"""Disk space set aside, so that a full disk still takes the answers that are already paid for."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

RESERVE_BYTES = 4 << 20
_SHARE = 4  # of what is free at the start, at most a quarter
_MARGIN = 2  # later, it is set aside again once this many times as much is free
_ZEROS = bytes(1 << 16)


class Reserve:
    """A file of nothing beside the journal. Its methods may wait for the disk."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size
        self._settled = False
        self._lock = threading.Lock()  # the writing and the syncing thread both come here
        self.held = False

    def take(self) -> bool:
        """Set the space aside, where there is room. Returns whether it is held."""
        with self._lock:
            return self.held or self._take()

    def _take(self) -> bool:
        try:
            free = self._free()
            if not self._settled:
                self._size = min(self._size, free // _SHARE)
                self._settled = True
            elif free < self.needed:
                return False
            _fill(self._path, self._size)
        except OSError:
            self._remove()
            return False
        self.held = True
        return True

    @property
    def needed(self) -> int:
        """Bytes that have to be free before the disk counts as having room again."""
        return self._size * _MARGIN

    def release(self) -> bool:
        """Give the space back to whoever writes next. Returns whether any was held."""
        with self._lock:
            held, self.held = self.held, False
            self._remove()
            return held

    def _free(self) -> int:
        if not hasattr(os, "statvfs"):  # Windows
            return self._size * _SHARE
        stat = os.statvfs(self._path.parent)
        return stat.f_bavail * stat.f_frsize

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


def _fill(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        while size > 0:
            size -= file.write(_ZEROS[:size])
