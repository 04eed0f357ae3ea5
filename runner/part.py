"""One part of a run's requests, where several processes without an engine between them share the run.

Which part a request is in follows from its id alone, so that nobody has to ask anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from scenarios.prompts import Plan

SLURM = "SLURM_ARRAY_TASK_"


class PartError(ValueError):
    """What does not name a part. The text says why and what to do."""


class Part(msgspec.Struct, frozen=True):
    """Shard `number`, from 0, of `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, digest: int) -> bool:
        """Whether the request with this digest of its id is one of its own."""
        return digest % self.of == self.number

    def of_plan(self, plan: Plan) -> Plan:
        """The plan with its own requests only; the feed still gives all."""
        import numpy as np

        mine = plan.digests[plan.digests % np.uint64(self.of) == self.number]
        return msgspec.structs.replace(plan, digests=mine, requests=len(mine))


def read_part(text: str) -> Part:
    """Read `I/N`.

    Raises:
        PartError: it is none.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and of.isascii() and of.isdigit()):
        raise PartError(f"{text!r} is not I/N, as in 0/8 (the first of eight shards), slurm or none")
    part = Part(int(number), int(of))
    if part.of == 0:
        raise PartError(f"{text!r}: N is how many shards there are, at least 1")
    if part.number >= part.of:
        last = f"{part.of - 1}/{part.of}"
        raise PartError(f"{text!r}: shards are counted from 0, the last is {last}")
    return part


def part_of_slurm(environ: Mapping[str, str]) -> Part | None:
    """The part of this task of a Slurm array; `None` outside of one.

    Raises:
        PartError: the array's tasks cannot be counted off from 0.
    """
    if SLURM + "ID" not in environ:
        return None
    task = _number(environ, "ID")
    first, step = _number(environ, "MIN", 0), _number(environ, "STEP", 1)
    if SLURM + "COUNT" in environ:
        of = _number(environ, "COUNT")
    elif SLURM + "MAX" in environ:
        of = (_number(environ, "MAX") - first) // max(step, 1) + 1
    else:
        raise PartError(f"{SLURM}ID is {task}, and neither {SLURM}COUNT nor {SLURM}MAX says of how many")
    number, rest = divmod(task - first, max(step, 1))
    if rest or not 0 <= number < of:
        raise PartError(
            f"{SLURM}ID is {task}, which is none of {of} tasks counted from {first} in steps of {step}: an "
            "array with gaps has no shards"
        )
    return Part(number, of)


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(SLURM + name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit()):
        raise PartError(f"{SLURM}{name} is {text!r}, which is no number")
    return int(text)
