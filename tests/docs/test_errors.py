"""docs/errors.md, and the README's time-outs, against the code that retries and waits."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from runner.commands.run import command
from runner.engine import DISK_WAIT_S
from runner.errors import EXCERPT_LIMIT, MESSAGE_LIMIT, kind_of_status
from runner.fleet import BUSY
from runner.limits import _TARGET
from runner.record import ErrorKind
from runner.retry import BASE_S, CAP_S, HINT_CAP_S, LIMITS
from runner.stream import LINGER_NS
from runner.timeouts import Timeouts
from tests.docs.pages import DOCS, README, check_part, code, markdown_table, part, read, table

PAGE = DOCS / "errors.md"
TIMERS = {
    "--connect-timeout": "connect",
    "--first-token-timeout": "first_token",
    "--token-timeout": "token_gap",
    "--idle-timeout": "byte_idle",
    "--timeout": "total",
}


def again(kind: ErrorKind) -> str:
    if kind not in LIMITS:
        return "no"
    limit = LIMITS[kind]
    if kind is ErrorKind.BAD_ENCODING:
        return "yes, where it is corrupt; not where it is unknown"
    return "yes" if limit is None else f"at most {limit} {'time' if limit == 1 else 'times'}"


def statuses(kind: ErrorKind) -> str:
    found = [status for status in range(400, 600) if kind_of_status(status) is kind]
    if kind is ErrorKind.REDIRECT:
        return "3xx"
    rest = {ErrorKind.BAD_REQUEST: "any other 4xx", ErrorKind.SERVER_ERROR: "any other 5xx"}
    if kind in rest:
        named = [status for status in (400, 404, 405, 409, 413, 422, 424, 500, 502, 504) if status in found]
        return ", ".join([*map(str, named), rest[kind]])
    return ", ".join(map(str, found)) or "-"


def wait(kind: ErrorKind) -> str:
    if kind not in LIMITS:
        return "-"
    if kind in {ErrorKind.CONNECT, ErrorKind.DISCONNECTED, ErrorKind.PROTOCOL}:
        return "backoff"  # nobody was there to ask for a time
    return "as asked for, else backoff; every request waits" if kind in BUSY else "as asked for, else backoff"


def timers(kind: ErrorKind) -> str:
    """The time-outs that end in this kind, with their flags and defaults."""
    ours = {"connect"} if kind is ErrorKind.CONNECT else set(TIMERS.values()) - {"connect"}
    if kind not in {ErrorKind.CONNECT, ErrorKind.TIMEOUT}:
        return "-"
    defaults = msgspec.structs.asdict(Timeouts())
    shown = []
    for flag, timer in TIMERS.items():
        if timer in ours:
            seconds = defaults[timer]
            shown.append(f"`{timer}`: `{flag}` ({'none' if seconds is None else f'{seconds:g} s'})")
    return ", ".join(shown)


def test_the_table_of_kinds() -> None:
    """What a kind is stands in the page; what is done about it, in the code."""
    told = {code(row[0]): row[1] for row in table(part(PAGE, "kinds"))}
    assert all(told.values())
    rows = [
        [
            f"`{kind}`",
            told.get(kind, ""),
            statuses(kind),
            again(kind),
            wait(kind),
            timers(kind),
            "yes" if kind in _TARGET else "no",
        ]
        for kind in ErrorKind
    ]
    header = [
        "kind",
        "what happened",
        "HTTP status",
        "sent again",
        "after which wait",
        "time-out (`error.timer`: flag, default)",
        "one of it, before any success, ends the run",
    ]
    check_part(PAGE, "kinds", markdown_table(header, rows))


def test_numbers_of_the_waits_and_limits() -> None:
    page = read(PAGE)
    for number in (BASE_S, CAP_S, HINT_CAP_S):
        assert f"{number:g} s" in page
    assert f"{LINGER_NS // 1_000_000} ms" in page
    assert f"{MESSAGE_LIMIT:,} characters" in page
    assert f"{EXCERPT_LIMIT} characters" in page
    assert f"{DISK_WAIT_S:g} s" in read(DOCS / "run-directory.md")


@pytest.mark.parametrize("page", [README], ids=lambda page: page.name)
def test_timeouts(page: Path) -> None:
    options = {
        option.opts[0]: str(option.default) for option in command.params if isinstance(option, click.Option)
    }
    defaults = msgspec.structs.asdict(Timeouts())
    rows = table(part(page, "timeouts"))
    assert [code(row[0]) for row in rows] == list(TIMERS)
    for flag, default, timer, what in rows:
        assert code(timer) == TIMERS[code(flag)]
        seconds = defaults[code(timer)]
        assert default == ("none" if seconds is None else f"{seconds:g} s")
        assert options[code(flag)] == ("none" if seconds is None else f"{seconds:g}")
        assert what
