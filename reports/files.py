"""Derived files: written beside their place, fsynced and renamed, never seen half done."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runner.store import CURRENT, MANIFEST, PROGRESS, StoreError

_OWN = re.compile(r"records.*\.jsonl|(run|progress)-\d+\.json")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes `path`'s place at the end, or leaves nothing.

    Raises:
        OSError: it cannot be written. The text says what to do, where that is known.
    """
    if path.exists() and not path.is_file():  # /dev/null, a pipe: nothing to replace, and it must stay
        with path.open("wb") as out:
            yield out
        return
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise OSError(errno.ENOENT, f"there is no folder {place.parent}: make it, or name another", str(path))
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        beside.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        beside.unlink(missing_ok=True)


def refuse_own(out: Path) -> None:
    """Check that a file to write is no part of a run: no derived file may replace a paid answer.

    Raises:
        StoreError: it is.
    """
    place = Path(os.path.realpath(out))
    own = place.name in {MANIFEST, PROGRESS, CURRENT} or _OWN.fullmatch(place.name)
    if own and (place.parent / MANIFEST).exists():
        raise StoreError(f"{out} belongs to a run itself. Give another -o.")
