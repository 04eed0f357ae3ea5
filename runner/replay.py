"""A run of our own as a trace: what was asked, and when, to be asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from runner.record import tokens
from runner.store import StoreError, build_index, load_manifest, read_blocks
from scenarios.request import NEVER_IN_IDENTITY
from scenarios.scenario import Scenario
from scenarios.trace import TraceRow, rows_of


class _Asked(msgspec.Struct):
    phase: str
    session: int
    prompt_id: str
    scheduled_at: int | None
    usage: dict[str, Any] | None = None
    usage_partial: dict[str, Any] | None = None
    asked_input_tokens: int | UnsetType = UNSET
    asked_output_tokens: int | UnsetType = UNSET
    request: dict[str, Any] | UnsetType = UNSET


def trace_rows(scenario: Scenario) -> list[TraceRow] | None:
    """What a trace replays; `None` where the load is none.

    Raises:
        ScenarioError, StoreError: it cannot be read.
    """
    load = scenario.load
    if load.executor != "trace" or load.trace is None:
        return None
    return rows_of_run(Path(load.trace)) if Path(load.trace).is_dir() else rows_of(load)


def rows_of_run(run: Path) -> list[TraceRow]:
    """The measured requests of a run's last session, in the order of their times.

    Bodies are replayed where the run kept them (not with `--no-request`); else prompts of the same lengths.

    Raises:
        StoreError: it is no run directory, or has nothing to replay.
    """
    load_manifest(run)
    index = build_index(run)
    found = [
        row
        for block in read_blocks(index, _Asked)
        for row in block
        if row.phase == "measure" and row.scheduled_at is not None
    ]
    # Times of two sessions cannot be compared: a resumed run is replayed as it went last.
    last = max((row.session for row in found), default=0)
    chosen = sorted((row for row in found if row.session == last), key=lambda row: row.scheduled_at or 0)
    if not chosen:
        raise StoreError(f"{run} has no request to replay")
    begin = chosen[0].scheduled_at or 0
    rows = [_row(row, ((row.scheduled_at or 0) - begin) / 1e9) for row in chosen]
    if all(row.body is None and row.input_tokens is None for row in rows):
        raise StoreError(
            f"{run} kept neither its requests (--no-request) nor token counts (usage): there is nothing to "
            "replay it by."
        )
    return rows


def _row(row: _Asked, at_s: float) -> TraceRow:
    count = tokens(row.usage or row.usage_partial)
    asked_input = row.asked_input_tokens if isinstance(row.asked_input_tokens, int) else None
    asked_output = row.asked_output_tokens if isinstance(row.asked_output_tokens, int) else None
    found = TraceRow(
        at_s=at_s,
        input_tokens=count.prompt if asked_input is None else asked_input,
        output_tokens=count.completion if asked_output is None else asked_output,
    )
    if not isinstance(row.request, dict):
        return found  # another text of the same lengths: it must not pair as if it were the same
    return msgspec.structs.replace(
        found,
        body={key: value for key, value in row.request.items() if key not in NEVER_IN_IDENTITY},
        prompt_id=row.prompt_id,
        asked_input_tokens=asked_input,
        asked_output_tokens=asked_output,
    )
