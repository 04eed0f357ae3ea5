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


BODY = {"model": "m", "max_tokens": 1_000_000}  # with this price: 1, and something for its own bytes
WORST = 1 + len(json.dumps(BODY, separators=(",", ":"))) / 1e6


def failed(kind: str, http_status: int | None = None, **more: Any) -> dict[str, Any]:
    error = {"kind": kind, "message": "no", "http_status": http_status}
    return {
        "status": "error",
        "sent_at": 5,
        "ended_at": 9,
        "error": error,
        "cost": None,
        "request": BODY,
        **more,
    }


@pytest.mark.parametrize(
    ("line", "most"),
    [
        (failed("truncated"), WORST),
        (failed("timeout"), WORST),
        (failed("server_error", 504), WORST),
        (failed("timeout", 408), WORST),
        ({"status": "cancelled", "sent_at": 5, "request": BODY}, WORST),
        ({"status": "ok", "sent_at": 5, "usage": None, "request": BODY}, WORST),
        # More than the worst case, by its own usage or the provider's word: that counts.
        (failed("truncated", usage_partial={"prompt_tokens": 0, "completion_tokens": 3_000_000}), 3.0),
        (failed("truncated", cost=7.0), 7.0),
        (failed("truncated", cost=0.5), WORST),
        # Free: refused beforehand, never sent, a connection that was dead.
        (failed("rate_limit", 429), 0.0),
        (failed("overloaded", 503), 0.0),
        (failed("connect", sent_at=None), 0.0),
        (failed("disconnected", connection={"reused": True}), 0.0),
        (failed("disconnected", connection={"reused": False}), WORST),
        (failed("disconnected", connection={"reused": True}, ended_at=2_000_000_000), WORST),
    ],
)
def test_what_failed_without_prices_counts_with_its_worst_case_at_today_s(
    tmp_path: Path, line: dict[str, Any], most: float
) -> None:
    journal(tmp_path, line)
    spent = spent_before(tmp_path, [session(1)], PRICES)
    assert spent.amount == pytest.approx(most)
    assert (spent.unknown, spent.unknown_lost) == (0, 0)


def test_earlier_attempts_without_prices_count_too(tmp_path: Path) -> None:
    attempts = [
        {"sent_at": 1, "ended_at": 2, "error": {"kind": "truncated"}, "wait_for": "backoff"},
        {"sent_at": 1, "ended_at": 2, "error": {"kind": "disconnected"}, "wait_for": "stale_connection"},
        {"sent_at": 1, "ended_at": 2, "error": {"kind": "rate_limit", "http_status": 429}},
    ]
    journal(tmp_path, {"status": "ok", "cost": 0.25, "request": BODY, "attempts": attempts})
    assert spent_before(tmp_path, [session(1)], PRICES).amount == pytest.approx(WORST + 0.25)


@pytest.mark.parametrize(
    "changes",
    [{"request": None}, {"request": {"model": "m"}}, {"request": {**BODY, "model": "other"}}],
)
def test_what_nobody_can_price_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    lines = [
        failed("truncated", cost=0.5),
        failed("timeout"),
        failed("auth", 401),
        {"status": "ok", "sent_at": 1},
    ]
    lines[1]["attempts"] = [{"sent_at": 1, "error": {"kind": "truncated"}}]
    journal(tmp_path, *({**line, **changes} for line in lines))
    spent = spent_before(tmp_path, [session(1)], PRICES)
    assert (spent.amount, spent.unknown, spent.unknown_lost) == (0.5, 1, 3)


def test_what_no_record_tells_of_counts_of_every_session(tmp_path: Path) -> None:
    journal(tmp_path, {"status": "ok", "cost": 1.0})
    sessions = [
        session(1, ended_by=None, reserved_cost=3.0),
        session(2, reserved_cost=5.0),  # orderly: what was held to the end
        session(3, ended_by=None),
        session(4, reserved_cost=0.5, counts={"unwritten": 1}),
        session(5, reserved_cost=0.0),
        session(5, ended_by=None, options={"max_cost": 5.0}),  # killed before it sent anything
        session(6),
    ]
    spent = spent_before(tmp_path, sessions, PRICES)
    assert spent.amount == pytest.approx(9.5)
    assert spent.killed == pytest.approx(3.0)
    assert spent.killed_blind == 1


def test_what_wait_ready_asked_counts_once(tmp_path: Path) -> None:
    sessions = [
        session(1, gauge={"ready": {"cost_bound": 0.25}}),
        session(2, gauge={"ready": {"cost_bound": 0.5}}, reserved_cost=0.5),
        session(3, gauge={"ready": {"cost_bound": None}}),
        session(4, gauge={"cpu_s": 1}),
    ]
    assert spent_before(tmp_path, sessions, PRICES).amount == 0.75


def test_damage_is_stepped_over(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(
        b'{"status":"ok","cost":1}\n\0\0\n[]\n{"status":"ok","cost":2}\n{"st'
    )
    assert spent_before(tmp_path, [], PRICES).amount == 3.0


def test_nothing_there(tmp_path: Path) -> None:
    assert spent_before(tmp_path, [], PRICES).amount == 0
