"""Workers on the nodes of a Ray cluster; nothing else but `cluster` knows Ray.

Each worker is an actor that stays warm and trains one run at a time. The images travel to a node
once, through Ray's object store. A worker streams what it measures, with the checkpoint of each
epoch, to this process, which writes the checkpoint before it tells the epoch. So a run whose node
is lost continues on another node, in the same MLflow run, and loses the epoch in hand at most.
"""

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import ray
from ray.exceptions import RayError

from fmnist_tuning.data.files import DataFiles
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running import cluster
from fmnist_tuning.running.events import (
    ClusterEvent,
    Environment,
    EpochEnded,
    Failed,
    Finished,
    Joined,
    Lost,
    Paused,
    Refused,
    TrainingEvent,
)
from fmnist_tuning.running.places import Places
from fmnist_tuning.running.ray_worker import ActorHandle
from fmnist_tuning.running.trainer import Device, Task
from fmnist_tuning.sweeps.runs import PlannedRun

_START_SECONDS: Final = 60.0  # to load PyTorch on a slow node
_GATHER_SECONDS: Final = 10.0  # how long the first worker waits for the others
_LOOK_SECONDS: Final = 2.0  # between two looks at which nodes there are
_ALONE_SECONDS: Final = 60.0  # how long a plan waits when no worker is left
_LOSSES: Final = 3  # of a run without a new epoch in between; then it is the run's own fault


class RayPool:
    """A cluster's workers, as many as its nodes have room for, or `jobs`.

    Nodes that join later are used too. `gpus_per_run` is a worker's part of a GPU. `cluster.begin`
    must have been called.
    """

    def __init__(
        self,
        files: Sequence[DataFiles],
        device: Device,
        jobs: int | None,
        gpus_per_run: float = 1.0,
    ) -> None:
        self._files, self._jobs = files, jobs
        self._places = Places(device, gpus_per_run)
        self._images: Any = None  # Ray's reference to them
        self._workers: list[ActorHandle] = []
        self._wanted = 0
        self._notices: deque[ClusterEvent] = deque()
        self._losses: Counter[str] = Counter()
        self._filled_at, self._alone_since = 0.0, math.inf
        self._first: Environment | None = None

    @property
    def expected(self) -> int:
        """How many workers there will be, by the resources of the nodes."""
        with cluster.answering():
            cluster.connect()
            self._places.choose_device()
            room = self._places.room
        return max(min(self._jobs or room, room), 1)

    def start(self, trainings: int) -> Environment:
        """Start a worker on every node and more where they fit; wait until the first can train.

        Raises:
            FmnistError: When there is no room, no node can be used, or the cluster does not answer.
        """
        with cluster.answering():
            cluster.connect()
            if self._images is None:
                self._places.choose_device()
                self._images = ray.put({files.dataset: files.arrays for files in self._files})
            self._wanted = min(self._jobs or trainings, trainings)
            self._gather()
        if self._first is None or not len(self):
            raise FmnistError(self._places.no_room())
        return self._first

    def _gather(self) -> None:
        """Have workers; `events` welcomes those that take longer than the first."""
        began = time.monotonic()
        self._alone_since = math.inf
        self._fill()
        while self._pending:
            most = _GATHER_SECONDS if len(self) else _START_SECONDS
            if (left := began + most - time.monotonic()) <= 0:
                return
            self._next_event(min(left, 1.0))
            faults = [event for event in self._notices if isinstance(event, Refused)]
            if faults and self._first is None:
                raise FmnistError("\n".join(f"node {f.node}: {f.reason}" for f in faults))
            if not self._pending and not len(self):
                self._fill()

    def __len__(self) -> int:
        return sum(worker.environment is not None for worker in self._workers)

    @property
    def idle(self) -> int:
        """How many workers are free."""
        return len(self._idle)

    @property
    def busy(self) -> bool:
        """Whether any worker trains."""
        return self.idle < len(self)

    @property
    def next_environment(self) -> Environment:
        """What the worker trains with that takes the next run."""
        environment = self._idle[0].environment
        assert environment is not None  # noqa: S101  it is idle, so it was ready
        return environment

    def take(self, task: Task) -> None:
        """Give a run to the worker that is next."""
        self._idle[0].take(task)

    def events(self, timeout: float) -> Iterator[TrainingEvent | ClusterEvent]:
        """What happens to the runs and to the cluster, one event at a time or none.

        Raises:
            FmnistError: When no worker has been left for a minute, or the cluster does not answer.
        """
        with cluster.answering():
            if time.monotonic() - self._filled_at > _LOOK_SECONDS:
                self._fill()
            self._check_alone()
            event = self._next_event(timeout)
        while self._notices:
            yield self._notices.popleft()
        if event is not None:
            yield event

    def drop(self, run: PlannedRun) -> None:
        """Stop training a run at once, without a word."""
        for worker in [w for w in self._workers if w.task and w.task.run == run]:
            self._remove(worker)

    def stop(self) -> None:
        """Stop training all runs at once; workers that are idle stay."""
        for worker in [worker for worker in self._workers if worker.task is not None]:
            self._keep_what_is_there(worker)
            self._remove(worker)

    def close(self) -> None:
        """End every worker at once, and leave the cluster."""
        self.stop()
        for worker in self._workers[:]:
            self._remove(worker)
        cluster.disconnect()

    @property
    def _idle(self) -> list[ActorHandle]:
        return [w for w in self._workers if w.environment is not None and w.task is None]

    @property
    def _pending(self) -> list[ActorHandle]:
        return [worker for worker in self._workers if worker.environment is None]

    def _fill(self) -> None:
        """Ask for as many workers as are wanted and fit, spread over the nodes."""
        now = self._filled_at = time.monotonic()
        there = self._places.alive()
        for worker in self._workers[:]:
            if worker.node.id not in there:  # an idle one would say nothing of it
                self._remove(worker)
                if worker.task is not None:
                    self._notices.append(Lost(worker.task.run, f"node {worker.node.name} is gone"))
            elif worker.environment is None and now - worker.asked > _START_SECONDS:
                self._remove(worker)
                self._places.leave_alone(worker.node)
        while len(self._workers) < self._wanted:
            node = self._places.next(Counter(worker.node.id for worker in self._workers))
            if node is None:
                return
            device, part = self._places.device, self._places.gpus_per_run
            self._workers.append(ActorHandle(node, self._images, device, part))

    def _next_event(self, timeout: float) -> TrainingEvent | Lost | None:
        """Wait for what any worker says next."""
        waited = {w.waited: w for w in self._workers if w.task or w.environment is None}
        if not waited:
            time.sleep(timeout)
            return None
        said, _ = ray.wait([*waited], timeout=timeout)
        if not said:
            return None
        worker = waited[said[0]]
        if worker.environment is not None:
            return self._news(worker)
        self._welcome(worker)
        return None

    def _check_alone(self) -> None:
        """End the wait for nodes when no worker has been ready for too long."""
        if len(self):
            self._alone_since = math.inf
            return
        self._alone_since = min(self._alone_since, time.monotonic())
        if time.monotonic() - self._alone_since > _ALONE_SECONDS:
            raise FmnistError(
                "no node of the cluster is left that can train; finished epochs are kept: run the "
                "same command again to continue"
            )

    def _welcome(self, worker: ActorHandle) -> None:
        """A worker has loaded, or cannot."""
        try:
            environment, versions = ray.get(worker.waited)
        except RayError as error:
            if self._places.is_hopeless(worker.node, error):
                self._refuse(worker, cluster.loading_failed(error))
            else:
                self._remove(worker)
            return
        reason = cluster.difference(versions)
        if self._first and environment.torch != self._first.torch:
            reason = f"found torch {environment.torch}, allowed: {self._first.torch}, as elsewhere"
        if reason:
            self._refuse(worker, reason)
            return
        worker.environment, self._alone_since = environment, math.inf
        self._first = self._first or environment
        there = sum(w.node.id == worker.node.id for w in self._workers)
        if not any(w.node.id == worker.node.id for w in self._pending):
            name, processor = worker.node.name, environment.processor
            self._notices.append(Joined(name, processor, there, len(self)))

    def _refuse(self, worker: ActorHandle, reason: str) -> None:
        node = worker.node
        for other in [w for w in self._pending if w.node.id == node.id] or [worker]:
            self._remove(other)
        if node.id in self._places.alive():  # else it is merely gone
            self._places.refuse(node)
            self._notices.append(Refused(node.name, reason))

    def _news(self, worker: ActorHandle) -> TrainingEvent | Lost | None:
        """What a worker says of its run; its files are written first."""
        task = worker.task
        assert task is not None  # noqa: S101  only a worker with a task is asked
        try:
            news = ray.get(next(worker.waited), timeout=_START_SECONDS)
        except (RayError, StopIteration):
            return self._lost(worker, task.run)
        event: TrainingEvent = task.keep(news)
        if event is not news.event and isinstance(event, Failed):
            self._remove(worker)  # it does not know, and goes on
        elif isinstance(event, Finished | Paused | Failed):
            worker.task = None
        if isinstance(event, EpochEnded | Finished | Failed):
            del self._losses[event.run.fingerprint]
        return event

    def _keep_what_is_there(self, worker: ActorHandle) -> None:
        """Write the checkpoints that a worker has sent and nobody has read yet."""
        with contextlib.suppress(RayError, StopIteration):
            while worker.task and ray.wait([worker.waited], timeout=0)[0]:
                worker.task.keep(ray.get(next(worker.waited), timeout=_LOOK_SECONDS))

    def _lost(self, worker: ActorHandle, run: PlannedRun) -> Lost | Failed:
        self._remove(worker)
        if worker.node.id not in self._places.alive():
            return Lost(run, f"node {worker.node.name} is gone")  # which is not the run's fault
        self._losses[run.fingerprint] += 1
        if self._losses[run.fingerprint] >= _LOSSES:
            del self._losses[run.fingerprint]
            died = f"{_LOSSES} workers died in one epoch of it, the last on node"
            return Failed(run, f"{died} {worker.node.name} (out of memory?)")
        return Lost(run, f"its worker on node {worker.node.name} is gone")

    def _remove(self, worker: ActorHandle) -> None:
        worker.kill()
        self._workers.remove(worker)
