"""What must never be written, and is grepped for in all that commands print and leave behind."""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import Result

from tests.conftest import journal_of

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Start = Callable[..., "Mock"]


def write(prompt: str) -> Path:
    path = Path("p.jsonl")
    path.write_text(json.dumps({"prompt": prompt}) + "\n")
    return path


@pytest.mark.parametrize("stray", ["/", "?", "#"])
def test_a_login_that_is_not_encoded_is_shown_nowhere(cli: Cli, mock: Start, here: Path, stray: str) -> None:
    """It is refused before anything is written: nobody knows what is the host, and what the password."""
    base_url = mock().base_url
    login = base_url.replace("://", f"://bob:hunter2{stray}and3@")
    for options in (["--base-url", login], ["--base-url", base_url, "--proxy", login.removesuffix("/v1")]):
        result = cli("run", write("a"), *options, "--model", "m")
        assert result.exit_code == 2
        assert "has an @ behind its host" in result.stderr
        assert "hunter2" not in result.output
        assert "and3" not in result.output
        assert not (here / "runs").exists()


class Echo(http.server.BaseHTTPRequestHandler):
    """Refuses every request, and says in many ways with what key it was asked."""

    key = 'sk/very+secret"key'

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key, auth = self.key, self.headers["authorization"]
        said = {
            "quoted": json.dumps({"headers": auth}),
            "codes": "".join(f"\\u{ord(c):04X}" for c in key),
            "query": urllib.parse.quote(auth, safe=""),
            "basic": base64.b64encode(f"{key}:".encode()).decode(),
        }
        data = json.dumps({"error": {"message": json.dumps(said), "code": auth}}).replace("/", "\\/").encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Request-Id", urllib.parse.quote(key, safe=""))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


def test_a_key_that_a_server_echoes_is_nowhere_in_any_form(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", Echo.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base_url = f"http://127.0.0.1:{server.server_port}/v1"
        said = [cli("run", write("a"), "--base-url", base_url, "--model", "m", "--retries", 0).output]
        said += [cli(*words).output for words in (["report"], ["status"], ["export", "-o", "e.jsonl"])]
        said.append(cli("probe", "--base-url", base_url, "--model", "m").output)
        server.shutdown()
    assert journal_of("runs/p")[0]["error"]["http_status"] == 400
    said += [p.read_bytes().decode("latin-1") for p in here.rglob("*") if p.is_file()]
    undone = [
        re.sub(r"\\\\+(u00([0-9a-fA-F]{2}))?", lambda m: chr(int(m[2] or "20", 16)).strip(), t) for t in said
    ]
    undone += [urllib.parse.unquote(text) for text in undone]
    for text in (*said, *undone):
        for part in ("sk/very", "very+sec", "secret", "c2svdmVye"):
            assert part not in text.replace("[secret]", "")
