"""The mock's log, for its tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "mock.jsonl"


@pytest.fixture
def entries(log_file: Path) -> Callable[[], list[Any]]:
    """Reads the log."""
    return lambda: [json.loads(line) for line in log_file.read_text().splitlines()]
