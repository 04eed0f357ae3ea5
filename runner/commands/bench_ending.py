"""How `bench` ends: its report, what became of it, its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from runner.commands.options import plural, say, show, stop
from runner.record import Error

if TYPE_CHECKING:
    from pathlib import Path

    from reports.summary import Summary
    from runner.bench import Aim
    from runner.commands.bench_setup import Made

# Exit codes in the order in which they win (docs/commands.md).
_ORDER = (130, 2, 1, 97, 99, 98, 75, 0)
_CALIBRATE_S = 3.0
_MOST_RATE = 1000.0  # tokens a second of one stream: faster ones are read in bursts, whoever reads


def finish(made: Made, given: dict[str, Any]) -> int:
    """Print how it ended; return the exit code."""
    from reports.formats import RENDERERS
    from runner.store import StoreError

    stopped = 0
    try:
        for aim in made.aims:
            judge_answers(aim.opened.path)
        summaries = _summaries(made.aims)
        if given["calibrate"]:
            # What was measured is safe, and shown, whatever becomes of this.
            kept, stopped = _calibrated(made.aims, summaries)
            summaries = _summaries(made.aims) if kept else summaries
    except StoreError as exc:
        stop(f"the bench is over and its records are kept, but they could not be summed up: {exc}", 1)
    _write_verdicts(summaries, given)
    codes = [stopped, 0 if show(RENDERERS[given["form"]](summaries)) else 1]
    if given["html"]:
        from runner.commands.report import write_page

        codes += [0 if write_page(aim.opened.path) else 1 for aim in made.aims]
    _say_unscraped(made.aims[0])
    codes += [
        _code(aim, summary, given["on_inconclusive"])
        for aim, summary in zip(made.aims, summaries, strict=True)
    ]
    return min(codes, key=_ORDER.index)


def close(aim: Aim) -> None:
    """Close its journal, and keep how its session ended; where that cannot be written, it is said."""
    from runner.rundir import write_manifest

    aim.opened.journal.close()
    try:
        write_manifest(aim.opened.path, aim.opened.manifest)
    except OSError as exc:
        say(f"warning: {aim.opened.path}/run.json could not be written: {exc.strerror}")


def judge_answers(run: Path) -> None:
    """Hold the answers against what their rows expect: they are all in the journal by now."""
    from reports.bench_part import own_thresholds
    from reports.expect import expectations
    from runner.commands.judged import expects_something
    from runner.store import load_manifest

    manifest = load_manifest(run)
    if expects_something(manifest):
        expectations(run, own_thresholds(manifest))


def _write_verdicts(summaries: list[Summary], given: dict[str, Any]) -> None:
    from reports.formats import RENDERERS
    from reports.verdicts import sheet_of
    from runner.commands.judged import write_files

    sheets = [sheet_of(one, one.bench.verdicts if one.bench is not None else []) for one in summaries]
    write_files(sheets, given, below=RENDERERS["markdown"](summaries))


def _summaries(aims: list[Aim]) -> list[Summary]:
    """Every number of each, kept beside its records."""
    from reports.metrics import summarize
    from runner.commands.report import refresh

    found = [summarize(aim.opened.path) for aim in aims]
    for aim, summary in zip(aims, found, strict=True):
        refresh(aim.opened.path, summary)
    return found


def _say_unscraped(aim: Aim) -> None:
    """Why pages of the server's own metrics are missing."""
    told = aim.opened.session.gauge.get("metrics")
    if told and told["failed"]:
        of = f"{told['failed']:,} of {plural(max(told['scrapes'], told['failed']), 'page')}"
        say(f"note: --metrics-url: {of} did not come: {told['last_error']}")


def _why(aim: Aim) -> str:
    """Why the load was broken off, and what to check."""
    from runner.commands.bench_setup import withheld_key
    from runner.commands.ending import advice

    reason = aim.opened.session.reason or ""
    error = _met(aim.opened.path, reason)
    what = _ADVICE if error is None else advice(error)
    if error is not None and error.kind == "auth" and (withheld := withheld_key(aim.target, aim.name)):
        what = f"{withheld[0].upper()}{withheld[1:]}."
    return f"{reason.rstrip('.')}. {what}"


def _met(run: Path, message: str) -> Error | None:
    """The error of the records that has this message."""
    from runner.store import build_index, read_blocks

    errors = (line.error for block in read_blocks(build_index(run), _Failed) for line in block)
    return next((error for error in errors if error is not None and error.message == message), None)


class _Failed(msgspec.Struct):
    error: Error | None = None


def _code(aim: Aim, summary: Summary, on_inconclusive: Any) -> int:
    from reports.judge import exit_code

    session, bench = aim.opened.session, summary.bench
    ended_by = session.ended_by or "error"
    judged = 0 if bench is None else exit_code(bench.validity, bench.verdicts, on_inconclusive)
    name = f"{aim.name}: " if aim.name else ""
    unwritten = session.counts.get("unwritten", 0)
    if unwritten:
        say(f"streamgauge: {name}{unwritten} finished answers found no room on the disk and are lost")
    if ended_by == "finished":
        if aim.opened.unsafe is not None:
            say(f"streamgauge: {name}the journal could not be made safe on the disk: {aim.opened.unsafe}")
            return 1
        return judged
    told = {
        "interrupted": "interrupted: the numbers above are of what was sent until then",
        "terminated": "stopped by SIGTERM: the numbers above are of what was sent until then",
        "disk_full": f"stopped: {session.reason} ({aim.opened.path})",
        "circuit_breaker": f"ended early: {_why(aim)}",
        "error": f"ended early: {session.reason or 'an error'}",
        "worker_lost": f"ended early: {session.reason}",
    }
    say(f"streamgauge: {name}{told.get(ended_by, ended_by)}")
    if ended_by == "circuit_breaker":
        # A target that died is judged; where its few failures pass every threshold, it is an error still.
        return judged or 1
    if ended_by in {"terminated", "disk_full"}:
        return judged or 75
    if ended_by == "worker_lost":
        return judged or 1  # INVALID it is
    return 130 if ended_by == "interrupted" else 1


_ADVICE = "Check that the server runs, --base-url, --model and the key."


def _calibrated(aims: list[Aim], summaries: list[Summary]) -> tuple[bool, int]:
    """Measure this machine's noise at the load that just was, for the report.

    Returns whether it is kept, and the exit code of a signal that ended it.
    """
    from runner.calibrate import CalibrationError, calibrate
    from runner.rundir import write_manifest

    benches = [summary.bench for summary in summaries if summary.bench is not None]
    streams = round(sum(bench.in_flight_mean or bench.load.peak_in_flight or 0 for bench in benches))
    rates = [summary.metrics["output_rate"].percentiles["p50"] for summary in summaries]
    rate = min(_MOST_RATE, max((rate for rate in rates if rate), default=0.0))
    if streams < 1 or rate <= 0:
        say("note: --calibrate was left out: the bench had no streams or token rates to take as its load")
        return False, 0
    say(
        f"calibrating: {streams:,} streams x {rate:,.0f} tokens/s against the mock server, {_CALIBRATE_S:g} s"
    )
    try:
        found = calibrate(streams, rate, _CALIBRATE_S, search=False)
        for aim in aims:
            aim.opened.session.gauge["calibration"] = msgspec.to_builtins(found)
            write_manifest(aim.opened.path, aim.opened.manifest)
    except (CalibrationError, OSError) as exc:
        say(f"note: --calibrate failed: {exc}")
        return False, 0
    except (KeyboardInterrupt, SystemExit) as exc:
        say("note: --calibrate was stopped: the report is of the bench alone, which had ended before")
        return False, 75 if isinstance(exc, SystemExit) else 130
    return True, 0
