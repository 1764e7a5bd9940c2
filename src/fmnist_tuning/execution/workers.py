"""Worker processes: each trains one run at a time, and streams what it measures to the parent.

Only the parent writes to MLflow. So workers never collide on the store, need not load MLflow, and
one that dies takes nothing with it but its own run.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fmnist_tuning.data import DataFiles, SharedImages
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.planning import PlannedRun
from fmnist_tuning.records import RunOutcome
from fmnist_tuning.worker import (
    Device,
    Environment,
    Failure,
    Message,
    Paused,
    Task,
    context,
    serve,
    warm_up,
)


class WorkerPool:
    """Processes that stay warm for a whole plan.

    Args:
        files: The verified images, which all workers share.
        device: Where to train.
        jobs: How many workers; None for one a core on a CPU and one on a GPU.
    """

    def __init__(self, files: DataFiles, device: Device, jobs: int | None) -> None:
        self._files = files
        self._device: Device = device
        self._workers: list[_Worker] = []
        self._jobs = jobs
        self._images: SharedImages | None = None  # not copied where there is nothing to train
        self.environment: Environment | None = None

    def start(self, trainings: int) -> Environment:
        """Start as many workers as `trainings` can use.

        Returns:
            What they train with.

        Raises:
            FmnistError: When the device or the data cannot be had.
        """
        if self.environment is None:
            # Only a worker knows for certain what `auto` comes to; where no GPU can be, the others
            # need not wait for its word.
            sure = self._jobs or (1 if _may_have_gpu(self._device) else available_cores())
            self._add_workers(min(sure, trainings))
            self.environment = self._workers[0].ready()
        automatic = available_cores() if self.environment.device == "cpu" else 1
        self._add_workers(min(self._jobs or automatic, trainings))
        return self.environment

    def _add_workers(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(self._new_worker())

    def _new_worker(self) -> "_Worker":
        if self._images is None:
            self._images = SharedImages(self._files)
        warm_up()
        return _Worker(self._images, self._device)

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return sum(worker.run is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether any worker trains."""
        return self.idle < len(self)

    def take(self, run: PlannedRun, task: Task) -> None:
        """Give a run to an idle worker."""
        next(worker for worker in self._workers if worker.run is None).take(run, task)

    def messages(self, timeout: float) -> Iterator[tuple[PlannedRun, Message]]:
        """What the workers have to say, or nothing after so many seconds.

        A run whose worker has died yields a `Failure`, and a new worker takes its place.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.run is not None}
        for connection in wait(list(busy), timeout):
            assert isinstance(connection, Connection)  # noqa: S101  only such are waited for
            worker = busy[connection]
            assert worker.run is not None  # noqa: S101
            run, message = worker.run, worker.receive()
            if isinstance(message, Environment):
                continue
            if isinstance(message, (RunOutcome, Paused, Failure)):
                worker.run = None
            # Not before its last word has come: a run must not go with it unsaid.
            if worker.run is None and not worker.process.is_alive():
                worker.connection.close()
                self._workers.remove(worker)
                self._workers.append(self._new_worker())
            yield run, message

    def close(self) -> None:
        """End every worker at once, whatever it is doing."""
        for worker in self._workers:
            if worker.process.is_alive():  # else its number may be another's by now
                worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()


class _Worker:
    def __init__(self, images: SharedImages, device: Device) -> None:
        self.connection, theirs = context().Pipe()
        self.process = context().Process(target=serve, args=(theirs, images, device), daemon=True)
        try:
            self.process.start()
        except (OSError, EOFError) as error:
            raise FmnistError(f"a worker process cannot be started ({error!r})") from None
        theirs.close()  # so that the worker's death closes the pipe
        self.run: PlannedRun | None = None

    def ready(self) -> Environment:
        message = self.receive()
        if isinstance(message, Environment):
            return message
        raise FmnistError(message.reason)

    def take(self, run: PlannedRun, task: Task) -> None:
        self.run = run
        with contextlib.suppress(OSError):  # it died while idle: the next receive says how
            self.connection.send(task)

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                hint = " (out of memory?)" if name == "SIGKILL" else ""
                return Failure(f"its worker process was ended by {name}{hint}")
            return Failure(f"its worker process ended by itself with exit code {code}")


def available_cores() -> int:
    """The processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _may_have_gpu(device: Device) -> bool:
    drivers = (Path("/dev/nvidia0"), Path("/dev/dxg"), Path("/dev/kfd"))
    return device != "cpu" and (sys.platform != "linux" or any(path.exists() for path in drivers))
