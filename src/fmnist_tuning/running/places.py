"""Where the workers of a cluster have room: which nodes there are, and which are left alone."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running import cluster
from fmnist_tuning.running.capacity import WORKER_BYTES
from fmnist_tuning.running.cluster import Node
from fmnist_tuning.running.trainer import Device
from fmnist_tuning.text import counted

_BUSY_SECONDS: Final = 60.0  # for which a node is left alone that another program uses
_LOAD_FAILURES: Final = 3  # of a node; then it is not asked again


class Places:
    """The nodes of the cluster as places for workers, which take a part of a GPU or a CPU each."""

    def __init__(self, device: Device, gpus_per_run: float) -> None:
        self.device = device
        self.gpus_per_run = gpus_per_run
        self._refused: set[str] = set()  # ids of nodes
        self._failures: Counter[str] = Counter()  # to load
        self._busy_until: dict[str, float] = {}

    def choose_device(self) -> None:
        """Settle what `auto` is: GPUs, if any node has one.

        Raises:
            FmnistError: When GPUs are asked for, and no node has one.
        """
        if self.device == "cpu":
            return
        has_gpu = any(node.gpus for node in cluster.nodes())
        if self.device == "cuda" and not has_gpu:
            raise FmnistError(
                "--device cuda: no node of the cluster has a GPU; --device cpu trains without one"
            )
        self.device = "cuda" if has_gpu else "cpu"

    @property
    def room(self) -> int:
        """How many workers the nodes have room for."""
        return sum(node.slots(self.device, self.gpus_per_run) for node in cluster.nodes())

    def alive(self) -> set[str]:
        """The ids of the nodes that are there and not refused."""
        return {node.id for node in cluster.nodes()} - self._refused

    def next(self, used: Mapping[str, int]) -> Node | None:
        """The node with the fewest workers of those with room; None if there is none."""
        now = time.monotonic()
        free = [
            node
            for node in cluster.nodes()
            if node.id not in self._refused
            and self._busy_until.get(node.id, 0.0) <= now
            and used.get(node.id, 0) < node.slots(self.device, self.gpus_per_run)
        ]
        return min(free, key=lambda node: used.get(node.id, 0), default=None)

    def refuse(self, node: Node) -> None:
        """Never use it again."""
        self._refused.add(node.id)

    def leave_alone(self, node: Node) -> None:
        """Ask others for a while: no worker found room there, whatever it says it has."""
        self._busy_until[node.id] = time.monotonic() + _BUSY_SECONDS

    def is_hopeless(self, node: Node, error: BaseException) -> bool:
        """Whether a worker that could not load there makes it useless.

        Memory may be short for a moment; a package that is missing stays so.
        """
        self._failures[node.id] += 1
        missing = cluster.missing_module(error) is not None
        return missing or self._failures[node.id] >= _LOAD_FAILURES

    def no_room(self) -> str:
        """Why there is no worker, and what to do."""
        room, what = self.room, "GPU" if self.device == "cuda" else "CPU"
        if room:
            return (
                f"the cluster has no free {what}: it has room for {counted(room, 'worker')}, and "
                "other programs use it; wait for them, or add a node with `ray start "
                "--address=HOST:PORT`"
            )
        return (
            f"no node of the cluster has room for a training, which takes a {what} and "
            f"{WORKER_BYTES >> 30} GiB of memory; add one with `ray start --address=HOST:PORT`"
        )
