"""What a probe found, in words: from what was seen to one line a question. No socket, no clock."""

from __future__ import annotations

from runner.probe_facts import (
    Facts,
    Finding,
    Mark,
    cached_field,
    cost_of,
    honoured,
    shown,
    tokens_a_chunk,
    tokens_told,
)
from runner.probe_watch import Seen
from runner.prober import as_flag
from runner.record import Error, tokens

_SHOWN_NAMES = 8

# Headers by which servers, gateways and proxies say who they are.
_IDENTITY = (
    "server",
    "via",
    "x-powered-by",
    "x-served-by",
    "x-litellm-version",
    "openai-version",
    "x-envoy-upstream-service-time",
    "x-kong-proxy-latency",
    "x-azure-ref",
    "apim-request-id",
    "x-amz-cf-id",
    "cf-ray",
    "x-vercel-id",
)
# Of these the value is one request's own: that they are there is what tells.
_ONLY_NAMED = {
    "x-envoy-upstream-service-time",
    "x-kong-proxy-latency",
    "x-azure-ref",
    "apim-request-id",
    "x-amz-cf-id",
    "cf-ray",
    "x-vercel-id",
}
_RATE = ("x-ratelimit-", "ratelimit", "x-rate-limit-", "anthropic-ratelimit-", "retry-after", "llm_provider-")


def findings_of(facts: Facts) -> list[Finding]:
    """Every finding, in the order they are shown."""
    found = [
        _base_url(facts),
        _models(facts),
        _streams(facts),
        _times(facts),
        _end(facts),
        _connection(facts),
        _usage(facts),
        _cached(facts),
        _reasoning(facts),
        _limit(facts),
        _unknown_model(facts),
        _wrong_param(facts),
        _cancel(facts),
        _cost(facts),
        _rates(facts),
        _server(facts),
        *_failures(facts),
    ]
    if not facts.verified:
        found.insert(1, Finding("certificate", "note", "not checked", "--insecure"))
    return found


# -- the place


def _base_url(facts: Facts) -> Finding:
    if facts.base_url == facts.given_url:
        return Finding("base URL", "ok", "answers as given")
    flag = as_flag(facts.base_url, facts.api)
    return Finding(
        "base URL", "problem", f"{facts.given_url} does not answer, {flag} does", f"--base-url {flag}"
    )


def names(listed: list[str]) -> str:
    """Some names of a list, and how many more there are."""
    some = ", ".join(shown(name, 80) for name in listed[:_SHOWN_NAMES])
    more = len(listed) - _SHOWN_NAMES
    return f"{some} and {more:,} more" if more > 0 else some


def _models(facts: Facts) -> Finding:
    if facts.listed is None:
        return Finding("models", "note", "no list at /models")
    if not facts.listed:
        return Finding("models", "note", "the list at /models is empty")
    text = f"{len(facts.listed):,} listed: {names(facts.listed)}"
    if facts.model in facts.listed:
        return Finding("models", "ok", text)
    return Finding("models", "note", f"{facts.model} answers and is not listed; {text}")


# -- the stream


def _streams(facts: Facts) -> Finding:
    first = facts.first
    if not first.streamed:
        text = "not streamed: a whole document came, so there are no token times"
        return Finding("stream", "problem", text)
    if not first.chunks:
        text = f"events came, and no token within the limit of {facts.max_tokens}; try a larger --max-tokens"
        return Finding("stream", "note", text)
    told, share = tokens_told(first), tokens_a_chunk(first)
    text = f"streamed: {_count(first.chunks, 'chunk')} for "
    text += "tokens it does not count" if told is None else _count(told, "token")
    if facts.api == "chat":
        text += f", {'a' if first.role_ms is not None else 'no'} role chunk before the first token"
    if first.one_read:
        return Finding(
            "stream", "note", f"{text}; all chunks came at once: something gathers them, or it is fast"
        )
    if share is not None and share >= 1.5:
        return Finding(
            "stream", "note", f"{text}; about {share:.1f} tokens a chunk: its gaps are no token gaps"
        )
    return Finding("stream", "ok", text)


def _times(facts: Facts) -> Finding:
    first = facts.first
    times = [
        ("headers", first.headers_ms),
        ("first token", first.first_token_ms),
        ("end", first.total_ms),
    ]
    text = ", ".join(f"{name} after {_ms(ms)}" for name, ms in times if ms is not None)
    again = facts.again
    if again is not None and again.first_token_ms is not None:
        text += f"; the same again: first token after {_ms(again.first_token_ms)}"
    return Finding("times", "ok", text)


def _end(facts: Facts) -> Finding:
    first = facts.first
    if first.cut:
        return Finding("end", "note", "not seen: the answer was cut, as it went on past its limit")
    finish = f"finish reason {shown(first.finish, 40)}" if first.finish else "no finish reason"
    if not first.streamed:
        return Finding("end", "ok" if first.finish else "note", finish)
    text = f"{finish}, {'then' if first.done else 'no'} [DONE]"
    return Finding("end", "ok" if first.finish and first.done else "note", text)


def _connection(facts: Facts) -> Finding:
    opened = [seen.connect_ms for seen in facts.answers if seen.connect_ms is not None]
    cost = f"opening one takes {_ms(opened[0])}" if opened else "how long one takes to open was not seen"
    if facts.stale:
        text = "a kept one was closed by the server unannounced; sent again at once, as run does"
        return Finding("connection", "note", f"{text}; {cost}")
    if facts.again is None or facts.again.reused is None:
        return Finding("connection", "note", f"not seen whether it is kept; {cost}")
    if facts.again.reused:
        return Finding("connection", "ok", f"kept for the next request; {cost}")
    return Finding("connection", "note", f"not kept: every request opens its own; {cost}")


# -- usage


def _usage(facts: Facts) -> Finding:
    first, unasked = facts.first, facts.unasked
    if first.cut:
        return Finding("usage", "note", "not seen: the answer was cut, as it went on past its limit")
    if facts.refused_usage is not None:
        text = f"asking for it is refused ({error_text(facts.refused_usage)})"
        came = "and it comes unasked" if first.usage else "and it does not come unasked: tokens stay unknown"
        return Finding("usage", "problem", f"{text}, {came}", "--no-usage")
    alone = "not seen unasked"
    if unasked is not None and unasked.answered:
        alone = "also unasked" if unasked.usage else "not unasked"
    if not first.usage:
        return Finding("usage", "note", f"asked for and not sent: tokens stay unknown; {alone}")
    text = f"sent when asked, {alone}"
    if first.usage_events > 1:
        every = first.usage_events >= first.chunks > 1
        text += ", with every chunk" if every else f", {first.usage_events} times"
    return Finding("usage", "ok", text)


def _cached(facts: Facts) -> Finding:
    told = [(seen, cached_field(seen.usage)) for seen in (facts.first, facts.again) if seen is not None]
    fields = [field for _, field in told if field is not None]
    if not any(seen.usage for seen, _ in told):
        return Finding("cached tokens", "note", "not seen: no usage came")
    if not fields:
        return Finding("cached tokens", "note", "not told")
    prompt = tokens(facts.first.usage).prompt
    counts = " then ".join("?" if (n := tokens(seen.usage).cached) is None else f"{n:,}" for seen, _ in told)
    text = f"told as {fields[0]}: {counts}"
    if prompt is not None:
        text += f" of {prompt:,} prompt tokens"
    return Finding("cached tokens", "ok", f"{text}, the same prompt sent twice" if len(told) > 1 else text)


def _reasoning(facts: Facts) -> Finding:
    fields: list[str] = []
    for seen in facts.answers:
        fields += [name for name in seen.reasoning_in if name not in fields]
    most = max((tokens(seen.usage).reasoning or 0 for seen in facts.answers), default=0)
    told = f"; up to {most:,} reasoning tokens told" if most else ""
    if fields:
        inside = "" if len(fields) > 1 or not fields[0].startswith("<") else ": it stays in the text"
        return Finding(
            "reasoning", "ok" if not inside else "note", f"in {' and '.join(fields)}{inside}{told}"
        )
    if told:
        return Finding("reasoning", "note", f"hidden{told}")
    return Finding("reasoning", "ok", "none seen")


def _limit(facts: Facts) -> Finding:
    name, asked = facts.asking.limit, facts.max_tokens
    seen = facts.first if facts.other_limit is None else facts.other_limit
    kept, told = honoured(seen, asked), tokens_told(seen)
    count = "" if told is None else f" ({_count(told, 'token')} told for {asked:,})"
    result = {True: "heeded", False: "not heeded", None: "taken; the answer ended before it"}[kept] + count
    marks: dict[bool | None, Mark] = {True: "ok", False: "problem", None: "note"}
    if facts.refused_limit is None and facts.other_limit is None:
        return Finding("limit", marks[kept], f"{name} is {result}")
    if facts.refused_limit is not None:
        why = f"max_tokens is refused ({error_text(facts.refused_limit)})"
    else:
        why = "max_tokens is not heeded"
        if not kept:
            return Finding("limit", "problem", f"{why}, max_completion_tokens is {result}")
    text = f"{why}, max_completion_tokens is {result}: use it in place of --max-tokens"
    return Finding("limit", "problem", text, "--param max_completion_tokens=N")


# -- errors, cancel


def error_text(error: Error) -> str:
    """Kind and words of an error, for a line of text."""
    return f"{error.kind}: {shown(error.message, 160)}"


def _refusal(seen: Seen) -> str:
    assert seen.error is not None
    where = "inside the stream" if seen.in_band else f"with HTTP {seen.status}"
    where = where if seen.status is not None else "without a response"
    return f"{where} ({seen.error.kind})"


def _unknown_model(facts: Facts) -> Finding:
    return _mistake("unknown model", facts.unknown_model, "a model that does not exist", "--model")


def _wrong_param(facts: Facts) -> Finding:
    return _mistake("wrong value", facts.wrong_param, 'temperature="hot"', "--param")


def _mistake(name: str, seen: Seen | None, what: str, flag: str) -> Finding:
    if seen is None:
        return Finding(name, "note", "not tried: no request was left for it")
    if seen.error is None:
        return Finding(name, "note", f"{what} is answered: a wrong {flag} goes unnoticed here")
    if seen.error.retryable:
        return Finding(name, "note", f"{what} fails {_refusal(seen)}, like failures that pass")
    return Finding(name, "ok", f"{what} is refused {_refusal(seen)}")


def _failures(facts: Facts) -> list[Finding]:
    """Answers that should have come: a limit of the rate, for instance, met half-way."""
    asked = (facts.again, facts.unasked, facts.other_limit)
    errors = [seen.error for seen in asked if seen is not None and seen.error is not None]
    if not errors:
        return []
    text = "; ".join(error_text(error) for error in errors)
    return [Finding("failures", "note", f"{_count(len(errors), 'further answer')} failed: {text}")]


def _cancel(facts: Facts) -> Finding:
    verdict = facts.cancel
    if verdict is None:
        return Finding("cancel", "note", "not tried: nothing was streamed, or no request was left for it")
    marks: dict[bool | None, Mark] = {True: "ok", False: "problem", None: "note"}
    text = verdict.seen + (". It answers one request at a time" if verdict.one_at_a_time else "")
    return Finding("cancel", marks[verdict.honoured], text)


# -- money, limits, who it is


def _cost(facts: Facts) -> Finding:
    if cost_of(facts.first) is None:
        return Finding("cost", "ok", "not told by the server")
    return Finding("cost", "ok", "told as usage.cost: the provider's own number")


def _headers(facts: Facts) -> dict[str, str]:
    out: dict[str, str] = {}
    for seen in facts.answers:
        if seen.answered or seen.cut:
            out.update(seen.headers)
    return out


def _rates(facts: Facts) -> Finding:
    found = {name: value for name, value in _headers(facts).items() if name.startswith(_RATE)}
    if not found:
        return Finding("rate limits", "ok", "no header tells one")
    limits = {name: value for name, value in found.items() if "limit-" in name and "-limit" in name}
    chosen = dict(sorted((limits or found).items())[:6])
    return Finding(
        "rate limits", "ok", ", ".join(f"{name} {shown(value, 40)}" for name, value in chosen.items())
    )


def _server(facts: Facts) -> Finding:
    headers = _headers(facts)
    found = [
        name if name in _ONLY_NAMED else f"{name}: {shown(headers[name], 60)}"
        for name in _IDENTITY
        if name in headers
    ]
    if facts.first.provider:
        found.append(f"provider: {shown(facts.first.provider, 60)}")
    return Finding("server", "ok", ", ".join(found) or "does not say what it is")


def _ms(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
