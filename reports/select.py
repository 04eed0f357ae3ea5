"""`metric{key:value}`: which records a threshold speaks of, and its numbers of them.

Where a key is looked for, the first that has it:
1. `kind` of an error (metric `errors` only), `scenario` (its name), and of the record itself `turn`,
   `sample`, `session`, `finish_reason`, `base_url`
2. `row.KEY` is the caller's column KEY, `tag.KEY` the run's tag KEY
3. the caller's column of that name, where the record's row has one
4. the run's tag of that name

Values are compared as text: numbers, true and false as they stand in JSON; null is no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import Raw, UnsetType, field

from reports.distribution import Distribution, Values
from reports.frame import gaps_us
from reports.rows import Row
from reports.summary import POOLED, RATES, Hits
from runner.store import Manifest
from scenarios.thresholds import Threshold

_OWN = {
    "turn": attrgetter("turn"),
    "sample": attrgetter("sample"),
    "session": attrgetter("session"),
    "finish_reason": attrgetter("finish_reason"),
    "base_url": attrgetter("connection.base_url"),
}
OWN_KEYS = ("kind", "scenario", *_OWN)
"""Keys that a caller's column of that name does not shadow."""


class SelectedRow(Row):
    """A row with the caller's own columns: only decoded where a selector may ask for them."""

    row: dict[str, Raw] = field(default_factory=dict)


class Selectable(Protocol):
    """What a selector looks at."""

    row: dict[str, Raw]


def value_text(value: Any) -> str | None:
    """A value as a selector writes it."""
    if isinstance(value, Raw):
        data = bytes(value)
        if data == b"null":
            return None
        return msgspec.json.decode(data, type=str) if data[:1] == b'"' else data.decode()
    return None if value is None or isinstance(value, UnsetType) else str(value)


class Matcher:
    """Says which records a selector names."""

    def __init__(self, manifest: Manifest) -> None:
        self._tags = manifest.tags
        name = manifest.scenario.get("name")
        self._scenario = name if isinstance(name, str) else None

    def matches(self, record: Selectable, selector: dict[str, str]) -> bool:
        """Whether all keys of a selector have their value."""
        return all(self._value(record, key) == value for key, value in selector.items())

    def _value(self, record: Selectable, key: str) -> str | None:
        if key == "scenario":
            return self._scenario
        own = _OWN.get(key)
        if own is not None:
            return value_text(own(record))
        prefix, dot, name = key.partition(".")
        if dot and prefix == "tag":
            return self._tags.get(name)
        if dot and prefix == "row":
            return value_text(record.row.get(name))
        return value_text(record.row[key]) if key in record.row else self._tags.get(key)


class _Selection:
    """The numbers of one metric with one selector."""

    def __init__(self, threshold: Threshold) -> None:
        self.name, self.metric = threshold.name, threshold.metric
        self.selector = dict(threshold.selector)
        self.kind = self.selector.pop("kind", None) if self.metric == "errors" else None
        self.percentiles: set[float] = set()
        self.values = Values()
        self.hits = Hits()

    def add(
        self, rows: Sequence[SelectedRow], block: pd.DataFrame, here: npt.NDArray[np.bool_], timed: Any
    ) -> None:
        if self.metric == "errors":
            chosen = [row for row, use in zip(rows, here, strict=True) if use]
            self.hits.n += sum(row.status in {"ok", "error"} for row in chosen)
            failed = [row.error for row in chosen if row.status == "error"]
            self.hits.hits += sum(
                self.kind is None or (error is not None and error.kind == self.kind) for error in failed
            )
        elif self.metric in POOLED:
            streams = [row for row, use in zip(rows, here & timed, strict=True) if use]
            self.values.add(gaps_us(streams) / 1e3)
        else:
            column = f"{self.metric}_tokens_per_s" if self.metric in RATES else f"{self.metric}_ms"
            self.values.add(block[column].to_numpy(dtype=np.float64)[here & timed])


class Selections:
    """The numbers of every selector that thresholds name; their size does not depend on that of the run."""

    def __init__(self, thresholds: Iterable[Threshold], manifest: Manifest) -> None:
        self._matcher = Matcher(manifest)
        self._all: dict[str, _Selection] = {}
        for threshold in thresholds:
            if threshold.selector and threshold.metric != "expect":
                one = self._all.setdefault(threshold.name, _Selection(threshold))
                one.percentiles |= {threshold.p} - {None} if threshold.p is not None else set()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def row_type(self) -> type[Row]:
        """What has to be decoded."""
        return SelectedRow if self._all else Row

    def add(self, rows: Sequence[Row], block: pd.DataFrame, timed: npt.NDArray[np.bool_]) -> None:
        """Take a block of measured records; `timed`: those with times."""
        chosen: dict[tuple[tuple[str, str], ...], npt.NDArray[np.bool_]] = {}
        whole = [row for row in rows if isinstance(row, SelectedRow)]
        for one in self._all.values():
            key = tuple(sorted(one.selector.items()))
            if key not in chosen:
                found = (self._matcher.matches(row, one.selector) for row in whole)
                chosen[key] = np.fromiter(found, dtype=bool, count=len(whole))
            one.add(whole, block, chosen[key], timed)

    def distributions(self, withheld: str | None) -> dict[str, Distribution]:
        """Of metrics that are times or rates; without those that no record has. `withheld`: of `itl`."""
        return {
            name: one.values.distribution(
                "tokens/s" if one.metric in RATES else "ms",
                withheld=withheld if one.metric in POOLED else None,
                more=one.percentiles,
                intervals=one.metric not in POOLED,
            )
            for name, one in self._all.items()
            if one.values.n
        }

    def errors(self) -> dict[str, Hits]:
        """Of `errors`."""
        return {name: one.hits for name, one in self._all.items() if one.metric == "errors"}
