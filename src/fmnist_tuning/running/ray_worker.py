"""A worker on a node of a Ray cluster: the actor that trains, and its handle here."""

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fmnist_tuning.running import cluster
from fmnist_tuning.running.capacity import WORKER_BYTES
from fmnist_tuning.running.cluster import Node
from fmnist_tuning.running.events import Environment
from fmnist_tuning.running.trainer import Device, News, Task, Trainer
from fmnist_tuning.sweeps.runs import PlannedRun

_UNREAD: Final = 2  # news that a worker sends before it waits for them to be read


class Actor:
    """What lives on a node."""

    def __init__(self, arrays: Mapping[str, Sequence[NDArray[np.uint8]]], device: Device) -> None:
        warnings.filterwarnings("ignore")
        self._trainer = Trainer(arrays, device)

    def ready(self) -> tuple[Environment, dict[str, str]]:
        """What it trains with, and the versions of the packages."""
        return self._trainer.environment, cluster.versions()

    def train(self, run: PlannedRun, saved: bytes | None, epochs: int | None) -> Iterator[News]:
        """Train a run from its checkpoint, for so many epochs."""
        yield from self._trainer.train(run, saved, epochs)


class ActorHandle:
    """An actor, as the driver knows it; on a GPU it has a part of one, else a CPU and memory.

    `images` is Ray's reference to the arrays of each data set.
    """

    def __init__(self, node: Node, images: Any, device: Device, gpus: float) -> None:
        on_gpu = device == "cuda"
        options = ray.remote(Actor).options(
            num_cpus=0 if on_gpu else 1,
            num_gpus=gpus if on_gpu else 0,
            memory=0 if on_gpu else WORKER_BYTES,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        self.node, self.actor = node, options.remote(images, device)
        self.waited = self.actor.ready.remote()  # what it answers next: that it is ready, then news
        self.environment: Environment | None = None  # None until it is ready
        self.task: Task | None = None
        self.asked = time.monotonic()

    def take(self, task: Task) -> None:
        """Train a run."""
        self.task = task
        # It waits until its last news is read, because nobody else writes its checkpoints.
        train = self.actor.train.options(
            num_returns="streaming", _generator_backpressure_num_objects=_UNREAD
        )
        self.waited = train.remote(task.run, task.saved(), task.epochs)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        with contextlib.suppress(RayError):
            ray.kill(self.actor)
