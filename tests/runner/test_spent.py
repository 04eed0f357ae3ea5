from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.prices import Price, Prices
from runner.spent import spent_before
from runner.store import Session

PRICES = Prices({"m": Price(1.0, 1.0)})
MILLION = {"prompt_tokens": 600_000, "completion_tokens": 400_000}


def session(number: int, **changes: Any) -> Session:
    return Session(number, "now", 0, 0, None, "host", 1, {}, **{"ended_by": "finished", **changes})


def journal(run: Path, *lines: dict[str, Any]) -> None:
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_attempt_of_every_line_counts(tmp_path: Path) -> None:
    journal(
        tmp_path,
        {"id": "1", "status": "error", "cost": None, "cost_bound": 4.0},
        {
            "id": "1",
            "status": "ok",
            "cost": 0.5,
            "attempts": [{"cost": 0.25}, {"cost": 0.1, "cost_bound": 2}],
        },
        {"id": "2", "status": "cancelled", "cost": None, "attempts": [{"cost": None}]},
    )
    assert spent_before(tmp_path, [session(1)], PRICES).amount == pytest.approx(4 + 0.5 + 0.25 + 2)


def test_answers_of_sessions_without_prices_are_priced_now(tmp_path: Path) -> None:
    journal(
        tmp_path,
        {"status": "ok", "cost": None, "usage": MILLION, "request": {"model": "m"}},
        {"status": "error", "cost": None, "usage_partial": MILLION, "request": {"model": "m"}},
        {"status": "ok", "cost": None, "usage": MILLION, "request": {"model": "other"}},
        {"status": "ok", "usage": None, "request": {"model": "m"}},
    )
    spent = spent_before(tmp_path, [session(1)], PRICES)
    assert spent.amount == pytest.approx(2.0)
    assert spent.unknown == 2


def test_what_a_killed_session_had_in_flight_counts(tmp_path: Path) -> None:
    journal(tmp_path, {"status": "ok", "cost": 1.0})
    sessions = [
        session(1, ended_by=None, reserved_cost=3.0),
        session(2, reserved_cost=5.0),
        session(3, ended_by=None),
        session(4, reserved_cost=0.5, counts={"unwritten": 1}),
    ]
    spent = spent_before(tmp_path, sessions, PRICES)
    assert spent.amount == pytest.approx(4.5)
    assert spent.killed == pytest.approx(3.5)


def test_what_wait_ready_asked_counts(tmp_path: Path) -> None:
    sessions = [session(1, gauge={"ready": {"cost_bound": 0.25}}), session(2, gauge={"cpu_s": 1})]
    assert spent_before(tmp_path, sessions, PRICES).amount == 0.25


def test_damage_is_stepped_over(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(
        b'{"status":"ok","cost":1}\n\0\0\n[]\n{"status":"ok","cost":2}\n{"st'
    )
    assert spent_before(tmp_path, [], PRICES).amount == 3.0


def test_nothing_there(tmp_path: Path) -> None:
    assert spent_before(tmp_path, [], PRICES).amount == 0
