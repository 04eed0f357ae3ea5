"""`python -m runner.mock.attached CONFIG`: a mock that ends with whoever started it, however that one ends.

CONFIG is a `MockConfig` as JSON. The base URL is the first line on standard output.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec

from runner.mock.config import MockConfig
from runner.mock.server import run_forever


def main() -> None:
    """Serve on a free loopback port until standard input closes, or a signal comes."""
    config = msgspec.json.decode(sys.argv[1], type=MockConfig, dec_hook=lambda _, text: Path(text))
    threading.Thread(target=_end_with_input, daemon=True).start()
    run_forever(config, "127.0.0.1", 0, lambda base_url: print(base_url, flush=True))


def _end_with_input() -> None:
    sys.stdin.buffer.read()  # inside a system call: it costs the loop nothing
    os._exit(0)


if __name__ == "__main__":
    main()
