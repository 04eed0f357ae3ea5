"""What a fault is: what is done, and what a correct client records for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from runner.mock.ask import Ask
from runner.mock.events import Body
from runner.mock.refusals import Refusal
from runner.mock.staging import Ending, Stage

# How often `streamgauge run` sends again what failed with an error of this kind; others it does not.
RETRIED = {
    "connect": "yes",
    "disconnected": "yes",
    "timeout": "at most 2 times",
    "rate_limit": "yes",
    "overloaded": "yes",
    "server_error": "yes",
    "bad_encoding": "yes",
    "bad_json": "yes",
    "truncated": "yes",
    "empty_stream": "yes",
    "protocol": "at most 1 time",
}


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What `streamgauge run` records for one attempt. "Same": as in the answer without the fault."""

    kind: str = ""  # of the error; "": ok
    timer: str = ""
    text: Literal["same", "part", "none"] = "same"
    before: str = ""  # text that is there in front of it
    finish: str = "same"  # or "none", or the reason
    usage: Literal["same", "tokens", "none"] = "same"  # "tokens": nothing but those of the answer
    streamed: bool = True
    reasoning: bool = False
    calls: int = 0
    choices: int = 1
    wait_for: str = ""  # whose word the wait before the next attempt is
    again: str | None = None  # where it is not what `RETRIED` says of the kind

    @property
    def status(self) -> str:
        """Of the record."""
        return "error" if self.kind else "ok"

    @property
    def retried(self) -> str:
        """Whether it is sent again; empty where there is nothing to send again."""
        if self.again is not None:
            return self.again
        return RETRIED.get(self.kind, "no") if self.kind else ""

    @property
    def words(self) -> str:
        """Status and kind, and what else there is to know."""
        told = f"error {self.kind}" if self.kind else "ok"
        return f"{told} ({self.notes})" if self.notes else told

    @property
    def notes(self) -> str:
        """What is unlike the answer without the fault, in words."""
        found = [
            f"timer {self.timer}" if self.timer else "",
            "the text is cut" if self.text == "part" and not self.kind else "",
            "no finish reason" if self.finish == "none" and not self.kind else "",
            f"finish reason {self.finish}" if self.finish not in {"same", "none"} else "",
            "no usage" if self.usage == "none" and not self.kind else "",
            "usage tells completion tokens only" if self.usage == "tokens" else "",
            "" if self.streamed else "not streamed: no token times",
            "no text" if self.text == "none" and not self.kind and not self.calls else "",
            "reasoning apart from the text" if self.reasoning else "",
            "the thoughts are text" if self.before else "",
            f"{self.calls} tool call{'s' * (self.calls > 1)}" if self.calls else "",
            f"{self.choices} choices" if self.choices > 1 else "",
            f"waits by {self.wait_for}" if self.wait_for else "",
        ]
        return ", ".join(note for note in found if note)


class Scope(StrEnum):
    """Which requests a fault can be done to. All others are answered as if there were none."""

    ANY = "any"
    STREAM = "stream"  # those that ask for a stream
    CHAT = "chat"  # those that ask for a stream of chat chunks
    USAGE = "usage"  # those with `stream_options.include_usage`
    REUSED = "reused"  # those on a connection that has had one before


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way to go wrong: a `refusal`, a `stage`, or just an `ending` after a share of the tokens."""

    name: str
    what: str
    recorded: Recorded
    scope: Scope = Scope.ANY
    refusal: Refusal | None = None
    stage: Stage | None = None
    ending: Ending = Ending.FINISH
    after: float = 0.5

    def meets(self, ask: Ask, *, reused: bool) -> bool:
        """Whether it can be done to this request."""
        scope = self.scope
        if scope is Scope.ANY:
            return True
        if scope is Scope.REUSED:
            return reused
        if scope is Scope.USAGE:
            return ask.include_usage
        return ask.stream and (scope is Scope.STREAM or ask.kind == "chat")


GOOD = Recorded()


def failed(kind: str, *, text: Any = "none", **more: Any) -> Recorded:
    """Recorded as an error of this kind."""
    return Recorded(kind=kind, text=text, **{"finish": "none", "usage": "none", **more})


def staged(
    name: str, what: str, recorded: Recorded, body: Body, scope: Scope = Scope.STREAM, **stage: Any
) -> Fault:
    """A fault that is a stream put together beforehand."""
    return Fault(name=name, what=what, recorded=recorded, scope=scope, stage=Stage(body=body, **stage))


def encoded(name: str) -> tuple[tuple[str, str], ...]:
    """The header that names a content encoding."""
    return (("content-encoding", name),)
