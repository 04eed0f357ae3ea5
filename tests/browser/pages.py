"""The pages that are opened, each made by the command that people make it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from click.testing import CliRunner

from runner.cli import group
from runner.record import Record
from runner.sweep import Over, Point, Sweep
from tests.browser.made_up import MS, PLANTED, Server, bench, write_run

Make = Callable[[Path], Path]

ALL_FAIL = Server(failing=2.0)
NOTHING_SLOW = (0.0, 0.0)


def streamgauge(*arguments: object, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command; return what it printed."""
    with _inside(cwd):
        result = CliRunner().invoke(group, [str(a) for a in arguments], prog_name="streamgauge")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in codes, result.output
    return result.stdout


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """As a user stands in a folder: pages name runs by the path they were named by."""
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        yield


def _report(run: Path) -> Path:
    streamgauge("report", run.name, "--format", "html", cwd=run.parent)
    return run / "report.html"


def everything(folder: Path) -> Path:
    """A bench with failures, a slow spell, an SLO, thresholds, and metrics of its server."""
    return _report(bench(folder / "chat-10rps", pages=True))


def only_errors(folder: Path) -> Path:
    return _report(bench(folder / "down", n=120, server=ALL_FAIL))


def one_request(folder: Path) -> Path:
    return _report(bench(folder / "one", n=1, server=Server(failing=0.0)))


def no_records(folder: Path) -> Path:
    return _report(bench(folder / "none", n=0))


def dataset(folder: Path) -> Path:
    """A `run`: prompts and answers, and no load."""
    made = bench(folder / "made", n=150, expect=True)
    records = [
        msgspec.json.decode(line, type=Record) for line in (made / "records.jsonl").read_bytes().splitlines()
    ]
    end_ns = max(record.ended_at or 0 for record in records) + MS
    return _report(write_run(folder / "answers", records, kind="run", end_ns=end_ns, expects=len(records)))


def planted(folder: Path) -> Path:
    """Script wherever somebody else could have written it."""
    tags = {"why": PLANTED}
    run = bench(
        folder / "planted", n=80, planted=PLANTED, model=PLANTED, tags=tags, server=Server(failing=0.2)
    )
    return _report(run)


def large(folder: Path, n: int = 200_000) -> Path:
    """As many requests as a long bench has."""
    few = bench(folder / "few", n=500, rate=100.0)
    run = folder / "large"
    few.rename(run)
    _repeat(run, n)
    return _report(run)


def _repeat(run: Path, n: int) -> None:
    """Write the journal's lines again and again, each at its own time and place."""
    lines = [msgspec.json.decode(line) for line in (run / "records.jsonl").read_bytes().splitlines()]
    encode = msgspec.json.Encoder().encode
    times = ["scheduled_at", "sent_at", "headers_at"]
    times += ["first_token_at", "first_content_at", "last_token_at", "ended_at"]
    span_ns = max(line["scheduled_at"] for line in lines)
    rng = np.random.default_rng(3)
    with (run / "records.jsonl").open("wb") as out:
        for k in range(-(-n // len(lines))):
            mood = rng.lognormal(0, 0.05)
            for line in lines:
                at = line["scheduled_at"]
                moved = {name: None if line[name] is None else line[name] + k * span_ns for name in times}
                if line["status"] == "ok":
                    longer = round((line["first_token_at"] - at) * (mood - 1))
                    for name in times[3:]:
                        moved[name] += longer
                index = line["index"] + k * len(lines)
                out.write(encode({**line, **moved, "index": index, "id": f"{index:016x}{0:016x}"}) + b"\n")
    manifest = msgspec.json.decode((run / "run.json").read_bytes())
    repeats = -(-n // len(lines))
    session = manifest["sessions"][0]
    session["ended_at"] = repeats * span_ns + 60_000 * MS
    load = session["gauge"]["load"]
    load |= {"scheduled": repeats * len(lines), "sent": repeats * len(lines)}
    load |= {"schedule_end_ns": repeats * span_ns, "steady_end_ns": repeats * span_ns}
    manifest["scenario"]["load"]["requests"] = repeats * len(lines)
    (run / "run.json").write_bytes(msgspec.json.encode(manifest))


def _side(folder: Path, side: str, k: int, *, slower: float, planted: str = "") -> Path:
    """One run of a comparison; a pair shares its seed, and so its prompts and its schedule."""
    pair = k // 2 + 1
    rng = np.random.default_rng([7, k])
    mood = float(np.exp(rng.normal(0, 0.012)))
    server = Server(
        ttft_ms=120 * slower * mood,
        per_prompt_token_ms=0.25 * slower * mood,
        itl_ms=14 * mood,
        failing=0.004 if side == "a" else 0.012,
        spell=NOTHING_SLOW,
    )
    return bench(
        folder / f"{pair:02d}-{side}",
        n=200,
        seed=100 + pair,
        server=server,
        expect=True,
        wrong=0.0 if side == "a" else 0.04,
        planted=planted,
        wall_s=45 * k,
        tags={"pair": str(pair), "side": side},
        model=f"river-7b{planted}" if side == "a" else f"river-7b-int8{planted}",
    )


def ab(folder: Path) -> Path:
    """Six pairs in turns, as `ab` leaves them; b is 16 % slower to its first token."""
    for k, side in enumerate("abbaabbaabba"):
        _side(folder / "int8-ab", side, k, slower=1.0 if side == "a" else 1.16)
    streamgauge("compare", "int8-ab", "--html", "int8-ab/compare.html", cwd=folder, codes=(99,))
    return folder / "int8-ab" / "compare.html"


def compare(folder: Path) -> Path:
    """Runs that are no pairs, with script in what models wrote, and a setting that nobody declared."""
    for k in range(3):
        bench(folder / "base" / str(k), n=60, seed=k, planted=PLANTED, expect=True, wall_s=60 * k)
        other = folder / "new" / str(k)
        bench(
            other, n=60, seed=k, planted=PLANTED, expect=True, wrong=0.2, wall_s=300 + 60 * k, model=PLANTED
        )
    streamgauge("compare", "base", "new", "--html", "compare.html", cwd=folder, codes=(0, 98, 99))
    return folder / "compare.html"


def compare_nothing(folder: Path) -> Path:
    """One run a side, and nothing answered in either."""
    for side in ("base", "new"):
        bench(folder / side, n=40, server=ALL_FAIL)
    streamgauge("compare", "base", "new", "--metric", "errors", "--html", "c.html", cwd=folder, codes=(97,))
    return folder / "c.html"


def several(folder: Path) -> Path:
    """Runs side by side."""
    for k in range(3):
        bench(folder / f"run-{k}", n=200, seed=k, wall_s=60 * k, server=Server(ttft_ms=100 + 40 * k))
    streamgauge("report", *(f"run-{k}" for k in range(3)), "-f", "html", "-o", "all.html", cwd=folder)
    return folder / "all.html"


RATES = (2, 4, 8, 12, 16, 20, 40)


def sweep(folder: Path) -> Path:
    """Seven rates, the last two of them more than the server can do."""
    place = folder / "capacity"
    points = []
    server = Server(ttft_ms=60, per_prompt_token_ms=0.1, failing=0.0, spell=NOTHING_SLOW, most_per_s=19.0)
    gpus = {"gpus": 2, "gpu_hour_usd": 2.5}
    for k, rate in enumerate(RATES):
        run = place / f"{k + 1:02d}-rate-{rate}"
        bench(run, n=30 * rate, rate=rate, seed=k, server=server, wall_s=60 * k, target=gpus)
        points.append(Point(run=run.name, values={"load.rate": rate}, state="done", ended_by="finished"))
    told = Sweep(
        created="2026-03-02T09:00:00Z",
        updated="2026-03-02T09:10:00Z",
        scenario="chat",
        mode="over",
        over=[Over(keys=["load.rate"], values=[[rate] for rate in RATES])],
        settings={},
        points=points,
        ended_by="finished",
    )
    (place / "sweep.json").write_bytes(msgspec.json.encode(told))
    streamgauge("report", "capacity", "--format", "html", cwd=folder)
    return place / "sweep.html"


PAGES: dict[str, Make] = {
    "everything": everything,
    "only-errors": only_errors,
    "one-request": one_request,
    "no-records": no_records,
    "dataset": dataset,
    "planted": planted,
    "large": large,
    "several": several,
    "sweep": sweep,
    "ab": ab,
    "compare": compare,
    "compare-nothing": compare_nothing,
}
