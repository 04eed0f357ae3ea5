"""Public traces: the formats as their publishers write them, and what is wrong with a row."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from scenarios.scenario import Load
from scenarios.source import PromptError
from scenarios.trace import TraceRow, read_trace, rows_of

MOONCAKE = (
    '{"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [46, 47, 48]}\n'
    '{"timestamp": 10535, "input_length": 700, "output_length": 26, "hash_ids": [46, 57]}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,2162,5\n"
    "2024-05-10 00:00:01.017335+00:00,2399,6\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,GPT-4,1087,0,1087,API log\n"
)
BURSTGPT_3 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\n"
    "19440161.5,d5983bf9,2,ChatGPT,36,29,65,Conversation log\n"
)


def save(folder: Path, text: str, name: str = "trace") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "format", "rows"),
    [
        (MOONCAKE, "mooncake", [TraceRow(0, 1100, 52, (46, 47, 48)), TraceRow(10.535, 700, 26, (46, 57))]),
        (AZURE, "azure", [TraceRow(0, 374, 44), TraceRow(4.314579, 396, 109)]),
        (AZURE_2024, "azure", [TraceRow(0, 2162, 5), TraceRow(1.007405, 2399, 6)]),
        (BURSTGPT, "burstgpt", [TraceRow(0, 472, 18), TraceRow(40, 1087, 1)]),
        (BURSTGPT_3, "burstgpt", [TraceRow(0, 906, 446), TraceRow(51.5, 36, 29)]),
    ],
)
def test_formats_are_known_by_their_keys(
    tmp_path: Path,
    text: str,
    format: str,  # noqa: A002
    rows: list[TraceRow],
) -> None:
    path = save(tmp_path, text)
    found = read_trace(path)
    assert [row.at_s for row in found] == pytest.approx([row.at_s for row in rows], abs=1e-6)
    assert [(r.input_tokens, r.output_tokens, r.hash_ids) for r in found] == [
        (r.input_tokens, r.output_tokens, r.hash_ids) for r in rows
    ]
    assert read_trace(path, format) == found
    assert read_trace(save(tmp_path, "\ufeff" + text.replace("\n", "\r\n") + "\n")) == found


def test_rows_are_sorted_by_their_time(tmp_path: Path) -> None:
    lines = ["Timestamp,Request tokens,Response tokens", "9,1,1", "7,2,2", "8,3,3", "7,4,4"]
    rows = read_trace(save(tmp_path, "\n".join(lines)))
    assert [(row.at_s, row.input_tokens) for row in rows] == [(0, 2), (0, 4), (1, 3), (2, 1)]


def test_only_the_first_seconds_are_kept(tmp_path: Path) -> None:
    lines = ["Timestamp,Request tokens,Response tokens", *(f"{100 + s},1,1" for s in range(50))]
    path = save(tmp_path, "\n".join(lines))
    assert len(read_trace(path, within_s=10)) == 11
    load = Load(executor="trace", trace=path, duration="4s", warmup="1s", speed=2.0)
    assert len(rows_of(load)) == 11
    load.warmup, load.warmup_requests = None, 3
    assert len(rows_of(load)) == 50


@pytest.mark.parametrize(
    ("text", "format", "words"),
    [
        ("", None, ["empty"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", None, ["no rows"]),
        ("a,b\n1,2\n", None, ["line 1", "a, b", "mooncake (timestamp, input_length, output_length)"]),
        ('{"prompt": "x"}\n', None, ["line 1", "prompt", "azure (TIMESTAMP"]),
        ("{nonsense\n", None, ["line 1", "not JSON"]),
        (MOONCAKE + '{"timestamp": 1}\n', None, ["line 3", "input_length"]),
        (MOONCAKE + '{"timestamp": 1, "input_length": -1, "output_length": 1}', None, ["line 3", "below 0"]),
        (AZURE + "yesterday,1,1\n", None, ["line 4", "yesterday"]),
        (AZURE + "2023-11-16 18:15:46,1.5,1\n", None, ["line 4", "'1.5'"]),
        (AZURE + "2023-11-16 18:15:46,1\n", None, ["line 4", "2 cells"]),
        (BURSTGPT + "nan,m,1,1,2,x\n", None, ["line 4", "time nan"]),
        (BURSTGPT, "azure", ["line 1", "TIMESTAMP", "azure"]),
        (BURSTGPT, "sharegpt", ["unknown trace format 'sharegpt'", "mooncake, azure, burstgpt"]),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path,
    text: str,
    format: str | None,  # noqa: A002
    words: list[str],
) -> None:
    path = save(tmp_path, text)
    with pytest.raises(PromptError) as caught:
        read_trace(path, format)
    assert [word for word in [path, *words] if word not in str(caught.value)] == []


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"No such file.*load\.trace"):
        read_trace(str(tmp_path / "none.csv"))
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(AZURE.encode()))
    with pytest.raises(PromptError, match="not UTF-8"):
        read_trace(str(packed))
