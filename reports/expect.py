"""What rows expected of their answers: a pass over the journal that can be made again at any time.

`<run>/expect.jsonl` has a line a judged record, `<run>/expect.json` the counts (`Expected`) and how long the
journal was: counts of a journal that has grown since are not used. Both are derived. A slim copy
(`reports/slim.py`) has no texts: there the results are read back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from reports.bench_part import own_thresholds
from reports.expectation import Answer, Judge, expected, is_judged
from reports.files import replacing
from reports.rows import decoded, open_index
from reports.select import Matcher
from reports.summary import Expected, Hits
from runner.store import Manifest, StoreError, journal_files, load_manifest
from scenarios.thresholds import Threshold, ThresholdError

RESULTS = "expect.jsonl"
COUNTS = "expect.json"
VERSION = 1


class Result(Struct, kw_only=True):
    """One judged record."""

    id: str
    prompt_id: str
    index: int
    sample: int = 0
    turn: int | None = None
    passed: bool
    failures: dict[str, str] = {}  # by what did not hold, in words


class Counts(Struct, kw_only=True):
    """`expect.json`."""

    expect_version: int = VERSION
    journal: dict[str, int]  # bytes of each file of the journal that was read
    counts: Expected


def journal_size(run: Path) -> dict[str, int]:
    """How long the journal is, by file."""
    return {path.name: path.stat().st_size for path in journal_files(run)}


def stored(run: Path) -> Expected | None:
    """The counts as last made, where the journal is still the same."""
    try:
        found = msgspec.json.decode((run / COUNTS).read_bytes(), type=Counts)
        same = found.expect_version == VERSION and found.journal == journal_size(run)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found.counts if same else None


def stored_results(run: Path) -> Iterator[Result]:
    """The lines of `expect.jsonl`.

    Raises:
        StoreError: they cannot be read.
    """
    decode = msgspec.json.Decoder(Result).decode
    path = run / RESULTS
    try:
        with path.open("rb") as file:
            for line in file:
                yield decode(line)
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path} cannot be read: {exc}. `check --expect` writes it anew.") from None


def judged(
    run: Path, counts: Expected, thresholds: Iterable[Threshold] = ()
) -> Iterator[tuple[Answer, Result]]:
    """Every measured record whose row expects something, with its result; counts them on the way.

    Raises:
        StoreError: the run cannot be read.
    """
    manifest = load_manifest(run)
    matcher, judge = Matcher(manifest), Judge()
    asked = [*_own(manifest), *thresholds]  # its own as well: a report of a bench judges them again
    selectors = {t.name: t.selector for t in asked if t.metric == "expect" and t.selector}
    counts.selected = {name: Hits() for name in selectors}
    for block in decoded(open_index(run), Answer):
        for answer in block:
            if answer.phase != "measure" or not expected(answer):
                continue
            if not is_judged(answer):
                counts.left_out += 1
                continue
            result = _result(answer, judge)
            _count(counts, result)
            for name, selector in selectors.items():
                if matcher.matches(answer, selector):
                    counts.selected[name].n += 1
                    counts.selected[name].hits += result.passed
            counts.slow = judge.slow
            yield answer, result


def _own(manifest: Manifest) -> list[Threshold]:
    try:
        return own_thresholds(manifest)
    except ThresholdError:
        return []  # the report says why


def results(run: Path) -> Iterator[Result]:
    """Every result: as kept, where the journal is still the same, else judged anew. Writes nothing.

    Raises:
        StoreError: the run cannot be read.
    """
    if load_manifest(run).slim:
        _of_slim(run)
        yield from stored_results(run)
    elif stored(run) is not None and (run / RESULTS).is_file():
        yield from stored_results(run)
    else:
        for _, result in judged(run, Expected()):
            yield result


def _result(answer: Answer, judge: Judge) -> Result:
    found = judge.failures(answer)
    return Result(
        id=answer.id,
        prompt_id=answer.prompt_id,
        index=answer.index,
        sample=answer.sample,
        turn=answer.turn if isinstance(answer.turn, int) else None,
        passed=not found,
        failures=found,
    )


def _count(counts: Expected, result: Result) -> None:
    counts.judged += 1
    counts.passed += result.passed
    for name in result.failures:
        counts.failed[name] = counts.failed.get(name, 0) + 1


def expectations(run: str | Path, thresholds: Iterable[Threshold] = ()) -> Expected:
    """Judge every answer, and keep the results beside the run.

    Args:
        run: the run directory.
        thresholds: those on `expect` with a selector are counted apart (`Expected.selected`).

    Raises:
        StoreError: the run cannot be read, or the results not written.
    """
    run = Path(run)
    if load_manifest(run).slim:
        return _of_slim(run)
    counts, size = Expected(), journal_size(run)
    if not os.access(run, os.W_OK):  # a mounted artefact: the counts are all there is to say
        for _ in judged(run, counts, thresholds):
            pass
        return counts
    try:
        with replacing(run / RESULTS) as out:
            for _, result in judged(run, counts, thresholds):
                out.write(msgspec.json.encode(result) + b"\n")
        write_counts(run, counts, size)
    except OSError as exc:
        raise StoreError(f"cannot write {run / RESULTS}: {exc.strerror or exc}") from exc
    return counts


def write_counts(run: Path, counts: Expected, size: dict[str, int]) -> None:
    """Keep counts, and of which journal they are."""
    with replacing(run / COUNTS) as out:
        out.write(
            msgspec.json.format(msgspec.json.encode(Counts(journal=size, counts=counts)), indent=2) + b"\n"
        )


def _of_slim(run: Path) -> Expected:
    found = stored(run)
    if found is None:
        raise StoreError(
            f"{run} is a slim copy: its texts are gone, and it was made without results of its expectations."
        )
    return found
