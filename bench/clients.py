"""The two sides of the bench as commands, and how much each measure does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.children import STREAMGAUGE, Spent, run, script


class Scale(msgspec.Struct, frozen=True):
    """How much of everything."""

    rounds: int = 3
    flooded: tuple[int, int] = (4000, 400)  # requests
    paced_streams: int = 100
    paced_requests: int = 200
    paced_tokens: tuple[int, int] = (200, 20)
    memory: tuple[int, int] = (200_000, 2_000)  # requests
    starts: int = 10
    first_requests: int = 5
    accuracy_requests: int = 3  # a stream
    accuracy_tokens: tuple[int, int] = (200, 20)
    flood: tuple[int, int] = (400, 40)  # requests
    flood_tokens: int = 2000


QUICK = Scale(
    rounds=1,
    flooded=(1000, 100),
    paced_requests=100,
    memory=(20_000, 2_000),
    starts=3,
    first_requests=2,
    accuracy_requests=1,
    flood=(200, 40),
)


def write_prompts(folder: Path, count: int) -> Path:
    """A file of so many short prompts."""
    path = folder / f"prompts-{count}.jsonl"
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                file.write(json.dumps({"prompt": f"Tell me of river {number}."}) + "\n")
    return path


class Client(msgspec.Struct, frozen=True):
    """Ways to send a prompt file, each as a child process with a fresh output folder."""

    folder: Path
    url: str
    concurrency: int

    @property
    def out(self) -> Path:
        """The run directory of `ours`."""
        return self.folder / "ours"

    def ours(self, prompts: Path, tokens: int, *, timeout_s: float = 600.0) -> Spent:
        """Streamgauge."""
        return run(self.ours_command(prompts, tokens), self.folder, timeout_s=timeout_s)

    def ours_command(self, prompts: Path, tokens: int) -> list[str]:
        """The one place that says which command of ours is measured."""
        out = self.out
        shutil.rmtree(out, ignore_errors=True)
        options = {"--base-url": self.url, "-m": "mock", "-c": self.concurrency, "--max-tokens": tokens}
        given = [str(part) for option in options.items() for part in option]
        return [STREAMGAUGE, "run", str(prompts), "-o", str(out), *given]

    def script(self, prompts: Path, tokens: int) -> Spent:
        """The openai script."""
        return run(self.script_command(prompts, tokens), self.folder)

    def script_command(self, prompts: Path, tokens: int) -> list[str]:
        """How the openai script is called."""
        out = self.folder / "script.jsonl"
        out.unlink(missing_ok=True)
        numbers = [str(self.concurrency), str(tokens)]
        return [*script("openai_script.py"), str(prompts), self.url, str(out), *numbers]

    def floor(self, prompts: Path, tokens: int) -> Spent:
        """The bare protocol."""
        return run(
            [*script("floor.py"), str(prompts), self.url, str(self.concurrency), str(tokens)], self.folder
        )

    def each(self) -> dict[str, Callable[[Path, int], Spent]]:
        """All of them."""
        return {"ours": self.ours, "script": self.script, "floor": self.floor}
