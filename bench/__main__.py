"""`python -m bench`: our speed against a plain openai-SDK script, in one run on this machine."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.children import BenchError
from bench.clients import QUICK, Scale
from bench.measures import MEASURES
from bench.table import Row, markdown_table, text_table

PLACE = Path(__file__).parent.parent / ".bench"
_PACKAGES = ("streamgauge", "aiohttp", "uvloop", "msgspec", "openai")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit code: 0 where all ran, missed goals or not."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: a look, no result")
    parser.add_argument(
        "--only", choices=MEASURES, action="append", metavar="NAME", help=" | ".join(MEASURES)
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="turns each side takes (the middle counts)")
    given = parser.parse_args(arguments)
    if not hasattr(os, "wait4"):
        print("the bench needs wait4, which this system does not have", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that children are ended
    scale = QUICK if given.quick else Scale()
    rounds = given.rounds or scale.rounds
    about = _about(quick=given.quick, rounds=rounds)
    rows, failed = _measure(given.only or list(MEASURES), scale, rounds)
    print(f"\n{about}\n\n{text_table(rows)}")
    # A look or a part must not take the place of a result.
    whole = not (given.quick or given.only or failed)
    _write("results.md" if whole else "partial.md", about, rows)
    return 1 if failed else 0


def _measure(names: list[str], scale: Scale, rounds: int) -> tuple[list[Row], bool]:
    import msgspec

    rows: list[Row] = []
    failed = False
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="streamgauge-bench-") as folder:
                rows += MEASURES[name](Path(folder), msgspec.structs.replace(scale, rounds=rounds))
        except BenchError as exc:
            failed = True
            print(f"{name} failed: {exc}", file=sys.stderr)
        else:
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows, failed


def _about(*, quick: bool, rounds: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    turns = "one round" if rounds == 1 else f"medians of {rounds} rounds"
    look = "; --quick: a tenth of everything, a look and no result" if quick else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; Python {platform.python_version()}, {packages}; "
        f"{turns}, alternating (memory: once){look}."
    )


def _write(name: str, about: str, rows: list[Row]) -> None:
    PLACE.mkdir(exist_ok=True)
    (PLACE / name).write_text(f"{about}\n\n{markdown_table(rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
