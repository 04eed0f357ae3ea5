import sys
from pathlib import Path
from typing import Any

import click
import pytest

from runner.commands import room


class Limit:
    """How many files may be open, as `resource` knows it."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, soft: int, hard: int) -> None:
        self.now = soft, hard

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        self.now = limits


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_limit(soft: int, hard: int) -> Limit:
        made = Limit(soft, hard)
        monkeypatch.setitem(sys.modules, "resource", made)
        return made

    return set_limit


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def set_range(text: str) -> None:
        place = tmp_path / "range"
        place.write_text(text)
        monkeypatch.setattr(room, "_PORT_RANGE", place)

    return set_range


def test_the_soft_limit_is_raised(limit: Any) -> None:
    made = limit(1024, 1_048_576)
    room.need_connections(5000, "-c")
    assert made.now == (5064, 1_048_576)
    room.raise_file_limit()
    assert made.now == (1_048_576, 1_048_576)


@pytest.mark.parametrize(("soft", "hard", "after"), [(256, -1, 10_240), (-1, -1, -1), (20_000, -1, 20_000)])
def test_a_server_takes_what_it_can(limit: Any, soft: int, hard: int, after: int) -> None:
    made = limit(soft, hard)
    room.raise_file_limit()
    assert made.now == (after, hard)


def test_too_few_files_say_what_to_set(limit: Any) -> None:
    limit(1024, 4096)
    with pytest.raises(
        click.UsageError, match=r"-c 5000 needs 5064 open files .* 4096 .*ulimit -n 5064.*-c 4032"
    ):
        room.need_connections(5000, "-c")


def test_ports_are_counted_for_each_endpoint(limit: Any, ports: Any) -> None:
    limit(1024, 1_048_576)
    ports("32768\t34767\n")
    assert room.free_ports() == 2000
    room.need_connections(4000, "-c", endpoints=2)
    with pytest.raises(click.UsageError, match=r"-c 4001 needs as many ports.* has 2000 .*or use -c 4000"):
        room.need_connections(4001, "-c", endpoints=2)


def test_a_rate_is_cautioned_of_where_ports_would_run_out(ports: Any) -> None:
    ports("32768 60999")
    assert room.caution_of_ports(470, "host") is None
    caution = room.caution_of_ports(500, "host")
    assert caution is not None
    assert "500 requests/s to host" in caution
    assert "471 connections/s" in caution
    ports("")
    assert room.caution_of_ports(500, "host") is None  # no such file, or another system's


def test_more_workers_than_cores_can_use_are_refused() -> None:
    room.need_workers(16, cores=2)
    with pytest.raises(click.UsageError, match=r"--workers 17 .* 2 cores.* At most 16"):
        room.need_workers(17, cores=2)
    room.need_workers(256, cores=64)
    with pytest.raises(click.UsageError, match=r"At most 256"):
        room.need_workers(10_000, cores=64)
