"""What the parent of a `run` and its workers say to each other.

A request goes out with the place its first attempt may go to: the parent has let it pass, for the limits are
all workers' together. What the parent's gate has to know comes back as it happens, and a further attempt is
asked for. Requests are known by a number; endpoints by their place among the targets.
"""

from __future__ import annotations

from typing import Any

from runner.engine import Told
from runner.pipe import Message
from runner.record import CancelledBy, Error
from runner.retry import WaitFor
from runner.settings import Settings
from runner.target import Target

# -- to a worker


class Start(Message, frozen=True, tag=True):
    """What it is to do. Holds secrets, and goes nowhere but over the pipe."""

    journal: str  # path of its own
    session: int
    anchor_ns: int
    targets: list[Target]
    secrets: list[str]
    settings: Settings


class Go(Message, frozen=True, tag=True):
    """Send this one."""

    number: int
    request: bytes  # as JSON: every number of a row or body fits into that
    endpoint: int
    epoch: int
    due: int  # monotonic_ns


class May(Message, frozen=True, tag=True):
    """The answer to `Failed` or `Held`."""

    number: int
    endpoint: int | None  # None: there is no further attempt
    epoch: int = 0
    wait_for: WaitFor = "backoff"


class Epochs(Message, frozen=True, tag=True):
    """The endpoints' epochs, as they are now: what passed in an earlier one and is not out waits again."""

    now: list[int]


class Cut(Message, frozen=True, tag=True):
    """Close every stream."""

    by: CancelledBy


class GiveUp(Message, frozen=True, tag=True):
    """Wait no longer for room on the disk."""


class Anchor(Message, frozen=True, tag=True):
    """The session's anchor on its clock, as the offset of that is known now."""

    anchor_ns: int


class Finish(Message, frozen=True, tag=True):
    """There is nothing more to send: say `Bye`."""


# -- from a worker


class Head(Message, frozen=True, tag=True):
    """The head of an answer came."""

    number: int
    status: int


class First(Message, frozen=True, tag=True):
    """The first token of an answer came."""

    endpoint: int
    sent_at: int
    at: int


class Ended(Message, frozen=True, tag=True):
    """An attempt is over."""

    number: int
    ok: bool
    headless: bool
    charge: float


class Used(Message, frozen=True, tag=True):
    """What an attempt used; `completion` is `None` where only the sum is known, and more may have been."""

    number: int
    prompt: float
    completion: int | None
    whole: bool = True


class Unused(Message, frozen=True, tag=True):
    """An attempt was refused, and used nothing."""

    number: int


class Failed(Message, frozen=True, tag=True):
    """An attempt failed: may there be another? Its worker waits for `May`."""

    number: int
    error: Error
    stale: bool
    headers: dict[str, str]  # those that may say when
    at: int


class Held(Message, frozen=True, tag=True):
    """An attempt was not sent, because a cool-down began: when may it be? Its worker waits for `May`."""

    number: int


class Done(Message, frozen=True, tag=True):
    """There is a record."""

    number: int
    told: Told


class Line(Message, frozen=True, tag=True):
    """A record, from a worker whose journal the parent writes. It is kept until that has it."""

    number: int
    line: bytes


class Written(Message, frozen=True, tag=True):
    """Its line is written, or never will be. `size`: of the journal, up to and with that line."""

    number: int
    written: bool
    size: int


class Room(Message, frozen=True, tag=True):
    """Its disk is full, or has room again."""

    full: bool
    why: str
    needed: int  # bytes


class Synced(Message, frozen=True, tag=True):
    """What of its journal is known to be on the disk."""

    lines: int  # of this worker
    size: int
    unsafe: bool


class Ready(Message, frozen=True, tag=True):
    """It has its journal, of this size, and its sessions."""

    size: int


class Bye(Message, frozen=True, tag=True):
    """It has closed its journal. `failure`: why that could not be made safe."""

    gauge: dict[str, Any]
    failure: str | None
    lines: int
    size: int


ORDERS = (Start, Go, May, Epochs, Anchor, Cut, GiveUp, Finish)
REPORTS = (Head, First, Ended, Used, Unused, Failed, Held, Done, Written, Room, Synced, Ready, Bye)
