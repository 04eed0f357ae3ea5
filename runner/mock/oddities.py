"""What servers do to the chunks of a stream: each a pure function from events to events.

Nearly all of them leave the answer as good as it was, and show how differently the same can be said.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec

from runner.mock.events import (
    DONE,
    Change,
    Event,
    choices_of,
    data_of,
    half,
    is_done,
    is_finish,
    is_role,
    is_usage,
    usage_of,
    with_choice,
    with_keys,
)

HUGE_BYTES = 2 << 20


# -- tools for the functions below


def kept(*tests: Callable[[Event], bool]) -> Change:
    """Only the events of these sorts."""
    return lambda events: [event for event in events if any(test(event) for test in tests)]


def without(*tests: Callable[[Event], bool]) -> Change:
    """All but the events of these sorts."""
    return lambda events: [event for event in events if not any(test(event) for test in tests)]


def each(change: Callable[[Event], Event], where: Callable[[Event], bool]) -> Change:
    """Every event of this sort changed."""
    return lambda events: [change(event) if where(event) else event for event in events]


def is_token(event: Event) -> bool:
    """Whether it carries text."""
    return event.tokens > 0


def is_chunk(event: Event) -> bool:
    """Whether it is anything but `[DONE]`."""
    return not is_done(event)


def spliced(extra: bytes) -> Change:
    """`extra` put into every chunk as its first keys: for what JSON encoders would not write."""
    return each(lambda event: _raw(event, b"{%b%b" % (extra, data_of(event)[1:])), is_chunk)


def _raw(event: Event, data: bytes) -> Event:
    return msgspec.structs.replace(event, payload=data)


def before_tokens(events: list[Event], *added: Event) -> list[Event]:
    """More events, just before the first token."""
    place = next((n for n, event in enumerate(events) if is_token(event)), 0)
    return [*events[:place], *added, *events[place:]]


def _text(event: Event) -> str:
    return "".join(choice["delta"].get("content", "") for choice in choices_of(event))


# -- role, choices, delta


def role(**delta: Any) -> Change:
    """The first chunk with this delta."""
    return each(lambda event: with_choice(event, delta=delta), is_role)


def role_everywhere(events: list[Event]) -> list[Event]:
    """The role again with every token."""
    return [
        with_choice(event, delta={"role": "assistant", "content": _text(event)}) if is_token(event) else event
        for event in events
    ]


def between(**keys: Any) -> Change:
    """After every token a chunk that is like it but for these keys; the value `...` takes a key away."""

    def change(events: list[Event]) -> list[Event]:
        out = []
        for event in events:
            out.append(event)
            if is_token(event) and isinstance(event.payload, dict):
                chunk = {k: v for k, v in {**event.payload, **keys}.items() if v is not ...}
                out.append(Event(chunk))
        return out

    return change


def filters(events: list[Event]) -> list[Event]:
    """Azure's content filter: chunks about the prompt, and about text sent before, also after the finish."""
    out = []
    for event in events:
        if is_role(event):
            out.append(with_keys(event, id="", created=0, model="", choices=[], prompt_filter_results=[{}]))
        out.append(event)
        if is_token(event):
            note = with_choice(event, delta=None, content_filter_results={"hate": {"filtered": False}})
            out.append(msgspec.structs.replace(note, tokens=0, beat=False))
        if is_finish(event):
            index = choices_of(event)[0]["index"]
            late = {"index": index, "finish_reason": None, "content_filter_offsets": {"check_offset": 1}}
            out.append(with_keys(event, choices=[late]))
    return out


def unknown_keys(events: list[Event]) -> list[Event]:
    """Keys nobody has heard of, on all levels."""
    return [
        with_keys(
            with_choice(event, delta={**choices_of(event)[0]["delta"], "mood": "calm"}, token_ids=[1, 2]),
            obfuscation="q7xW",
            x_region={"name": "north"},
        )
        if choices_of(event)
        else event
        for event in events
    ]


def odd_types(events: list[Event]) -> list[Event]:
    """Data that is JSON, and nothing of an answer."""
    odd = [b"7", b"null", b'"hello"', b"[1]", b'{"choices":{"0":1}}', b'{"choices":[null,3]}', b"{}"]
    return before_tokens(events, *map(Event, odd))


def grouped(events: list[Event]) -> list[Event]:
    """Four tokens in a chunk."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else event
        if is_token(event) and 0 < last.tokens < 4:
            joined = with_choice(last, delta={"content": _text(last) + _text(event)})
            out[-1] = msgspec.structs.replace(joined, tokens=last.tokens + 1)
        else:
            out.append(event)
    return out


def parts(events: list[Event]) -> list[Event]:
    """Content as a list of typed parts."""
    return each(lambda e: with_choice(e, delta={"content": [{"type": "text", "text": _text(e)}]}), is_token)(
        events
    )


def halved_characters(events: list[Event]) -> list[Event]:
    """Characters of two UTF-16 units (emoji) cut in two, half in one chunk and half in the next."""
    out = []
    for event in events:
        text = _text(event) if is_token(event) else ""
        units = text.encode("utf-16-le")
        place = next((n for n, char in enumerate(text) if ord(char) > 0xFFFF), None)
        if place is None:
            out.append(event)
            continue
        cut = 2 * place + 2
        for n, unit in enumerate((units[:cut], units[cut:])):
            made = with_choice(event, delta={"content": unit.decode("utf-16-le", "surrogatepass")})
            out.append(made if n == 0 else msgspec.structs.replace(made, tokens=0, beat=False))
    return out


def huge(events: list[Event]) -> list[Event]:
    """One event of megabytes, by padding."""
    return [with_keys(e, padding="x" * HUGE_BYTES) if is_role(e) or is_finish(e) else e for e in events]


def second_choice(*, late: bool) -> Change:
    """A second choice, that says the same: between the chunks of the first one, or after its finish."""

    def change(events: list[Event]) -> list[Event]:
        chunks = [event for event in events if choices_of(event)]
        rest = [event for event in events if not choices_of(event)]
        twins = [with_choice(event, index=1) for event in chunks]
        if late:
            return [*chunks, *twins, *rest]
        pairs = zip(chunks, (msgspec.structs.replace(twin, beat=False) for twin in twins), strict=True)
        return [event for pair in pairs for event in pair] + rest

    return change


# -- finish reasons


def finish_as(reason: str) -> Change:
    """Another finish reason."""
    return each(lambda event: with_choice(event, finish_reason=reason), is_finish)


def finish_blank(events: list[Event]) -> list[Event]:
    """Finish reasons that are none, before the real one and after it."""
    reasons = ["", "null"]
    out = [
        with_choice(event, finish_reason=reasons[n % 2]) if is_token(event) else event
        for n, event in enumerate(events)
    ]
    place = next(n for n, event in enumerate(out) if is_finish(event) and not is_token(event))
    return [*out[: place + 1], with_choice(out[place], finish_reason=None), *out[place + 1 :]]


def finish_twice(events: list[Event]) -> list[Event]:
    """A finish reason that is taken back: the last one holds."""
    out = []
    for event in events:
        if is_finish(event):
            out.append(with_choice(event, finish_reason="tool_calls"))
        out.append(event)
    return out


def finish_with_last(events: list[Event]) -> list[Event]:
    """The last token and the finish reason in one chunk."""
    reason = next(choices_of(event)[0]["finish_reason"] for event in events if is_finish(event))
    out = without(is_finish)(events)
    place = max((n for n, event in enumerate(out) if is_token(event)), default=None)
    if place is None:
        return events
    return [*out[:place], with_choice(out[place], finish_reason=reason), *out[place + 1 :]]


def given_up(reason: str) -> Change:
    """Half of the tokens, then a finish reason that says the server gave up."""
    return lambda events: [
        *half(events),
        *finish_as(reason)(without(is_role, is_token)(events)),
    ]


# -- usage: unchanged where the request does not ask for it


def usage_with_finish(events: list[Event]) -> list[Event]:
    """Usage in the chunk with the finish reason."""
    usage = usage_of(events)
    return each(lambda event: with_keys(event, usage=usage), is_finish)(without(is_usage)(events))


def usage_nested(events: list[Event]) -> list[Event]:
    """Usage under a key of the vendor's own."""
    vendor = {"id": "req_1", "usage": usage_of(events)}
    return each(lambda event: with_keys(event, x_groq=vendor), is_finish)(without(is_usage)(events))


def usage_everywhere(events: list[Event]) -> list[Event]:
    """The running total with every chunk."""
    final = usage_of(events)
    if final is None:
        return events
    prompt = final["prompt_tokens"]
    counts = accumulate(event.tokens for event in events)
    return [
        with_keys(
            event,
            usage={"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count},
        )
        if is_token(event)
        else event
        for event, count in zip(events, counts, strict=True)
    ]


def usage_twice(events: list[Event]) -> list[Event]:
    """Usage that is corrected by the chunk after it."""
    first = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if usage_of(events) is None:
        return events
    return each(lambda event: with_keys(event, usage=first), is_finish)(events)


def usage_null_last(events: list[Event]) -> list[Event]:
    """After usage, a chunk that says there is none."""
    out = []
    for event in events:
        out.append(event)
        if is_usage(event):
            out.append(with_keys(event, usage=None))
    return out


def usage_partial(events: list[Event]) -> list[Event]:
    """Usage that tells only the tokens of the answer."""
    count = (usage_of(events) or {}).get("completion_tokens")
    return each(lambda event: with_keys(event, usage={"completion_tokens": count}), is_usage)(events)


def usage_alone(events: list[Event]) -> list[Event]:
    """A chunk of usage without `choices`."""
    usage = usage_of(events)
    return each(lambda event: msgspec.structs.replace(event, payload={"usage": usage}), is_usage)(events)


# -- errors inside the stream


def failing(error: Any, *, first: bool = False, event: str = "", done: bool = False) -> Change:
    """An error in place of the rest: of all of it (`first`), or of the second half.

    `error` is the payload; `event` the event's type; `done`: `[DONE]` follows all the same.
    """

    def change(events: list[Event]) -> list[Event]:
        payload = error if isinstance(error, bytes) else data_of(Event(error))
        sent = [] if first else half(events)
        return [*sent, Event(payload, beat=True, type=event), *([DONE] if done else [])]

    return change


def broken_json(events: list[Event]) -> list[Event]:
    """The first event of the second half without its end, then all others."""
    place = len(half(events))
    data = data_of(events[place])
    return [*events[:place], _raw(events[place], data[: len(data) // 2]), *events[place + 1 :]]
