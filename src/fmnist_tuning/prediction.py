"""The champion's word on images: files, or numbers of the test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.files import CLASS_NAMES, find
from fmnist_tuning.data.pictures import read_picture
from fmnist_tuning.errors import PictureError, TrackingError
from fmnist_tuning.store.registry import Champion
from fmnist_tuning.sweeps.settings import RunConfig


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to be named.

    Attributes:
        name: The file, or `test image 7`.
        pixels: (28, 28) uint8, bright on black.
        truth: What it is, where that is known.
    """

    name: str
    pixels: NDArray[np.uint8]
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network takes an image for.

    Attributes:
        image: Its name.
        probabilities: By class, the likeliest first.
        truth: What it is, where that is known.
    """

    image: str
    probabilities: dict[str, float]
    truth: str | None

    @property
    def garment(self) -> str:
        """The likeliest class."""
        return next(iter(self.probabilities))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "image": self.image,
            "garment": self.garment,
            "probability": self.probabilities[self.garment],
            "probabilities": self.probabilities,
            "truth": self.truth,
        }


def read_images(names: Sequence[str], data_dir: Path | None = None) -> list[Picture]:
    """Files by their names, test images by their numbers (a file of that name goes first).

    Args:
        names: As the user wrote them.
        data_dir: Where the test images are, as `data.find` takes it; asked for numbers only.

    Raises:
        PictureError: For a file that is no picture, and a number that is no test image's.
        DataError: When the test images cannot be had.
    """
    numbers = {name for name in names if name.isdecimal() and not _exists(name)}
    files = find(data_dir) if numbers else None

    def picture(name: str) -> Picture:
        if files is None or name not in numbers:
            return Picture(name, read_picture(Path(name)))
        # Python refuses to read numbers of thousands of digits.
        number, count = int(name[:9]), len(files.test_labels)
        if len(name) > 9 or number >= count:  # noqa: PLR2004
            raise PictureError(
                f"{name[:20]}: no test image and no file; test images are 0 to {count - 1:,}"
            )
        truth = CLASS_NAMES[files.test_labels[number]]
        return Picture(f"test image {number}", files.test_images[number], truth)

    return [picture(name) for name in names]


def name_garments(images: Sequence[Picture], champion: Champion) -> list[Answer]:
    """Name the garments on one image or more, in float32.

    Raises:
        TrackingError: When the champion's run is not one of fmnist's.
        WeightsError: When its weights are damaged.
    """
    from fmnist_tuning.training.classifier import classify, unpack_weights  # noqa: PLC0415  brings torch

    config = RunConfig.from_params(champion.run.params)
    if config is None:
        raise TrackingError(
            f"the champion's run {champion.run.run_id} has params that are no settings of a "
            "training; `fmnist champion` registers another"
        )
    classifier = unpack_weights(champion.weights, config.arguments("network"))
    pixels = np.stack([image.pixels for image in images])
    return [
        Answer(image.name, _ranked(probabilities), image.truth)
        for image, probabilities in zip(images, classify(classifier, pixels), strict=True)
    ]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # longer than a file's name may be
        return False


def _ranked(probabilities: NDArray[np.float32]) -> dict[str, float]:
    order = np.argsort(-probabilities, kind="stable")
    return {CLASS_NAMES[place]: float(probabilities[place]) for place in order}
