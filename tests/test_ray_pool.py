"""How a cluster's workers are placed, lost and replaced, with nodes and a clock made here."""

from contextlib import nullcontext

import pytest

pytest.importorskip("ray")

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running import events, places, ray_pool
from fmnist_tuning.running.cluster import Node
from fmnist_tuning.running.trainer import News, Task

ENVIRONMENT = events.Environment("cpu", "a processor", 1, "2.9", "3.11")
GIB = 1 << 30


class Run:
    """As much of a planned run as a pool asks for."""

    def __init__(self, name: str) -> None:
        self.fingerprint = self.name = name


class Cluster:
    """Nodes by name with their CPUs, what workers say, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpus: dict[str, int] = {}
        self.stuck: set[str] = set()  # nodes on which no worker ever gets ready
        self.versions: dict[str, dict[str, str]] = {}
        self.made: list[Handle] = []

    def nodes(self) -> list[Node]:
        return [Node(name, name, cpus, 0.0, 99 * GIB) for name, cpus in sorted(self.cpus.items())]

    def wait(self, refs, timeout=None, **_):
        ready = [ref for ref in refs if ref.worker.says]
        if not ready:
            self.now += timeout or 0.0
        return ready[:1], []

    def get(self, said, **_):
        if isinstance(said, Ref):  # a new worker
            said = said.worker.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


class Ref:
    def __init__(self, worker: "Handle") -> None:
        self.worker = worker

    def __next__(self):
        return self.worker.says.pop(0)


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    made = Cluster()

    class ClustersHandle(Handle):
        cluster = made

    monkeypatch.setattr(ray_pool, "ActorHandle", ClustersHandle)
    for name, value in {"nodes": made.nodes, "connect": lambda: None, "disconnect": lambda: None,
                        "answering": nullcontext,
                        "difference": lambda theirs: theirs.get("reason", "")}.items():  # fmt: skip
        monkeypatch.setattr(ray_pool.cluster, name, value)
    for name, value in {"wait": made.wait, "get": made.get, "put": lambda images: images}.items():
        monkeypatch.setattr(ray_pool.ray, name, value)
    for module in (ray_pool, places):
        monkeypatch.setattr(module.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(
        ray_pool.time, "sleep", lambda seconds: setattr(made, "now", made.now + seconds)
    )
    return made


class Handle:
    cluster: Cluster

    def __init__(self, node, images, device, gpus) -> None:  # noqa: ARG002
        self.node, self.environment, self.task, self.killed = node, None, None, False
        self.asked = self.cluster.now
        self.waited = Ref(self)
        ready = (ENVIRONMENT, self.cluster.versions.get(node.id, {}))
        self.says: list[object] = [] if node.id in self.cluster.stuck else [ready]
        self.cluster.made.append(self)

    def take(self, task) -> None:
        self.task = task

    def kill(self) -> None:
        self.killed = True


def pool_of(trainings: int) -> ray_pool.RayPool:
    pool = ray_pool.RayPool([], "cpu", None)
    pool.start(trainings)
    return pool


def task_of(name: str, tmp_path) -> Task:
    return Task(Run(name), tmp_path / f"{name}.pt", tmp_path / f"{name}.weights")


def happened(pool, seconds: float = 10.0) -> list[object]:
    found = []
    until = ray_pool.time.monotonic() + seconds
    while ray_pool.time.monotonic() < until:
        found += pool.events(1.0)
    return found


def test_idle_workers_of_a_node_that_is_gone_are_replaced(cluster, tmp_path):
    """Nobody would hear of them: they say nothing, and are given runs."""
    cluster.cpus = {"a": 4, "b": 2}
    pool = pool_of(6)
    assert len(pool) == pool.idle == 6
    del cluster.cpus["a"]
    cluster.cpus["c"] = 1
    happened(pool)
    assert {w.node.id for w in cluster.made if not w.killed} == {"b", "c"}
    assert len(pool) == 3
    pool.take(task_of("x", tmp_path))
    assert not [e for e in happened(pool) if isinstance(e, events.Lost | events.Failed)]


def test_a_node_that_is_gone_is_not_its_runs_fault(cluster, tmp_path):
    """Its run continues elsewhere however often that happens; a worker's own death is counted."""
    cluster.cpus = {"a": 1, "b": 1}
    pool = pool_of(1)
    for _ in range(5):
        pool.take(task_of("x", tmp_path))
        (busy,) = [w for w in cluster.made if w.task and not w.killed]
        del cluster.cpus[busy.node.id]
        found = happened(pool)
        assert [type(e) for e in found if not isinstance(e, events.Joined)] == [events.Lost]
        cluster.cpus[f"{busy.node.id}+"] = 1
        happened(pool)
    for kind in (events.Lost, events.Lost, events.Failed):
        pool.take(task_of("x", tmp_path))
        (busy,) = [w for w in cluster.made if w.task and not w.killed]
        busy.says.append(ray_pool.RayError("died"))
        assert [type(e) for e in happened(pool) if not isinstance(e, events.Joined)] == [kind]


def test_a_node_that_cannot_be_used_later_stops_nothing(cluster):
    """Only the first workers of a command must be right; a later node is refused and said so."""
    cluster.cpus = {"a": 1}
    pool = pool_of(3)
    cluster.versions["b"] = {"reason": "found torch 0.1"}
    cluster.cpus["b"] = 1
    pool.start(3)
    assert [e for e in happened(pool) if isinstance(e, events.Refused)] == [
        events.Refused("b", "found torch 0.1")
    ]
    assert len(pool) == 1
    cluster.cpus = {"b2": 1}
    cluster.versions["b2"] = {"reason": "found torch 0.1"}
    with pytest.raises(FmnistError, match=r"node b2: found torch 0\.1"):
        pool_of(1)


def test_memory_that_is_short_for_a_moment_is_no_reason(cluster):
    """A worker that cannot load is tried again, and a missing package is final."""
    cluster.cpus = {"a": 1, "b": 1}
    pool = pool_of(2)
    cluster.cpus["c"] = 1
    cluster.stuck.add("c")
    pool.start(3)
    third = next(w for w in cluster.made if w.node.id == "c")
    third.says.append(ray_pool.RayError("out of memory"))
    cluster.stuck.clear()
    assert not [e for e in happened(pool) if isinstance(e, events.Refused)]
    assert len(pool) == 3
    cluster.stuck.add("d")
    cluster.cpus["d"] = 1
    pool.start(4)
    fourth = next(w for w in cluster.made if w.node.id == "d")
    fourth.says.append(ray_pool.RayError("ModuleNotFoundError: No module named 'torch'"))
    refused = [e for e in happened(pool) if isinstance(e, events.Refused)]
    assert [e.node for e in refused] == ["d"]


def test_a_node_that_others_use_is_left_alone_for_a_while(cluster):
    """Its workers wait a minute for room that it says it has; then others are asked."""
    cluster.cpus = {"a": 2, "b": 2}
    cluster.stuck.add("a")
    pool = pool_of(3)
    assert cluster.now < 30  # the first worker does not wait for the others
    assert len(pool) == 1
    happened(pool, 120)
    assert len(pool) == 2
    assert {w.node.id for w in cluster.made if not w.killed and w.environment} == {"b"}


def test_nothing_but_waiting_ends_after_a_minute(cluster, tmp_path):
    """When the last worker is gone, and those that were asked for never come."""
    cluster.cpus = {"a": 1}
    pool = pool_of(1)
    pool.take(task_of("x", tmp_path))
    cluster.cpus = {"b": 1}
    cluster.stuck.add("b")
    with pytest.raises(FmnistError, match="no node of the cluster is left that can train"):
        happened(pool, 200)
    assert cluster.now < 150


def test_what_was_sent_is_kept_when_all_is_stopped(cluster, tmp_path):
    """A finished epoch that nobody has read yet is on the disk, not only on the wire."""
    cluster.cpus = {"a": 1}
    pool = pool_of(1)
    task = task_of("x", tmp_path)
    pool.take(task)
    (worker,) = cluster.made
    ended = [events.EpochEnded(task.run, number) for number in (1, 2)]
    worker.says += [News(event, f"epoch {n}".encode()) for n, event in enumerate(ended, 1)]
    pool.stop()
    assert task.checkpoint.read_bytes() == b"epoch 2"
    assert worker.killed
