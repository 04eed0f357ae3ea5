"""The table of `make gate-e2e`, and what it takes to hold."""

from __future__ import annotations

from collections import Counter

from bench.gate import Gated, Scale, _next, gates_table, holds, summary_table, why_not


def gated(kind: str, code: int, change: float | None = 0.01) -> Gated:
    ttft = {"change": change, "low": -0.01, "high": 0.02, "base": 120.0, "new": 121.0}
    failed = ("ttft",) if code == 99 else ()
    return Gated(kind, code, 30.0, {} if change is None else ttft, failed)


def test_no_wolf_and_every_regression_and_enough_of_both() -> None:
    scale = Scale(same=2, slower=1)
    same = [gated("A/A", 0), gated("A/A", 98), gated("A/A", 97, None)]
    assert holds([*same, gated("A/B", 99), gated("A/B", 97, None)], scale)
    assert not holds([gated("A/A", 99), gated("A/A", 0), gated("A/B", 99)], scale)
    assert not holds([*same, gated("A/B", 98)], scale)
    assert not holds([*same, gated("A/B", 97, None)], scale)
    assert not holds([*same[1:], gated("A/B", 99)], scale)
    assert why_not([*same, gated("A/B", 98)], scale).startswith("gate 4 (A/B) says INCONCLUSIVE. ")
    assert why_not([gated("A/A", 99)], scale).startswith("gate 1 (A/A) says FAIL. ")
    assert why_not([*same[1:], gated("A/B", 99)], scale).startswith("1 of 3 gates are INVALID: this machine")


def test_tables_have_as_many_cells_in_every_line() -> None:
    gates = [gated("A/A", 0, -0.012), gated("A/A", 97, None), gated("A/B", 99, 0.15)]
    for table, rows in ((summary_table(gates), 2), (gates_table(gates), 3)):
        lines = table.splitlines()
        assert len(lines) == rows + 2
        assert len({line.count("|") for line in lines}) == 1
    assert "| 2 A/A | the same | 1 | 0 | 0 | 1 | -1.2% |" in summary_table(gates)
    assert "| 3 A/B | FAIL | ttft | 120.0 ms | 121.0 ms | +15.0% | -1.0% to +2.0% |" in gates_table(gates)
    assert "n/a" in gates_table(gates)


def test_both_kinds_take_turns_until_enough_were_judged() -> None:
    wanted, started, most, order = {"A/A": 4, "A/B": 2}, Counter[str](), {"A/A": 8, "A/B": 4}, ""
    while kind := _next(wanted, started, most):
        started[kind] += 1
        wanted[kind] -= kind == "A/A"  # those of the other kind are all INVALID
        order += kind[-1]
    assert order.count("A") == 4
    assert order.count("B") == 4  # and no more than twice of what was wanted
    assert order[:2] == "AB"
