"""`--metrics-url`: the server's own metrics, as raw text with its time, beside the client's records.

A page is fetched every second and kept as it came: reading 100 KB of metrics costs milliseconds, which belong
into the report and not on the loop that stamps tokens. A page that does not come is a line too.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from runner.target import redacted_url, split_http

FILE = "metrics.jsonl"
PAGE_LIMIT_BYTES = 2 << 20
EVERY_S = 1.0
_TIMEOUT_S = 1.0
_PIECE_BYTES = 64 << 10  # read, decoded and encoded in one turn of the loop
_encode = msgspec.json.encode


def metrics_url(text: str) -> str:
    """The URL as it is fetched: `/metrics` where it names no path.

    Raises:
        TargetError: it is no http(s) URL, or may hold a login where none can be read.
    """
    problem = f"--metrics-url {redacted_url(text)!r} is not a URL like http://127.0.0.1:8000/metrics"
    parts = split_http(text, "--metrics-url", problem)
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/metrics", fragment=""))


class Scraper:
    """Fetches a page at the start, every second from there, and once more at the end.

    Args:
        url: from `metrics_url`. Its login is used, and never written.
        path: where the lines go; appended to.
        anchor_ns: the session's; times are counted from it.
        every_s: how often. A page that is due while another is awaited is left out.
        verify, ca_file: as for the target.
    """

    def __init__(
        self,
        url: str,
        path: Path,
        anchor_ns: int,
        *,
        every_s: float = EVERY_S,
        timeout_s: float = _TIMEOUT_S,
        verify: bool = True,
        ca_file: str | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        parts = urlsplit(url)
        self._url = URL(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), encoded=True)
        self._headers = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "streamgauge"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
        self._path = path
        self._anchor_ns = anchor_ns
        self._every_ns = int(every_s * 1e9)
        self._timeout_s = timeout_s
        self._verify: ssl.SSLContext | bool = verify
        if ca_file is not None and verify:
            self._verify = ssl.create_default_context(cafile=ca_file)
        self._clock = clock
        self._scrapes = 0
        self._failed = 0
        self._last_error: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._fd = -1

    @property
    def summary(self) -> dict[str, int | str | None]:
        """How many were tried, how many failed, and why the last of those did."""
        return {"scrapes": self._scrapes, "failed": self._failed, "last_error": self._last_error}

    async def __aenter__(self) -> Scraper:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin. Raises `OSError` where the file cannot be opened."""
        self._fd = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644
        )
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> dict[str, int | str | None]:
        """Fetch once more, end, and give the summary."""
        self._over.set()
        task, self._task = self._task, None
        if task is not None:
            try:
                await task
            finally:
                task.cancel()
                os.close(self._fd)
        return self.summary

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._verify, limit=1)
        async with aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=False,
        ) as session:
            due_ns = self._clock()
            while not self._over.is_set():
                if not await self._scrape(session):
                    return
                due_ns += self._every_ns * max(-(-(self._clock() - due_ns) // self._every_ns), 1)
                await self._until(due_ns)
            await self._scrape(session)

    async def _until(self, due_ns: int) -> None:
        # A timer may fire early: then the rest is waited too.
        while not self._over.is_set() and (left_ns := due_ns - self._clock()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_ns / 1e9):
                    await self._over.wait()

    async def _scrape(self, session: aiohttp.ClientSession) -> bool:
        """One line. False where the file does not take it: then there is no use in going on."""
        at = self._clock() - self._anchor_ns
        self._scrapes += 1
        try:
            line = b'{"at":%d,"status":200,"text":"%b"}\n' % (at, await self._page(session))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            error = self._failure(_why(exc, self._timeout_s))
            line = _encode({"at": at, "error": error}) + b"\n"
        try:
            await asyncio.to_thread(_write, self._fd, line)
        except OSError as exc:
            self._failure(f"{self._path.name} cannot be written: {exc.strerror}")
            return False
        return True

    async def _page(self, session: aiohttp.ClientSession) -> bytes:
        """The page as the inside of a JSON string."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        pieces: list[bytes] = []
        size = 0
        # Whoever is sent elsewhere asks somebody nobody named, and with the login of the one that was.
        async with session.get(self._url, allow_redirects=False) as response:
            if 300 <= response.status < 400:
                raise _NoPageError(
                    f"HTTP {response.status}: redirects are not followed, name that URL instead"
                )
            if response.status != 200:
                raise _NoPageError(f"HTTP {response.status}")
            while data := await response.content.read(_PIECE_BYTES):
                size += len(data)
                if size > PAGE_LIMIT_BYTES:
                    raise _NoPageError(f"the page is larger than {PAGE_LIMIT_BYTES >> 20} MiB")
                pieces.append(_encode(decode(data))[1:-1])
                await asyncio.sleep(0)  # a large page is not one long turn
        pieces.append(_encode(decode(b"", True))[1:-1])
        return b"".join(pieces)

    def _failure(self, why: str) -> str:
        self._failed += 1
        self._last_error = why
        return why


class _NoPageError(ValueError):
    """What came is no page. The text is ours."""


def _why(exc: BaseException, timeout_s: float) -> str:
    """In our own words: those of a library may hold the URL, and so its query."""
    if isinstance(exc, TimeoutError):
        return f"no page within {timeout_s:g} s"
    if isinstance(exc, _NoPageError):
        return str(exc)
    number = getattr(exc, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return type(exc).__name__


def _write(fd: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(fd, view) :]
