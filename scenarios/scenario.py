"""Scenario: what a bench sends and how hard. Data only: it goes into the manifest and to workers.

Times stay as they were written ("30s"), so that what is kept is what was asked for; the `_s` properties give
seconds.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from scenarios.request import Api
from scenarios.units import seconds

Executor = Literal[
    "constant-concurrency",
    "ramping-concurrency",
    "constant-arrival-rate",
    "ramping-arrival-rate",
    "trace",
]
OPEN: frozenset[Executor] = frozenset({"constant-arrival-rate", "ramping-arrival-rate", "trace"})
ArrivalProcess = Literal["constant", "poisson", "gamma"]
Time = str | int | float
"""A duration: "30s", "500ms", "10m", "1h", or a number of seconds."""


class ScenarioError(ValueError):
    """A scenario that cannot be used: where, which key, why, what is allowed. Its text holds no secret."""

    def __init__(
        self,
        reason: str,
        *,
        key: str = "",
        hint: str = "",
        others: tuple[str, ...] = (),
        place: str | None = None,
    ) -> None:
        self.reason = reason
        self.key = key
        """Dotted; empty where it is about the file."""
        self.hint = hint
        self.others = others
        """Keys it contradicts."""
        self.place = place
        """The file, or the flag that brought the key."""
        subject = "" if place == f"--set {key}" else f"{key} "
        text = f"{subject if key else ''}{reason}" + (f"; {hint}" if hint else "")
        super().__init__(f"{place}: {text}" if place else text)

    def at(self, place: str) -> ScenarioError:
        """The same, with where it stands."""
        return ScenarioError(self.reason, key=self.key, hint=self.hint, others=self.others, place=place)


class Target(Struct, kw_only=True, forbid_unknown_fields=True):
    """Where requests go. Never a key: only the name of the variable that holds it."""

    base_url: str | None = None
    model: str | None = None
    api: Api = "chat"
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    """Values are `env:NAME`: the variable that holds the header's value."""
    price: dict[str, float] | None = None
    """Per million tokens: input, cached_input, output."""
    gpus: int | None = None
    """GPUs that serve it: what throughput is divided by."""
    gpu_hour_usd: float | None = None
    """US dollars that one of them costs an hour."""


class Lengths(Struct, kw_only=True, forbid_unknown_fields=True):
    """A normal distribution of lengths in tokens, cut at `min` and `max`."""

    mean: float
    stdev: float = 0.0
    min: int | None = None
    max: int | None = None


class Synthetic(Struct, kw_only=True, forbid_unknown_fields=True):
    """Prompts made up from the seed."""

    input_tokens: int | Lengths = 512
    shared_prefix_tokens: int = 0
    unique: bool = True
    """Salted behind the shared prefix, so that no prefix cache knows more of them than that."""


class Prompts(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is asked: a file's rows in order, from the start again where it is shorter than the load, or
    synthetic ones.
    """

    file: str | None = None
    format: str | None = None
    """As `--input-format` of `run`, or `sharegpt`."""
    synthetic: Synthetic | None = None
    output_tokens: int | Lengths | None = None
    """Limit of each answer."""
    force_output: bool = False
    """Have the limit reached: `ignore_eos` and `min_tokens`, where the server knows them."""
    multi_turn: bool = False
    """Rows are conversations, sent turn by turn."""
    tokenizer: str | None = None
    """A local tokenizer.json, to make synthetic prompts of the asked length."""


class Stage(Struct, kw_only=True, forbid_unknown_fields=True):
    """Go to `target` (requests a second, or places) in a straight line within `duration`."""

    duration: Time
    target: float

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return seconds(self.duration)


class Cancel(Struct, kw_only=True, forbid_unknown_fields=True):
    """Users who leave: a share of requests is cut after so many tokens, or where none came by then."""

    share: float
    tokens: int | None = None
    patience: Time | None = None


class Load(Struct, kw_only=True, forbid_unknown_fields=True):
    """How hard."""

    executor: Executor = "constant-concurrency"
    rate: float | None = None
    """Requests a second (conversations, where prompts are multi-turn)."""
    concurrency: int | None = None
    stages: list[Stage] = []
    start: float = 0.0
    """Where the first stage begins."""
    arrival: ArrivalProcess = "poisson"
    burstiness: float = 1.0
    """Shape of the gamma process: 1 is Poisson, smaller is burstier."""
    duration: Time | None = None
    requests: int | None = None
    warmup: Time | None = None
    warmup_requests: int | None = None
    max_in_flight: int | None = None
    graceful_stop: Time = "30s"
    cancel: Cancel | None = None
    think_time: Time | Lengths | None = None
    """Between an answer and the next turn of a conversation; a distribution is of seconds."""
    trace: str | None = None
    """File or run directory to replay."""
    trace_format: Literal["mooncake", "azure", "burstgpt", "run"] | None = None
    speed: float = 1.0
    """A trace's time runs so many times faster."""

    @property
    def is_open(self) -> bool:
        """Whether requests come when they come, and not when a place is free."""
        return self.executor in OPEN

    @property
    def duration_s(self) -> float | None:
        """Seconds; `None` where the number of requests ends it."""
        return None if self.duration is None else seconds(self.duration)

    @property
    def warmup_s(self) -> float | None:
        """Seconds of warm-up; `None` without, or where a number of requests is given."""
        return None if self.warmup is None else seconds(self.warmup)

    @property
    def graceful_stop_s(self) -> float:
        """Seconds that requests in flight get after the end of the schedule."""
        return seconds(self.graceful_stop)


class Scenario(Struct, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    name: str = "bench"
    """Of the file, or of the library; not a key of the file."""
    description: str = ""
    seed: int = 0
    target: Target = field(default_factory=Target)
    prompts: Prompts = field(default_factory=Prompts)
    request: dict[str, Any] = {}
    """Body fields."""
    load: Load = field(default_factory=Load)
    slo: dict[str, Time] = {}
    """For goodput: by metric, the longest time that is good."""
    thresholds: dict[str, list[str]] = {}
