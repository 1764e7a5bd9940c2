"""Worker processes: each trains one run at a time, and streams what it measures to the parent.

Only the parent writes to MLflow. So workers never collide on the store, need not load MLflow, and
one that dies takes nothing with it but its own run.
"""

import contextlib
import multiprocessing
import os
import platform
import signal
import sys
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from fmnist_tuning.config import RunConfig
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.planning import PlannedRun
from fmnist_tuning.records import EpochMetrics, RunOutcome

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Environment:
    """What a worker trains with; becomes tags of its runs."""

    device: str
    processor: str
    threads: int
    torch: str
    python: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker begins the run."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be finished, or a worker that could not start."""

    reason: str


Message = Taken | EpochMetrics | RunOutcome | Failure


class WorkerPool:
    """Processes that stay warm for a whole plan.

    Args:
        folder: The verified data folder, which every worker reads for itself.
        data_digest: What it must still hold.
        device: Where to train.
        jobs: How many workers; None for one a core on a CPU and one on a GPU.
    """

    def __init__(self, folder: Path, data_digest: str, device: Device, jobs: int | None) -> None:
        self._arguments = (folder, data_digest, device)
        self._workers: list[_Worker] = []
        self._jobs = jobs
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
            sure = self._jobs or (1 if _may_have_gpu(self._arguments[2]) else available_cores())
            self._add_workers(min(sure, trainings))
            self.environment = self._workers[0].ready()
        automatic = available_cores() if self.environment.device == "cpu" else 1
        self._add_workers(min(self._jobs or automatic, trainings))
        return self.environment

    def _add_workers(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(_Worker(*self._arguments))

    def __len__(self) -> int:
        return len(self._workers)

    def run(self, trainings: Sequence[PlannedRun]) -> Iterator[tuple[PlannedRun, Message]]:
        """Train every run, and yield each message of each worker as it comes.

        A run whose worker dies yields a `Failure`; a new worker takes its place.
        """
        waiting = deque(trainings)
        while True:
            for worker in self._workers:
                if waiting and worker.run is None:
                    worker.take(waiting.popleft())
                    assert worker.run is not None  # noqa: S101  just taken
                    yield worker.run, Taken()
            busy = {worker.connection: worker for worker in self._workers if worker.run is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)  # noqa: S101  only such are waited for
                worker = busy[connection]
                assert worker.run is not None  # noqa: S101
                run, message = worker.run, worker.receive()
                if isinstance(message, Environment):
                    continue
                if isinstance(message, (RunOutcome, Failure)):
                    worker.run = None
                if not worker.process.is_alive():
                    self._workers.remove(worker)
                    if waiting:
                        self._workers.append(_Worker(*self._arguments))
                yield run, message

    def close(self) -> None:
        """End every worker at once, whatever it is doing."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()


class _Worker:
    def __init__(self, folder: Path, data_digest: str, device: Device) -> None:
        # A forked copy of a process with threads (MLflow has some) can deadlock; CUDA forbids it.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, folder, data_digest, device), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self.run: PlannedRun | None = None

    def ready(self) -> Environment:
        message = self.receive()
        if isinstance(message, Environment):
            return message
        raise FmnistError(message.reason)

    def take(self, run: PlannedRun) -> None:
        self.run = run
        with contextlib.suppress(OSError):  # it died while idle: the next receive says how
            self.connection.send(run.config)

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
    return device != "cpu" and (sys.platform == "win32" or any(path.exists() for path in drivers))


def _serve(connection: Connection, folder: Path, data_digest: str, device: Device) -> None:
    """The worker's life: load once, then train what comes until the pipe closes."""
    # Ctrl-C reaches the whole terminal group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore")
    try:
        trainer = _Trainer(folder, data_digest, device)
    except FmnistError as error:
        connection.send(Failure(str(error)))
        return
    try:
        connection.send(trainer.environment)
        while True:
            config = connection.recv()
            for message in trainer.messages(config):
                connection.send(message)
    except (EOFError, OSError):
        return  # the parent is gone, or has closed the pipe: there is nobody to train for


class _Trainer:
    """The data on the device, and what turns a configuration into a training on them."""

    def __init__(self, folder: Path, data_digest: str, device: Device) -> None:
        import torch  # noqa: PLC0415  the parent imports this file and needs no torch

        from fmnist_tuning.data.files import verify  # noqa: PLC0415
        from fmnist_tuning.data.images import FashionMnist  # noqa: PLC0415

        if device == "cuda" and not torch.cuda.is_available():
            raise FmnistError(
                f"--device cuda: torch {torch.__version__} finds no CUDA device here; "
                "--device cpu trains without one"
            )
        on_gpu = device != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        # One thread each: results must not depend on how many workers there are, and sums of
        # floating-point numbers depend on how they are divided among threads.
        torch.set_num_threads(1)
        # The same reason: cuDNN's fastest algorithms add in a different order every time.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        files = verify(folder)
        if files.digest != data_digest:
            raise FmnistError(f"the images in {folder} have changed since the plan was made")
        self._data = FashionMnist.load(files, self._device)
        self.environment = Environment(
            device=self._device.type,
            processor=torch.cuda.get_device_name() if on_gpu else _processor_name(),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            python=platform.python_version(),
        )

    def messages(self, config: RunConfig) -> Iterator[EpochMetrics | RunOutcome | Failure]:
        """Train one run; whatever goes wrong is a message too."""
        try:
            outcome = yield from self._training(config)
        except FmnistError as error:
            yield Failure(str(error))
        except Exception as error:  # noqa: BLE001  an arm that fails must not end the others
            yield Failure(f"{type(error).__name__}: {error}")
        else:
            yield outcome

    def _training(self, config: RunConfig) -> Generator[EpochMetrics, None, RunOutcome]:
        from fmnist_tuning import training  # noqa: PLC0415

        images = self._data.select(
            train_size=config.train_size,
            val_size=config.val_size,
            holdout_size=config.holdout_size if config.validation == "holdout" else None,
            generator=training.generator(config.seed, training.Stream.SUBSET),
        )
        model = training.build_model(
            config.seed,
            self._device,
            conv_channels=config.conv_channels,
            kernel_size=config.kernel_size,
            use_pooling=config.use_pooling,
            use_batch_norm=config.use_batch_norm,
            dropout_rate=config.dropout_rate,
            fc_units=config.fc_units,
        )
        optimizer = training.build_optimizer(
            model,
            config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        return training.train(
            model,
            images,
            optimizer,
            epochs=config.epochs,
            batch_size=config.batch_size,
            order=training.generator(config.seed, training.Stream.ORDER),
        )


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
