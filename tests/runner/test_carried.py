"""What a machine carries, as far as anybody knows, and what is said of a load beyond it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.carried import CAUTIOUS_PER_S, Carried, carried, crowded, heavy, keep, place

KNOWN = Carried(10_000.0, "here")


@pytest.mark.parametrize(
    ("asked", "workers", "cores", "said"),
    [
        (10_000, 1, 4, None),
        (10_001, 1, 4, "use --workers 2"),
        (20_000, 2, 4, None),
        (25_000, 2, 4, "and so 2 of them 20,000: use --workers 3"),
        (25_000, 3, 2, "its 2 cores carry less than that with any --workers"),  # they share the cores
    ],
)
def test_a_load_beyond_it_is_announced(asked: float, workers: int, cores: int, said: str | None) -> None:
    notes = heavy(asked, workers, KNOWN, cores)
    if said is None:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith(f"this load asks for about {asked:,} token events/s, and one process here carries")
    assert "about 10,000 (as calibrated)" in note
    assert said in note


@pytest.mark.parametrize(
    ("streams", "workers", "cores", "said"),
    [
        (333, 1, 4, None),
        (400, 1, 4, "where each of 400 streams brings more than 25 tokens/s"),
        (400, 1, 4, "For 30 tokens/s each, use --workers 2"),
        (666, 2, 4, None),
        (1000, 2, 4, "as calibrated), and so 2 of them 20,000, and where each of 1,000 streams"),
        (1000, 2, 2, "its 2 cores carry less than that with any --workers: lower the concurrency"),
        (0, 1, 4, None),
    ],
)
def test_a_closed_loop_hears_from_which_speed_on_it_is_too_much(
    streams: float, workers: int, cores: int, said: str | None
) -> None:
    notes = crowded(streams, workers, KNOWN, cores)
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_a_guess_is_said_to_be_one() -> None:
    assert "a cautious figure" in heavy(1e6, 1, Carried(CAUTIOUS_PER_S), 4)[0]


def test_what_was_measured_is_kept_for_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert carried() == Carried(CAUTIOUS_PER_S)
    keep(31_000.0)
    assert carried().events_per_s == 31_000.0
    monkeypatch.setattr("platform.node", lambda: "another")
    assert carried() == Carried(CAUTIOUS_PER_S)
    place().write_text("{")
    assert carried() == Carried(CAUTIOUS_PER_S)


def test_a_folder_that_cannot_be_made_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep(31_000.0)
    assert carried() == Carried(CAUTIOUS_PER_S)
