"""docs/ci-gate.md, and the README's part about it: their commands do what they say, on the mock."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import Mock
from tests.docs.pages import DOCS, README, read

Cli = Callable[..., Result]
Start = Callable[..., Mock]

# The loads of the page take minutes. These take seconds, and what they are to show is beyond any noise.
LESS = ["-c", 4, "-n", 4, "--pairs", 3, "--metric", "ttft"]
TTFT_MS = {"150": 20.0, "210": 400.0}  # ms
GREEN = ["--max-regression", "900%"]


def commands(text: str) -> list[list[str]]:
    """The words of each `streamgauge` command of the ```sh blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(re.sub(r";.*|\s&$", "", line))[1:] for line in lines if line.startswith("streamgauge")
    ]


def section(page: Path, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", read(page), re.M | re.S)
    assert found is not None
    return found[1]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def started(mock: Start, mocks: list[list[str]]) -> dict[str, str]:
    """The mocks of a page, by the URL it shows: each really runs elsewhere."""
    found = {}
    for words in mocks:
        server = mock(ttft_ms=TTFT_MS[option(words, "--ttft")], itl_ms=float(option(words, "--itl")) / 10)
        found[f"http://127.0.0.1:{option(words, '--port')}"] = server.base_url
    return found


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy this machine is, is not what these tests are about."""
    from reports import validity

    for name, limits in validity.LIMITS.items():
        easy = 0.0 if name == "sent" else 1e9
        monkeypatch.setitem(validity.LIMITS, name, tuple(easy for _ in limits))


@pytest.mark.usefixtures("fit")
def test_green_and_red_as_the_page_says(cli: Cli, mock: Start) -> None:
    text = section(DOCS / "ci-gate.md", "A red build and a green one, in two minutes")
    words = commands(text)
    there = started(mock, [one for one in words if one[0] == "mock"])
    green, red = [[there.get(word, word) for word in one] for one in words if one[0] == "ab"]
    assert re.findall(r"exit code is (\d+)", text) == ["0", "99"]
    passed = cli(*green, *LESS, *GREEN, "-o", "green")
    assert passed.exit_code == 0, passed.output
    assert Path("gate.md").read_text().startswith("## PASS: ")
    failed = cli(*red, *LESS, "-o", "DIR")
    assert failed.exit_code == 99, failed.output
    assert Path("gate.md").read_text().startswith("## FAIL: ttft")
    _check_what_is_left(cli)


def _check_what_is_left(cli: Cli) -> None:
    """What the page says of the folder, in the middle of its sentences."""
    inline = re.findall(r"`streamgauge ((?:compare|report|check) DIR\S*)`", read(DOCS / "ci-gate.md"))
    codes = {"compare": {99}, "report": {0}, "check": {0, 99}}
    assert {one.split()[0] for one in inline} == set(codes)
    for one in inline:
        done = cli(*one.split())
        assert done.exit_code in codes[one.split()[0]], done.output


def test_the_readme_s_gate_is_that_of_the_page() -> None:
    block = commands(section(README, "A gate for pull requests"))
    page = commands(section(DOCS / "ci-gate.md", "A red build and a green one, in two minutes"))
    slow = [one for one in block if one[0] == "mock" and option(one, "--ttft") == "210"]
    assert [option(one, "--port") for one in slow] == ["8002"]
    red = page[-1]
    assert [word.replace(":8001", ":8000") for word in block[-1]] == red


def test_every_way_to_name_the_sides(cli: Cli) -> None:
    for name in "ABS":
        Path(f"{name}.toml").write_text(
            f'[target]\nbase_url = "http://{name.lower()}.example/v1"\nmodel = "m"\n'
            "[prompts.synthetic]\ninput_tokens = 20\n[load]\nconcurrency = 2\nrequests = 6\n"
        )
    found = commands(section(DOCS / "ci-gate.md", "What the two sides are"))
    assert len(found) == 4
    for words in found:
        done = cli(*words, "--dry-run")
        assert done.exit_code == 0, f"{words}: {done.output}"
        assert "differs on purpose: " in done.stdout
