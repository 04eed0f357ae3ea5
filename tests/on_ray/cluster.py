"""`run --ray` on a real cluster of this machine: a head and two nodes with a CPU each (`make test-ray`).

No file of `make test`: a cluster takes half a minute and 2 GB to come up.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND, ROOT, Mock, journal_of

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(400)]
KEY = "sk-notforray123456789"
MEMORY = 100 << 20
Serve = Callable[..., Mock]
Spawn = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]


class Machines:
    """The cluster, with nodes that can be lost; the tests are in such an order that they suffice."""

    def __init__(self) -> None:
        utils: Any = importlib.import_module("ray.cluster_utils")
        head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
        self._cluster = utils.Cluster(initialize_head=True, head_node_args=head)
        more = {"num_cpus": 1, "object_store_memory": MEMORY}
        self.nodes = [self._cluster.add_node(**more) for _ in range(2)]

    @property
    def address(self) -> str:
        address: str = self._cluster.address
        return address

    @property
    def logs(self) -> Path:
        return Path(self._cluster.head_node.get_logs_dir_path())

    def remove(self) -> None:
        """The last node goes as a machine that loses its power."""
        self._cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def settle(self) -> None:
        """Wait until Ray has noticed which nodes are gone: until then it would place actors there."""
        self._cluster.wait_for_nodes(timeout=120)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    found = Machines()
    yield found
    found.close()


def prompts(count: int) -> Path:
    path = Path("p.jsonl")
    path.write_text(
        "".join(json.dumps({"prompt": f"row {i} \u00e9", "place": i}) + "\n" for i in range(count))
    )
    return path


def words(mock: Mock, *more: object) -> list[str]:
    given = ["run", "p.jsonl", "--base-url", mock.base_url, "--model", "m", "--api-key", KEY, *more]
    return [str(word) for word in given]


def streamgauge(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=env, check=False
    )


def content(run: str) -> dict[str, Any]:
    """What was asked and answered, by id."""
    lines = [line for line in journal_of(run) if line["status"] == "ok"]
    found = {
        line["id"]: [line[name] for name in ("text", "row", "request", "usage", "finish_reason", "prompt_id")]
        for line in lines
    }
    assert len(found) == len(lines), "an id twice"
    return found


def session(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())["sessions"][-1]
    return found


def test_a_cluster_gives_what_one_process_gives_and_is_shown_no_key(
    machines: Machines, here: Path, mock_process: Serve
) -> None:
    server = mock_process("--ttft", "30", "--itl", "2", "--echo")
    prompts(120)
    assert streamgauge(*words(server, "-o", "one")).returncode == 0
    done = streamgauge(*words(server, "-o", "far", "--ray", machines.address))
    assert done.returncode == 0, done.stderr
    assert "note: 2 workers on 2 nodes of a Ray cluster" in done.stderr
    assert content("far") == content("one")
    assert len(content("far")) == 120

    told = session("far")
    assert [node["shard"] for node in told["nodes"]] == [0, 1]
    assert len({node["node"] for node in told["nodes"]}) == 2
    for node in told["nodes"]:
        # It is one machine, and one clock: what was measured must hold that.
        assert abs(node["clock"]["offset_ns"]) <= node["clock"]["error_ns"]
    worked = [worker["requests"] for worker in told["gauge"]["workers"]]
    assert sum(worked) == 120
    assert min(worked) > 10, "one of them had next to nothing to do"
    for line in journal_of("far"):
        assert 0 <= line["scheduled_at"] <= line["sent_at"] <= line["first_token_at"] <= line["ended_at"]
    assert "records came from 2 workers elsewhere" in done.stdout

    for path in [*machines.logs.rglob("*"), *Path("far").iterdir()]:
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stderr.replace("--api-key", "")
    assert KEY not in jobs(machines)


def jobs(machines: Machines) -> str:
    """What the cluster says of all who have used it."""
    code = (
        "import ray, sys\n"
        "from ray._private.state import jobs\n"
        "ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
        "print(jobs())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, machines.address],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert "Entrypoint" in done.stdout
    assert "streamgauge run" in done.stdout
    return done.stdout


def test_a_limit_holds_over_all_nodes(machines: Machines, here: Path, mock_process: Serve) -> None:
    server = mock_process("--ttft", "5")
    prompts(40)
    done = streamgauge(*words(server, "--rpm", 600, "-o", "paced", "--ray", machines.address))
    assert done.returncode == 0, done.stderr
    sent = sorted(line["sent_at"] for line in journal_of("paced"))
    assert (sent[-1] - sent[0]) / 1e9 > 0.9 * 39 / 10  # ten a second, and not twenty


@contextmanager
def client_server(address: str) -> Iterator[str]:
    """What takes connections from outside of a cluster, as `ray start --head` has it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.util.client.server", f"--address={address}", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--port", str(port), "--mode", "specific-server"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            yield f"ray://127.0.0.1:{port}"
        finally:
            server.kill()


def is_there(address: str) -> bool:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with closing(socket.socket()) as one:
        return one.connect_ex((host, int(port))) == 0


def test_a_cluster_is_used_from_outside_as_well(
    machines: Machines, here: Path, mock_process: Serve, until: Until
) -> None:
    server = mock_process("--ttft", "5", "--echo")
    prompts(40)
    with client_server(machines.address) as address:
        until(lambda: is_there(address))
        done = streamgauge(*words(server, "-o", "far", "--ray", address))
    assert done.returncode == 0, done.stderr
    assert len(content("far")) == 40
    for path in machines.logs.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_what_keeps_a_cluster_from_being_used_is_said(
    machines: Machines, here: Path, mock_process: Serve
) -> None:
    server = mock_process()
    prompts(1)
    done = streamgauge(*words(server, "--workers", 5, "--ray", machines.address))
    assert done.returncode == 2
    assert "the 2 nodes of that cluster have 2 CPUs, and a worker takes one" in done.stderr
    done = streamgauge(*words(server, "--ray", "127.0.0.1:1"))
    assert done.returncode == 2
    assert "--ray 127.0.0.1:1: no Ray cluster can be reached there" in done.stderr
    done = streamgauge(*words(server, "--ray", "local"))  # which Ray takes for a wish to start one
    assert done.returncode == 2
    assert "--ray local: not auto, HOST:6379" in done.stderr
    assert not Path("runs").exists()


def test_a_node_that_is_lost_half_way_costs_no_row(
    machines: Machines, here: Path, mock_process: Serve, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "60", "--itl", "4", "--echo")
    prompts(400)
    assert streamgauge(*words(server, "-o", "one")).returncode == 0
    run = spawn(*words(server, "-c", 8, "-o", "far", "--ray", machines.address), cwd=here)
    until(lambda: Path("far/records-1.jsonl").exists() and len(journal_of("far")) > 100, run)
    machines.remove()
    out, err = run.communicate(timeout=250)
    assert run.returncode == 0, err
    assert content("far") == content("one")
    assert len(content("far")) == 400
    told = session("far")
    (lost,) = [node for node in told["nodes"] if "lost" in node]
    (died,) = [worker for worker in told["gauge"]["workers"] if "died" in worker]
    assert died["shard"] == lost["shard"]
    assert "is lost" in err or "was lost" in err
    assert f"worker {lost['shard']} was lost on node" in out


def test_with_no_node_left_it_stops_and_one_process_goes_on(
    machines: Machines, here: Path, mock_process: Serve, spawn: Spawn, until: Until
) -> None:
    server = mock_process("--ttft", "60", "--itl", "4", "--echo")
    prompts(200)
    machines.settle()
    run = spawn(*words(server, "-c", 4, "-o", "far", "--ray", machines.address), cwd=here)
    until(lambda: Path("far/records-0.jsonl").exists() and len(journal_of("far")) > 40, run)
    machines.remove()
    _, err = run.communicate(timeout=250)
    assert run.returncode == 75, err
    assert "no node of the cluster is left" in err
    had = len(content("far"))
    assert 0 < had < 200
    done = streamgauge(*words(server, "-o", "far"))
    assert done.returncode == 0, done.stderr
    assert f"resumed: {had} of 200 are answered" in done.stderr
    assert len(content("far")) == 200
