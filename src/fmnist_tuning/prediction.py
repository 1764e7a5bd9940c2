"""What the champion says about images: files, or numbers of the test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.catalogue import find_dataset
from fmnist_tuning.data.pictures import read_picture
from fmnist_tuning.data.typical import digest, is_typical
from fmnist_tuning.errors import DataError, PictureError, TrackingError
from fmnist_tuning.store.records import DATA
from fmnist_tuning.store.registry import Champion
from fmnist_tuning.sweeps.datasets import DATASETS
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.text import user_path


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to be classified."""

    name: str  # the file, or `test image 7`
    pixels: NDArray[np.uint8]  # (S, S), bright on black, or (3, S, S)
    truth: str | None = None  # its true class, if that is known


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says about an image."""

    image: str
    probabilities: dict[str, float]  # by class, the highest first
    truth: str | None
    typical: bool | None  # whether it looks like what the network has seen; None if that is unknown

    @property
    def garment(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "image": self.image,
            "garment": self.garment,
            "probability": self.probabilities[self.garment],
            "probabilities": self.probabilities,
            "truth": self.truth,
            "typical": self.typical,
        }


@dataclass(frozen=True, slots=True)
class Unread:
    """An image that cannot be classified."""

    name: str
    problem: str

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"image": self.name, "error": self.problem}


def config_of(champion: Champion) -> RunConfig:
    """The settings that the champion was trained with.

    Raises:
        TrackingError: When fmnist did not train its run.
    """
    config = RunConfig.from_params(champion.run.params)
    if config is None:
        raise TrackingError(
            f"the champion's run {champion.run.run_id} has params that are not settings of a "
            "training; `fmnist champion` registers another"
        )
    return config


def read_images(
    names: Sequence[str], config: RunConfig, data_dir: Path | None = None
) -> list[Picture | Unread]:
    """Read files by their names and test images by their numbers; one that fails stops no other.

    They become what a network of that configuration takes.

    If there is a file whose name is a number, it is read. The test images are read from `data_dir`,
    but only if they are needed.

    Raises:
        DataError: When the test images are missing or damaged.
    """
    numbers = {name for name in names if name.isdecimal() and not _exists(name)}
    files = find_dataset(config.dataset, data_dir) if numbers else None

    def picture(name: str) -> Picture | Unread:
        if files is None or name not in numbers:
            try:
                shape = config.image_size, config.image_channels
                return Picture(name, read_picture(user_path(name), *shape))
            except PictureError as error:
                return Unread(name, str(error))
        # Python refuses to convert numbers with thousands of digits.
        number, count = int(name[:9]), len(files.test_labels)
        if len(name) > 9 or number >= count:  # noqa: PLR2004
            there = f"test images are 0 to {count - 1:,}"
            return Unread(name[:20], f"{name[:20]}: no test image and no file; {there}")
        truth = files.classes[files.test_labels[number]]
        return Picture(f"test image {number}", files.test_images[number], truth)

    return [picture(name) for name in names]


def name_garments(
    images: Sequence[Picture], champion: Champion, data_dir: Path | None = None
) -> list[Answer]:
    """Name the garments on one or more images, in float32.

    The names of a person's own classes are kept with the champion; else they are those of the
    folder in `data_dir`.

    Raises:
        TrackingError: When fmnist did not train the champion's run.
        WeightsError: When its weights are damaged.
    """
    from fmnist_tuning.training.classifier import classify, unpack_weights  # noqa: PLC0415  brings torch

    config = config_of(champion)
    classes = _classes(config, champion, data_dir)
    classifier = unpack_weights(champion.weights, config.arguments("network"))
    pixels = np.stack([image.pixels for image in images])
    known = champion.run.tags.get(DATA) == digest()
    typical = [bool(one) for one in is_typical(pixels)] if known else [None] * len(images)
    return [
        Answer(image.name, _ranked(probabilities, classes), image.truth, like)
        for image, probabilities, like in zip(
            images, classify(classifier, pixels), typical, strict=True
        )
    ]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # the name is too long for a file
        return False


def _classes(config: RunConfig, champion: Champion, data_dir: Path | None) -> Sequence[str]:
    if named := DATASETS[config.dataset].classes or champion.classes:
        return named
    try:
        files = find_dataset(config.dataset, data_dir)
    except DataError:
        files = None
    if files is not None and files.digest == champion.run.tags.get(DATA):
        return files.classes
    return [f"class {number}" for number in range(config.classes)]


def _ranked(probabilities: NDArray[np.float32], classes: Sequence[str]) -> dict[str, float]:
    order = np.argsort(-probabilities, kind="stable")
    return {classes[place]: float(probabilities[place]) for place in order}
