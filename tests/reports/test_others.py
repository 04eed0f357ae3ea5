"""The same run in other tools' definitions, against the golden bench and by hand."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reports.others import TOOLS, Other, as_other
from runner.cli import group
from runner.commands.report import TOOLS as OFFERED
from runner.record import Connection

MS = 1_000_000
GOLDEN = Path(__file__).parent / "schema-3"


def numbers(other: Other) -> dict[str, dict[str, float | None]]:
    return {found.name: found.stats for found in other.numbers}


@pytest.fixture
def run(write: Any, record: Any) -> Path:
    """Two answers: sent at 0, first token at 50, tokens 10 apart. One has 5 tokens, the other 11."""

    def of(i: int, tokens: int) -> Any:
        last = 50 + 10 * (tokens - 1)
        return record(
            i,
            sent_at=0,
            first_token_at=50 * MS,
            last_token_at=last * MS,
            ended_at=(last + 10) * MS,
            usage={"prompt_tokens": 7, "completion_tokens": tokens},
            chunk_us=[1000 * 10 * k for k in range(tokens)],
            connection=Connection(reused=True),
        )

    path: Path = write([of(0, 5), of(1, 11), record(2, phase="warmup"), record(3, streamed=False)])
    return path


def test_vllm(run: Path) -> None:
    found = numbers(as_other(run, "vllm"))
    # E2EL 100 and 160; (E2EL - TTFT) / (n - 1): 50 / 4 and 110 / 10. From 0 to 160 ms.
    assert found["TTFT"] == {"mean": 50.0, "median": 50.0, "p99": 50.0}
    assert found["TPOT"]["mean"] == pytest.approx((12.5 + 11) / 2)
    assert found["ITL"]["median"] == 10.0
    assert found["E2EL"]["mean"] == 130.0
    assert found["Request throughput"]["mean"] == pytest.approx(2 / 0.16)
    assert found["Output token throughput"]["mean"] == pytest.approx(16 / 0.16)
    assert found["Total token throughput"]["mean"] == pytest.approx(30 / 0.16)


def test_aiperf(run: Path) -> None:
    found = numbers(as_other(run, "aiperf"))
    # To the last token: 90 and 150. From 0 to 150 ms.
    assert found["Request Latency"]["avg"] == 120.0
    assert found["Inter Token Latency"]["avg"] == 10.0
    assert found["Output Token Throughput Per User"]["p50"] == pytest.approx(100)
    assert found["Output Token Throughput"]["avg"] == pytest.approx(16 / 0.15)


def test_guidellm(run: Path) -> None:
    found = numbers(as_other(run, "guidellm"))
    assert found["Request Latency"]["mean"] == pytest.approx(0.13)
    # (last - send) / n, weighted by n: (90 + 150) / 16.
    assert found["Time Per Output Token"]["mean"] == pytest.approx(240 / 16)
    assert found["Time Per Output Token"]["median"] == pytest.approx(150 / 11)
    assert found["Inter-Token Latency"]["mean"] == pytest.approx(10)
    assert found["Request Concurrency"]["mean"] == pytest.approx(0.26 / 0.16)


def test_tokens_nobody_counted_are_not_guessed(write: Any, record: Any) -> None:
    run = write([record(0), record(1, usage=None, usage_source="none")])
    assert numbers(as_other(run, "vllm"))["Output token throughput"] == {"mean": None}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_run_without_answers(write: Any, failed: Any, tool: Any) -> None:
    found = as_other(write([failed(0)]), tool)
    assert (found.requests, found.seconds) == (0, None)
    assert all(value is None for number in found.numbers for value in number.stats.values())


def call(tool: str, form: str, *runs: str) -> str:
    result = CliRunner().invoke(group, ["report", *runs, "--as", tool, "-f", form])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tools_are_those_of_reports() -> None:
    assert OFFERED == TOOLS


@pytest.mark.parametrize("tool", TOOLS)
def test_report_as(run: Path, tool: str) -> None:
    text = call(tool, "text", str(run))
    assert f"as {tool} defines it" in text
    assert "2 answered requests" in text
    other = as_other(run, next(name for name in TOOLS if name == tool))
    flat = " ".join(text.split())
    assert all(f"{found.name}: {found.differs}." in flat for found in other.numbers)
    assert f"| {tool} |" in call(tool, "markdown", str(run))
    one = json.loads(call(tool, "json", str(run)))
    assert (one["tool"], one["validity"]) == (tool, None)
    assert len(json.loads(call(tool, "json", str(run), str(run)))) == 2
    rows = list(csv.DictReader(io.StringIO(call(tool, "csv", str(run)))))
    assert {row["tool"] for row in rows} == {tool}


@pytest.mark.parametrize("form", ["text", "markdown", "json", "csv"])
def test_an_unfit_client_is_told_in_these_words_too(bench: Any, record: Any, form: str) -> None:
    path = bench([record(0)], gauge={"lag": {"n": 10, "p99_ms": 900.0}})
    assert "INVALID" in call("vllm", form, str(path))
