"""A copy of a run that is small enough for a CI artefact: `report`, `check` and `compare` read it as the run.

Kept: ids, times (of every chunk too), statuses, kinds of errors, finish reasons, usage, costs, tags, what the
server said of itself, the results of expectations. Left out: texts, bodies, the caller's columns, messages of
errors, response headers. All lines of the journal are there, the superseded ones as well: they were paid for.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Raw, Struct

from reports.expect import RESULTS, Result, expectations, journal_size, stored, stored_results, write_counts
from reports.server_metrics import NAMES, PAGES
from reports.summary import Expected
from runner.store import CURRENT, JOURNAL, MANIFEST, Manifest, StoreError, journal_files, lines, load_manifest
from scenarios.expect import COLUMN

KEPT_RESPONSE = ("model", "provider", "system_fingerprint", "service_tier")
_SEEN = "-"  # stands for a text whose being there is a number's business: tpot counts streamed reasoning
_LEFT_OUT = "(not in a slim copy)"
_NONE = Raw(b"null")


class SlimResult(Struct, kw_only=True):
    """What was copied."""

    path: Path
    lines: int = 0
    bad: int = 0  # lines of the journal that could not be read, and are not in the copy
    before_bytes: int = 0  # of the journal
    after_bytes: int = 0
    expect: Expected | None = None


def slim(run: Path, out: Path) -> SlimResult:
    """Make the copy.

    Args:
        run: the run directory; not changed, but for its own results of expectations.
        out: a folder that is not there yet.

    Raises:
        StoreError: the run cannot be read, or the folder not be written.
    """
    manifest = load_manifest(run)
    if manifest.slim:
        raise StoreError(f"{run} is a slim copy already.")
    if out.exists():
        raise StoreError(f"{out} is there already. Give a folder that is not, with -o.")
    result = SlimResult(path=out)
    beside = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _copy(run, beside, manifest, result)
        beside.rename(out)
    except OSError as exc:
        raise StoreError(f"cannot write {out}: {exc.strerror or exc}. Nothing was left there.") from exc
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return result


def _copy(run: Path, out: Path, manifest: Manifest, result: SlimResult) -> None:
    # Where no row that expects something was measured, there are results still: none.
    expects = manifest.prompts is not None and manifest.prompts.expects > 0
    with (out / JOURNAL).open("wb") as journal:
        for line in _lines(run, result):
            try:
                fields = msgspec.json.decode(line, type=dict[str, Raw])
                expects = expects or COLUMN in _columns(fields)
                written = _slim_line(fields)
            except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
                result.bad += 1
                continue
            journal.write(written + b"\n")
            result.lines += 1
    result.after_bytes = (out / JOURNAL).stat().st_size
    if (run / CURRENT).is_file():
        shutil.copyfile(run / CURRENT, out / CURRENT)
    if (run / PAGES).is_file():
        with (run / PAGES).open("rb") as pages, (out / PAGES).open("wb") as kept:
            _slim_pages(pages, kept)
    if expects:
        result.expect = _copy_results(run, out)
    kept_manifest = msgspec.structs.replace(manifest, slim=True)
    data = msgspec.json.format(msgspec.json.encode(kept_manifest), indent=2) + b"\n"
    (out / MANIFEST).write_bytes(data)


def _lines(run: Path, result: SlimResult) -> Iterator[bytes]:
    for path in journal_files(run):
        result.before_bytes += path.stat().st_size
        for _, line in lines(path):
            yield line


def _columns(fields: dict[str, Raw]) -> dict[str, Raw]:
    return msgspec.json.decode(fields.get("row", Raw(b"{}")), type=dict[str, Raw])


def _slim_line(fields: dict[str, Raw]) -> bytes:
    out: dict[str, Any] = {name: value for name, value in fields.items() if name not in {"request", "row"}}
    out["text"] = ""
    out["reasoning"] = _SEEN if _decoded(fields, "reasoning") else None
    out["refusal"] = out["tool_calls"] = None
    out["extra"], out["row"] = {}, {}
    response = _decoded(fields, "response") or {}
    out["response"] = {name: response[name] for name in KEPT_RESPONSE if name in response}
    out["error"] = _slim_error(_decoded(fields, "error"))
    out["attempts"] = [
        {**attempt, "text": "", "error": _slim_error(attempt.get("error"))}
        for attempt in _decoded(fields, "attempts") or []
    ]
    if "choices" in fields:
        out["choices"] = [_slim_choice(choice) for choice in _decoded(fields, "choices")]
    return msgspec.json.encode(out)


def _decoded(fields: dict[str, Raw], name: str) -> Any:
    return msgspec.json.decode(fields.get(name, _NONE))


def _slim_error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    kept = {name: error.get(name) for name in ("kind", "http_status", "retryable", "timer")}
    return {**kept, "message": _LEFT_OUT, "request_id": None, "excerpt": None}


def _slim_choice(choice: dict[str, Any]) -> dict[str, Any]:
    kept = {name: choice.get(name) for name in ("index", "finish_reason")}
    return {**kept, "text": "", "reasoning": None, "refusal": None, "tool_calls": None}


def _slim_pages(pages: BinaryIO, out: BinaryIO) -> None:
    """Of the server's own metrics, the lines that a report reads."""
    for line in pages:
        try:
            page = msgspec.json.decode(line)
            text = page["text"]
            if isinstance(text, str):
                known = [one for one in text.splitlines() if one.startswith(tuple(NAMES))]
                page["text"] = "\n".join(known) + "\n"
            out.write(msgspec.json.encode(page) + b"\n")
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            out.write(b"{}\n")  # it is counted as a bad line, as it was


def _copy_results(run: Path, out: Path) -> Expected:
    """The results of expectations: words, which hold parts of answers, become names."""
    counts = stored(run) if (run / RESULTS).is_file() else None
    if counts is None:
        counts = expectations(run)
    with (out / RESULTS).open("wb") as kept:
        for result in stored_results(run):
            named: Result = msgspec.structs.replace(result, failures=dict.fromkeys(result.failures, ""))
            kept.write(msgspec.json.encode(named) + b"\n")
    write_counts(out, counts, journal_size(out))
    return counts
