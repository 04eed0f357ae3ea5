"""The rows of a prompt file, all of them, as a bench sends them: from the start again where they run out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from scenarios.bodies import WAYS, BodyBuilder, Built, Settings
from scenarios.dialogue import Count, Dialogue, of_row, read_sharegpt
from scenarios.expect import check_expect
from scenarios.formats import BadRow, Columns, Row, RowError, decoder
from scenarios.source import PromptError, Source, blocks, file_sha256, open_source

SHAREGPT = "sharegpt"
_SHOWN = 3


class FileRow(msgspec.Struct, frozen=True):
    """A row of a file: its body without a limit of the answer, unless it is the row's own."""

    built: Built
    dialogue: Dialogue | None = None
    """Where it is sent turn by turn; the body is that of the first turn."""
    answer_tokens: int | None = None
    """Of the recorded answer, where there is one."""
    expects: bool = False
    """Whether it says what it expects of its answer."""


class FileRows(msgspec.Struct, frozen=True):
    """A file, read to its end."""

    path: str
    format: str
    sha256: str
    rows: tuple[FileRow, ...]
    left_out: int


def read_rows(
    path: str,
    format: str | None,  # noqa: A002
    settings: Settings,
    *,
    multi_turn: bool = False,
    skip_bad_rows: bool = False,
    count: Count | None = None,
) -> FileRows:
    """Read a prompt file whole.

    Args:
        path: of the file.
        format: as `run` knows them, or "sharegpt"; by the name's ending where it is not given.
        settings: what all rows have in common, without a limit of the answer.
        multi_turn: whether rows are conversations, to be sent turn by turn.
        skip_bad_rows: whether rows that cannot be sent are left out, and not an error.
        count: tokens of a text, for the length of recorded answers.

    Raises:
        PromptError: the file or one of its rows cannot be used.
    """
    if format == SHAREGPT:
        return _sharegpt(path, settings, multi_turn, count)
    source = open_source(path, format)
    builder = BodyBuilder(settings, source.format)
    rows: list[FileRow] = []
    bad: list[BadRow] = []
    for row in _decoded(source):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            made = _of_columns(row.columns, builder, multi_turn, count)
            rows.append(msgspec.structs.replace(made, expects=check_expect(made.built.row)))
        except RowError as error:
            bad.append(error.at(row.line, row.index, source.unit))
    if bad and not (skip_bad_rows and rows):
        raise _bad_rows(path, bad, len(rows) + len(bad))
    if not rows:
        raise PromptError("the file has no rows", file=path, hint="it needs at least one prompt")
    return FileRows(path, source.format, file_sha256(source), tuple(rows), len(bad))


def _decoded(source: Source) -> Iterator[Row | BadRow]:
    rows = decoder(source)
    for block in blocks(source):
        yield from rows.feed(block)
    yield from rows.end()


def _of_columns(columns: Columns, builder: BodyBuilder, multi_turn: bool, count: Count | None) -> FileRow:
    turns = columns.get("turns")
    if isinstance(turns, list) and all(columns.get(way) is None for way in WAYS):
        dialogue = of_row({**columns, "prompt": None, "messages": None}, count)
        columns = {name: value for name, value in columns.items() if name not in ("turns", "system")}
    elif multi_turn and columns.get("body") is None:
        dialogue = of_row(columns, count)
    else:
        return FileRow(builder.build(columns))
    opening = {name: value for name, value in columns.items() if name != "prompt"}
    built = builder.build({**opening, "messages": dialogue.opening})
    return FileRow(built, dialogue if multi_turn else None, dialogue.turns[0].answer_tokens)


def _sharegpt(path: str, settings: Settings, multi_turn: bool, count: Count | None) -> FileRows:
    dialogues, left_out = read_sharegpt(path, count)
    builder = BodyBuilder(settings)
    rows = []
    for dialogue in dialogues:
        columns: dict[str, Any] = {"messages": dialogue.opening, "custom_id": dialogue.name}
        if settings.api == "completions":
            columns = {"prompt": dialogue.turns[0].message["content"], "custom_id": dialogue.name}
        try:
            built = builder.build(columns)
        except RowError as error:
            raise PromptError(error.reason, file=path) from error
        rows.append(FileRow(built, dialogue if multi_turn else None, dialogue.turns[0].answer_tokens))
    digest = file_sha256(Source(str(Path(path)), "jsonl"))
    return FileRows(path, SHAREGPT, digest, tuple(rows), left_out)


def _bad_rows(path: str, bad: list[BadRow], rows: int) -> PromptError:
    shown = "; ".join(map(str, bad[:_SHOWN]))
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return PromptError(
        f"{len(bad)} of {rows} rows cannot be sent: {shown}{more}",
        file=path,
        hint="mend them or take them out",
    )
