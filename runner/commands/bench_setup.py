"""What `bench` does before anything is sent: its scenario, targets and load, checked, and its directories."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from runner.commands.options import NOT_GIVEN, OPENAI, read_key, read_proxy
from runner.commands.room import most_connections, need_connections, need_workers
from runner.commands.sending import check_ca_file, prices_given, timeouts_of

if TYPE_CHECKING:
    from runner.bench import Aim
    from runner.benchdir import OpenedBench
    from runner.course import Course
    from runner.drive import Settings
    from runner.prices import Prices
    from runner.store import PromptFile
    from runner.target import Target
    from scenarios import scenario as parts
    from scenarios.changes import Change
    from scenarios.scenario import Scenario
    from scenarios.trace import TraceRow
    from scenarios.workload import Workload

MOST_IN_FLIGHT = 4096  # of an open loop whose scenario does not say
_SCRAPER_FILES = 2  # its connection and its file; a proxy takes the place of the target's connection


class Made(msgspec.Struct):
    """A bench ready to go."""

    aims: list[Any]  # of runner.bench.Aim
    settings: Any  # runner.drive.Settings
    redact: Any  # runner.target.Redactor
    notes: list[str]


class Checked(msgspec.Struct, kw_only=True):
    """A target with its load: whatever can be wrong was looked for, and nothing is sent or written yet."""

    name: str
    scenario: Any  # scenarios.scenario.Scenario
    target: Any  # runner.target.Target
    secrets: list[str]
    workload: Any  # scenarios.workload.Workload
    rows: Any  # of the trace, where there is one
    course: Any  # runner.course.Course
    prices: Any  # runner.prices.Prices, where there are any


def scenario_of(given: dict[str, Any], tell: Callable[[str], None], more: Iterable[Change] = ()) -> Scenario:
    """The scenario the command line stands for. `tell` is given what was left out of the file's.

    `more`: changes that win over all others.

    Raises:
        ScenarioError: it cannot be used.
    """
    from scenarios.flags import Flags, scenario_from_flags

    flags = Flags(
        base_url=given["base_url_flag"],
        model=given["model"],
        api=given["api"],
        api_key_env=given["api_key_env"],
        concurrency=given["concurrency"],
        rate=given["rate"],
        requests=given["requests"],
        duration=given["duration"],
        input_tokens=given["input_tokens"],
        output_tokens=given["output_tokens"],
        prompts=given["prompts"],
        seed=given["seed"],
    )
    return scenario_from_flags(flags, given["scenario"], given["overrides"], tell, more)


def make(scenario: Scenario, given: dict[str, Any]) -> Made:
    """Everything that can be wrong is found here; nothing is sent.

    Raises:
        ScenarioError, StoreError, PromptError, TargetError, PriceError: with what to do.
    """
    from runner.benchdir import discard
    from runner.commands.bench_notes import notes_on
    from runner.redact import Redactor

    settings = settings_of(given)
    checked = check_targets(scenario, given, settings)
    withheld = [withheld_key(one.target, one.name) for one in checked]
    notes = [*notes_on(checked[0], settings, len(checked)), *(note for note in withheld if note is not None)]
    places = _places(scenario, [one.name for one in checked], given)
    aims: list[Aim] = []
    try:
        for one in checked:
            aims.append(open_aim(one, places[one.name], settings, dict(given["tags"])))  # noqa: PERF401
    except BaseException:
        for aim in reversed(aims):
            discard(aim.opened)
        raise
    return Made(aims, settings, Redactor([secret for one in checked for secret in one.secrets]), notes)


def check_targets(scenario: Scenario, given: dict[str, Any], settings: Settings) -> list[Checked]:
    """Every target with its load, checked.

    Raises:
        ScenarioError, PromptError, TargetError, PriceError: with what to do.
    """
    from runner.replay import trace_rows
    from scenarios.workload import Workload

    scenarios = _scenarios(scenario, given)
    reaches = [_reach(one, given) for one in scenarios.values()]
    rows = trace_rows(scenario)
    course = _course(scenario, rows, len(scenarios), settings)  # one: all targets get the same load
    found = [
        Checked(
            name=name,
            scenario=one,
            target=target,
            secrets=secrets,
            workload=Workload(one, rows=rows),
            rows=rows,
            course=course,
            prices=_prices_of(one.target, given),
        )
        for (name, one), (target, secrets) in zip(scenarios.items(), reaches, strict=True)
    ]
    _check_thresholds(scenario, found[0].workload)
    return found


def open_aim(
    checked: Checked, path: Path, settings: Settings, tags: dict[str, str], salt: str | None = None
) -> Aim:
    """Make the run directory of a target. `salt`: what its prompts begin with.

    Raises:
        StoreError: there is something there already.
    """
    from runner.bench import Aim

    if checked.name:
        tags.setdefault("target", checked.name)
    opened = _open(checked, path, settings, tags)
    if salt is not None:
        opened.session.options["salt"] = salt
    return Aim(
        name=checked.name,
        scenario=checked.scenario,
        opened=opened,
        target=checked.target,
        workload=checked.workload if salt is None else checked.workload.salted(salt),
        salt=salt,
        rows=checked.rows,
        course=checked.course,
        prices=checked.prices,
    )


# -- targets


def _scenarios(scenario: Scenario, given: dict[str, Any]) -> dict[str, Scenario]:
    """One scenario a target, by name."""
    from scenarios.flags import bare_url
    from scenarios.loading import load_targets
    from scenarios.scenario import ScenarioError

    if given["targets"] is None:
        if scenario.target.base_url is None:
            scenario.target.base_url = bare_url(given["base_url"] or OPENAI)
        found = {"": scenario}
    else:
        _refuse_beside_targets(given)
        targets = load_targets(given["targets"])
        found = {}
        for name, target in targets.items():
            target.model = target.model or scenario.target.model
            found[name] = msgspec.structs.replace(scenario, target=target)
    for name, one in found.items():
        if one.target.model is None and one.prompts.file is None:
            where = f"target {name!r} has" if name else "there is"
            raise ScenarioError(f"{where} no model", hint="give --model, or target.model in the scenario")
    return found


def _refuse_beside_targets(given: dict[str, Any]) -> None:
    """What is for one host must not go to all of them."""
    if given["base_url_flag"] is not None:
        raise click.UsageError("--targets names where requests go: leave --base-url out")
    for name in ("api_key", "api_key_env", "api_key_file"):
        if given[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{flag} would go to every one of --targets: name api_key_env in its tables"
            )
    if given["headers"]:
        raise click.UsageError("--header would go to every one of --targets: name headers in its tables")


def _reach(scenario: Scenario, given: dict[str, Any]) -> tuple[Target, list[str]]:
    """How a target is reached, and the secrets in that: what never goes into a scenario."""
    from runner.redact import proxy_secrets, secrets_of
    from runner.target import make_target
    from scenarios.loading import header_values

    target = scenario.target
    named_outside = given["targets"] is None and _names_host(target, given)
    url = (given["base_url"] or OPENAI) if named_outside else target.base_url
    assert url is not None
    headers = {**header_values(target, os.environ), **dict(given["headers"])}
    key = _key(target, given, named_outside)
    made = make_target(url, key, headers)
    made = msgspec.structs.replace(made, proxy=read_proxy(given["proxy"], made.base_url))
    return made, [*secrets_of(made, url, key, headers), *proxy_secrets(made.proxy)]


def _names_host(target: parts.Target, given: dict[str, Any]) -> bool:
    """Whether the host is one a flag or the environment named, and not the scenario's own."""
    from scenarios.flags import bare_url

    return target.base_url == bare_url(given["base_url_flag"] or given["base_url"] or OPENAI)


def _key(target: parts.Target, given: dict[str, Any], named_outside: bool) -> str | None:
    """A key of the environment goes only to a host named there or by a flag, or to who names its variable."""
    by_flag = any(given[name] is not None for name in ("api_key", "api_key_env", "api_key_file"))
    if by_flag and given["targets"] is None:
        return read_key(given["api_key"], given["api_key_env"], given["api_key_file"])
    if target.api_key_env is not None:
        key = os.environ.get(target.api_key_env)
        if not key:
            raise click.UsageError(f"the scenario takes its key from {target.api_key_env}, which is not set")
        return read_key(None, target.api_key_env, None)
    return read_key(None, None, None) if named_outside else None


def withheld_key(target: Target, name: str) -> str | None:
    """Say so where a key of the environment stayed here. `name`: of the target, where there are several."""
    own = any("auth" in header.lower() or "key" in header.lower() for header in target.headers)
    if own or not os.environ.get("OPENAI_API_KEY", "").strip():
        return None
    where, instead = ("scenario", ", or give --base-url") if not name else (f"table of {name!r}", "")
    return (
        f"the key of the environment (OPENAI_API_KEY) is not sent, because the URL stands in the {where}. "
        f"If the server wants it, name it there with {'target.' if not name else ''}api_key_env{instead}"
    )


def _prices_of(target: parts.Target, given: dict[str, Any]) -> Prices | None:
    from runner.prices import PriceError, Prices, price_of

    if target.price is None:
        return prices_given(given["price"])
    try:
        return Prices({"*": price_of(target.price, "target.price")})
    except PriceError as exc:
        raise click.UsageError(str(exc)) from None


# -- the load


def _check_thresholds(scenario: Scenario, workload: Workload) -> None:
    """What no run of this scenario could measure is found before it is paid for."""
    from scenarios.scenario import ScenarioError
    from scenarios.thresholds import parse_all

    thresholds = parse_all(scenario.thresholds)
    told = workload.describe()
    if any(threshold.metric == "expect" for threshold in thresholds) and not told.expects:
        where = f"no row of {told.name}" if told.kind == "file" else "none of the prompts"
        raise ScenarioError(
            f"judges answers, and {where} says what it expects",
            key="thresholds.expect",
            hint="give rows an `expect` column, or leave the threshold out",
        )


def _prompt_file(workload: Workload) -> PromptFile | None:
    from runner.store import PromptFile

    told = workload.describe()
    if told.name is None or told.sha256 is None:
        return None
    rows = told.rows or 0
    return PromptFile(name=told.name, sha256=told.sha256, rows=rows, requests=rows, expects=told.expects)


def _course(scenario: Scenario, rows: list[TraceRow] | None, targets: int, settings: Settings) -> Course:
    """The load of each target. What all of them open at once has to fit into this process."""
    from runner.course import course_of

    load = scenario.load
    more = 0 if settings.metrics_url is None else _SCRAPER_FILES
    most = MOST_IN_FLIGHT
    if load.is_open and load.max_in_flight is None:
        n = settings.workers
        most = min(most, n * most_connections(-(-most // n), targets, more))
    course = course_of(load, scenario.seed, rows, most)
    workers = workers_of(settings, course)
    if load.max_in_flight is not None:
        need_connections(load.max_in_flight, "load.max_in_flight", targets, more, workers=workers)
    elif not load.is_open:
        name = "load.concurrency" if load.concurrency is not None else "load.stages"
        count = max(places for _, places in course.places)
        need_connections(count, name, targets, more, workers=workers)
    return course


def workers_of(settings: Settings, course: Course) -> int:
    """How many workers a load gets: no more than have a place and an arrival of their own."""
    return max(1, min(n for n in (settings.workers, course.most, course.scheduled) if n is not None))


def settings_of(given: dict[str, Any]) -> Settings:
    """How to send and to watch."""
    from runner.delivery import Keep
    from runner.drive import Settings
    from runner.scrape import metrics_url

    check_ca_file(given["ca_file"])
    need_workers(given["workers"])
    return Settings(
        workers=given["workers"],
        timeouts=timeouts_of(given),
        include_usage=not given["no_usage"],
        keep=Keep(request=not given["no_request"], times=not given["no_times"]),
        keep_headers=tuple(given["keep_headers"]),
        verify=not given["insecure"],
        ca_file=given["ca_file"],
        wait_ready=given["wait_ready"] != NOT_GIVEN,
        ready_limit_s=given["wait_ready"] if given["wait_ready"] != NOT_GIVEN else None,
        metrics_url=None if given["metrics_url"] is None else metrics_url(given["metrics_url"]),
    )


# -- directories


def _places(scenario: Scenario, names: list[str], given: dict[str, Any]) -> dict[str, Path]:
    """Where each target's run goes: all of these can be had, or nothing is touched."""
    from runner.benchdir import bench_place, check_free
    from runner.rundir import set_aside

    place = bench_place(scenario.name, given["output"])
    if names == [""]:
        found = {"": place}
    elif given["output"] is not None:
        found = {name: place / name for name in names}
    else:
        found = {name: place.with_name(f"{place.name}-{name}") for name in names}
    taken = [path for path in found.values() if given["fresh"] and path.is_dir() and any(path.iterdir())]
    for path in found.values():
        if path not in taken:
            check_free(path)
    for path in taken:
        set_aside(path)
    return found


def _open(checked: Checked, path: Path, settings: Settings, tags: dict[str, str]) -> OpenedBench:
    from runner.benchdir import open_bench
    from runner.target import redacted_url, without_query
    from scenarios.sentence import load_sentence

    scenario, course, prices, proxy = checked.scenario, checked.course, checked.prices, checked.target.proxy
    workers = workers_of(settings, course)
    kept = {**msgspec.to_builtins(scenario), "sentence": load_sentence(scenario)}
    options = {
        "concurrency": max((places for _, places in course.places), default=None),
        "max_in_flight": course.max_in_flight,
        "scheduled": course.scheduled,
        "retries": 0,
        "timeouts_s": msgspec.to_builtins(settings.timeouts),
        "include_usage": settings.include_usage,
        "verify_tls": settings.verify,
        "proxy": None if proxy is None else without_query(redacted_url(proxy)),
        "prices": msgspec.to_builtins(prices.models) if prices is not None else None,
        "metrics": settings.metrics_url is not None,
        "command": Path(sys.argv[0]).name,
        **({"workers": workers} if workers > 1 else {}),
    }
    prompts = _prompt_file(checked.workload)
    return open_bench(
        path,
        kept,
        seed=scenario.seed,
        tags=tags,
        prompts=prompts,
        options=options,
        workers=workers,
    )
