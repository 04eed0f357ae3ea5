"""The two passes over a prompt file.

First, `scan` reads and checks every row, builds every body and its id, and
returns a Plan: counts, what is wrong, and a sorted 64-bit digest a request.
Then the caller sends what `plan.builder()` makes of the same file:

    source = open_source("prompts.jsonl")
    settings = Settings(model="m", max_tokens=64)
    plan = scan(source, settings)                       # PromptError: nothing can be sent at all
    if plan.bad_count and not plan.skip_bad_rows: ...   # print plan.bad, exit 2
    builder = plan.builder()
    for block in plan.blocks():                         # next() may wait for the disk: in a thread
        for request in builder.feed(block): ...         # lazy and pure: one request a next()
    for request in builder.end(): ...

Only `blocks` waits for the disk; `feed` and `end` never do, so that they may run on an event loop.

Memory: 8 bytes a row (16 with custom_ids, while reading), 8 bytes a request in
the plan, a few arrays of that length for a moment in between. Nothing else grows
with the file.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from scenarios.bodies import NO_MODEL, BodyBuilder, Built, NoModelError, Settings
from scenarios.digests import digest_of, place_of, repeated, request_digests, rows_done, with_gaps
from scenarios.expect import check_expect
from scenarios.formats import BadRow, Row, RowError, decoder
from scenarios.request import Api, Request, body_digest, prompt_id, request_id
from scenarios.source import Block, PromptError, Source, Stamp, blocks, file_sha256, stamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called after each block with the rows and the bytes read so far (bytes stay 0 for Parquet)."""

Check = Callable[[dict[str, Any]], str | None]
"""Why a body cannot be sent as things stand; `None` where it can."""

_NAMES_KEPT = 100


class Duplicate(msgspec.Struct, frozen=True):
    """A custom_id that stands in more than one row."""

    custom_id: str
    line: int
    """Of a later row."""
    first_line: int


class Plan(msgspec.Struct, frozen=True, eq=False):
    """What the first pass found: everything about the requests but the requests themselves."""

    source: Source
    settings: Settings
    skip_bad_rows: bool
    limit: int | None
    stamp: Stamp
    sha256: str
    """Of the whole file, whatever the limit."""

    rows: int
    """Rows read, good and bad, within the limit."""
    requests: int
    """Good rows times samples."""
    digests: "NDArray[np.uint64]"
    """`digest64` of every request's id, sorted."""
    in_order: "array[int]"
    """First 64 bits of every row's body digest, in the order of the file; 0 for a bad row. See `builder`."""
    repeats: "array[int]"
    """First 64 bits of the body digests that more than one row has, sorted."""
    unjudged: "array[int]"
    """Places of rows whose body is good and whose `expect` is not: bad rows, too."""
    expects: int
    """Good rows that say what they expect of their answer."""

    bad: tuple[BadRow, ...]
    """The first of them."""
    bad_count: int
    missing_columns: dict[str, int]
    """Columns the template asked for in vain: in how many rows."""

    bodies: tuple[dict[str, Any], ...]
    """The first bodies, for a look at them."""
    columns: dict[str, int]
    """The caller's columns, with the number of rows that have them (the first 100 names)."""
    fields: dict[str, int]
    """Columns that went into bodies, with the number of rows."""
    apis: dict[Api, int]
    models: dict[str, int]
    """Models that will be asked, with the number of rows (the first 100)."""
    model_overridden: int
    """Rows that name another model than `settings.model`, which won."""
    whole_bodies: int
    """Rows that give their body whole: parameters and system do not apply to them."""
    unfit: int
    """Good rows whose body the caller's own check refused."""
    first_unfit: BadRow | None
    """The first of them, with the reason."""
    repeated: int
    """Rows whose body an earlier row already has. Each is sent."""
    duplicate_custom_ids: int
    """Rows whose custom_id an earlier row already has."""
    duplicates: tuple[Duplicate, ...]
    """The first of them."""

    def blocks(self) -> Iterator[Block]:
        """Yield the file's blocks for the second pass; PromptError where the file is not the one scanned."""
        return blocks(self.source, unchanged_since=self.stamp)

    def builder(self, done: "NDArray[np.uint64] | None" = None) -> "Builder":
        """Return a fresh maker of the requests that were planned.

        `done`: sorted `digest64` of requests nobody needs. Rows all of whose requests are among them are
        passed over. Of the others, and of rows that stand several times, every request is made, done or not.
        What tells which rows those are is given up then: a second call with `done` passes over none.
        """
        passed = b""
        if done is not None:
            if len(done) and self.in_order:
                passed = rows_done(self.in_order, done, self.repeats, self.settings.samples).tobytes()
            del self.in_order[:]  # 8 bytes a row
        return Builder(self, passed)

    def forget_ids(self) -> None:
        """Give up `digests` and `in_order`, 16 bytes a request: for when nothing is sent any more."""
        msgspec.structs.force_setattr(self, "digests", self.digests[:0].copy())
        del self.in_order[:]

    def check_unchanged(self) -> None:
        """Raise PromptError where the file is not the one that was scanned (size, time, inode)."""
        if stamp(self.source) != self.stamp:
            raise PromptError(
                "the file changed since it was checked",
                file=self.source.path,
                hint="start again to read it anew",
            )


class Builder:
    """Blocks in, requests out, in the order of the file and with the ids of the plan.

    The caller uses up each iterator before the next block. Bad rows make no
    requests. `done` turns true where the plan's limit is reached: no block more is needed.
    """

    def __init__(self, plan: Plan, done: bytes = b"") -> None:
        self._done = done  # a byte a row: 1 where none of its requests is needed
        self._decoder = decoder(plan.source)
        self._bodies = BodyBuilder(plan.settings, plan.source.format)
        self._samples = range(plan.settings.samples)
        self._limit = plan.limit
        self._repeats = plan.repeats
        self._unjudged = plan.unjudged
        # How many rows with a repeated body have gone by: the only thing here that grows with repeats.
        self._seen = array("L", bytes(array("L").itemsize * len(plan.repeats)))
        self.done = False

    def feed(self, block: Block) -> Iterator[Request]:
        """Yield the requests of the rows that are complete with this block."""
        return self._requests(self._decoder.feed(block))

    def end(self) -> Iterator[Request]:
        """Yield the requests of what the last block left."""
        return self._requests(self._decoder.end())

    def _requests(self, rows: Iterator[Row | BadRow]) -> Iterator[Request]:
        if self.done:
            return
        for row in rows:
            if self._limit is not None and row.index >= self._limit:
                self.done = True
                return
            if self._done and self._done[row.index]:
                continue
            if type(row) is Row and place_of(self._unjudged, row.index) is None:
                yield from self._of(row)

    def _of(self, row: Row) -> Iterator[Request]:
        try:
            built = self._bodies.build(row.columns)
            digest = body_digest(built.api, built.body)
        except (RowError, UnicodeEncodeError):
            return
        occurrence = self._occurrence(digest >> 64)
        prompt = prompt_id(built.body)
        for sample in self._samples:
            yield Request(
                request_id(digest, occurrence, sample),
                prompt,
                row.index,
                sample,
                built.custom_id,
                built.api,
                built.body,
                built.row,
            )

    def _occurrence(self, digest: int) -> int:
        place = place_of(self._repeats, digest)
        if place is None:
            return 0
        occurrence = self._seen[place]
        self._seen[place] += 1
        return occurrence


def scan(
    source: Source,
    settings: Settings,
    *,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    show: int = 3,
    max_bad: int = 20,
    progress: Progress | None = None,
    check: Check | None = None,
) -> Plan:
    """Read and check every row. Bad rows are counted and the first kept; what they mean is the caller's."""
    if limit is not None and limit < 1:
        raise PromptError(f"limit is {limit}", hint="1 or more")
    before = stamp(source)
    tally = _Tally(BodyBuilder(settings, source.format), source.unit, show, max_bad, check)
    checksum = _read(source, before, tally, limit, progress)
    if tally.rows == 0:
        raise PromptError("the file has no rows", file=source.path, hint="it needs at least one prompt")
    if tally.no_model and not tally.good:
        raise PromptError(NO_MODEL, file=source.path)
    twice, again = repeated(tally.custom_ids)
    tally.custom_ids = array("Q")  # 8 bytes a row, and the next lines need as much
    in_order = with_gaps(tally.digests, tally.bad_places)
    repeats, repeated_rows = repeated(tally.digests)
    digests = request_digests(tally.digests, settings.samples)
    return Plan(
        source=source,
        settings=settings,
        skip_bad_rows=skip_bad_rows,
        limit=limit,
        stamp=before,
        sha256=checksum,
        rows=tally.rows,
        requests=len(digests),
        digests=digests,
        in_order=in_order,
        repeats=repeats,
        unjudged=tally.unjudged,
        expects=tally.expects,
        bad=tuple(tally.bad),
        bad_count=tally.bad_count,
        missing_columns=dict(tally.missing),
        bodies=tuple(tally.bodies),
        columns=dict(tally.columns),
        fields=dict(tally.fields),
        apis=dict(tally.apis),
        models=dict(tally.models),
        model_overridden=tally.overridden,
        whole_bodies=tally.whole,
        unfit=tally.unfit,
        first_unfit=tally.first_unfit,
        repeated=repeated_rows,
        duplicate_custom_ids=again,
        duplicates=tuple(_examples(source, twice, limit)) if twice else (),
    )


class _Tally:
    """What the first pass counts, row by row."""

    def __init__(self, builder: BodyBuilder, unit: Any, show: int, max_bad: int, check: Check | None) -> None:
        self._builder, self._unit, self._show, self._max_bad = builder, unit, show, max_bad
        self._check = check
        self.rows = self.good = self.bad_count = self.no_model = self.overridden = self.whole = 0
        self.unfit = 0
        self.first_unfit: BadRow | None = None
        self.bad: list[BadRow] = []
        self.bodies: list[dict[str, Any]] = []
        self.missing: Counter[str] = Counter()
        self.columns: Counter[str] = Counter()
        self.fields: Counter[str] = Counter()
        self.apis: Counter[Api] = Counter()
        self.models: Counter[str] = Counter()
        self.digests = array("Q")  # of good rows, in the order of the file
        self.bad_places = array("Q")
        self.unjudged = array("Q")
        self.expects = 0
        self.custom_ids = array("Q")

    def add(self, row: Row | BadRow) -> None:
        self.rows += 1
        if type(row) is BadRow:
            self._refuse(row)
            return
        assert type(row) is Row
        try:
            built = self._builder.build(row.columns)
            digest = body_digest(built.api, built.body) >> 64
            expects = self._expects(built, row.index)
        except RowError as error:
            self.no_model += isinstance(error, NoModelError)
            if error.missing is not None:
                self._count(self.missing, (error.missing,))
            self._refuse(error.at(row.line, row.index, self._unit))
        except UnicodeEncodeError:
            self._refuse(RowError("half a surrogate pair is no text").at(row.line, row.index, self._unit))
        else:
            self.digests.append(digest)
            self.expects += expects
            self._accept(built)
            why = None if self._check is None else self._check(built.body)
            if why is not None:
                self.unfit += 1
                self.first_unfit = self.first_unfit or RowError(why).at(row.line, row.index, self._unit)

    def _expects(self, built: Built, index: int) -> bool:
        # Checked in this pass only: a schema takes longer to check than the loop that sends may stand still.
        try:
            return check_expect(built.row)
        except RowError:
            self.unjudged.append(index)
            raise

    def _accept(self, built: Built) -> None:
        self.good += 1
        self.overridden += built.overrode
        self.whole += built.whole
        self.apis[built.api] += 1
        self._count(self.models, (built.body["model"],))
        self._count(self.columns, built.row)
        self._count(self.fields, built.fields)
        if built.custom_id is not None:
            self.custom_ids.append(digest_of(built.custom_id))
        if len(self.bodies) < self._show:
            self.bodies.append(built.body)

    def _count(self, counter: Counter[str], names: Any) -> None:
        for name in names:
            if name in counter or len(counter) < _NAMES_KEPT:
                counter[name] += 1

    def _refuse(self, bad: BadRow) -> None:
        self.bad_count += 1
        self.bad_places.append(self.rows - 1)
        if len(self.bad) < self._max_bad:
            self.bad.append(bad)


def _read(source: Source, before: Stamp, tally: _Tally, limit: int | None, progress: Progress | None) -> str:
    """Show every row to the tally and return the file's digest, which covers what a limit leaves out."""
    checksum, read, rows = sha256(), 0, decoder(source)
    is_bytes = source.format != "parquet"

    def take(more: Iterator[Row | BadRow]) -> None:
        for row in more:
            if limit is not None and row.index >= limit:
                return
            tally.add(row)

    for block in blocks(source, unchanged_since=before):
        if is_bytes:
            checksum.update(block)
            read += len(block)
        if limit is None or tally.rows < limit:
            take(rows.feed(block))
        if progress is not None:
            progress(tally.rows, read)
    if limit is None or tally.rows < limit:
        take(rows.end())
    return checksum.hexdigest() if is_bytes else file_sha256(source)


def _examples(source: Source, wanted: "array[int]", limit: int | None, show: int = 5) -> list[Duplicate]:
    """Read the file again, up to the first few rows that repeat a custom_id, to name what digests cannot."""
    found: list[Duplicate] = []
    first: dict[str, int] = {}
    for row in islice(_rows(source), limit):
        custom_id = row.columns.get("custom_id") if type(row) is Row else None
        if custom_id is None:
            continue
        name = str(custom_id)
        if name in first:
            found.append(Duplicate(custom_id=name, line=row.line, first_line=first[name]))
            if len(found) == show:
                break
        elif len(first) < show and place_of(wanted, digest_of(name)) is not None:
            first[name] = row.line
    return found


def _rows(source: Source) -> Iterator[Row | BadRow]:
    rows = decoder(source)
    for block in blocks(source):
        yield from rows.feed(block)
    yield from rows.end()
