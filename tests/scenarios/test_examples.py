from pathlib import Path

import pytest

from scenarios.bodies import Settings
from scenarios.prompts import scan
from scenarios.source import open_source

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [("prompts.jsonl", 200, {"id", "topic"}), ("real_prompts.jsonl", 40, {"id"})],
)
def test_the_shipped_prompts_can_be_sent(name: str, rows: int, columns: set[str]) -> None:
    plan = scan(open_source(EXAMPLES / name), Settings(model="m"))
    assert (plan.requests, plan.bad_count, plan.repeated) == (rows, 0, 0)
    assert set(plan.columns) == columns
    assert plan.fields == {}
