"""Sends the requests of a probe and counts them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from runner.chunks import loads
from runner.client import Client
from runner.probe_watch import Seen, Watch, seen_of
from runner.record import ErrorKind
from runner.redact import Redactor
from runner.stream import Stream
from runner.target import PATHS, Target
from runner.timeouts import Timeouts
from runner.transport import CURRENT

MOST = 12  # requests in all
LOOK_S = 10.0
_LOOK_BYTES = 8 << 20
_LOOSE = 64  # chunks above a limit after which nobody waits for its end any more
_NAMES = 10_000

_TASK = "Write the numbers from fifty to five hundred in English words, one after the other, with commas."
_EXAMPLE = ", ".join(
    f"{ten}-{unit}"
    for ten in ("twenty", "thirty", "forty")
    for unit in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
# Long enough for most prompt caches to keep (not OpenAI's: 1,024 tokens), and for an answer worth cutting.
PROMPT = f"{_TASK} Write nothing else. This is how it goes: {_EXAMPLE}."
SHORT_PROMPT = "Say hello."


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to probe with."""

    api: str = "chat"
    model: str | None = None
    max_tokens: int = 16
    prompt: str = PROMPT
    timeout_s: float | None = 120.0
    long_tokens: int = 256  # of the answer that is cut
    patience_s: float = 1.0  # at least: how long a second request may wait before the first is cut
    looks_s: tuple[float, ...] = (0.1, 0.4, 1.0)  # between looks at a server's gauge after the cut


class Asking(msgspec.Struct, frozen=True):
    """How to ask this endpoint."""

    limit: str = "max_tokens"
    usage: bool = True


class Look(msgspec.Struct, frozen=True):
    """What a GET gave; `status` is `None` where nothing came."""

    status: int | None = None
    text: str = ""

    @property
    def payload(self) -> Any:
        """The JSON of a good answer, else `None`."""
        try:
            return loads(self.text.encode("utf-8", "replace")) if self.status == 200 else None
        except (ValueError, RecursionError):
            return None


class Prober:
    """One endpoint, as far as it is known by now."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        redact: Redactor,
        settings: Settings,
        tell: Callable[[str], None],
    ) -> None:
        self.target = target
        self.settings = settings
        self.model = settings.model or ""
        self.asking = Asking()
        self.sent = 0  # requests of any kind
        self.stale = 0  # sent again, because the server had closed the kept connection
        self.answers: list[Seen] = []  # every POST
        self.redact = redact
        self.tell: Callable[[str], None] = lambda line: tell(redact(line) or "")
        self._session = session
        self._client = self._client_of(target)

    @property
    def room(self) -> int:
        """How many requests are left."""
        return max(MOST - self.sent, 0)

    def use(self, base_url: str) -> None:
        """Go on with this URL."""
        self.target = msgspec.structs.replace(self.target, base_url=base_url)
        self._client = self._client_of(self.target)

    def body(
        self, *, prompt: str | None = None, most: int | None = None, model: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """A body in the way this endpoint wants it; `more` beats the rest, and `None` leaves out."""
        text = self.settings.prompt if prompt is None else prompt
        content: dict[str, Any] = {"prompt": text}
        if self.settings.api == "chat":
            content = {"messages": [{"role": "user", "content": text}]}
        body = {
            "model": self.model if model is None else model,
            **content,
            self.asking.limit: self.settings.max_tokens if most is None else most,
            "stream": True,
        }
        if self.asking.usage:
            body["stream_options"] = {"include_usage": True}
        return {name: value for name, value in {**body, **more}.items() if value is not None}

    async def ask(
        self,
        body: dict[str, Any],
        opened: Callable[[Stream, Watch], None] | None = None,
        *,
        fresh: bool = False,
    ) -> Seen:
        """One POST. A kept connection that turns out to be closed costs a second one, as in `run`."""
        watch = Watch()
        most = body.get(self.asking.limit) or self.settings.max_tokens

        def begin(stream: Stream) -> None:
            # In the place of the stream's own answer, so that every chunk is looked at on its way in.
            stream.answer = watch
            if opened is not None:
                opened(stream, watch)
            on_token = watch.on_token

            def looked() -> None:
                if on_token is not None:
                    on_token()
                if len(watch.token_at) == 8 * most + _LOOSE:  # a server that knows no limit
                    asyncio.get_running_loop().call_soon(cut)

            def cut() -> None:
                stream.cut(by="stop_rule")

            watch.on_token = looked

        self.sent += 1
        fresh = (
            fresh or self.stale > 0
        )  # a server that closes them unannounced would cost every request twice
        data = msgspec.json.encode(body)
        stream, outcome = await self._client.attempt(self.settings.api, data, begin, fresh=fresh)
        seen = seen_of(stream, watch, outcome)
        error = seen.error
        if error is not None and error.kind is ErrorKind.DISCONNECTED and seen.reused and not fresh:
            self.stale += 1
            return await self.ask(body, opened, fresh=True)
        self.answers.append(seen)
        return seen

    async def look(self, url: str) -> Look:
        """One GET. What keeps it from coming is not told here: the POST that follows meets it too."""
        self.sent += 1
        CURRENT.set(None)  # a stream of this task's past must not take these bytes for its own
        limit = self.settings.timeout_s
        try:
            async with asyncio.timeout(LOOK_S if limit is None else min(limit, LOOK_S)):
                async with self._session.get(
                    URL(url, encoded=True), headers={"Accept": "*/*"}, allow_redirects=False
                ) as response:
                    data = bytearray()
                    async for piece in response.content.iter_any():
                        data += piece
                        if len(data) > _LOOK_BYTES:
                            break
                    return Look(response.status, data.decode("utf-8", "replace"))
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return Look()

    async def models(self, base_url: str) -> list[str] | None:
        """The names under /models; `None` where there is no such list."""
        payload = (await self.look(joined(base_url, "/models"))).payload
        cards = payload.get("data") if isinstance(payload, dict) else payload
        if not isinstance(cards, list):
            return None
        names = [card.get("id") for card in cards[:_NAMES] if isinstance(card, dict)]
        return [name for name in names if isinstance(name, str) and name]

    def _client_of(self, target: Target) -> Client:
        # One limit only: the others name flags that this command does not have.
        limit = self.settings.timeout_s
        connect = LOOK_S if limit is None or limit > LOOK_S else None
        never = Timeouts(connect=connect, first_token=None, token_gap=None, byte_idle=None, total=limit)
        return Client(self._session, target, never, self.redact)


def joined(base_url: str, path: str) -> str:
    """A base URL with more path, its query kept."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path + path))


def other_base(base_url: str) -> str:
    """The same URL without the `/v1` it ends in, or with one."""
    parts = urlsplit(base_url)
    path = parts.path.removesuffix("/v1") if parts.path.endswith("/v1") else f"{parts.path}/v1"
    return urlunsplit(parts._replace(path=path))


def as_flag(base_url: str, api: str) -> str:
    """What to write after --base-url: to a URL without a path `/v1` would be added, so it gets the whole."""
    return base_url if urlsplit(base_url).path else joined(base_url, PATHS[api])
