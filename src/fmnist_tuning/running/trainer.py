"""One worker's trainings, wherever the worker is: it holds the images and yields what happens.

It loads only what training needs: no MLflow, no tables, no terminal. The parent imports this file
too and does not need torch, so functions import torch.
"""

import ctypes
import math
import platform
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.errors import CheckpointError, DivergedError, FmnistError
from fmnist_tuning.files import write_whole
from fmnist_tuning.running import events
from fmnist_tuning.sweeps.choices import Precision
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import RunConfig

if TYPE_CHECKING:
    from fmnist_tuning.data.images import Images, ImageSet
    from fmnist_tuning.metrics import EpochMetrics, RunOutcome
    from fmnist_tuning.training.state import State

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class News:
    """What has happened to a run, and what must be on the disk before anybody hears of it."""

    event: events.TrainingEvent
    content: bytes = b""  # the checkpoint after an epoch, or the network at the end


@dataclass(frozen=True, slots=True)
class Task:
    """A run to train, and its files."""

    run: PlannedRun
    checkpoint: Path  # written after each epoch; if it is there, the run continues from it
    weights: Path  # the trained network's, written before `Finished` is told
    epochs: int | None = None  # the most to train before the run is `Paused`; None for all

    def saved(self) -> bytes | None:
        """The checkpoint, if there is one; none that anybody can use if it cannot be read."""
        try:
            return self.checkpoint.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            return b""

    def keep(self, news: News) -> events.TrainingEvent:
        """Write what comes with an event; returns the event to tell, `Failed` if that failed."""
        try:
            match news.event:
                case events.EpochEnded():
                    write_whole(self.checkpoint, news.content)
                case events.Finished():
                    write_whole(self.weights, news.content)
                case events.Restarted(run, reason):
                    aside = self.checkpoint.with_suffix(".damaged")
                    self.checkpoint.replace(aside)
                    return events.Restarted(run, f"{reason}: set aside as {aside}")
        except (FmnistError, OSError) as error:
            said = f"{error}; the last good checkpoint is kept: run the same command again to "
            return events.Failed(self.run, f"{said}continue")
        return news.event


class Trainer:
    """The images on the device, and the trainings on them, one at a time.

    `images` has the arrays of each data set by its name, as `ImageSet.load` takes them.

    Raises:
        FmnistError: When `device` is `cuda` and there is none.
    """

    def __init__(self, images: Mapping[str, Sequence[NDArray[np.uint8]]], device: Device) -> None:
        import torch  # noqa: PLC0415

        _keep_freed_memory()
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
        self._arrays = images
        self._sets: dict[str, ImageSet] = {}  # those that were needed
        self.environment = events.Environment(
            device=self._device.type,
            processor=torch.cuda.get_device_name() if on_gpu else _processor_name(),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),  # a TorchVersion would make the parent load torch
            python=platform.python_version(),
        )

    def train(self, run: PlannedRun, saved: bytes | None, epochs: int | None) -> Iterator[News]:
        """Train a run from its checkpoint (`saved`), for so many epochs; an error is news too."""
        try:
            end = yield from self._training(run, saved, epochs)
        except FmnistError as error:
            hopeless = not isinstance(error, CheckpointError)
            diverged = isinstance(error, DivergedError)
            yield News(events.Failed(run, str(error), hopeless=hopeless, diverged=diverged))
        except Exception as error:  # noqa: BLE001  a run that fails must not end the others
            yield News(events.Failed(run, f"{type(error).__name__}: {error}"))
        else:
            yield end

    def _training(
        self, run: PlannedRun, saved: bytes | None, turn: int | None
    ) -> Generator[News, None, News]:
        from fmnist_tuning.training import building, checkpoint, classifier  # noqa: PLC0415

        config = run.config
        self._set_precision(config.precision)
        data = self._data(config.dataset)
        images = building.select_images(data, config.seed, **config.arguments("images"))
        state = building.build(config, self._device)
        if saved is not None:
            try:
                checkpoint.unpack(saved, state)
                yield News(events.Resumed(run, tuple(state.progress.history)))
            except CheckpointError as error:
                yield News(events.Restarted(run, str(error)))
                state = building.build(config, self._device)
                turn = None  # in turns, a disk that spoils every checkpoint would go on for ever
        trained = _trained(config, state, images)
        last = len(state.progress.history) + (turn or config.epochs)
        while True:
            try:
                metrics = next(trained)
            except StopIteration as end:
                train = images.train
                network = classifier.Classifier(state.network, train.mean, train.deviation)
                content = classifier.pack_weights(network)
                return News(events.Finished(run, end.value.metrics()), content)
            # The checkpoint comes first, so that no epoch in MLflow is ever trained again.
            yield News(events.EpochEnded(run, metrics), checkpoint.pack(state))
            if last == metrics.epoch < config.epochs:
                return News(events.Paused(run))

    def _data(self, name: str) -> "ImageSet":
        """A data set on the device; it stays there for the next run."""
        from fmnist_tuning.data.images import ImageSet  # noqa: PLC0415

        if name not in self._sets:
            self._sets[name] = ImageSet.load(self._arrays[name], self._device)
        return self._sets[name]

    def _set_precision(self, precision: Precision) -> None:
        import torch  # noqa: PLC0415

        if precision == "tf32" and self._device.type == "cpu":
            raise FmnistError(
                "precision tf32 needs a CUDA device; on a CPU, train in float32 or bf16"
            )
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _trained(
    config: RunConfig, state: "State", images: "Images"
) -> "Generator[EpochMetrics, None, RunOutcome]":
    """The training of a run from its state on."""
    from fmnist_tuning.training.augmentation import Augmenter  # noqa: PLC0415
    from fmnist_tuning.training.early_stopping import is_enough  # noqa: PLC0415
    from fmnist_tuning.training.learning_rate import learning_rates  # noqa: PLC0415
    from fmnist_tuning.training.loop import train  # noqa: PLC0415

    augmented = config.augmentation != "none"
    return train(
        state,
        images,
        learning_rates=learning_rates(
            learning_rate=config.learning_rate,
            epochs=config.epochs,
            epoch_steps=math.ceil(config.train_size / config.batch_size),
            **config.arguments("schedule"),
        ),
        augmenter=Augmenter(**config.arguments("augmentation")) if augmented else None,
        enough=partial(is_enough, **config.arguments("early stopping")),
        **config.arguments("loop"),
    )


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
