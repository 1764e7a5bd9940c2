"""What the engine asks of the workers that train, wherever they are."""

from collections.abc import Iterator
from typing import Protocol

from fmnist_tuning.running.events import ClusterEvent, Environment, TrainingEvent
from fmnist_tuning.running.trainer import Task
from fmnist_tuning.sweeps.runs import PlannedRun


class Executor(Protocol):
    """Workers that train one run at a time each, and live until the command ends.

    `pool.WorkerPool` has processes of this machine, `ray_pool.RayPool` those of a cluster.
    """

    @property
    def expected(self) -> int:
        """How many workers there will be, as far as this is known before any is started."""

    def start(self, trainings: int) -> Environment:
        """Have workers ready for so many runs; returns what the first one trains with.

        Raises:
            FmnistError: When none can be started.
        """

    def __len__(self) -> int:
        """How many workers there are now."""

    @property
    def idle(self) -> int:
        """How many of them are free."""

    @property
    def busy(self) -> bool:
        """Whether any of them trains."""

    @property
    def next_environment(self) -> Environment:
        """What the worker trains with that takes the next run; one must be idle."""

    def take(self, task: Task) -> None:
        """Give a run to the worker that is next."""

    def events(self, timeout: float) -> Iterator[TrainingEvent | ClusterEvent]:
        """What happens; nothing if nothing happens within `timeout` seconds.

        What must not be lost is on the disk before its event is told.
        """

    def drop(self, run: PlannedRun) -> None:
        """Stop training a run at once, without a word."""

    def stop(self) -> None:
        """Stop training all runs at once; workers that are idle stay."""

    def close(self) -> None:
        """End every worker at once, whatever it is doing."""
