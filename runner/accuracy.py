"""How far a client's times are from those its server logged. Pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from runner.mock.log import Entry

_NS_PER_MS = 1e6


class Answered(msgspec.Struct, frozen=True, gc=False):
    """What the client says of one answer. Instants are `monotonic_ns`."""

    request_id: str
    sent_at: int
    first_token_at: int
    chunk_us: list[int]


class Off(msgspec.Struct, frozen=True):
    """By how much, in ms."""

    n: int
    p50_ms: float
    p99_ms: float


class Accuracy(msgspec.Struct, frozen=True):
    """The client against the log.

    first, token: first tokens, and all of them, stamped after they were sent. gap: how far gaps between
    tokens are from the true ones. ttft: how far TTFT is from what the server took; the request's way to it is
    in that.
    """

    first: Off
    token: Off
    gap: Off
    ttft: Off


def off(values_ns: np.ndarray) -> Off:
    """Percentiles that are values: the nearest rank."""
    if not len(values_ns):
        raise ValueError("nothing to measure")
    p50, p99 = np.percentile(values_ns, (50, 99), method="inverted_cdf") / _NS_PER_MS
    return Off(len(values_ns), float(p50), float(p99))


def accuracy(answers: Iterable[Answered], entries: dict[str, Entry]) -> Accuracy:
    """Compare answers that came whole with the log's entries of the same requests.

    Raises:
        ValueError: they are not about the same tokens.
    """
    firsts, tokens, gaps, ttfts = [], [], [], []
    for answer in answers:
        entry = entries[answer.request_id]
        sent = entry.first_token_sent_ns
        if sent is None or len(entry.token_us) != len(answer.chunk_us):
            raise ValueError(f"{len(answer.chunk_us)} tokens came, {len(entry.token_us)} were sent")
        ours = np.array(answer.chunk_us, dtype=np.int64)
        theirs = np.array(entry.token_us, dtype=np.int64)
        first = answer.first_token_at - sent
        firsts.append(first)
        tokens.append(first + (ours - theirs) * 1000)
        gaps.append(np.abs(np.diff(ours) - np.diff(theirs)) * 1000)
        ttfts.append(abs((answer.first_token_at - answer.sent_at) - (sent - entry.received_ns)))
    return Accuracy(
        first=off(np.array(firsts)),
        token=off(_joined(tokens)),
        gap=off(_joined(gaps)),
        ttft=off(np.array(ttfts)),
    )


def lateness(entries: Iterable[Entry], planned: Iterable[Iterator[int]]) -> Off:
    """How long after their time the server sent its tokens: `planned` is each one's schedule."""
    late = []
    for entry, times in zip(entries, planned, strict=True):
        first = entry.first_token_sent_ns or 0
        due = np.fromiter(times, dtype=np.int64, count=len(entry.token_us))
        late.append(first + np.array(entry.token_us, dtype=np.int64) * 1000 - due)
    return off(np.maximum(_joined(late), 0))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.array([], dtype=np.int64)
