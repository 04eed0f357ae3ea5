"""What `run` does before anything is sent: its settings, targets and plan, checked, and its directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.commands.check_prompts import bad_rows
from runner.commands.options import NOT_GIVEN, OPENAI, plural, read_key, read_proxy, say, stop
from runner.commands.room import need_connections, need_workers
from runner.commands.sending import check_ca_file, prices_given, timeouts_of

if TYPE_CHECKING:
    from runner.part import Part
    from runner.prices import Prices, WorstCases
    from runner.redact import Redactor
    from runner.rundir import Opened
    from runner.settings import Settings
    from runner.target import Target
    from scenarios.prompts import Plan


def targets_of(given: dict[str, Any]) -> tuple[list[Target], Redactor]:
    """The endpoints, and what keeps their secrets out of texts.

    Raises:
        TargetError: a URL that cannot be used.
    """
    from msgspec.structs import replace

    from runner.redact import Redactor, proxy_secrets, secrets_of
    from runner.target import TargetError, make_target

    key = read_key(given["api_key"], given["api_key_env"], given["api_key_file"])
    urls = list(given["base_urls"]) or [OPENAI]
    headers = dict(given["headers"])
    targets = [make_target(url, key, headers) for url in urls]
    if len({target.base_url for target in targets}) < len(targets):
        raise TargetError("--base-url names the same endpoint twice: give each replica once")
    # A proxy of the environment is not for every host.
    targets = [replace(t, proxy=read_proxy(given["proxy"], t.base_url)) for t in targets]
    secrets: list[str] = []
    for target, url in zip(targets, urls, strict=True):
        secrets += [*secrets_of(target, url, key, headers), *proxy_secrets(target.proxy)]
    return targets, Redactor(secrets)


def settings_of(given: dict[str, Any]) -> Settings:
    """How to send; usage errors for what cannot be done."""
    prices = _prices(given)
    if given["ray"] is None:  # else they are opened elsewhere, and looked at there
        need_connections(given["concurrency"], "-c", endpoints=max(len(given["base_urls"]), 1))
    workers = _workers(given)
    from runner.delivery import Keep
    from runner.settings import Settings

    check_ca_file(given["ca_file"])
    return Settings(
        concurrency=given["concurrency"],
        workers=workers,
        retries=given["retries"],
        timeouts=timeouts_of(given),
        include_usage=not given["no_usage"],
        keep=Keep(request=not given["no_request"], times=not given["no_times"]),
        keep_headers=tuple(given["keep_headers"]),
        grace_s=given["grace"],
        verify=not given["insecure"],
        ca_file=given["ca_file"],
        rpm=given["rpm"],
        tpm=given["tpm"],
        adaptive=given["adaptive"],
        prices=prices,
        max_cost=given["max_cost"],
        pilot=given["pilot"],
        stop_after=given["stop_after_tokens"],
        wait_ready=given["wait_ready"] != NOT_GIVEN,
        ready_limit_s=given["wait_ready"] if given["wait_ready"] != NOT_GIVEN else None,
    )


def _workers(given: dict[str, Any]) -> int:
    """Processes: of this machine no more than there are streams."""
    asked: int = given["workers"] or 1
    most: int = given["concurrency"]
    if given["ray"] is not None:
        return asked  # nodes have room of their own
    need_workers(asked)
    if asked > most:
        say(f"note: --workers {asked}: -c {most} has work for {most}, and so many are used")
    return min(asked, most)


def _prices(given: dict[str, Any]) -> Prices | None:
    if given["kinds"] and not given["retry_failed"]:
        raise click.UsageError("--kind says which failures --retry-failed sends again: add --retry-failed")
    if given["price"] is None:
        if given["max_cost"] is not None:
            raise click.UsageError(
                "--max-cost needs --price: without prices nobody knows what a request may cost at most"
            )
        return None
    return prices_given(given["price"])


def worst_cases_of(settings: Settings) -> WorstCases | None:
    """What looks at every row's worst case; `None` without `--max-cost`."""
    from runner.delivery import added_fields
    from runner.prices import WorstCases

    if settings.max_cost is None or settings.prices is None:
        return None
    return WorstCases(settings.prices, added_fields(settings.include_usage))


def check_budget(plan: Plan, name: str) -> None:
    """Usage error for a plan that has requests without a worst case to reserve. `name`: of the prompts."""
    if plan.first_unfit is not None:
        raise click.UsageError(
            f"--max-cost: what {plural(plan.unfit, 'row')} can cost at most cannot be told, the first: "
            f"{name}, {plan.first_unfit}. Every row needs a limit of tokens that is a whole number "
            '(--max-tokens N, or max_tokens in the row), and its model a price (or "*") in --price.'
        )


def check_dataset(dataset: Path) -> None:
    """Raise StoreError where a dataset of that name could not be written at the end."""
    from reports.export import format_of, require

    require(format_of(dataset))


def plan_of(prompts: str | Path, given: dict[str, Any], worst: WorstCases | None = None) -> Plan:
    """Read and check every row. Ends the command where some are bad and were not to be skipped."""
    from scenarios.bodies import Settings as Bodies
    from scenarios.prompts import scan
    from scenarios.source import open_source
    from scenarios.template import load_template

    template = load_template(given["template"]) if given["template"] is not None else None
    bodies = Bodies(
        api=given["api"],
        model=given["model"],
        params=dict(given["params"]),
        max_tokens=given["max_tokens"],
        system=_text_or_file(given["system"]),
        template=template,
        samples=given["samples"],
    )
    source = open_source(prompts, given["input_format"])
    plan = scan(
        source,
        bodies,
        skip_bad_rows=given["skip_bad_rows"] or given["dry_run"],
        limit=given["limit"],
        check=None if worst is None else worst.why_not,
    )
    name = "standard input" if isinstance(prompts, Path) else str(prompts)
    if plan.bad_count and not (given["skip_bad_rows"] or given["dry_run"]):
        stop(bad_rows(plan, name), 2)
    if not given["dry_run"]:
        check_budget(plan, name)
    return plan


def _text_or_file(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"--system {text}: cannot be read ({exc})") from None


def _proxies_of(targets: list[Target]) -> str | list[str] | None:
    """The proxies that are in the path of any endpoint, without their logins."""
    from runner.target import redacted_url, without_query

    urls = [target.proxy for target in targets if target.proxy is not None]
    shown = list(dict.fromkeys(without_query(redacted_url(url)) for url in urls))
    return shown if len(shown) > 1 else next(iter(shown), None)


def open_directory(
    path: Path,
    plan: Plan,
    targets: list[Target],
    prompts: str,
    given: dict[str, Any],
    settings: Settings,
    part: Part | None,
) -> Opened:
    """Take the run directory, or a part's shard of it, for this session."""
    import msgspec

    from runner.again import Again
    from runner.rundir import open_run, scenario_of

    options = {
        "concurrency": settings.concurrency,
        "retries": settings.retries,
        "timeouts_s": msgspec.to_builtins(settings.timeouts),
        "include_usage": settings.include_usage,
        "verify_tls": settings.verify,
        "proxy": _proxies_of(targets),
        "rpm": settings.rpm,
        "tpm": settings.tpm,
        "adaptive": settings.adaptive,
        "prices": msgspec.to_builtins(settings.prices.models) if settings.prices is not None else None,
        "max_cost": settings.max_cost,
        "pilot": settings.pilot,
        "stop_after_tokens": settings.stop_after,
        **({"workers": settings.workers} if settings.workers > 1 or given["ray"] is not None else {}),
        **({"ray": given["ray"]} if given["ray"] is not None else {}),
    }
    scenario = scenario_of(plan, [target.base_url for target in targets])
    again = Again(given["retry_failed"], frozenset(given["kinds"]), frozenset(given["redo"]))
    if part is not None:
        from runner.shared_run import open_shard

        options["shard"] = str(part)
        return open_shard(path, plan, scenario, part, source_name=prompts, options=options, again=again)
    return open_run(
        path,
        plan,
        scenario,
        source_name="standard input" if prompts == "-" else prompts,
        options=options,
        fresh=given["fresh"],
        again=again,
    )
