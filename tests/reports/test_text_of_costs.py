"""What a reader is told of costs, cut answers, pace, endpoints and proxies, in each format."""

import csv
import io
from typing import Any

import pytest

from reports.cells import amount
from reports.formats import RENDERERS
from reports.metrics import summarize
from reports.text import WIDTH
from runner.record import Connection, Error, ErrorKind

PRICES = {"concurrency": 8, "prices": {"*": {"input": 1.0, "output": 2.0}}}
CUT = {"status": "cancelled", "cancelled_by": "stop_rule", "finish_reason": None, "usage": None}


def flat(form: str, *summaries: Any) -> str:
    return " ".join(RENDERERS[form](list(summaries)).replace("\\", "").split())


def fact(text: str, label: str) -> str | None:
    found = [line.strip() for line in text.splitlines() if line.startswith(f"  {label:<13}")]
    return " ".join(found[0].split()) if found else None


def test_no_word_of_cost_where_nobody_said_and_no_prices_were_given(write: Any, record: Any) -> None:
    text = RENDERERS["text"]([summarize(write([record(0)]))])
    assert (fact(text, "cost"), fact(text, "cost, all")) == (None, None)
    assert "disconnect" not in text


def test_costs(write: Any, record: Any, failed: Any, session: Any) -> None:
    priced = {"cost": 0.00125, "cost_source": "prices"}
    run = write(
        [
            *(record(i, **priced) for i in range(4)),
            failed(9, cost_bound=0.02),
        ],
        sessions=[session(options=PRICES)],
    )
    summary = summarize(run)
    text = RENDERERS["text"]([summary])
    assert fact(text, "cost") == "cost 0.005000 of 4 answers, from --price"
    assert fact(text, "cost, lost") == "cost, lost at most 0.02000 of failed, cut and superseded attempts"
    assert fact(text, "cost, all") == "cost, all 0.005000, at most 0.02500"
    assert "1 stream ended from this side (cancelled, cut or timed out)" in flat("text", summary)
    assert "provider that does not stop on disconnect bills the whole answer" in flat("text", summary)
    markdown = RENDERERS["markdown"]([summary])
    assert "- **cost, all**: 0.005000, at most 0.02500" in markdown
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(RENDERERS["csv"]([summary])))}
    assert (rows["cost"]["value"], rows["cost"]["n"], rows["lost_cost"]["value"]) == ("0.005", "4", "")
    assert rows["total_cost_at_most"]["value"] == "0.025"
    assert max(map(len, (line for line in text.splitlines() if str(run) not in line))) <= WIDTH


def test_costs_that_are_not_known(write: Any, record: Any, failed: Any, session: Any) -> None:
    silent = write([record(0)], name="silent", sessions=[session(options=PRICES)])
    assert fact(RENDERERS["text"]([summarize(silent)]), "cost") == "cost not known of 1 answer"
    own = {"cost": 2.0, "cost_source": "provider"}
    some = write([record(0, **own), record(1), failed(2, ErrorKind.TRUNCATED)], name="some")
    text = RENDERERS["text"]([summarize(some)])
    assert fact(text, "cost") == "cost 2.000 of 1 of 2 answers, from the provider"
    assert fact(text, "cost, lost") == (
        "cost, lost not known of failed, cut and superseded attempts · of 1 of them nothing is known"
    )
    assert fact(text, "cost, all") == "cost, all at least 2.000"


def test_two_sources_may_be_two_currencies(write: Any, record: Any) -> None:
    run = write(
        [record(0, cost=1.0, cost_source="provider"), record(1, cost=1.0, cost_source="prices")], prompts=2
    )
    text = flat("text", summarize(run))
    assert "cost 2.000 of 2 answers, from --price and the provider" in text
    assert "only if both are in the same currency" in text


def test_costs_side_by_side(write: Any, record: Any) -> None:
    one = summarize(write([record(0, cost=1.5, cost_source="provider")], name="one"))
    two = summarize(write([record(0)], name="two"))
    assert "cost 1.500 - cost, all 1.500 - cost, at most 1.500 -" in flat("text", one, two)
    assert "cost, all" not in RENDERERS["text"]([two, two])


def test_cancelled_failed_and_cut_on_purpose_are_three_things(write: Any, record: Any, failed: Any) -> None:
    run = write(
        [
            record(0),
            failed(1, ErrorKind.SERVER_ERROR),
            record(2, **CUT),
            record(3, **CUT),
            record(4, status="cancelled", cancelled_by="user"),
            record(5, status="cancelled", cancelled_by="deadline"),
        ],
        prompts=6,
    )
    summary = summarize(run)
    text = RENDERERS["text"]([summary])
    assert text.startswith("3 of 6 answered, 2 of them cut on purpose · 1 failed · 2 cancelled · 2.0 s")
    assert fact(text, "answered") == "answered 1 stop 1"
    assert fact(text, "cut") == "cut 2 cut on purpose by --stop-after-tokens (count as done)"
    assert fact(text, "cancelled") == "cancelled 2 deadline 1 · user 1"
    assert "session started wall ok cut failed cancelled ok/s" in " ".join(text.split())
    assert "1 2026-01-01T00:00:00Z 2.0 s 1 2 1 2 " in " ".join(text.split())
    assert "4 streams ended from this side" in flat("text", summary)
    assert "- **cut**: 2 cut on purpose" in RENDERERS["markdown"]([summary])
    assert "cut 2 2 cancelled 2 2" in flat("text", summary, summary)


def test_a_server_that_times_out_is_no_cut_of_ours(write: Any, record: Any) -> None:
    error = Error(ErrorKind.TIMEOUT, "late", http_status=408, timer="server")
    assert "disconnect" not in flat("text", summarize(write([record(0, status="error", error=error)])))


def test_endpoints(write: Any, record: Any, failed: Any, attempt: Any) -> None:
    first, second = (Connection(reused=True, base_url=f"http://{host}:8000/v1") for host in ("a", "b"))
    run = write(
        [
            record(0, connection=first),
            record(1, connection=first, first_token_at=23_000_000),
            record(2, connection=second, attempts=[attempt(ErrorKind.OVERLOADED, base_url=first.base_url)]),
            failed(3, connection=second),
            failed(4, connection=Connection()),
        ]
    )
    summary = summarize(run)
    text = RENDERERS["text"]([summary])
    rows = [line.split() for line in text.splitlines() if line.startswith("  http://")]
    assert rows == [
        ["http://a:8000/v1", "2", "2", "0", "0", "1", "15.00"],
        ["http://b:8000/v1", "2", "1", "1", "0", "0", "10.00"],
    ]
    assert "| http://a:8000/v1 | 2 | 2 | 0 | 0 | 1 | 15.00 |" in RENDERERS["markdown"]([summary])
    alone = summarize(write([record(0, connection=first), record(1)], name="alone"))
    assert [endpoint.requests for endpoint in alone.endpoints] == [1]
    assert "Endpoints" not in RENDERERS["text"]([alone])


def test_a_proxy_is_named(write: Any, record: Any, session: Any) -> None:
    proxied = {"proxy": "http://***@proxy:3128"}
    run = write([record(0)], sessions=[session(1), session(2, options=proxied)])
    assert "through the proxy http://***@proxy:3128 in session 2: its time is part" in flat(
        "text", summarize(run)
    )
    every = summarize(write([record(0)], name="every", sessions=[session(1, options=proxied)]))
    assert every.proxies == {"http://***@proxy:3128": [1]}
    assert "through the proxy http://***@proxy:3128: its time" in flat("markdown", every)
    none = summarize(write([record(0)], name="none", sessions=[session(1, options={"proxy": None})]))
    assert "through the proxy" not in flat("text", none)


def test_what_held_requests_back(write: Any, record: Any, session: Any) -> None:
    first = session(
        1,
        gauge={
            "cpu_s": 1.0,
            "cooldowns": 2,
            "cooldown_s": 3.5,
            "paced_s": 0.0,
            "lowest_concurrency": 4,
            "highest_concurrency": 16,
        },
    )
    second = session(
        2, gauge={"cooldowns": 1, "cooldown_s": 1.0, "paced_s": 90, "budget_lowered": True, "rpm": 7}
    )
    summary = summarize(write([record(0)], sessions=[first, second]))
    assert fact(RENDERERS["text"]([summary]), "held back") == (
        "held back 3 cool-downs after a 429 or 503, 4.5 s · 1 min 30 s by --rpm or --tpm · 4 to 16 at"
    )
    assert "4 to 16 at once (--adaptive) · fewer at once for --max-cost" in flat("text", summary)
    idle = session(1, gauge={"cpu_s": 1.0, "cooldowns": 0, "cooldown_s": 0.0, "paced_s": 0.0})
    odd = session(2, gauge={"cooldowns": "many", "paced_s": -1, "lowest_concurrency": 1.5})
    quiet = summarize(write([record(0)], name="quiet", sessions=[idle, odd]))
    assert "held back" not in flat("text", quiet)
    assert summarize(write([], name="old", sessions=[session(1)])).sessions[0].pacing is None


@pytest.mark.parametrize(
    ("ended_by", "shown", "says"),
    [
        ("budget", "--max-cost", "--max-cost was reached: the same command with a higher one sends the 4"),
        ("pilot", "pilot over", "the pilot is over: the same command without --pilot sends the 4"),
        ("terminated", "terminated", "the same command again sends the 4"),
    ],
)
def test_how_a_session_ended(
    write: Any, record: Any, session: Any, ended_by: str, shown: str, says: str
) -> None:
    run = write([record(0)], sessions=[session(1, ended_by=ended_by)], prompts=5)
    text = RENDERERS["text"]([summarize(run)])
    row = next(line for line in text.splitlines() if line.startswith("  1  "))
    assert row.endswith(f" {shown}")
    assert f"{says} that are missing" in " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.000012345, "0.00001234"),
        (0.012, "0.01200"),
        (1.5, "1.500"),
        (12.3456, "12.35"),
        (1234.5, "1,234.50"),
        (1e-15, "0.000000000000"),
    ],
)
def test_amounts(value: float | None, text: str) -> None:
    assert amount(value) == text


def test_all_endpoints_of_a_run_are_its_target(write: Any, record: Any) -> None:
    summary = summarize(write([record(0)]))
    urls = ["http://a/v1", "http://b/v1"]
    summary.scenario = {"target": {"model": "m", "base_url": urls[0], "base_urls": urls}}
    for form in ("text", "markdown"):
        assert "m at http://a/v1, http://b/v1" in flat(form, summary)
