"""The colours of charts: told apart by colour-blind readers, with 3:1 contrast on the page's ground.

Figures are drawn in the light colours; the page's script takes each one's counterpart in dark mode. Lines
differ in their dash as well, and failures in their symbol: colour alone says nothing.
"""

from __future__ import annotations

BLUE = "#0072b2"
ORANGE = "#c65400"
GREEN = "#008561"
PURPLE = "#a8488b"
RED = "#b3261e"  # failures only
GREY = "#66707f"  # what was asked for, limits, bands

_PAIRS = {
    BLUE: "#56b4e9",
    ORANGE: "#f0883e",
    GREEN: "#2fc99b",
    PURPLE: "#e0a3c8",
    RED: "#ff8a80",
    GREY: "#9aa4b2",
}


def faint(colour: str) -> str:
    """The colour for an area behind its line."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"


LIGHT_TO_DARK = _PAIRS | {faint(light): faint(dark) for light, dark in _PAIRS.items()}
SERIES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def series(n: int) -> tuple[str, str]:
    """The colour and the dash of the nth line (from 0); they repeat after every combination was used."""
    return SERIES[n % len(SERIES)], DASHES[(n + n // len(SERIES)) % len(DASHES)]
