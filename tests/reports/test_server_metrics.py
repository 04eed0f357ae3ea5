"""Scraped pages: known names are read, and nothing on a page is fatal."""

import json
from pathlib import Path
from typing import Any

import pytest

from reports.bench import Server
from reports.server_metrics import PAGES, read_server


def write(run: Path, *scrapes: Any) -> Path:
    lines = [scrape if isinstance(scrape, bytes) else json.dumps(scrape).encode() for scrape in scrapes]
    (run / PAGES).write_bytes(b"".join(line + b"\n" for line in lines))
    return run


def page(text: str, at: int = 5, status: int | None = 200) -> dict[str, Any]:
    return {"at": at, "status": status, "text": text}


def read(run: Path, begin: int | None = 0, end: int | None = 10) -> Server:
    found = read_server(run, begin, end)
    assert found is not None
    return found


def test_nothing_scraped(tmp_path: Path) -> None:
    assert read_server(tmp_path, 0, 10) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            (
                'vllm:num_requests_running{model_name="m"} 3\nvllm:num_requests_waiting 2.0\n'
                "vllm:gpu_cache_usage_perc 0.5\n"
            ),
            "vllm",
        ),
        (
            'sglang:num_running_reqs{name="a b"} 3.0\nsglang:num_queue_reqs 2\nsglang:token_usage 0.5\n',
            "sglang",
        ),
        (
            (
                "llamacpp:requests_processing 3\nllamacpp:requests_deferred 2\n"
                "llamacpp:kv_cache_usage_ratio 0.5 1395066363000\n"
            ),
            "llamacpp",
        ),
    ],
)
def test_names_we_know(tmp_path: Path, text: str, kind: str) -> None:
    found = read(write(tmp_path, page("# TYPE x gauge\n" + text)))
    assert found.kind == kind
    assert {name: value.mean for name, value in found.values.items()} == {
        "running": 3,
        "waiting": 2,
        "kv_cache": 0.5,
    }


def test_engines_are_added_up_and_the_fullest_cache_counts(tmp_path: Path) -> None:
    text = "".join(
        f'vllm:num_requests_running{{engine="{i}"}} {i + 1}\nvllm:kv_cache_usage_perc{{engine="{i}"}} 0.{i}\n'
        for i in range(3)
    )
    found = read(write(tmp_path, page(text)))
    assert found.values["running"].max == 6
    assert found.values["kv_cache"].max == 0.2


def test_only_pages_of_the_window(tmp_path: Path) -> None:
    pages = [page(f"vllm:num_requests_running {n}", at=at) for at, n in ((-1, 9), (0, 1), (9, 3), (10, 9))]
    found = read(write(tmp_path, *pages))
    assert (found.pages, found.inside, found.values["running"].mean) == (4, 2, 2)
    assert read(tmp_path, None, None).inside == 4


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path,
            page("<html>no metrics</html>"),
            page("vllm:num_requests_running\nvllm:num_requests_waiting{ 3\nvllm:num_requests_running NaN\n"),
            page("vllm:num_requests_running 1\nvllm:num_requests_running_total 7\nvllm:other{ 3\n"),
            page("", status=None),
            page("vllm:num_requests_running 1", status=503),
            b"\xff{",
            b"[]",
        )
    )
    assert (found.pages, found.failed, found.unknown, found.bad_lines) == (5, 2, 2, 5)
    assert (found.values["running"].n, found.values["running"].max) == (1, 1.0)
