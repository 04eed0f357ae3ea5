"""The probe itself: whether a cancel is honoured, as far as that can be seen, and what its parts read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.probe import Report, probe
from runner.probe_cancel import busy_slots, judge_gauge, judge_wait, running
from runner.probe_facts import Facts, Finding, cached_field, cost_of, honoured, shown, tokens_a_chunk
from runner.probe_findings import findings_of, names
from runner.probe_watch import Seen, Watch
from runner.prober import Settings, as_flag, other_base
from runner.redact import Redactor, secrets_of
from runner.sse import Parser
from runner.stream import Stream
from runner.target import make_target
from runner.transport import open_session
from tests.runner.endpoints import Endpoint, listening
from tests.runner.streams import CHAT, answering, chunked, client_of, delta, serving, sse

# Short waits: what is waited for comes within them on any machine, or never.
QUICK = Settings(patience_s=0.1, looks_s=(0.1, 0.3, 0.5))
HASTY = Settings(patience_s=0.1, looks_s=(0.05, 0.05))  # where waiting changes nothing


async def probed(endpoint: Endpoint, settings: Settings = QUICK) -> Report:
    async with listening(endpoint) as url:
        target = make_target(url, None)
        redact = Redactor(secrets_of(target, url, None, {}))
        async with open_session(target.headers) as session:
            report = await probe(session, target, redact, settings)
    assert report.failure is None, report.failure
    assert report.cost.requests == len(endpoint.paths) <= 12
    return report


def finding(report: Report, name: str) -> Finding:
    return next(found for found in report.findings if found.name == name)


# -- cancel, against servers


@pytest.mark.parametrize("gauge", [{"slots": True}, {"metrics": True}], ids=["slots", "metrics"])
async def test_a_cancel_that_is_honoured_by_the_servers_own_count(gauge: dict[str, bool]) -> None:
    endpoint = Endpoint(gap_s=0.02, **gauge)  # type: ignore[arg-type]
    cancel = finding(await probed(endpoint), "cancel")
    assert cancel.verdict == "ok"
    name = "/slots" if "slots" in gauge else "/metrics"
    assert cancel.seen.startswith(f"honoured: {name} says 0 busy before, 1 during, 0 at ")
    assert "billed" not in cancel.seen


async def test_a_cancel_that_is_not_honoured_by_the_servers_own_count() -> None:
    endpoint = Endpoint(gap_s=0.01, slots=True, honours=False)
    cancel = finding(await probed(endpoint, HASTY), "cancel")
    assert cancel.verdict == "problem"
    assert cancel.seen.startswith("not honoured: /slots says 0 busy before, 1 during, 1 at ")
    assert cancel.seen.endswith("the whole answer is billed")


async def test_a_count_that_may_be_old_is_no_proof() -> None:
    endpoint = Endpoint(gap_s=0.01, metrics=True, honours=False)
    cancel = finding(await probed(endpoint, HASTY), "cancel")
    assert cancel.verdict == "note"
    assert "that number may be an old one" in cancel.seen


async def test_a_cancel_that_is_honoured_by_who_had_to_wait() -> None:
    cancel = finding(await probed(Endpoint(gap_s=0.02, one_slot=True)), "cancel")
    assert cancel.verdict == "ok"
    assert cancel.seen.startswith("honoured: a second request waited while it ran and began ")
    assert cancel.seen.endswith("It answers one request at a time")


async def test_a_cancel_that_is_not_honoured_by_who_had_to_wait() -> None:
    cancel = finding(await probed(Endpoint(gap_s=0.005, one_slot=True, honours=False)), "cancel")
    assert cancel.verdict == "problem"
    assert cancel.seen.startswith("not honoured, it seems: a second request waited")


async def test_others_that_use_the_server_hide_a_cancel() -> None:
    endpoint = Endpoint(gap_s=0.02, slots=True, running=1)
    cancel = finding(await probed(endpoint), "cancel")
    assert cancel.verdict == "note"
    assert "others were using it meanwhile" in cancel.seen


async def test_a_cut_that_comes_after_the_end_leaves_a_connection_that_can_be_read() -> None:
    # More than a slice in one read: it waits, parsed in part, with reading paused, when the cut comes.
    body = sse(*[delta("a")] * 330, delta(finish="length"), done=True)
    assert 32 << 10 < len(body) < 60_000
    async with serving(answering(chunked(body))) as server, client_of(server.url) as client:

        def opened(stream: Stream) -> None:
            loop = asyncio.get_running_loop()
            stream.on_first_token = lambda: loop.call_soon(lambda: stream.cut(by="stop_rule"))

        async with asyncio.timeout(30):
            for _ in range(3):
                stream, outcome = await client.attempt("chat", CHAT, opened)
                assert outcome.status in {"ok", "cancelled"}
    assert len(stream.answer.token_at) >= 1


# -- cancel, judged


@pytest.mark.parametrize(
    ("waited", "left", "usual", "verdict"),
    [
        (40, 5000, 50, True),
        (2500, 5000, 50, True),
        (4100, 5000, 50, False),
        (5200, 5000, 50, False),
        (3500, 5000, 50, None),
        (40, 90, 50, None),
        (40, 0, 0.5, None),
    ],
)
def test_what_a_wait_tells(waited: float, left: float, usual: float, verdict: bool | None) -> None:
    judged = judge_wait(waited, left, usual)
    assert judged.honoured is verdict
    assert judged.one_at_a_time


@pytest.mark.parametrize(
    ("name", "after", "ms", "verdict"),
    [
        ("/slots", 0, 100, True),
        ("/metrics", 0, 100, True),
        ("/slots", 1, 100, False),
        ("/metrics", 1, 100, None),
        ("/slots", 0, 2000, None),
        ("/slots", 1, 2000, None),
        ("/slots", None, 0, None),
    ],
)
def test_what_a_count_tells(name: str, after: int | None, ms: float, verdict: bool | None) -> None:
    judged = judge_gauge(name, 1, after, ms, left_ms=1000)
    assert judged.honoured is verdict
    assert ("billed" in judged.seen) is (verdict is not True)


@pytest.mark.parametrize(
    ("payload", "busy"),
    [
        ([{"is_processing": False}, {"is_processing": True}], 1),
        ([{"is_processing": False}], 0),
        ([{"state": 1}], None),
        ([], None),
        ({"error": "off"}, None),
        (None, None),
        ([1], None),
    ],
)
def test_slots(payload: object, busy: int | None) -> None:
    assert busy_slots(payload) == busy


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("# HELP x\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 3\n", 1),
        ('vllm:num_requests_running{engine="0",model_name="a b"} 2.0\n', 2),
        ('vllm:num_requests_running{e="0"} 2.0\nvllm:num_requests_running{e="1"} 1.0\n', 3),
        ("sglang:num_running_reqs{} 0.0\r\n", 0),
        ("vllm:num_requests_waiting 7\n", None),
        ("<html>llamacpp:requests_processing</html>", None),
        ("llamacpp:requests_processing 1e999\n", None),
        ("llamacpp:requests_processing ...\n", None),
        ("", None),
    ],
)
def test_metrics(text: str, count: int | None) -> None:
    assert running(text, 200) == count
    assert running(text, 404) is None


# -- places


@pytest.mark.parametrize(
    ("base", "other"),
    [
        ("http://h/v1", "http://h"),
        ("http://h/api", "http://h/api/v1"),
        ("http://h/api/v1?v=2", "http://h/api?v=2"),
        ("http://h", "http://h/v1"),
    ],
)
def test_the_other_url(base: str, other: str) -> None:
    assert other_base(base) == other


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("base", ["http://h:1", "http://h/v1", "http://h/api", "http://h/x?v=2"])
def test_what_is_suggested_leads_there(base: str, api: str) -> None:
    assert make_target(as_flag(base, api), None).base_url == base


# -- what is read off an answer


def watched(*payloads: Any) -> Watch:
    watch = Watch()
    for event in Parser().feed(sse(*payloads, done=True), 5, 5):
        watch.feed(event)
    return watch


def test_the_shape_of_chunks() -> None:
    told = {"completion_tokens": 2}
    watch = watched(
        delta(role="assistant", content=""),
        delta("a"),
        {**delta("b"), "x_groq": {"usage": told}},
        {**delta(finish="stop"), "usage": None},
        {"choices": [], "usage": told},
    )
    assert watch.role_at == 5
    assert watch.usage_events == 2
    assert watch.reasoning_in == []
    assert watched(delta("a", role="assistant")).role_at is None
    assert watched(delta(role="assistant", reasoning="a")).reasoning_in == ["reasoning"]


def test_both_fields_of_reasoning() -> None:
    watch = watched(delta(reasoning="a", reasoning_content="a"), delta(reasoning="b", reasoning_content=""))
    assert watch.reasoning_in == ["reasoning_content", "reasoning"]


@pytest.mark.parametrize(
    "data", [b"not json", b"[1]", b'{"choices":[1,{"delta":[]},{"delta":null}]}', b'{"choices":7}']
)
def test_odd_chunks_are_looked_at_without_harm(data: bytes) -> None:
    assert watched(data).usage_events == 0


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        (Seen(finish="length", usage={"completion_tokens": 16}), True),
        (Seen(finish="length"), True),
        (Seen(finish="length", usage={"completion_tokens": 17}), False),
        (Seen(finish="stop", usage={"completion_tokens": 400}), False),
        (Seen(finish="stop", usage={"completion_tokens": 9}), None),
        (Seen(finish="stop"), None),
        (Seen(cut=True), False),
    ],
)
def test_whether_a_limit_is_heeded(seen: Seen, kept: bool | None) -> None:
    assert honoured(seen, 16) is kept


@pytest.mark.parametrize(
    ("usage", "share"),
    [
        ({"completion_tokens": 16}, 4.0),
        ({"completion_tokens": 16, "completion_tokens_details": {"reasoning_tokens": 12}}, 1.0),
        ({"completion_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 12}}, None),
        ({"completion_tokens": 0}, None),
        (None, None),
    ],
)
def test_tokens_a_chunk(usage: dict[str, Any] | None, share: float | None) -> None:
    assert tokens_a_chunk(Seen(chunks=4, usage=usage)) == share


@pytest.mark.parametrize(
    ("cost", "told"), [(0.5, 0.5), (0, 0.0), (True, None), ("1", None), (float("nan"), None), (-1, None)]
)
def test_the_cost_that_is_told(cost: object, told: float | None) -> None:
    assert cost_of(Seen(usage={"cost": cost})) == told


def test_cached_fields() -> None:
    assert cached_field({"prompt_tokens_details": {"cached_tokens": 0}}) is not None
    assert cached_field({"prompt_tokens_details": None, "prompt_cache_hit_tokens": 0}) is not None
    assert cached_field({"prompt_tokens_details": {}}) is None
    assert cached_field(None) is None


def test_a_certificate_nobody_checked_is_told() -> None:
    for verified in (True, False):
        facts = Facts(
            api="chat",
            given_url="https://h/v1",
            base_url="https://h/v1",
            model="m",
            max_tokens=1,
            first=Seen(),
            verified=verified,
        )
        found = findings_of(facts)
        flags = [f.flag for f in found if f.name == "certificate"]
        assert flags == ([] if verified else ["--insecure"])


def test_nothing_seen_is_said_without_inventing() -> None:
    facts = Facts(
        api="chat", given_url="http://h", base_url="http://h", model="m", max_tokens=1, first=Seen()
    )
    found = {f.name: f.seen for f in findings_of(facts)}
    assert found["usage"] == "asked for and not sent: tokens stay unknown; not seen unasked"
    assert found["connection"].startswith("not seen whether it is kept; how long one takes to open was not")
    assert found["stream"].startswith("events came, and no token within the limit of 1")
    assert found["cached tokens"] == "not seen: no usage came"
    assert found["cancel"].startswith("not tried")
    assert found["unknown model"] == found["wrong value"] == "not tried: no request was left for it"


def test_texts_of_servers_are_made_harmless() -> None:
    assert shown("a\x1b[2J\r\nb\u202e  c") == "a [2J b c"
    assert shown("x" * 400, 10) == "xxxxxxx..."
    assert names([f"n{i}" for i in range(10)]) == "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more"
