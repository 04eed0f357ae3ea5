"""docs/errors.md, and the README's time-outs, against the code that retries and waits."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from runner.commands.run import command
from runner.engine import DISK_WAIT_S
from runner.errors import EXCERPT_LIMIT, MESSAGE_LIMIT, kind_of_status
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
    return "yes" if limit is None else f"at most {limit} {'time' if limit == 1 else 'times'}"


def test_the_table_of_kinds() -> None:
    """What a kind is stands in the page; what is done about it, in the code."""
    told = {code(row[0]): row[1] for row in table(part(PAGE, "kinds"))}
    assert all(told.values())
    rows = [
        [f"`{kind}`", told.get(kind, ""), again(kind), "yes" if kind in _TARGET else "no"]
        for kind in ErrorKind
    ]
    header = ["kind", "what happened", "sent again", "one of it, before any success, ends the run"]
    check_part(PAGE, "kinds", markdown_table(header, rows))


def test_statuses() -> None:
    for statuses, kind in table(part(PAGE, "statuses")):
        for status in statuses.split(", "):
            assert kind_of_status(int(status)) == code(kind), status


def test_numbers_of_the_waits_and_limits() -> None:
    page = read(PAGE)
    for number in (BASE_S, CAP_S, HINT_CAP_S):
        assert f"{number:g} s" in page
    assert f"{LINGER_NS // 1_000_000} ms" in page
    assert f"{MESSAGE_LIMIT:,} characters" in page
    assert f"{EXCERPT_LIMIT} characters" in page
    assert f"{DISK_WAIT_S:g} s" in read(DOCS / "run-directory.md")


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
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
