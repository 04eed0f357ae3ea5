"""A run directory as readers see it: the manifest, and the journal with one line an id.

The writing side is `runner/journal.py`. Everything here works while another process is still appending.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from runner.record import SCHEMA_VERSION, Record
from scenarios import digests

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MANIFEST = "run.json"
JOURNAL = "records.jsonl"
PROGRESS = "progress.json"
CURRENT = "current.u64"  # the prompt file as last read: sorted 64-bit digests of its ids
RUNS = Path("runs")
LATEST = "latest"
_SHARD = re.compile(r"records-(\d+)\.jsonl\Z")
_BLOCK = 1 << 20

EndedBy = Literal[
    "finished",
    "interrupted",
    "terminated",
    "circuit_breaker",
    "disk_full",
    "budget",
    "pilot",
    "error",
    "worker_lost",
    "no_nodes",
]


class StoreError(Exception):
    """A run directory that cannot be used as asked. The text says what, where, why and what to do."""


class Session(msgspec.Struct):
    """One start of the command. Times in its records are nanoseconds since `anchor_ns`.

    `ended_at` and `ended_by` stay `None` for a session that was killed.
    """

    number: int
    started: str  # wall clock, ISO 8601, UTC
    anchor_ns: int  # CLOCK_MONOTONIC
    wall_ns: int  # wall clock at the anchor, ns since the epoch
    boot_id: str | None
    host: str
    pid: int
    versions: dict[str, str]
    options: dict[str, Any] = msgspec.field(default_factory=dict)  # concurrency, time-outs, retries
    ended_at: int | None = None
    ended_by: EndedBy | None = None
    reason: str | None = None
    stopped_on: str | None = None  # the error kind that opened the circuit breaker
    reserved_cost: float | None = None  # under --max-cost: what was in flight never exceeded this
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    gauge: dict[str, Any] = msgspec.field(default_factory=dict)
    shard: int | None = None  # whose session it is, where processes share a run (`Manifest.shards`)
    nodes: list[dict[str, Any]] = msgspec.field(default_factory=list)  # its workers on other machines


class PromptFile(msgspec.Struct):
    """Where the prompts came from, as last read."""

    name: str
    sha256: str
    rows: int
    requests: int
    expects: int = 0  # rows that say what they expect of their answer


class Manifest(msgspec.Struct):
    """`run.json`. Holds no key and no secret."""

    kind: Literal["run", "bench"]
    created: str
    scenario: dict[str, Any]
    prompts: PromptFile | None = None
    seed: int | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    sessions: list[Session] = msgspec.field(default_factory=list)
    schema_version: int = SCHEMA_VERSION
    slim: bool = False  # a copy whose texts, bodies and columns were left out
    # Of a run that so many processes share, each with its own part of the rows: `run.json` says what is
    # common, and `run-<i>.json` which sessions shard i has had. Readers see them as one.
    shards: int | None = None
    shard: int | None = None  # whose file this is; `None` in `run.json`


class Progress(msgspec.Struct):
    """What a running process last said of itself, for `status`. Derived: may be stale or missing."""

    pid: int
    session: int
    at_ns: int  # CLOCK_MONOTONIC
    total: int  # requests of this run, those of earlier sessions included
    settled: int  # of them, finished for good
    in_flight: int
    synced_bytes: int  # of the journal, known to be on disk
    state: str
    synced: dict[str, int] = {}  # likewise, of each worker's journal by its name


class Standing(msgspec.Struct):
    """How far the shards of a run are, by their numbers."""

    of: int
    missing: list[int]  # never begun
    open: list[int]  # begun, and their last session did not come to its end


def own_name(name: str, shard: int | None) -> str:
    """Of a file that every shard has for itself: `run.json` -> `run-2.json`. `None`: as it is."""
    stem, dot, suffix = name.rpartition(".")
    return name if shard is None else f"{stem}-{shard}{dot}{suffix}"


def standing(manifest: Manifest) -> Standing | None:
    """How far the shards are; `None` of a run that no processes share."""
    if manifest.shards is None:
        return None
    last = {session.shard: session for session in manifest.sessions}
    begun = [number for number in range(manifest.shards) if number in last]
    return Standing(
        of=manifest.shards,
        missing=[number for number in range(manifest.shards) if number not in last],
        open=[number for number in begun if last[number].ended_by != "finished"],
    )


def load_manifest(run: Path) -> Manifest:
    """Read `run.json`, with the sessions of every shard.

    Raises:
        StoreError: there is none, it is no manifest, or a newer Streamgauge wrote it.
    """
    manifest = read_manifest(run)
    for number in range(manifest.shards or 0):
        if (run / own_name(MANIFEST, number)).exists():
            manifest.sessions += read_manifest(run, number).sessions
    manifest.sessions.sort(key=lambda session: session.number)
    return manifest


def read_manifest(run: Path, shard: int | None = None) -> Manifest:
    """Read `run.json` as it stands, or a shard's own file.

    Raises:
        StoreError: as of `load_manifest`.
    """
    path = run / own_name(MANIFEST, shard)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(
            f"{run} is not a run directory: it has no {path.name}. Name the folder that `run` or `bench` "
            "printed."
        ) from None
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror}") from None
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {version}; this Streamgauge reads up to {SCHEMA_VERSION}. "
                "Upgrade it."
            )
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise StoreError(f"{path} is not a manifest: {exc}. Restore it, or name another folder.") from None


def resolve_run(name: str | None, runs: Path = RUNS) -> Path:
    """The run directory a command was given, or the latest.

    Raises:
        StoreError: there is none.
    """
    if name is None:
        latest = runs / LATEST
        if not latest.exists():
            raise StoreError(f"no RUN given and {latest} does not exist. Name a run directory.")
        return Path(os.path.realpath(latest))
    path = Path(name)
    if not path.is_dir():
        inside = runs / name
        if path.parent == Path() and inside.is_dir():
            return inside
        dataset = path.with_suffix(".run")
        if dataset.is_dir():
            return dataset
        raise StoreError(f"no run directory {name}. Name the folder that `run` or `bench` printed.")
    return path


def journal_files(run: Path) -> list[Path]:
    """The journal's files: one, or one a shard, in shard order."""
    shards = sorted((int(m[1]), p) for p in run.glob("records-*.jsonl") if (m := _SHARD.match(p.name)))
    single = run / JOURNAL
    return ([single] if single.exists() else []) + [p for _, p in shards]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its end) for every whole line; what follows the last `\\n` is left out."""
    with path.open("rb", buffering=0) as file:
        offset, rest = 0, b""
        while block := file.read(_BLOCK):
            parts = (rest + block).split(b"\n") if rest else block.split(b"\n")
            rest = parts.pop()
            for part in parts:
                yield offset, part
                offset += len(part) + 1


class _KeyError(msgspec.Struct, gc=False):
    kind: str
    retryable: bool


# What the index has room for: a number beyond it is damage, and its line a bad one.
_Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Key(msgspec.Struct, gc=False):
    id: str
    index: _Int64
    sample: _Int32
    session: _Int32
    status: str
    cancelled_by: str | None = None
    error: _KeyError | None = None


# What a resumed run does about an id, by its winning line.
OK, FAILED, AGAIN = 0, 1, 2


def _state(key: _Key, stopped_on: dict[int, str]) -> int:
    if key.status == "ok" or key.cancelled_by == "stop_rule":
        return OK
    if key.error is None or key.error.retryable:
        return AGAIN
    # What opened a circuit breaker (a wrong key, say) proved nothing about the prompt it was noticed on.
    return AGAIN if stopped_on.get(key.session) == key.error.kind else FAILED


def _digest(id: str) -> int:  # noqa: A002 (the field's own name)
    if id.startswith(("-", "+")):
        raise ValueError(id)
    return int(id[:16], 16)


class Places(msgspec.Struct):
    """Where lines lie: parallel arrays, in journal order; 10 bytes a line."""

    file: npt.NDArray[np.signedinteger]
    offset: npt.NDArray[np.signedinteger]

    def __len__(self) -> int:
        """How many lines."""
        return len(self.offset)


class Index(msgspec.Struct):
    """Where the winning line of every id lies: the last accepted one (`OK`), else the last.

    The arrays are parallel, in journal order; 16 to 35 bytes an id: integers are as wide as the widest needs.
    """

    run: Path
    files: list[Path]
    file: npt.NDArray[np.signedinteger]
    offset: npt.NDArray[np.signedinteger]
    index: npt.NDArray[np.signedinteger]  # input order
    sample: npt.NDArray[np.signedinteger]
    digest: npt.NDArray[np.uint64]
    session: npt.NDArray[np.signedinteger]
    state: npt.NDArray[np.signedinteger]  # OK, FAILED (for good), AGAIN (a resumed run sends it again)
    superseded: Places  # the other lines of these ids: they count nowhere but in what was paid for
    total_lines: int
    bad_lines: list[tuple[str, int]]  # (file name, offset) of the first hundred lines that do not parse
    bad_count: int

    def __len__(self) -> int:
        """How many ids."""
        return len(self.offset)


def build_index(
    run: Path,
    end: dict[str, int] | None = None,
    stopped_on: dict[int, str] | None = None,
    files: list[Path] | None = None,
) -> Index:
    """One pass over the journal.

    Args:
        run: the run directory.
        end: per file name, the byte to stop before (what is known to be on disk); default: all whole lines.
        stopped_on: the error kind that opened the circuit breaker, by session (`Session.stopped_on`).
        files: of the journal, where not all of them count.
    """
    files = journal_files(run) if files is None else files
    decode = msgspec.json.Decoder(_Key).decode
    columns = _Columns()
    bad: list[tuple[str, int]] = []
    bad_count = 0
    for number, path in enumerate(files):
        stop = (end or {}).get(path.name)
        for offset, line in lines(path):
            if stop is not None and offset >= stop:
                break
            try:
                key = decode(line)
                digest = _digest(key.id)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                bad_count += 1
                if len(bad) < 100:
                    bad.append((path.name, offset))
                continue
            state = _state(key, stopped_on or {})
            columns.add((digest, offset, key.index, key.sample, key.session, number, state))
    found = columns.whole()
    total = len(found["digest"])
    won, lost = _winners(found["digest"], found["state"], found["session"])
    superseded = Places(file=found["file"][lost], offset=found["offset"][lost])
    if len(lost):
        found = {name: values[won] for name, values in found.items()}
    return Index(
        run=run,
        files=files,
        **found,
        superseded=superseded,
        total_lines=total,
        bad_lines=bad,
        bad_count=bad_count,
    )


class _Columns:
    """Rows in, the columns of an index out, without a moment at which both are there as a whole."""

    _TYPES = (
        ("digest", "u8"),
        ("offset", "i8"),
        ("index", "i8"),
        ("sample", "i4"),
        ("session", "i4"),
        ("file", "i2"),
        ("state", "u1"),
    )

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        # Bytes that grow in place: pieces to be joined later would be there twice, and leave holes.
        self._data = {name: bytearray() for name, _ in self._TYPES}
        self._types = {name: "u8" if name == "digest" else "i1" for name, _ in self._TYPES}

    def add(self, row: tuple[int, int, int, int, int, int, int]) -> None:
        self._rows.append(row)
        if len(self._rows) >= 8192:
            self._pack()

    def _pack(self) -> None:
        import numpy as np

        table = np.array(self._rows, dtype=list(self._TYPES))
        self._rows.clear()
        for name, data in self._data.items():
            kind = self._types[name]
            if kind != "u8" and len(table):
                wider = _wide_enough(kind, int(table[name].min()), int(table[name].max()))
                if wider != kind:
                    data[:] = np.frombuffer(data, dtype=kind).astype(wider).tobytes()
                    kind = self._types[name] = wider
            data.extend(table[name].astype(kind).tobytes())

    def whole(self) -> dict[str, npt.NDArray[Any]]:
        import numpy as np

        self._pack()
        return {name: np.frombuffer(data, dtype=self._types[name]) for name, data in self._data.items()}


def _wide_enough(kind: str, low: int, high: int) -> str:
    """The signed type that holds both, and no narrower than `kind`."""
    for bits in (8, 16, 32):
        if f"i{bits // 8}" >= kind and -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return f"i{bits // 8}"
    return "i8"


def _winners(
    ids: npt.NDArray[np.uint64], states: npt.NDArray[Any], sessions: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places of the lines that count, in journal order, and of those that do not.

    What counts is an id's last accepted line, else its last. What a stop rule cut is accepted, too. Both are
    empty where no id has two lines: all count.
    """
    import numpy as np

    none = np.empty(0, dtype=np.int64)
    in_order = np.sort(ids)
    if not (in_order[1:] == in_order[:-1]).any():
        return none, none
    del in_order
    order = np.lexsort((np.arange(len(ids)), sessions, states == OK, ids))
    in_order = ids[order]
    last = np.ones(len(ids), dtype=bool)
    last[:-1] = in_order[1:] != in_order[:-1]
    return np.sort(order[last]), np.sort(order[~last])


T = TypeVar("T")


def read_blocks(
    index: Index,
    row_type: type[T] = Record,  # type: ignore[assignment]
    *,
    order: Literal["journal", "input"] = "journal",
    block: int = 1000,
) -> Iterator[list[T]]:
    """The winning records, decoded as `row_type` (a struct of the fields you need), in blocks.

    Args:
        index: from `build_index`.
        row_type: `Record`, or a leaner `msgspec.Struct` with some of its fields; unknown ones are skipped.
            `msgspec.Raw`: the lines as they stand, their end included, not decoded again.
        order: `journal` (completion order) or `input` (row, then sample).
        block: records a block.
    """
    import numpy as np

    places: Places | Index = index
    if order == "input":
        chosen = np.lexsort((index.sample, index.index))
        places = Places(index.file[chosen], index.offset[chosen])
    return _read(index.files, places, row_type, block)


def read_superseded(
    index: Index,
    row_type: type[T] = Record,  # type: ignore[assignment]
    *,
    block: int = 1000,
) -> Iterator[list[T]]:
    """The lines that lost to another of their id, as `read_blocks` gives those that won; in journal order."""
    return _read(index.files, index.superseded, row_type, block)


def _read(files: list[Path], places: Places | Index, row_type: type[T], block: int) -> Iterator[list[T]]:
    # `Raw` is the line itself: the index has seen that it is JSON.
    decode: Any = msgspec.Raw if row_type is msgspec.Raw else msgspec.json.Decoder(row_type).decode
    handles = [path.open("rb", buffering=1 << 16) for path in files]
    try:
        for start in range(0, len(places), block):
            stop = start + block
            out: list[T] = []
            for number, offset in zip(
                places.file[start:stop].tolist(), places.offset[start:stop].tolist(), strict=True
            ):
                handle = handles[number]
                if handle.tell() != offset:
                    handle.seek(offset)
                out.append(decode(handle.readline()))
            yield out
    finally:
        for handle in handles:
            handle.close()


def current_ids(run: Path) -> npt.NDArray[np.uint64] | None:
    """Sorted digests of the ids in the prompt file as last read, or `None` where the run did not say.

    Raises:
        StoreError: the file is cut or cannot be read.
    """
    import numpy as np

    path = run / CURRENT
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror}") from None
    if len(data) % 8:
        raise StoreError(f"{path} is cut short. Start `run` again to rebuild it, or export with --all.")
    return np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False)


def inside(values: npt.NDArray[np.uint64], among: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of `values` stand in the sorted `among`."""
    return digests.inside(values, among)
