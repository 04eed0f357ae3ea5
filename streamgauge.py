"""Streamgauge from Python: `import streamgauge as sg; sg.load("runs/prompts")`.

`sg.summarize("runs/chat")` gives every number of a report; of a bench with its `bench.validity` and verdicts.
`sg.figures("runs/chat")` gives the charts of its page as plotly figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.record import Attempt, Connection, Error, ErrorKind, Record

if TYPE_CHECKING:
    from reports.figures import figures
    from reports.frame import load
    from reports.metrics import summarize

__all__ = ["Attempt", "Connection", "Error", "ErrorKind", "Record", "figures", "load", "summarize"]


def __getattr__(name: str) -> Any:
    # pandas takes a third of a second to import: whoever only wants the types does not wait for it.
    if name == "figures":
        from reports.figures import figures

        return figures
    if name == "load":
        from reports.frame import load

        return load
    if name == "summarize":
        from reports.metrics import summarize

        return summarize
    raise AttributeError(f"module 'streamgauge' has no attribute {name!r}")
