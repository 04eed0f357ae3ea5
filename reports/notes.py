"""What the numbers of a summary want said: the one-line verdict, warnings, and what to do next."""

from __future__ import annotations

from reports.bench import Bench
from reports.cells import count, duration, number, several
from reports.distribution import PERCENTILES, RELIABLE
from reports.nodes import node_notes
from reports.summary import Summary
from runner.store import Standing

# What the reader does about a session that ended so; else the same command again.
_HOW = {
    "budget": "--max-cost was reached: the same command with a higher one",
    "pilot": "the pilot is over: the same command without --pilot",
}
_MANY_OPENED = 1000  # fewer connections are no burden, kept or not


BUSY = 0.8  # of a core, above which one process has no room left


def flagged(summary: Summary) -> bool:
    """Whether any percentile stands on fewer samples than METRICS asks for."""
    return any(
        d.percentiles[f"p{p}"] is not None and d.n < RELIABLE[p]
        for d in summary.metrics.values()
        for p in PERCENTILES
    )


def wall_s(summary: Summary) -> float | None:
    """The sessions' wall times added up; the gaps between them are not in it. Of shards: the longest's."""
    walls: dict[int | None, float] = {}
    for session in summary.sessions:
        if session.wall_s is not None:
            walls[session.shard] = walls.get(session.shard, 0.0) + session.wall_s
    return max(walls.values(), default=None)


def _pace(bench: Bench) -> list[str]:
    steady = bench.steady if bench.steady.seconds else bench.whole
    if not steady.seconds:
        return []
    out = [f"{duration(steady.seconds)} {'steady' if steady is bench.steady else 'in all'}"]
    if steady.request_throughput is not None:
        out.append(f"{number(steady.request_throughput)} requests/s")
    if steady.output_throughput is not None:
        least = ">=" if steady.at_least("output_throughput") else ""
        out.append(f"{least}{number(steady.output_throughput)} tokens/s")
    return out


def _answered(summary: Summary) -> str:
    """Answers of what they are answers to: rows of the file, or what a bench's schedule says."""
    requests, bench = summary.requests, summary.bench
    if bench is not None and bench.conversations is not None:
        return f"{several(requests.answered, 'turn')} answered"
    due = bench.load.scheduled if bench is not None else requests.expected
    if bench is None and due is None:
        due = requests.total
    return f"{count(requests.answered)}{'' if due is None else f' of {count(due)}'} answered"


def verdict(summary: Summary) -> str:
    """One line: how far, how many failed, how long, how fast."""
    requests = summary.requests
    if not summary.journal.ids:
        asked = requests.expected if summary.bench is None else summary.bench.load.scheduled
        expected = f" · {count(asked)} requests to send" if asked else ""
        return f"no records yet{expected}"
    parts = [_answered(summary), f"{count(requests.error)} failed"]
    if requests.cut:
        parts[0] += f", {count(requests.cut)} of them cut on purpose"
    if requests.cancelled > requests.cut:
        parts.append(f"{count(requests.cancelled - requests.cut)} cancelled")
    if requests.unsent:
        parts.append(f"{count(requests.unsent)} not sent")
    if summary.bench is not None:
        talks = summary.bench.conversations
        if talks is not None:
            due = f" of {count(talks.of)}" if talks.of is not None else ""
            parts.append(f"{count(talks.begun)}{due} conversations begun")
        return " · ".join(parts + _pace(summary.bench))
    wall = wall_s(summary)
    if wall is not None:
        sessions = len(summary.sessions)
        parts.append(duration(wall) + (f" in {sessions} sessions" if sessions > 1 else ""))
        if summary.shards is not None:
            begun = summary.shards.of - len(summary.shards.missing)
            of = f" of {summary.shards.of}" if summary.shards.missing else ""
            parts[-1] = f"{duration(wall)} in {begun}{of} shards"
    if len(summary.sessions) == 1 and summary.sessions[0].output_tokens_per_s is not None:
        parts.append(f"{number(summary.sessions[0].output_tokens_per_s)} tokens/s")
    elif summary.tokens.completion is not None:
        parts.append(f"{count(summary.tokens.completion)} tokens")
    return " · ".join(parts)


def _stream_notes(summary: Summary) -> list[str]:
    out, chunks = [], summary.chunks
    if summary.requests.not_streamed:
        out.append(
            f"{several(summary.requests.not_streamed, 'answer')} came whole, not streamed: in no latency."
        )
    itl = summary.metrics.get("itl")
    if itl is not None and itl.withheld:
        out.append(f"itl percentiles are withheld: {itl.withheld}. tpot is not affected.")
    elif chunks.coalesced:
        of = f"{count(chunks.coalesced)} of {count(chunks.gaps)}"
        out.append(f"{of} gaps between chunks are 0: both chunks came in the same read.")
    if chunks.multi_token:
        out.append(
            f"{count(chunks.multi_token)} of {count(chunks.with_token_count)} chunks carried more than one "
            "token: itl is the gap between chunks, tpot the time a token."
        )
    return out


def _token_notes(summary: Summary) -> list[str]:
    out, tokens = [], summary.tokens
    if tokens.answers and not tokens.with_usage:
        out.append("no answer came with usage: token counts, tpot and output_rate are not known.")
    elif tokens.with_usage < tokens.answers:
        out.append(
            f"token counts are of {count(tokens.with_usage)} of {count(tokens.answers)} answers; "
            "the others came without usage."
        )
    known = [
        f"{count(n)} {name}"
        for n, name in ((tokens.lost_prompt, "prompt"), (tokens.lost_completion, "completion"))
        if n is not None
    ]
    if known:
        out.append(
            f"{several(tokens.lost_with_usage, 'attempt')} beside the accepted answers (failed, cut or "
            f"superseded) told of {' and '.join(known)} tokens, not in the sums above; the bill may be "
            "larger."
        )
    return out


def _cost_notes(summary: Summary) -> list[str]:
    out, cost = [], summary.cost
    if cost.broken_off:
        out.append(
            f"{several(cost.broken_off, 'stream')} ended from this side (cancelled, cut or timed out): a "
            "provider that does not stop on disconnect bills the whole answer."
        )
    if len(cost.sources) > 1:
        out.append(
            "some costs are the provider's own and some from --price: their sum is one only if both are in "
            "the same currency."
        )
    return out


def _path_notes(summary: Summary) -> list[str]:
    """What stood between this machine and the server."""
    out = []
    for proxy, used in summary.proxies.items():
        where = "" if len(used) == len(summary.sessions) else f" in session {', '.join(map(str, used))}"
        out.append(f"requests went through the proxy {proxy}{where}: its time is part of every time here.")
    out += _opened_notes(summary)
    if summary.tls_unchecked:
        out.append("the server's certificate was not checked (--insecure): anyone in between could answer.")
    return out


def _opened_notes(summary: Summary) -> list[str]:
    """Connections that were not kept."""
    opened, places = summary.connections.opened, [session.concurrency for session in summary.sessions]
    at_once = sum(number for number in places if number is not None)
    if opened < _MANY_OPENED or None in places or opened <= 2 * at_once:
        return []
    text = (
        f"{count(opened)} connections were opened where {count(at_once)} would have done: the server, or "
        "what stands before it, closes them between requests. What that took is in connect and in no ttft; "
        "at a high rate it uses up this machine's ports."
    )
    return [text]


def _client_notes(summary: Summary) -> list[str]:
    """Where one process is near its limit, also where its times were still right."""
    client = summary.bench.client if summary.bench is not None else None
    if client is None:
        return []
    shares = [worker.cpu_share for worker in client.workers]
    shares = shares or [client.cpu.share if client.cpu is not None else None]
    busiest = max((share for share in shares if share is not None), default=0.0)
    if busiest <= BUSY:
        return []
    n = max(len(client.workers), 1)
    which = "the client" if n == 1 else "the busiest worker"
    return [
        f"{which} took {busiest:.0%} of a core: more --workers than {n} leave room, where there are cores."
    ]


def _journal_notes(summary: Summary) -> list[str]:
    out, journal = [], summary.journal
    if journal.bad_count:
        places = [f"{name} at byte {offset}" for name, offset in journal.bad_lines[:3]]
        places += [f"record {record_id}" for record_id in journal.damaged_ids[: 3 - len(places)]]
        out.append(f"{several(journal.bad_count, 'bad line')} left out: {', '.join(places)}.")
    if journal.lines > journal.ids:
        out.append(
            f"{several(journal.lines - journal.ids, 'journal line')}: earlier results of requests sent "
            "again. They stay; what they took is summed with what failed."
        )
    if summary.requests.outside:
        out.append(
            f"{several(summary.requests.outside, 'record')} of rows no longer in the prompt file: "
            "counted here, exported with --all."
        )
    return out


def shard_notes(shards: Standing | None) -> list[str]:
    """What is not there yet of a run that processes share."""
    if shards is None or not (shards.missing or shards.open):
        return []
    missing, left = shards.missing, shards.open
    parts = [f"{_named(missing)} {'has' if len(missing) == 1 else 'have'} not begun"] if missing else []
    parts += [f"{_named(left)} {'is' if len(left) == 1 else 'are'} not finished"] if left else []
    return [f"of {shards.of} shards, {', and '.join(parts)}: this is what there is so far."]


def _named(shards: list[int]) -> str:
    """Shards by their numbers; of many, the first."""
    shown = ", ".join(map(str, shards[:8])) + (", ..." if len(shards) > 8 else "")
    return f"{'number' if len(shards) == 1 else 'numbers'} {shown}"


def notes(summary: Summary) -> list[str]:
    """Warnings, each a sentence or two."""
    out = [f"{kind}, for example: {text}" for kind, text in summary.requests.error_examples.items()]
    if summary.slim:
        out.append("this is a slim copy (`export --slim`): texts, bodies and columns are in the run itself.")
    out += shard_notes(summary.shards) + node_notes(summary.nodes)
    out += _stream_notes(summary) + _token_notes(summary) + _cost_notes(summary)
    out += _journal_notes(summary) + _path_notes(summary) + _client_notes(summary)
    open_ends = [session.number for session in summary.sessions if session.wall_to_last_record]
    if open_ends and summary.journal.ids:
        names = ", ".join(map(str, open_ends))
        out.append(
            f"session {names} wrote no end (killed, or still running): its time is up to its last record."
        )
    if flagged(summary):
        out.append("~ marks few samples: an interval to trust takes 64 for p90, 130 for p95, 662 for p99.")
    return out


def next_steps(summary: Summary) -> list[str]:
    """What the reader can do about what is missing."""
    out, requests = [], summary.requests
    again = requests.again + (requests.unsent or 0)
    ended_by = summary.sessions[-1].ended_by if summary.sessions else None
    if again and summary.kind == "run":
        how = _HOW.get(ended_by or "", "the same command again")
        if summary.shards is not None:
            how = "the same command again, once for every shard that is not complete,"
        out.append(f"{how} sends the {count(again)} that are missing")
    if requests.failed_for_good and summary.kind == "run":
        failed = count(requests.failed_for_good)
        out.append(f"{failed} failed for good: the same command with --retry-failed sends them again")
    return out
