"""Option types and the ways of naming a target that several commands share."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click

OPENAI = "https://api.openai.com/v1"
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "h": 3600.0}
_COMMAND = re.compile(r"##(?=\w*\[)")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FRAMING = {
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "connection",
    "expect",
    "te",
    "upgrade",
}
F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float | None]):
    """Seconds: `30`, `0.5`, `500ms`, `10m`; `none` for no limit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return seconds, `None` for no limit."""
        if value is None or isinstance(value, float):
            return value
        text = str(value).strip().lower()
        if text in {"none", "never", "off"}:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)", text)
        if not found or float(found[1]) == 0:
            self.fail(
                f"{value!r} is not a time above 0 like 30, 500ms or 10m (or none for no limit)", param, ctx
            )
        return float(found[1]) * _UNITS[found[2]]


# Told apart from `none`, which is a time: no limit.
NOT_GIVEN = -1.0


class Kind(click.ParamType[str]):
    """The kind of an error."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return its name."""
        from runner.record import ErrorKind

        if value not in {str(kind) for kind in ErrorKind}:
            self.fail(f"{value!r} is not one of {', '.join(map(str, ErrorKind))}", param, ctx)
        return str(value)


class Redo(click.ParamType[str]):
    """`finish_reason=WORD`: good answers that ended so."""

    name = "finish_reason=word"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the finish reason."""
        key, equals, word = str(value).partition("=")
        if key != "finish_reason" or not equals or not word:
            self.fail(f"{value!r} is not finish_reason=WORD, as in finish_reason=length", param, ctx)
        return word


class Amount(click.ParamType[float]):
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is not a number above 0", param, ctx)
        return number


class Param(click.ParamType[tuple[str, Any]]):
    """`KEY=JSON`, a field of every request's body."""

    name = "key=json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Return (key, decoded value)."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=JSON, as in temperature=0.2", param, ctx)
        try:
            return key, json.loads(text, parse_constant=_not_finite, parse_float=_finite)
        except ValueError:
            self.fail(
                f"the value of {key!r} is not JSON: {text!r} (a text needs quotes: '{key}=\"...\"')",
                param,
                ctx,
            )


def _not_finite(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


class Tag(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`, kept with the run."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return (key, value)."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip() or not text.isprintable() or not key.isprintable():
            self.fail(f"{value!r} is not KEY=VALUE, as in build=1234", param, ctx)
        return key.strip(), text


class Header(click.ParamType[tuple[str, str]]):
    """`NAME:VALUE`, sent with every request."""

    name = "name:value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return (name, value). The value may be a secret: no message repeats it."""
        if isinstance(value, tuple):
            return value
        name, colon, text = str(value).partition(":")
        name, text = name.strip(), text.strip()
        if not colon or not _HEADER_NAME.fullmatch(name):
            self.fail("a header is NAME:VALUE, as in X-Team:search", param, ctx)
        if name.lower() in _FRAMING:
            self.fail(f"header {name} is set by the request itself", param, ctx)
        if not text.isprintable() or not text.isascii():
            self.fail(f"the value of header {name} holds characters HTTP does not allow", param, ctx)
        return name, text


def one_endpoint(command: F) -> F:
    """Add the options that say where requests go and with which key."""
    return _target_options(command, several=False)


def several_endpoints(command: F) -> F:
    """The same, with `--base-url` as often as there are replicas."""
    return _target_options(command, several=True)


def _target_options(command: F, *, several: bool) -> F:
    more = " Repeated: replicas, least in flight first." if several else ""
    for option in reversed(
        [
            click.option(
                "--base-url",
                "base_urls" if several else "base_url",
                multiple=several,
                envvar="OPENAI_BASE_URL",
                metavar="URL",
                help=f"Endpoint, as for the OpenAI SDK (also OPENAI_BASE_URL; default {OPENAI}). "
                f"Without a path, /v1 is added.{more}",
            ),
            click.option("--model", "-m", metavar="NAME", help="Model to ask; beats the model of a row."),
            click.option(
                "--api-key-env",
                metavar="NAME",
                help="Environment variable that holds the key (default OPENAI_API_KEY).",
            ),
            click.option("--api-key-file", metavar="FILE", help="File that holds the key."),
            click.option(
                "--api-key", metavar="KEY", help="The key itself; other users can see it in the process list."
            ),
            click.option(
                "--header",
                "headers",
                multiple=True,
                type=Header(),
                help="A further header; its value is kept secret.",
            ),
            click.option("--ca-file", metavar="FILE", help="Certificates to trust instead of the system's."),
            click.option(
                "--proxy",
                metavar="URL",
                help="HTTP proxy to go through; `env`: the one the environment names (else none is used).",
            ),
            click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
        ]
    ):
        command = option(command)
    return command


def timers(command: F) -> F:
    """Add the options of the five timers."""
    return _with(
        command,
        click.option(
            "--connect-timeout",
            type=Duration(),
            default="10",
            show_default=True,
            help="Until a connection is there.",
        ),
        click.option(
            "--first-token-timeout",
            type=Duration(),
            default="600",
            show_default=True,
            help="Until the first token.",
        ),
        click.option(
            "--token-timeout", type=Duration(), default="120", show_default=True, help="Between tokens."
        ),
        click.option(
            "--idle-timeout",
            type=Duration(),
            default="120",
            show_default=True,
            help="Without a single byte, once the response has begun.",
        ),
        click.option(
            "--timeout", type=Duration(), default="none", show_default=True, help="One attempt as a whole."
        ),
    )


def kept(command: F) -> F:
    """Add the options that say what is asked for and kept of each answer."""
    return _with(
        command,
        click.option(
            "--no-usage", is_flag=True, help="Do not ask for usage (for servers that refuse stream_options)."
        ),
        click.option("--no-request", is_flag=True, help="Leave request bodies out of the records."),
        click.option("--no-times", is_flag=True, help="Leave per-token times out of the records."),
        click.option(
            "--keep-header",
            "keep_headers",
            multiple=True,
            metavar="NAME",
            help="Keep this response header too.",
        ),
    )


def writes_page(command: F) -> F:
    """Add `--html`."""
    return _with(
        command,
        click.option(
            "--html", is_flag=True, help="At the end, write report.html into the run directory as well."
        ),
    )


def waits_until_ready(command: F) -> F:
    """Add `--wait-ready`."""
    return _with(
        command,
        click.option(
            "--wait-ready",
            type=Duration(),
            default=NOT_GIVEN,
            metavar="DURATION",
            help="First repeat one request, unmeasured, until it answers, at most so long (none: for ever).",
        ),
    )


def _with(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def read_key(api_key: str | None, api_key_env: str | None, api_key_file: str | None) -> str | None:
    """The key by whichever way it was given; usage errors for contradictions and unusable keys."""
    given = [
        name
        for name, value in (
            ("--api-key", api_key),
            ("--api-key-env", api_key_env),
            ("--api-key-file", api_key_file),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise click.UsageError(f"give the key one way, not with {' and '.join(given)}")
    source = given[0] if given else "OPENAI_API_KEY"
    if api_key is not None:
        click.echo(
            "warning: --api-key shows in the process list; --api-key-env or --api-key-file do not", err=True
        )
        key: str | None = api_key
    elif api_key_file is not None:
        try:
            key = Path(api_key_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
            raise click.UsageError(f"cannot read --api-key-file {api_key_file}: {reason}") from None
    elif api_key_env is not None:
        key = os.environ.get(api_key_env)
        if not key:
            raise click.UsageError(f"--api-key-env {api_key_env}: that variable is not set")
    else:
        key = os.environ.get("OPENAI_API_KEY")
    key = key.strip() if key is not None else None
    if key is not None and (not key.isascii() or not key.isprintable() or " " in key):
        raise click.UsageError(f"the key from {source} holds characters no HTTP header may hold")
    if given and not key:
        raise click.UsageError(f"the key from {source} is empty")
    return key or None


def read_proxy(given: str | None, base_url: str) -> str | None:
    """The proxy to go through, login included; usage errors for what is none."""
    if given is None:
        return None
    if given == "env":
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(base_url)
        proxies = getproxies()
        found = proxies.get(parts.scheme) or proxies.get("all")
        # An entry of NO_PROXY may name a port, too.
        if found is None or proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc):
            return None
        given = found if "://" in found else f"http://{found}"
    from runner.target import STRAY_LOGIN, has_stray_login, redacted_url

    try:
        parts = urlsplit(given)
        if has_stray_login(parts):
            raise click.UsageError(f"--proxy has an @ behind its host. {STRAY_LOGIN}")
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.UsageError(
            f"--proxy {redacted_url(given)!r} is not a URL like http://127.0.0.1:3128 (or env)"
        )
    return given


def say(text: str) -> None:
    """One line on stderr, where anybody can see it: a terminal that has gone away costs no result."""
    with suppress(OSError):
        # What a server said may be in it, and is no command to the CI system whose log this is (`##[error]`).
        click.echo(_COMMAND.sub("## ", text), err=True)


def plural(n: int, noun: str) -> str:
    """A count and its noun."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def show(text: str) -> bool:
    """Results on stdout. Returns False, and says why on stderr, where they could not be written.

    Whoever reads them may have gone (`| head`): that is no failure, and what is left to do goes on.
    """
    try:
        click.echo(text, nl=False)
    except OSError as exc:
        drop_stdout()
        if not isinstance(exc, BrokenPipeError):
            say(f"streamgauge: cannot write standard output: {exc.strerror or exc}")
            return False
    return True


def drop_stdout() -> None:
    """Have what could not be written forgotten: else Python tries again at the end, and says so at length."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def ends_on_sigterm(advice: str = "") -> Iterator[None]:
    """End in order, with exit code 75, on SIGTERM before and after the load (which has its own way)."""

    def ended(*_: object) -> None:
        stop(f"stopped by SIGTERM. {advice}".rstrip(), 75)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(message: str, code: int) -> NoReturn:
    """One message on stderr, and the exit code."""
    say(f"streamgauge: {message}")
    raise SystemExit(code)


def no_folder(what: str, exc: OSError) -> NoReturn:
    """Where what a command is to keep cannot be kept."""
    where = f" ({exc.filename})" if exc.filename else ""
    stop(f"cannot write the {what}: {exc.strerror}{where}. Mend that, or choose another folder with -o.", 1)
