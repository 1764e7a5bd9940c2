"""The images of a run as tensors on the device, normalised batch by batch."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist_tuning.errors import DataError


@dataclass(frozen=True, slots=True)
class Split:
    """Images with their labels on one device; a batch is normalised when it is used.

    Stored as bytes, images need a quarter of the memory, and workers on a CPU can share it.
    """

    images: Tensor  # (N, C, S, S) uint8
    labels: Tensor  # (N,) int64
    mean: float  # of the training set's pixels, on the scale from 0 to 1
    deviation: float  # the standard deviation of these pixels

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalised images (B, C, S, S) float32 and labels (B,) at these positions."""
        return self.normalised(self.images[chosen].float()), self.labels[chosen]

    def normalised(self, pixels: Tensor) -> Tensor:
        """Levels (B, C, S, S) float32, which are overwritten, as the network takes them."""
        return pixels.div_(255).sub_(self.mean).div_(self.deviation)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, in batches of `size`; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def take(self, chosen: Tensor) -> "Split":
        """The images at these positions; returns `self` if these are all."""
        if len(chosen) == len(self):
            return self
        chosen = chosen.to(self.labels.device)
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, slots=True)
class Images:
    """The images of one run; `test` only if a holdout is used for validation."""

    train: Split
    validation: Split
    test: Split | None = None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A whole data set on one device."""

    train: Split
    test: Split

    @classmethod
    def load(cls, arrays: Sequence[NDArray[np.uint8]], device: torch.device) -> "ImageSet":
        """Put all images on the device; on a CPU they are not copied.

        `arrays` are training images (N, S, S), or (N, 3, S, S) in colour, and labels (N,), then
        those of the test set.
        """
        train_images, train_labels, test_images, test_labels = arrays
        mean, deviation = pixel_statistics(train_images)

        def split(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
            pixels = torch.from_numpy(images)
            return Split(
                (pixels.unsqueeze(1) if pixels.ndim == 3 else pixels).to(device),  # noqa: PLR2004
                torch.from_numpy(labels).to(device, torch.int64),
                mean,
                deviation,
            )

        with warnings.catch_warnings():
            # Memory that is shared may be read-only, and nothing here writes into images.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return cls(split(train_images, train_labels), split(test_images, test_labels))

    def select(
        self,
        *,
        train_size: int,
        val_size: int,
        validation: Literal["test", "holdout"],
        holdout_size: int,
        generator: torch.Generator,
    ) -> Images:
        """The images of one run, drawn evenly from the classes.

        With `holdout`, validation images come from `holdout_size` training images that are set
        aside. The `generator` is on the CPU. Raises `DataError` if there are too few images.
        """
        train, judge = self.train, self.test
        held_out = validation == "holdout"
        if held_out:
            _check_size("holdout_size", holdout_size, len(train) - 1)
            aside = _balanced(train.labels, holdout_size, generator)
            kept = torch.ones(len(train), dtype=torch.bool)
            kept[aside] = False
            train, judge = train.take(kept.nonzero()[:, 0]), train.take(aside)
        _check_size("train_size", train_size, len(train))
        _check_size("val_size", val_size, len(judge))
        return Images(
            train=train.take(_balanced(train.labels, train_size, generator)),
            validation=judge.take(_balanced(judge.labels, val_size, generator)),
            test=self.test if held_out else None,
        )


_AT_ONCE: Final = 100 * 28 * 28


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels on the scale from 0 to 1, computed in float64."""
    counts = np.zeros(256, np.int64)
    # bincount needs eight bytes for each pixel: 364 MiB for all images at once.
    for part in np.array_split(images, images.nbytes // _AT_ONCE + 1):
        counts += np.bincount(part.ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    variance = float(counts @ (levels - mean) ** 2 / counts.sum())
    # If all pixels are equal, the deviation is 0, and nothing can be divided by it.
    return mean, variance**0.5 or 1.0


def _check_size(key: str, size: int, available: int) -> None:
    if size > available:
        raise DataError(
            f"{key} is {size}, and the data have {available} images for it; "
            f"set it with --set {key}={available}"
        )


def _balanced(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Sorted positions of `size` random images, as evenly from the classes as possible."""
    if size == len(labels):
        return torch.arange(size)
    shuffled = torch.randperm(len(labels), generator=generator)
    classes = torch.nn.functional.one_hot(labels.cpu()[shuffled])  # (N, classes)
    place_in_class = (classes.cumsum(0) * classes).sum(1)  # (N,) 1 for the first image of its class
    by_place = place_in_class.argsort(stable=True)
    return shuffled[by_place[:size]].sort().values
