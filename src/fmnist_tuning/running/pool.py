"""Worker processes: each trains one run at a time, and streams what it measures to the parent.

Only the parent writes to MLflow. So workers never collide on the store and need not load MLflow,
and if one dies, only its own run fails.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_tuning.data.files import DataFiles
from fmnist_tuning.data.shared import SharedImages
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running.capacity import workers
from fmnist_tuning.running.events import Environment, Failed, Finished, Paused, TrainingEvent
from fmnist_tuning.running.trainer import Device, Task
from fmnist_tuning.running.worker import serve
from fmnist_tuning.sweeps.runs import PlannedRun

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


def context() -> "ForkServerContext | SpawnContext":
    """How workers are started: on Linux, forked from a server that only loads torch.

    They are not forked from the parent, because it has threads (MLflow's), and a forked copy of a
    process with threads can deadlock.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["fmnist_tuning.running.preloaded"])
    return made


def warm_up() -> None:
    """Let the server of the workers load torch, while the parent does other things.

    Raises:
        FmnistError: When it cannot be started.
    """
    if context().get_start_method() != "forkserver":
        return
    try:
        # Both start as `python -c`, which would look for modules in the user's folder first.
        os.environ["PYTHONSAFEPATH"] = "1"
        resource_tracker.ensure_running()  # first, because it would unblock the signal again
        # Ctrl-C reaches all processes of the terminal, but only the parent should handle it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        raise FmnistError(f"no worker processes can be started ({error})") from None


class WorkerPool:
    """Processes that live for a whole plan and share the images.

    `jobs` is the number of workers; None means as many as fit on a CPU, and one on a GPU.
    """

    def __init__(self, files: Sequence[DataFiles], device: Device, jobs: int | None) -> None:
        self._files = files
        self._device: Device = device
        self._workers: list[_ProcessHandle] = []
        self._jobs = jobs
        self._images: SharedImages | None = None  # copied only when there is something to train
        self.environment: Environment | None = None

    @property
    def expected(self) -> int:
        """How many workers there will be."""
        return self._jobs or automatic_workers(self._device)

    def start(self, trainings: int) -> Environment:
        """Start as many workers as `trainings` can use; return what they train with.

        Raises:
            FmnistError: When the device or the data cannot be used.
        """
        if self.environment is None:
            # Only a worker can tell which device `auto` means. If there is certainly no GPU, the
            # other workers need not wait for its answer.
            sure = self._jobs or (1 if _may_have_gpu(self._device) else workers())
            self._add_workers(min(sure, trainings))
            self.environment = self._workers[0].ready()
        automatic = workers() if self.environment.device == "cpu" else 1
        self._add_workers(min(self._jobs or automatic, trainings))
        return self.environment

    def _add_workers(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(self._new_worker())

    def _new_worker(self) -> "_ProcessHandle":
        if self._images is None:
            self._images = SharedImages(self._files)
        warm_up()
        return _ProcessHandle(self._images, self._device)

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def idle(self) -> int:
        """How many workers are free."""
        return sum(worker.run is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether any worker trains."""
        return self.idle < len(self)

    @property
    def next_environment(self) -> Environment:
        """What a worker trains with; on one machine they are all alike."""
        assert self.environment is not None  # noqa: S101  the pool has been started
        return self.environment

    def take(self, task: Task) -> None:
        """Give a run to an idle worker."""
        next(worker for worker in self._workers if worker.run is None).take(task)

    def events(self, timeout: float) -> Iterator[TrainingEvent]:
        """What happens to the runs; nothing if nothing happens within `timeout` seconds.

        If a worker dies, its run has `Failed`, and a new worker takes its place.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.run is not None}
        for connection in wait(list(busy), timeout):
            assert isinstance(connection, Connection)  # noqa: S101  `busy` has nothing else
            worker = busy[connection]
            assert worker.run is not None  # noqa: S101
            event = worker.receive()
            if isinstance(event, Environment):
                continue
            if isinstance(event, str):  # a worker's last word
                event = Failed(worker.run, event)
            if isinstance(event, (Finished, Paused, Failed)):
                worker.run = None
            yield event
            # A dead worker is replaced only after its last message, so that no result is lost.
            if worker.run is None and not worker.process.is_alive():
                worker.connection.close()
                self._workers.remove(worker)
                self._workers.append(self._new_worker())

    def drop(self, run: PlannedRun) -> None:
        """End the worker that trains a run, and start another in its place."""
        for worker in [worker for worker in self._workers if worker.run == run]:
            worker.end()
            self._workers.remove(worker)
            self._workers.append(self._new_worker())

    def stop(self) -> None:
        """End the workers that train; those that are idle wait for the next plan."""
        self._end([worker for worker in self._workers if worker.run is not None])

    def close(self) -> None:
        """End every worker at once, whatever it is doing."""
        self._end(self._workers[:])

    def _end(self, handles: "Sequence[_ProcessHandle]") -> None:
        for handle in handles:
            handle.kill()
        for handle in handles:
            handle.end()
            self._workers.remove(handle)


class _ProcessHandle:
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
        found = self.receive()
        if isinstance(found, Environment):
            return found
        raise FmnistError(found)

    def take(self, task: Task) -> None:
        self.run = task.run
        with contextlib.suppress(OSError):  # if it died while idle, the next `receive` says how
            self.connection.send(task)

    def kill(self) -> None:
        if self.process.is_alive():  # else another process may have its number by now
            self.process.kill()

    def end(self) -> None:
        self.kill()
        self.process.join()
        self.connection.close()

    def receive(self) -> Any:
        """What the worker sends next, or a text that says why it cannot."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                hint = " (out of memory?)" if name == "SIGKILL" else ""
                return f"its worker process was ended by {name}{hint}"
            return f"its worker process ended by itself with exit code {code}"


def automatic_workers(device: Device) -> int:
    """How many workers `--jobs auto` means, without starting one."""
    if not _may_have_gpu(device):
        return workers()
    import torch  # noqa: PLC0415  takes 5 s, so only where there may be a GPU

    return 1 if torch.cuda.is_available() else workers()


def check_device(device: Device) -> None:
    """Check that the system can have the device, before anything is loaded.

    Raises:
        FmnistError: When `cuda` is asked for and there is no driver of a GPU.
    """
    if device == "cuda" and not _may_have_gpu(device):
        raise FmnistError(
            "--device cuda: found no driver of a GPU on this machine; --device cpu trains without "
            "one"
        )


def _may_have_gpu(device: Device) -> bool:
    # NVIDIA's (a container may have any of several), AMD's, and that of Linux on Windows.
    driver = re.compile(r"nvidia(\d+|ctl)|nvhost-gpu|kfd|dxg")
    found = any(driver.fullmatch(path.name) for path in Path("/dev").glob("*"))
    return device != "cpu" and (sys.platform != "linux" or found)
