import gc
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.bodies import Settings
from scenarios.prompts import Duplicate, Plan, scan
from scenarios.request import Request, digest64
from scenarios.source import PromptError, open_source

MODEL = Settings(model="m")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(rows: Iterable[Any], name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text(
            "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8"
        )
        return path

    return write


def send(plan: Plan, block_bytes: int | None = None, done: Any = None) -> list[Request]:
    builder = plan.builder(done)
    requests: list[Request] = []
    for block in plan.blocks():
        step = block_bytes or len(block)
        for start in range(0, len(block), step):
            requests.extend(builder.feed(block[start : start + step] if block_bytes else block))
    requests.extend(builder.end())
    return requests


def agree(plan: Plan, requests: list[Request]) -> None:
    assert [int(value) for value in plan.digests] == sorted(digest64(request.id) for request in requests)
    assert len({request.id for request in requests}) == len(requests) == plan.requests


def test_both_passes_agree(write: Write) -> None:
    path = write([{"prompt": f"p{i}", "n": 1 + i % 2, "id": i} for i in range(50)])
    plan = scan(open_source(path), MODEL)
    requests = send(plan)
    agree(plan, requests)
    assert [request.index for request in requests] == list(range(50))
    assert requests[3].row == {"id": 3}
    assert (plan.rows, plan.bad_count, plan.repeated) == (50, 0, 0)
    assert (plan.columns, plan.fields) == ({"id": 50}, {"n": 50})
    assert (plan.apis, plan.models) == ({"chat": 50}, {"m": 50})
    assert plan.bodies == tuple(request.body for request in requests[:3])


def test_the_same_prompt_twice_is_two_requests(write: Write) -> None:
    words = ["a", "b", "a", "c", "a", "b"]
    plan = scan(open_source(write([{"prompt": word} for word in words])), MODEL)
    requests = send(plan)
    agree(plan, requests)
    assert plan.repeated == 3
    assert len({request.prompt_id for request in requests}) == 3
    alone = send(scan(open_source(write([{"prompt": "a"}] * 2)), MODEL))
    assert [request.id for request in alone] == [requests[0].id, requests[2].id]


def test_samples(write: Write) -> None:
    path = write([{"prompt": "a"}, {"prompt": "a"}, {"prompt": "b"}])
    plan = scan(open_source(path), Settings(model="m", samples=3))
    requests = send(plan)
    agree(plan, requests)
    assert [(request.index, request.sample) for request in requests] == [
        (i, s) for i in range(3) for s in range(3)
    ]
    once = send(scan(open_source(path), MODEL))
    assert [request.id for request in requests if request.sample == 0] == [request.id for request in once]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d\u2028", None]), min_size=1, max_size=30).filter(any)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS, samples=st.integers(1, 3), limit=st.none() | st.integers(1, 30), step=st.integers(1, 50))
def test_any_repeats_samples_limits_and_cuts(
    write: Write, words: list[str | None], samples: int, limit: int | None, step: int
) -> None:
    path = write([{"prompt": word} for word in words])
    plan = scan(open_source(path), Settings(model="m", samples=samples), limit=limit, skip_bad_rows=True)
    requests = send(plan)
    agree(plan, requests)
    kept = words[:limit]
    assert plan.rows == len(kept)
    assert plan.bad_count == kept.count(None)
    assert [request.index for request in requests[::samples]] == [i for i, word in enumerate(kept) if word]
    assert send(plan, step) == requests


@given(
    texts=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12),
    bad=st.sets(st.integers(0, 11)),
    samples=st.integers(1, 3),
    limit=st.none() | st.integers(1, 12),
    drawn=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_rows_that_are_done_are_passed_over_and_no_other(
    write: Write, texts: list[str], bad: set[int], samples: int, limit: int | None, drawn: st.DataObject
) -> None:
    path = write(["{" if i in bad else {"prompt": text} for i, text in enumerate(texts)])
    plan = scan(open_source(path), Settings(model="m", samples=samples), skip_bad_rows=True, limit=limit)
    everything = send(plan)
    ids = sorted(r.id for r in everything)
    done = drawn.draw(st.sets(st.sampled_from(ids)) if ids else st.just(set()), "done")
    left = send(plan, done=np.sort(np.array([digest64(one) for one in done], dtype=np.uint64)))
    # What is made has the id it always had, and no request that is wanted is missing.
    assert [r for r in everything if r.id not in done] == [r for r in left if r.id not in done]
    assert [r for r in everything if r in left] == left
    whole = [i for i, text in enumerate(texts) if texts.count(text) == 1]
    counts = {i: sum(r.index == i and r.id in done for r in everything) for i in whole}
    assert not [r for r in left if counts.get(r.index) == samples]


def test_ids_do_not_depend_on_what_stands_around(write: Write) -> None:
    rows = [{"prompt": f"p{i % 40}"} for i in range(60)]
    before = {request.id for request in send(scan(open_source(write(rows)), MODEL))}
    random.Random(4).shuffle(rows)
    after = {request.id for request in send(scan(open_source(write([{"prompt": "new"}, *rows])), MODEL))}
    assert before < after
    assert len(after) == 61


def test_bad_rows_are_kept_and_counted(write: Write) -> None:
    path = write([{"prompt": "a"}, *["{"] * 30, {"x": 1}, "", {"prompt": "b"}])
    plan = scan(open_source(path), MODEL, max_bad=4)
    assert (plan.rows, plan.bad_count, len(plan.bad), plan.requests) == (33, 31, 4, 2)
    assert str(plan.bad[0]).startswith("line 2, column 2: ")
    assert [request.index for request in send(plan)] == [0, 32]


def test_a_body_of_half_a_surrogate_is_a_bad_row(write: Write) -> None:
    settings_ = Settings(model="m", template="{{ '\\ud800' }}{{ a }}")
    plan = scan(open_source(write([{"a": 1}])), settings_)
    assert [bad.reason for bad in plan.bad] == ["half a surrogate pair is no text"]
    assert send(plan) == []


def test_missing_columns_are_counted(write: Write) -> None:
    path = write([{"a": 1, "b": 2}, {"a": 1}, {"b": 1}, {"c": 1}])
    plan = scan(open_source(path), Settings(model="m", template="{{ a }}{{ b }}"))
    assert plan.missing_columns == {"b": 1, "a": 2}
    assert str(plan.bad[0]) == "line 2: column 'b' is missing (the row has a)"


def test_no_model_is_said_once(write: Write) -> None:
    path = write([{"prompt": "a"}, "{", {"prompt": "b"}])
    with pytest.raises(PromptError, match=r"prompts\.jsonl: no model: give --model or a `model` column"):
        scan(open_source(path), Settings())
    plan = scan(open_source(write([{"prompt": "a"}, {"prompt": "b", "model": "x"}])), Settings())
    assert [str(bad) for bad in plan.bad] == ["line 1: no model: give --model or a `model` column"]


def test_overridden_models_are_counted(write: Write) -> None:
    path = write([{"prompt": "a", "model": name} for name in ("m", "x", "y", "")])
    plan = scan(open_source(path), MODEL)
    assert (plan.model_overridden, plan.models) == (2, {"m": 4})


def test_whole_bodies_are_counted(write: Write) -> None:
    body = {"messages": [{"role": "user", "content": "a"}]}
    plan = scan(open_source(write([{"body": body}, {"prompt": "a"}])), MODEL)
    assert (plan.whole_bodies, plan.repeated) == (1, 1)


def test_duplicate_custom_ids(write: Write) -> None:
    names = ["a", "b", 7, "a", None, "7", "a", "c"]
    plan = scan(open_source(write([{"prompt": f"{i}", "custom_id": n} for i, n in enumerate(names)])), MODEL)
    assert plan.duplicate_custom_ids == 3
    assert plan.duplicates == (Duplicate("a", 4, 1), Duplicate("7", 6, 3), Duplicate("a", 7, 1))
    within = scan(plan.source, MODEL, limit=4)
    assert (within.duplicate_custom_ids, within.duplicates) == (1, (Duplicate("a", 4, 1),))


def test_only_the_first_duplicates_are_named(write: Write) -> None:
    rows = [{"prompt": f"{i}", "custom_id": i % 500} for i in range(1000)]
    plan = scan(open_source(write(rows)), MODEL)
    assert (plan.duplicate_custom_ids, len(plan.duplicates)) == (500, 5)
    assert plan.duplicates[0] == Duplicate("0", 501, 1)


def test_limit(write: Write) -> None:
    path = write([{"prompt": f"{i}"} for i in range(10)])
    whole, part = scan(open_source(path), MODEL), scan(open_source(path), MODEL, limit=4)
    assert (part.rows, part.requests) == (4, 4)
    assert part.sha256 == whole.sha256
    assert send(part) == send(whole)[:4]
    builder = part.builder()
    for block in part.blocks():
        list(builder.feed(block))
    done: bool = builder.done
    assert done
    with pytest.raises(PromptError, match="limit is 0; 1 or more"):
        scan(open_source(path), MODEL, limit=0)


def test_a_file_without_rows(write: Write) -> None:
    for name, rows in (("a.jsonl", ["", " "]), ("a.csv", ["prompt,id"]), ("a.txt", [""])):
        with pytest.raises(PromptError, match=r"a\..*: the file has no rows; it needs at least one prompt"):
            scan(open_source(write(rows, name)), MODEL)


def test_a_file_that_changed_is_refused(write: Write) -> None:
    path = write([{"prompt": "a"}])
    plan = scan(open_source(path), MODEL)
    plan.check_unchanged()
    path.write_text('{"prompt": "changed"}\n')
    with pytest.raises(PromptError, match="the file changed since it was checked"):
        plan.check_unchanged()
    with pytest.raises(PromptError, match="the file changed while it was in use"):
        next(plan.blocks())


def test_all_formats_ask_the_same(write: Write, tmp_path: Path) -> None:
    words = ["one", "two, three", "fünf"]
    pq.write_table(pa.table({"prompt": words}), tmp_path / "a.parquet")
    paths = [
        write([{"prompt": word} for word in words], "a.jsonl"),
        write(words, "a.txt"),
        write(["prompt", *(f'"{word}"' for word in words)], "a.csv"),
        write(["prompt", *words], "a.tsv"),
        tmp_path / "a.parquet",
    ]
    ids = []
    for path in paths:
        plan = scan(open_source(path), MODEL)
        requests = send(plan)
        agree(plan, requests)
        ids.append([request.id for request in requests])
        assert len(plan.sha256) == 64
    assert all(found == ids[0] for found in ids)


def test_bad_parquet_rows_are_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a", None]}), tmp_path / "a.parquet")
    plan = scan(open_source(tmp_path / "a.parquet"), MODEL)
    assert [str(bad) for bad in plan.bad] == ["row 2: the prompt is empty"]


def test_requests_come_one_at_a_time(write: Write) -> None:
    plan = scan(open_source(write([{"prompt": "a"}, {"prompt": "b"}])), Settings(model="m", samples=2))
    requests = plan.builder().feed(next(plan.blocks()))
    first = next(requests)
    assert (first.sample, next(requests).sample) == (0, 1)
    assert next(requests).body is not first.body


def test_progress_and_many_columns(write: Write) -> None:
    path = write([{"prompt": f"{i}", f"c{i}": i} for i in range(300)])
    seen: list[tuple[int, int]] = []
    plan = scan(open_source(path), MODEL, progress=lambda rows, done: seen.append((rows, done)))
    assert seen[-1] == (300, path.stat().st_size)
    assert len(plan.columns) == 100


def many(path: Path, rows: int, repeat: int = 1) -> Path:
    with path.open("w") as file:
        for number in range(rows):
            row = {"prompt": f"what is the number {number // repeat}?", "custom_id": f"{number}"}
            file.write(json.dumps(row) + "\n")
    return path


def peak(path: Path) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        plan = scan(open_source(path), MODEL)
        builder = plan.builder()
        count = 0
        for block in plan.blocks():
            for _request in builder.feed(block):
                count += 1
        assert count == plan.requests
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("repeat", "bytes_a_row"), [(1, 40), (2, 60)])
def test_memory_is_some_bytes_a_row(tmp_path: Path, repeat: int, bytes_a_row: int) -> None:
    scan(open_source(many(tmp_path / "warm.jsonl", 10)), MODEL)
    few = peak(many(tmp_path / "few.jsonl", 2_000, repeat))
    lots = peak(many(tmp_path / "lots.jsonl", 12_000, repeat))
    assert lots - few < 10_000 * bytes_a_row


def test_a_plan_is_eight_bytes_a_request(tmp_path: Path) -> None:
    plan = scan(open_source(many(tmp_path / "a.jsonl", 1000)), MODEL)
    assert plan.digests.dtype == np.uint64
    assert plan.digests.nbytes == 8000
    assert len(plan.repeats) == 0


def test_what_tells_the_rows_can_be_given_up(tmp_path: Path) -> None:
    plan = scan(open_source(many(tmp_path / "a.jsonl", 1000)), MODEL)
    assert (len(plan.digests), len(plan.in_order)) == (1000, 1000)
    plan.forget_ids()
    assert (len(plan.digests), len(plan.in_order)) == (0, 0)
    assert plan.digests.base is None  # a view would keep all of it
    assert plan.requests == 1000


def test_ten_thousand_rows_are_read_at_once(tmp_path: Path) -> None:
    path = many(tmp_path / "a.jsonl", 10_000)
    started = time.process_time()
    plan = scan(open_source(path), MODEL)
    # Measured 0.12 s; the bound is for machines that are busy with something else.
    assert time.process_time() - started < 1.5
    assert plan.rows == 10_000
