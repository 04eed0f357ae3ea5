from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from runner.accuracy import Accuracy, Off
from runner.calibrate import Calibration, Largest, Level
from runner.cli import group
from runner.commands.calibrate import lines

FOUND = Calibration(
    floor=Level(
        streams=100,
        rate=100.0,
        events_per_s=10_000.0,
        accuracy=Accuracy(
            Off(500, 0.07, 0.43), Off(50_000, 0.06, 0.41), Off(49_500, 0.02, 0.3), Off(500, 0.2, 1.25)
        ),
        lag_p99_ms=None,
        cpu_us=27.3,
        cpu_share=0.273,
        mock_late=Off(50_000, 0.01, 0.2),
    ),
    largest=[Largest(1.0, 0, 0.0, at_least=False), Largest(5.0, 240, 24_000.0, at_least=True)],
    notes=["the machine hums"],
)


def test_the_text_by_hand() -> None:
    shown = lines(FOUND)
    assert shown[0] == "NOTE the machine hums."
    assert shown[1] == "noise floor at 100 streams x 100 tokens/s (10,000 tokens/s), 500 answers"
    assert [line.split()[-4:] for line in shown[3:7]] == [
        ["0.07", "ms", "0.43", "ms"],
        ["0.06", "ms", "0.41", "ms"],
        ["0.02", "ms", "0.30", "ms"],
        ["0.20", "ms", "1.25", "ms"],
    ]
    assert shown[7].split()[-1] == "n/a"
    assert shown[9] == "  client CPU: 27 us a token, 27% of a core"
    assert shown[11:] == ["  within 1 ms: none", "  within 5 ms: 240 streams, 24,000 tokens/s or more"]
    assert len({len(line) for line in shown[2:9]}) == 1


def test_json_holds_all_of_it() -> None:
    arguments = ["calibrate", "--streams", "2", "--rate", "50", "--seconds", "0.2", "--no-search", "--json"]
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["floor"]["accuracy"]["token"]["n"] == 20
    assert found["largest"] == []


@pytest.mark.parametrize("given", [["--streams", "0"], ["--rate", "0"], ["--seconds", "-1"]])
def test_what_is_no_load_is_a_usage_error(given: list[str]) -> None:
    assert CliRunner().invoke(group, ["calibrate", *given]).exit_code == 2


def test_more_streams_than_files_is_an_error_that_says_what_to_do() -> None:
    result = CliRunner().invoke(group, ["calibrate", "--streams", "100000000"])
    assert result.exit_code == 1
    assert "ulimit -n" in result.output
