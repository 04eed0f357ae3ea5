"""`streamgauge run` as a user meets it: messages, exit codes, what is sent, and what is left behind."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from tests.conftest import journal_of

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., "Mock"]
Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]


def write(*rows: Any, name: str = "p.jsonl") -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps({"prompt": r} if isinstance(r, str) else r) + "\n" for r in rows))
    return path


def to(mock: Mock, model: str = "m") -> list[str]:
    return ["--base-url", mock.base_url, "--model", model]


def journal(run: str | Path = "runs/p") -> list[dict[str, Any]]:
    return journal_of(run)


def manifest(run: str | Path = "runs/p") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())
    return found


@pytest.fixture
def dead() -> str:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


# -- the whole job


def test_the_whole_job(cli: Cli, mock: Start, here: Path) -> None:
    server = mock(echo=True)
    file = write({"prompt": "one two", "mine": 1}, {"prompt": "three", "temperature": 0.5, "custom_id": "c"})
    result = cli("run", file, *to(server), "--max-tokens", 5)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("run directory: runs/p\n")
    assert "2/2 done" in result.stderr
    assert "2/2 done" not in result.stdout  # progress is not a result
    assert "ttft" in result.stdout.lower()
    assert "runs/p" in result.stdout
    first, second = sorted(journal(), key=lambda record: int(record["index"]))
    assert (first["text"], first["row"], first["custom_id"]) == ("one two", {"mine": 1}, None)
    assert first["request"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "one two"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (second["text"], second["custom_id"], second["request"]["temperature"]) == ("three", "c", 0.5)
    for record in (first, second):
        assert record["status"] == "ok"
        times = [record[f"{name}_at"] for name in ("sent", "headers", "first_token", "last_token", "ended")]
        assert times == sorted(times)
        assert record["usage"]["completion_tokens"] == len(record["chunk_us"])
    assert (here / "runs" / "latest").resolve() == here / "runs" / "p"
    session = manifest()["sessions"][0]
    assert (session["ended_by"], session["counts"]["ok"]) == ("finished", 2)
    again = cli("run", file, *to(server), "--max-tokens", 5)
    assert again.exit_code == 0
    assert "resumed: 2 of 2 are answered, 0 to send" in again.stderr
    assert server.completions == 2


CORE = {
    "cost",
    "cost_source",
    *("id", "prompt_id", "index", "custom_id", "sample", "session", "phase", "scheduled_at", "sent_at"),
    *("headers_at", "first_token_at", "first_content_at", "last_token_at", "ended_at", "status"),
    *("cancelled_by", "error", "streamed", "finish_reason", "text", "reasoning", "refusal", "tool_calls"),
    *("usage", "usage_source", "usage_partial", "response", "extra", "attempts", "connection", "row"),
}


def test_core_fields_stand_on_every_line(cli: Cli, mock: Start) -> None:
    server = mock(faults={"reset": 0.5}, seed=3)
    cli("run", write(*"abcdefgh"), *to(server), "--retries", 0, "-o", "full")
    cli("run", write(*"abcdefgh"), *to(server), "--retries", 0, "-o", "lean", "--no-request", "--no-times")
    assert {record["status"] for record in journal("full")} == {"ok", "error"}
    for record in journal("full"):
        assert set(record) - CORE == {"request", "chunk_us"}
        assert set(record) >= CORE
    for record in journal("lean"):
        assert set(record) == CORE
    assert all(record["usage_partial"] is None for record in journal("full") if record["status"] == "ok")


def test_standard_input(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    command = ["run", "-", *to(server), "-o", "there"]
    data = b'{"prompt": "one"}\n{"prompt": "two"}\n'
    assert cli(*command, stdin=data).exit_code == 0
    assert sorted(record["text"] for record in journal("there")) == ["one", "two"]
    result = cli(*command, stdin=data + b'{"prompt": "three"}\n')
    assert result.exit_code == 0
    assert "resumed: 2 of 3 are answered, 1 to send" in result.stderr
    assert server.completions == 3
    result = cli(*command, "--fresh", stdin=data)
    assert result.exit_code == 0, result.stderr
    assert len(journal("there")) == 2
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []  # nothing is left beside it


def test_standard_input_as_plain_text(cli: Cli, mock: Start) -> None:
    result = cli("run", "-", *to(mock(echo=True)), "-o", "there", stdin="eins\nzwei 河\n".encode())
    assert result.exit_code == 0
    assert sorted(record["text"] for record in journal("there")) == ["eins", "zwei 河"]


def test_standard_input_without_a_place(cli: Cli, mock: Start) -> None:
    server = mock()
    result = cli("run", "-", *to(server), stdin=b"hi\n")
    assert result.exit_code == 2
    assert "prompts from standard input need a place for their answers: -o DIR" in result.stderr
    assert server.completions == 0


def test_standard_input_that_is_empty(cli: Cli, mock: Start) -> None:
    result = cli("run", "-", *to(mock()), "-o", "there", stdin=b"")
    assert result.exit_code == 2
    assert "the file is empty" in result.stderr
    assert not Path("there").exists()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "JSONL"])
def test_a_dataset_as_output(cli: Cli, mock: Start, ending: str) -> None:
    file = write({"prompt": "one", "mine": "x"}, {"prompt": "two", "mine": "y"})
    result = cli("run", file, *to(mock(echo=True)), "-o", f"out/answers.{ending}")
    assert result.exit_code == 0, result.stderr
    assert len(journal("out/answers.run")) == 2
    path = Path(f"out/answers.{ending}")
    if ending == "csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    elif ending == "parquet":
        import pandas as pd

        rows = pd.read_parquet(path).to_dict("records")
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["mine"], row["answer"]) for row in rows] == [("x", "one"), ("y", "two")]
    assert f"answers.{ending}" in result.output


def test_the_prompt_file_is_not_overwritten(cli: Cli, mock: Start) -> None:
    server = mock()
    file = write("one", "two")
    before = file.read_bytes()
    result = cli("run", file, *to(server), "-o", file)
    assert file.read_bytes() == before
    assert result.exit_code == 2
    assert "p.jsonl" in result.stderr
    assert server.completions == 0


def test_duplicates_are_requests_of_their_own(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    file = write("same", "other", "same", "same")
    assert cli("run", file, *to(server), "--samples", 2).exit_code == 0
    assert server.completions == 8
    found = journal()
    assert len({record["id"] for record in found}) == 8
    assert len({record["prompt_id"] for record in found}) == 2
    assert sorted((r["index"], r["sample"]) for r in found) == [(i, s) for i in range(4) for s in (0, 1)]
    assert cli("run", file, *to(server), "--samples", 3).exit_code == 0  # one more of each
    assert server.completions == 12


def test_rows_added_and_removed(cli: Cli, mock: Start) -> None:
    server = mock(echo=True)
    cli("run", write("a", "b", "c"), *to(server))
    result = cli("run", write("c", "d"), *to(server))
    assert result.exit_code == 0
    assert "resumed: 1 of 2 are answered, 1 to send" in result.stderr
    assert "2 answers outside these rows are kept" in result.stderr
    assert server.completions == 4
    assert cli("export", "-o", "-").stdout.count("\n") == 2
    assert cli("export", "--all", "-o", "-").stdout.count("\n") == 4


def test_limit(cli: Cli, mock: Start) -> None:
    server = mock()
    assert cli("run", write(*"abcdef"), *to(server), "--limit", 2).exit_code == 0
    assert sorted(record["index"] for record in journal()) == [0, 1]
    assert cli("run", write(*"abcdef"), *to(server)).exit_code == 0
    assert server.completions == 6


def test_dry_run_sends_nothing_and_makes_nothing(cli: Cli, mock: Start) -> None:
    server = mock()
    file = write("a", {"prompt": "b", "custom_id": "x"}, {"prompt": "c", "custom_id": "x"}, {"prompt": ""})
    result = cli("run", file, *to(server), "--dry-run", "--param", "temperature=0.5")
    assert result.exit_code == 2  # what `run` would say of this file
    assert cli("run", file, *to(server), "--dry-run", "--skip-bad-rows").exit_code == 0
    assert result.stdout.startswith("4 rows, 3 requests; nothing was sent\n")
    assert "1 bad row:\n  p.jsonl: line 4: the prompt is empty" in result.stdout
    assert "p.jsonl:3: 'x' (first in line 2)" in result.stdout
    assert '"temperature": 0.5' in result.stdout
    assert cli("run", "-", *to(server), "--dry-run", stdin=b"hi\n").exit_code == 0
    assert server.completions == 0
    assert [p.name for p in Path().iterdir()] == ["p.jsonl"]


# -- the first request goes alone


@pytest.mark.parametrize(
    ("config", "options", "says"),
    [
        (
            {"api_key": "right"},
            [],
            ["HTTP 401: You didn't provide an API key", "Check the key (OPENAI_API_KEY"],
        ),
        ({"api_key": "right"}, ["--api-key", "wrong"], ["HTTP 401: Incorrect API key", "Check the key"]),
        ({"models": ("a",)}, [], ["HTTP 404: The model `m` does not exist", "Check --model"]),
    ],
)
def test_what_nothing_can_help_costs_one_request(
    cli: Cli, mock: Start, config: dict[str, Any], options: list[str], says: list[str]
) -> None:
    server = mock(**config)
    result = cli("run", write(*(f"p{n}" for n in range(100))), *to(server), *options)
    assert result.exit_code == 75
    assert server.completions == 1
    for words in says:
        assert words in result.stderr
    assert "Run the same command again" in result.stderr
    assert "wrong" not in result.stdout + (Path("runs/p/records.jsonl").read_text() + str(manifest()))
    assert manifest()["sessions"][0]["ended_by"] == "circuit_breaker"


def test_the_path_of_the_url(cli: Cli, mock: Start) -> None:
    server = mock()
    root = server.base_url.removesuffix("/v1")
    file = write("a", "b")
    for number, url in enumerate(
        (root, root + "/", root + "/v1", root + "/v1/", root + "/v1/chat/completions")
    ):
        result = cli("run", file, "--base-url", url, "--model", "m", "-o", f"run{number}")
        assert result.exit_code == 0, url
    result = cli("run", file, "--base-url", root + "/v2", "--model", "m")
    assert result.exit_code == 75
    assert "HTTP 404: Invalid URL (POST /v2/chat/completions)" in result.stderr
    assert "--base-url (with or without /v1)" in result.stderr
    assert server.completions == 11


def test_a_dead_server(cli: Cli, dead: str) -> None:
    result = cli("run", write(*"abc"), "--base-url", dead, "--model", "m", "--retries", 0)
    assert result.exit_code == 75
    host = dead.removeprefix("http://").removesuffix("/v1")
    assert f"cannot connect to {host}: Connection refused" in result.stderr
    assert "Check that the server runs, and --base-url." in result.stderr
    assert len(journal()) == 1


def test_the_first_goes_alone_until_its_first_token(
    mock_process: Start, spawn: Spawn, here: Path, until: Until
) -> None:
    server = mock_process("--ttft", "1500", "--itl", "50", "--tokens", "40")
    child = spawn("run", write(*"abcdefgh"), *to(server), "-c", 6, cwd=here)
    until(lambda: server.stats()["in_flight"] == 1, child)
    until(lambda: server.stats()["tokens_sent"] >= 1, child)
    assert server.stats()["in_flight"] <= 6
    assert json.loads(json.dumps(server.stats()))["peak_in_flight"] <= 6
    until(lambda: server.stats()["in_flight"] == 6, child)  # and not only when it has ended
    assert (here / "runs" / "p" / "records.jsonl").read_bytes() == b""
    child.kill()


def test_a_broken_first_keeps_the_rest_alone(cli: Cli, mock: Start) -> None:
    server = mock(faults={"500": 1.0}, ttft_ms=50)
    result = cli("run", write(*"abcdefgh"), *to(server), "--retries", 0)
    assert result.exit_code == 75
    assert server.completions == 3  # three in a row without a single success are enough
    assert server.stats()["peak_in_flight"] <= 1


# -- what failed, and goes again or not


def test_a_mended_key_sends_all(cli: Cli, mock: Start) -> None:
    """Its refusal said nothing of the prompt, although a 401 does not pass with time."""
    server = mock(api_key="right", echo=True)
    file = write(*"abc")
    Path("key").write_text("wrong\n")
    assert cli("run", file, *to(server), "--api-key-file", "key").exit_code == 75
    Path("key").write_text("right\n")
    result = cli("run", file, *to(server), "--api-key-file", "key")
    assert result.exit_code == 0
    assert "resumed: 0 of 3 are answered, 3 to send" in result.stderr
    assert [record["status"] for record in journal()] == ["error", "ok", "ok", "ok"]
    assert cli("export", "-o", "-").stdout.count("\n") == 3


def test_a_mended_model_needs_no_fresh(cli: Cli, mock: Start) -> None:
    server = mock(models=("right",))
    file = write(*"abc")
    assert cli("run", file, *to(server, "wrong")).exit_code == 75
    result = cli("run", file, *to(server, "right"))
    assert result.exit_code == 0
    assert "the earlier run is now runs/p-" in result.stderr
    assert len(journal()) == 3


def test_some_failed(cli: Cli, mock: Start) -> None:
    """Exit 3; what will not pass is not sent again, unless it is asked for."""
    server = mock()
    file = write("a", "b", {"prompt": "c", "max_tokens": 0}, "d")
    result = cli("run", file, *to(server), "-c", 1, "-o", "answers.jsonl")
    assert result.exit_code == 3
    assert "bad_request" in result.stdout
    assert Path("answers.jsonl").read_text().count("\n") == 3
    assert server.completions == 4
    result = cli("run", file, *to(server), "-c", 1, "-o", "answers.jsonl")
    assert result.exit_code == 3
    assert "1 failed for good (--retry-failed sends them again)" in result.stderr
    assert server.completions == 4
    result = cli("run", file, *to(server), "-c", 1, "-o", "answers.jsonl", "--retry-failed")
    assert server.completions == 5


def test_a_400_to_every_request_costs_no_row(cli: Cli, mock: Start) -> None:
    """Some gateways say so of a wrong key: what met it goes again, by the same command."""
    server = mock(faults={"400": 1.0}, fault_first=3)
    file = write(*"abcde")
    assert cli("run", file, *to(server)).exit_code == 75
    assert server.completions == 3
    result = cli("run", file, *to(server))
    assert result.exit_code == 0
    assert "0 of 5 are answered, 5 to send" in result.stderr
    assert server.completions == 8


def test_rows_that_are_refused_do_not_stop_every_run(cli: Cli, mock: Start) -> None:
    """Where it is the rows' own fault after all, the second stop is the last for them."""
    server = mock(faults={"400": 1.0}, fault_first=6)
    file = write(*"abcde")
    for sent in (3, 6):
        assert cli("run", file, *to(server)).exit_code == 75
        assert server.completions == sent
    result = cli("run", file, *to(server))
    assert result.exit_code == 3
    assert "3 failed for good" in result.stderr
    assert server.completions == 8
    assert cli("run", file, *to(server), "--retry-failed").exit_code == 0


def test_what_may_pass_goes_again(cli: Cli, mock: Start) -> None:
    first = mock(faults={"500": 0.4}, seed=5, echo=True)
    prompts = [f"prompt {n}" for n in range(40)]
    file = write(*prompts)
    options = ["--model", "m", "--retries", 0, "-c", 4]
    result = cli("run", file, "--base-url", first.base_url, *options)
    assert result.exit_code == 3
    failed = {record["index"] for record in journal() if record["status"] == "error"}
    assert 0 < len(failed) < 40
    sent = first.completions
    assert sent == 40
    codes = [cli("run", file, "--base-url", first.base_url, *options).exit_code for _ in range(12)]
    assert codes[-1] == 0
    ok = [record for record in journal() if record["status"] == "ok"]
    assert sorted(record["text"] for record in ok) == sorted(prompts)
    assert {record["index"] for record in journal() if record["session"] == 2} == failed
    assert first.completions == len(journal())


def test_retries_are_no_requests_of_their_own(cli: Cli, mock: Start) -> None:
    server = mock(faults={"429": 0.3}, retry_after_s=0, seed=2)
    result = cli("run", write(*(f"p{n}" for n in range(8))), *to(server), "--retries", 50)
    assert result.exit_code == 0
    found = journal()
    assert len(found) == 8
    attempts = sum(len(record["attempts"]) for record in found)
    assert attempts > 0
    assert server.completions == 8 + attempts
    for record in found:
        for attempt in record["attempts"]:
            assert (attempt["error"]["kind"], attempt["wait_for"]) == ("rate_limit", "retry-after")


# -- bad input: one message, the right code, and nothing is lost or sent


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, [], "p.jsonl: no such file; check the path of the prompt file"),
        (b"", [], "p.jsonl: the file is empty; it needs at least one prompt"),
        (b"\n\n", [], "p.jsonl: the file has no rows; it needs at least one prompt"),
        (
            b'{"prompt": "a"}\n{"prompt": "b"\n',
            [],
            "1 of 2 rows cannot be sent, so nothing was:\n  p.jsonl: line 2",
        ),
        (b'{"prompt": "a"}\n{"prompt": 5}\n', [], "p.jsonl: line 2: prompt is a number, not text"),
        (b'{"prompt": "a"}\n[1]\n', [], "p.jsonl: line 2: "),
        (b'{"prompt": "\xff"}\n', [], "p.jsonl: line 1: "),
        (b'{"question": "a"}\n', [], "no prompt: give `prompt`, `messages`, `body` or a template"),
        (b'{"a": 1}\n', ["--template", "{{ b }}"], "p.jsonl: line 1: "),
        (b'{"a": 1}\n', ["--template", "{{ b"], "template"),
        (b'{"prompt": "a"}\n', ["--frobnicate"], "No such option"),
        (b'{"prompt": "a"}\n', ["--param", "temperature"], "KEY=JSON, as in temperature=0.2"),
        (b'{"prompt": "a"}\n', ["--param", "stop=now"], "is not JSON: 'now' (a text needs quotes"),
        (b'{"prompt": "a"}\n', ["--param", "stream=false"], "every answer is streamed"),
        (b'{"prompt": "a"}\n', ["--header", "no colon"], "a header is NAME:VALUE"),
        (b'{"prompt": "a"}\n', ["--header", "X-A:b\nc"], "header X-A holds characters HTTP does not allow"),
        (b'{"prompt": "a"}\n', ["--api-key-file", "nokey"], "cannot read --api-key-file nokey: No such file"),
        (b'{"prompt": "a"}\n', ["--api-key-file", "."], "cannot read --api-key-file .: Is a directory"),
        (
            b'{"prompt": "a"}\n',
            ["--api-key-file", "p.jsonl"],
            "--api-key-file holds characters no HTTP header",
        ),
        (b'{"prompt": "a"}\n', ["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY: that variable is not set"),
        (b'{"prompt": "a"}\n', ["--api-key", "k", "--api-key-env", "K"], "give the key one way"),
        (b'{"prompt": "a"}\n', ["--api-key", " "], "the key from --api-key is empty"),
        (b'{"prompt": "a"}\n', ["--base-url", "localhost:8000"], "is not a URL like http://"),
        (b'{"prompt": "a"}\n', ["--base-url", "ftp://x/v1"], "is not a URL like http://"),
        (b'{"prompt": "a"}\n', ["--timeout", "soon"], "is not a time above 0 like 30, 500ms or 10m"),
        (b'{"prompt": "a"}\n', ["--ca-file", "none.pem"], "none.pem"),
        (b'{"prompt": "a"}\n', ["--system", "@none.txt"], "none.txt"),
        (b'{"prompt": "a"}\n', ["-c", "0"], "-c"),
        (b'{"prompt": "a"}\n', ["--samples", "0"], "--samples"),
        (b'{"prompt": "a"}\n', ["--max-tokens", "5", "--param", "max_tokens=5"], "max_tokens is given twice"),
    ],
)
def test_bad_input(cli: Cli, mock: Start, content: bytes | None, options: list[str], says: str) -> None:
    server = mock()
    if content is not None:
        Path("p.jsonl").write_bytes(content)
    result = cli("run", "p.jsonl", *to(server), *options)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert result.stdout == ""
    assert server.completions == 0
    assert [p.name for p in Path().iterdir()] == (["p.jsonl"] if content is not None else [])


def test_no_model(cli: Cli, mock: Start) -> None:
    server = mock()
    result = cli("run", write("a"), "--base-url", server.base_url)
    assert result.exit_code == 2
    assert "no model: give --model or a `model` column" in result.stderr


def test_an_ending_that_says_nothing(cli: Cli, mock: Start) -> None:
    Path("prompts.dat").write_text("hi\n")
    server = mock(echo=True)
    result = cli("run", "prompts.dat", *to(server))
    assert result.exit_code == 2
    assert "the ending '.dat' does not say what is in the file" in result.stderr
    assert cli("run", "prompts.dat", *to(server), "--input-format", "txt").exit_code == 0


def test_bad_rows_can_be_left_out(cli: Cli, mock: Start) -> None:
    server = mock()
    Path("p.jsonl").write_text('{"prompt": "a"}\nrubbish\n{"prompt": "c"}\n')
    result = cli("run", "p.jsonl", *to(server), "--skip-bad-rows")
    assert result.exit_code == 0
    assert "note: 1 bad rows are left out, the first: p.jsonl: line 2" in result.stderr
    assert sorted(record["index"] for record in journal()) == [0, 2]


def test_many_bad_rows_are_not_all_shown(cli: Cli, mock: Start) -> None:
    write(*([{"prompt": 5}] * 500))
    result = cli("run", "p.jsonl", *to(mock()))
    assert result.exit_code == 2
    assert "500 of 500 rows cannot be sent" in result.stderr
    assert "... and 480 more" in result.stderr
    assert len(result.stderr.splitlines()) < 30


# -- folders


def contents(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.iterdir()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "n"], "model: 'm' -> 'n'"),
        (["--system", "Be brief."], "system: None -> 'Be brief.'"),
        (["--max-tokens", "3"], "max_tokens: None -> 3"),
        (["--param", "top_p=0.5"], "params: {} -> {'top_p': 0.5}"),
        (["--template", "{{ prompt }}!"], "template: None -> '{{ prompt }}!'"),
        (["--api", "completions"], "api: 'chat' -> 'completions'"),
    ],
)
def test_changed_settings(cli: Cli, mock: Start, options: list[str], says: str) -> None:
    server = mock()
    file = write("a", "b")
    assert cli("run", file, *to(server)).exit_code == 0
    before = contents(Path("runs/p"))
    result = cli("run", file, *to(server), *options)
    assert result.exit_code == 2
    assert (
        f"runs/p was begun with other settings ({says}). Answers are not mixed. Choose: --fresh"
        in result.stderr
    )
    assert contents(Path("runs/p")) == before
    assert server.completions == 2
    result = cli("run", file, *to(server), *options, "--fresh")
    assert result.exit_code == 0
    assert "the earlier run is now runs/p-" in result.stderr
    assert len(list(Path("runs").glob("p-*/records.jsonl"))) == 1
    assert server.completions == 4


def test_another_server(cli: Cli, mock: Start) -> None:
    file = write("a")
    assert cli("run", file, *to(mock())).exit_code == 0
    result = cli("run", file, *to(mock()))
    assert result.exit_code == 2
    assert "target host: " in result.stderr


def test_another_prompt_file(cli: Cli, mock: Start) -> None:
    server = mock()
    assert cli("run", write("a"), *to(server), "-o", "there").exit_code == 0
    before = contents(Path("there"))
    result = cli("run", write("b", name="other.jsonl"), *to(server), "-o", "there")
    assert result.exit_code == 2
    assert "there belongs to another run: none of its 1 answers is to a prompt of this file" in result.stderr
    assert "(its own was p.jsonl)" in result.stderr
    assert contents(Path("there")) == before


def test_folders_of_others(cli: Cli, mock: Start) -> None:
    server = mock()
    file = write("a")
    Path("papers").mkdir()
    Path("papers/thesis").touch()
    Path("web").mkdir()
    Path("web/run.json").write_text("{}")
    Path("load").mkdir()
    Path("load/run.json").write_text('{"kind": "bench", "created": "", "scenario": {}}')
    Path("new").mkdir()
    Path("new/run.json").write_text('{"schema_version": 1000}')
    for place, says in [
        ("papers", "papers holds other files (thesis) and no run.json"),
        ("web", "is not a manifest"),
        ("load", "load belongs to a `bench`. Choose another folder with -o."),
        ("new", "schema version 1000; this Streamgauge reads up to"),
        ("p.jsonl/run", "p.jsonl"),
    ]:
        for more in ([], ["--fresh"]):
            result = cli("run", file, *to(server), "-o", place, *more)
            assert result.exit_code in {1, 2}, place
            assert says in result.stderr
            assert len(result.stderr.splitlines()) == 1
    assert server.completions == 0
    assert [len(list(Path(p).iterdir())) for p in ("papers", "web", "load", "new")] == [1, 1, 1, 1]


def test_two_at_the_same_time(cli: Cli, mock_process: Start, spawn: Spawn, here: Path, until: Until) -> None:
    server = mock_process("--ttft", "100", "--itl", "20", "--tokens", "60")
    file = write(*"abc")
    child = spawn("run", file, *to(server), cwd=here)
    until(lambda: server.stats()["in_flight"], child)
    for more in ([], ["--fresh"]):
        result = cli("run", file, *to(server), *more)
        assert result.exit_code == 2
        assert (
            "runs/p/records.jsonl is being written by another streamgauge. Wait for it, or choose another "
            "folder with -o." in result.stderr
        )
    assert child.wait(timeout=60) == 0
    assert server.completions == 3
    assert len(journal()) == 3


def test_two_at_the_same_time_from_standard_input(
    cli: Cli, mock_process: Start, spawn: Spawn, here: Path, until: Until
) -> None:
    """The second one's input does not take the place of the first one's."""
    server = mock_process("--ttft", "50", "--itl", "20", "--tokens", "30")
    child = spawn("run", "-", *to(server), "-o", "there", "-c", 2, cwd=here, stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write("".join(f'{{"prompt": "prompt {n}"}}\n' for n in range(5)))
    child.stdin.close()
    child.stdin = None
    until(lambda: server.stats()["in_flight"], child)
    assert cli("run", "-", *to(server), "-o", "there", stdin=b'{"prompt": "other"}\n').exit_code == 2
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 0, err
    assert len(journal("there")) == 5
    assert [p.name for p in here.iterdir() if p.name.startswith(".")] == []


def test_a_prompt_file_that_changes_under_the_run(
    mock_process: Start, spawn: Spawn, here: Path, until: Until
) -> None:
    """What was answered stays; the rest is not guessed at."""
    server = mock_process("--ttft", "20", "--itl", "2", "--tokens", "20")
    rows = [{"prompt": f"prompt {n} " + "x" * 2000} for n in range(300)]  # more than the blocks read ahead
    file = write(*rows)
    child = spawn("run", file, *to(server), "-c", 2, cwd=here)
    until(lambda: server.stats()["in_flight"] == 2, child)
    with (here / file).open("a") as out:
        out.write('{"prompt": "one more"}\n')
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert (
        "p.jsonl: the file changed while it was in use; start again: what is already answered is not" in err
    )
    found = journal(here / "runs" / "p")
    assert len(found) == server.completions
    assert {record["status"] for record in found} == {"ok"}
    assert manifest(here / "runs" / "p")["sessions"][-1]["ended_by"] == "error"


# -- stdout and stderr


def test_results_go_to_stdout_and_the_rest_to_stderr(mock_process: Start, spawn: Spawn, here: Path) -> None:
    server = mock_process()
    child = spawn("run", write("a"), *to(server), cwd=here)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "run directory: runs/p" in err
    assert "1/1 done" in err
    assert "run directory:" not in out
    assert "1/1 done" not in out
    assert "1 ok" in out or "ok" in out
    assert "\x1b" not in out + err
    assert "\r" not in out + err


def test_a_key_is_nowhere_to_be_found(cli: Cli, mock: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = mock(api_key="sk-very-secret-key")
    monkeypatch.setenv("SOME_KEY", "sk-very-secret-key")
    options = ["--api-key-env", "SOME_KEY", "--header", "X-Token: another-secret-token"]
    result = cli("run", write("a"), *to(server), *options)
    assert result.exit_code == 0
    texts = [result.output, *(p.read_bytes().decode("latin-1") for p in Path("runs/p").iterdir())]
    for secret in ("sk-very-secret-key", "another-secret-token"):
        assert not any(secret in text for text in texts)


def test_a_key_on_the_command_line_is_warned_of(cli: Cli, mock: Start) -> None:
    result = cli("run", write("a"), *to(mock()), "--api-key", "k")
    assert result.exit_code == 0
    assert "warning: --api-key shows in the process list" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_too_few_descriptors(mock: Start, spawn: Spawn, here: Path) -> None:
    server = mock()
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "from runner.cli import main; main()"
    )
    command = [sys.executable, "-c", code]
    child = spawn("run", write("a"), *to(server), "-c", 500, cwd=here, command=command)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 2
    assert "-c 500 needs 564 open files and this shell allows 100 (ulimit -Hn)" in err
    assert "use -c 36" in err
    child = spawn("run", write("a"), *to(server), "-c", 36, cwd=here, command=command)
    child.communicate(timeout=60)
    assert child.returncode == 0
