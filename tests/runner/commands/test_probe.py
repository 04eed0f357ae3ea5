"""`streamgauge probe`: what it says of endpoints of every kind, which flags it suggests, how it ends."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from tests.runner.endpoints import Endpoint, in_thread, text_of
from tests.runner.streams import delta

if TYPE_CHECKING:
    from tests.conftest import Mock

Cli = Callable[..., Result]
Serve = Callable[[Endpoint], str]
KEY = "sk-very-secret-0123456789"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts endpoints; gives their URL, without a path."""
    with ExitStack() as stack:
        yield lambda endpoint: stack.enter_context(in_thread(endpoint))


def rows(result: Result) -> dict[str, tuple[str, str]]:
    """The table: name to (verdict, what was seen)."""
    assert result.exit_code == 0, result.stderr
    found = re.findall(r"^  (\S+(?: \S+)?) +(ok|note|problem) +(.+)$", result.stdout, re.M)
    return {name: (verdict, seen) for name, verdict, seen in found}


def suggested(result: Result) -> list[str]:
    line = re.search(r"To run:\n  (.+)$", result.stdout, re.M)
    assert line is not None
    return shlex.split(line[1])


def probe(cli: Cli, url: str, *more: object) -> Result:
    return cli("probe", "--base-url", url, *more)


# -- the mock


def test_the_mock(cli: Cli, mock: Callable[..., Mock]) -> None:
    server = mock(ttft_ms=20, itl_ms=20)
    result = probe(cli, server.base_url)
    found = rows(result)
    assert found["base URL"] == ("ok", "answers as given")
    assert found["models"] == ("ok", "1 listed: mock")
    assert found["stream"][1].startswith("streamed: 16 chunks for 16 tokens, a role chunk before")
    assert found["end"] == ("ok", "finish reason length, then [DONE]")
    assert found["connection"][0] == "ok"
    assert found["connection"][1].startswith("kept for the next request; opening one takes ")
    assert found["usage"] == ("ok", "sent when asked, not unasked")
    assert found["cached tokens"][1].startswith("told as prompt_tokens_details.cached_tokens: 0 then 0 of ")
    assert found["reasoning"] == ("ok", "none seen")
    assert found["limit"] == ("ok", "max_tokens is heeded (16 tokens told for 16)")
    assert found["cost"][1] == "not told by the server"
    assert found["cancel"][0] == "note"
    assert found["cancel"][1].startswith("cannot be seen from outside: the server answers several at once")
    assert "billed" in found["cancel"][1]
    assert found["server"] == ("ok", "server: streamgauge-mock")
    assert re.match(r"headers after .* ms, first token after .* ms, end after .* ms; ", found["times"][1])
    assert suggested(result) == [
        *("streamgauge", "run", "PROMPTS", "--base-url", server.base_url, "--model", "mock")
    ]
    assert "at most 12 requests" in result.stderr
    assert result.stdout.rstrip().endswith("2 answers without usage, 1 of them closed early.")


def test_it_says_how_many_requests_it_sent(cli: Cli, mock: Callable[..., Mock]) -> None:
    server = mock(itl_ms=20)
    result = probe(cli, server.base_url, "--json")
    told = json.loads(result.stdout)
    assert told["cost"]["requests"] == server.completions <= 12
    assert told["cost"]["answers"] == 7
    assert server.stats()["client_disconnects"] == 1


def test_the_suggested_command_runs(cli: Cli, mock: Callable[..., Mock], here: Path) -> None:
    server = mock()
    words = suggested(probe(cli, server.base_url))
    (here / "PROMPTS").write_text("hello\n", "utf-8")
    assert cli(*words[1:], "--input-format", "txt").exit_code == 0


def test_json(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint(refuses=("stream_options",)))
    told = json.loads(probe(cli, f"{url}/v1", "--json").stdout)
    assert (told["base_url"], told["model"], told["api"]) == (f"{url}/v1", "m", "chat")
    assert told["failure"] is None
    assert told["flags"] == ["--no-usage"]
    assert told["command"].endswith("--model m --no-usage")
    finding = next(f for f in told["findings"] if f["name"] == "usage")
    assert finding["verdict"] == "problem"
    assert finding["flag"] == "--no-usage"


# -- the URL and the models


@pytest.mark.parametrize("page", [False, True], ids=["404", "web page"])
def test_a_url_that_lacks_v1(cli: Cli, serve: Serve, page: bool) -> None:
    url = serve(Endpoint(prefix="/api/v1", page=page))
    result = probe(cli, f"{url}/api")
    verdict, seen = rows(result)["base URL"]
    assert verdict == "problem"
    assert seen == f"{url}/api does not answer, {url}/api/v1 does  -> --base-url {url}/api/v1"
    assert suggested(result)[3:5] == ["--base-url", f"{url}/api/v1"]


def test_a_url_with_a_v1_too_many(cli: Cli, serve: Serve, here: Path) -> None:
    endpoint = Endpoint(prefix="")
    url = serve(endpoint)
    result = probe(cli, f"{url}/v1")
    words = suggested(result)
    # `run` adds /v1 to a URL without a path, so the whole path is named.
    assert words[3:5] == ["--base-url", f"{url}/chat/completions"]
    (here / "PROMPTS").write_text("hello\n", "utf-8")
    assert cli(*words[1:], "--input-format", "txt").exit_code == 0


@pytest.mark.parametrize("page", [False, True], ids=["404", "web page"])
def test_no_api_anywhere(cli: Cli, serve: Serve, page: bool) -> None:
    url = serve(Endpoint(prefix="/nowhere", page=page))
    result = probe(cli, f"{url}/v1", "--model", "m")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "this endpoint could not be used: " in result.stderr
    assert f"{url}/chat/completions was tried as well." in result.stderr
    assert "Check --base-url" in result.stderr


def test_a_model_is_chosen_where_there_is_only_one(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint(models=("only-one",)))
    assert suggested(probe(cli, url))[5:7] == ["--model", "only-one"]


def test_several_models_and_none_named(cli: Cli, serve: Serve) -> None:
    endpoint = Endpoint(models=tuple(f"model-{n}" for n in range(20)))
    result = probe(cli, serve(endpoint))
    assert result.exit_code == 2
    assert "no --model, and 20 models are listed: model-0, model-1, " in result.stderr
    assert "and 12 more. Choose one with --model." in result.stderr
    assert endpoint.bodies == []


def test_no_list_of_models(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint(models=None))
    assert rows(probe(cli, url, "--model", "m"))["models"] == ("note", "no list at /models")
    result = probe(cli, url)
    assert result.exit_code == 2
    assert f"no --model, and {url}/v1/models lists none. Name one with --model." in result.stderr


def test_a_model_that_is_not_listed(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint(models=("m", "n"), strict=False))
    verdict, seen = rows(probe(cli, url, "--model", "other"))["models"]
    assert (verdict, seen) == ("note", "other answers and is not listed; 2 listed: m, n")


def test_a_model_there_is_not(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint()), "--model", "gone")
    assert result.exit_code == 1
    assert "HTTP 404: no such model" in result.stderr
    assert "The URL is right, it lists models; check --model (gone) and --api." in result.stderr


# -- what cannot be used


def test_nobody_listens(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        for more in ([], ["--model", "m"]):
            result = probe(cli, url, *more)
            assert result.exit_code == 1
            assert "Connection refused. Check that the server runs there, and --base-url." in result.stderr
            assert result.stdout == ""


@pytest.mark.parametrize("more", [[], ["--model", "m"]], ids=["no model", "model"])
def test_a_key_that_is_refused(cli: Cli, serve: Serve, here: Path, more: list[str]) -> None:
    (here / "key").write_text(KEY, "utf-8")
    url = serve(Endpoint(key="another"))
    result = probe(cli, url, "--api-key-file", "key", *more)
    assert result.exit_code == 1
    assert "HTTP 401" in result.stderr
    assert "The key was refused" in result.stderr
    assert KEY not in result.output
    result = probe(cli, url, *more)
    assert result.exit_code == 1
    assert "No key was sent: set OPENAI_API_KEY" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base-url", "nonsense"], "'nonsense' is not a URL like"),
        (["--base-url", "http://x", "--model", " "], "--model is empty"),
        (["--base-url", "http://x", "--prompt", ""], "--prompt is empty"),
        (["--base-url", "http://x", "--ca-file", "nowhere.pem"], "--ca-file nowhere.pem: No such file"),
    ],
)
def test_wrong_options(cli: Cli, arguments: list[str], says: str) -> None:
    result = cli("probe", *arguments)
    assert result.exit_code == 2 or "UsageError" in repr(result.exception)
    assert says in result.stderr + str(result.exception)
    assert result.stdout == ""


def test_an_answer_that_does_not_come(cli: Cli, mock: Callable[..., Mock]) -> None:
    result = probe(cli, mock(ttft_ms=60_000).base_url, "--timeout", "300ms")
    assert result.exit_code == 1
    assert "not finished within 0.3 s (this client's limit, --timeout)" in result.stderr


def test_failures_as_json(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(fails_after=0)), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["failure"]["message"].startswith("this endpoint could not be used: HTTP 429: slow down.")
    assert told["findings"] == []
    assert told["command"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_ctrl_c(
    mock_process: Callable[..., Mock],
    spawn: Callable[..., subprocess.Popen[str]],
    until: Callable[..., None],
) -> None:
    mock = mock_process("--ttft", "60000")
    child = spawn("probe", "--base-url", mock.base_url)
    until(lambda: mock.stats()["in_flight"] == 1, child)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert err.rstrip().endswith("interrupted")
    assert "Traceback" not in err


# -- how it answers


def test_usage_that_may_not_be_asked_for(cli: Cli, serve: Serve) -> None:
    endpoint = Endpoint(refuses=("stream_options",), usage="never")
    result = probe(cli, serve(endpoint))
    verdict, seen = rows(result)["usage"]
    assert verdict == "problem"
    assert "asking for it is refused (bad_request: HTTP 400: Unsupported parameter: stream_options)" in seen
    assert "it does not come unasked: tokens stay unknown  -> --no-usage" in seen
    assert suggested(result)[-1] == "--no-usage"
    assert rows(result)["cached tokens"] == ("note", "not seen: no usage came")
    assert sum("stream_options" in body for body in endpoint.bodies) == 1


@pytest.mark.parametrize(
    ("usage", "seen"),
    [
        ("always", "sent when asked, also unasked"),
        ("never", "asked for and not sent: tokens stay unknown; not unasked"),
        ("every chunk", "sent when asked, also unasked, with every chunk"),
    ],
)
def test_usage(cli: Cli, serve: Serve, usage: str, seen: str) -> None:
    assert rows(probe(cli, serve(Endpoint(usage=usage))))["usage"][1] == seen


def test_only_max_completion_tokens(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint(refuses=("max_tokens",), limit="max_completion_tokens"))
    result = probe(cli, url)
    verdict, seen = rows(result)["limit"]
    assert verdict == "problem"
    assert seen.startswith("max_tokens is refused (bad_request: HTTP 400: Unsupported parameter: max_tokens)")
    assert "max_completion_tokens is heeded (16 tokens told for 16): use it in place of --max-tokens" in seen
    assert suggested(result)[-2:] == ["--param", "max_completion_tokens=N"]


def test_neither_stream_options_nor_max_tokens(cli: Cli, serve: Serve) -> None:
    refuses = ("stream_options", "max_tokens")
    result = probe(cli, serve(Endpoint(refuses=refuses, limit="max_completion_tokens")))
    assert suggested(result)[-3:] == ["--no-usage", "--param", "max_completion_tokens=N"]
    # Each with the server's words about it, not about the other.
    assert "Unsupported parameter: stream_options" in rows(result)["usage"][1]
    assert "Unsupported parameter: max_tokens" in rows(result)["limit"][1]


def test_an_endpoint_that_refuses_every_way_of_asking(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(refuses=("stream",))))
    assert result.exit_code == 1
    assert "HTTP 400: Unsupported parameter: stream." in result.stderr
    assert "asking without stream_options and with max_completion_tokens was tried as well" in result.stderr


def test_what_was_not_tried_is_not_said_to_be(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(refuses=("stream",), fails_after=1)))
    assert result.exit_code == 1
    assert "HTTP 400: Unsupported parameter: stream." in result.stderr
    assert "was tried as well" not in result.stderr


def test_a_redirect_is_not_followed(cli: Cli, serve: Serve) -> None:
    endpoint = Endpoint(moved_to="http://elsewhere.invalid/v1/chat/completions")
    result = probe(cli, serve(endpoint), "--model", "m")
    assert result.exit_code == 1
    assert "HTTP 307 to http://elsewhere.invalid/v1/chat/completions: redirects are not" in result.stderr


def test_a_limit_nobody_heeds(cli: Cli, serve: Serve) -> None:
    # It waits, or the whole answer may have come before anybody can cut it.
    result = probe(cli, serve(Endpoint(limit=None, finish="stop", waits_after=300)))
    assert rows(result)["limit"] == (
        "problem",
        "max_tokens is not heeded, max_completion_tokens is not heeded",
    )
    assert rows(result)["end"][1] == "not seen: the answer was cut, as it went on past its limit"


def test_a_limit_that_is_heeded_under_its_other_name(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(limit="max_completion_tokens")))
    assert rows(result)["limit"][1].startswith("max_tokens is not heeded, max_completion_tokens is heeded")
    assert suggested(result)[-2:] == ["--param", "max_completion_tokens=N"]


def test_an_answer_that_ends_before_its_limit(cli: Cli, serve: Serve) -> None:
    seen = rows(probe(cli, serve(Endpoint(finish="stop"))))["limit"]
    assert seen == ("note", "max_tokens is taken; the answer ended before it (16 tokens told for 16)")


def test_whole_documents(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint(streamed=False))))
    assert found["stream"] == ("problem", "not streamed: a whole document came, so there are no token times")
    assert found["end"] == ("ok", "finish reason length")
    assert found["usage"] == ("ok", "sent when asked, not unasked")
    assert "first token" not in found["times"][1]
    assert found["cancel"][1].startswith("not tried: nothing was streamed")


def test_no_done(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint(done=False, role=False))))
    assert found["end"] == ("note", "finish reason length, no [DONE]")
    assert "no role chunk before the first token" in found["stream"][1]


def test_chunks_of_several_tokens(cli: Cli, serve: Serve) -> None:
    verdict, seen = rows(probe(cli, serve(Endpoint(a_chunk=4, gap_s=0.001))))["stream"]
    assert verdict == "note"
    assert seen.startswith("streamed: 4 chunks for 16 tokens, ")
    assert seen.endswith("about 4.0 tokens a chunk: its gaps are no token gaps")


def test_a_stream_that_comes_at_once(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint(one_write=True))))
    assert found["stream"][0] == "note"
    assert "all chunks came at once" in found["stream"][1]
    assert re.match(r"not seen: the long answer was over after .* ms, before it could", found["cancel"][1])


def thinking(name: str) -> Callable[[str], dict[str, Any]]:
    def token(text: str) -> dict[str, Any]:
        more: dict[str, Any] = {name: text}
        return delta(**more)

    return token


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        (thinking("reasoning_content"), ("ok", "in reasoning_content")),
        (thinking("reasoning"), ("ok", "in reasoning")),
        (
            lambda text: delta([{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]),
            ("ok", "in content parts of type thinking"),
        ),
        (
            lambda text: delta(f"<think>{text}"),
            ("note", "in <think> inside the text: it stays in the text"),
        ),
    ],
    ids=["reasoning_content", "reasoning", "parts", "think"],
)
def test_reasoning(
    cli: Cli, serve: Serve, token: Callable[[str], dict[str, Any]], seen: tuple[str, str]
) -> None:
    assert rows(probe(cli, serve(Endpoint(token=token))))["reasoning"] == seen


def test_reasoning_that_is_hidden(cli: Cli, serve: Serve) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 12}}
    found = rows(probe(cli, serve(Endpoint(usage_more=lambda _: details))))
    assert found["reasoning"] == ("note", "hidden; up to 12 reasoning tokens told")


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (
            lambda n: {"prompt_tokens_details": {"cached_tokens": 96 if n > 1 else 0}},
            "told as prompt_tokens_details.cached_tokens: 0 then 96 of 100 prompt tokens",
        ),
        (
            lambda n: {"prompt_cache_hit_tokens": 64 if n > 1 else 0},
            "told as prompt_cache_hit_tokens: 0 then 64 of 100 prompt tokens",
        ),
        (lambda _: {}, "not told"),
    ],
    ids=["OpenAI", "DeepSeek", "none"],
)
def test_cached_tokens(cli: Cli, serve: Serve, usage: Callable[[int], dict[str, Any]], counts: str) -> None:
    endpoint = Endpoint(usage_more=usage)
    seen = rows(probe(cli, serve(endpoint)))["cached tokens"][1]
    assert seen.removesuffix(", the same prompt sent twice") == counts
    assert text_of(endpoint.bodies[0]) == text_of(endpoint.bodies[1])


def test_the_providers_own_cost(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(usage="always", usage_more=lambda _: {"cost": 0.25})))
    assert rows(result)["cost"] == ("ok", "told as usage.cost: the provider's own number")
    assert re.search(r"; usage\.cost [0-9.]+ in all\.$", result.stdout.rstrip())


def test_rate_limits_and_who_it_is(cli: Cli, serve: Serve) -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "500",
        "X-RateLimit-Remaining-Requests": "499",
        "X-LiteLLM-Version": "1.2.3",
        "Via": "1.1 gateway",
        "CF-Ray": "8a1b2c3d",
    }
    found = rows(probe(cli, serve(Endpoint(headers=headers))))
    assert found["rate limits"][1].startswith("x-ratelimit-limit-requests 500")
    assert "remaining" not in found["rate limits"][1]
    assert "via: 1.1 gateway" in found["server"][1]
    assert "x-litellm-version: 1.2.3" in found["server"][1]
    assert found["server"][1].endswith("cf-ray")


def test_mistakes_that_are_refused(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint())))
    assert found["unknown model"] == (
        "ok",
        "a model that does not exist is refused with HTTP 404 (bad_request)",
    )
    assert found["wrong value"] == ("ok", 'temperature="hot" is refused with HTTP 400 (bad_request)')


def test_mistakes_that_are_refused_inside_the_stream(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint(in_band=True, refuses=("stream_options",)))))
    assert found["wrong value"][1] == 'temperature="hot" is refused inside the stream (bad_request)'
    assert found["usage"][1].endswith("--no-usage")


def test_connections_that_are_not_kept(cli: Cli, serve: Serve) -> None:
    verdict, seen = rows(probe(cli, serve(Endpoint(keep_alive=False))))["connection"]
    assert verdict == "note"
    assert seen.startswith("not kept: every request opens its own; opening one takes ")


def test_connections_that_are_closed_unannounced(cli: Cli, mock: Callable[..., Mock]) -> None:
    server = mock(keep_alive_s=0, itl_ms=20)
    result = probe(cli, server.base_url)
    assert rows(result)["connection"][0] == "note"
    assert (
        "closed by the server unannounced; sent again at once, as run does" in rows(result)["connection"][1]
    )
    told = json.loads(probe(cli, server.base_url, "--json").stdout)
    assert told["cost"]["requests"] <= 12


def test_a_rate_limit_met_half_way(cli: Cli, serve: Serve) -> None:
    found = rows(probe(cli, serve(Endpoint(fails_after=1))))
    assert found["failures"] == (
        "note",
        "2 further answers failed: rate_limit: HTTP 429: slow down; rate_limit: HTTP 429: slow down",
    )
    assert found["usage"][1] == "sent when asked, not seen unasked"
    assert "not seen: the answer that was to be closed failed" in found["cancel"][1]
    assert "like failures that pass" in found["unknown model"][1]


# -- what is asked


def test_text_completions(cli: Cli, mock: Callable[..., Mock]) -> None:
    result = probe(cli, mock(itl_ms=10).base_url, "--api", "completions")
    assert rows(result)["stream"][1].startswith("streamed: 16 chunks for 16 tokens")
    assert "role" not in rows(result)["stream"][1]
    assert suggested(result)[-2:] == ["--api", "completions"]


def test_a_prompt_and_a_limit_of_ones_own(cli: Cli, serve: Serve) -> None:
    endpoint = Endpoint()
    probe(cli, serve(endpoint), "--prompt", "my own words", "--max-tokens", 5)
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": "my own words"}]
    assert endpoint.bodies[0]["max_tokens"] == 5
    assert max(body["max_tokens"] for body in endpoint.bodies) == 256


def test_no_more_than_a_dozen(cli: Cli, serve: Serve) -> None:
    endpoints = [
        Endpoint(prefix="", refuses=("stream_options", "max_tokens"), limit="max_completion_tokens"),
        Endpoint(slots=True, gap_s=0.01, usage="every chunk"),
        Endpoint(metrics=True, gap_s=0.002, honours=False, limit="max_completion_tokens"),
    ]
    for endpoint in endpoints:
        told = json.loads(probe(cli, f"{serve(endpoint)}/v1", "--model", "m", "--json").stdout)
        assert told["cost"]["requests"] == len(endpoint.paths) <= 12


# -- secrets


def test_no_secret_is_written(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    token = "token-of-mine-123"
    echo = {"Server": f"echo {KEY}", "X-RateLimit-Limit-Requests": token}
    url = serve(Endpoint(key=KEY, headers=echo, refuses=("stream_options",)))
    options = ["--api-key-env", "MY_KEY", "--header", f"X-Token:{token}"]
    for more in ([], ["--json"]):
        result = probe(cli, f"{url}/v1", *options, *more)
        assert result.exit_code == 0
        assert KEY not in result.output
        assert token not in result.output
    words = suggested(probe(cli, f"{url}/v1", *options))
    assert words[7:-1] == ["--api-key-env", "MY_KEY", "--header", "X-Token:VALUE"]


def test_a_login_in_the_url_is_not_written(cli: Cli, serve: Serve) -> None:
    url = serve(Endpoint()).replace("http://", "http://bob:hunter-2-and-3@")
    result = probe(cli, f"{url}/v1")
    assert result.exit_code == 0
    assert "hunter-2" not in result.output
    assert "bob" not in result.output


def test_through_a_proxy_whose_login_is_not_written(cli: Cli, serve: Serve) -> None:
    endpoint = Endpoint(prefix="/v1")
    proxy = serve(endpoint).replace("http://", "http://bob:hunter-2-and-3@")
    result = probe(cli, "http://no-such-host.invalid/v1", "--proxy", proxy, "--insecure")
    assert rows(result)["base URL"] == ("ok", "answers as given")
    assert "certificate" not in rows(result)  # there is none
    assert suggested(result)[-3:] == ["--proxy", "PROXY", "--insecure"]
    assert "hunter-2" not in result.output
    assert endpoint.bodies


def test_control_characters_of_a_server_reach_no_terminal(cli: Cli, serve: Serve) -> None:
    result = probe(cli, serve(Endpoint(models=("m", "bad\x1b[31m\nname"))), "--model", "m")
    assert "\x1b" not in result.output
    assert rows(result)["models"] == ("ok", "2 listed: m, bad [31m name")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom runner.commands import probe\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"aiohttp", "asyncio", "msgspec", "numpy", "pandas"} & set(done.stdout.split())
