"""The workers of a `run` on a Ray cluster: an actor a node, or as many as were asked for.

Ray starts the actors and carries the calls; which prompt goes where, the limits and the journal are ours.
Keys go to the actors as arguments of calls. Ray keeps a driver's command line where all of the cluster can
read it, so it is shown another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, TypeVar

import msgspec

from runner.far_worker import FarWorker
from runner.node import FarError, Node
from runner.offset import measure
from runner.orders import Start
from runner.session_facts import versions
from runner.shards import WorkerError

START_S = 60.0  # for an actor: a node's Python has to come up
_KNOCK_S = 10.0
_CALLS_AT_ONCE = 8
_SPARE_FILES = 128  # of a worker, beside its connections: Ray's and its own
_LONGEST = 300  # characters of what Ray says
T = TypeVar("T")


class ClusterError(Exception):
    """A cluster that cannot be used. The text says which, why and what to do."""


class Place(msgspec.Struct, frozen=True):
    """A node that takes actors."""

    id: str
    ip: str
    cpus: int


class Cluster:
    """A Ray cluster this process is connected to. Made by `connect`.

    Args:
        ray: the module.
        address: as asked for.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self.address = address
        self.told: list[dict[str, Any]] = []  # of every actor there was, for the manifest
        self._ray = ray
        self._on: dict[int, str] = {}  # the node of each worker
        self._choosing = asyncio.Lock()

    def places(self) -> list[Place]:
        """The nodes that are there and have a CPU. Blocks."""
        found = [
            Place(node["NodeID"], node["NodeManagerAddress"], int(node["Resources"].get("CPU", 0)))
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        return sorted((place for place in found if place.cpus), key=lambda place: place.id)

    async def launch(self, number: int, start: Start, take: Callable[[Any], None]) -> Node:
        """Start a worker, as `runner.bulk_shards.Launch`.

        Raises:
            WorkerError: it does not start.
        """
        async with self._choosing:  # two at once must not choose the same node
            self._on.pop(number, None)
            place = choose(await asyncio.to_thread(self.places), Counter(self._on.values()))
            if place is None:
                raise WorkerError(
                    f"worker {number} did not start: no node of the cluster has a CPU left for it"
                )
            self._on[number] = place.id
        far = await asyncio.to_thread(_Actor, self._ray, place)
        try:
            return await self._begun(number, far, place, start, take)
        except BaseException:
            far.kill()
            raise

    async def _begun(
        self, number: int, far: _Actor, place: Place, start: Start, take: Callable[[Any], None]
    ) -> Node:
        where = f"worker {number} on node {place.ip} did not start"
        try:
            async with asyncio.timeout(START_S):
                said = await far.facts()
                offset = await measure(far.clock)
        except TimeoutError:
            raise WorkerError(f"{where}: it has not begun within {START_S:g} s. Has it a free CPU?") from None
        except FarError as exc:
            raise WorkerError(f"{where}: it {exc}") from None
        ours, theirs = versions().get("streamgauge"), said["versions"].get("streamgauge")
        if ours != theirs:
            raise WorkerError(
                f"{where}: it has Streamgauge {theirs}, and this is {ours}. Install the same one everywhere."
            )
        # Its share, as long as no other is lost.
        connections = -(-start.settings.concurrency // start.settings.workers)
        needs, files = connections + _SPARE_FILES, said.pop("open_files")
        if files is not None and files < needs:
            raise WorkerError(
                f"{where}: its share of -c {start.settings.concurrency} needs {needs} open files, and it may "
                f"have {files} (ulimit -Hn there). Raise that limit, or use a smaller -c."
            )
        facts = {"shard": number, "node": place.id, "ip": place.ip, **said}
        self.told.append(facts)
        return Node(number, far, {"pid": said["pid"], "node": place.ip}, facts, offset, start, take)

    def close(self) -> None:
        """End the actors that are left, and disconnect. Blocks."""
        self._ray.shutdown()


def choose(places: list[Place], taken: Counter[str]) -> Place | None:
    """The node with the fewest of our actors, of those with a CPU left for one more."""
    free = [place for place in places if taken[place.id] < place.cpus]
    return min(free, key=lambda place: taken[place.id], default=None)


class _Actor:
    """A `FarWorker` on a node."""

    def __init__(self, ray: Any, place: Place) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._place = ray, place
        options = ray.remote(FarWorker).options(
            num_cpus=1,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=_CALLS_AT_ONCE,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.id, soft=False),
        )
        self._actor = options.remote()

    async def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._asked(self._actor.facts.remote)
        return found

    async def push(self, frames: bytes) -> None:
        await self._asked(lambda: self._actor.push.remote(frames))

    async def pull(self, after: int, kept: int) -> tuple[int, bytes]:
        number, data = await self._asked(lambda: self._actor.pull.remote(after, kept))
        return number, data

    async def clock(self) -> int:
        return int(await self._asked(self._actor.clock.remote))

    def kill(self) -> None:
        with contextlib.suppress(Exception):  # it is gone, or all of Ray is
            self._ray.kill(self._actor)

    async def _asked(self, call: Callable[[], Any]) -> Any:
        # What Ray says of a failed call can be long, and of its arguments: only its kind is passed on.
        try:
            return await asyncio.wrap_future(call().future())
        except Exception as exc:
            if isinstance(exc, asyncio.CancelledError):
                raise
            raise FarError(_how(exc, self._place)) from None


def _how(exc: Exception, place: Place) -> str:
    said = str(exc)
    if "ModuleNotFoundError" in said:
        version = metadata.version("streamgauge")
        return f"finds no Streamgauge there: pip install 'streamgauge[ray]=={version}' on every node"
    return f"was lost on node {place.ip} ({type(exc).__name__})"


def connect(address: str, tell: Callable[[str], None]) -> Cluster:
    """Connect to a cluster that runs already. Blocks.

    Args:
        address: `auto` (the one on this machine), `host:port`, or `ray://host:10001`.
        tell: where it is said that this is being done, for it can take seconds.

    Raises:
        ClusterError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ClusterError(
            "--ray needs Ray, which is not installed: pip install 'streamgauge[ray]'"
        ) from None
    tell(f"connecting to the Ray cluster {address}")
    _knock(address)
    heard = signal.getsignal(signal.SIGTERM)
    try:
        with _unseen(ray):
            ray.init(
                address=address, namespace="streamgauge", log_to_driver=False, logging_level=logging.ERROR
            )
    except ClusterError:
        raise
    except Exception as exc:  # noqa: BLE001 - of many kinds, none of which says more than its text
        raise _unreachable(address, _short(exc)) from None
    finally:
        signal.signal(signal.SIGTERM, heard)  # Ray takes it for itself
    cluster = Cluster(ray, address)
    if not cluster.places():
        cluster.close()
        raise ClusterError(f"--ray {address}: no node of that cluster has a CPU. Add one, and start again.")
    return cluster


def _knock(address: str) -> None:
    """Look whether anybody listens there: Ray would wait for minutes. Blocks, for some seconds at most.

    Raises:
        ClusterError: nobody does, or it is no address.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ClusterError(f"--ray {address}: not auto, HOST:6379 or ray://HOST:10001")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as exc:
        raise _unreachable(address, exc.strerror or str(exc)) from None


def _unreachable(address: str, why: str) -> ClusterError:
    return ClusterError(
        f"--ray {address}: no Ray cluster can be reached there ({why}). Start one with `ray start --head` "
        "and name it: auto on its own machine, else HOST:6379 or ray://HOST:10001."
    )


def _short(exc: Exception) -> str:
    said = " ".join(str(exc).split()) or type(exc).__name__
    return said if len(said) <= _LONGEST else said[: _LONGEST - 3] + "..."


@contextlib.contextmanager
def _unseen(ray: Any) -> Iterator[None]:
    """Ray puts a driver's command line into the list of its jobs, and a key or a login may stand in it.

    Raises:
        ClusterError: this version of Ray does so in another way than is known here.
    """
    place = ray._private.utils  # noqa: SLF001 - there is no other way
    real: Callable[[], str] | None = getattr(place, "get_entrypoint_name", None)
    if real is None:
        raise ClusterError(
            f"--ray: Ray {ray.__version__} would show this command line to its whole cluster, and it may "
            "hold a key. Install a version of Ray that is known here: pip install 'streamgauge[ray]'."
        )
    place.get_entrypoint_name = lambda: "streamgauge run"
    try:
        yield
    finally:
        place.get_entrypoint_name = real
