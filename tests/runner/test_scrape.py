"""Scraping the server's metrics, on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from runner import scrape
from runner.scrape import PAGE_LIMIT_BYTES, Scraper, metrics_url
from runner.target import TargetError

PAGE = '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="ä\\"b"} 3.0\n'
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handle], Awaitable[TestServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handle: Handle) -> TestServer:
        app = web.Application()
        app.router.add_get("/metrics", handle)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return server

    yield start
    for server in servers:
        await server.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


async def scraped(url: str, path: Path, until: int, **options: Any) -> dict[str, Any]:
    """Scrape until there are so many lines."""
    async with asyncio.timeout(20), Scraper(url, path, 0, **{"every_s": 0.01, **options}) as scraper:
        while len(lines(path)) < until:  # noqa: ASYNC110 - it knows nothing of whoever reads the file
            await asyncio.sleep(0.005)
    return scraper.summary


async def test_pages_are_kept_as_they_came_with_their_time(serve: Serve, tmp_path: Path) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    server = await serve(page)
    path = tmp_path / "metrics.jsonl"
    summary = await scraped(str(server.make_url("/metrics")), path, 3)
    found = lines(path)
    assert [(line["status"], line["text"]) for line in found] == [(200, PAGE)] * len(found)
    times = [line["at"] for line in found]
    assert times == sorted(times)
    assert summary == {"scrapes": len(found), "failed": 0, "last_error": None}


async def test_no_page_comes_before_its_time_and_none_is_made_up_for(serve: Serve, tmp_path: Path) -> None:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text="x 1\n")

    server = await serve(slow)
    path = tmp_path / "metrics.jsonl"
    await scraped(str(server.make_url("/metrics")), path, 4, every_s=0.03)
    times = [line["at"] for line in lines(path)]
    # A page takes two beats: the third is the next one's. The last page, at the end, is not on the grid.
    assert all(at - times[0] >= n * 59_000_000 for n, at in enumerate(times[:-1]))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"nothing here", "HTTP 404"),
        (200, b"x" * (PAGE_LIMIT_BYTES + 1), "the page is larger than 2 MiB"),
    ],
)
async def test_what_is_no_page_is_a_failure(
    serve: Serve, tmp_path: Path, status: int, body: bytes, said: str
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    server = await serve(refuse)
    path = tmp_path / "metrics.jsonl"
    summary = await scraped(str(server.make_url("/metrics")), path, 1)
    found = lines(path)
    assert {(line.get("error"), "text" in line) for line in found} == {(said, False)}
    assert summary == {"scrapes": len(found), "failed": len(found), "last_error": said}


async def test_a_page_that_does_not_come_is_given_up(serve: Serve, tmp_path: Path) -> None:
    async def never(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    server = await serve(never)
    path = tmp_path / "metrics.jsonl"
    summary = await scraped(str(server.make_url("/metrics")), path, 1, timeout_s=0.05)
    assert summary["last_error"] == "no page within 0.05 s"


async def test_nobody_there(tmp_path: Path, unused_tcp_port: int) -> None:
    path = tmp_path / "metrics.jsonl"
    summary = await scraped(f"http://127.0.0.1:{unused_tcp_port}/metrics", path, 1)
    assert summary["last_error"] == os.strerror(111) or "refused" in str(summary["last_error"]).lower()


async def test_the_login_is_used_and_never_written(serve: Serve, tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(text=request.query["key"] + "\n")

    server = await serve(page)
    path = tmp_path / "metrics.jsonl"
    url = f"http://anna:ge%40heim@{server.host}:{server.port}/metrics?key=a%2Bb"
    await scraped(metrics_url(url), path, 1)
    assert set(seen) == {"Basic " + base64.b64encode(b"anna:ge@heim").decode()}
    written = path.read_text()
    assert "anna" not in written
    assert "heim" not in written
    assert lines(path)[0]["text"] == "a+b\n"
    await server.close()
    summary = await scraped(metrics_url(url), tmp_path / "again.jsonl", 1)
    assert "heim" not in json.dumps(summary)


async def test_a_large_page_in_pieces_is_one_line(serve: Serve, tmp_path: Path) -> None:
    text = 'metric{name="µé\\n"} 1\n' * 20_000 + "\x01end"

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=text.encode() + b"\xff")

    server = await serve(page)
    path = tmp_path / "metrics.jsonl"
    await scraped(str(server.make_url("/metrics")), path, 1)
    assert lines(path)[0]["text"] == text + "\ufffd"


async def test_a_file_that_takes_no_more_ends_the_scraping_and_not_the_run(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    def full(_fd: int, _line: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scrape, "_write", full)
    server = await serve(page)
    scraper = Scraper(str(server.make_url("/metrics")), tmp_path / "metrics.jsonl", 0, every_s=0.01)
    scraper.start()
    assert scraper._task is not None
    async with asyncio.timeout(20):
        await scraper._task
    assert await scraper.stop() == {
        "scrapes": 1,
        "failed": 1,
        "last_error": "metrics.jsonl cannot be written: No space left on device",
    }


@pytest.mark.parametrize(
    ("given", "fetched"),
    [
        ("http://h:8000/metrics", "http://h:8000/metrics"),
        ("http://h:8000", "http://h:8000/metrics"),
        ("http://u:p@h:8000/?a=1#x", "http://u:p@h:8000/metrics?a=1"),
        (" https://h/server/prom ", "https://h/server/prom"),
    ],
)
def test_the_path_is_metrics_where_none_is_named(given: str, fetched: str) -> None:
    assert metrics_url(given) == fetched


@pytest.mark.parametrize(
    "given", ["localhost:8000/metrics", "ftp://h/m", "http://", "http://u:geheim@h:port/"]
)
def test_what_is_no_url_is_refused_without_its_login(given: str) -> None:
    with pytest.raises(TargetError, match="--metrics-url") as raised:
        metrics_url(given)
    assert "geheim" not in str(raised.value)


def test_a_login_that_cannot_be_read_is_refused_and_not_shown() -> None:
    with pytest.raises(TargetError, match="has an @ behind its host") as raised:
        metrics_url("http://user:80/geheim@h/metrics")
    assert "geheim" not in str(raised.value)


async def test_a_redirect_is_a_failure_and_nobody_else_is_asked(serve: Serve, tmp_path: Path) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        if request.query_string:
            return web.Response(text=PAGE)
        raise web.HTTPFound("/metrics?elsewhere")

    server = await serve(elsewhere)
    path = tmp_path / "metrics.jsonl"
    summary = await scraped(str(server.make_url("/metrics")), path, 1)
    said = "HTTP 302: redirects are not followed, name that URL instead"
    assert {line["error"] for line in lines(path)} == {said}
    assert summary["last_error"] == said
    assert set(asked) == {""}
