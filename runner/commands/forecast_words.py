"""How long a plan takes and what it may cost, in words: of `ab --dry-run` and of `sweep --dry-run`."""

from __future__ import annotations

from typing import Protocol

_ANSWER_S = 5.0  # of an example


class Plan(Protocol):
    """What is known of it. `None` where only the runs can tell."""

    seconds: float | None  # until the last request is sent
    most_s: float | None  # with the answers that are still coming then
    rounds: float | None  # answers one after the other, where nothing else says how long it takes
    most_cost: float | None
    likely_cost: float | None


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def time_words(found: Plan, first: str, *, at_most: bool = False) -> str:
    """How long it takes. `first`: what will tell, where nothing else does; `at_most`: it may take less."""
    if found.rounds is not None:
        each = span(found.rounds * _ANSWER_S)
        return (
            f"that of {found.rounds:,.0f} answers one after the other: {each} where one takes {_ANSWER_S:g} s"
        )
    if found.seconds is None or found.most_s is None:
        return f"as fast as requests are answered: the first {first} will tell"
    about = "at most about" if at_most else "about"
    return f"{about} {span(found.seconds)}, and at most {span(found.most_s)} where answers are slow to end"


def cost_words(found: Plan, why_not: str | None) -> str:
    """What it may cost. `why_not`: why nobody knows, where nobody does."""
    if found.most_cost is None:
        return f"not known: {why_not}"
    text = f"at most {found.most_cost:,.4f} (every byte a token, every answer up to its limit)"
    if found.likely_cost is not None:
        text += f"; about {found.likely_cost:,.4f} with prompts as long as asked"
    return f"{text}, in the currency of the prices"
