"""The one gate every attempt passes, first tries and retries alike: cool-down, pace, budget, endpoint.

Retries go first: what was refused once is not overtaken by what never went. The gate decides in the loop's
own turn; where nothing holds an attempt back, passing it costs no turn at all.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Mapping
from itertools import count
from time import monotonic_ns

import msgspec

from runner.budget import Budget, Hold
from runner.fleet import BUSY, Endpoint, Fleet
from runner.pacing import Adaptive, Meter, TokenMeter
from runner.prices import amount
from runner.record import Error
from runner.retry import HINT_CAP_S

_S = 1_000_000_000
PATIENCE_NS = 60 * _S  # a server that has answered may restart, or be too busy, for so long
_COVER_TRIES = 30  # a second apart: so long a disk may refuse to take what may be spent


class Ask(msgspec.Struct):
    """What one request asks of the gate."""

    size: int = 0  # bytes of the body
    most_tokens: int | None = None  # the answer may have
    worst: float = 0.0  # the most an attempt can cost
    row: int | None = None  # of the prompts, from 0: for messages
    over: bool = False  # it does not fit into the budget, and never will
    hold: Hold = msgspec.field(default_factory=Hold)
    guessed: float = 0.0  # tokens the meter was told
    epoch: int = 0  # of the endpoint, when its attempt went there
    number: int = 0  # of the request, where it is another process's to let it go


class Gate:
    """Lets attempts go.

    Args:
        fleet: the endpoints.
        rpm, tpm: requests and tokens a minute, where limited.
        budget: where spending is limited.
        adaptive: where concurrency follows the server; `resize` is told of every change.
        tell: shows one line to the user.
        cools: a refusal holds back what comes after it. Not where the load is what is measured.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        budget: Budget | None = None,
        adaptive: Adaptive | None = None,
        resize: Callable[[int], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
        cools: bool = True,
    ) -> None:
        self.fleet = fleet
        self.cools = cools
        self.budget = budget
        self.cooldowns = 0
        self._cooldown_ns = 0  # up to the end of those that still go on
        self._paced_ns = 0  # likewise
        self.on_over: Callable[[Ask], None] = lambda _: None  # told of each that fits into the budget no more
        self.on_unsaved: Callable[[str], None] = lambda _: (
            None
        )  # told when what may be spent cannot be written
        self.on_shut: Callable[[float], None] = lambda _: None  # told when every endpoint asks for too long
        self._requests = Meter(rpm) if rpm is not None else None
        self._tokens = TokenMeter(tpm) if tpm is not None else None
        self._adaptive = adaptive
        self._resize = resize
        self._tell = tell
        self.on_dead: Callable[[float], None] = lambda _: (
            None
        )  # told when every endpoint was down for too long
        # In order: retries, of them those with the fewest attempts, and who came first.
        self._waiting: list[
            tuple[bool, int, int, Ask, Collection[Endpoint], asyncio.Future[Endpoint | None]]
        ] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._covering: asyncio.Task[None] | None = None
        self._stopped = False
        self._told_of_budget = False
        self._told_at = 0
        self._paced_until = 0

    # -- passing

    async def pass_(
        self, ask: Ask, *, retry: bool = False, made: int = 0, avoid: Collection[Endpoint] = ()
    ) -> Endpoint | None:
        """Wait until an attempt may go, and where. `None`: it must not, for the run stops, or it is `over`.

        Args:
            ask: what it asks.
            retry: it is not the first of its request.
            made: retries its request has made. After a refusal it is another one's turn to find out.
            avoid: where the request just failed.
        """
        if self._stopped:
            return None
        if not self._waiting:
            endpoint = self._try(ask, avoid)
            if endpoint is not None or ask.over or self._stopped:
                return endpoint
        future: asyncio.Future[Endpoint | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not retry, made, next(self._order), ask, avoid, future))
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and (endpoint := future.result()) is not None:
                self._take_back(ask, endpoint)
            raise

    def stop(self) -> None:
        """Let nothing pass any more."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for *_, future in waiting:
            if not future.done():
                future.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cooled_ns(self) -> int:
        """Time so far in which a 429 or 503 held an endpoint; more may have been asked for than is waited."""
        now = monotonic_ns()
        return self._cooldown_ns - sum(max(0, one.cool_until - now) for one in self.fleet.endpoints)

    def paced_ns(self) -> int:
        """Time so far in which --rpm or --tpm held the run."""
        return self._paced_ns - max(0, self._paced_until - monotonic_ns())

    def state(self) -> str:
        """What holds requests back just now, in words for a progress line."""
        seconds = (self.fleet.cool_until() - monotonic_ns()) / _S
        return f"cooling down {seconds:.0f} s" if seconds >= 1 else ""

    def _take_back(self, ask: Ask, endpoint: Endpoint) -> None:
        endpoint.answered(False, ask.epoch)
        endpoint.ended()
        if self.budget is not None:
            self.budget.charge(ask.hold, 0.0)
        self.unused(ask, sent=False)
        self._pump()

    def _try(self, ask: Ask, avoid: Collection[Endpoint]) -> Endpoint | None:
        """Let an attempt go now, if it may; otherwise see to it that it is asked again."""
        now = monotonic_ns()
        at = max(
            self._requests.next_at if self._requests is not None else 0,
            self._tokens.next_at if self._tokens is not None else 0,
        )
        if at > now:
            if at > self._paced_until:
                self._paced_ns += at - max(now, self._paced_until)
                self._paced_until = at
            self._arm(at, now)
            return None
        if self.budget is not None and not self._affordable(ask):
            return None
        endpoint = self.fleet.pick(now, avoid)
        if endpoint is None:
            next_at = self.fleet.next_at(now)
            if next_at is not None:
                self._arm(next_at, now)
            return None
        if self._requests is not None:
            self._requests.take(now)
        if self._tokens is not None:
            ask.guessed = self._tokens.guess(ask.size, ask.most_tokens)
            self._tokens.take(now, ask.guessed)
        if self.budget is not None:
            self.budget.reserve(ask.hold, ask.worst)
        ask.epoch = endpoint.sent()
        return endpoint

    def _pump(self) -> None:
        """Let go whoever may, in order."""
        while self._waiting:
            *_, ask, avoid, future = self._waiting[0]
            if future.done():  # its request was cancelled
                heapq.heappop(self._waiting)
                continue
            endpoint = self._try(ask, avoid)
            if endpoint is None and (self._stopped or not ask.over):
                return
            heapq.heappop(self._waiting)
            future.set_result(endpoint)

    def _arm(self, at: int, now: int) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        # A loop's clock may be coarse and ring early: `_pump` looks again.
        self._timer = loop.call_later(max((at - now) / _S, 0.001), self._rung)

    def _rung(self) -> None:
        self._timer = None
        self._pump()

    # -- the budget

    async def reserve(self, ask: Ask) -> bool:
        """Reserve for a request that does not pass here (`--wait-ready`). False: it does not fit now."""
        budget = self.budget
        assert budget is not None
        while not self._stopped and budget.fits(ask.worst):
            if budget.covered(ask.worst):
                budget.reserve(ask.hold, ask.worst)
                return True
            await asyncio.wait({self._cover_soon(ask.worst)})
        return False

    def _affordable(self, ask: Ask) -> bool:
        budget, worst = self.budget, ask.worst
        assert budget is not None
        if not budget.fits(worst):
            if budget.is_over(worst):
                ask.over = True
                self.on_over(ask)
            else:
                self._say_lowered(worst)
            return False
        if not budget.covered(worst):
            self._cover_soon(worst)
            return False
        return True

    def _cover_soon(self, worst: float) -> asyncio.Task[None]:
        if self._covering is None:
            self._covering = asyncio.create_task(self._cover(worst))
        return self._covering

    async def _cover(self, worst: float) -> None:
        assert self.budget is not None
        why = await self._covered(self.budget, worst)
        self._covering = None
        if why is not None:
            self.on_unsaved(why)
        self._pump()

    async def _covered(self, budget: Budget, worst: float) -> str | None:
        """Raise the budget's ceiling. Returns why it could not be done, for a time that is long enough."""
        why = ""
        for made in range(_COVER_TRIES):
            try:
                await budget.cover(worst)
            except OSError as exc:
                # Nothing may go that a killed run would forget.
                why = f"what may be spent cannot be written to run.json ({exc.strerror})"
                if not made:
                    self._tell(f"{why}: nothing new is sent, trying again for {_COVER_TRIES} s")
            else:
                return None
            await asyncio.sleep(1)
            if self._stopped:
                return None
        return why

    def _say_lowered(self, worst: float) -> None:
        budget = self.budget
        assert budget is not None
        budget.lowered = True
        if not self._told_of_budget:
            self._told_of_budget = True
            going = sum(endpoint.in_flight for endpoint in self.fleet.endpoints)
            self._tell(
                f"--max-cost lowers the concurrency: {amount(budget.most - budget.spent)} is left, the "
                f"{going} in flight may cost up to {amount(budget.reserved)}, the next one {amount(worst)}. "
                "A smaller --max-tokens lets more go at once."
            )

    # -- what became of an attempt

    def may_go(self, ask: Ask, endpoint: Endpoint) -> bool:
        """Whether its attempt may still be sent: no cool-down and no rest has begun since it passed."""
        return not self.cools or ask.epoch == endpoint.epoch

    def head(self, ask: Ask, endpoint: Endpoint, status: int) -> None:
        """The head of its answer came."""
        endpoint.answered(200 <= status < 300, ask.epoch)
        if self._waiting:
            self._pump()

    def first_token(self, endpoint: Endpoint, sent_at: int, at: int) -> None:
        """Its first token came."""
        endpoint.accepted()
        if self._adaptive is not None and self._adaptive.first_token(sent_at, at - sent_at, monotonic_ns()):
            self._resize(self._adaptive.limit)

    def ended(self, ask: Ask, endpoint: Endpoint, *, ok: bool, headless: bool, charge: float) -> None:
        """It is over.

        Args:
            ask: as it passed.
            endpoint: where it went.
            ok: with a good answer.
            headless: no head of an answer came.
            charge: the most it can have cost.
        """
        if headless:
            endpoint.answered(False, ask.epoch)
        if ok:
            endpoint.accepted()
        endpoint.ended()
        if self.budget is not None:
            self.budget.charge(ask.hold, charge)
        if self._waiting:
            self._pump()

    def used(self, ask: Ask, prompt: int, completion: int, *, whole: bool = True) -> None:
        """What its attempt used is known, or as good as. Not `whole`: it broke off, and is no example."""
        if self._tokens is not None:
            self._tokens.learn(ask.size, ask.guessed, prompt, completion, whole=whole)
            ask.guessed = prompt + completion
            if self._waiting:
                self._pump()

    def used_at_least(self, ask: Ask, tokens: float) -> None:
        """Its attempt broke off, and nobody knows what it used; so much was seen."""
        if self._tokens is not None and tokens > ask.guessed:
            self._tokens.correct(tokens - ask.guessed)
            ask.guessed = tokens

    def unused(self, ask: Ask, *, sent: bool = True) -> None:
        """Its attempt used no tokens: refused or, where not `sent`, held back. Then its turn is free too."""
        if self._tokens is not None:
            self._tokens.correct(-ask.guessed)
            ask.guessed = 0.0
        if self._requests is not None and not sent:
            self._requests.correct(-1)
        if self._waiting:
            self._pump()

    @property
    def limits_cost(self) -> bool:
        """Whether nothing may go of which nobody knows what it costs at most."""
        return self.budget is not None

    @property
    def counts_tokens(self) -> bool:
        """Whether it wants to know what was used."""
        return self._tokens is not None

    def written(self, ask: Ask) -> None:
        """Its request's record is written."""
        if self.budget is not None:
            self.budget.settle(ask.hold)
            if self._waiting:
                self._pump()

    def busy(
        self, ask: Ask, endpoint: Endpoint, sent_at: int, wait_ns: int, why: str = "the server refuses"
    ) -> None:
        """It was refused with "later", or nobody was there: the endpoint cools down, for every request."""
        if not self.cools:
            return
        now = monotonic_ns()
        before = endpoint.cool_until
        if endpoint.cool(ask.epoch, now, wait_ns):
            self.cooldowns += 1
            if not self.shut():
                self._say_cooling(now, wait_ns, why)
        self._cooldown_ns += max(0, endpoint.cool_until - max(before, now))
        if self._adaptive is not None and self._adaptive.refused(sent_at, now):
            self._resize(self._adaptive.limit)
        if self.shut():
            self.on_shut((self.fleet.cool_until() - now) / _S)
        elif self.fleet.down_ns(now) > PATIENCE_NS and endpoint.proven:
            self.on_dead(self.fleet.down_ns(now) / _S)

    def shut(self) -> bool:
        """Whether every endpoint asks to be left alone for too long."""
        return self.fleet.cool_until() - monotonic_ns() > HINT_CAP_S * _S

    def elsewhere(self, tried: Collection[Endpoint]) -> bool:
        """Whether an endpoint is well that a request has not tried yet, and may be sent to for nothing."""
        return self.cools and self.fleet.elsewhere(monotonic_ns(), tried)

    def patient(self, endpoint: Endpoint, since: int) -> bool:
        """Whether what has answered before is given more time than a request has retries.

        `since`: when the request first failed. One that alone is refused for ever must end too.
        """
        now = monotonic_ns()
        return endpoint.proven and max(self.fleet.down_ns(now), now - since) <= PATIENCE_NS

    def failed(
        self, ask: Ask, endpoint: Endpoint, error: Error, tried: Mapping[Endpoint, Error] | None = None
    ) -> bool:
        """An attempt failed. Returns whether its request may go elsewhere at once.

        Args:
            ask: as it passed.
            endpoint: where it went.
            error: what became of it.
            tried: where its request was refused just before, and how.
        """
        if error.kind in BUSY:
            return False
        now = monotonic_ns()
        may = self.fleet.failed(endpoint, error, now, ask.epoch, tried or {})
        if endpoint.out is not None and self.shut():  # those that are left rest for too long
            self.on_shut((self.fleet.cool_until() - now) / _S)
        return may

    def _say_cooling(self, now: int, wait_ns: int, why: str) -> None:
        # Often enough to be understood, seldom enough to be read.
        if wait_ns >= 2 * _S and now >= self._told_at + 10 * _S:
            self._told_at = now
            where = "there " if len(self.fleet.endpoints) > 1 else ""
            self._tell(f"{why}: nothing new is sent {where}for {wait_ns / _S:,.0f} s")
