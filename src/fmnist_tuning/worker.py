"""The process that trains: one run at a time, each measurement sent to the parent as it comes.

A room of its own, because a worker should load what training needs and no more: no MLflow, no
tables, no terminal. The parent imports this file too, and needs no torch: that waits.
"""

import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmnist_tuning.config import RunConfig
from fmnist_tuning.config.run import Precision
from fmnist_tuning.data import SharedImages
from fmnist_tuning.errors import CheckpointError, FmnistError
from fmnist_tuning.records import EpochMetrics, RunOutcome
from fmnist_tuning.writing import write_whole

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

    import torch

    from fmnist_tuning.data.images import FashionMnist, Images
    from fmnist_tuning.model import FashionCNN

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
class Task:
    """A run to train.

    Attributes:
        config: Its configuration.
        checkpoint: The file that each epoch leaves, and from which the run goes on if it is there.
        weights: The file that the trained network leaves, before the outcome is sent.
        epochs: How many to train at most before the run is `Paused`; None for all that are left.
    """

    config: RunConfig
    checkpoint: Path
    weights: Path
    epochs: int | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """The run goes on after these epochs."""

    history: tuple[EpochMetrics, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    """The run has trained the epochs it was given, and its checkpoint is there to go on from."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """The run's checkpoint cannot be used, and is kept under another name: it starts over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be finished, or a worker that could not start.

    Attributes:
        reason: For people.
        hopeless: Whether going on from the checkpoint would fail in the same way.
    """

    reason: str
    hopeless: bool = False


Message = EpochMetrics | Restored | Paused | SetAside | RunOutcome | Failure


def context() -> "ForkServerContext | SpawnContext":
    """How workers are started: on Linux, forked from a server that does nothing but load torch.

    Not from the parent: a forked copy of a process with threads (MLflow has some) can deadlock.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["fmnist_tuning.preloaded"])
    return made


def warm_up() -> None:
    """Let the server that workers are forked from load torch, while the parent does other things.

    Raises:
        FmnistError: When it cannot be started.
    """
    if context().get_start_method() != "forkserver":
        return
    try:
        resource_tracker.ensure_running()  # which would take the block away again
        # Ctrl-C reaches the whole terminal group, and is the parent's business.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        raise FmnistError(f"no worker processes can be started ({error})") from None


def serve(connection: Connection, images: SharedImages, device: Device) -> None:
    """The worker's life: load once, then train what comes until the pipe closes."""
    # Ctrl-C reaches the whole terminal group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore")
    _end_with_parent()
    _keep_freed_memory()
    try:
        trainer = _Trainer(images, device)
    except FmnistError as error:
        connection.send(Failure(str(error)))
        return
    try:
        connection.send(trainer.environment)
        while True:
            task = connection.recv()
            for message in trainer.messages(task):
                connection.send(message)
    except (EOFError, OSError):
        return  # the parent is gone, or has closed the pipe: there is nobody to train for


class _Trainer:
    """The data on the device, and what turns a configuration into a training on them."""

    def __init__(self, images: SharedImages, device: Device) -> None:
        import torch  # noqa: PLC0415

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
        self._data = FashionMnist.load(images, self._device)
        self.environment = Environment(
            device=self._device.type,
            processor=torch.cuda.get_device_name() if on_gpu else _processor_name(),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),  # its own type would pull torch into the parent
            python=platform.python_version(),
        )

    def messages(self, task: Task) -> Iterator[Message]:
        """Train one run; whatever goes wrong is a message too."""
        try:
            end = yield from self._training(task)
        except FmnistError as error:
            yield Failure(str(error), hopeless=not isinstance(error, CheckpointError))
        except Exception as error:  # noqa: BLE001  an arm that fails must not end the others
            yield Failure(f"{type(error).__name__}: {error}")
        else:
            yield end

    def _training(self, task: Task) -> Generator[Message, None, RunOutcome | Paused]:
        from fmnist_tuning import training  # noqa: PLC0415

        config = task.config
        self._set_precision(config.precision)
        images = select_images(self._data, config)
        built = self._built(config)
        progress = training.Progress()
        turn = task.epochs
        if task.checkpoint.is_file():
            try:
                progress = training.unpack(_read(task.checkpoint), *built)
                yield Restored(tuple(progress.history))
            except CheckpointError as error:
                aside = task.checkpoint.with_suffix(".damaged")
                task.checkpoint.replace(aside)
                yield SetAside(f"{error}: set aside as {aside}")
                built = self._built(config)
                turn = None  # a disk that spoils every checkpoint must not keep it from its end
        model, optimizer, order = built
        epochs = training.train(
            model,
            images,
            optimizer,
            epochs=config.epochs,
            batch_size=config.batch_size,
            order=order,
            precision=config.precision,
            progress=progress,
        )
        last = len(progress.history) + (turn or config.epochs)
        while True:
            try:
                metrics = next(epochs)
            except StopIteration as end:
                outcome: RunOutcome = end.value
                classifier = training.Classifier(model, images.train.mean, images.train.deviation)
                _write(task.weights, training.pack_weights(classifier))
                return outcome
            # First the checkpoint, then the news: what is in MLflow need never be trained again.
            _write(task.checkpoint, training.pack(*built, progress))
            yield metrics
            if last == metrics.epoch < config.epochs:
                return Paused()

    def _built(
        self, config: RunConfig
    ) -> "tuple[FashionCNN, torch.optim.Optimizer, torch.Generator]":
        from fmnist_tuning import training  # noqa: PLC0415

        model = training.build_model(
            config.seed,
            self._device,
            **config.architecture(),
        )
        optimizer = training.build_optimizer(
            model,
            config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        return model, optimizer, training.generator(config.seed, training.Stream.ORDER)

    def _set_precision(self, precision: Precision) -> None:
        import torch  # noqa: PLC0415

        if precision == "tf32" and self._device.type == "cpu":
            raise FmnistError(
                "precision tf32 needs a CUDA device; on a CPU, train in float32 or bf16"
            )
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def select_images(data: "FashionMnist", config: RunConfig) -> "Images":
    """What a run trains on and is judged by.

    Raises:
        DataError: When the data have fewer images than it asks for.
    """
    from fmnist_tuning import training  # noqa: PLC0415

    return data.select(
        train_size=config.train_size,
        val_size=config.val_size,
        holdout_size=config.holdout_size if config.validation == "holdout" else None,
        generator=training.generator(config.seed, training.Stream.SUBSET),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"its checkpoint cannot be read ({error.strerror})") from None


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except FmnistError as error:
        raise CheckpointError(
            f"{error}; the last good checkpoint stands, and the same command goes on from it"
        ) from None


def _end_with_parent() -> None:
    """Leave when the parent has gone, even in mid-epoch: somebody else may take the run up."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _keep_freed_memory() -> None:
    """Let the allocator keep what a step frees: the next one needs the same again.

    glibc would return large blocks to the system, which hands them back page by page, each filled
    with zeros: 700 page faults a step, a twentieth of its time.
    """
    allocator = ctypes.CDLL(None) if sys.platform == "linux" else None
    if allocator is not None and hasattr(allocator, "mallopt"):  # glibc's own; musl has none
        trim_threshold, mmap_max = -1, -4
        allocator.mallopt(trim_threshold, -1)
        allocator.mallopt(mmap_max, 0)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
