"""`python -m bench.gate`: does the gate cry wolf, and does it see what it should? End to end, on the mock.

A/A gates: two mocks with the same settings, and no gate may FAIL. A/B gates: the second one's TTFT is 15 %
longer, and each must FAIL. Every gate is a whole `streamgauge ab` in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from bench.children import STREAMGAUGE, BenchError, env, mock
from bench.table import markdown

PLACE = Path(__file__).parent.parent / ".bench"
# 15 % of it is far above what the mock's timers and this machine add by themselves.
TTFT_MS, SLOWER = 120.0, 1.15
WORDS = {0: "PASS", 99: "FAIL", 98: "INCONCLUSIVE", 97: "INVALID"}
_LIMIT_S = 600.0
TRIES = 2  # so many times the gates that are wanted: INVALID ones say that the machine was busy, and no more


class Scale(msgspec.Struct, frozen=True):
    """How much of it."""

    same: int = 20  # A/A gates
    slower: int = 10  # A/B gates
    pairs: int = 6
    requests: int = 150
    streams: int = 8


QUICK = Scale(same=2, slower=2, requests=64)


class Gated(msgspec.Struct, frozen=True):
    """One gate, and what it found."""

    kind: str
    code: int
    wall_s: float
    ttft: dict[str, Any]  # its verdict, as `ab --json` says it
    failed: tuple[str, ...]  # metrics

    @property
    def word(self) -> str:
        """The verdict on all metrics."""
        return WORDS[self.code]


def main(arguments: list[str] | None = None) -> int:
    """Run all gates, print, write. Returns 0 where it `holds`."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two of each, with fewer requests: a look, no result"
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that children are ended
    scale = QUICK if given.quick else Scale()
    about = _about(scale)
    gates: list[Gated] = []
    try:
        with tempfile.TemporaryDirectory(prefix="streamgauge-gate-") as folder:
            for gated in _gates(Path(folder), scale):
                gates.append(gated)
                print(f"{len(gates)}. {gated.kind}: {_line(gated)}", file=sys.stderr, flush=True)
    except BenchError as exc:
        print(f"failed: {exc}", file=sys.stderr)
        return 1
    text = f"{about}\n\n{summary_table(gates)}\n\n{gates_table(gates)}\n"
    print(f"\n{text}")
    PLACE.mkdir(exist_ok=True)
    (PLACE / ("gate-quick.md" if given.quick else "gate.md")).write_text(text, encoding="utf-8")
    if holds(gates, scale):
        return 0
    print(f"failed: {why_not(gates, scale)}", file=sys.stderr)
    return 1


def holds(gates: Sequence[Gated], scale: Scale) -> bool:
    """Whether no A/A gate FAILs, every A/B gate does, and enough of both were judged."""
    judged = [gated for gated in gates if gated.word != "INVALID"]
    count = Counter(gated.kind for gated in judged)
    right = all((gated.word == "FAIL") == (gated.kind == "A/B") for gated in judged)
    return right and count["A/A"] >= scale.same and count["A/B"] >= scale.slower


def why_not(gates: Sequence[Gated], scale: Scale) -> str:
    """What does not hold, and what to do: a wrong verdict, or a machine that was too busy for any."""
    wrong = [
        f"gate {number} ({gated.kind}) says {gated.word}"
        for number, gated in enumerate(gates, 1)
        if gated.word != "INVALID" and (gated.word == "FAIL") != (gated.kind == "A/B")
    ]
    if wrong:
        return f"{', '.join(wrong)}. See the table above"
    invalid = sum(gated.word == "INVALID" for gated in gates)
    return (
        f"{invalid} of {len(gates)} gates are INVALID: this machine was too busy to measure, so fewer than "
        f"{scale.same} A/A and {scale.slower} A/B gates were judged. No verdict was wrong. Run it again when "
        "the machine has less to do"
    )


def _gates(folder: Path, scale: Scale) -> Iterator[Gated]:
    with (
        mock(folder, *_mocked(TTFT_MS, 1)) as a,
        mock(folder, *_mocked(TTFT_MS, 2)) as same,
        mock(folder, *_mocked(TTFT_MS * SLOWER, 3)) as slower,
    ):
        wanted, started = {"A/A": scale.same, "A/B": scale.slower}, Counter[str]()
        most = {kind: TRIES * count for kind, count in wanted.items()}
        while kind := _next(wanted, started, most):
            started[kind] += 1
            b = same if kind == "A/A" else slower
            gated = _gate(folder / f"{kind[-1]}-{started[kind]:02d}", kind, a, b, scale)
            yield gated
            wanted[kind] -= gated.word != "INVALID"


def _next(wanted: dict[str, int], started: Counter[str], most: dict[str, int]) -> str | None:
    """The kind of which most is still to do: both take turns, so that whatever drifts hits them alike."""
    left = {kind: count for kind, count in wanted.items() if count > 0 and started[kind] < most[kind]}
    return max(left, key=lambda kind: left[kind] / most[kind]) if left else None


def _mocked(ttft_ms: float, seed: int) -> list[str]:
    # Times are drawn around their mean, as those of a real server are.
    return [
        *("--ttft", f"{ttft_ms:g}", "--ttft-dist", "lognormal", "--ttft-sd", f"{ttft_ms / 8:g}"),
        *("--itl", "4", "--itl-dist", "lognormal", "--itl-sd", "1", "--seed", str(seed)),
    ]


def _gate(folder: Path, kind: str, a: str, b: str, scale: Scale) -> Gated:
    """One `streamgauge ab`.

    Raises:
        BenchError: it did not end with a verdict.
    """
    command = [STREAMGAUGE, "ab", "--base-url", a, "--base-url-b", b, "--model", "mock"]
    command += ["-c", str(scale.streams), "-n", str(scale.requests), "--pairs", str(scale.pairs)]
    command += ["--input-tokens", "64", "--output-tokens", "8", "--json", "-o", str(folder)]
    began = time.monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False, env=env()
    )
    wall_s = time.monotonic() - began
    if done.returncode not in WORDS:
        raise BenchError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
    found = msgspec.json.decode(done.stdout) if done.stdout else {"verdicts": []}
    verdicts = {verdict["metric"]: verdict for verdict in found["verdicts"]}
    failed = tuple(name for name, verdict in verdicts.items() if verdict["verdict"] == "FAIL")
    return Gated(kind, done.returncode, wall_s, verdicts.get("ttft", {}), failed)


# -- what is shown


def summary_table(gates: Sequence[Gated]) -> str:
    """A row a kind."""
    changes = ("ttft: median change", "ttft: smallest to largest")
    head = ["gates", "b's TTFT", *WORDS.values(), *changes, "a gate took"]
    rows = []
    for kind, slower in (("A/A", "the same"), ("A/B", f"+{SLOWER - 1:.0%}")):
        of_kind = [gated for gated in gates if gated.kind == kind]
        count = Counter(gated.word for gated in of_kind)
        effects = [gated.ttft["change"] for gated in of_kind if gated.ttft.get("change") is not None]
        middle = f"{statistics.median(effects):+.1%}" if effects else "n/a"
        span = f"{min(effects):+.1%} to {max(effects):+.1%}" if effects else "n/a"
        took = f"{statistics.median([gated.wall_s for gated in of_kind]):.0f} s" if of_kind else "n/a"
        cells = [str(count[word]) for word in WORDS.values()]
        rows.append([f"{len(of_kind)} {kind}", slower, *cells, middle, span, took])
    return markdown(head, rows)


def gates_table(gates: Sequence[Gated]) -> str:
    """A row a gate."""
    rows = []
    for number, gated in enumerate(gates, 1):
        ttft = gated.ttft
        rows.append(
            [
                f"{number} {gated.kind}",
                gated.word,
                ", ".join(gated.failed),
                _ms(ttft.get("base")),
                _ms(ttft.get("new")),
                _share(ttft.get("change")),
                f"{_share(ttft.get('low'))} to {_share(ttft.get('high'))}",
            ]
        )
    return markdown(["gate", "verdict", "FAILs", "ttft of a", "ttft of b", "change", "worse by"], rows)


def _line(gated: Gated) -> str:
    ttft = gated.ttft
    failed = f" ({', '.join(gated.failed)})" if gated.failed else ""
    return f"{gated.word}{failed}, ttft {_share(ttft.get('change'))}, {gated.wall_s:.0f} s"


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f} ms"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1%}"


def _about(scale: Scale) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; Python {platform.python_version()}, "
        f"streamgauge {version('streamgauge')}; each gate {scale.pairs} pairs of {scale.requests} requests, "
        f"{scale.streams} at once, TTFT {TTFT_MS:g} ms on average."
    )


if __name__ == "__main__":
    sys.exit(main())
