"""What a load asks: requests as a pure function of scenario, seed and k."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.draws import cut_normal, longest, tokens, uniform
from scenarios.request import body_digest, prompt_id, request_id
from scenarios.scenario import Cancel, Lengths, Load, Prompts, Scenario, Synthetic, Target
from scenarios.source import PromptError
from scenarios.synthetic import Fit
from scenarios.trace import TraceRow
from scenarios.workload import Item, Leave, Workload

TRACE = Load(executor="trace")


def scenario(prompts: Prompts | None = None, *, load: Load | None = None, **keys: Any) -> Scenario:
    keys.setdefault("target", Target(model="m"))
    return Scenario(prompts=prompts or Prompts(), load=load or Load(), **keys)


def save(folder: Path, rows: list[Any], name: str = "prompts.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def words(item: Item) -> list[str]:
    text: str = item.first.body["messages"][0]["content"]
    return text.split()


# Draws


def test_draws_stay_for_ever() -> None:
    assert uniform(42, "input", 0) == 0.25409581924032965
    assert uniform(42, "think", 7, 1) == 0.2724511418732898


@given(st.integers(0, 2**64), st.integers(0, 10**9))
def test_draws_lie_in_the_unit_interval_and_differ_by_purpose(seed: int, k: int) -> None:
    drawn = [uniform(seed, "input", k), uniform(seed, "output", k), uniform(seed, "input", k, 1)]
    assert all(0 <= u < 1 for u in drawn)
    assert len(set(drawn)) == 3


@given(
    mean=st.floats(1, 1000),
    stdev=st.floats(0, 500),
    low=st.one_of(st.none(), st.integers(0, 500)),
    more=st.one_of(st.none(), st.integers(0, 1000)),
    u=st.floats(0, 1, exclude_max=True),
)
def test_lengths_stay_within_their_bounds(
    mean: float, stdev: float, low: int | None, more: int | None, u: float
) -> None:
    lengths = Lengths(mean=mean, stdev=stdev, min=low, max=None if more is None else (low or 1) + more)
    found = tokens(lengths, u)
    assert found >= max(1, low or 0)
    assert lengths.max is None or found <= max(1, lengths.max)
    assert found <= longest(lengths)


def test_lengths_are_the_cut_normal_s_quantiles() -> None:
    open_one = Lengths(mean=500, stdev=100)
    assert cut_normal(open_one, 0.5, 0.0) == pytest.approx(500, abs=0.01)
    assert cut_normal(open_one, 0.8413447, 0.0) == pytest.approx(600, abs=0.01)
    # Cut at the mean: the middle is the lower quartile of the whole, and no pile stands at the bound.
    half = Lengths(mean=500, stdev=100, max=500)
    assert cut_normal(half, 0.5, 0.0) == pytest.approx(500 - 67.449, abs=0.01)
    drawn = [tokens(half, uniform(1, "x", k)) for k in range(2000)]
    assert drawn.count(500) < 30


def test_bounds_far_from_the_mean_hold() -> None:
    assert tokens(Lengths(mean=10, stdev=1, min=100, max=200), 0.5) == 100
    assert tokens(Lengths(mean=1000, stdev=1, min=100, max=200), 0.5) == 200


# Synthetic prompts

MADE = Prompts(
    synthetic=Synthetic(input_tokens=Lengths(mean=100, stdev=20, min=60, max=140)),
    output_tokens=Lengths(mean=50, stdev=10, min=20, max=80),
)


def test_the_first_item_stays_for_ever() -> None:
    item = Workload(scenario(MADE, seed=42)).item(0)
    assert (item.asked_input_tokens, item.asked_output_tokens) == (87, 56)
    assert " ".join(words(item)[:8]) == "away like city date load gone fort gulf"
    ids = ("1d1a49979688b22e541afc2b6b2f7185", "9966ad265d0e33caee645a0331a92b11")
    assert (item.first.id, item.first.prompt_id) == ids


def test_items_do_not_depend_on_the_order_of_calls() -> None:
    forward, backward = (Workload(scenario(MADE, seed=42)) for _ in range(2))
    there = [forward.item(k) for k in range(20)]
    back = [backward.item(k) for k in reversed(range(20))]
    assert there == back[::-1]
    assert Workload(scenario(MADE, seed=43)).item(0) != there[0]


def test_made_up_prompts_have_the_asked_length_and_limit() -> None:
    work = Workload(scenario(MADE, seed=1, request={"temperature": 0.0}))
    items = [work.item(k) for k in range(200)]
    assert all(len(words(item)) == item.asked_input_tokens for item in items)
    for item in items:
        assert item.first.body["max_tokens"] == item.asked_output_tokens
        assert item.first.body["temperature"] == 0.0
        assert item.first.body["model"] == "m"
        assert (item.rest, item.leave) == (None, None)
    assert len({item.asked_input_tokens for item in items}) > 20
    assert len({item.asked_output_tokens for item in items}) > 20
    assert [item.first.index for item in items] == list(range(200))
    assert len({item.first.id for item in items}) == len({item.first.prompt_id for item in items}) == 200


def test_the_fit_is_used() -> None:
    prompts = Prompts(synthetic=Synthetic(input_tokens=500))
    item = Workload(scenario(prompts), Fit(1.25, 20, "usage")).item(0)
    assert (len(words(item)), item.asked_input_tokens) == (384, 500)


def test_the_prompt_s_id_knows_no_salt_and_no_model() -> None:
    unique = Workload(scenario(MADE, seed=5)).item(3).first
    plain = Prompts(synthetic=Synthetic(input_tokens=100, unique=False))
    first, second = (
        Workload(scenario(plain, seed=5, target=Target(model=model), request=request)).item(3).first
        for model, request in (("m", {}), ("other", {"temperature": 1.0}))
    )
    assert first.prompt_id == second.prompt_id != unique.prompt_id
    assert first.id != second.id


def test_equal_prompts_are_different_requests() -> None:
    # One token each: the same few words again and again.
    work = Workload(scenario(Prompts(synthetic=Synthetic(input_tokens=1, unique=False))))
    items = [work.item(k) for k in range(2000)]
    assert len({item.first.id for item in items}) == 2000


def test_completions_get_a_prompt() -> None:
    work = Workload(scenario(MADE, target=Target(model="m", api="completions")))
    body = work.item(0).first.body
    assert len(body["prompt"].split()) == work.item(0).asked_input_tokens
    assert "messages" not in body


def test_output_has_the_limit_s_other_name_where_the_scenario_uses_it() -> None:
    work = Workload(scenario(MADE, request={"max_completion_tokens": 9}))
    body = work.item(0).first.body
    assert body["max_completion_tokens"] == work.item(0).asked_output_tokens != 9
    assert "max_tokens" not in body


def test_forced_output_adds_what_servers_know() -> None:
    forced = Workload(scenario(Prompts(output_tokens=33, force_output=True))).item(0)
    assert forced.asked_output_tokens == 33
    assert {name: forced.first.body[name] for name in ("max_tokens", "min_tokens", "ignore_eos")} == {
        "max_tokens": 33,
        "min_tokens": 33,
        "ignore_eos": True,
    }
    constant = Workload(scenario(Prompts(force_output=True), request={"max_tokens": 7})).item(0)
    assert (constant.asked_output_tokens, constant.first.body["min_tokens"]) == (7, 7)
    # A mere limit is no length that was asked for.
    limited = Workload(scenario(request={"max_tokens": 7})).item(0)
    assert (limited.asked_output_tokens, limited.first.body["max_tokens"]) == (None, 7)
    assert "min_tokens" not in limited.first.body


def test_without_a_model_nothing_can_be_made_up() -> None:
    with pytest.raises(PromptError, match="no model"):
        Workload(scenario(target=Target()))


def test_what_is_made_up_is_described() -> None:
    found = Workload(scenario(MADE)).describe()
    assert (found.kind, found.name, found.distinct) == ("synthetic", None, None)


# Files


def test_a_file_is_sent_in_order_and_again_from_the_start(tmp_path: Path) -> None:
    path = save(tmp_path, [{"prompt": "a", "id": 1}, {"prompt": "b", "temperature": 0.9}, {"prompt": "a"}])
    work = Workload(scenario(Prompts(file=path), request={"temperature": 0.1, "max_tokens": 5}))
    items = [work.item(k).first for k in range(9)]
    assert [item.body["messages"][0]["content"] for item in items] == list("abaabaaba")
    assert [item.body["temperature"] for item in items[:3]] == [0.1, 0.9, 0.1]
    assert items[0].row == items[3].row == {"id": 1}
    assert len({item.id for item in items}) == 9
    assert len({item.prompt_id for item in items}) == 2
    # The ids are those of the same prompts in one long file: what `run` would give them.
    turns = [0, 0, 1, 2, 1, 3, 4, 2, 5]
    wanted = [request_id(body_digest("chat", i.body), turn, 0) for i, turn in zip(items, turns, strict=True)]
    assert [item.id for item in items] == wanted
    assert items[0].prompt_id == prompt_id(items[0].body)
    assert all(work.item(k).asked_input_tokens is None for k in range(3))


def test_where_a_file_comes_from(tmp_path: Path) -> None:
    path = save(tmp_path, [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])
    found = Workload(scenario(Prompts(file=path))).describe()
    assert (found.kind, found.name, found.format, found.rows, found.distinct) == (
        "file",
        path,
        "jsonl",
        3,
        2,
    )
    assert found.sha256 == sha256(Path(path).read_bytes()).hexdigest()


def test_every_format_that_run_reads(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,max_tokens\n"a, b",3\nc,4\n', "utf-8")
    (tmp_path / "a.txt").write_text("first\nsecond\n", "utf-8")
    pq.write_table(pa.table({"prompt": ["x", "y"]}), tmp_path / "a.parquet")
    body = {"model": "other", "messages": [{"role": "user", "content": "in a batch"}]}
    save(
        tmp_path,
        [{"custom_id": "7", "method": "POST", "url": "/v1/chat/completions", "body": body}],
        "batch.jsonl",
    )
    wanted = {"a.csv": ["a, b", "c"], "a.txt": ["first", "second"], "a.parquet": ["x", "y"]}
    for name, texts in wanted.items():
        work = Workload(scenario(Prompts(file=str(tmp_path / name)), request={"max_tokens": 9}))
        assert [work.item(k).first.body["messages"][0]["content"] for k in (0, 1)] == texts
        assert [work.item(k).first.body["max_tokens"] for k in (0, 1)] == (
            [3, 4] if name == "a.csv" else [9, 9]
        )
    work = Workload(
        scenario(
            Prompts(file=str(tmp_path / "batch.jsonl"), format="openai-batch"), request={"max_tokens": 9}
        )
    )
    assert work.item(0).first.custom_id == "7"
    assert work.item(0).first.body == {**body, "model": "m"}


def test_a_row_s_own_limit_wins_over_the_drawn_one(tmp_path: Path) -> None:
    path = save(tmp_path, [{"prompt": "a", "max_tokens": 3}, {"prompt": "b"}])
    work = Workload(scenario(Prompts(file=path, output_tokens=Lengths(mean=50, stdev=10))))
    items = [work.item(k) for k in range(40)]
    assert {item.first.body["max_tokens"] for item in items[::2]} == {3}
    assert {item.asked_output_tokens for item in items[::2]} == {None}
    assert len({item.first.body["max_tokens"] for item in items[1::2]}) > 5
    assert len({item.first.id for item in items}) == 40


def test_bad_rows_are_an_error_unless_told(tmp_path: Path) -> None:
    path = save(tmp_path, [{"prompt": "a"}, {"nothing": 1}, {"prompt": 3}, {"prompt": "b"}])
    with pytest.raises(PromptError, match=r"2 of 4 rows cannot be sent: line 2: .*; line 3: "):
        Workload(scenario(Prompts(file=path)))
    work = Workload(scenario(Prompts(file=path)), skip_bad_rows=True)
    assert (work.describe().rows, work.describe().left_out) == (2, 2)
    with pytest.raises(PromptError, match="no such file"):
        Workload(scenario(Prompts(file=str(tmp_path / "none.jsonl"))))
    with pytest.raises(PromptError, match="empty"):
        Workload(scenario(Prompts(file=save(tmp_path, [], "empty.jsonl"))))


# Traces

ROWS = [TraceRow(0.0, 1100, 52, (46, 47, 48)), TraceRow(1.0, 700, 26, (46, 57)), TraceRow(2.0, 40, 5)]


def test_a_trace_gives_the_lengths_and_what_is_shared() -> None:
    work = Workload(scenario(load=TRACE, request={"max_tokens": 9}), rows=ROWS)
    items = [work.item(k) for k in range(3)]
    assert [len(words(item)) for item in items] == [1100, 700, 40]
    assert [item.asked_input_tokens for item in items] == [1100, 700, 40]
    assert [item.asked_output_tokens for item in items] == [52, 26, 5]
    assert [item.first.body["max_tokens"] for item in items] == [52, 26, 5]
    assert words(items[0])[:512] == words(items[1])[:512]
    assert words(items[0])[512] != words(items[1])[512]
    assert (work.describe().kind, work.describe().rows) == ("trace", 3)


def test_a_trace_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("Timestamp,Request tokens,Response tokens\n3,20,4\n5,30,6\n", "utf-8")
    work = Workload(scenario(load=Load(executor="trace", trace=str(path))))
    assert [len(words(work.item(k))) for k in (0, 1)] == [20, 30]
    assert work.describe().sha256 == sha256(path.read_bytes()).hexdigest()
    with pytest.raises(PromptError, match=r"load\.trace"):
        Workload(scenario(load=TRACE))


def test_a_run_s_own_bodies_are_sent_as_they_were() -> None:
    body = {"model": "old", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    rows = [TraceRow(0.0, 9, 4, body=body), TraceRow(1.0, 9, 4, body=body)]
    work = Workload(scenario(load=TRACE, request={"temperature": 1.0}), rows=rows)
    first, second = (work.item(k) for k in (0, 1))
    assert first.first.body == {**body, "model": "m"}
    assert first.first.id != second.first.id
    assert first.first.prompt_id == second.first.prompt_id == prompt_id(body)
    kept = Workload(scenario(load=TRACE, target=Target()), rows=rows)
    assert kept.item(0).first.body == body
    assert body["model"] == "old"


def test_a_trace_may_give_the_limits_of_a_file_s_prompts(tmp_path: Path) -> None:
    path = save(tmp_path, [{"prompt": "a"}, {"prompt": "b"}])
    work = Workload(scenario(Prompts(file=path), load=TRACE), rows=ROWS)
    items = [work.item(k) for k in range(3)]
    assert [words(item) for item in items] == [["a"], ["b"], ["a"]]
    assert [item.asked_output_tokens for item in items] == [52, 26, 5]
    assert len({item.first.id for item in items}) == 3


# Conversations

SHARES = [
    {
        "id": "a_0",
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "12345678"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "1234"},
        ],
    },
    {"id": "b_1", "conversations": [{"from": "human", "value": "Alone"}]},
    {"id": "c_2", "conversations": []},
]


def test_sharegpt_s_first_turns_are_prompts_and_its_answers_limits(tmp_path: Path) -> None:
    path = save(tmp_path, SHARES, "share.json")
    work = Workload(scenario(Prompts(file=path, format="sharegpt")))
    first, second = work.item(0), work.item(1)
    assert (first.rest, first.first.custom_id, words(first)) == (None, "a_0", ["Hi"])
    assert (first.asked_output_tokens, first.first.body["max_tokens"]) == (2, 2)
    assert (second.asked_output_tokens, "max_tokens" in second.first.body) == (None, False)
    assert (work.describe().format, work.describe().rows, work.describe().left_out) == ("sharegpt", 2, 1)
    # What the scenario says of limits is said on purpose, and wins.
    for prompts, request in ((Prompts(output_tokens=7), {}), (Prompts(), {"max_tokens": 7})):
        prompts.file, prompts.format = path, "sharegpt"
        assert Workload(scenario(prompts, request=request)).item(0).first.body["max_tokens"] == 7


def test_sharegpt_can_be_asked_as_text_completions(tmp_path: Path) -> None:
    path = save(tmp_path, SHARES, "share.json")
    target = Target(model="m", api="completions")
    work = Workload(scenario(Prompts(file=path, format="sharegpt"), target=target))
    assert work.item(0).first.body["prompt"] == "Hi"
    with pytest.raises(PromptError, match="needs messages"):
        Workload(scenario(Prompts(file=path, format="sharegpt", multi_turn=True), target=target))


def test_a_conversation_goes_turn_by_turn(tmp_path: Path) -> None:
    path = save(tmp_path, SHARES, "share.json")
    prompts = Prompts(file=path, format="sharegpt", multi_turn=True)
    work = Workload(scenario(prompts, load=Load(think_time="2s"), request={"temperature": 0.5}))
    item = work.item(0)
    assert item.rest is not None
    following = item.rest.next("Hello!")
    assert following is not None
    think_s, request, asked = following
    assert (think_s, asked) == (2.0, 1)
    said = [("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?")]
    assert [(m["role"], m["content"]) for m in request.body["messages"]] == said
    assert (request.body["temperature"], request.body["max_tokens"], request.index) == (0.5, 1, 0)
    assert item.rest.next("So.") is None
    assert [m["content"] for m in item.first.body["messages"]] == ["Hi"]
    # Another answer is another request, but the same prompt.
    other = work.item(0).rest
    assert other is not None
    again = other.next("Good day")
    assert again is not None
    assert again[1].prompt_id == request.prompt_id != item.first.prompt_id
    assert again[1].id != request.id
    # The same conversation later, answered alike, is one more request.
    later = work.item(2).rest
    assert later is not None
    third = later.next("Hello!")
    assert third is not None
    assert third[1].body == request.body
    assert third[1].id != request.id
    assert work.item(1).rest is None


def test_think_times_are_drawn_beforehand(tmp_path: Path) -> None:
    path = save(tmp_path, [{"turns": list("abcdef"), "system": "s", "topic": "x"}])
    load = Load(think_time=Lengths(mean=2, stdev=1))
    prompts = Prompts(file=path, multi_turn=True, output_tokens=Lengths(mean=50, stdev=10))
    drawn = []
    for _ in range(2):
        rest = Workload(scenario(prompts, load=load, seed=4)).item(3).rest
        assert rest is not None
        turns = [rest.next("x") for _ in range(5)]
        drawn.append([(turn[0], turn[2]) for turn in turns if turn is not None])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 5
    assert all(think_s > 0 for think_s, _ in drawn[0])
    first = Workload(scenario(prompts)).item(0).first
    assert [m["role"] for m in first.body["messages"]] == ["system", "user"]
    assert first.row == {"topic": "x"}


def test_rows_of_turns_and_messages_alone_and_in_turns(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "b"},
    ]
    path = save(tmp_path, [{"turns": ["x", "y"]}, {"messages": messages, "top_p": 0.5}, {"prompt": "p"}])
    alone = Workload(scenario(Prompts(file=path)))
    assert [len(alone.item(k).first.body["messages"]) for k in range(3)] == [1, 3, 1]
    assert [alone.item(k).rest for k in range(3)] == [None] * 3
    in_turns = Workload(scenario(Prompts(file=path, multi_turn=True)))
    assert [len(in_turns.item(k).first.body["messages"]) for k in range(3)] == [1, 1, 1]
    assert [in_turns.item(k).rest is None for k in range(3)] == [False, False, True]
    assert in_turns.item(1).first.body["top_p"] == 0.5
    assert in_turns.item(2).first.row == {}
    bad = save(tmp_path, [{"messages": [{"role": "assistant", "content": "A"}]}], "bad.jsonl")
    with pytest.raises(PromptError, match=r"line 1: .*cannot be sent turn by turn"):
        Workload(scenario(Prompts(file=bad, multi_turn=True)))


def test_conversations_need_a_file() -> None:
    with pytest.raises(PromptError, match=r"prompts\.file"):
        Workload(scenario(Prompts(multi_turn=True)))


# Users who leave


def test_a_share_of_users_leaves() -> None:
    cancel = Cancel(share=0.1, tokens=20)
    work = Workload(scenario(load=Load(cancel=cancel), seed=1))
    leaves = [work.item(k).leave for k in range(3000)]
    gone = sum(leave is not None for leave in leaves)
    assert 240 <= gone <= 360
    assert all(leave == Leave(20, None) for leave in leaves if leave is not None)
    assert Workload(scenario(load=Load(cancel=cancel), seed=1)).item(17).leave == leaves[17]


def test_who_leaves_and_when() -> None:
    impatient = Load(cancel=Cancel(share=1.0, patience="500ms"))
    assert Workload(scenario(load=impatient)).item(0).leave == Leave(None, 0.5)
    nobody = Load(cancel=Cancel(share=0.0, tokens=1))
    assert [Workload(scenario(load=nobody)).item(k).leave for k in range(50)] == [None] * 50


# A run of our own, replayed


def replayed(*rows: TraceRow, model: str | None = "m", **prompts: Any) -> Workload:
    return Workload(scenario(Prompts(**prompts), load=TRACE, target=Target(model=model)), rows=list(rows))


BODY = {"model": "old", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}
KEPT = TraceRow(
    0.0, 9, 4, body=BODY, prompt_id="0" * 32, asked_input_tokens=12, asked_output_tokens=7
)  # fmt: skip


def test_a_replayed_body_is_what_its_record_says_it_was() -> None:
    item = replayed(KEPT).item(0)
    assert (item.first.prompt_id, item.asked_input_tokens, item.asked_output_tokens) == ("0" * 32, 12, 7)
    assert item.first.body == {**BODY, "model": "m"}  # as it was, but for the model that is asked now


def test_a_replayed_body_of_a_record_that_asked_nothing_asks_nothing() -> None:
    item = replayed(TraceRow(0.0, 9, 4, body=BODY)).item(0)
    assert (item.asked_input_tokens, item.asked_output_tokens) == (None, None)
    assert item.first.prompt_id == prompt_id(BODY)


def test_a_replayed_body_is_not_digested_when_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**BODY, "messages": [{"role": "user", "content": "ho"}]}
    rows = (KEPT, TraceRow(1.0, body=other), KEPT)
    made = [replayed(*rows), replayed(*rows, output_tokens=Lengths(mean=9, stdev=3))]

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("scenarios.workload.body_digest", never)
    monkeypatch.setattr("scenarios.workload.prompt_id", never)
    for workload in made:
        assert len({workload.item(k).first.id for k in range(9)}) == 9
        wanted = request_id(body_digest("chat", {**BODY, "model": "m"}), 3, 0)
        assert workload.item(5).first.id == wanted  # the fourth time this body goes
