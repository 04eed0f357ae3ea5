"""`run` with limits of pace, cost and concurrency, several endpoints, a proxy: as a user meets it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from tests.conftest import journal_of, rewrite_journal
from tests.runner.endpoints import Endpoint, in_thread

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., "Mock"]
Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]
PRICE = ["--price", "input=1000000,output=1000000"]  # one a token


def prompts(count: int, name: str = "p.jsonl", **more: Any) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps({"prompt": f"row {i}", **more}) + "\n" for i in range(count)))
    return path


def to(*mocks: Mock) -> list[str]:
    return [part for mock in mocks for part in ("--base-url", mock.base_url)] + ["--model", "m"]


def journal(run: str = "runs/p") -> list[dict[str, Any]]:
    return journal_of(run)


def session(number: int = -1, run: str = "runs/p") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())["sessions"][number]
    return found


def times(log: str | Path) -> list[int]:
    """When the mock had each request."""
    return sorted(json.loads(line)["received_ns"] for line in Path(log).read_text().splitlines())


# -- pace


def test_requests_a_minute(cli: Cli, mock: Start) -> None:
    server = mock(log=Path("mock.log"), tokens=1)
    assert cli("run", prompts(12), *to(server), "--rpm", 1200).exit_code == 0
    server.stop()
    came = times("mock.log")
    # The first may reach the server late on a busy machine; unpaced, they all come within some ms.
    assert came[-1] - came[0] >= 11 * 50_000_000 - 250_000_000
    assert session()["gauge"]["paced_s"] > 0


def test_tokens_a_minute(cli: Cli, mock: Start) -> None:
    server = mock(log=Path("mock.log"))
    # Each asks for 100 tokens and is answered with as many: over ten a second there is a second's worth.
    result = cli("run", prompts(6), *to(server), "--max-tokens", 100, "--tpm", 60_000)
    assert result.exit_code == 0
    server.stop()
    came = times("mock.log")
    assert came[-1] - came[0] >= 5 * 100_000_000 - 250_000_000


def test_a_refusal_holds_the_whole_run(cli: Cli, mock: Start) -> None:
    server = mock(faults={"429": 1.0}, fault_first=1, retry_after_s=1, log=Path("mock.log"), tokens=1)
    result = cli("run", prompts(8), *to(server), "-c", 4)
    assert result.exit_code == 0
    server.stop()
    first, second = times("mock.log")[:2]
    assert second - first >= 1_000_000_000
    (attempt,) = [attempt for record in journal() for attempt in record["attempts"]]
    assert attempt["wait_for"] == "retry-after"
    assert attempt["wait_ns"] >= 990_000_000
    assert session()["gauge"]["cooldowns"] == 1


def test_too_long_a_wait_ends_the_run(cli: Cli, mock: Start) -> None:
    server = mock(faults={"429": 1.0}, retry_after_s=3600)
    result = cli("run", prompts(20), *to(server))
    assert result.exit_code == 75
    assert "the server asks to be left alone for 3,600 s" in result.stderr
    assert server.completions == 1
    assert session()["ended_by"] == "circuit_breaker"
    assert session()["gauge"]["cooldowns"] == 1
    assert session()["gauge"]["cooldown_s"] < 1800  # what was waited, not what was asked for


def test_adaptive_stays_below_c(cli: Cli, mock: Start) -> None:
    server = mock(ttft_ms=2, tokens=2)
    assert cli("run", prompts(200), *to(server), "-c", 16, "--adaptive").exit_code == 0
    gauge = session()["gauge"]
    assert gauge["lowest_concurrency"] >= 1
    assert 4 <= gauge["highest_concurrency"] <= 16


# -- cost


def test_a_record_says_what_it_cost(cli: Cli, mock: Start) -> None:
    server = mock()
    assert cli("run", prompts(2), *to(server), "--max-tokens", 7, *PRICE).exit_code == 0
    for record in journal():
        usage = record["usage"]
        assert record["cost"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert record["cost_source"] == "prices"
        assert "cost_bound" not in record


def test_without_prices_nobody_knows(cli: Cli, mock: Start) -> None:
    assert cli("run", prompts(1), *to(mock())).exit_code == 0
    (record,) = journal()
    assert (record["cost"], record["cost_source"]) == (None, "none")


def test_an_answer_without_usage_counts_with_its_worst_case(cli: Cli, mock: Start) -> None:
    options = ["--max-tokens", 7, *PRICE, "--no-usage"]
    assert cli("run", prompts(1), *to(mock()), *options).exit_code == 0
    (record,) = journal()
    size = len(json.dumps(record["request"], separators=(",", ":"), ensure_ascii=False).encode())
    assert (record["cost"], record["cost_source"], record["cost_bound"]) == (None, "none", size + 7)


def test_never_more_than_max_cost(cli: Cli, mock: Start) -> None:
    server = mock()
    options = ["--max-tokens", 50, *PRICE, "-c", 8]
    result = cli("run", prompts(40), *to(server), *options, "--max-cost", 600)
    assert result.exit_code == 75
    assert "--max-cost lowers the concurrency" in result.stderr
    assert "stopped by --max-cost" in result.stderr
    told = session()
    assert told["ended_by"] == "budget"
    first = sum(record["cost"] for record in journal())
    assert 400 <= first <= 600
    assert told["gauge"]["spent"] == first
    before = server.completions
    # Earlier sessions count: nothing more fits.
    result = cli("run", "p.jsonl", *to(server), *options, "--max-cost", 600)
    assert result.exit_code == 75
    assert f"{first:.6g} of --max-cost 600 is spent by earlier sessions" in result.stderr
    assert server.completions == before
    assert cli("run", "p.jsonl", *to(server), *options, "--max-cost", 100_000).exit_code == 0
    assert len({record["id"] for record in journal() if record["status"] == "ok"}) == 40


def test_a_row_too_big_keeps_no_smaller_one_from_going(cli: Cli, mock: Start) -> None:
    rows = [
        {"prompt": "big", "max_tokens": 5000},
        *({"prompt": f"row {i}", "max_tokens": 5} for i in range(8)),
    ]
    rows.insert(4, {"prompt": "big too", "max_tokens": 9000})
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = mock()
    options = [*to(server), *PRICE]
    result = cli("run", "p.jsonl", *options, "--max-cost", 4000)
    assert result.exit_code == 75
    assert sorted(record["index"] for record in journal()) == [1, 2, 3, 5, 6, 7, 8, 9]
    first = re.search(
        r"--max-cost: row 1 may cost up to (\d+), and 4000 is left. It is not sent", result.stderr
    )
    assert first is not None
    assert int(first[1]) > 5000
    why = f"2 requests did not fit, the first: row 1 may cost up to {first[1]}, and 4000 is left"
    assert f"stopped by --max-cost: {why}" in result.stderr
    assert session()["reason"] == why
    assert session()["ended_by"] == "budget"
    assert cli("run", "p.jsonl", *options, "--max-cost", 100_000).exit_code == 0
    assert server.completions == 10


def test_where_no_row_fits_the_rest_is_not_read(cli: Cli, mock: Start) -> None:
    server = mock()
    options = [*to(server), *PRICE, "--max-tokens", 50]
    result = cli("run", prompts(1000), *options, "--max-cost", 100)
    assert result.exit_code == 75
    assert server.completions == 0
    assert re.search(
        r"stopped by --max-cost: row 1 may cost up to \d+, and 100 is left\. Raise", result.stderr
    )


def test_what_earlier_sessions_without_prices_spent_is_reckoned_or_named(cli: Cli, mock: Start) -> None:
    server = mock(faults={"reset": 1.0}, fault_first=1, tokens=4)
    options = [*to(server), "--max-tokens", 4, "--retries", 0]
    assert cli("run", prompts(2), *options).exit_code == 3
    lost = next(record for record in journal() if record["status"] == "error")
    size = len(json.dumps(lost["request"], separators=(",", ":")).encode())
    good = next(record for record in journal() if record["status"] == "ok")["usage"]
    before = size + 4 + good["prompt_tokens"] + good["completion_tokens"]
    result = cli("run", "p.jsonl", *options, *PRICE, "--max-cost", 100_000)
    assert f"{before:.6g} of --max-cost 100000 is spent by earlier sessions\n" in result.stderr

    server = mock(faults={"reset": 1.0}, fault_first=1, tokens=4)
    options = [*to(server), "--max-tokens", 4, "--retries", 0, "-o", "other"]
    assert cli("run", prompts(2), *options, "--no-request").exit_code == 3
    result = cli("run", "p.jsonl", *options, *PRICE, "--max-cost", 100_000)
    assert (
        "; not counted, for nobody knows what they cost: failed or cancelled attempts (1)\n" in result.stderr
    )


def test_a_run_directory_that_cannot_be_written_ends_a_run_with_a_budget(
    cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner import bulk, gate

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bulk, "write_manifest", full)
    monkeypatch.setattr(gate, "_COVER_TRIES", 1)
    server = mock()
    result = cli("run", prompts(3), *to(server), "--max-tokens", 5, *PRICE, "--max-cost", 10_000)
    assert result.exit_code == 75
    assert (
        "stopped: what may be spent cannot be written to run.json (No space left on device)" in result.stderr
    )
    assert session()["ended_by"] == "disk_full"
    assert server.completions == 0


def test_failed_attempts_are_spent_too(cli: Cli, mock: Start) -> None:
    server = mock(faults={"reset": 1.0})  # half of each answer, then a reset
    options = ["--max-tokens", 50, *PRICE, "-c", 1, "--max-cost", 1000]
    assert cli("run", prompts(10), *to(server), *options).exit_code == 75
    bounds = [part["cost_bound"] for record in journal() for part in (record, *record["attempts"])]
    assert sum(bounds) <= 1000
    assert server.completions == len(bounds)
    assert session()["gauge"]["spent"] == pytest.approx(sum(bounds))


def test_what_a_killed_run_had_in_flight_is_spent(
    mock: Start, spawn: Spawn, until: Until, cli: Cli, here: Path
) -> None:
    server = mock(faults={"stall": 1.0}, tokens=4)
    options = [*to(server), "--max-tokens", 4, *PRICE, "-c", 4, "--max-cost", 100_000]
    child = spawn("run", prompts(8), *options, cwd=here)
    until(lambda: server.stats()["open_connections"] >= 4 + 1, child)
    child.kill()
    child.wait()
    reserved = session()["reserved_cost"]
    assert reserved >= 4 * 100
    result = cli("run", "p.jsonl", *options[:-1], 1)
    assert result.exit_code == 75
    assert f"{reserved:.6g} of it at most, by a session that was killed" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-cost", 1], "--max-cost needs --price"),
        (
            ["--max-cost", 1, *PRICE],
            "what 2 rows can cost at most cannot be told, the first: p.jsonl, line 1: there is no limit of",
        ),
        (["--max-cost", "nan", *PRICE], "'nan' is not a number above 0"),
        (["--rpm", "inf"], "'inf' is not a number above 0"),
        (["--rpm", "0"], "'0' is not a number above 0"),
        (["--tpm", "-1"], "'-1' is not a number above 0"),
        (["--price", "input=1"], "output is missing"),
        (["--price", "no.toml"], "no.toml: cannot be read (No such file or directory)"),
        (["--kind", "auth"], "add --retry-failed"),
        (["--kind", "bad"], "'bad' is not one of"),
        (["--redo", "length"], "'length' is not finish_reason=WORD"),
        (["--pilot", "0"], "0 is not in the range"),
        (["--proxy", "ftp://x"], "--proxy 'ftp://x' is not a URL like"),
        (["--proxy", "http://me:secret@"], "is not a URL like"),
        (["--wait-ready", "soon"], "'soon' is not a time"),
        (
            ["--base-url", "http://127.0.0.1:1", "--base-url", "http://127.0.0.1:1/v1/"],
            "the same endpoint twice",
        ),
    ],
)
def test_used_wrongly(cli: Cli, options: list[Any], said: str) -> None:
    result = cli("run", prompts(2), "--model", "m", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert not Path("runs").exists()


def test_a_model_without_a_price(cli: Cli) -> None:
    Path("prices.toml").write_text('["other"]\ninput = 1\noutput = 1\n')
    options = ["--model", "m", "--max-tokens", 5, "--max-cost", 1, "--price", "prices.toml"]
    result = cli("run", prompts(1), *options)
    assert result.exit_code == 2
    assert "the first: p.jsonl, line 1: there is no price for the model 'm'" in result.stderr


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"max_tokens": 1000.0}, "max_tokens is 1000.0, not a whole number above 0"),
        ({"max_tokens": -1}, "max_tokens is -1, not"),
        ({"max_completion_tokens": "8"}, "max_completion_tokens is '8', not"),
        ({"max_tokens": True}, "max_tokens is true, not"),
        ({"n": 2.0}, "n is 2.0, not"),
        ({"body": {"messages": [{"role": "user", "content": "a"}], "max_tokens": None}}, "there is no limit"),
    ],
)
def test_a_row_of_which_nobody_knows_the_worst_is_refused_before_anything_is_sent(
    cli: Cli, mock: Start, row: dict[str, Any], why: str
) -> None:
    server = mock()
    bad = row if "body" in row else {"prompt": "a", **row}
    Path("p.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ({"prompt": "b"}, bad)))
    options = ["--max-tokens", 5, *PRICE, "--max-cost", 1000]
    result = cli("run", "p.jsonl", *to(server), *options)
    assert result.exit_code == 2
    assert f"what 1 row can cost at most cannot be told, the first: p.jsonl, line 2: {why}" in result.stderr
    assert server.completions == 0
    assert not Path("runs").exists()
    result = cli("run", "-", *to(server), *options, "-o", "out", stdin=Path("p.jsonl").read_bytes())
    assert result.exit_code == 2
    assert "the first: standard input, line 2" in result.stderr


# -- a pilot


def test_a_pilot_is_spread_and_part_of_the_run(cli: Cli, mock: Start) -> None:
    server = mock(tokens=4)
    result = cli("run", prompts(100), *to(server), "--pilot", 5)
    assert result.exit_code == 75
    assert sorted(record["index"] for record in journal()) == [10, 30, 50, 70, 90]
    assert session()["ended_by"] == "pilot"
    assert "95" in result.stdout  # rows left
    assert "the same command again, without --pilot" in result.stderr
    result = cli("run", "p.jsonl", *to(server), "--pilot", 5)  # five more, of those that are left
    assert result.exit_code == 75
    assert len({record["index"] for record in journal()}) == 10
    assert cli("run", "p.jsonl", *to(server)).exit_code == 0
    assert server.completions == 100


def test_a_pilot_of_all_there_is(cli: Cli, mock: Start) -> None:
    assert cli("run", prompts(3), *to(mock()), "--pilot", 5).exit_code == 0
    assert session()["ended_by"] == "finished"


# -- enough, and once more


def test_stop_after_tokens(cli: Cli, mock: Start) -> None:
    server = mock(tokens=1000, itl_ms=2, log=Path("mock.log"))
    assert cli("run", prompts(3), *to(server), "--stop-after-tokens", 5).exit_code == 0
    for record in journal():
        assert (record["status"], record["cancelled_by"]) == ("cancelled", "stop_rule")
        assert 5 <= len(record["chunk_us"]) < 100
        assert record["text"]
    server.stop()
    entries = [json.loads(line) for line in Path("mock.log").read_text().splitlines()]
    assert all(entry["peer_left_ns"] is not None for entry in entries)
    assert all(entry["tokens_sent"] < 500 for entry in entries)
    server = mock()
    assert cli("run", "p.jsonl", *to(server), "-o", "runs/p").exit_code in {0, 2}
    assert server.completions == 0  # they count as done
    result = cli("export", "runs/p", "-o", "-")
    assert len(result.stdout.splitlines()) == 3


def test_an_answer_that_ends_by_itself_is_not_cut(cli: Cli, mock: Start) -> None:
    assert cli("run", prompts(2), *to(mock(tokens=3)), "--stop-after-tokens", 50).exit_code == 0
    assert [record["status"] for record in journal()] == ["ok", "ok"]


def test_redo_sends_unwanted_answers_again(cli: Cli, mock: Start) -> None:
    server = mock(tokens=4)
    rows = [{"prompt": "a", "max_tokens": 4}, {"prompt": "b"}]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli("run", "p.jsonl", *to(server))
    reasons = [record["finish_reason"] for record in sorted(journal(), key=lambda r: int(r["index"]))]
    unwanted = reasons[0]
    count = reasons.count(unwanted)
    assert cli("run", "p.jsonl", *to(server), "--redo", "finish_reason=other").exit_code == 0
    assert len(journal()) == 2
    assert cli("run", "p.jsonl", *to(server), "--redo", f"finish_reason={unwanted}").exit_code == 0
    assert len(journal()) == 2 + count
    result = cli("export", "runs/p", "-o", "-")
    assert len(result.stdout.splitlines()) == 2


def test_a_redo_is_resumed_like_any_run(cli: Cli, mock: Start) -> None:
    server = mock(tokens=4)
    cli("run", prompts(10), *to(server))
    (reason,) = {record["finish_reason"] for record in journal()}
    redo = ["run", "p.jsonl", *to(server), "--redo", f"finish_reason={reason}"]
    assert cli(*redo, "--pilot", 4).exit_code == 75
    result = cli(*redo)
    assert "6 to send" in result.stderr
    assert len(journal()) == 20
    assert {len(ids) for ids in (journal()[:10], {record["id"] for record in journal()[10:]})} == {10}
    assert "10 to send" in cli(*redo).stderr  # that one was over


def test_retry_failed_of_one_kind(cli: Cli, mock: Start) -> None:
    server = mock()
    cli("run", prompts(3), *to(server))
    lines = journal()
    kinds = ("bad_request", "too_large")
    for line, kind in zip(lines, kinds, strict=False):
        line |= {"status": "error", "error": {"kind": kind, "message": "no", "retryable": False}}
    rewrite_journal("runs/p", lines)
    assert cli("run", "p.jsonl", *to(server)).exit_code == 3
    assert len(journal()) == 3
    result = cli("run", "p.jsonl", *to(server), "--retry-failed", "--kind", "too_large")
    assert result.exit_code == 3
    assert "1 failed for good (other kinds: --retry-failed alone sends them again)" in result.stderr
    again = journal()[3:]
    assert [record["id"] for record in again] == [lines[1]["id"]]
    result = cli("run", "p.jsonl", *to(server), "--retry-failed")
    assert result.exit_code == 0
    assert "failed for good" not in result.stderr
    assert len(journal()) == 5


def test_both_unwanted_and_failed_ones_again(cli: Cli, mock: Start) -> None:
    server = mock()
    cli("run", prompts(4), *to(server))
    lines = journal()
    error = {"message": "no", "retryable": False}
    lines[0] |= {"status": "error", "error": {"kind": "bad_request", **error}}
    lines[1] |= {"status": "error", "error": {"kind": "too_large", **error}}
    lines[2] |= {"finish_reason": "content_filter"}
    rewrite_journal("runs/p", lines)
    redo = ("--redo", "finish_reason=content_filter")
    result = cli("run", "p.jsonl", *to(server), "--retry-failed", "--kind", "too_large", *redo)
    assert result.exit_code == 3
    assert {record["id"] for record in journal()[4:]} == {lines[1]["id"], lines[2]["id"]}

    rewrite_journal("runs/p", lines)
    assert cli("run", "p.jsonl", *to(server), "--retry-failed", *redo).exit_code == 0
    assert {record["id"] for record in journal()[4:]} == {line["id"] for line in lines[:3]}


# -- several endpoints


def test_two_endpoints_share_the_load(cli: Cli, mock: Start) -> None:
    servers = [mock(ttft_ms=5), mock(ttft_ms=5)]
    assert cli("run", prompts(40), *to(*servers), "-c", 4).exit_code == 0
    for server in servers:
        took = [one for one in journal() if one["connection"]["base_url"] == server.base_url]
        turns = [(one["sent_at"], 1) for one in took] + [(one["ended_at"], -1) for one in took]
        # Four at once, each to the one that has fewer: never three at either.
        assert 0 < max(accumulate(step for _, step in sorted(turns))) <= 2
    assert all(session()["options"][name] is None for name in ("proxy", "rpm"))


@pytest.fixture
def dead() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.mark.parametrize("first", [True, False])
def test_one_of_two_is_dead(cli: Cli, mock: Start, dead: str, first: bool) -> None:
    server = mock()
    urls = [dead, server.base_url] if first else [server.base_url, dead]
    options = [part for url in urls for part in ("--base-url", url)]
    assert cli("run", prompts(20), *options, "--model", "m", "--retries", 0).exit_code == 0
    assert {record["connection"]["base_url"] for record in journal()} == {server.base_url}
    tried = [attempt for record in journal() for attempt in record["attempts"]]
    assert {attempt["base_url"] for attempt in tried} <= {dead}


def test_one_of_two_has_another_key(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "right-key")
    good, bad = mock(api_key="right-key"), mock(api_key="another-key")
    result = cli("run", prompts(20), *to(bad, good), "-c", 4)
    assert result.exit_code == 0
    assert f"{bad.base_url} is used no more: HTTP 401" in result.stderr
    assert {record["connection"]["base_url"] for record in journal()} == {good.base_url}
    assert bad.completions <= 4
    waits = {attempt["wait_for"] for record in journal() for attempt in record["attempts"]}
    assert waits == {"other_endpoint"}


def test_a_replica_more_is_no_other_run(cli: Cli, mock: Start) -> None:
    first, second, third = mock(), mock(), mock()
    assert cli("run", prompts(2), *to(first)).exit_code == 0
    prompts(4)
    assert cli("run", "p.jsonl", *to(first, second)).exit_code == 0
    assert cli("run", "p.jsonl", *to(third)).exit_code == 2


# -- before the first request


def test_wait_ready(mock_process: Start, spawn: Spawn, until: Until, here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    child = spawn("run", prompts(3), "--base-url", url, "--model", "m", "--wait-ready", "60", cwd=here)
    assert child.stderr is not None
    assert child.stderr.readline() == "run directory: runs/p\n"
    assert child.stderr.readline() == f"--wait-ready: asking {url} for one token, for at most 60 s\n"
    assert f"{url} is not ready: cannot connect" in child.stderr.readline()
    server = mock_process("--port", str(port))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "3 of 3 answered" in out
    assert server.completions == 3 + 1
    assert session()["gauge"]["ready"]["requests"] >= 2


def test_not_ready_in_time(cli: Cli, dead: str) -> None:
    result = cli("run", prompts(3), "--base-url", dead, "--model", "m", "--wait-ready", "300ms")
    assert result.exit_code == 75
    assert "not ready" in result.stderr
    assert not journal()


def test_a_wrong_key_is_not_waited_for(cli: Cli, mock: Start) -> None:
    server = mock(api_key="right-key")
    result = cli("run", prompts(3), *to(server), "--wait-ready", "none")
    assert result.exit_code == 75
    assert "Check the key" in result.stderr
    assert server.completions == 1


def test_wait_ready_is_paid_for(cli: Cli, mock: Start) -> None:
    server = mock(faults={"504": 1.0}, fault_first=2, tokens=4)
    options = [*to(server), "--max-tokens", 4, *PRICE, "--wait-ready", "60"]
    result = cli("run", prompts(2), *options, "--max-cost", 100_000)
    assert result.exit_code == 0, result.output
    told = session()
    asked = told["gauge"]["ready"]
    size = len('{"model":"m","messages":[{"role":"user","content":"row 0"}],"max_tokens":1,"stream":true}')
    # Two that may have been worked for, and an answer without usage (it is not asked for).
    assert (asked["requests"], asked["cost_bound"]) == (3, 3 * (size + 1))
    assert told["reserved_cost"] == asked["cost_bound"]  # no record tells of it, and nothing else is held
    records = sum(record["cost"] for record in journal())
    assert told["gauge"]["spent"] == records + asked["cost_bound"]
    result = cli("run", "p.jsonl", *options[:-2], "--max-cost", 100_000, "--redo", "finish_reason=stop")
    assert f"{records + asked['cost_bound']:.6g} of --max-cost 100000 is spent by earlier" in result.stderr


def test_wait_ready_spends_no_more_than_there_is(cli: Cli, mock: Start) -> None:
    server = mock(faults={"504": 1.0})
    options = [*to(server), "--max-tokens", 1, *PRICE, "--wait-ready", "none", "--max-cost", 250]
    result = cli("run", prompts(2), *options)
    assert result.exit_code == 75
    assert "no further request of --wait-ready fits into what is left" in result.stderr
    assert server.completions == 2
    assert session()["reserved_cost"] <= 250
    assert cli("run", "p.jsonl", *options).exit_code == 75
    assert server.completions == 2


def test_wait_ready_begins_with_the_first_replica_that_answers(cli: Cli, mock: Start, dead: str) -> None:
    server = mock()
    urls = ["--base-url", dead, "--base-url", server.base_url, "--model", "m"]
    result = cli("run", prompts(4), *urls, "--wait-ready", "none")
    assert result.exit_code == 0
    assert f"{dead} is not ready yet (cannot connect" in result.stderr
    assert {record["connection"]["base_url"] for record in journal()} == {server.base_url}


def test_wait_ready_at_a_model_that_takes_no_limit_of_one_token(cli: Cli) -> None:
    endpoint = Endpoint(refuses=("max_tokens",))
    with in_thread(endpoint) as url:
        result = cli("run", prompts(2), "--base-url", url, "--model", "m", "--wait-ready", "60")
    assert result.exit_code == 0, result.output
    assert f"{url}/v1 answers, so it is ready: HTTP 400: Unsupported parameter: max_tokens" in result.stderr
    assert ["max_tokens" in body for body in endpoint.bodies] == [True, False, False]


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="POSIX")
def test_ctrl_c_while_waiting(spawn: Spawn, here: Path, dead: str) -> None:
    child = spawn("run", prompts(3), "--base-url", dead, "--model", "m", "--wait-ready", "none", cwd=here)
    assert child.stderr is not None
    child.stderr.readline()
    assert "--wait-ready: asking" in child.stderr.readline()
    assert "not ready" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130


# -- a proxy


class Proxy:
    """An HTTP proxy of few words: hands requests on, and keeps their first bytes."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            data = peer.recv(1 << 16)
            if not data:
                return
            self.heads.append(data)
            line = data.split(b"\r\n")[0]
            host, _, port = line.split(b"/")[2].decode().partition(":")
            with socket.create_connection((host, int(port))) as server:
                server.sendall(data.replace(b"http://" + f"{host}:{port}".encode(), b"", 1))
                server.settimeout(30)
                while more := server.recv(1 << 16):
                    peer.sendall(more)
                    if more.endswith(b"0\r\n\r\n"):
                        return

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def test_through_a_proxy(cli: Cli, mock: Start, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    server = mock()
    url = f"http://someone:proxy-secret@127.0.0.1:{proxy.port}"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # never used unasked
    result = cli("run", prompts(2), *to(server), "-c", 1, "--proxy", url)
    assert result.exit_code == 0, result.output
    assert len(proxy.heads) == 2
    assert all(head.startswith(b"POST http://127.0.0.1:") for head in proxy.heads)
    assert b"proxy-authorization: basic " in proxy.heads[0].lower()
    assert session()["options"]["proxy"] == f"http://127.0.0.1:{proxy.port}"
    assert f"127.0.0.1:{proxy.port}" in result.stdout
    written = [path.read_bytes() for path in Path("runs/p").iterdir()]
    assert not any(b"proxy-secret" in text for text in (*written, result.output.encode()))


def test_the_proxy_of_the_environment_only_when_asked(
    cli: Cli, mock: Start, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    server = mock()
    assert cli("run", prompts(1), *to(server)).exit_code == 0
    assert proxy.heads == []
    assert cli("run", prompts(1), *to(server), "--proxy", "env", "-o", "other").exit_code == 0
    assert len(proxy.heads) == 1


def test_the_environment_has_a_proxy_for_some_endpoints_only(
    cli: Cli, mock: Start, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NO_PROXY says of a host holds for that one, wherever among several it stands."""
    with_proxy, without = mock(), mock()
    monkeypatch.setenv("http_proxy", f"http://someone:proxy-secret@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", without.base_url.removeprefix("http://").removesuffix("/v1"))
    for place, servers in enumerate(((with_proxy, without), (without, with_proxy))):
        urls = [word for server in servers for word in ("--base-url", server.base_url)]
        options = [*urls, "--model", "m", "--proxy", "env", "-c", 2, "-o", f"run-{place}"]
        result = cli("run", prompts(8), *options)
        assert result.exit_code == 0, result.output
        assert f"through the proxy http://127.0.0.1:{proxy.port}" in " ".join(result.stdout.split())
        assert "proxy-secret" not in result.output + Path(f"run-{place}/run.json").read_text()
    went = with_proxy.completions
    assert 0 < went == len(proxy.heads) < 16
    assert went + without.completions == 16


def test_a_dead_proxy(cli: Cli, mock: Start, dead: str) -> None:
    url = dead.removesuffix("/v1").replace("http://", "http://someone:proxy-secret@")
    result = cli("run", prompts(1), *to(mock()), "--proxy", url, "--retries", 0)
    assert result.exit_code == 75
    assert "cannot connect to the proxy: Connection refused" in result.stderr
    assert "proxy-secret" not in result.output


def test_a_server_that_restarts_costs_no_row(
    mock_process: Start, spawn: Spawn, until: Until, here: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    first = mock_process("--port", str(port), "--tokens", "4")
    options = [*to(first), "-c", 4, "--rpm", 1200, "--retries", 1]
    child = spawn("run", prompts(60), *options, cwd=here)
    until(lambda: Path("runs/p/records.jsonl").exists() and len(journal()) > 5, child)
    first.stop()
    assert child.stderr is not None
    until(lambda: "cannot be reached" in child.stderr.readline(), child)
    mock_process("--port", str(port), "--tokens", "4")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "60 of 60 answered" in out
