"""The mock in a process of its own, as the ruler of a client's times: it logs when it sent what."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.mock.config import MockConfig
from runner.mock.faults import draw_fault
from runner.mock.log import Entry
from runner.mock.timing import Timing, request_rng

_END_S = 10.0
LOG_S = 5.0  # until the log says what has ended; it is written every 50 ms
_decode = msgspec.json.Decoder(Entry).decode


class RulerError(Exception):
    """The mock does not do its part. The text says what it said."""


class Ruler:
    """A mock that serves at `base_url`, and its log."""

    def __init__(self, base_url: str, log: Path) -> None:
        self.base_url = base_url
        self._log = log
        self._read_bytes = 0
        self._entries: dict[str, Entry] = {}

    def entries(self, request_ids: set[str], limit_s: float = LOG_S) -> dict[str, Entry]:
        """What the mock says of these requests, by id, once it says it of all. Each can be had once. Blocks.

        Raises:
            RulerError: some of them are missing after `limit_s`.
        """
        until = time.monotonic() + limit_s
        while not request_ids <= self._entries.keys():
            if time.monotonic() > until:
                missing = len(request_ids - self._entries.keys())
                raise RulerError(f"the mock's log lacks {missing} of {len(request_ids)} requests")
            if not self._read():
                time.sleep(0.01)
        found = {request_id: self._entries[request_id] for request_id in request_ids}
        self._entries.clear()
        return found

    def _read(self) -> bool:
        with self._log.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data.rfind(b"\n") + 1  # the last line may still be on its way
        for line in data[:whole].splitlines():
            entry = _decode(line)
            self._entries[entry.request_id] = entry
        self._read_bytes += whole
        return whole > 0


def planned(config: MockConfig, entry: Entry) -> Iterator[int]:
    """When this request's tokens were to be sent: endless, `monotonic_ns`. The mock draws in this order."""
    assert entry.ordinal is not None
    rng = request_rng(config.seed, entry.ordinal)
    draw_fault(config.faults, rng)
    return Timing(config).schedule(entry.received_ns, rng)


@contextmanager
def ruler(config: MockConfig) -> Iterator[Ruler]:
    """A mock with this behaviour, and a log, while the block runs.

    Raises:
        RulerError: it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="streamgauge-") as folder:
        log = Path(folder) / "log.jsonl"
        config = msgspec.structs.replace(config, log=log)
        said = Path(folder) / "said.txt"
        with said.open("wb") as errors:
            child = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "runner.mock.attached",
                    msgspec.json.encode(config, enc_hook=str).decode(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a Ctrl-C in the terminal is for the client, which ends this one
            )
        try:
            assert child.stdout is not None
            base_url = child.stdout.readline().decode().strip()
            if not base_url:
                words = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise RulerError(f"the mock does not come up: {words[-1] if words else 'it says nothing'}")
            yield Ruler(base_url, log)
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    child.stdout.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
