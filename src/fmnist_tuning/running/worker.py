"""The process that trains: one run at a time, each measurement sent to the parent at once.

A worker loads only what training needs: no MLflow, no tables, no terminal. The parent imports this
file too and does not need torch, so functions import torch.
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
from fmnist_tuning.running import events
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import Precision, RunConfig

if TYPE_CHECKING:
    import torch

    from fmnist_tuning.training.model import FashionCNN

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Task:
    """A run to train."""

    run: PlannedRun
    checkpoint: Path  # written after each epoch; if it is there, the run continues from it
    weights: Path  # the trained network's, written before `Finished` is sent
    epochs: int | None = None  # the most to train before the run is `Paused`; None for all


def serve(connection: Connection, images: SharedImages, device: Device) -> None:
    """A worker's life: load once, then train each task until the pipe closes.

    It sends its `Environment`, or a text that says why it cannot work; then the events of each run.
    """
    # Ctrl-C reaches all processes of the terminal, but only the parent should handle it.
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
            for event in trainer.train(connection.recv()):
                connection.send(event)
    except (EOFError, OSError):
        return  # the parent has ended or closed the pipe


class _Trainer:
    """The images on the device, and the trainings on them."""

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
        # Sums of floating-point numbers depend on how they are divided among threads. With one
        # thread each, results do not depend on how many workers there are.
        torch.set_num_threads(1)
        # For the same reason: cuDNN's fastest algorithms add in a different order every time.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        self._data = FashionMnist.load(images, self._device)
        self.environment = events.Environment(
            device=self._device.type,
            processor=torch.cuda.get_device_name() if on_gpu else _processor_name(),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),  # a TorchVersion would make the parent load torch
            python=platform.python_version(),
        )

    def train(self, task: Task) -> Iterator[events.TrainingEvent]:
        """Train one run; an error is an event too."""
        try:
            end = yield from self._training(task)
        except FmnistError as error:
            hopeless = not isinstance(error, CheckpointError)
            yield events.Failed(task.run, str(error), hopeless=hopeless)
        except Exception as error:  # noqa: BLE001  a run that fails must not end the others
            yield events.Failed(task.run, f"{type(error).__name__}: {error}")
        else:
            yield end

    def _training(
        self, task: Task
    ) -> Generator[events.TrainingEvent, None, events.Finished | events.Paused]:
        from fmnist_tuning.training import building, checkpoint, classifier, loop  # noqa: PLC0415

        config = task.run.config
        self._set_precision(config.precision)
        images = building.select_images(self._data, config.seed, **config.arguments("images"))
        built = self._built(config)
        progress, turn = loop.Progress(), task.epochs
        if task.checkpoint.is_file():
            try:
                progress = checkpoint.unpack(_read(task.checkpoint), *built)
                yield events.Resumed(task.run, tuple(progress.history))
            except CheckpointError as error:
                aside = task.checkpoint.with_suffix(".damaged")
                task.checkpoint.replace(aside)
                yield events.Restarted(task.run, f"{error}: set aside as {aside}")
                built = self._built(config)
                turn = None  # in turns, a disk that spoils every checkpoint would go on for ever
        model, optimizer, order = built
        settings = config.arguments("loop")
        epochs = loop.train(model, images, optimizer, order=order, progress=progress, **settings)
        last = len(progress.history) + (turn or config.epochs)
        while True:
            try:
                metrics = next(epochs)
            except StopIteration as end:
                trained = classifier.Classifier(model, images.train.mean, images.train.deviation)
                _write(task.weights, classifier.pack_weights(trained))
                return events.Finished(task.run, end.value.metrics())
            # The checkpoint comes first, so that no epoch in MLflow is ever trained again.
            _write(task.checkpoint, checkpoint.pack(*built, progress))
            yield events.EpochEnded(task.run, metrics)
            if last == metrics.epoch < config.epochs:
                return events.Paused(task.run)

    def _built(
        self, config: RunConfig
    ) -> "tuple[FashionCNN, torch.optim.Optimizer, torch.Generator]":
        from fmnist_tuning.training import building  # noqa: PLC0415

        model = building.build_model(config.seed, self._device, **config.arguments("network"))
        optimizer = building.build_optimizer(model, **config.arguments("optimizer"))
        return model, optimizer, building.generator(config.seed, building.Stream.ORDER)

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
            f"{error}; the last good checkpoint is kept: run the same command again to continue"
        ) from None


def _end_with_parent() -> None:
    """End with the parent, even in mid-epoch, because another command may continue the run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _keep_freed_memory() -> None:
    """Let the allocator keep the memory that a step frees, because the next step needs it again.

    glibc would return large blocks to the system and get them back page by page, each filled with
    zeros. These 700 page faults take a twentieth of a step's time.
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
