from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.part import Part, PartError, part_of_slurm, read_part
from tests.runner.test_rundir import planned


@given(st.integers(1, 1000), st.lists(st.integers(0, 2**64 - 1)))
def test_every_request_is_in_one_part_and_in_no_other(of: int, digests: list[int]) -> None:
    parts = [Part(number, of) for number in range(of)]
    assert all(sum(part.has(digest) for part in parts) == 1 for digest in digests[:20])


def test_a_part_s_plan_has_what_it_has(tmp_path: Path) -> None:
    plan = planned(tmp_path, *(f"prompt {number}" for number in range(50)))
    parts = [Part(number, 3) for number in range(3)]
    plans = [part.of_plan(plan) for part in parts]
    assert sum(one.requests for one in plans) == plan.requests == 50
    assert np.array_equal(np.sort(np.concatenate([one.digests for one in plans])), plan.digests)
    for part, one in zip(parts, plans, strict=True):
        assert all(part.has(int(digest)) for digest in one.digests)
        assert one.requests == len(one.digests) > 0


def test_parts_are_read() -> None:
    assert read_part("0/1") == Part(0, 1)
    assert read_part("7/8") == Part(7, 8)
    assert str(read_part("07/8")) == "7/8"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8/8", "counted from 0, the last is 7/8"),
        ("0/0", "N is how many shards there are, at least 1"),
        ("1", "is not I/N"),
        ("-1/8", "is not I/N"),
        ("1/8/2", "is not I/N"),
        ("²/8", "is not I/N"),
        ("", "is not I/N"),
    ],
)
def test_what_is_no_part_is_refused(text: str, why: str) -> None:
    with pytest.raises(PartError, match=why):
        read_part(text)


def slurm(**values: object) -> Part | None:
    return part_of_slurm({f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()})


def test_a_task_of_a_slurm_array_is_counted_off_from_its_first() -> None:
    assert part_of_slurm({"PATH": "/bin"}) is None
    assert slurm(ID=0, COUNT=8) == Part(0, 8)
    assert slurm(ID=8, MIN=1, MAX=8, COUNT=8) == Part(7, 8)
    assert slurm(ID=14, MIN=10, MAX=16, STEP=2, COUNT=4) == Part(2, 4)
    assert slurm(ID=3, MIN=1, MAX=4) == Part(2, 4)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"ID": 3}, "says of how many"),
        ({"ID": 9, "MIN": 1, "COUNT": 3}, "an array with gaps"),
        ({"ID": 5, "MIN": 0, "STEP": 2, "COUNT": 4}, "an array with gaps"),
        ({"ID": "x", "COUNT": 4}, "is 'x', which is no number"),
        ({"ID": 0, "COUNT": 0}, "none of 0 tasks"),
    ],
)
def test_an_array_that_has_no_shards_is_refused(values: dict[str, object], why: str) -> None:
    with pytest.raises(PartError, match=why):
        slurm(**values)
