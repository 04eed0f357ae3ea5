import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from scenarios import request
from scenarios.bodies import BodyBuilder, Settings

GOLDEN = json.loads((Path(__file__).parent / "golden_ids.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["what"])
def test_ids_are_what_they_always_were(case: dict[str, Any]) -> None:
    digest = request.body_digest(case["api"], case["body"])
    assert request.request_id(digest, case["occurrence"], case["sample"]) == case["id"]
    assert request.prompt_id(case["body"]) == case["prompt_id"]


def test_golden_ids_differ_but_where_they_must_not() -> None:
    ids = {case["what"]: case["id"] for case in GOLDEN}
    same = {ids.pop("chat"), ids.pop("keys in another order"), ids.pop("stream is not in it")}
    assert len(same) == 1
    assert len({*ids.values(), *same}) == len(ids) + 1


def test_the_id_is_made_as_documented() -> None:
    body = {"model": "m", "prompt": "hé"}
    text = b'streamgauge.request.1 completions\n{"model":"m","prompt":"h\xc3\xa9"}'
    left = int.from_bytes(sha256(text).digest()[:16], "big")
    right = int.from_bytes(sha256(b"3 1").digest()[:16], "big")
    digest = request.body_digest("completions", body)
    assert request.request_id(digest, 3, 1) == f"{left ^ right:032x}"


def test_digest64_is_the_first_half() -> None:
    assert request.digest64("00000000000000ff" + "a" * 16) == 255


def test_prompt_id_leaves_out_model_and_parameters() -> None:
    one = {"model": "a", "messages": [{"role": "user", "content": "x"}], "temperature": 1}
    two = {"messages": [{"content": "x", "role": "user"}], "model": "b"}
    assert request.prompt_id(one) == request.prompt_id(two)
    assert request.prompt_id({"prompt": "x"}) != request.prompt_id(one)


def test_names_data_sets_use_are_no_fields() -> None:
    for name in (
        "user",
        "metadata",
        "store",
        "audio",
        "input",
        "id",
        "name",
        "reasoning",
        "stream",
        "prompt",
    ):
        assert name not in request.CHAT_FIELDS | request.COMPLETION_FIELDS


def test_settings_that_do_not_change_the_body_do_not_change_the_id() -> None:
    columns = {"prompt": "x", "id": 4}
    bodies = [BodyBuilder(Settings(model="m", samples=n)).build(columns).body for n in (1, 5)]
    assert request.body_digest("chat", bodies[0]) == request.body_digest("chat", bodies[1])
