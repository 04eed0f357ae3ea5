"""The runs of a comparison, read: what each says, which belong together, and which cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct, UnsetType, field

from reports.comparison import CompareError, Dropped
from reports.distribution import Values
from reports.frame import frame
from reports.metrics import summarize
from reports.rows import Row, decoded, open_index
from reports.summary import Summary
from reports.validity import only_failed
from runner.store import Manifest, load_manifest

FEWEST_PAIRS = 3
_KEY = np.dtype([("index", "i8"), ("sample", "i4"), ("turn", "i4")])
Keys = npt.NDArray[np.void]


class Asked(Struct):
    """Every request of a run by its place in the workload, warm-up included, sorted by that."""

    key: Keys
    prompt: npt.NDArray[np.uint64]  # first 64 bits of its prompt_id
    scheduled_ns: npt.NDArray[np.int64]  # since the schedule's begin; of open loops


class Run(Struct):
    """One run directory."""

    path: Path
    manifest: Manifest
    summary: Summary
    asked: Asked
    output_tokens: Values
    values: dict[str, Values]  # of the metrics asked for, all requests
    series: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)  # in the order of sending

    @property
    def name(self) -> str:
        """As it was named."""
        return str(self.path)


class _Row(Row):
    """With what tells one prompt from another."""

    prompt_id: str = ""


def read_run(path: Path, metrics: Sequence[str] = (), *, series: bool = False) -> Run:
    """Read a run directory.

    Args:
        path: of the run.
        metrics: times to keep the whole distribution of.
        series: keep every value of them as well, in the order of sending.

    Raises:
        StoreError: it is no run directory, or cannot be read.
        CompareError: it holds no measured request.
    """
    manifest, summary = load_manifest(path), summarize(path)
    if not summary.requests.total:
        raise CompareError(
            f"{path} holds no measured request{_of_warmup(summary)}: there is nothing to compare. "
            "Run it again, or leave it out."
        )
    run = Run(path, manifest, summary, _no_requests(), Values(), {name: Values() for name in metrics})
    kept: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in metrics}
    asked: list[Asked] = []
    for rows in decoded(open_index(path), _Row, order="input"):
        asked.append(_asked(rows))
        block = frame([r for r in rows if r.phase == "measure" and r.status == "ok"])
        run.output_tokens.add(block["completion_tokens"].to_numpy(dtype=np.float64, na_value=np.nan))
        for name in metrics:
            found = block[f"{name}_ms"].to_numpy(dtype=np.float64)[block["streamed"].to_numpy(dtype=bool)]
            run.values[name].add(found)
            kept[name].append(found[~np.isnan(found)])
    run.asked = _sorted(asked, _schedule_begin(summary))
    if series:
        run.series = {name: np.concatenate(parts) for name, parts in kept.items() if parts}
    return run


def _of_warmup(summary: Summary) -> str:
    return f" ({summary.requests.warmup:,} of warm-up)" if summary.requests.warmup else ""


def _schedule_begin(summary: Summary) -> int:
    load = summary.bench.load if summary.bench else None
    return (load.schedule_begin_ns or 0) if load else 0


def _no_requests() -> Asked:
    return Asked(np.empty(0, _KEY), np.empty(0, np.uint64), np.empty(0, np.int64))


def _asked(rows: Sequence[_Row]) -> Asked:
    """Of a block: 32 bytes a request, where Python's own numbers would take ten times that."""
    keys = [(r.index, r.sample, -1 if isinstance(r.turn, UnsetType) else r.turn) for r in rows]
    return Asked(
        np.array(keys, dtype=_KEY),
        np.array([int(r.prompt_id[:16] or "0", 16) for r in rows], dtype=np.uint64),
        np.array([r.scheduled_at or 0 for r in rows], dtype=np.int64),
    )


def _sorted(blocks: Sequence[Asked], begin_ns: int) -> Asked:
    key = np.concatenate([block.key for block in blocks])
    order = np.argsort(key, order=("index", "sample", "turn"))
    return Asked(
        key[order],
        np.concatenate([block.prompt for block in blocks])[order],
        np.concatenate([block.scheduled_ns for block in blocks])[order] - begin_ns,
    )


def once(groups: Sequence[Sequence[Run]]) -> list[list[Run]]:
    """Groups of runs, none of which is in two of them: a run that counts twice makes chance look small."""
    seen: set[Path] = set()
    out: list[list[Run]] = []
    for group in groups:
        out.append([run for run in group if run.path.resolve() not in seen])
        seen |= {run.path.resolve() for run in group}
    return out


class Sides(Struct):
    """The runs that are judged. Where they are paired, they stand in the same order on both sides."""

    base: list[Run]
    new: list[Run]
    paired: bool
    dropped: list[Dropped]
    unfit: str | None = None


def check(base: Sequence[Run], new: Sequence[Run]) -> None:
    """Refuse what no statistics can mend.

    Raises:
        CompareError: a side without runs, or runs of different schema versions.
    """
    for side, runs in (("BASE", base), ("NEW", new)):
        if not runs:
            raise CompareError(f"{side} names no run directory")
    first = base[0]
    for run in (*base, *new):
        if run.manifest.schema_version != first.manifest.schema_version:
            raise CompareError(
                f"{run.name} has schema version {run.manifest.schema_version}, {first.name} has "
                f"{first.manifest.schema_version}: what they recorded is not the same thing. "
                "Measure the older ones again with this version."
            )


def arrange(base: list[Run], new: list[Run], paired: bool | None, *, shares: bool = True) -> Sides:
    """Pair the runs where they are pairs, and drop those that are INVALID.

    A run of NEW in which every request failed stays, if its client was fit: that is the server's doing, and
    what a share of failures is there to show. One of BASE is dropped: there is nothing to hold NEW to.

    Args:
        base, new: the runs of each side.
        paired: whether they are pairs; `None`: as their tags say.
        shares: a share that counts failures is judged.

    Raises:
        CompareError: pairs were asked for, and there are none.
    """
    bad = {id(run) for run in base if is_invalid(run)}
    bad |= {id(run) for run in new if is_invalid(run) and not (shares and only_failed(run.summary))}
    pairs = _pairs(base, new, paired)
    if pairs is None:
        dropped = [_drop(run, "base", None) for run in base if id(run) in bad]
        dropped += [_drop(run, "new", None) for run in new if id(run) in bad]
        left = [[run for run in side if id(run) not in bad] for side in (base, new)]
        return Sides(left[0], left[1], False, dropped, _no_side(base, new, left))
    dropped = []
    kept: list[tuple[Run, Run]] = []
    for name, one, other in pairs:
        if id(one) in bad:
            dropped.append(_drop(one, "base", name))
        if id(other) in bad:
            dropped.append(_drop(other, "new", name))
        if not {id(one), id(other)} & bad:
            kept.append((one, other))
    sides = Sides([one for one, _ in kept], [other for _, other in kept], True, dropped)
    if len(kept) < FEWEST_PAIRS:
        sides.unfit = f"{len(kept)} of {len(pairs)} pairs are valid, and a verdict takes {FEWEST_PAIRS}"
        sides.unfit += _unanswered(base, new, bad)
    return sides


def _no_side(base: list[Run], new: list[Run], left: list[list[Run]]) -> str | None:
    """Why there is nothing to judge by, or nothing to judge."""
    empty = [(name, runs) for name, runs, kept in zip(_NAMES, (base, new), left, strict=True) if not kept]
    if not empty:
        return None
    told = f"no run of {' and '.join(name for name, _ in empty)} is valid"
    if all(only_failed(run.summary) for _, runs in empty for run in runs):
        return f"{told}: every request failed"
    return f"{told}: its client was not fit to measure this"


def _unanswered(base: list[Run], new: list[Run], bad: set[int]) -> str:
    """That a whole side failed: no other client would mend that."""
    found = [
        name
        for name, runs in zip(_NAMES, (base, new), strict=True)
        if all(id(run) in bad and only_failed(run.summary) for run in runs)
    ]
    return f": every request of {' and '.join(found)} failed" if found else ""


_NAMES = ("BASE", "NEW")


def is_invalid(run: Run) -> bool:
    """Whether its client was not fit to measure it, or nothing succeeded."""
    bench = run.summary.bench
    return bench is not None and bench.validity.level == "INVALID"


def _drop(run: Run, side: Literal["base", "new"], pair: str | None) -> Dropped:
    assert run.summary.bench is not None
    reasons = [r for r in run.summary.bench.validity.reasons if r.level == "INVALID"]
    return Dropped(
        run=run.name,
        side=side,
        pair=pair,
        words=" ".join(reason.words for reason in reasons),
        answered=all(reason.check != "nothing_succeeded" for reason in reasons),
        next_steps=[reason.next_step for reason in reasons],
    )


def _pairs(base: list[Run], new: list[Run], paired: bool | None) -> list[tuple[str, Run, Run]] | None:
    """(name, base, new) of each pair; `None` where they are none. One run a side is no pair to learn from."""
    if paired is False:
        return None
    by_tag = _by_tag(base), _by_tag(new)
    if by_tag[0] is not None and by_tag[1] is not None:
        names = [name for name in by_tag[0] if name in by_tag[1]]
        complete = len(names) == len(base) == len(new)
        if len(names) >= 2 and (complete or paired):
            return [(name, by_tag[0][name], by_tag[1][name]) for name in names]
    if not paired:
        return None
    if len(base) != len(new):
        raise CompareError(
            f"{len(base)} runs cannot be paired with {len(new)}. Name as many on each side, in the same "
            "order, or tag them (pair=1, side=a)."
        )
    return [(str(n), one, other) for n, (one, other) in enumerate(zip(base, new, strict=True), 1)]


def _by_tag(runs: list[Run]) -> dict[str, Run] | None:
    """By their tag `pair`, where each has one of its own."""
    names = [run.manifest.tags.get("pair") for run in runs]
    if None in names or max(Counter(names).values(), default=0) > 1:
        return None
    return {str(name): run for name, run in zip(names, runs, strict=True)}
