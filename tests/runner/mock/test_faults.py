"""Every fault, against the client: `streamgauge run` records what the table of faults promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from runner.mock.channels import THOUGHT, TOOL_CALLS
from runner.mock.fault import RETRIED, Fault, Recorded, Scope
from runner.mock.faults import FAULTS, GROUPS
from runner.record import ErrorKind
from runner.retry import LIMITS
from tests.conftest import journal_of

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., "Mock"]

# Characters of two, three and four bytes, for what is cut in two.
PROMPT = "How déep is the river 🌊 now, past 河川 and the old mill, where herons 🐟 stand in the reeds?"
# The proportions of the defaults, and short.
TIMEOUTS = ["--first-token-timeout", "0.6", "--token-timeout", "0.3", "--idle-timeout", "0.3"]


def run(cli: Cli, server: Mock, *options: object, api: str = "chat") -> dict[str, Any]:
    """One prompt sent; its record, as it was written."""
    row = {"prompt": PROMPT} if api == "completions" else {"messages": [{"role": "user", "content": PROMPT}]}
    file = Path("p.jsonl")
    file.write_text(json.dumps(row) + "\n")
    result = cli("run", file, "--base-url", server.base_url, "--model", "m", "--api", api, *options)
    records = journal_of("runs/p")
    assert len(records) == 1, result.output
    return records[0]


def logged(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def check(record: dict[str, Any], said: Recorded) -> None:
    """The record is what the table says, and beside that what it would be without the fault."""
    assert record["status"] == said.status, record["error"]
    if said.kind:
        check_error(record["error"], said)
    check_text(record["text"], said)
    finish = {"same": "stop", "none": None}.get(said.finish, said.finish)
    assert record["finish_reason"] == finish
    check_usage(record["usage_partial" if said.kind else "usage"], said)
    assert record["streamed"] == said.streamed
    assert record["reasoning"] == ("".join(THOUGHT) if said.reasoning else None)
    calls = [call["function"] for call in record["tool_calls"] or []]
    assert calls == [call["function"] for call in TOOL_CALLS[: said.calls]]
    assert len(record.get("choices", [0])) == said.choices


def check_error(error: dict[str, Any], said: Recorded) -> None:
    assert error["kind"] == said.kind
    assert error["timer"] == (said.timer or None)
    retryable = said.kind in RETRIED if said.again is None else said.again != "no"
    assert error["retryable"] == retryable
    assert error["message"]


def check_text(text: str, said: Recorded) -> None:
    if said.text == "same":
        assert text == said.before + PROMPT
    elif said.text == "part":
        assert PROMPT.startswith(text)
        assert 0 < len(text) < len(PROMPT)
    else:
        assert text == ""


def check_usage(usage: dict[str, Any] | None, said: Recorded) -> None:
    if said.usage == "none":
        assert usage is None
        return
    assert usage is not None
    assert usage["completion_tokens"] == len(PROMPT.split())
    if said.usage == "same":
        assert usage["total_tokens"] == usage["prompt_tokens"] + len(PROMPT.split())


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_recorded(name: str, cli: Cli, mock: Start, log_file: Path) -> None:
    fault = FAULTS[name]
    server = mock(faults={name: 1.0}, echo=True, log=log_file)
    if fault.scope is Scope.REUSED:
        check_reused(cli, server, fault)
    else:
        check(run(cli, server, "--retries", 0, *TIMEOUTS), fault.recorded)
    server.stop()
    assert name in {entry["fault"] for entry in logged(log_file)}


def check_reused(cli: Cli, server: Mock, fault: Fault) -> None:
    """Two requests, the second on the connection of the first."""
    Path("two.txt").write_text("one\ntwo\n")
    cli("run", "two.txt", "--base-url", server.base_url, "--model", "m", "-c", 1, "--retries", 0)
    records = journal_of("runs/two")
    assert [record["status"] for record in records] == [fault.recorded.status] * 2
    assert [attempt["wait_for"] for record in records for attempt in record["attempts"]] == [
        fault.recorded.wait_for
    ]


@pytest.mark.parametrize("name", [f.name for f in FAULTS.values() if f.scope is Scope.STREAM])
def test_text_completions_too(name: str, cli: Cli, mock: Start) -> None:
    server = mock(faults={name: 1.0}, echo=True)
    check(run(cli, server, "--retries", 0, *TIMEOUTS, api="completions"), FAULTS[name].recorded)


# -- and then all is well


@pytest.mark.parametrize("name", ["503", "reset-before-head", "cut", "error-mid", "role-done", "bad-gzip"])
def test_the_first_requests_fail_and_then_all_is_well(
    name: str, cli: Cli, mock: Start, log_file: Path
) -> None:
    server = mock(faults={name: 1.0}, fault_first=2, echo=True, log=log_file)
    said = FAULTS[name].recorded
    record = run(cli, server, "--retries", 3)
    server.stop()
    check(record, Recorded())
    assert [attempt["error"]["kind"] for attempt in record["attempts"]] == [said.kind] * 2
    for attempt in record["attempts"]:
        check_text(attempt["text"], said)
    assert [entry["fault"] for entry in logged(log_file)] == [name, name, None]


@pytest.mark.parametrize("name", [f.name for f in FAULTS.values() if f.recorded.wait_for and f.refusal])
def test_hints_are_read(name: str, cli: Cli, mock: Start) -> None:
    record = run(cli, mock(faults={name: 1.0}, fault_first=1, echo=True, retry_after_s=0.15), "--retries", 1)
    check(record, Recorded())
    [attempt] = record["attempts"]
    said = FAULTS[name].recorded.wait_for
    assert attempt["wait_for"] == said
    # A date has whole seconds: the next one after the time it names.
    least, most = (0, 0.6) if said == "backoff" else (0.15, 1.3 if name == "429-date" else 0.6)
    assert least <= attempt["wait_ns"] / 1e9 + 0.02
    assert attempt["wait_ns"] / 1e9 < most + 0.5


def test_a_hint_that_is_too_far_off_ends_the_request(cli: Cli, mock: Start) -> None:
    server = mock(faults={"429-far": 1.0}, fault_first=1, echo=True)
    record = run(cli, server, "--retries", 3)
    assert (record["status"], record["attempts"]) == ("error", [])
    assert server.completions == 1


def test_stream_options_can_be_left_out(cli: Cli, mock: Start) -> None:
    server = mock(faults={"400-stream-options": 1.0}, echo=True)
    record = run(cli, server, "--no-usage")
    check(record, Recorded(usage="none"))


# -- the table itself


def test_kinds_and_retries_are_the_clients() -> None:
    words = {
        str(kind): "yes" if limit is None else f"at most {limit} time{'s' * (limit > 1)}"
        for kind, limit in LIMITS.items()
    }
    assert words == RETRIED


def test_every_kind_of_error_can_be_rehearsed() -> None:
    kinds = {fault.recorded.kind for fault in FAULTS.values()} - {""}
    # Who is not there cannot refuse; certificates and 64 MiB are not for a mock.
    assert kinds == {str(kind) for kind in ErrorKind} - {"connect", "tls", "too_large"}


def test_names_are_unique_and_lines_are_short() -> None:
    assert len(FAULTS) == sum(map(len, GROUPS.values()))
    for fault in FAULTS.values():
        assert len(fault.what) <= 100, fault.name
        assert fault.what[-1] != "."
