"""`probe`: at most a dozen requests that say how an endpoint behaves, and which flags follow from it.

Nothing is stated that was not seen: what one answer could not show is called "not seen".
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import msgspec

from runner.probe_cancel import try_cancel
from runner.probe_facts import Facts, Finding, cost_of, honoured, shown, tokens_a_chunk, tokens_told
from runner.probe_findings import findings_of, names
from runner.probe_watch import Seen
from runner.prober import SHORT_PROMPT, Asking, Prober, Settings, as_flag, other_base
from runner.record import Error, ErrorKind, tokens
from runner.redact import Redactor
from runner.target import Target

NO_SUCH_MODEL = "streamgauge-probe-no-such-model"
_CANCEL_NEEDS = 5  # requests: two looks for a gauge, the long answer, two looks at the gauge


class Failure(msgspec.Struct, frozen=True):
    """Why there are no findings, and what to do."""

    message: str
    usage: bool = False  # what was given on the command line does not do


class Cost(msgspec.Struct, frozen=True):
    """What the probe took, as far as the server told."""

    requests: int  # of any kind
    answers: int  # requests that asked for an answer
    without_usage: int  # answers, or beginnings of one, whose tokens nobody told
    cut: int  # of those: closed early by the probe
    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None  # the provider's own number; `None` where it tells none


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe found. No secret is in it."""

    api: str
    base_url: str  # as --base-url takes it
    model: str | None
    failure: Failure | None = None
    findings: list[Finding] = []
    cost: Cost

    @property
    def flags(self) -> list[str]:
        """The flags for `run` that follow from the findings, without --base-url."""
        own = {"base URL", "certificate"}
        return [f.flag for f in self.findings if f.flag is not None and f.name not in own]


async def probe(
    session: aiohttp.ClientSession,
    target: Target,
    redact: Redactor,
    settings: Settings,
    *,
    verified: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Find out how the endpoint behaves.

    Args:
        session: from `open_session`.
        target: the endpoint as it was given.
        redact: takes secrets out of what servers say.
        settings: what to ask.
        verified: the server's certificate is checked.
        tell: is handed a line on what is done next.
    """
    prober = Prober(session, target, redact, settings, tell)
    facts = await _facts(prober)
    if isinstance(facts, Failure):
        failure = Failure(redact(facts.message) or "", facts.usage)
        return _report(prober, [], failure)
    facts.verified = verified or not facts.base_url.startswith("https:")
    found = [
        msgspec.structs.replace(
            finding,
            seen=shown(redact(finding.seen) or "", 1000),
            flag=None if finding.flag is None else redact(finding.flag),
        )
        for finding in findings_of(facts)
    ]
    return _report(prober, found, None)


def _report(prober: Prober, findings: list[Finding], failure: Failure | None) -> Report:
    base_url = as_flag(prober.target.base_url, prober.settings.api)
    return Report(
        api=prober.settings.api,
        base_url=prober.redact(base_url) or "",
        model=prober.redact(prober.model) or None,
        failure=failure,
        findings=findings,
        cost=_cost(prober),
    )


def _cost(prober: Prober) -> Cost:
    billed = [seen for seen in prober.answers if seen.answered or seen.cut or seen.chunks]
    costs = [cost for seen in billed if (cost := cost_of(seen)) is not None]
    return Cost(
        requests=prober.sent,
        answers=len(prober.answers),
        without_usage=sum(not seen.usage for seen in billed),
        cut=sum(seen.cut and not seen.usage for seen in billed),
        prompt_tokens=sum(tokens(seen.usage).prompt or 0 for seen in billed),
        completion_tokens=sum(tokens_told(seen) or 0 for seen in billed),
        cost=sum(costs) if costs else None,
    )


# -- the sequence


async def _facts(prober: Prober) -> Facts | Failure:
    given_url = prober.target.base_url
    tell, settings = prober.tell, prober.settings
    tell("asking for the models")
    listed, listed_at = await _list_models(prober)
    if not prober.model:
        failure = await _choose_model(prober, listed)
        if failure is not None:
            return failure
    tell(f"asking {shown(prober.model, 80)} for a first answer")
    first = await _first(prober, given_url, listed_at)
    if isinstance(first, Failure):
        return first
    facts = Facts(
        api=settings.api,
        given_url=given_url,
        base_url=prober.target.base_url,
        model=prober.model,
        max_tokens=settings.max_tokens,
        first=first.seen,
        listed=listed,
        asking=prober.asking,
        refused_usage=first.refused_usage,
        refused_limit=first.refused_limit,
        answers=prober.answers,
    )
    tell("the same again")
    facts.again = await prober.ask(prober.body())
    if prober.asking.usage:
        tell("without asking for usage")
        facts.unasked = await prober.ask(prober.body(prompt=SHORT_PROMPT, stream_options=None))
    if prober.asking.limit == "max_tokens" and honoured(facts.first, settings.max_tokens) is False:
        await _try_other_limit(prober, facts)
    await _rest(prober, facts)
    facts.asking, facts.stale = prober.asking, prober.stale
    return facts


async def _try_other_limit(prober: Prober, facts: Facts) -> None:
    prober.tell("with max_completion_tokens")
    before = prober.asking
    prober.asking = msgspec.structs.replace(before, limit="max_completion_tokens")
    facts.other_limit = await prober.ask(prober.body())
    if not honoured(facts.other_limit, prober.settings.max_tokens):
        prober.asking = before


async def _rest(prober: Prober, facts: Facts) -> None:
    """What can be left out where the first answers took more requests than they should."""
    first = facts.first
    if first.streamed and first.chunks and prober.room >= _CANCEL_NEEDS:
        prober.tell("closing a long answer early")
        usual = [seen.first_token_ms for seen in (first, facts.again, facts.unasked) if seen is not None]
        usual_ms = max((ms for ms in usual if ms is not None), default=0.0)
        facts.cancel = await try_cancel(prober, usual_ms, tokens_a_chunk(first) or 1.0)
    if prober.room:
        prober.tell("with a model that does not exist")
        facts.unknown_model = await prober.ask(prober.body(prompt=SHORT_PROMPT, most=1, model=NO_SUCH_MODEL))
    if prober.room:
        prober.tell("with a value that makes no sense")
        facts.wrong_param = await prober.ask(prober.body(prompt=SHORT_PROMPT, most=1, temperature="hot"))


# -- the models


async def _list_models(prober: Prober) -> tuple[list[str] | None, str | None]:
    """The names, and the base URL under which they were."""
    given = prober.target.base_url
    for base in (given, other_base(given)):
        listed = await prober.models(base)
        if listed is not None:
            return listed, base
    return None, None


async def _choose_model(prober: Prober, listed: list[str] | None) -> Failure | None:
    if listed and len(listed) == 1:
        prober.model = listed[0]
        return None
    if listed:
        text = f"no --model, and {len(listed):,} models are listed: {names(listed)}. Choose one with --model."
        return Failure(text, usage=True)
    # Nothing to ask for. Whether the endpoint could be used at all is told by any request.
    seen = await prober.ask(prober.body(model=NO_SUCH_MODEL, prompt=SHORT_PROMPT, most=1))
    error = seen.error
    if error is not None and not seen.refused and not seen.misplaced:
        return Failure(_unusable(prober, error, []))
    where = f"{prober.redact(prober.target.base_url)}/models"
    return Failure(f"no --model, and {where} lists none. Name one with --model.", usage=True)


# -- the first answer


class _First(msgspec.Struct):
    seen: Seen
    refused_usage: Error | None = None
    refused_limit: Error | None = None
    all_refused: bool = False  # every way of asking


async def _first(prober: Prober, given_url: str, listed_at: str | None) -> _First | Failure:
    failed: list[tuple[str, Seen]] = []
    all_refused = False
    for base in (given_url, other_base(given_url)):
        prober.use(base)
        first = await _first_at(prober)
        if first.seen.error is None:  # answered, or cut where it knew no limit
            return first
        failed.append((base, first.seen))
        all_refused |= first.all_refused
        if not first.seen.misplaced:
            break
    # The one that got furthest says most: an API's own refusal, else where the models are, else as given.
    base, seen = next(
        (pair for pair in failed if not pair[1].misplaced),
        next((pair for pair in failed if pair[0] == listed_at), failed[0]),
    )
    prober.use(base)
    assert seen.error is not None
    tried = [as_flag(other, prober.settings.api) for other, _ in failed if other != base]
    listed = listed_at is not None and seen.status == 404
    if all_refused:
        tried.append("asking without stream_options and with max_completion_tokens")
    return Failure(_unusable(prober, seen.error, tried, listed=listed))


async def _first_at(prober: Prober) -> _First:
    """The first answer, in the first way of asking that this endpoint takes."""
    seen = await prober.ask(prober.body())
    if not seen.refused or seen.error is None:
        return _First(seen)
    usual, errors = prober.asking, {prober.asking: seen.error}
    no_usage, other_limit = Asking(usage=False), Asking(limit="max_completion_tokens")
    ways = [no_usage, other_limit]
    if "max_completion_tokens" in seen.error.message:  # only what is tried first: what counts is what is seen
        ways.reverse()
    for way in [*ways, Asking(other_limit.limit, usage=False)]:
        prober.asking = way
        prober.tell(f"it was refused ({seen.error.kind}); asking in another way")
        other = await prober.ask(prober.body())
        if other.error is None:
            # What was refused is told by the way that differs in that alone.
            asked, limited = Asking(way.limit), Asking(usage=way.usage)
            return _First(other, errors.get(asked), None if limited == way else errors.get(limited))
        if not other.refused:
            prober.asking = usual
            return _First(seen)
        errors[way] = other.error
    prober.asking = usual
    return _First(seen, all_refused=True)


_ADVICE = {
    ErrorKind.CONNECT: "Check that the server runs there, and --base-url.",
    ErrorKind.TLS: "Check --base-url (https?), or name the server's certificates with --ca-file.",
    ErrorKind.QUOTA: "Check the account's credit.",
    ErrorKind.REDIRECT: "Name it with --base-url, without /chat/completions at its end.",
    ErrorKind.BAD_CONTENT_TYPE: "Check --base-url: is it the API's?",
    ErrorKind.BAD_REQUEST: "Check --model, and whether it takes --api chat or completions.",
    ErrorKind.RATE_LIMIT: "Try again later.",
    ErrorKind.OVERLOADED: "Try again later.",
    ErrorKind.TIMEOUT: "Check the server, or give it more time with --timeout.",
    ErrorKind.PROTOCOL: "Check --base-url: is it http or https, and the right port?",
}


def _unusable(prober: Prober, error: Error, tried: list[str], *, listed: bool = False) -> str:
    """Why the endpoint cannot be used, and what to do about it."""
    said = shown(error.message, 400)
    if error.timer == "connect":
        said = f"no connection to {prober.target.host} within 10 s"
    text = f"this endpoint could not be used: {said}"
    if error.kind is ErrorKind.AUTH:
        keyed = any(
            name.lower() in {"authorization", "api-key", "x-api-key"} for name in prober.target.headers
        )
        advice = (
            "The key was refused: check it, and that it is the one for this host."
            if keyed
            else "No key was sent: set OPENAI_API_KEY, or give --api-key-env or --api-key-file."
        )
    elif listed:
        advice = f"The URL is right, it lists models; check --model ({shown(prober.model, 80)}) and --api."
    elif error.http_status in {404, 405}:
        advice = "Check --base-url and --model."
    else:
        advice = _ADVICE.get(error.kind, "Check the server.")
    also = f" {' and '.join(tried)} was tried as well." if tried else ""
    return f"{text.rstrip('.')}.{also} {advice}"
