"""What the rows that are left will take, judged by the requests of one session (`run --pilot`).

The requests are taken for a simple random sample of all rows. (They are spread evenly over the file, which is
at least as good unless the file has a period.) A total over the rest is their number times the sample's mean.
Its 95 % interval is Student's t on the mean with the finite population correction (W. G. Cochran, Sampling
Techniques, 3rd ed., Wiley 1977, chapter 2: the variance of an estimated total, and its confidence limits).
The rows of the sample are known, so the whole error is that of the rest: for m rows left and a sample of n
with standard deviation s, the standard error is s * sqrt(m * (n + m) / n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec
from msgspec import Raw, Struct, UnsetType, field

from reports.cells import amount, count, duration, several
from reports.paid import Billed, may_be_billed
from reports.rows import Row, accepted, block_rows, only, open_index
from runner.record import tokens
from runner.store import load_manifest, read_blocks, read_superseded

CONFIDENCE = 0.95
UNKNOWN = "unknown"


class Amount(Struct, kw_only=True):
    """One total over the rows left, and the ends of its interval."""

    n: int = 0  # requests it is judged by
    missing: int = 0  # requests that did not tell; with one of these, a cost is unknown
    total: float | None = None  # `None`: unknown
    low: float | None = None  # `None`: fewer than 2 requests
    high: float | None = None


class Estimate(Struct, kw_only=True):
    """What the rows left will take."""

    rows_left: int
    concurrency: int
    requests: int  # that this is judged by
    failed: int  # of them
    prompt_tokens: Amount
    completion_tokens: Amount
    cost: Amount  # all attempts, in the currency of the provider or of the prices
    cost_bounded: int  # requests of which only the most they can have cost is known, counted as that
    hours: Amount
    disk_bytes: Amount  # of the journal
    paced_hours: float | None  # the least that --rpm and --tpm allow


class _Sample(Struct):
    """One value a request; `None` where it did not tell."""

    failed: int = 0
    bounded: int = 0
    prompt: list[int | None] = field(default_factory=list)
    completion: list[int | None] = field(default_factory=list)
    cost: list[float | None] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    line_bytes: list[float | None] = field(default_factory=list)

    def add(self, row: Row, size: int) -> None:
        """Take one request; what was cancelled, and not on purpose, says nothing of the others."""
        answered = accepted(row.status, row.cancelled_by)
        if row.phase != "measure" or (row.status == "cancelled" and not answered):
            return
        self.failed += not answered
        self.line_bytes.append(size)
        since, until = row.scheduled_at, row.ended_at
        self.seconds.append(None if since is None or until is None else (until - since) / 1e9)
        cost, bounded = _cost(row)
        self.cost.append(cost)
        self.bounded += bounded
        if answered:
            told = tokens(row.usage or row.usage_partial)
            self.prompt.append(told.prompt)
            self.completion.append(told.completion)


def _cost(row: Row) -> tuple[float | None, bool]:
    """What a request cost with all its attempts, and whether a bound stands in for a cost that is unknown."""
    total, bounded = 0.0, False
    attempts: list[Billed] = [*row.attempts, row]
    for paid in attempts:
        if paid.cost is not None:
            total += paid.cost
        elif not isinstance(paid.cost_bound, UnsetType):
            total += paid.cost_bound
            bounded = True
        elif may_be_billed(paid):
            return None, False
    return total, bounded


def _records(run: Path, session: int) -> Iterator[tuple[Row, int]]:
    """The session's records and the bytes of their lines, whether a later line took their place or not."""
    index = open_index(run)
    mine = only(index, index.session == session)
    decode = msgspec.json.Decoder(Row).decode
    size = block_rows(index)
    for blocks in (read_blocks(mine, Raw, block=size), read_superseded(index, Raw, block=size)):
        for block in blocks:
            for line in block:
                try:
                    row = decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue  # damaged: `report` names it
                if row.session == session:
                    yield row, len(bytes(line))


def _amount(values: Sequence[float | None], rows_left: int, scale: float = 1.0) -> Amount:
    known = [value * scale for value in values if value is not None]
    n, out = len(known), Amount(n=len(known), missing=len(values) - len(known))
    if not n:
        return out
    out.total = rows_left * fmean(known)
    if n >= 2:
        from scipy.special import stdtrit  # a tenth of a second to import: only a pilot waits for it

        quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
        half = quantile * stdev(known) * math.sqrt(rows_left * (n + rows_left) / n)
        out.low, out.high = max(0.0, out.total - half), out.total + half
    return out


def _paced_hours(options: dict[str, Any], rows_left: int, token_totals: list[Amount]) -> float | None:
    rpm, tpm = options.get("rpm"), options.get("tpm")
    least = []
    if isinstance(rpm, int | float) and rpm > 0:
        least.append(rows_left / rpm / 60)
    known = [a.total for a in token_totals if a.total is not None]
    if isinstance(tpm, int | float) and tpm > 0 and len(known) == len(token_totals):
        least.append(sum(known) / tpm / 60)
    return max(least, default=None)


def estimate(run: Path, session: int, rows_left: int, concurrency: int) -> Estimate:
    """Judge what is left by what one session did.

    Time is that in which a request held its place among the `concurrency`, waits and retries included. Tokens
    are those of accepted answers. A cost is that of all attempts, and is unknown where one request's is.

    Args:
        run: the run directory.
        session: the number of the session whose requests are the sample.
        rows_left: how many requests are still to be answered.
        concurrency: how many will go at once.

    Raises:
        StoreError: it is no run directory, or cannot be read.
    """
    options = next((s.options for s in load_manifest(run).sessions if s.number == session), {})
    sample = _Sample()
    for row, size in _records(run, session):
        sample.add(row, size)
    cost = _amount(sample.cost, rows_left)
    if cost.missing:
        cost.total = cost.low = cost.high = None
    prompt, completion = _amount(sample.prompt, rows_left), _amount(sample.completion, rows_left)
    return Estimate(
        rows_left=rows_left,
        concurrency=concurrency,
        requests=len(sample.line_bytes),
        failed=sample.failed,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        cost_bounded=sample.bounded if cost.total is not None else 0,
        hours=_amount(sample.seconds, rows_left, 1 / 3600 / concurrency),
        disk_bytes=_amount(sample.line_bytes, rows_left),
        paced_hours=_paced_hours(options, rows_left, [prompt, completion]),
    )


_UNITS = ("B", "kB", "MB", "GB", "TB")


def _bytes(value: float) -> str:
    place = 0
    while value >= 999.5 and place < len(_UNITS) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.0f} {_UNITS[place]}" if not place or value >= 99.95 else f"{value:.3g} {_UNITS[place]}"


def _line(label: str, of: Amount, shown: Callable[[float], str]) -> list[str]:
    if of.total is None:
        return [label, UNKNOWN, ""]
    if of.low is None or of.high is None:
        return [label, shown(of.total), "n/a (needs 2)"]
    return [label, shown(of.total), f"{shown(of.low)} to {shown(of.high)}"]


def _remarks(e: Estimate) -> list[str]:
    out = []
    if e.failed:
        out.append(f"{several(e.failed, 'request')} failed: in time, cost and disk, not in the tokens")
    if e.completion_tokens.missing and e.completion_tokens.n:
        out.append(f"{several(e.completion_tokens.missing, 'answer')} came without usage: not in the tokens")
    if e.cost.missing:
        out.append(f"cost: what {e.cost.missing:,} of {several(e.requests, 'request')} cost is not known")
    if e.cost_bounded:
        out.append(
            f"cost: {several(e.cost_bounded, 'request')} of unknown cost count with the most it can be"
        )
    out.append(f"time: with {e.concurrency:,} at once, retries included")
    if e.requests < e.concurrency:
        out[-1] += "; this was judged by fewer requests than that, so it may take longer"
    if e.paced_hours is not None and e.hours.total is not None and e.paced_hours > e.hours.total:
        out.append(f"time: --rpm and --tpm allow no less than {duration(e.paced_hours * 3600)}")
    out.append("disk: the journal; what `export` writes comes on top")
    return out


def render_pilot(e: Estimate) -> str:
    """An estimate as text for a terminal."""
    if not e.rows_left:
        return "Nothing is left to send.\n"
    judged = f"judged by {several(e.requests, 'request')} of this session"
    if not e.requests:
        return f"The rest: {several(e.rows_left, 'row')}. Nothing can be said of it: no request has ended.\n"
    lines = [
        ["", "total", f"{CONFIDENCE:.0%} interval".replace("%", " %")],
        _line("prompt tokens", e.prompt_tokens, lambda n: count(round(n))),
        _line("completion tokens", e.completion_tokens, lambda n: count(round(n))),
        _line("cost", e.cost, amount),
        _line("time", e.hours, lambda hours: duration(hours * 3600)),
        _line("disk", e.disk_bytes, _bytes),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    out = [f"The rest: {several(e.rows_left, 'row')}, {judged}"]
    out += [f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c}".rstrip() for a, b, c in lines]
    return "\n".join([*out, *(f"  - {remark}" for remark in _remarks(e))]) + "\n"
