"""What can go wrong on purpose, by name. A fault is data; a new one is a new line in a group."""

from __future__ import annotations

import random
from collections.abc import Mapping
from difflib import get_close_matches

from runner.mock.fault import Fault
from runner.mock.faults_of_connections import CARRIED, CONNECTION
from runner.mock.faults_of_http import BODIES, REDIRECTS, REFUSALS
from runner.mock.faults_of_streams import CHUNKS, EMPTY, ERRORS, FRAMING

GROUPS: dict[str, tuple[Fault, ...]] = {
    "Refusals": REFUSALS,
    "Redirects": REDIRECTS,
    "Connections that break or fall silent": CONNECTION,
    "Odd HTTP, good answers": CARRIED,
    "Bodies that are no stream, or cannot be read": BODIES,
    "Errors inside a stream": ERRORS,
    "Streams without an answer": EMPTY,
    "Odd event streams, good answers": FRAMING,
    "Odd chunks, good answers": CHUNKS,
}
FAULTS: dict[str, Fault] = {fault.name: fault for group in GROUPS.values() for fault in group}


def draw_fault(shares: Mapping[str, float], rng: random.Random) -> Fault | None:
    """The fault of one request, or None. `shares`: names to shares of all requests. Draws exactly once."""
    point = rng.random()
    for name, share in shares.items():
        if point < share:
            return FAULTS[name]
        point -= share
    return None


def unknown_fault(name: str) -> str:
    """What to say of a name that is none, with the names that are like it."""
    like = get_close_matches(name, FAULTS, n=3) or [known for known in FAULTS if name[:3] in known][:3]
    hint = f"did you mean {' or '.join(like)}? " if like else ""
    return f"unknown fault {name!r}: {hint}streamgauge mock --list-faults names all of them"
