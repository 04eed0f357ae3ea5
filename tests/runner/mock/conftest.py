"""The mock's log, for its tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "mock.jsonl"


@pytest.fixture
def entries(log_file: Path) -> Callable[[], list[Any]]:
    """Reads the log."""
    return lambda: [json.loads(line) for line in log_file.read_text().splitlines()]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test with sockets runs under both loops: they write, pause and close in ways of their own."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
