"""What the server says of itself: scraped Prometheus pages (`metrics.jsonl`) -> a few numbers.

A line is a scrape: `{"at", "status", "text"}`, `at` in nanoseconds since the session's anchor. Only lines of
names known here are parsed: a whole page takes milliseconds, and there is one a second. Nothing on a page is
fatal; what cannot be read is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from reports.bench import Server, ServerValue

PAGES = "metrics.jsonl"

# What we call it -> how to add up the samples of one page (one an engine, say) -> what servers call it.
RUNNING, WAITING, KV_CACHE = "running", "waiting", "kv_cache"
NAMES: dict[str, tuple[str, str]] = {
    "vllm:num_requests_running": ("vllm", RUNNING),
    "vllm:num_requests_waiting": ("vllm", WAITING),
    "vllm:kv_cache_usage_perc": ("vllm", KV_CACHE),  # a share, whatever the name says
    "vllm:gpu_cache_usage_perc": ("vllm", KV_CACHE),
    "sglang:num_running_reqs": ("sglang", RUNNING),
    "sglang:num_queue_reqs": ("sglang", WAITING),
    "sglang:token_usage": ("sglang", KV_CACHE),
    "llamacpp:requests_processing": ("llamacpp", RUNNING),
    "llamacpp:requests_deferred": ("llamacpp", WAITING),
    "llamacpp:kv_cache_usage_ratio": ("llamacpp", KV_CACHE),
}
_FIRST = tuple(NAMES)


class _Page(Struct):
    at: int
    status: int | None = None
    text: str | None = None


class _Sum(Struct):
    n: int = 0
    total: float = 0.0
    most: float = -math.inf

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value
        self.most = max(self.most, value)


def _samples(text: str, server: Server) -> Iterator[tuple[str, float]]:
    """(name, value) of the lines we know; bad ones are counted."""
    from prometheus_client.parser import text_string_to_metric_families

    for line in text.splitlines():
        if not line.startswith(_FIRST) or line.partition("{")[0].split(maxsplit=1)[0] not in NAMES:
            continue
        try:
            families = list(text_string_to_metric_families(line + "\n"))
            found = [(sample.name, float(sample.value)) for family in families for sample in family.samples]
        except (ValueError, IndexError, KeyError, TypeError):
            server.bad_lines += 1
            continue
        for name, value in found:
            if math.isfinite(value) and value >= 0:
                yield name, value
            else:
                server.bad_lines += 1


def _page(text: str, server: Server) -> dict[str, float]:
    """The numbers of one page: requests are added up over engines, of the caches the fullest counts."""
    out: dict[str, float] = {}
    for name, value in _samples(text, server):
        kind, what = NAMES[name]
        server.kind = server.kind or kind
        before = out.get(what, 0.0)
        out[what] = max(before, value) if what == KV_CACHE else before + value
    return out


def server_values(run: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """(seconds since the session's anchor, numbers) of every page that could be read; none where none was."""
    path = run / PAGES
    if not path.is_file():
        return
    decode = msgspec.json.Decoder(_Page).decode
    with path.open("rb") as file:
        for line in file:
            try:
                page = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if page.status == 200 and page.text is not None and (values := _page(page.text, Server())):
                yield page.at / 1e9, values


def read_server(run: Path, begin_ns: int | None, end_ns: int | None) -> Server | None:
    """The server's numbers over the pages of a window, or of all pages where it is not known.

    `None`: nothing was scraped.
    """
    path = run / PAGES
    if not path.is_file():
        return None
    server, sums = Server(), dict[str, _Sum]()
    decode = msgspec.json.Decoder(_Page).decode
    with path.open("rb") as file:
        for line in file:
            try:
                page = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                server.bad_lines += 1
                continue
            server.pages += 1
            if page.status != 200 or page.text is None:
                server.failed += 1
                continue
            if begin_ns is not None and end_ns is not None and not begin_ns <= page.at < end_ns:
                continue
            server.inside += 1
            numbers = _page(page.text, server)
            server.unknown += not numbers
            for what, value in numbers.items():
                sums.setdefault(what, _Sum()).add(value)
    server.values = {
        what: ServerValue(n=found.n, mean=found.total / found.n, max=found.most)
        for what, found in sums.items()
    }
    return server
