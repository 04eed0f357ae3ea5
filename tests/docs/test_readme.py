"""README.md: what it shows is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.docs.console import masked, missing, shell, steps, targets
from tests.docs.pages import README, read

STEPS = steps(README)


def test_the_first_screen_shows_both_commands() -> None:
    screen = "\n".join(read(README).splitlines()[:60])
    assert all(command in screen for command in ("$ make run", "$ make test", "pip install ."))


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", read(README), re.M))
    assert {"run", "test", "bench", "real"} <= named
    assert named <= targets()


@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for sh")
def test_make_run(tmp_path: Path) -> None:
    step = next(step for step in STEPS if step.command == "make run")
    with shell(tmp_path) as opened:
        said = opened.run(step)
    assert said is not None
    assert len(step.shown) > 10
    assert not missing(step, said), said


@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for sh")
def test_every_command_does_what_the_page_shows(tmp_path: Path) -> None:
    run = 0
    with shell(tmp_path) as opened:
        for step in STEPS:
            said = None if step.command == "make run" else opened.run(step)
            if said is not None:
                run += 1
                assert not missing(step, said), f"README.md:{step.line}: {step.command}\n{said}"
    assert run >= 10


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("ttft  1,000  80.1  ~90.2  n/a (needs 100)", "ttft 50 7.5 9 11"),
        ("1.4 s  161  2026-11-23T02:46:46+00:00", "900 ms 7 2027-01-01T00:00:00+00:00"),
        ("2 min 07 s in 2 sessions", "14.4 s in 3 sessions"),
    ],
)
def test_numbers_and_times_are_no_difference(line: str, other: str) -> None:
    assert masked(line) == masked(other)


def test_words_are_a_difference() -> None:
    assert masked("161 answered") != masked("161 failed")
