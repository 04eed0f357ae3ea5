"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.distribution import NEEDS, RELIABLE, Distribution, WithFailures

NONE = "-"
TIE = "\u00a0"  # keeps a line from being broken there; a plain space once lines are broken


def csv_cell(value: object) -> object:
    """What a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@\t\r") else value


def count(value: int | None) -> str:
    """A whole number with thousands separators."""
    return NONE if value is None else f"{value:,}"


def several(n: int, noun: str) -> str:
    """`1 answer`, `2 answers`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def number(value: float | None) -> str:
    """About four digits that matter."""
    if value is None:
        return NONE
    size = abs(value)
    if 0 < size < 0.01:
        return f"{value:.2g}"
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def amount(value: float | None) -> str:
    """What something costs: cents at least, and about four digits that matter. Never in powers of ten."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(digits, 2), 12)}f}"


def share(value: float | None) -> str:
    """A share as a percentage; one that is not 0 does not read as 0."""
    if value is not None and 0 < value < 0.00005:
        return "<0.01%"
    return NONE if value is None else f"{value:.2%}"


def duration(seconds: float | None) -> str:
    """A wall time."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counts(named: Mapping[str, int]) -> str:
    """`stop 150 · length 48`, the most frequent first; a name and its number are tied by a no-break space."""
    ordered = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return " · ".join(f"{name}{TIE}{n:,}" for name, n in ordered)


def percentile(d: Distribution, p: int) -> str:
    """One percentile: `n/a (needs N)` below the samples it must have, `~` before it below those it should."""
    value = d.percentiles[f"p{p}"]
    if value is not None:
        return ("~" if d.n < RELIABLE[p] else "") + number(value)
    if d.withheld:
        return "withheld"
    return NONE if not d.n else f"n/a (needs {NEEDS[p]})"


def percentile_with_failures(d: WithFailures, p: int) -> str:
    """The same in the second reading."""
    value = d.percentiles[f"p{p}"]
    if isinstance(value, str):
        return value
    if value is None:
        return f"n/a (needs {NEEDS[p]})" if d.n else NONE
    return ("~" if d.n < RELIABLE[p] else "") + number(value)
