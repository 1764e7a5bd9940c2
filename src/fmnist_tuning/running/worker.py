"""The process that trains: one run at a time, each measurement sent to the parent as it comes.

A worker loads what training needs and no more: no MLflow, no tables, no terminal. The parent
imports this file too, and needs no torch: that waits.
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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmnist_tuning.data.files import SharedImages
from fmnist_tuning.errors import CheckpointError, FmnistError
from fmnist_tuning.files import write_whole
from fmnist_tuning.running.events import (
    Environment,
    EpochEnded,
    Failed,
    Finished,
    Paused,
    Restarted,
    Resumed,
    TrainingEvent,
)
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import Precision, RunConfig

if TYPE_CHECKING:
    import torch

    from fmnist_tuning.training.model import FashionCNN

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Task:
    """A run to train.

    Attributes:
        run: The run.
        checkpoint: The file that each epoch leaves, and from which the run goes on if it is there.
        weights: The file that the trained network leaves, before the outcome is sent.
        epochs: How many to train at most before the run is `Paused`; None for all that are left.
    """

    run: PlannedRun
    checkpoint: Path
    weights: Path
    epochs: int | None = None


def serve(connection: Connection, images: SharedImages, device: Device) -> None:
    """The worker's life: load once, then train what comes until the pipe closes.

    It sends its `Environment`, or the reason (a text) why it cannot work; then what happens to each
    task's run.
    """
    # Ctrl-C reaches the whole terminal group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore")
    _end_with_parent()
    _keep_freed_memory()
    try:
        trainer = _Trainer(images, device)
    except FmnistError as error:
        connection.send(str(error))
        return
    try:
        connection.send(trainer.environment)
        while True:
            for event in trainer.events(connection.recv()):
                connection.send(event)
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

    def events(self, task: Task) -> Iterator[TrainingEvent]:
        """Train one run; whatever goes wrong is an event too."""
        try:
            end = yield from self._training(task)
        except FmnistError as error:
            hopeless = not isinstance(error, CheckpointError)
            yield Failed(task.run, str(error), hopeless=hopeless)
        except Exception as error:  # noqa: BLE001  an arm that fails must not end the others
            yield Failed(task.run, f"{type(error).__name__}: {error}")
        else:
            yield end

    def _training(self, task: Task) -> Generator[TrainingEvent, None, Finished | Paused]:
        from fmnist_tuning.training.building import select_images  # noqa: PLC0415
        from fmnist_tuning.training.checkpoint import pack, unpack  # noqa: PLC0415
        from fmnist_tuning.training.classifier import Classifier, pack_weights  # noqa: PLC0415
        from fmnist_tuning.training.loop import Progress, train  # noqa: PLC0415

        config = task.run.config
        self._set_precision(config.precision)
        images = select_images(self._data, config.seed, **config.arguments("images"))
        built = self._built(config)
        progress, turn = Progress(), task.epochs
        if task.checkpoint.is_file():
            try:
                progress = unpack(_read(task.checkpoint), *built)
                yield Resumed(task.run, tuple(progress.history))
            except CheckpointError as error:
                aside = task.checkpoint.with_suffix(".damaged")
                task.checkpoint.replace(aside)
                yield Restarted(task.run, f"{error}: set aside as {aside}")
                built = self._built(config)
                turn = None  # a disk that spoils every checkpoint must not keep it from its end
        model, optimizer, order = built
        settings = config.arguments("loop")
        epochs = train(model, images, optimizer, order=order, progress=progress, **settings)
        last = len(progress.history) + (turn or config.epochs)
        while True:
            try:
                metrics = next(epochs)
            except StopIteration as end:
                classifier = Classifier(model, images.train.mean, images.train.deviation)
                _write(task.weights, pack_weights(classifier))
                return Finished(task.run, end.value.metrics())
            # First the checkpoint, then the news: what is in MLflow need never be trained again.
            _write(task.checkpoint, pack(*built, progress))
            yield EpochEnded(task.run, metrics)
            if last == metrics.epoch < config.epochs:
                return Paused(task.run)

    def _built(
        self, config: RunConfig
    ) -> "tuple[FashionCNN, torch.optim.Optimizer, torch.Generator]":
        from fmnist_tuning.training.building import (  # noqa: PLC0415
            Stream,
            build_model,
            build_optimizer,
            generator,
        )

        model = build_model(config.seed, self._device, **config.arguments("network"))
        optimizer = build_optimizer(model, **config.arguments("optimizer"))
        return model, optimizer, generator(config.seed, Stream.ORDER)

    def _set_precision(self, precision: Precision) -> None:
        import torch  # noqa: PLC0415

        if precision == "tf32" and self._device.type == "cpu":
            raise FmnistError(
                "precision tf32 needs a CUDA device; on a CPU, train in float32 or bf16"
            )
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


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
