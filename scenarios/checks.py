"""What a scenario of the right shape may still get wrong: contradictions, and numbers that mean nothing."""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn, get_args
from urllib.parse import parse_qsl, urlsplit

from scenarios.arrivals import MOST_ARRIVALS, expected
from scenarios.bodies import CAPS
from scenarios.scenario import Executor, Lengths, Load, Prompts, Scenario, ScenarioError, Stage, Target, Time
from scenarios.shape import dotted
from scenarios.source import FORMATS
from scenarios.thresholds import SLO_METRICS, ThresholdError, parse, parse_name
from scenarios.units import seconds

PROMPT_FORMATS = (*FORMATS, "sharegpt")
LIMITS = tuple(sorted(CAPS))
"""Body fields that limit an answer, as `prompts.output_tokens` does."""

_ALWAYS = {"executor", "warmup", "graceful_stop", "cancel", "think_time"}
_COUNTED = {"warmup_requests", "requests"}  # of a ramp of places only time says where it stands
_OPEN = {"arrival", "burstiness", "max_in_flight"}
LOAD_KEYS: dict[Executor, frozenset[str]] = {
    "constant-concurrency": frozenset(_ALWAYS | _COUNTED | {"concurrency", "duration"}),
    "ramping-concurrency": frozenset(_ALWAYS | {"stages", "start"}),
    "constant-arrival-rate": frozenset(_ALWAYS | _OPEN | _COUNTED | {"rate", "duration"}),
    "ramping-arrival-rate": frozenset(_ALWAYS | _OPEN | {"warmup_requests", "stages", "start"}),
    "trace": frozenset(_ALWAYS | _COUNTED | {"trace", "trace_format", "speed", "duration", "max_in_flight"}),
}
"""The keys of `[load]` that mean something, by executor."""

_NEEDED: dict[Executor, tuple[str, str]] = {
    "constant-concurrency": ("concurrency", "how many requests at once, as in 32"),
    "ramping-concurrency": ("stages", 'as in [{ duration = "30s", target = 8 }]'),
    "constant-arrival-rate": ("rate", "requests a second, as in 4.0"),
    "ramping-arrival-rate": ("stages", 'as in [{ duration = "30s", target = 8 }]'),
    "trace": ("trace", "the file or run directory to replay: --set load.trace=PATH"),
}
_BODY = {
    "model": "it is target.model",
    "messages": "they come from the prompts",
    "prompt": "it comes from the prompts",
    "stream": "every answer is streamed",
    "stream_options": "usage is always asked for",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_SECRET_QUERY = re.compile(r"key|token|secret|sig|auth|password|code", re.I)


def check(data: dict[str, Any], scenario: Scenario) -> None:
    """Refuse what cannot be meant.

    Args:
        data: the scenario as plain data: which keys were given.
        scenario: the same, typed.

    Raises:
        ScenarioError: for the first thing found.
    """
    if scenario.seed < 0:
        _refuse("seed", f"is {scenario.seed}", "0 or more")
    check_target(scenario.target)
    _prompts(scenario.prompts)
    _request(scenario)
    _load(data.get("load", {}), scenario.load)
    if scenario.load.think_time is not None and not scenario.prompts.multi_turn:
        _refuse(
            "load.think_time", "is for conversations", "with prompts.multi_turn = true", "prompts.multi_turn"
        )
    _slo(scenario.slo)
    _thresholds(scenario.thresholds)


def check_target(target: Target, root: str = "target") -> None:
    """Refuse a target that cannot be meant, or that holds a secret.

    Raises:
        ScenarioError: for the first thing found.
    """
    if target.base_url is not None:
        _base_url(target.base_url, f"{root}.base_url")
    if target.model is not None and not target.model.strip():
        _refuse(f"{root}.model", "is empty", "name one, or leave it to --model")
    if target.api_key_env is not None and not _VARIABLE.match(target.api_key_env):
        # What stands here by mistake is the key itself.
        _refuse(
            f"{root}.api_key_env",
            "is not the name of an environment variable",
            "letters, digits and _, as in MY_KEY; the key itself never stands in a scenario",
        )
    for name, value in target.headers.items():
        if not _HEADER.match(name):
            _refuse(f"{root}.headers", f"has a name HTTP does not allow: {name!r}", "as in X-Team")
        if not value.startswith("env:") or not _VARIABLE.match(value.removeprefix("env:")):
            _refuse(
                f"{root}.{dotted(('headers', name))}",
                "holds its value, and header values are secrets",
                f'name the variable that holds it, as in {name} = "env:MY_HEADER", or use --header',
            )
    _price(target.price, f"{root}.price")
    if target.gpus is not None:
        _at_least(1, target.gpus, f"{root}.gpus")
    if target.gpu_hour_usd is not None:
        _at_least(0, target.gpu_hour_usd, f"{root}.gpu_hour_usd")
        if target.gpus is None:
            _refuse(f"{root}.gpus", "is missing", f"how many GPUs {root}.gpu_hour_usd is the price of one of")


def _base_url(url: str, key: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        _refuse(key, "is no URL", "as in http://127.0.0.1:8000/v1")
    if "@" in url:  # behind the host, it may end a login with a bare / in it
        _refuse(key, "holds a login, and a scenario never holds one", "give the URL with --base-url")
    if any(_SECRET_QUERY.search(name) for name, _ in parse_qsl(parts.query)):
        _refuse(key, "has a query that may hold a key", "give the URL with --base-url")


def _price(price: dict[str, float] | None, key: str) -> None:
    if price is None:
        return
    names = ("input", "cached_input", "output")
    for name, value in price.items():
        if name not in names:
            _refuse(f"{key}.{dotted((name,))}", "is no price there is", f"there are {', '.join(names)}")
        if value < 0:
            _refuse(f"{key}.{name}", f"is {value:g}", "0 or more, per million tokens")
    for name in ("input", "output"):
        if name not in price:
            _refuse(f"{key}.{name}", "is missing", "per million tokens; 0 where it costs nothing")


def _prompts(prompts: Prompts) -> None:
    if prompts.file is not None and prompts.synthetic is not None:
        _refuse("prompts.file", "is given beside prompts.synthetic", "one of them", "prompts.synthetic")
    for name, value in (("file", prompts.file), ("tokenizer", prompts.tokenizer)):
        if value is not None and not value.strip():
            _refuse(f"prompts.{name}", "is empty", "the path of a file")
    if prompts.format is not None and prompts.format not in PROMPT_FORMATS:
        near = difflib.get_close_matches(prompts.format, PROMPT_FORMATS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        allowed = ", ".join(PROMPT_FORMATS)
        _refuse("prompts.format", f'is "{prompts.format}"', f"{meant}it has to be one of {allowed}")
    if prompts.file is None:
        for name, given in (("format", prompts.format is not None), ("multi_turn", prompts.multi_turn)):
            if given:
                _refuse(f"prompts.{name}", "is about a file", "with prompts.file", "prompts.synthetic")
    if prompts.synthetic is not None:
        _tokens(prompts.synthetic.input_tokens, "prompts.synthetic.input_tokens")
        _at_least(0, prompts.synthetic.shared_prefix_tokens, "prompts.synthetic.shared_prefix_tokens")
    if prompts.output_tokens is not None:
        _tokens(prompts.output_tokens, "prompts.output_tokens")


def _tokens(value: int | Lengths, key: str) -> None:
    if isinstance(value, int):
        _at_least(1, value, key)
    else:
        _lengths(value, key, least=1)


def _lengths(value: Lengths, key: str, least: int) -> None:
    low = least if value.min is None else value.min
    _at_least(least, low, f"{key}.min")
    if value.max is not None and value.max < low:
        _refuse(f"{key}.max", f"is {value.max}", f"{low} (the minimum) or more", f"{key}.min")
    if not low <= value.mean or (value.max is not None and value.mean > value.max):
        upper = "" if value.max is None else f" to {value.max}"
        _refuse(
            f"{key}.mean", f"is {value.mean:g}", f"from {low}{upper or ' on'}", f"{key}.min", f"{key}.max"
        )
    _at_least(0, value.stdev, f"{key}.stdev")


def _request(scenario: Scenario) -> None:
    for name, hint in _BODY.items():
        if name in scenario.request:
            _refuse(f"request.{name}", "is no body field to set", hint)
    limits = [name for name in LIMITS if name in scenario.request]
    for name in limits:
        value = scenario.request[name]
        if type(value) is not int or value < 1:
            _refuse(f"request.{name}", f"is {value}", "a whole number of 1 or more")
    if limits and scenario.prompts.output_tokens is not None:
        _refuse(
            f"request.{limits[0]}",
            "is given beside prompts.output_tokens, and both limit the answer",
            "one of them",
            "prompts.output_tokens",
        )
    ends = limits or scenario.prompts.output_tokens is not None or scenario.load.executor == "trace"
    if scenario.prompts.force_output and not ends:
        _refuse("prompts.force_output", "has no limit to reach", "give prompts.output_tokens")


def _load(given: dict[str, Any], load: Load) -> None:
    executor = load.executor
    allowed = LOAD_KEYS[executor]
    for name in given:
        if name not in allowed:
            takers = [f'"{one}"' for one in get_args(Executor) if name in LOAD_KEYS[one]]
            other = f"this executor is {executor} and takes {', '.join(sorted(allowed - _ALWAYS))}"
            _refuse(f"load.{name}", f"is for {' or '.join(takers)}", other, "load.executor")
    needed, example = _NEEDED[executor]
    if getattr(load, needed) in (None, [], ""):
        said = "is empty" if needed in given else "is missing"
        _refuse(f"load.{needed}", said, example, "load.executor")
    _end(load)
    if load.rate is not None and load.rate <= 0:
        _refuse("load.rate", f"is {load.rate:g}", "above 0, in requests a second")
    for name in ("concurrency", "requests", "max_in_flight"):
        if (count := getattr(load, name)) is not None:
            _at_least(1, count, f"load.{name}")
    _stages(load)
    _warm_up(load)
    _arrivals(load, needed)
    if load.burstiness <= 0:
        _refuse("load.burstiness", f"is {load.burstiness:g}", "above 0: 1 is Poisson, smaller is burstier")
    if "burstiness" in given and load.arrival != "gamma":
        _refuse("load.burstiness", 'is for arrival = "gamma"', f"arrival is {load.arrival}", "load.arrival")
    if load.speed <= 0:
        _refuse("load.speed", f"is {load.speed:g}", "above 0: 2 is twice as fast")
    _time(load.graceful_stop, "load.graceful_stop")
    _cancel(load)
    if isinstance(load.think_time, Lengths):
        _lengths(load.think_time, "load.think_time", least=0)
    elif load.think_time is not None:
        _time(load.think_time, "load.think_time")


def _end(load: Load) -> None:
    if load.duration is not None and load.requests is not None:
        _refuse("load.duration", "is given beside load.requests", "one of them", "load.requests")
    if load.executor.startswith("constant") and load.duration is None and load.requests is None:
        hint = 'duration = "60s" or requests = 500'
        _refuse("load.duration", "is missing: nothing ends the load", hint, "load.executor")
    if load.duration is not None:
        _time(load.duration, "load.duration", above_zero=True)


def _arrivals(load: Load, key: str) -> None:
    """A schedule is made whole before the start."""
    count = expected(load)
    if count > MOST_ARRIVALS:
        shown = f"{count:,.0f}" if count < 1e15 else f"{count:.3g}"
        others = [f"load.{name}" for name in ("duration", "requests", "warmup", "warmup_requests")]
        _refuse(
            f"load.{key}",
            f"makes {shown} arrivals with the rest of the load",
            f"{MOST_ARRIVALS:,} at most",
            *others,
        )


def _stages(load: Load) -> None:
    whole = load.executor == "ramping-concurrency"
    _at_least(0, load.start, "load.start")
    for place, stage in enumerate(load.stages):
        _time(stage.duration, f"load.stages[{place}].duration")
        _at_least(0, stage.target, f"load.stages[{place}].target")
    values = [("load.start", load.start)]
    values += [(f"load.stages[{place}].target", stage.target) for place, stage in enumerate(load.stages)]
    for key, value in values:
        if whole and value != int(value):
            _refuse(key, f"is {value:g}", "a whole number: it is of requests at once")
    if load.stages and not _sends(load.start, load.stages):
        _refuse("load.stages", "send nothing", "one needs a duration above 0 and a target above 0")


def _sends(start: float, stages: list[Stage]) -> bool:
    for stage in stages:
        if stage.duration_s > 0 and (start > 0 or stage.target > 0):
            return True
        start = stage.target
    return False


def _warm_up(load: Load) -> None:
    if load.warmup is not None and load.warmup_requests is not None:
        _refuse("load.warmup", "is given beside load.warmup_requests", "one of them", "load.warmup_requests")
    if load.warmup is not None:
        _time(load.warmup, "load.warmup")
    if load.warmup_requests is not None:
        _at_least(0, load.warmup_requests, "load.warmup_requests")


def _cancel(load: Load) -> None:
    if load.cancel is None:
        return
    if not 0 <= load.cancel.share <= 1:
        _refuse("load.cancel.share", f"is {load.cancel.share:g}", "a share from 0 to 1, as in 0.1")
    tokens, patience = load.cancel.tokens, load.cancel.patience
    if (tokens is None) == (patience is None):
        said = "needs tokens or patience" if tokens is None else "has tokens and patience"
        hint = 'one of them: tokens = 20, or patience = "5s"'
        _refuse("load.cancel", said, hint, "load.cancel.tokens", "load.cancel.patience")
    if tokens is not None:
        _at_least(1, tokens, "load.cancel.tokens")
    if patience is not None:
        _time(patience, "load.cancel.patience", above_zero=True)


def _slo(slo: dict[str, Time]) -> None:
    for name, limit in slo.items():
        key = dotted(("slo", name))
        if name not in SLO_METRICS:
            near = difflib.get_close_matches(name, SLO_METRICS, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            if name == "itl":
                meant = "a request has many gaps: tpot is their mean, stall the longest. "
            _refuse(key, "is no time a request has", f"{meant}There are {', '.join(SLO_METRICS)}")
        if not isinstance(limit, str) or limit.strip().replace(".", "").isdigit():
            _refuse(key, f"is {limit}, without a unit", f'write "{limit}ms" or "{limit}s"')
        _time(limit, key, above_zero=True)


def _thresholds(thresholds: dict[str, list[str]]) -> None:
    for metric, texts in thresholds.items():
        try:
            parse_name(metric)  # also where the list is empty and nothing is judged
            for text in texts:
                parse(metric, text)
        except ThresholdError as exc:
            _refuse(dotted(("thresholds", metric)), f"cannot be judged: {exc}", "")


def _time(value: Time, key: str, *, above_zero: bool = False) -> None:
    try:
        length = seconds(value)
    except ValueError:
        length = -1.0
    if length < 0 or (above_zero and length == 0):
        allowed = 'a duration above 0, like "30s", "500ms" or "10m"'
        text = f'"{value}"' if isinstance(value, str) else f"{value}"
        _refuse(key, f"is {text}", allowed if above_zero else allowed.replace(" above 0", ""))


def _at_least(least: int, value: float, key: str) -> None:
    if value < least:
        _refuse(key, f"is {value:g}", f"{least} or more")


def _refuse(key: str, reason: str, hint: str, *others: str) -> NoReturn:
    raise ScenarioError(reason, key=key, hint=hint, others=others)
