"""Whether a server stops when its client leaves, as far as that can be seen from outside.

Two ways. A server that counts what it is working on (`/slots`, `/metrics`) says it. Else a second request is
sent while a long answer streams: if it has to wait, the long answer is closed, and how soon the second one
begins then tells. If it need not wait, nothing can be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from time import monotonic_ns
from typing import Any

import msgspec

from runner.probe_watch import Seen, Watch
from runner.prober import SHORT_PROMPT, Prober, joined
from runner.redact import Redactor
from runner.stream import Stream

BILLS = "Where a server does not stop, the whole answer is billed"
_CUT_AFTER = 3  # token-bearing chunks
# What servers call the number of requests they are working on.
_RUNNING = re.compile(
    r"^(?:llamacpp:requests_processing|vllm:num_requests_running|sglang:num_running_reqs"
    r"|tgi_batch_current_size)(?:\{.*\})?[ \t]+([0-9.eE+]+)",
    re.M,
)


class Verdict(msgspec.Struct, frozen=True):
    """What was seen of a cancel; `honoured` is `None` where that cannot be told."""

    seen: str
    honoured: bool | None = None
    one_at_a_time: bool = False  # a second request had to wait


class _Long:
    """The long answer: its task, and its stream once that is open."""

    def __init__(self, prober: Prober) -> None:
        self.stream: Stream | None = None
        self.watch: Watch | None = None
        self.begun = asyncio.Event()
        body = prober.body(most=prober.settings.long_tokens)
        self.task = asyncio.create_task(prober.ask(body, self._opened))
        self.task.add_done_callback(lambda _: self.begun.set())

    def _opened(self, stream: Stream, watch: Watch) -> None:
        self.stream, self.watch = stream, watch
        watch.on_token = self._token

    def _token(self) -> None:
        if self.watch is not None and len(self.watch.token_at) >= _CUT_AFTER:
            self.begun.set()

    @property
    def chunks(self) -> int:
        return 0 if self.watch is None else len(self.watch.token_at)

    def left_ms(self, long_tokens: int, tokens_a_chunk: float) -> float:
        """How much longer it would go on at the pace so far."""
        at = [] if self.watch is None else self.watch.token_at
        if len(at) < 2:
            return 0.0
        gap_ms = (at[-1] - at[0]) / 1e6 / (len(at) - 1)
        return max(long_tokens / tokens_a_chunk - len(at), 0.0) * gap_ms

    async def cut(self) -> tuple[Seen, int]:
        """Close it; returns what it was, and when that happened."""
        at = monotonic_ns()
        if self.stream is not None:
            self.stream.cut(by="stop_rule")
        return await self.task, at


async def try_cancel(prober: Prober, usual_ms: float, tokens_a_chunk: float) -> Verdict:
    """Start a long answer, close it, and see what can be seen.

    Args:
        prober: sends; its room of requests is kept to.
        usual_ms: to the first token, with nothing else going on.
        tokens_a_chunk: of this endpoint's streams.
    """
    gauge = await _find_gauge(prober)
    blind = "it tells at neither /slots nor /metrics what it is working on"
    if gauge is not None and gauge[1] > 0:
        blind = "others were using it meanwhile"
    long = _Long(prober)
    try:
        await long.begun.wait()
        if long.task.done():
            return _over(await long.task, prober.redact)
        if gauge is not None and gauge[1] == 0:
            during = await _read(prober, gauge[0])
            if long.task.done():
                return _over(await long.task, prober.redact)
            if during:
                return await _by_gauge(prober, long, gauge[0], during, tokens_a_chunk)
            blind = f"{_name(gauge[0])} did not show the long answer"
        return await _by_waiting(prober, long, usual_ms, tokens_a_chunk, blind)
    finally:
        await _end(long.task)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _over(seen: Seen, redact: Redactor) -> Verdict:
    if seen.error is not None:
        said = redact(seen.error.message) or ""
        return Verdict(f"not seen: the answer that was to be closed failed: {said}")
    ms = f" after {seen.total_ms:,.0f} ms" if seen.total_ms is not None else ""
    return Verdict(f"not seen: the long answer was over{ms}, before it could be closed. {BILLS}")


# -- by the server's own count


async def _find_gauge(prober: Prober) -> tuple[str, int] | None:
    """Where the server says what it is working on, and what it says now."""
    base = prober.target.base_url
    root = base.partition("?")[0].removesuffix("/v1")
    for path in ("/slots", "/metrics"):
        url = joined(root, path)
        value = await _read(prober, url)
        if value is not None:
            return url, value
    return None


async def _read(prober: Prober, url: str) -> int | None:
    look = await prober.look(url)
    return busy_slots(look.payload) if url.endswith("/slots") else running(look.text, look.status)


def busy_slots(payload: object) -> int | None:
    """Slots at work, as llama.cpp lists them."""
    if not isinstance(payload, list) or not payload:
        return None
    states = [slot.get("is_processing") for slot in payload if isinstance(slot, dict)]
    if len(states) != len(payload) or not all(isinstance(state, bool) for state in states):
        return None
    return sum(state is True for state in states)


def running(text: str, status: int | None) -> int | None:
    """Requests at work, in the Prometheus text of the servers that count them."""
    if status != 200:
        return None
    try:
        found = [int(float(number)) for number in _RUNNING.findall(text)]
    except (ValueError, OverflowError):
        return None
    return sum(found) if found else None


def _name(url: str) -> str:
    return url[url.rindex("/") :]


async def _by_gauge(prober: Prober, long: _Long, url: str, during: int, tokens_a_chunk: float) -> Verdict:
    left_ms = long.left_ms(prober.settings.long_tokens, tokens_a_chunk)
    seen, cut_at = await long.cut()
    if not seen.cut:
        return _over(seen, prober.redact)
    after: int | None = None
    ms = 0.0
    for wait_s in prober.settings.looks_s:
        if prober.room < 1:
            break
        await asyncio.sleep(wait_s)
        after = await _read(prober, url)
        ms = (monotonic_ns() - cut_at) / 1e6
        if after == 0:
            break
    return judge_gauge(_name(url), during, after, ms, left_ms)


def judge_gauge(name: str, during: int, after: int | None, ms: float, left_ms: float) -> Verdict:
    """What a server's count tells, `ms` after an answer was closed that had `left_ms` to go."""
    story = f"{name} says 0 busy before, {during} during, {after} at {ms:,.0f} ms after the close"
    if after is None:
        return Verdict(f"not seen: {name} did not answer after the close. {BILLS}")
    if ms >= left_ms:
        return Verdict(f"not seen: {story}, when the answer would have been over anyway. {BILLS}")
    if after == 0:
        return Verdict(f"honoured: {story}, with about {left_ms:,.0f} ms of it left", honoured=True)
    if name == "/metrics":
        # Seen where an engine that fell idle does not renew its numbers.
        return Verdict(f"cannot be told: {story}; that number may be an old one. {BILLS}")
    return Verdict(f"not honoured: {story}. {BILLS}", honoured=False)


# -- by a second request


async def _by_waiting(
    prober: Prober, long: _Long, usual_ms: float, tokens_a_chunk: float, blind: str
) -> Verdict:
    if prober.room < 1:
        await long.cut()
        return Verdict("not tried: no request was left for it")
    begun = asyncio.Event()
    first_at: list[int] = []

    def token() -> None:
        if not first_at:
            first_at.append(monotonic_ns())
            begun.set()

    def opened(_stream: Stream, watch: Watch) -> None:
        watch.on_token = token

    second = asyncio.create_task(prober.ask(prober.body(prompt=SHORT_PROMPT, most=1), opened))
    second.add_done_callback(lambda _: begun.set())
    waiting = asyncio.create_task(begun.wait())
    patience_s = max(4 * usual_ms / 1e3, prober.settings.patience_s)
    try:
        await asyncio.wait({waiting, long.task}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        waited = not begun.is_set()
        left_ms = long.left_ms(prober.settings.long_tokens, tokens_a_chunk)
        seen, cut_at = await long.cut()
        if not seen.cut:
            return _over(seen, prober.redact)
        answer = await second
        if answer.error is not None:
            said = prober.redact(answer.error.message)
            return Verdict(f"not seen: the request sent meanwhile failed: {said}")
        if not waited:
            several = "the server answers several at once"
            return Verdict(f"cannot be seen from outside: {several}, and {blind}. {BILLS}")
        if not first_at:
            return Verdict(f"not seen: the request sent meanwhile got no token. {BILLS}")
        return judge_wait((first_at[0] - cut_at) / 1e6, left_ms, usual_ms)
    finally:
        await _end(waiting)
        await _end(second)


def judge_wait(waited_ms: float, left_ms: float, usual_ms: float) -> Verdict:
    """What it tells that a request, held up by a long answer, began `waited_ms` after that was closed."""
    story = f"a second request waited while it ran and began {waited_ms:,.0f} ms after the close"
    rest = f"about {left_ms:,.0f} ms of it were left"
    if left_ms < 2 * usual_ms:
        text = f"cannot be told: {story}; {rest}, too little to tell. {BILLS}"
        return Verdict(text, one_at_a_time=True)
    if waited_ms <= left_ms / 2:
        return Verdict(f"honoured: {story}; {rest}", honoured=True, one_at_a_time=True)
    if waited_ms >= 0.8 * left_ms:
        text = f"not honoured, it seems: {story}; {rest}. {BILLS}"
        return Verdict(text, honoured=False, one_at_a_time=True)
    return Verdict(f"cannot be told: {story}; {rest}. {BILLS}", one_at_a_time=True)
